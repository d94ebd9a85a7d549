"""The pool of fastws proxy --via a rust-proxy server: R rows of its checklist.

The server is tests/support/rust_proxy_server.py; what it says stands in its neighbour
test_rust_proxy_servers.py.
"""

import threading
import time
from collections.abc import Iterator

import pytest

from tests.support.asking import (
    NO_LOGIN,
    connect_status,
    get,
    reply,
    request,
    socks_code,
)
from tests.support.cli import Fastws, eventually
from tests.support.origin import read_head
from tests.support.rust_proxy_server import PING, TEXT, RustProxyServer
from tests.support.services import (
    Service,
    ask,
    connect,
    ends_with_reset,
    pump_through,
    read_exactly,
    read_to_end,
    reset,
)
from tests.support.timing import LONG, UNIT, never_waits_for_an_ack, units
from tests.support.via import once, settle, socks, through

pytestmark = pytest.mark.e2e


@pytest.fixture
def server() -> Iterator[RustProxyServer]:
    with RustProxyServer() as running:
        yield running


def test_r10_ten_of_fifteen_are_kept(server: RustProxyServer, service: Service) -> None:
    with through(server) as proxy:
        socks_ = [socks(proxy, service.port) for _ in range(15)]
        for sock in socks_:
            assert ask(sock, b"x") == b"x"
        assert len(server.open) == 15
        for sock in socks_:
            sock.close()
        settle(server, 10)
        for _ in range(12):
            once(proxy, service.port)
        assert len(server.conns) == 15


def test_r11_a_returned_connection_overtakes_a_new_one(
    server: RustProxyServer, service: Service
) -> None:
    """The second user gets the first one's; the third the late one."""
    with through(server) as proxy:
        first = socks(proxy, service.port)
        assert ask(first, b"1") == b"1"
        server.hold()
        with connect(proxy.port) as second:
            second.sendall(NO_LOGIN + request("127.0.0.1", service.port))
            assert read_exactly(second, 2) == b"\5\0"
            eventually(lambda: server.held == 1)
            first.close()
            assert reply(second)[0] == 0
            assert ask(second, b"2") == b"2"
            assert len(server.conns) == 1
            server.let_go()
            eventually(lambda: len(server.conns) == 2)
            with socks(proxy, service.port) as third:
                assert ask(third, b"3") == b"3"
        assert [conn.streams for conn in server.conns] == [2, 1]


def test_r12_a_stream_that_the_user_breaks_costs_its_connection(
    server: RustProxyServer, service: Service
) -> None:
    with through(server) as proxy:
        sock = socks(proxy, service.port)
        assert ask(sock, b"x") == b"x"
        reset(sock)
        settle(server, 0)
        once(proxy, service.port)
        assert len(server.conns) == 2


def test_r13_no_connection_outlives_the_proxy(
    server: RustProxyServer, service: Service
) -> None:
    """Idle ones close in order, those with streams end with these."""
    with through(server, "--drain-timeout", "0s") as proxy:
        idle, busy = socks(proxy, service.port), socks(proxy, service.port)
        assert ask(idle, b"x") == ask(busy, b"x") == b"x"
        idle.close()
        eventually(lambda: sum(conn.up is None for conn in server.open) == 1)
    assert ends_with_reset(busy)
    settle(server, 0)
    assert set(server.conns[0].opcodes) | set(server.conns[1].opcodes) == {2}


@pytest.mark.parametrize("death", ["fin", "reset", "data", "close", "ping", "text"])
def test_r14_r21_whatever_comes_while_idle_evicts(
    server: RustProxyServer, service: Service, death: str
) -> None:
    """The next user has a connection of its own, and sees nothing of it."""
    with through(server) as proxy:
        once(proxy, service.port)
        settle(server, 1)
        conn = server.conns[0]
        if death in ("fin", "reset"):
            server.end(conn, reset=death == "reset")
        else:
            said = {"data": b"\2stray", "close": b"\3"}.get(death, b"stray")
            server.say(conn, said, {"ping": PING, "text": TEXT}.get(death, 2))
        if death == "ping":  # answered, and that is all it means
            eventually(lambda: 10 in conn.opcodes)
        eventually(lambda: not server.open)
        once(proxy, service.port)
        assert len(server.conns) == 2
        assert len(server.connects) == 2
        assert proxy.count("is begun again") == 0


