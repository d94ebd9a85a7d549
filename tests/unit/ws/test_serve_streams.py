"""Servers of byte streams: hooks, a socket and a logger as for servers of messages."""

import asyncio
import logging
import socket
from typing import Any

import pytest

from fastws import Stream, open_stream, serve_streams
from fastws.exceptions import InvalidStatus
from fastws.ws.heads import Request, Response
from fastws.ws.serve import ServerConnection
from tests.support.handlers import REQUEST
from tests.support.servers import both_loops, eventually, run_on
from tests.support.timing import SHORT

HERE = "127.0.0.1:0"


async def echo(stream: Stream) -> None:
    stream.write(await stream.read())


@both_loops
@pytest.mark.parametrize("waits", [False, True], ids=["function", "coroutine"])
def test_process_response_sees_the_answer(loop_name: str, waits: bool) -> None:
    seen: list[Any] = []

    def mark(ws: ServerConnection, request: Request, response: Response) -> Any:
        seen.append((request.path, response.status_code, ws.subprotocol))
        response.headers["X-Gate"] = "1"
        if request.path == "/no":
            return ws.respond(429, "later")
        return None

    async def mark_later(*args: Any) -> Any:
        await asyncio.sleep(0)
        return mark(*args)

    async def main() -> None:
        hook = mark_later if waits else mark
        options: dict[str, Any] = {"process_response": hook, "subprotocols": ["a"]}
        async with serve_streams(echo, HERE, **options) as server:
            url = f"ws://{server.addresses[0]}"
            async with open_stream(f"{url}/yes", subprotocols=["a"]) as stream:
                stream.write(b"through")
                stream.write_eof()
                assert await stream.read() == b"through"
                assert stream.response.headers["X-Gate"] == "1"
                assert stream.subprotocol == "a"
                assert stream.get_extra_info("is_fastws")
            with pytest.raises(InvalidStatus, match="429"):
                await open_stream(f"{url}/no")
        assert seen == [("/yes", 101, "a"), ("/no", 101, None)]

    run_on(loop_name, main())


@both_loops
def test_bytes_behind_the_request_wait_for_process_response(loop_name: str) -> None:
    async def main() -> None:
        asked, go = asyncio.Event(), asyncio.Event()
        got: list[bytes] = []

        async def wait(*_: Any) -> None:
            asked.set()
            await go.wait()

        async def take(stream: Stream) -> None:
            got.append(await stream.readexactly(4))

        async with serve_streams(take, HERE, process_response=wait) as server:
            place = server.sockets[0].getsockname()
            _, writer = await asyncio.open_connection(*place)
            writer.write(REQUEST + b"\x82\x82\0\0\0\0ab")
            await asked.wait()
            writer.write(b"\x82\x82\0\0\0\0cd")
            go.set()
            await eventually(lambda: got == [b"abcd"])
            writer.transport.abort()

    run_on(loop_name, main())


@both_loops
def test_a_client_that_leaves_during_process_response_leaves_nothing(
    loop_name: str,
) -> None:
    async def main() -> None:
        asked = asyncio.Event()

        async def wait(*_: Any) -> None:
            asked.set()
            await asyncio.sleep(SHORT)

        async with serve_streams(echo, HERE, process_response=wait) as server:
            place = server.sockets[0].getsockname()
            _, writer = await asyncio.open_connection(*place)
            writer.write(REQUEST)
            await asked.wait()
            writer.transport.abort()
        assert not server.streams

    run_on(loop_name, main())


@both_loops
def test_a_socket_and_a_logger_may_be_given(
    loop_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(stream: Stream) -> None:
        raise KeyError("mine")

    async def main() -> None:
        sock = socket.create_server(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        mine = logging.getLogger("tests.mine")
        async with serve_streams(fail, sock=sock, logger=mine, open_timeout=None):
            stream = await open_stream(f"ws://127.0.0.1:{port}/")
            with pytest.raises(ConnectionResetError):
                await stream.read()
        assert sock.fileno() < 0

    run_on(loop_name, main())
    assert [(record.name, record.getMessage()) for record in caplog.records] == [
        ("tests.mine", "WebSocket handler failed: KeyError: 'mine'")
    ]
