"""What comes before TLS and HTTP: over real sockets, on both loops."""

import asyncio
import socket
from collections.abc import Callable

import pytest

from fastws.net.arrived import ArrivedHold
from fastws.net.prelude import NO_HEADER, Arrival, Prelude, ProxyRule
from fastws.wire.proxy_protocol import encode_header
from tests.support.servers import both_loops, run_on
from tests.support.timing import LONG, UNIT

A, B = ("203.0.113.9", 4711), ("198.51.100.1", 443)
V1, V2 = encode_header("v1", A, B), encode_header("v2", A, B)
LOCAL = "127.0.0.1"

ACCEPT = ProxyRule(required=False)
REQUIRE = ProxyRule(required=True)


class Counted(socket.socket):
    """Counts how often somebody looks at it."""

    looks = 0

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        self.looks += 1
        return super().recv(size, flags)


def arrive(
    loop_name: str,
    prelude: Prelude,
    send: Callable[[socket.socket], object],
    timeout: float = LONG,
) -> tuple[Arrival, bytes]:
    """What ``prelude`` makes of a client, and what it left on the socket."""

    async def main() -> tuple[Arrival, bytes]:
        near, far = socket.socketpair()
        with near, far:
            send(near)
            arrival = await prelude.read(far, LOCAL, timeout)
            far.setblocking(False)
            try:
                return arrival, far.recv(4096)
            except BlockingIOError:
                return arrival, b""

    return run_on(loop_name, main())  # type: ignore[no-any-return]


@both_loops
@pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])
def test_header_is_taken_and_nothing_else(loop_name: str, header: bytes) -> None:
    prelude = Prelude(REQUIRE, plain_too=False)
    arrival, rest = arrive(
        loop_name, prelude, lambda s: s.sendall(header + b"\x16\x03")
    )
    assert (arrival.header.source, arrival.header.destination) == (A, B)
    assert (arrival.is_tls, arrival.error) == (True, None)
    assert rest == b"\x16\x03"


@both_loops
@pytest.mark.parametrize(
    ("data", "is_tls"), [(b"\x16\x03\x01", True), (b"GET /", False), (b"\0", False)]
)
def test_first_byte_decides_and_stays(
    loop_name: str, data: bytes, is_tls: bool
) -> None:
    prelude = Prelude(None, plain_too=True)
    arrival, rest = arrive(loop_name, prelude, lambda s: s.sendall(data))
    assert (arrival.header, arrival.is_tls, arrival.error) == (NO_HEADER, is_tls, None)
    assert rest == data


@both_loops
def test_header_that_may_be_missing(loop_name: str) -> None:
    prelude = Prelude(ACCEPT, plain_too=True)
    for data in (b"POST / HTTP/1.1", b"\x16\x03\x01"):
        arrival, rest = arrive(loop_name, prelude, lambda s, d=data: s.sendall(d))
        assert arrival == Arrival(NO_HEADER, data[0] == 0x16)
        assert rest == data


@both_loops
@pytest.mark.parametrize("data", [b"", b"P", V2[:12], V2[:-1]], ids=repr)
def test_slow_header_burns_no_cpu(loop_name: str, data: bytes) -> None:
    async def main() -> tuple[Arrival, int]:
        near, far = socket.socketpair()
        with near, Counted(fileno=far.detach()) as counted:
            near.sendall(data)
            prelude = Prelude(REQUIRE, plain_too=False)
            return await prelude.read(counted, LOCAL, 3 * UNIT), counted.looks

    arrival, looks = run_on(loop_name, main())
    assert 1 <= looks < 40  # thousands where it never rests
    assert arrival.error is not None
    assert arrival.error.http_status == 408
    assert "no whole PROXY header within" in arrival.error.reason


