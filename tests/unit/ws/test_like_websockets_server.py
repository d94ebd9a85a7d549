"""Servers behave as those of ``websockets``: hooks, handlers, closing, broadcast."""

import asyncio
import base64
import logging
import re
import socket
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from fastws.exceptions import (
    ConcurrencyError,
    ConnectionClosedError,
    InvalidStatus,
    LocalProtocolError,
    NegotiationError,
)
from fastws.ws.basic_auth import basic_auth
from fastws.ws.broadcast import broadcast
from fastws.ws.connect import connect
from fastws.ws.facts import State
from fastws.ws.heads import PRODUCT, Headers, Request, Response
from fastws.ws.serve import ServerConnection, serve
from tests.support.coroutines import echo, pair, serving, stay
from tests.support.servers import both_loops, eventually, run_on
from tests.support.timing import LONG, UNIT

# -- process_request and process_response ------------------------------------------


@both_loops
def test_the_answer_names_its_server(loop_name: str) -> None:
    async def main() -> None:
        more = {"X-A": "b"}
        async with (
            serving(stay, additional_headers=more) as (_, url),
            connect(url) as ws,
        ):
            assert ws.response is not None
            assert ws.response.headers["Server"] == PRODUCT
            assert ws.response.headers["X-A"] == "b"
        async with serving(stay, server_header=None) as (_, url), connect(url) as ws:
            assert ws.response is not None
            assert "Server" not in ws.response.headers

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize("waits", [False, True], ids=["function", "coroutine"])
@pytest.mark.parametrize("how", ["nothing", "change", "replace"])
def test_process_response_sees_the_101(loop_name: str, waits: bool, how: str) -> None:
    def now(ws: ServerConnection, request: Request, response: Response) -> Any:
        assert ws.state is State.CONNECTING
        assert (ws.request, ws.subprotocol) == (request, "chat")
        assert ws.transport.get_extra_info("peername") == ws.remote_address
        assert ws.local_address == ws.transport.get_extra_info("sockname") is not None
        assert response.status_code == 101
        assert response.headers["Sec-WebSocket-Protocol"] == "chat"
        if how == "change":
            response.headers["X-Path"] = request.path
            del response.headers["Server"]
        if how == "replace":
            return Response(101, "Fine", Headers(response.headers.raw_items()))
        return None

    async def later(*args: Any) -> Any:
        await asyncio.sleep(0)
        return now(*args)

    async def main() -> None:
        hook: Any = later if waits else now
        options = {"process_response": hook, "subprotocols": ["chat"]}
        async with serving(echo, **options) as (server, url):
            async with connect(f"{url}p", subprotocols=["chat"]) as ws:
                assert ws.response is not None
                assert ws.subprotocol == "chat"
                headers = ws.response.headers
                assert headers.get("X-Path") == ("/p" if how == "change" else None)
                assert ("Server" in headers) is (how != "change")
                assert (ws.response.reason_phrase == "Fine") is (how == "replace")
                await eventually(lambda: server.connections)
                assert next(iter(server.connections)).response == ws.response
                await ws.send("hello")
                assert await ws.recv() == "hello"

    run_on(loop_name, main())


