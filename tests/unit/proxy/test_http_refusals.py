"""Who gets nowhere with an HTTP request, and what they hear."""

from typing import Any

import pytest

from fastws.exceptions import NoUpstream
from fastws.proxy.http import HttpSettings
from fastws.proxy.visit import ProxyOptions
from tests.support.http import GET, GET_UP, OK, POST, answering, proxy, refused
from tests.support.servers import both_loops, run_on

# -- refusals ----------------------------------------------------------------------

REFUSED = {
    "origin-form": (b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", 400),
    "asterisk": (b"OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n", 400),
    "https": (b"GET https://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", 400),
    "ftp": (b"GET ftp://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", 400),
    "no-host": (b"GET http:/// HTTP/1.1\r\nHost: a.test\r\n\r\n", 400),
    "user": (b"GET http://u:p@a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", 400),
    "port-0": (b"GET http://a.test:0/ HTTP/1.1\r\nHost: a.test\r\n\r\n", 400),
    "port-65536": (b"GET http://a.test:65536/ HTTP/1.1\r\nHost: a.test\r\n\r\n", 400),
    "ipv6": (b"GET http://[::g]/ HTTP/1.1\r\nHost: a.test\r\n\r\n", 400),
    "ipv6-zone": (b"GET http://[fe80::1%25eth0]/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "ipv6-short": (b"GET http://[:]/ HTTP/1.1\r\nHost: a.test\r\n\r\n", 400),
    "fragment": (b"GET http://a.test/#x HTTP/1.1\r\nHost: a.test\r\n\r\n", 400),
    "connect-no-port": (b"CONNECT a.test HTTP/1.1\r\nHost: a.test\r\n\r\n", 400),
    "connect-body": (
        b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        400,
    ),
    "two-hosts": (b"GET http://a/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    "two-framings": (
        b"POST http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "two-lengths": (
        b"POST http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n"
        b"Content-Length: 4\r\n\r\nabcd",
        400,
    ),
    "fold": (b"GET http://a/ HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n", 400),
    "space-before-colon": (b"GET http://a/ HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", 400),
    "bare-lf": (b"GET http://a/ HTTP/1.1\nHost: a\n\n", 400),
    "coding": (
        b"POST http://a/ HTTP/1.1\r\nHost: a\r\n"
        b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        501,
    ),
    "coding-in-1.0": (
        b"POST http://a/ HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        400,
    ),
    "expectation": (
        b"POST http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n"
        b"Expect: x\r\n\r\n.",
        417,
    ),
    "method": (b"BREW http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    "version": (b"GET http://a/ HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    "trace": (b"TRACE http://a/ HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n", 405),
    "too-long": (b"GET http://a/" + b"x" * 17000 + b" HTTP/1.1\r\n", 431),
}


@both_loops
@pytest.mark.parametrize("name", REFUSED)
def test_reject_request(loop_name, name):
    """A short answer, nothing is dialled, and the connection ends in order."""
    request, status = REFUSED[name]

    async def main():
        async with proxy() as serving:
            client = await serving.client()
            await client.send(request)
            client.finish()
            line, _, body = (await refused(client)).partition(b" | ")
            assert line.startswith(b"HTTP/1.1 %d " % status)
            assert body.startswith(b"%d " % status)
            assert len(body) < 120
            assert serving.origins.opened == []
            assert len(serving.log.refused) == 1

    run_on(loop_name, main())


@both_loops
def test_refused_request_leaves_the_connection(loop_name):
    """What is well framed does not cost a browser its connection."""

    async def main():
        async with proxy() as serving:
            await serving.origins.add("a.test", answering((GET_UP, OK)))
            serving.origins.failures["b.test"] = NoUpstream("nobody there")
            client = await serving.client()
            await client.send(POST.replace(b"a.test", b"b.test"))
            await client.expect(
                b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/plain\r\n"
                b"Content-Length: 17\r\n\r\n502 nobody there\n"
            )
            await client.send(GET)
            await client.expect(OK)
            assert serving.log.refused == ["nobody there"]

    run_on(loop_name, main())


class Accounts:
    """One user; knows how often it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    async def admit(self, user: str, password: str, client: str = "") -> bool:
        self.asked.append((user, password))
        return (user, password) == ("u", "p:w")


@both_loops
@pytest.mark.parametrize("method", [b"GET http://a.test/", b"CONNECT a.test:80"])
def test_nothing_is_dialled_before_the_password(loop_name, method):
    """D5: none, a wrong scheme, broken base64, wrong; then right, on one connection."""
    start = method + b" HTTP/1.1\r\nHost: a.test\r\n"
    wrong = (b"", b"Bearer x", b"Basic *", b"Basic dTpw", b"Basic dQ==")
    text = b"407\n"
    denied = (
        b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Type: text/plain\r\n"
        b'Proxy-Authenticate: Basic realm="fastws", charset="UTF-8"\r\n'
        b"Content-Length: 4\r\n\r\n" + text
    )

    async def main():
        accounts: Any = Accounts()
        async with proxy(options=ProxyOptions(accounts=accounts)) as serving:
            client = await serving.client()
            for value in wrong:
                field = b"Proxy-Authorization: " + value + b"\r\n" if value else b""
                await client.send(start + field + b"\r\n")
                await client.expect(denied)
            assert accounts.asked == [("u", "p")]
            assert serving.origins.opened == []
            assert serving.connects.empty()
            get_up = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"
            await serving.origins.add("a.test", answering((get_up, OK)))
            await client.send(start + b"proxy-authorization: basic dTpwOnc=\r\n\r\n")
            if method.startswith(b"GET"):
                await client.expect(OK)
            else:
                connect = await serving.connects.get()
                connect.stream.transport.abort()
            assert accounts.asked == [("u", "p"), ("u", "p:w")]

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize(
    ("protocols", "request_"),
    [({"https"}, GET), ({"http"}, b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n")],
    ids=["http", "https"],
)
def test_protocol_that_is_off(loop_name, protocols, request_):
    async def main():
        options = ProxyOptions(protocols=frozenset(protocols))
        async with proxy(options=options) as serving:
            client = await serving.client()
            await client.send(request_)
            await client.expect(b"HTTP/1.1 403 Forbidden\r\n")
            assert serving.origins.opened == []

    run_on(loop_name, main())


@both_loops
def test_loops_are_refused(loop_name):
    settings = HttpSettings(via="edge", is_own=lambda stream: True)

    async def main():
        async with proxy(settings=settings) as serving:
            await serving.origins.add("a.test", answering())
            for field in (b"Via: 1.0 x, 1.1 edge (us)\r\n", b"Via: 1.1 edge2\r\n"):
                client = await serving.client()
                await client.send(GET[:-2] + field + b"\r\n")
                await client.expect(b"HTTP/1.1 508 Loop Detected\r\n")
            assert serving.log.refused == ["a loop (Via)", "the target is this proxy"]

    run_on(loop_name, main())


@both_loops
def test_health_checks(loop_name):
    states = iter([True, False, False])
    settings = HttpSettings(health=lambda: next(states))

    async def main():
        async with proxy(settings=settings) as serving:
            for path, line in (
                (b"/readyz", b"HTTP/1.1 200 OK | ok\n"),
                (b"/readyz", b"HTTP/1.1 503 Service Unavailable | not ready\n"),
                (b"/healthz", b"HTTP/1.1 200 OK | ok\n"),
            ):
                client = await serving.client()
                await client.send(b"GET " + path + b" HTTP/1.1\r\nHost: a\r\n\r\n")
                assert await refused(client) == line

    run_on(loop_name, main())
