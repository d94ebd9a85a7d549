"""Requests that are more than a message: Expect, Upgrade, CONNECT."""

import asyncio

import pytest

from fastws.exceptions import Denied, DialTimeout, UnknownName
from fastws.http import exchange
from tests.support.http import (
    GET,
    GET_UP,
    OK,
    POST,
    POST_UP,
    Talk,
    answering,
    before,
    converse,
    proxy,
    refused,
)
from tests.support.servers import both_loops, eventually, run_on
from tests.support.timing import LONG, UNIT

# -- Expect ------------------------------------------------------------------------

EXPECT = POST.replace(b"\r\n\r\nabc", b"\r\nExpect: 100-Continue\r\n\r\n")
EXPECT_UP = POST_UP.replace(b"\r\n\r\nabc", b"\r\nExpect: 100-continue\r\n\r\n")
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@both_loops
def test_expectation_is_forwarded(loop_name):
    async def origin(talk: Talk) -> None:
        await talk.expect(EXPECT_UP)
        await talk.send(CONTINUE)
        await talk.expect(b"abc")
        await talk.send(OK)
        await talk.expect(GET_UP)  # the connection goes on
        await talk.send(OK)
        await talk.rest()

    async def main():
        async with before(origin) as (_, client):
            await client.send(EXPECT)
            await client.expect(CONTINUE)
            await client.send(b"abc")
            await client.expect(OK)
            await client.send(GET)
            await client.expect(OK)

    run_on(loop_name, main())


@both_loops
def test_expectation_is_answered_for_a_silent_server(loop_name, monkeypatch):
    """It waits for the body without a word; a 100 that comes late is not passed on."""
    monkeypatch.setattr(exchange, "CONTINUE_AFTER", UNIT / 10)

    async def origin(talk: Talk) -> None:
        await talk.expect(EXPECT_UP + b"abc")
        await talk.send(CONTINUE + OK)
        await talk.rest()

    async def main():
        async with before(origin) as (_, client):
            await client.send(EXPECT)
            await client.expect(CONTINUE)
            await client.send(b"abc")
            await client.expect(OK)

    run_on(loop_name, main())


@both_loops
def test_expectation_that_is_refused(loop_name, monkeypatch):
    """No body comes then, and the connection ends: nobody knows what would be next."""
    monkeypatch.setattr(exchange, "CONTINUE_AFTER", LONG)
    answer = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n"

    async def main():
        async with proxy() as serving:
            script = answering((EXPECT_UP, answer + b"\r\n"))
            await serving.origins.add("a.test", script)
            client = await serving.client()
            await client.send(EXPECT)
            assert await client.rest() == answer + b"Connection: close\r\n\r\n"

    run_on(loop_name, main())


def test_expectation_in_http_1_0_is_ignored():
    asked = EXPECT.replace(b"HTTP/1.1", b"HTTP/1.0") + b"abc"
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"
    run_on("asyncio", converse(asked, POST_UP, OK, answer))


# -- other protocols ---------------------------------------------------------------

UPGRADE = (
    b"GET http://a.test/ws HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade, x\r\n"
    b"X: y\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
UPGRADE_UP = (
    b"GET /ws HTTP/1.1\r\nHost: a.test\r\nSec-WebSocket-Version: 13\r\n"
    b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
)
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: z\r\n"
    b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
)


@both_loops
def test_upgrade_becomes_a_stream(loop_name):
    """Bytes behind both heads belong to it, and half-close works."""

    async def origin(talk: Talk) -> None:
        await talk.expect(UPGRADE_UP)
        await talk.send(SWITCH + b"server first")
        assert await talk.rest() == b"glued, and more"
        await talk.send(b"last words")
        talk.finish()

    async def main():
        async with before(origin) as (serving, client):
            await client.send(UPGRADE + b"glued, ")
            await client.expect(SWITCH + b"server first")
            await client.send(b"and more")
            client.finish()
            assert await client.rest() == b"last words"
            await eventually(lambda: not serving.active)
            assert serving.log.joined == ["http a.test:80"]
            assert serving.log.refused == []

    run_on(loop_name, main())


@both_loops
def test_upgrade_that_is_declined_stays_http(loop_name):
    async def main():
        async with proxy() as serving:
            both = answering((UPGRADE_UP, OK), (GET_UP, OK))
            await serving.origins.add("a.test", both)
            client = await serving.client()
            await client.send(UPGRADE)
            await client.expect(OK)
            await client.send(GET)
            await client.expect(OK)

    run_on(loop_name, main())


@both_loops
def test_reject_upgrade_that_nobody_asked_for(loop_name):
    async def main():
        async with proxy() as serving:
            await serving.origins.add("a.test", answering((GET_UP, SWITCH)))
            client = await serving.client()
            await client.send(GET)
            await client.expect(b"HTTP/1.1 502 Bad Gateway\r\n")

    run_on(loop_name, main())


@both_loops
def test_connect_is_handed_back(loop_name):
    """Also behind other requests, with the bytes that came with it."""

    async def main():
        async with proxy() as serving:
            await serving.origins.add("a.test", answering((GET_UP, OK)))
            client = await serving.client()
            request = b"CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\n\r\n"
            await client.send(GET + request + b"glued")
            await client.expect(OK)
            connect = await serving.connects.get()
            assert (connect.host, connect.port) == ("::1", 443)
            assert serving.origins.opened == [("a.test", 80)]
            assert serving.active == 0
            stream = connect.accept()
            assert stream.hold.leftover == b"glued"
            await client.expect(b"HTTP/1.1 200 Connection established\r\n\r\n")
            stream.transport.abort()

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize(
    ("error", "line"),
    [
        (Denied("by rule x"), b"HTTP/1.1 403 Forbidden | 403 by rule x\n"),
        (DialTimeout("slow"), b"HTTP/1.1 504 Gateway Timeout | 504 slow\n"),
        (UnknownName("who"), b"HTTP/1.1 502 Bad Gateway | 502 who\n"),
    ],
    ids=["denied", "timeout", "unknown"],
)
def test_connect_is_refused(loop_name, error, line):
    async def main():
        async with proxy() as serving:
            client = await serving.client()
            await client.send(b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\nglued")
            connect = await serving.connects.get()
            answered = asyncio.create_task(connect.refuse(error))
            assert await refused(client) == line
            client.writer.close()
            await answered

    run_on(loop_name, main())
