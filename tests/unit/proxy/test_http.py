"""The HTTP side of the forward proxy, byte by byte."""

import asyncio

import pytest

from fastws.proxy import http as module
from fastws.proxy.http import HttpSettings
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
)
from tests.support.servers import both_loops, eventually, run_on

# -- one request -------------------------------------------------------------------

EXCHANGES = {
    "absolute-form": (GET, GET_UP, OK, OK),
    "host-of-the-target": (
        b"GET http://A.test:8080/ HTTP/1.1\r\nHost: other.test\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: A.test:8080\r\n\r\n",
        OK,
        OK,
    ),
    "no-path": (
        b"GET http://a.test HTTP/1.1\r\nHost: a.test\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        OK,
        OK,
    ),
    "query-without-path": (
        b"GET http://a.test:?q=/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
        b"GET /?q=/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
        OK,
        OK,
    ),
    "options-of-the-server": (
        b"OPTIONS http://a.test HTTP/1.1\r\nHost: a.test\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n",
        OK,
        OK,
    ),
    "max-forwards": (
        b"OPTIONS http://a.test/ HTTP/1.1\r\nHost: a.test\r\nMax-Forwards: 2\r\n\r\n",
        b"OPTIONS / HTTP/1.1\r\nHost: a.test\r\nMax-Forwards: 1\r\n\r\n",
        OK,
        OK,
    ),
    "fields-of-one-hop": (
        b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nAccept: */*\r\n"
        b"Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nProxy-Connection: keep-alive\r\n"
        b"Keep-Alive: 5\r\nTE: gzip\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n"
        b"Proxy-Authorization: Basic dTpw\r\nCookie: a=b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a.test\r\nAccept: */*\r\nCookie: a=b\r\n\r\n",
        b"HTTP/1.1 200 Fine\r\nServer: s\r\nConnection: X-Hop\r\nx-hop: 2\r\n"
        b"Keep-Alive: timeout=5\r\nContent-Length: 2\r\nProxy-Connection: x\r\n"
        b"Upgrade: h2c\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\n\r\nhi",
        b"HTTP/1.1 200 Fine\r\nServer: s\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\n"
        b"Content-Length: 2\r\n\r\nhi",
    ),
    "host-named-by-connection": (
        b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nConnection: host\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        OK,
        OK,
    ),
    "body-by-length": (
        b"POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc",
        OK,
        OK,
    ),
    "length-named-by-connection": (
        b"POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n"
        b"Connection: Content-Length\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc",
        OK,
        OK,
    ),
    "empty-body": (
        b"POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ),
    "chunks-and-trailers": (
        b"PUT http://a.test/ HTTP/1.1\r\nHost: a.test\r\nTE: trailers\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n"
        b"0\r\nSum: 1\r\nHost: b.test\r\nContent-Length: 9\r\n\r\n",
        b"PUT / HTTP/1.1\r\nHost: a.test\r\nTE: trailers\r\nConnection: TE\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\nSum: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTrailer: Sum\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2\r\nhi\r\n0\r\nSum: 2\r\nSet-Cookie: a\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTrailer: Sum\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2\r\nhi\r\n0\r\nSum: 2\r\n\r\n",
    ),
    "answer-to-head": (
        b"HEAD http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
        b"HEAD / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
    ),
    "not-modified": (
        GET,
        GET_UP,
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: e\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nETag: e\r\nContent-Length: 5\r\n\r\n",
    ),
    "no-content-with-a-length": (
        GET,
        GET_UP,
        b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
    ),
    "interim-answers": (
        GET,
        GET_UP,
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\nConnection: y\r\nY: z\r\n\r\n" + OK,
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK,
    ),
    "http-1.0-client": (
        b"GET http://a.test/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nhi",
    ),
    "http-1.0-server": (
        GET,
        GET_UP,
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        OK,
    ),
    "closing-client": (
        b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nConnection: Close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        OK,
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi",
    ),
    "upgrade-needed": (
        GET,
        GET_UP,
        b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: x/1\r\nConnection: upgrade\r\n"
        b"Content-Length: 0\r\n\r\n",
        b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: x/1\r\nConnection: Upgrade\r\n"
        b"Content-Length: 0\r\n\r\n",
    ),
    "fields-beyond-ascii": (
        b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nX: \xe9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a.test\r\nX: \xe9\r\n\r\n",
        b"HTTP/1.1 200 \xe9\r\nX: \xff\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 \xe9\r\nX: \xff\r\nContent-Length: 0\r\n\r\n",
    ),
}


@both_loops
@pytest.mark.parametrize("name", EXCHANGES)
def test_exchange(loop_name, name):
    run_on(loop_name, converse(*EXCHANGES[name]))


@both_loops
def test_ipv6_literal(loop_name):
    async def main():
        async with proxy() as serving:
            up = b"GET / HTTP/1.1\r\nHost: [::1]:81\r\n\r\n"
            await serving.origins.add("::1", answering((up, OK)))
            client = await serving.client()
            await client.send(b"GET http://[::1]:81/ HTTP/1.1\r\nHost: x\r\n\r\n")
            await client.expect(OK)
            assert serving.origins.opened == [("::1", 81)]

    run_on(loop_name, main())


def test_via_is_added_both_ways():
    async def main():
        async with proxy(settings=HttpSettings(via="edge")) as serving:
            up = (
                b"GET / HTTP/1.1\r\nHost: a.test\r\nVia: 1.0 x\r\nVia: 1.1 edge\r\n\r\n"
            )
            reply = b"HTTP/1.0 200 OK\r\nVia: 1.1 y\r\nContent-Length: 0\r\n\r\n"
            await serving.origins.add("a.test", answering((up, reply)))
            client = await serving.client()
            request = (
                b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nVia: 1.0 x\r\n\r\n"
            )
            await client.send(request)
            await client.expect(
                b"HTTP/1.1 200 OK\r\nVia: 1.1 y\r\nVia: 1.0 edge\r\n"
                b"Content-Length: 0\r\n\r\n"
            )

    run_on("asyncio", main())


@both_loops
def test_byte_by_byte(loop_name):
    """Both ways; what the peers see does not change."""
    request, up, _, _ = EXCHANGES["chunks-and-trailers"]
    first, last = up.split(b"5\r\nabcde\r\n")
    reply = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"

    async def drip(talk: Talk, data: bytes) -> None:
        for at in range(len(data)):
            await talk.send(data[at : at + 1])
            await asyncio.sleep(0)

    async def origin(talk: Talk) -> None:
        await talk.expect(first)
        body = b""
        while not body.endswith(last):
            body += await talk.reader.readexactly(1)
        chunks = body.removesuffix(last).split(b"\r\n")
        assert b"".join(chunks[1::2]) == b"abcde"
        await drip(talk, reply)
        await talk.rest()

    async def main():
        async with before(origin) as (_, client):
            await drip(client, request)
            await client.expect(reply)

    run_on(loop_name, main())


# -- connections -------------------------------------------------------------------


@both_loops
def test_kept_connection_serves_several_origins(loop_name):
    """D6: each origin gets its own requests, and nobody the password."""
    ups = {host: b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % host for host in (b"a", b"b")}
    asked = (
        b"GET http://%b/ HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Basic dTpw\r\n\r\n"
    )

    async def main():
        async with proxy() as serving:
            a, b = (ups[b"a"], OK), (ups[b"b"], OK)
            await serving.origins.add("a", answering(a, a), answering(a))
            await serving.origins.add("b", answering(b))
            client = await serving.client()
            for host in (b"a", b"a", b"b", b"a"):
                await client.send(asked % host)
                await client.expect(OK)
            opened = [host for host, _ in serving.origins.opened]
            assert opened == ["a", "b", "a"]
            client.finish()
            assert await client.rest() == b""
            await eventually(lambda: len(serving.log.done) == 3)
            came, went = len(asked % b"a"), len(OK)
            assert serving.log.done == [
                ("http a:80, 2 requests", 2 * came, 2 * went),
                ("http b:80, 1 request", came, went),
                ("http a:80, 1 request", came, went),
            ]
            assert serving.log.refused == []

    run_on(loop_name, main())


@both_loops
def test_pipelined_requests_are_answered_in_order(loop_name):
    second = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"

    async def main():
        async with proxy() as serving:
            post = b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc"
            await serving.origins.add(
                "a.test", answering((GET_UP, OK), (post, second), (GET_UP, OK))
            )
            client = await serving.client()
            asked = post.replace(b"/", b"http://a.test/", 1)
            await client.send(GET + asked + b"\r\n" + GET)
            client.finish()
            assert await client.rest() == OK + second + OK

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        OK + b"HTTP/1.1 200 Poison\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=["close", "http-1.0", "more-than-asked"],
)
def test_connection_is_not_reused_after(loop_name, answer):
    async def main():
        async with proxy() as serving:
            once = answering((GET_UP, answer))
            await serving.origins.add("a.test", once, once)
            client = await serving.client()
            for _ in range(2):
                await client.send(GET)
                await client.expect(OK)
            assert len(serving.origins.opened) == 2

    run_on(loop_name, main())