@both_loops
def test_process_response_sees_what_process_request_returns(loop_name: str) -> None:
    seen: list[int] = []

    def ask(ws: ServerConnection, request: Request) -> Response | None:
        return ws.respond(404, "no") if request.path == "/no" else None

    def review(ws: ServerConnection, request: Request, response: Response) -> Any:
        seen.append(response.status_code)
        response.headers["X-Seen"] = "yes"
        return ws.respond(410, "gone") if request.path == "/gone" else None

    async def main() -> None:
        hooks = {"process_request": ask, "process_response": review}
        async with serving(stay, **hooks) as (server, url):
            for path, status, mark in (("no", 404, "yes"), ("gone", 410, None)):
                with pytest.raises(InvalidStatus) as caught:
                    await connect(url + path)
                assert caught.value.status == status
                assert caught.value.response.headers.get("X-Seen") == mark
            assert not server.all_connections
        assert seen == [404, 101]

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize("hook", ["process_request", "process_response"])
@pytest.mark.parametrize("waits", [False, True], ids=["function", "coroutine"])
def test_a_hook_that_raises_is_an_error_500(
    loop_name: str, hook: str, waits: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def now(*_: Any) -> Any:
        raise KeyError("mine")

    async def later(*_: Any) -> Any:
        raise KeyError("mine")

    async def main() -> None:
        mine = logging.getLogger("tests.mine")
        hooks: Any = {hook: later if waits else now}
        async with serving(stay, logger=mine, **hooks) as (_, url):
            with pytest.raises(InvalidStatus, match="500"):
                await connect(url)

    with caplog.at_level(logging.INFO):
        run_on(loop_name, main())
    lines = [(record.name, record.getMessage()) for record in caplog.records]
    assert lines == [("tests.mine", "WebSocket handler failed: KeyError: 'mine'")]


@both_loops
def test_a_server_that_closes_answers_a_hook_that_waits(loop_name: str) -> None:
    async def main() -> None:
        asked, ended = asyncio.Event(), asyncio.Event()

        async def wait(ws: ServerConnection, request: Request) -> None:
            asked.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        async with serving(stay, process_request=wait) as (server, url):
            opening = asyncio.ensure_future(connect(url)._open())
            await asked.wait()
            server.close()
            with pytest.raises(InvalidStatus, match="503"):
                await opening
            await ended.wait()

    run_on(loop_name, main())


def test_reject_fields_that_break_the_head() -> None:
    headers = Headers({"X-A": "b"})
    with pytest.raises(LocalProtocolError):
        headers["X-B"] = "c\r\nX-C: d"
    with pytest.raises(LocalProtocolError):
        headers["X B"] = "c"
    assert list(headers.raw_items()) == [("X-A", "b")]


# -- subprotocols and origins ------------------------------------------------------


@both_loops
def test_select_subprotocol_may_refuse(loop_name: str) -> None:
    def choose(ws: ServerConnection, offered: Sequence[str]) -> str | None:
        if "chat" not in offered:
            raise NegotiationError("chat is spoken here")
        return "chat"

    async def main() -> None:
        async with serving(stay, select_subprotocol=choose) as (_, url):
            async with connect(url, subprotocols=["chat"]) as ws:
                assert ws.subprotocol == "chat"
            with pytest.raises(InvalidStatus, match="400") as caught:
                await connect(url, subprotocols=["soup"])
            assert b"chat is spoken here" in caught.value.body

    run_on(loop_name, main())


@both_loops
def test_origins_may_be_patterns(loop_name: str) -> None:
    async def main() -> None:
        pattern = re.compile(r"https://[a-z]+\.example")
        async with serving(stay, origins=[pattern, "https://x.test", None]) as (_, url):
            for origin in ("https://a.example", "https://x.test", None):
                async with connect(url, origin=origin):
                    pass
            for origin in ("https://a.example.evil", "http://a.example"):
                with pytest.raises(InvalidStatus, match="403"):
                    await connect(url, origin=origin)

    run_on(loop_name, main())


# -- addresses and life ------------------------------------------------------------


@both_loops
def test_several_hosts_and_a_socket(loop_name: str) -> None:
    async def main() -> None:
        async with serve(echo, ["127.0.0.1", "127.0.0.2"], 0) as server:
            names = [sock.getsockname() for sock in server.sockets]
            assert [host for host, _ in names] == ["127.0.0.1", "127.0.0.2"]
            for host, port in names:
                async with connect(f"ws://{host}:{port}/"):
                    pass
        sock = socket.create_server(("127.0.0.1", 0))
        async with serve(echo, sock=sock) as server:
            assert server.sockets == (sock,)
            async with connect(f"ws://127.0.0.1:{sock.getsockname()[1]}/"):
                pass

    run_on(loop_name, main())


@both_loops
def test_serving_may_start_later(loop_name: str) -> None:
    async def main() -> None:
        server = await serve(echo, "127.0.0.1", 0, start_serving=False)
        assert not server.is_serving()
        opening = asyncio.ensure_future(connect(f"ws://{server.addresses[0]}/")._open())
        _, waiting = await asyncio.wait({opening}, timeout=UNIT)
        assert waiting
        await server.start_serving()
        assert server.is_serving()
        assert server.get_loop() is asyncio.get_running_loop()
        ws = await opening
        server.close()
        assert not server.is_serving()
        await server.wait_closed()
        await ws.wait_closed()

    run_on(loop_name, main())


@both_loops
def test_serve_forever_returns_when_the_server_is_closed(loop_name: str) -> None:
    async def main() -> None:
        server = await serve(stay, "127.0.0.1", 0, start_serving=False)
        forever = asyncio.create_task(server.serve_forever())
        closed = asyncio.create_task(server.wait_closed())
        ws = await connect(f"ws://{server.addresses[0]}/")
        await eventually(lambda: server.connections)
        assert not closed.done()  # it waits for close(), even without connections
        server.close()
        async with asyncio.timeout(LONG):
            await forever
            await closed
        await ws.wait_closed()
        assert ws.close_code == 1001

    run_on(loop_name, main())


@both_loops
def test_connections_may_live_on(loop_name: str) -> None:
    async def main() -> None:
        server = await serve(echo, "127.0.0.1", 0)
        ws = await connect(f"ws://{server.addresses[0]}/")
        await eventually(lambda: server.connections)
        server.close(close_connections=False)
        with pytest.raises(ConnectionRefusedError):
            await connect(f"ws://{server.addresses[0]}/")
        await ws.send("still here")
        assert await ws.recv() == "still here"
        closed = asyncio.create_task(server.wait_closed())
        _, waiting = await asyncio.wait({closed}, timeout=UNIT)
        assert waiting
        await ws.close()
        await closed

    run_on(loop_name, main())


@both_loops
def test_connections_are_those_that_are_open(loop_name: str) -> None:
    async def main() -> None:
        async with serving(stay) as (server, url):
            ws = await connect(url)
            await eventually(lambda: server.connections)
            ws._ws.pause_reading()  # it does not answer a Close
            (mine,) = server.connections
            closing = asyncio.create_task(mine.close())
            await eventually(lambda: not server.connections)
            assert server.all_connections == {mine}
            ws._ws.resume_reading()
            await closing
            await eventually(lambda: not server.all_connections)
            await ws.wait_closed()

    run_on(loop_name, main())


@both_loops
def test_a_handler_that_fails_has_one_line_in_its_log(
    loop_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(ws: ServerConnection) -> None:
        raise KeyError("mine")

    async def main() -> None:
        mine = logging.getLogger("tests.mine")
        async with serving(handler, logger=mine) as (_, url), connect(url) as ws:
            with pytest.raises(ConnectionClosedError) as caught:
                await ws.recv()
            assert (caught.value.code, caught.value.reason) == (1011, "")

    with caplog.at_level(logging.INFO):
        run_on(loop_name, main())
    lines = [(record.name, record.getMessage()) for record in caplog.records]
    assert lines == [("tests.mine", "WebSocket handler failed: KeyError: 'mine'")]
    assert isinstance(vars(caplog.records[0])["websocket"], ServerConnection)


@both_loops
def test_a_subclass_may_stand_for_the_connection(loop_name: str) -> None:
    class Mine(ServerConnection):
        async def greet(self) -> None:
            await self.send(f"hello {self.request.path}")

    async def handler(ws: Any) -> None:
        await ws.greet()

    async def main() -> None:
        async with serving(handler, create_connection=Mine) as (_, url):
            async with connect(f"{url}you") as ws:
                assert await ws.recv() == "hello /you"

    run_on(loop_name, main())


# -- broadcast ---------------------------------------------------------------------


@both_loops
def test_broadcast_reaches_those_that_are_open(loop_name: str) -> None:
    async def main() -> None:
        async with serving(stay) as (server, url):
            clients = [await connect(url) for _ in range(3)]
            await eventually(lambda: len(server.connections) == 3)
            broadcast(server.connections, "text")
            broadcast(server.connections, b"binary")
            broadcast(server.connections, memoryview(b"bytes"), text=True)
            broadcast(server.connections, "str", text=False)
            expected = ["text", b"binary", "bytes", b"str"]
            for ws in clients:
                assert [await ws.recv() for _ in range(4)] == expected
            everybody = list(server.connections)
            await clients[0].close()
            await eventually(lambda: len(server.connections) == 2)
            broadcast(everybody, "again", raise_exceptions=True)
            for ws in clients[1:]:
                assert await ws.recv() == "again"
            for wrong in (["a"], None, {"a": 1}):
                with pytest.raises(TypeError):
                    broadcast(everybody, wrong)  # type: ignore[arg-type]

    run_on(loop_name, main())


@both_loops
def test_broadcast_leaves_out_an_unfinished_message(
    loop_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with pair() as (client, server):
            go = asyncio.Event()

            async def parts() -> AsyncIterator[str]:
                yield "a"
                await go.wait()
                yield "b"

            sending = asyncio.create_task(server.send(parts()))
            await eventually(lambda: server.is_sending_fragments)
            broadcast([server], "between")
            with pytest.raises(ExceptionGroup) as caught:
                broadcast([server], "between", raise_exceptions=True)
            (error,) = caught.value.exceptions
            assert isinstance(error, ConcurrencyError)
            go.set()
            await sending
            broadcast([server], "after")
            assert [await client.recv(), await client.recv()] == ["ab", "after"]

    with caplog.at_level(logging.INFO):
        run_on(loop_name, main())
    assert caplog.messages == ["skipped broadcast: sending a fragmented message"]


# -- basic_auth --------------------------------------------------------------------


def basic(text: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}


async def ask_credentials(user: str, password: str) -> bool:
    await asyncio.sleep(0)
    return (user, password) == ("us", "pa:ss")


@both_loops
@pytest.mark.parametrize(
    "options",
    [
        {"credentials": ("us", "pa:ss")},
        {"credentials": [("other", "x"), ("us", "pa:ss")]},
        {"credentials": [["other", "x"], ["us", "pa:ss"]]},
        {"check_credentials": ask_credentials},
        {"check_credentials": lambda *pair: pair == ("us", "pa:ss")},
    ],
    ids=["pair", "pairs", "lists", "coroutine", "function"],
)
def test_basic_auth_admits_who_has_the_password(
    loop_name: str, options: dict[str, Any]
) -> None:
    names: list[str] = []

    async def handler(ws: ServerConnection) -> None:
        names.append(ws.username)

    async def main() -> None:
        hook = basic_auth(realm='my "place"', **options)
        async with serving(handler, process_request=hook) as (_, url):
            async with connect(url, additional_headers=basic("us:pa:ss")):
                pass
            for fields in (
                *({}, basic("us:wrong"), basic("nobody:"), basic("us")),
                *({"Authorization": "Bearer x"}, {"Authorization": "Basic ,"}),
                {"Authorization": "Basic /w=="},
            ):
                with pytest.raises(InvalidStatus, match="401") as caught:
                    await connect(url, additional_headers=fields)
                challenge = caught.value.response.headers["WWW-Authenticate"]
                assert challenge == r'Basic realm="my \"place\"", charset="UTF-8"'
        assert names == ["us"]

    run_on(loop_name, main())


def test_reject_wrong_uses_of_basic_auth() -> None:
    for wrong in ({}, {"credentials": ("a", "b"), "check_credentials": lambda *_: 1}):
        with pytest.raises(ValueError, match="either"):
            basic_auth(**wrong)
    with pytest.raises(TypeError):
        basic_auth(credentials=[("a", "b", "c")])  # type: ignore[list-item]
    with pytest.raises(TypeError):
        basic_auth(credentials=5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="realm"):
        basic_auth(realm="a\nb", credentials=("a", "b"))