def test_r22_socks_answers(server: RustProxyServer, service: Service) -> None:
    with through(server) as proxy:
        with connect(proxy.port) as sock:
            sock.sendall(b"\5\1\2")
            assert read_to_end(sock) == b"\5\xff"
        assert socks_code(proxy, "127.0.0.1", 1, command=2) == 7
        assert socks_code(proxy, "127.0.0.1", 1, command=3) == 7
        with connect(proxy.port) as sock:
            sock.sendall(NO_LOGIN + request("127.0.0.1", service.port) + b"early")
            assert read_exactly(sock, 12)[:4] == b"\5\0\5\0"
            assert read_exactly(sock, 5) == b"early"


def test_r23_a_server_that_says_nothing(server: RustProxyServer) -> None:
    """503, or SOCKS 01, after the time to connect; the target was never asked for."""
    server.delays = [LONG] * 50
    with through(server, "--connect-timeout", units(5)) as proxy:
        started = time.monotonic()
        assert connect_status(proxy, "127.0.0.1:1") == 503
        assert socks_code(proxy, "127.0.0.1", 1) == 1
        with connect(proxy.port) as sock:
            sock.sendall(get(1))
            assert read_head(sock)[0] == 503
        assert 14.9 * UNIT <= time.monotonic() - started < LONG
        proxy.wait_for("no pooled connection in time")
    server.delays = []


def test_r23_a_handshake_has_an_end(server: RustProxyServer) -> None:
    server.delays = [LONG]
    options = ("--handshake-timeout", units(5), "--retry", "1")
    with through(server, *options, "--connect-timeout", "30s") as proxy:
        assert socks_code(proxy, "127.0.0.1", 1) == 1
        proxy.wait_for("no answer to the upgrade within")


def test_r24_a_pooled_stream_begins_at_once(
    server: RustProxyServer, service: Service
) -> None:
    """No packet waits for a delayed ACK, which takes 40 ms."""

    def one(proxy: Fastws) -> float:
        with connect(proxy.port) as sock:
            sock.sendall(NO_LOGIN)
            assert read_exactly(sock, 2) == b"\5\0"
            started = time.monotonic()
            sock.sendall(request("127.0.0.1", service.port) + b"x")
            assert read_exactly(sock, 11)[-1:] == b"x"
            spent = time.monotonic() - started
        settle(server, 1)
        return spent

    with through(server) as proxy:
        once(proxy, service.port)
        for _ in range(20):  # at first Linux delays no acknowledgement
            one(proxy)
        assert never_waits_for_an_ack(lambda: one(proxy))
        assert len(server.conns) == 1


@pytest.mark.parametrize(
    "count", [100, pytest.param(500, marks=pytest.mark.slow)], ids=str
)
def test_r25_many_at_once(
    server: RustProxyServer, service: Service, count: int
) -> None:
    """Each stream has a WebSocket; every byte is its own."""
    errors: list[BaseException] = []
    gate = threading.Barrier(count)

    def run(number: int) -> None:
        try:
            with socks(proxy, service.port) as sock:
                sock.settimeout(10 * LONG)
                assert ask(sock, b"%08d" % number) == b"%08d" % number
                gate.wait(10 * LONG)
                pump_through(sock, 20_000, number)
        except BaseException as error:
            errors.append(error)
            gate.abort()

    with through(server, "--connect-timeout", "60s") as proxy:
        threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10 * LONG)
        assert errors == []
        settle(server, 10)
        assert len(server.conns) == count
