"""Servers of the coroutine API: handlers, hooks, closing."""

import asyncio
import logging
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from fastws.exceptions import (
    ConnectionClosedError,
    ConnectionClosedOK,
    InvalidStatus,
    ListenError,
)
from fastws.wire.frames import Close
from fastws.ws.connect import connect
from fastws.ws.facts import State
from fastws.ws.heads import Headers, Request, Response
from fastws.ws.serve import ServerConnection, serve
from tests.support.coroutines import echo, serving, stay
from tests.support.handlers import REQUEST
from tests.support.servers import both_loops, eventually, run_on


@both_loops
def test_a_handler_that_returns_closes(loop_name: str) -> None:
    async def handler(ws: ServerConnection) -> None:
        await ws.send("bye")

    async def main() -> None:
        async with serving(handler) as (_, url), connect(url) as ws:
            assert [message async for message in ws] == ["bye"]
            assert ws.close_code == 1000

    run_on(loop_name, main())


@both_loops
def test_a_handler_that_raises_closes_with_1011(
    loop_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(ws: ServerConnection) -> None:
        raise KeyError("mine")

    async def main() -> None:
        async with serving(handler) as (_, url), connect(url) as ws:
            with pytest.raises(ConnectionClosedError) as caught:
                await ws.recv()
            assert caught.value.rcvd == Close(1011)

    with caplog.at_level(logging.INFO, "fastws.ws"):
        run_on(loop_name, main())
    assert caplog.messages == ["WebSocket handler failed: KeyError: 'mine'"]


@both_loops
def test_a_client_that_went_away_is_no_news(
    loop_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with serving(echo) as (server, url):
            ws = await connect(url)
            await eventually(lambda: server.connections)
            ws.abort()
            await ws.wait_closed()
            await eventually(lambda: not server.connections)

    with caplog.at_level(logging.INFO, "fastws.ws"):
        run_on(loop_name, main())
    assert caplog.messages == []


@both_loops
def test_leaving_the_block_closes_with_1001(loop_name: str) -> None:
    async def main() -> None:
        heard = []

        async def handler(ws: ServerConnection) -> None:
            with pytest.raises(ConnectionClosedOK) as caught:
                await ws.recv()
            heard.append(caught.value)

        async with serving(handler) as (server, url):
            ws = await connect(url)
            await eventually(lambda: server.connections)
        assert heard[0].sent == Close(1001)
        assert heard[0].rcvd == Close(1001)
        assert heard[0].rcvd_then_sent is False
        await ws.wait_closed()
        assert ws.close_code == 1001

    run_on(loop_name, main())


@both_loops
def test_wait_closed_waits_for_handlers(loop_name: str) -> None:
    async def main() -> None:
        go, ends = asyncio.Event(), []

        async def handler(ws: ServerConnection) -> None:
            await ws.wait_closed()
            await go.wait()
            ends.append(1)

        server = await serve(handler, "127.0.0.1", 0)
        ws = await connect(f"ws://{server.addresses[0]}/")
        await eventually(lambda: server.connections)
        server.close(code=1012, reason="again")
        await ws.wait_closed()
        assert (ws.close_code, ws.close_reason) == (1012, "again")
        assert ends == []
        asyncio.get_running_loop().call_soon(go.set)
        await server.wait_closed()
        assert ends == [1]

    run_on(loop_name, main())


@both_loops
def test_a_cancelled_end_cuts_and_cancels(loop_name: str) -> None:
    async def main() -> None:
        cancelled: list[int] = []

        async def handler(ws: ServerConnection) -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(1)
                raise

        server = await serve(handler, "127.0.0.1", 0)
        forever = asyncio.create_task(server.serve_forever())
        ws = await connect(f"ws://{server.addresses[0]}/")
        await eventually(lambda: server.connections)
        forever.cancel()
        await ws.wait_closed()
        assert cancelled == []  # it has not returned
        forever.cancel()
        with pytest.raises(asyncio.CancelledError):
            await forever
        await eventually(lambda: cancelled)

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize("waits", [False, True], ids=["function", "coroutine"])
def test_process_request_answers_first(loop_name: str, waits: bool) -> None:
    async def later(ws: ServerConnection, request: Request) -> Response | None:
        await asyncio.sleep(0)
        return now(ws, request)

    def now(ws: ServerConnection, request: Request) -> Response | None:
        assert ws.state is State.CONNECTING
        seen.append((ws, request.path))
        if request.path == "/own":
            return Response(299, "Mine", Headers({"X-A": "b"}), b"body")
        return ws.respond(404, "nothing") if request.path == "/no" else None

    seen: list[Any] = []

    async def main() -> None:
        hook: Any = later if waits else now
        async with serving(stay, process_request=hook) as (server, url):
            with pytest.raises(InvalidStatus, match="404"):
                await connect(url + "no")
            with pytest.raises(InvalidStatus, match="299 Mine") as caught:
                await connect(url + "own")
            assert caught.value.body == b"body"
            async with connect(url + "yes"):
                await eventually(lambda: server.connections)
                assert server.connections == {seen[-1][0]}
        assert [path for _, path in seen] == ["/no", "/own", "/yes"]

    run_on(loop_name, main())


@both_loops
def test_select_subprotocol_chooses(loop_name: str) -> None:
    def choose(ws: ServerConnection, offered: Sequence[str]) -> str | None:
        return offered[-1] if offered else None

    async def main() -> None:
        async with serving(stay, select_subprotocol=choose) as (_, url):
            async with connect(url, subprotocols=["a", "b"]) as ws:
                assert ws.subprotocol == "b"
            async with connect(url) as ws:
                assert ws.subprotocol is None

    run_on(loop_name, main())


@both_loops
def test_origins_are_checked(loop_name: str) -> None:
    async def main() -> None:
        async with serving(stay, origins=["https://a.example"]) as (_, url):
            with pytest.raises(InvalidStatus, match="403"):
                await connect(url)
            async with connect(url, origin="https://a.example"):
                pass

    run_on(loop_name, main())


def test_reject_an_address_that_is_none() -> None:
    with pytest.raises(ValueError, match="give host and port"):
        serve(echo)
    with socket.socket() as sock, pytest.raises(ValueError, match="with a socket"):
        serve(echo, sock, 1)


@both_loops
def test_an_address_in_use_is_an_error(loop_name: str) -> None:
    async def main() -> None:
        async with serving() as (server, _):
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(ListenError):
                await serve(echo, "127.0.0.1", port)

    run_on(loop_name, main())


def test_headers_are_found_in_any_case() -> None:
    headers = Headers([("X-A", "1"), ("x-a", "2"), ("B", "3")])
    assert headers["x-A"] == "1, 2"
    assert headers.get_all("X-a") == ["1", "2"]
    assert list(headers) == ["x-a", "b"]
    assert len(headers) == 2
    assert "b" in headers
    assert "c" not in headers
    assert headers.get("c") is None
    assert list(headers.raw_items()) == [("X-A", "1"), ("x-a", "2"), ("B", "3")]


@both_loops
@pytest.mark.parametrize("how", ["messages", "fragments", "ping", "pong"])
def test_a_handler_that_only_sends_hears_of_a_reset(loop_name: str, how: str) -> None:
    heard: list[BaseException] = []

    async def main() -> None:
        async def handler(ws: ServerConnection) -> None:
            linger = struct.pack("ii", 1, 0)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            sock.close()  # a reset, and the loop has no turn to see it
            try:
                if how == "fragments":
                    await ws.send(b"x" for _ in range(1000))
                for _ in range(1000):
                    await (ws.send(b"x") if how == "messages" else getattr(ws, how)())
            except ConnectionClosedError as exc:
                heard.append(exc)

        async with serving(handler) as (server, _):
            sock = socket.create_connection(server.sockets[0].getsockname())
            sock.sendall(REQUEST)
            await eventually(lambda: heard)

    run_on(loop_name, main())


@both_loops
def test_pings_without_end_let_others_have_a_turn(loop_name: str) -> None:
    async def main() -> None:
        async def handler(ws: ServerConnection) -> None:
            for _ in range(1000):
                await ws.ping()
            await ws.send(f"{len(ws._pings)}")

        async with serving(handler) as (_, url), connect(url) as ws:
            assert int(await ws.recv(decode=True)) < 100

    run_on(loop_name, main())


@both_loops
def test_a_server_that_closes_says_which_messages_have_no_end(loop_name: str) -> None:
    async def main() -> None:
        async def handler(ws: ServerConnection) -> None:
            async def parts() -> AsyncIterator[str]:
                yield "a beginning"
                await ws.wait_closed()

            await ws.send(parts() if ws.request.path == "/parts" else "whole")
            await ws.wait_closed()

        codes = []
        async with (
            serving(handler) as (server, url),
            connect(f"{url}parts") as one,
            connect(url) as other,
        ):
            assert await other.recv() == "whole"
            await eventually(
                lambda: any(ws.is_sending_fragments for ws in server.connections)
            )
            server.close()
            for ws in (one, other):
                await ws.wait_closed()
                codes.append(ws.close_code)
        assert codes == [1011, 1001]

    run_on(loop_name, main())
