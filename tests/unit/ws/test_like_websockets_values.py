"""Values have the names and forms of those of ``websockets``: fields, closes, names."""

import asyncio
import contextlib
import logging
import socket
from pathlib import Path
from typing import Any

import pytest

import fastws
from fastws.exceptions import (
    ConnectionClosedError,
    ConnectionClosedOK,
    InvalidHeader,
    LocalProtocolError,
)
from fastws.wire.frames import Close
from fastws.wire.handshake import accept_key
from fastws.ws.connect import connect, unix_connect
from fastws.ws.heads import Headers, Request, Response
from fastws.ws.open_stream import open_stream
from fastws.ws.serve import ServerConnection, serve, unix_serve
from fastws.ws.serve_streams import serve_streams
from fastws.ws.stream import Stream
from tests.support.coroutines import echo, serving
from tests.support.servers import both_loops, run_on
from tests.support.timing import UNIT


def test_headers_can_be_changed() -> None:
    headers = Headers([("A", "1"), ("b", "2"), ("a", "3")])
    headers["B"] = "4"
    assert headers["b"] == "2, 4"
    headers.setdefault("A", "5")
    headers.setdefault("C", "6")
    del headers["a"]
    assert list(headers.raw_items()) == [("b", "2"), ("B", "4"), ("C", "6")]
    with pytest.raises(KeyError):
        del headers["a"]
    assert headers.pop("c") == "6"
    assert headers == Headers({"b": "2, 4"})


def test_headers_are_copied_and_written() -> None:
    headers = Headers({"A": "1"}, b="2")
    other = headers.copy()
    other.update(Headers([("c", "3"), ("C", "é")]), a="5")
    assert str(headers) == "A: 1\r\nb: 2\r\n\r\n"
    assert other.serialize() == b"A: 1\r\nb: 2\r\nc: 3\r\nC: \xe9\r\na: 5\r\n\r\n"
    other.update([("d", "6")])
    assert other["D"] == "6"
    with pytest.raises(LocalProtocolError):
        other.update({"e": "7\r\n"})


@pytest.mark.parametrize(
    ("close", "text"),
    [
        (Close(1000), "1000 (OK)"),
        (Close(1001, "bye"), "1001 (going away) bye"),
        (Close(), "1005 (no status received [internal])"),
        (Close(1007, "x"), "1007 (invalid frame payload data) x"),
        (Close(1011), "1011 (internal error)"),
        (Close(1012), "1012 (service restart)"),
        (Close(3000), "3000 (registered)"),
        (Close(4999, "mine"), "4999 (private use) mine"),
        (Close(2000), "2000 (unknown)"),
    ],
)
def test_a_close_says_what_its_code_means(close: Close, text: str) -> None:
    assert str(close) == text
    assert str(ConnectionClosedError(close, None)) == (
        f"received {text}; no close frame sent"
    )
    assert str(ConnectionClosedOK(close, Close(1000), True)) == (
        f"received {text}; then sent 1000 (OK)"
    )


def test_reject_a_name_in_place_of_names() -> None:
    with pytest.raises(TypeError, match="list of names"):
        serve(echo, "127.0.0.1", 0, subprotocols="chat")
    with pytest.raises(TypeError, match="list of names"):
        connect("ws://127.0.0.1:1/", subprotocols="chat")
    for wrong in ("a b", "", "a,b"):
        with pytest.raises(ValueError, match="invalid subprotocol"):
            serve(echo, "127.0.0.1", 0, subprotocols=["a", wrong])
        with pytest.raises(ValueError, match="invalid subprotocol"):
            serve_streams(echo, "127.0.0.1", 0, subprotocols=[wrong])
        with pytest.raises(ValueError, match="invalid subprotocol"):
            connect("ws://127.0.0.1:1/", subprotocols=[wrong])


def test_names_of_websockets_are_public() -> None:
    assert fastws.CloseCode.GOING_AWAY == 1001
    assert fastws.Close(1000, "x").code == 1000
    with contextlib.suppress(InvalidHeader):
        raise fastws.InvalidUpgrade("Upgrade", "h2c")


