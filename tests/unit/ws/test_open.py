"""Clients of the callback layer: the opening handshake and what comes right after."""

import asyncio
from typing import Any

import pytest

from fastws.exceptions import (
    DialTimeout,
    InvalidStatus,
    NoUpstream,
    RemoteProtocolError,
)
from fastws.wire.handshake import accept_key
from fastws.ws.open import open_websocket
from tests.support.handlers import Heard, serving
from tests.support.peers import BINARY
from tests.support.servers import both_loops, free_port, run_on, tcp_server
from tests.support.timing import UNIT


def answering(answer: bytes, then: str = "wait") -> Any:
    """A server that answers with this, KEY replaced, and then waits or leaves."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        key = head.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
        writer.write(answer.replace(b"KEY", accept_key(key.decode()).encode()))
        if then == "wait":
            await reader.read()
        writer.close()
        await writer.wait_closed()

    return tcp_server(serve)


ACCEPT = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Accept: KEY\r\n"
)


@both_loops
def test_request_says_what_was_asked(loop_name: str) -> None:
    seen: list[Any] = []

    def make(opening: Any) -> Heard:
        seen.append(opening)
        return Heard()

    async def main() -> None:
        async with serving(make, subprotocols=["chat"]) as (_, port, _made):
            client = Heard()
            ws = await open_websocket(
                f"ws://127.0.0.1:{port}/path?q=1",
                client,
                origin="https://a.example",
                subprotocols=["soup", "chat"],
                additional_headers=[("X-Mine", "1")],
            )
            assert ws is client.ws
            assert ws.subprotocol == "chat"
            assert ws.remote_address == ("127.0.0.1", port)
            head = seen[0].head
            assert head.target == "/path?q=1"
            assert head.get("host") == f"127.0.0.1:{port}"
            assert head.get("origin") == "https://a.example"
            assert head.get("x-mine") == "1"
            assert head.get("sec-websocket-extensions") is None
            ws.close()
            await client.wait_close()

    run_on(loop_name, main())


@both_loops
def test_refusal_carries_the_answer(loop_name: str) -> None:
    answer = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\nX-A: b\r\n\r\nnever"

    async def main() -> None:
        async with answering(answer) as port:
            with pytest.raises(InvalidStatus) as caught:
                await open_websocket(f"ws://127.0.0.1:{port}/", Heard())
        assert caught.value.status == 403
        assert ("X-A", "b") in caught.value.fields
        assert caught.value.body == b"never"

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize(
    "answer",
    [
        ACCEPT.replace(b"KEY", b"AAAAAAAAAAAAAAAAAAAAAAAAAAA=") + b"\r\n",
        ACCEPT + b"Sec-WebSocket-Protocol: soup\r\n\r\n",
        ACCEPT + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
        b"SSH-2.0-server\r\n",
    ],
    ids=["accept", "subprotocol", "extension", "no http"],
)
def test_reject_a_wrong_answer(loop_name: str, answer: bytes) -> None:
    async def main() -> None:
        async with answering(answer) as port:
            with pytest.raises(RemoteProtocolError):
                await open_websocket(f"ws://127.0.0.1:{port}/", Heard())

    run_on(loop_name, main())


@both_loops
def test_silent_server_is_given_up(loop_name: str) -> None:
    async def main() -> None:
        async with answering(b"") as port:
            with pytest.raises(DialTimeout):
                url = f"ws://127.0.0.1:{port}/"
                await open_websocket(url, Heard(), open_timeout=3 * UNIT)

    run_on(loop_name, main())


@both_loops
def test_nobody_listens(loop_name: str) -> None:
    async def main() -> None:
        with pytest.raises(NoUpstream):
            await open_websocket(f"ws://127.0.0.1:{free_port()}/", Heard())

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize("then", ["wait", "leave"])
def test_what_comes_with_the_answer_is_heard(loop_name: str, then: str) -> None:
    async def main() -> None:
        early = b"\x82\x01a\x82\x01b" + b"\x88\x02\x03\xe9"
        async with answering(ACCEPT + b"\r\n" + early, then) as port:
            client = Heard()
            await open_websocket(f"ws://127.0.0.1:{port}/", client, close_timeout=UNIT)
            assert await client.wait_close() == (1001, "")
            assert client.messages == [(BINARY, b"a"), (BINARY, b"b")]

    run_on(loop_name, main())


@both_loops
def test_server_that_leaves_at_once_is_1006(loop_name: str) -> None:
    async def main() -> None:
        async with answering(ACCEPT + b"\r\n", "leave") as port:
            client = Heard()
            await open_websocket(f"ws://127.0.0.1:{port}/", client)
            assert await client.wait_close() == (1006, "lost without a Close")

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize("url", ["http://x/", "ws://", "ws://u:p@h/", "ws://h/#a"])
def test_reject_a_wrong_url(loop_name: str, url: str) -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match=r"URL|ws://|host name"):
            await open_websocket(url, Heard())

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize("proxy", ["ftp://h", "http://", "h:port"])
def test_reject_a_wrong_proxy(loop_name: str, proxy: str) -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match="write http://"):
            await open_websocket("ws://127.0.0.1:1/", Heard(), proxy=proxy)

    run_on(loop_name, main())
