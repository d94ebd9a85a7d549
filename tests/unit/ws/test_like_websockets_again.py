"""Clients behave as those of ``websockets``: redirects and reconnecting."""

import asyncio
import itertools
import logging
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from fastws.config.endpoint import WsUrl
from fastws.exceptions import (
    Denied,
    DialError,
    InvalidHeader,
    InvalidMessage,
    InvalidStatus,
    InvalidURI,
    NegotiationError,
    OpenTimeout,
    SecurityError,
)
from fastws.ws.connect import connect, process_exception
from fastws.ws.heads import Request, Response
from fastws.ws.redirect import redirect_of
from fastws.ws.serve import ServerConnection
from tests.support.coroutines import echo, serving, stay
from tests.support.servers import (
    both_loops,
    eventually,
    free_port,
    run_on,
    silent,
    tcp_server,
)
from tests.support.timing import UNIT

# -- redirects ---------------------------------------------------------------------


def lead(where: Any) -> Any:
    """A ``process_request`` that sends everything but ``/there`` elsewhere."""

    def process_request(ws: ServerConnection, request: Request) -> Response | None:
        if request.path == "/there":
            return None
        response = ws.respond(302, "elsewhere")
        response.headers["Location"] = where() if callable(where) else where
        return response

    return process_request


@both_loops
def test_a_redirect_is_followed(loop_name: str) -> None:
    async def main() -> None:
        async with serving(echo, process_request=lead("there")) as (_, url):
            secret = {"Authorization": "Bearer x"}
            async with connect(url, additional_headers=secret) as ws:
                assert ws.request.path == "/there"
                assert ws.request.headers["Authorization"] == "Bearer x"
                await ws.send("hello")
                assert await ws.recv() == "hello"

    run_on(loop_name, main())


@both_loops
def test_another_origin_gets_no_credentials(loop_name: str) -> None:
    async def main() -> None:
        async with serving(echo) as (_, other):
            target = f"{other}there"
            async with serving(echo, process_request=lead(target)) as (_, url):
                fields = {"Authorization": "Bearer x", "Cookie": "a=b", "X-A": "b"}
                async with connect(url, additional_headers=fields) as ws:
                    given = set(ws.request.headers)
                    assert given == {"host", "x-a", "user-agent"}
                    assert ws.request.headers["Host"] in other
                place = {"host": "127.0.0.1", "port": int(url.split(":")[2][:-1])}
                with pytest.raises(ValueError, match="the address was given"):
                    await connect("ws://127.0.0.1/", **place)

    run_on(loop_name, main())


@both_loops
def test_redirects_come_to_an_end(loop_name: str) -> None:
    async def main() -> None:
        count = itertools.count()
        hook = lead(lambda: f"/{next(count)}")
        async with serving(echo, process_request=hook) as (_, url):
            with pytest.raises(SecurityError, match="more than 10"):
                await connect(url)
        assert next(count) == 11

    run_on(loop_name, main())


def test_reject_redirects_that_lose_tls_or_lead_nowhere() -> None:
    url = WsUrl.parse("wss://a.example/b/c?d")

    def answer(location: str, status: int = 307) -> InvalidStatus:
        return InvalidStatus(status, "", (("Location", location),))

    target = redirect_of(answer("e"), url)
    assert target is not None
    assert str(target) == "wss://a.example/b/e"
    assert redirect_of(answer("/e", 404), url) is None
    assert redirect_of(InvalidStatus(302, ""), url) is None
    for location, kind, text in (
        ("ws://b.example/?token=1", SecurityError, r"ws://b\.example/\?…, without TLS"),
        ("https://a.example/", InvalidURI, "https:// is no WebSocket scheme"),
        ("//[", InvalidURI, "IPv6"),
    ):
        error = answer(location)
        with pytest.raises(kind, match=text) as caught:
            redirect_of(error, url)
        assert caught.value.__cause__ is error


@both_loops
@pytest.mark.parametrize("given", ["sock", "host"])
def test_a_redirect_that_cannot_be_followed_is_the_cause(
    loop_name: str, given: str
) -> None:
    where = "there" if given == "sock" else "ws://other.example/"

    async def main() -> None:
        async with serving(echo, process_request=lead(where)) as (server, url):
            place = server.sockets[0].getsockname()
            with pytest.raises(ValueError, match="the address was given") as caught:
                if given == "sock":
                    await connect(url, sock=socket.create_connection(place))
                else:
                    await connect("ws://name.example/", host=place[0], port=place[1])
            cause = caught.value.__cause__
            assert isinstance(cause, InvalidStatus)
            assert cause.response.headers["Location"] == where

    run_on(loop_name, main())