@both_loops
def test_none_stands_for_what_is_usual(
    loop_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    usual: dict[str, Any] = {"logger": None, "create_connection": None}

    async def main() -> None:
        async with serving(echo, **usual) as (server, url):
            async with connect(url, **usual) as ws:
                await ws.send("hello")
                assert await ws.recv() == "hello"
                ws.logger.info("mine")
            assert server.logger is logging.getLogger("fastws.ws")

    caplog.set_level("INFO", "fastws.ws")
    run_on(loop_name, main())
    assert [record.getMessage() for record in caplog.records] == ["mine"]


@both_loops
def test_unix_sockets_may_be_given(loop_name: str, tmp_path: Path) -> None:
    async def main() -> None:
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(f"{tmp_path}/s")
        async with unix_serve(echo, sock=listening):
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(f"{tmp_path}/s")
            async with unix_connect(sock=sock) as ws:
                await ws.send("hello")
                assert await ws.recv() == "hello"

    run_on(loop_name, main())


def test_reject_a_unix_socket_that_is_nowhere() -> None:
    with pytest.raises(ValueError, match="path"):
        unix_connect()
    with pytest.raises(ValueError, match="one address"):
        unix_serve(echo)


@both_loops
def test_a_closed_server_has_no_sockets(loop_name: str) -> None:
    async def main() -> None:
        async with serving() as (server, _):
            assert len(server.sockets) == 1
        assert server.sockets == ()

    run_on(loop_name, main())


# -- a 101 of one's own ------------------------------------------------------------


def switch(ws: ServerConnection, request: Request) -> Response:
    """A ``process_request`` that answers by itself."""
    accept = accept_key(request.headers["Sec-WebSocket-Key"])
    fields = {"Upgrade": "websocket", "Connection": "Upgrade", "X-Mine": "1"}
    fields |= {"Sec-WebSocket-Accept": accept, "Sec-WebSocket-Protocol": "b"}
    return Response(101, "Switching Protocols", Headers(fields))


async def switch_later(ws: ServerConnection, request: Request) -> Response:
    await asyncio.sleep(0)
    return switch(ws, request)


def pass_on(ws: ServerConnection, request: Request, response: Response) -> None:
    response.headers["X-Seen"] = str(response.status_code)


@both_loops
@pytest.mark.parametrize("reviewed", [False, True], ids=["", "reviewed"])
@pytest.mark.parametrize("hook", [switch, switch_later])
def test_a_101_of_process_request_opens(
    loop_name: str, hook: Any, reviewed: bool
) -> None:
    async def main() -> None:
        options: dict[str, Any] = {"process_request": hook, "compression": "deflate"}
        if reviewed:
            options["process_response"] = pass_on
        asked: dict[str, Any] = {"subprotocols": ["a", "b"], "compression": "deflate"}
        async with (
            serving(echo, subprotocols=["a"], **options) as (server, url),
            connect(url, **asked) as ws,
        ):
            await ws.send("hello")
            assert await ws.recv() == "hello"
            mine = next(iter(server.connections))
            assert ws.subprotocol == mine.subprotocol == "b"
            assert ws.response is not None
            assert mine.response is not None
            assert ws.response.headers["X-Mine"] == "1"
            assert ws.response.headers.get("X-Seen") == ("101" if reviewed else None)
            assert ws.response.headers == mine.response.headers

    run_on(loop_name, main())


@both_loops
def test_a_101_of_process_request_opens_a_stream(loop_name: str) -> None:
    async def shout(stream: Stream) -> None:
        stream.write((await stream.read()).upper())

    async def main() -> None:
        async with serve_streams(
            shout, "127.0.0.1:0", process_request=switch
        ) as server:
            url = f"ws://{server.addresses[0]}/"
            async with open_stream(url, subprotocols=["b"], linger=UNIT) as stream:
                stream.write(b"hello")
                stream.write_eof()
                assert await stream.read() == b"HELLO"
                assert stream.response.headers["X-Mine"] == "1"

    run_on(loop_name, main())
