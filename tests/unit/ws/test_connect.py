"""Clients of the coroutine API: opening, refusals, reconnecting."""

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastws.exceptions import (
    ConnectionClosed,
    ConnectRefused,
    InvalidHandshake,
    InvalidMessage,
    InvalidProxy,
    InvalidStatus,
    InvalidURI,
    OpenTimeout,
)
from fastws.ws.connect import connect
from fastws.ws.facts import State
from fastws.ws.heads import Request
from fastws.ws.serve import ServerConnection, serve
from tests.support.certs import certs, plain_client_context, plain_server_context
from tests.support.coroutines import echo, serving, stay
from tests.support.servers import (
    both_loops,
    eventually,
    free_port,
    run_on,
    silent,
    tcp_server,
)
from tests.support.timing import LONG, UNIT


def quick() -> Iterator[float]:
    """No delay between attempts."""
    return itertools.repeat(0.0)


def test_reject_a_wrong_url() -> None:
    with pytest.raises(InvalidURI) as caught:
        connect("http://127.0.0.1/")
    assert caught.value.uri == "http://127.0.0.1/"
    assert isinstance(caught.value, ValueError)


def test_an_unknown_argument_is_named() -> None:
    options: dict[str, Any] = {"ping_interval": 1.0, "ping_intervals": 2.0}
    with pytest.raises(TypeError, match="'ping_intervals'"):
        connect("ws://127.0.0.1/", **options)


def test_reject_a_wrong_proxy_without_its_password() -> None:
    with pytest.raises(InvalidProxy) as caught:
        connect("ws://127.0.0.1/", proxy="ftp://user:secret@h")
    assert caught.value.proxy == "ftp://user:secret@h"
    assert "secret" not in str(caught.value)


@both_loops
def test_await_opens_and_says_what_was_agreed_on(loop_name: str) -> None:
    async def main() -> None:
        async with serving(subprotocols=["chat"], additional_headers={"X-A": "b"}) as (
            server,
            url,
        ):
            ws = await connect(
                f"{url}path?q=1",
                origin="https://a.example",
                subprotocols=["soup", "chat"],
                additional_headers={"X-Mine": "1"},
            )
            other = next(iter(server.connections))
            assert ws.subprotocol == other.subprotocol == "chat"
            assert ws.request.path == other.request.path == "/path?q=1"
            assert other.request.headers["x-mine"] == "1"
            assert other.request.headers["Origin"] == "https://a.example"
            assert ws.response is not None
            assert ws.response.status_code == 101
            assert ws.response.headers["x-a"] == "b"
            assert other.response == ws.response
            assert ws.remote_address == other.local_address
            assert ws.local_address == other.remote_address
            await ws.close()
            assert ws.local_address is None

    run_on(loop_name, main())


@both_loops
def test_leaving_the_block_closes(loop_name: str) -> None:
    async def main() -> None:
        seen: list[Any] = []

        async def handler(ws: ServerConnection) -> None:
            await ws.wait_closed()
            seen.append(ws.close_code)

        async with serving(handler) as (_, url):
            async with connect(url) as ws:
                pass
            assert ws.state is State.CLOSED
            with pytest.raises(KeyError):
                async with connect(url):
                    raise KeyError
        assert sorted(seen) == [1000, 1011]

    run_on(loop_name, main())