# -- reconnecting ------------------------------------------------------------------


def test_what_passes_and_what_does_not() -> None:
    gone = InvalidMessage("closed")
    gone.__cause__ = EOFError()
    passing = [OSError(), TimeoutError(), DialError("x"), OpenTimeout("x"), gone]
    passing += [InvalidStatus(status, "") for status in (500, 502, 503, 504)]
    assert [process_exception(exc) for exc in passing] == [None] * len(passing)
    for exc in (
        *(InvalidStatus(status, "") for status in (400, 401, 404, 501)),
        *(InvalidMessage("no HTTP"), InvalidHeader("Upgrade"), NegotiationError("x")),
        *(SecurityError("x"), InvalidURI("x", "x"), Denied("x"), ValueError("x")),
    ):
        assert process_exception(exc) is exc


@both_loops
def test_a_server_that_hangs_up_is_tried_again(
    loop_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        calls: list[int] = []

        async def hang_up(reader: asyncio.StreamReader, writer: Any) -> None:
            await reader.readuntil(b"\r\n\r\n")
            calls.append(1)
            if len(calls) == 3:
                writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                await writer.drain()

        async with tcp_server(hang_up) as port:
            with pytest.raises(InvalidStatus, match="404"):
                async for _ in connect(
                    f"ws://127.0.0.1:{port}/",
                    reconnect_delays=lambda: itertools.repeat(0.0),
                ):
                    pytest.fail("opened")
        assert len(calls) == 3

    with caplog.at_level(logging.INFO, "fastws.ws"):
        run_on(loop_name, main())
    line = "connect failed; reconnecting in 0.0 seconds: closed before a whole HTTP"
    assert [message[: len(line)] for message in caplog.messages] == [line] * 2


@both_loops
def test_delays_begin_anew_after_a_success(loop_name: str) -> None:
    async def main() -> None:
        asked: list[list[int]] = []

        def delays() -> Iterator[float]:
            asked.append([])
            for number in itertools.count():
                asked[-1].append(number)
                yield 0.0

        answers = iter([503, 503, 0, 503, 0, 503, 503, 503, 418])

        def hook(ws: ServerConnection, request: Request) -> Response | None:
            status = next(answers)
            return ws.respond(status, "not now") if status else None

        async with serving(stay, process_request=hook) as (_, url):
            with pytest.raises(InvalidStatus, match="418"):
                async for _ in connect(url, reconnect_delays=delays):
                    pass
        assert asked == [[0, 1], [0], [0, 1, 2]]

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize("how", ["returns", "raises"])
def test_process_exception_may_name_another_error(loop_name: str, how: str) -> None:
    def judge(exc: Exception) -> Exception | None:
        assert isinstance(exc, ConnectionRefusedError)
        if how == "raises":
            raise KeyError("mine")
        return KeyError("mine")

    async def main() -> None:
        url = f"ws://127.0.0.1:{free_port()}/"
        with pytest.raises(KeyError, match="mine") as caught:
            async for _ in connect(url, process_exception=judge):
                pytest.fail("opened")
        assert isinstance(caught.value.__cause__, ConnectionRefusedError)

    run_on(loop_name, main())


@both_loops
def test_leaving_the_loop_closes_in_order(loop_name: str) -> None:
    async def main() -> None:
        codes: list[int | None] = []

        async def handler(ws: ServerConnection) -> None:
            await ws.wait_closed()
            codes.append(ws.close_code)

        async with serving(handler) as (_, url):
            async for _ws in connect(url):
                break
            await eventually(lambda: codes)
        assert codes == [1000]

    run_on(loop_name, main())


@both_loops
def test_no_time_limits(loop_name: str) -> None:
    async def main() -> None:
        async with tcp_server(silent) as port:
            opening = asyncio.create_task(
                _wait(connect(f"ws://127.0.0.1:{port}/", open_timeout=None))
            )
            _, waiting = await asyncio.wait({opening}, timeout=UNIT)
            assert waiting
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening
        async with serving(echo, open_timeout=None, close_timeout=None) as (_, url):
            none: Any = {
                "ping_interval": None,
                "ping_timeout": None,
                "close_timeout": None,
            }
            async with connect(url, open_timeout=None, **none) as ws:
                await ws.send("hello")
                assert await ws.recv() == "hello"

    run_on(loop_name, main())


async def _wait(way: Any) -> None:
    await way