@both_loops
def test_kept_connection_that_died_is_replaced(loop_name):
    """The server ends it once the next request has come: nothing was lost by that."""

    async def dying(talk: Talk) -> None:
        await talk.expect(GET_UP)
        await talk.send(OK)
        await talk.expect(GET_UP)

    async def main():
        async with proxy() as serving:
            await serving.origins.add("a.test", dying, answering((GET_UP, OK)))
            client = await serving.client()
            for _ in range(2):
                await client.send(GET)
                await client.expect(OK)
            assert serving.log.refused == []

    run_on(loop_name, main())


@both_loops
def test_what_may_not_be_repeated_is_sent_once(loop_name):
    async def dying(talk: Talk) -> None:
        await talk.expect(GET_UP)
        await talk.send(OK)
        await talk.expect(POST_UP)

    async def main():
        async with before(dying) as (serving, client):
            await client.send(GET)
            await client.expect(OK)
            await client.send(POST)
            await client.expect(b"HTTP/1.1 502 Bad Gateway\r\n")
            assert len(serving.origins.opened) == 1

    run_on(loop_name, main())


@both_loops
def test_what_may_not_be_repeated_takes_no_old_connection(loop_name, monkeypatch):
    monkeypatch.setattr(module, "_FRESH", 0.0)

    async def main():
        async with proxy() as serving:
            await serving.origins.add(
                "a.test", answering((GET_UP, OK)), answering((POST_UP, OK))
            )
            client = await serving.client()
            for request in (GET, POST):
                await client.send(request)
                await client.expect(OK)

    run_on(loop_name, main())


@both_loops
def test_fresh_connection_that_dies_is_not_tried_again(loop_name):
    async def main():
        async with proxy() as serving:

            async def dying(talk: Talk) -> None:
                await talk.expect(GET_UP)

            await serving.origins.add("a.test", dying)
            client = await serving.client()
            await client.send(GET)
            text = b"502 a.test:80: closed before a whole HTTP head came\n"
            await client.expect(
                b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/plain\r\n"
                b"Content-Length: %d\r\n\r\n%b" % (len(text), text)
            )
            assert len(serving.origins.opened) == 1

    run_on(loop_name, main())
