"""What clients of a proxy say first, and SOCKS5 byte by byte (RFC 1928, RFC 1929)."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fastws.exceptions import (
    ConnectRefused,
    Denied,
    DialError,
    DialTimeout,
    NetworkUnreachable,
    NoUpstream,
    UnknownName,
    Unreachable,
    Unsupported,
)
from fastws.net.stream import ByteStream, Hold, kind_of
from fastws.proxy.http import DEFAULTS
from fastws.proxy.outgoing import DatagramWay, Receive, error_of, status_of
from fastws.proxy.serve import serve
from fastws.proxy.users import Accounts
from fastws.proxy.visit import ProxyOptions
from fastws.wire.pool import Status
from tests.support.http import Origins, Proxy, Script, Talk, answering
from tests.support.servers import both_loops, eventually, run_on
from tests.support.timing import LONG, UNIT

NO_LOGIN = b"\5\1\0"
NAME = b"\5\1\0\3\6a.test\0\x50"
FAILED = b"\0\1\0\0\0\0\0\0"
USERS = Accounts(["alice:se:cret"], None)


class NoDatagrams(Origins):
    """Origins that are reached by streams only."""

    async def associate(self, receive: Receive) -> DatagramWay:
        raise Unsupported("no UDP here")


class Serving(Proxy):
    """Serves each connection by ``serve``."""

    def __init__(self, options: ProxyOptions) -> None:
        origins = NoDatagrams()
        super().__init__(origins, options, DEFAULTS)
        self.way: NoDatagrams = origins

    async def _serve(self, hold: Hold) -> None:
        transport = hold.transport
        assert transport is not None
        stream = ByteStream(transport, kind_of(transport), hold)
        try:
            await serve(stream, self.way, self._options, self.log)
        finally:
            if not transport.is_closing():
                transport.abort()


@contextlib.asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[Serving]:
    proxy = Serving(ProxyOptions(**options))
    await proxy.open()
    try:
        yield proxy
    finally:
        await proxy.close()
        await proxy.origins.close()


async def is_connected(client: Talk, up_port: int = 0) -> None:
    """A reply of success comes next, with an IPv4 address of ours."""
    reply = await asyncio.wait_for(client.reader.readexactly(10), LONG)
    assert reply[:8] == b"\5\0\0\1\x7f\0\0\1"
    assert reply[8:] != b"\0\0"


PING_PONG: Script = answering((b"ping", b"pong"))


@both_loops
def test_connect_without_login(loop_name: str) -> None:
    async def main() -> None:
        async with serving() as proxy:
            await proxy.origins.add("a.test", PING_PONG)
            client = await proxy.client()
            await client.send(NO_LOGIN)
            await client.expect(b"\5\0")
            await client.send(NAME)
            await is_connected(client)
            await client.send(b"ping")
            await client.expect(b"pong")
            assert proxy.origins.opened == [("a.test", 80)]
            assert proxy.log.joined == ["socks5 a.test:80"]

    run_on(loop_name, main())


@pytest.mark.parametrize(
    ("address", "host"),
    [
        (b"\1\x7f\0\0\1\x1f\x90", "127.0.0.1"),
        (b"\4" + bytes(15) + b"\1\x1f\x90", "::1"),
        (b"\3\x0bexample.org\x1f\x90", "example.org"),
    ],
)
def test_connect_by_each_kind_of_address(address: bytes, host: str) -> None:
    async def main() -> None:
        async with serving() as proxy:
            await proxy.origins.add(host, PING_PONG)
            client = await proxy.client()
            await client.send(NO_LOGIN + b"\5\1\0" + address)
            await client.expect(b"\5\0")
            await is_connected(client)
            await client.send(b"ping")
            await client.expect(b"pong")
            assert proxy.origins.opened == [(host, 0x1F90)]

    run_on("uvloop", main())


@both_loops
def test_bytes_glued_to_the_request_reach_the_target(loop_name: str) -> None:
    async def main() -> None:
        async with serving(accounts=USERS) as proxy:
            await proxy.origins.add("a.test", PING_PONG)
            client = await proxy.client()
            login = b"\1\5alice\7se:cret"
            await client.send(b"\5\2\0\2" + login + NAME + b"ping")
            await client.expect(b"\5\2\1\0")
            await is_connected(client)
            await client.expect(b"pong")

    run_on(loop_name, main())


def test_one_byte_at_a_time() -> None:
    async def main() -> None:
        async with serving(accounts=USERS) as proxy:
            await proxy.origins.add("a.test", PING_PONG)
            client = await proxy.client()
            for byte in b"\5\1\2" + b"\1\5alice\7se:cret" + NAME + b"ping":
                await client.send(bytes((byte,)))
                await asyncio.sleep(0)
            await client.expect(b"\5\2\1\0")
            await is_connected(client)
            await client.expect(b"pong")

    run_on("uvloop", main())


LOGINS = {
    "wrong-password": b"\1\5alice\6secret",
    "wrong-user": b"\1\3bob\7se:cret",
    "empty": b"\1\0\0",
    "colon-moved": b"\1\10alice:se\5cret" + b"x",
    "wrong-version": b"\5\5alice\7se:cret",
    "not-utf-8": b"\1\1\xff\1\xff",
}


@pytest.mark.parametrize("login", LOGINS.values(), ids=LOGINS)
def test_wrong_login_is_refused_and_nothing_is_dialled(login: bytes) -> None:
    async def main() -> None:
        async with serving(accounts=USERS) as proxy:
            client = await proxy.client()
            await client.send(b"\5\1\2" + login + NAME)
            await client.expect(b"\5\2\1\1")
            client.finish()
            assert await client.rest() == b""
            assert proxy.origins.opened == []
            assert len(proxy.log.refused) == 1
            assert "se:cret" not in proxy.log.refused[0]

    run_on("uvloop", main())


@pytest.mark.parametrize(
    ("accounts", "greeting"),
    [(None, b"\5\1\2"), (USERS, b"\5\1\0"), (None, b"\5\0"), (USERS, b"\5\2\0\1")],
    ids=["no-users", "users", "none-offered", "gssapi"],
)
def test_no_acceptable_method(accounts: Accounts | None, greeting: bytes) -> None:
    async def main() -> None:
        async with serving(accounts=accounts) as proxy:
            client = await proxy.client()
            await client.send(greeting)
            await client.expect(b"\5\xff")
            client.finish()
            assert await client.rest() == b""
            assert proxy.origins.opened == []

    run_on("uvloop", main())


FAILURES: dict[str, tuple[DialError, int, int]] = {
    "denied": (Denied("d"), 2, 403),
    "time-out": (DialTimeout("t"), 6, 504),
    "unknown-name": (UnknownName("u"), 4, 502),
    "refused": (ConnectRefused("r"), 5, 502),
    "network-unreachable": (NetworkUnreachable("n"), 3, 502),
    "host-unreachable": (Unreachable("h"), 4, 502),
    "unsupported": (Unsupported("s"), 7, 501),
    "other": (NoUpstream("o"), 1, 502),
    "any": (DialError("a"), 1, 502),
}


@pytest.mark.parametrize(("error", "code", "status"), FAILURES.values(), ids=FAILURES)
def test_each_failure_has_its_reply(error: DialError, code: int, status: int) -> None:
    async def main() -> None:
        async with serving() as proxy:
            proxy.origins.failures["a.test"] = error
            client = await proxy.client()
            await client.send(NO_LOGIN + NAME + b"early data")
            await client.expect(b"\5\0" + bytes((5, code)) + FAILED)
            client.finish()
            assert await client.rest() == b""
            assert proxy.log.refused == [f"socks5: {error}"]
            level = logging.WARNING if code == 2 else logging.INFO
            assert proxy.log.levels == [level]
            client = await proxy.client()
            await client.send(b"CONNECT a.test:80 HTTP/1.1\r\nHost: a.test:80\r\n\r\n")
            assert (await client.head()).startswith(b"HTTP/1.1 %d " % status)
            client.finish()
            await client.rest()

    run_on("uvloop", main())


@pytest.mark.parametrize("status", [s for s in Status if s is not Status.CONNECTED])
def test_error_and_status_mean_the_same(status: Status) -> None:
    assert status_of(error_of(status, "text")) is status
    assert str(error_of(status, "text")) == "text"


REFUSED = {
    "bind": (b"\5\2\0\1\x7f\0\0\1\0\x50", 7),
    "unknown-command": (b"\5\x09\0\1\x7f\0\0\1\0\x50", 7),
    "unknown-address-type": (b"\5\1\0\2\x7f\0\0\1\0\x50", 8),
    "wrong-version": (b"\4\1\0\1\x7f\0\0\1\0\x50", 1),
    "empty-name": (b"\5\1\0\3\0\0\x50", 1),
    "name-with-a-line-end": (b"\5\1\0\3\3a\r\n\0\x50", 1),
    "udp-that-is-not-carried": (b"\5\3\0\1\0\0\0\0\0\0", 7),
}


@pytest.mark.parametrize(("request_", "code"), REFUSED.values(), ids=REFUSED)
def test_request_is_refused(request_: bytes, code: int) -> None:
    async def main() -> None:
        async with serving() as proxy:
            client = await proxy.client()
            await client.send(NO_LOGIN + request_)
            await client.expect(b"\5\0" + bytes((5, code)) + FAILED)
            client.finish()
            assert await client.rest() == b""
            assert proxy.origins.opened == []
            assert len(proxy.log.refused) == 1

    run_on("uvloop", main())


@both_loops
@pytest.mark.parametrize("start", [b"", b"\5", NO_LOGIN, NO_LOGIN + NAME[:-1]], ids=len)
def test_slow_client_is_ended(loop_name: str, start: bytes) -> None:
    async def main() -> None:
        async with serving(handshake_timeout=UNIT) as proxy:
            client = await proxy.client()
            await client.send(start)
            assert await client.rest() in (b"", b"\5\0")
            [reason] = proxy.log.refused
            assert f"within {UNIT:g} s (--handshake-timeout)" in reason

    run_on(loop_name, main())


@pytest.mark.parametrize(
    ("start", "answer", "reason"),
    [
        (b"\4\1\0\x50\x7f\0\0\1u\0", b"\0\x5b" + bytes(6), "SOCKS4 is not spoken"),
        (b"\x16\3\1\2\0", b"", "TLS on a plain port"),
        (b"\xff\xfe", b"", "neither HTTP nor SOCKS5"),
    ],
    ids=["socks4", "tls", "garbage"],
)
def test_other_protocols_are_turned_away(
    start: bytes, answer: bytes, reason: str
) -> None:
    async def main() -> None:
        async with serving() as proxy:
            client = await proxy.client()
            await client.send(start)
            client.finish()
            assert await client.rest() == answer
            [logged] = proxy.log.refused
            assert reason in logged

    run_on("uvloop", main())


def test_client_that_leaves_while_its_target_is_dialled_is_not_served() -> None:
    async def main() -> None:
        async with serving() as proxy:
            gate = asyncio.Event()
            ended = asyncio.Event()

            async def target(talk: Talk) -> None:
                with contextlib.suppress(ConnectionError):
                    await talk.rest()
                ended.set()

            await proxy.origins.add("a.test", target)
            dial = proxy.way.open

            async def slow(host: str, port: int) -> ByteStream:
                await gate.wait()
                return await dial(host, port)

            proxy.way.open = slow  # type: ignore[method-assign]
            client = await proxy.client()
            await client.send(NO_LOGIN + NAME)
            await client.expect(b"\5\0")
            client.reset()
            gate.set()
            await asyncio.wait_for(ended.wait(), LONG)
            await eventually(lambda: not proxy.active)

    run_on("uvloop", main())


def test_protocols_that_are_off_are_refused() -> None:
    async def answer_to(start: bytes, *protocols: str) -> bytes:
        async with serving(protocols=frozenset(protocols)) as proxy:
            client = await proxy.client()
            await client.send(start)
            client.finish()
            answer = await client.rest()
            assert proxy.origins.opened == []
            return answer

    async def main() -> None:
        get = b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"
        connect = b"CONNECT a.test:80 HTTP/1.1\r\nHost: a.test:80\r\n\r\n"
        refused = b"HTTP/1.1 403 "
        assert (await answer_to(get, "socks5")).startswith(refused)
        assert (await answer_to(connect, "socks5")).startswith(refused)
        assert (await answer_to(get, "https")).startswith(refused)
        assert (await answer_to(connect, "http")).startswith(refused)
        assert await answer_to(NO_LOGIN, "http", "https") == b"\5\xff"

    run_on("uvloop", main())