@both_loops
def test_many_slow_headers_leave_the_loop_alone(
    loop_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)
        if len(pauses) == 4:  # more has come: the next look is a soon one
            near.sendall(b"R")
        if len(pauses) == 14:
            near.sendall(b"X")

    monkeypatch.setattr("fastws.net.prelude.asyncio.sleep", pause)

    async def main() -> Arrival:
        return await Prelude(REQUIRE, plain_too=False).read(far, LOCAL, LONG)

    near, far = socket.socketpair()
    with near, far:
        near.sendall(b"P")
        arrival = run_on(loop_name, main())
    assert arrival.error is not None
    assert arrival.error.reason.startswith("no PROXY header")
    slower = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.5, 0.5, 0.5]
    assert pauses[:4] == pytest.approx(slower[:4])
    assert pauses[4:13] == pytest.approx(slower)


@both_loops
def test_slow_first_byte(loop_name: str) -> None:
    prelude = Prelude(None, plain_too=True)
    arrival, _ = arrive(loop_name, prelude, lambda s: None, UNIT)
    assert arrival.error is not None
    assert "no whole first byte within" in arrival.error.reason


@both_loops
@pytest.mark.parametrize("rule", [None, ACCEPT, REQUIRE], ids=["none", "may", "must"])
def test_client_that_says_nothing_and_goes(
    loop_name: str, rule: ProxyRule | None
) -> None:
    prelude = Prelude(rule, plain_too=True)
    arrival, _ = arrive(loop_name, prelude, lambda s: s.shutdown(socket.SHUT_WR))
    assert arrival.error is not None
    assert arrival.error.http_status is None  # no news
    assert arrival.error.reason == "closed before its first byte"


@both_loops
@pytest.mark.parametrize(
    ("data", "reason", "is_http"),
    [
        (b"GET / HTTP/1.1\r\n", "no PROXY header: b'GET / HTTP", True),
        (b"PROXY TCP4 x\r\n", "malformed PROXY header", False),
        (b"\x16\x03\x01", "no PROXY header", False),
        (V2[:12] + b"\xff" * 4, "PROXY header of unknown version", False),
    ],
)
def test_wrong_headers(loop_name: str, data: bytes, reason: str, is_http: bool) -> None:
    prelude = Prelude(REQUIRE, plain_too=False)
    arrival, _ = arrive(loop_name, prelude, lambda s: s.sendall(data))
    assert arrival.error is not None
    assert arrival.error.reason.startswith(reason)
    assert (arrival.error.http_status, arrival.is_http) == (400, is_http)


@pytest.mark.parametrize(
    ("networks", "host", "believed"),
    [
        ((), "127.0.0.1", True),
        ((), "::1", True),
        ((), "", True),
        ((), "10.0.0.1", False),
        (("10.0.0.0/8",), "10.0.0.1", True),
        (("10.0.0.0/8",), "127.0.0.1", False),
        (("10.0.0.0/8",), "", False),
        (("unix",), "", True),
    ],
)
def test_who_is_believed(networks: tuple[str, ...], host: str, believed: bool) -> None:
    for required in (False, True):
        rule = ProxyRule(required=required, networks=networks)
        if believed:
            assert rule.read(V1, host) is not None
        else:
            with pytest.raises(Exception, match="which --trust does not name"):
                rule.read(V1, host)
    rule = ProxyRule(required=False, networks=networks)
    assert rule.read(b"GET /", host) is NO_HEADER
    assert rule.read(b"P", host) is None


def test_hold_cuts_the_header_off() -> None:
    async def main() -> None:
        for size in (1, 7, 1000):
            hold = ArrivedHold(REQUIRE)
            data = V2 + b"GET / HTTP/1.1\r\nHost: x\r\n\r\nmore"
            for start in range(0, len(data), size):
                hold.data_received(data[start : start + size])
            head = await hold.read_head(LONG)
            assert head.method == "GET"
            assert hold.leftover == b"more"
            assert hold.arrival.header.source == A

    asyncio.run(main())


def test_drain_waits_for_the_transport() -> None:
    async def main() -> None:
        hold = ArrivedHold()
        assert await hold.drain(LONG)
        hold.pause_writing()
        assert not await hold.drain(0.001)
        hold.resume_writing()
        assert await hold.drain(LONG)
        hold.pause_writing()
        hold.pause_writing()
        asyncio.get_running_loop().call_soon(hold.connection_lost, None)
        assert not await hold.drain(LONG)

    asyncio.run(main())
