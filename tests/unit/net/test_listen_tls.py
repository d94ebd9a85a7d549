"""Accepting TLS: handshakes that work, stall and fail."""

import asyncio
import logging
from typing import Any

import pytest

from fastws.net.listen import Listener
from fastws.net.stream import Hold
from fastws.net.tls import server_context
from tests.support.certs import certs, plain_client_context
from tests.support.servers import (
    Held,
    both_loops,
    connect,
    eventually,
    greet,
    listen,
    messages,
    run_on,
)
from tests.support.timing import LONG, SHORT, UNIT


def tls_listener(handler: Any = greet, **options: Any) -> tuple[Listener, int]:
    return listen(handler, tls=server_context(certs().server), **options)


@both_loops
def test_tls_connection(loop_name: str) -> None:
    async def main() -> None:
        held = Held()
        listener, port = tls_listener(held)
        _, writer = await connect(
            port, ssl=plain_client_context(), server_hostname="localhost"
        )
        await eventually(lambda: held.seen)
        transport, hold = held.seen[0]
        assert isinstance(hold, Hold)  # not the loop's own TLS protocol
        assert hold.transport is transport
        assert transport.get_extra_info("sslcontext") is listener.tls
        writer.write(b"first")
        transport.resume_reading()
        await eventually(lambda: hold.leftover == b"first")
        held.let_go.set()
        writer.transport.abort()
        listener.close()
        await listener.wait_idle()

    run_on(loop_name, main())


@both_loops
def test_tls_context_can_be_replaced(loop_name: str) -> None:
    async def main() -> None:
        listener, port = tls_listener()
        listener.tls = server_context(certs().elsewhere)
        reader, writer = await connect(
            port, ssl=plain_client_context(), server_hostname="elsewhere.example"
        )
        assert await asyncio.wait_for(reader.read(), SHORT) == b"hi"
        writer.transport.abort()
        listener.close()
        await listener.wait_idle()

    run_on(loop_name, main())


@both_loops
def test_stalled_handshake_delays_nobody(loop_name: str) -> None:
    async def main() -> None:
        listener, port = tls_listener()
        stalled = [await connect(port) for _ in range(20)]
        reader, writer = await connect(
            port, ssl=plain_client_context(), server_hostname="localhost"
        )
        assert await asyncio.wait_for(reader.read(), SHORT) == b"hi"
        writer.transport.abort()
        assert listener.active >= 20
        listener.close()
        await listener.abort()
        for _, stalled_writer in stalled:
            stalled_writer.transport.abort()

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize(
    ("client", "text"),
    [
        ("garbage", "the peer does not speak TLS on this port"),
        ("http", "the peer speaks plain HTTP"),
        ("leaves", "closed during the handshake"),
        ("stalls", "the handshake took too long"),
    ],
)
def test_failed_handshake_is_one_line(
    loop_name: str, client: str, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    sent = {"garbage": b"\0" * 64, "http": b"GET / HTTP/1.1\r\n\r\n"}

    async def main() -> str:
        limit = UNIT if client == "stalls" else LONG
        listener, port = tls_listener(handshake_timeout=limit)
        reader, writer = await connect(port)
        name = writer.get_extra_info("sockname")
        writer.write(sent.get(client, b""))
        if client == "leaves":
            writer.write_eof()
        await asyncio.wait_for(reader.read(), SHORT)  # until closed
        assert await listener.wait_idle(SHORT)
        writer.transport.abort()
        listener.close()
        return f"{name[0]}:{name[1]}"

    with caplog.at_level(logging.INFO, "fastws.net"):
        who = run_on(loop_name, main())
    assert messages(caplog) == [f"{who}: TLS handshake failed: {text}"]
    assert caplog.records[0].levelname == "INFO"