@both_loops
def test_a_refusal_carries_the_response(loop_name: str) -> None:
    def refuse(ws: ServerConnection, request: Request) -> Any:
        return ws.respond(403, "not you")

    async def main() -> None:
        async with serving(process_request=refuse) as (_, url):
            with pytest.raises(InvalidStatus) as caught:
                await connect(url)
        response = caught.value.response
        assert (response.status_code, response.body) == (403, b"not you")
        assert response.headers["content-type"] == "text/plain; charset=utf-8"
        assert isinstance(caught.value, InvalidHandshake)

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize(
    ("fields", "parts", "body"),
    [
        ("Content-Length: 200000", [b"x" * 100_000] * 2, b"x" * 200_000),
        ("Content-Length: 6", [b"ab\ncd\n"], b"ab\ncd\n"),
        (
            "Transfer-Encoding: chunked",
            [b"3\r\na\nb\r\n", b"2\r", b"\ncd\r\n0\r\n\r\n"],
            b"a\nbcd",
        ),
        ("Transfer-Encoding: chunked", [b"1\r\na\r\n", b"broken\r\n"], b"a"),
        ("Connection: close", [b"until\n", b"the end", b""], b"until\nthe end"),
        ("Connection: close", [b"x" * (1 << 20) + b"more"], b"x" * (1 << 20)),
        ("Content-Length: 0", [], b""),
    ],
    ids=["long", "lines", "chunked", "broken", "to EOF", "endless", "none"],
)
def test_a_refusal_carries_its_whole_body(
    loop_name: str,
    fields: str,
    parts: list[bytes],
    body: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fastws.net.upgrade._BODY_WAIT", LONG)

    async def refuse(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 404 Not Here\r\n{fields}\r\n\r\n".encode())
        for part in parts:
            await asyncio.sleep(UNIT / 10)  # so that each comes by itself
            if part:
                writer.write(part)
            else:
                writer.write_eof()
        await reader.read()

    async def main() -> None:
        async with tcp_server(refuse) as port:
            with pytest.raises(InvalidStatus) as caught:
                await connect(f"ws://127.0.0.1:{port}/")
        response = caught.value.response
        assert (response.status_code, response.reason_phrase) == (404, "Not Here")
        assert response.body == body

    run_on(loop_name, main())


@both_loops
def test_reject_an_answer_that_is_none(loop_name: str) -> None:
    async def ssh(_: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-server\r\n")

    async def main() -> None:
        async with tcp_server(ssh) as port:
            with pytest.raises(InvalidMessage):
                await connect(f"ws://127.0.0.1:{port}/")

    run_on(loop_name, main())


@both_loops
def test_no_answer_in_time(loop_name: str) -> None:
    async def main() -> None:
        async with tcp_server(silent) as port:
            with pytest.raises(OpenTimeout) as caught:
                await connect(f"ws://127.0.0.1:{port}/", open_timeout=UNIT)
            assert isinstance(caught.value, TimeoutError)

    run_on(loop_name, main())


@both_loops
def test_a_cancelled_connect_leaves_nothing(loop_name: str) -> None:
    async def main() -> None:
        ended = asyncio.Event()

        async def wait(reader: asyncio.StreamReader, _: Any) -> None:
            await reader.readuntil(b"\r\n\r\n")
            asked.set()
            try:
                await reader.read()
            finally:
                ended.set()

        asked = asyncio.Event()
        async with tcp_server(wait) as port:
            task = asyncio.ensure_future(connect(f"ws://127.0.0.1:{port}/")._open())
            await asked.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await ended.wait()

    run_on(loop_name, main())


@both_loops
def test_unix_sockets(loop_name: str, tmp_path: Path) -> None:
    async def main() -> None:
        path = str(tmp_path / "s")
        async with (
            serve(echo, f"unix:{path}"),
            connect("ws://localhost/", unix=path) as ws,
        ):
            await ws.send("through a file")
            assert await ws.recv() == "through a file"

    run_on(loop_name, main())


@both_loops
def test_tls(loop_name: str) -> None:
    async def main() -> None:
        server_context = plain_server_context(certs().server)
        client_context = plain_client_context()
        async with serving(ssl=server_context) as (server, _):
            port = server.sockets[0].getsockname()[1]
            url = f"wss://localhost:{port}/"
            async with connect(url, ssl=client_context) as ws:
                await ws.send(bytes(300_000))
                assert await ws.recv() == bytes(300_000)

    run_on(loop_name, main())


@both_loops
def test_compression_is_agreed_on(loop_name: str) -> None:
    async def main() -> None:
        async with serving(compression="deflate") as (server, url):
            async with connect(url, compression="deflate") as ws:
                await eventually(lambda: server.connections)
                assert next(iter(server.connections)).response == ws.response
                assert ws.response is not None
                agreed = ws.response.headers["sec-websocket-extensions"]
                assert agreed.startswith("permessage-deflate")
                await ws.send("again " * 10_000)
                assert await ws.recv() == "again " * 10_000
            async with connect(url) as ws:
                assert ws.response is not None
                assert "sec-websocket-extensions" not in ws.response.headers

    run_on(loop_name, main())


@both_loops
def test_reconnect_after_every_end(loop_name: str) -> None:
    async def main() -> None:
        async def once(ws: ServerConnection) -> None:
            await ws.send("hello")

        got = []
        async with serving(once) as (server, url):
            clients = connect(url, reconnect_delays=quick)
            async for ws in clients:
                try:
                    async for message in ws:
                        got.append(message)
                except ConnectionClosed:
                    pytest.fail("closed in order")
                if len(got) == 3:
                    break
            await eventually(lambda: not server.connections)
        assert got == ["hello"] * 3

    run_on(loop_name, main())


@both_loops
def test_reconnect_until_the_server_is_there(loop_name: str) -> None:
    port = free_port()

    async def main() -> None:
        failures: list[Exception] = []

        def note(exc: Exception) -> None:
            failures.append(exc)

        async def client() -> None:
            url = f"ws://127.0.0.1:{port}/"
            again = connect(
                url,
                process_exception=note,
                reconnect_delays=lambda: itertools.repeat(UNIT / 20),
            )
            async for ws in again:
                await ws.send("at last")
                assert await ws.recv() == "at last"
                break

        task = asyncio.create_task(client())
        await eventually(lambda: len(failures) > 2)
        assert all(isinstance(exc, ConnectRefused) for exc in failures)
        async with serve(echo, "127.0.0.1", port):
            await asyncio.wait_for(task, LONG)

    run_on(loop_name, main())


@both_loops
def test_reconnecting_gives_up_at_a_refusal(loop_name: str) -> None:
    async def main() -> None:
        statuses = [503, 500, 404]

        def refuse(ws: ServerConnection, request: Request) -> Any:
            return ws.respond(statuses.pop(0), "no")

        async with serving(stay, process_request=refuse) as (_, url):
            with pytest.raises(InvalidStatus) as caught:
                async for _ws in connect(url, reconnect_delays=quick):
                    pytest.fail("opened")
        assert caught.value.status == 404
        assert statuses == []

    run_on(loop_name, main())
