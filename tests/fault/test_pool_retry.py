"""Pooled WebSockets of a stranger that are dead when somebody needs them.

A rust-proxy server says nothing about a Connect, so that a dead connection shows only
by ending before anything has come: chapter 11 of its specification.
"""

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.asking import NO_LOGIN, get, reply, request, socks_code
from tests.support.certs import certs, plain_server_context
from tests.support.cli import Fastws, eventually
from tests.support.origin import Origin, read_answer, read_head
from tests.support.rust_proxy_server import Conn, RustProxyServer
from tests.support.servers import free_port
from tests.support.services import (
    Service,
    answer_late,
    ask,
    connect,
    echo,
    ends_with_reset,
    odd_chunks,
    read_exactly,
    read_to_end,
    reset,
)
from tests.support.timing import LONG, UNIT, units
from tests.support.via import once, settle, socks, through

pytestmark = pytest.mark.e2e

RETRIED = "is begun again"


@pytest.fixture
def server() -> Iterator[RustProxyServer]:
    with RustProxyServer() as running:
        yield running


@pytest.fixture(params=[False, True], ids=["ws", "wss"])
def any_server(request: pytest.FixtureRequest) -> Iterator[RustProxyServer]:
    tls = plain_server_context(certs().server) if request.param else None
    with RustProxyServer(tls=tls) as running:
        yield running


@pytest.fixture
def service() -> Iterator[Service]:
    with Service(echo) as running:
        yield running


def fill(proxy: Fastws, server: RustProxyServer, port: int, count: int) -> list[Conn]:
    """``count`` idle connections."""
    streams = [socks(proxy, port) for _ in range(count)]
    for sock in streams:
        assert ask(sock, b"x") == b"x"
        sock.close()
    settle(server, count)
    return server.open


def die_when_used(server: RustProxyServer, conns: list[Conn], how: str) -> None:
    """These connections end at the next Connect; all others serve."""
    server.decide = lambda conn, number: how if conn in conns else "serve"


# -- R16: the server was restarted, or died -------------------------------------------


@pytest.mark.parametrize("is_reset", [False, True], ids=["fin", "reset"])
def test_r16_restarted_with_eight_idle(
    server: RustProxyServer, service: Service, is_reset: bool
) -> None:
    """Their end is heard at once; not one of the next twelve streams meets it."""
    with through(server) as proxy:
        fill(proxy, server, service.port, 8)
        server.kill(reset=is_reset)
        server.restart()
        for _ in range(12):
            once(proxy, service.port)
        assert proxy.count(RETRIED) == 0
        assert len(server.conns) == 9


@pytest.mark.parametrize("how", ["drop", "reset"])
def test_r16_eight_that_look_alive_but_are_dead(
    any_server: RustProxyServer, service: Service, how: str
) -> None:
    """At most two of them are tried, then a fresh one; nobody notices."""
    server = any_server
    with through(server) as proxy:
        die_when_used(server, fill(proxy, server, service.port, 8), how)
        for number in range(12):
            once(proxy, service.port, b"stream %d" % number)
        assert 1 <= proxy.count(RETRIED) <= 2
        assert len(server.conns) in (9, 10)  # a handshake that was overtaken is kept
        assert service.accepted == 8 + 12


def test_r16_twelve_at_once_with_eight_dead(
    server: RustProxyServer, service: Service
) -> None:
    with through(server) as proxy:
        die_when_used(server, fill(proxy, server, service.port, 8), "reset")
        streams = [socks(proxy, service.port) for _ in range(12)]
        for number, sock in enumerate(streams):
            with sock:
                sock.settimeout(LONG)
                assert ask(sock, b"stream %02d" % number) == b"stream %02d" % number
        assert proxy.count(RETRIED) >= 1
        assert service.accepted == 8 + 12


def test_r16_a_server_that_comes_back_in_time(
    server: RustProxyServer, service: Service
) -> None:
    """Handshakes are tried again while their client waits."""
    with through(server, "--retry-delay", units(5)) as proxy:
        fill(proxy, server, service.port, 1)
        server.kill()
        with connect(proxy.port) as sock:
            sock.sendall(NO_LOGIN + request("127.0.0.1", service.port))
            assert read_exactly(sock, 2) == b"\5\0"
            time.sleep(UNIT)  # so that the first handshake is refused
            server.restart()
            assert reply(sock)[0] == 0
            assert ask(sock, b"x") == b"x"


def test_a_server_that_does_not_come_back(server: RustProxyServer) -> None:
    with through(server, "--retry", "2", "--retry-delay", units(1)) as proxy:
        server.kill()
        started = time.monotonic()
        assert socks_code(proxy, "127.0.0.1", 1) == 1
        assert time.monotonic() - started >= 0.9 * UNIT
        proxy.wait_for("connection refused")


# -- what is sent again ----------------------------------------------------------------


def test_bytes_and_end_of_a_client_are_sent_again(
    any_server: RustProxyServer,
) -> None:
    """The first server takes 50 000 bytes and the end, and dies without a word."""
    blob = b"".join(odd_chunks(50_000, 3))
    server = any_server
    with Service(answer_late) as late, through(server) as proxy:
        (first,) = fill_late(proxy, server, late.port)
        die_when_used(server, [first], "mute")
        with socks(proxy, late.port) as sock:
            sock.sendall(blob)
            sock.shutdown(socket.SHUT_WR)
            eventually(lambda: first.packets[-1] == b"\3")
            server.end(first, reset=True)
            count = read_to_end(sock).split()[0]
        assert count == b"50000"
        second = server.conns[1]
        data = b"".join(p[1:] for p in second.packets if p[:1] == b"\2")
        assert data == blob
        assert second.packets[-1] == b"\3"
        assert proxy.count(RETRIED) == 1


def fill_late(proxy: Fastws, server: RustProxyServer, port: int) -> list[Conn]:
    """One idle connection, after a stream to a service that answers late."""
    with socks(proxy, port) as sock:
        sock.shutdown(socket.SHUT_WR)
        read_to_end(sock)
    settle(server, 1)
    return server.open


def test_what_comes_while_another_one_is_sought(
    any_server: RustProxyServer, service: Service
) -> None:
    """The client goes on talking meanwhile; every byte arrives once, in order."""
    blob = b"".join(odd_chunks(300_000, 4))
    server = any_server
    with through(server) as proxy:
        (first,) = fill(proxy, server, service.port, 1)
        die_when_used(server, [first], "mute")
        with socks(proxy, service.port) as sock:
            sock.sendall(blob[:10_000])
            eventually(lambda: sum(map(len, first.packets)) > 10_000)
            server.delays = [5 * UNIT]
            server.end(first, reset=True)
            proxy.wait_for(RETRIED)
            sender = threading.Thread(target=sock.sendall, args=(blob[10_000:],))
            sender.start()
            assert read_exactly(sock, len(blob)) == blob
            sender.join(LONG)


@pytest.mark.parametrize("keep", ["64KiB", "1000", "0"])
def test_more_than_is_kept_is_not_sent_again(
    server: RustProxyServer, service: Service, keep: str
) -> None:
    with through(server, "--retry-data", keep) as proxy:
        (first,) = fill(proxy, server, service.port, 1)
        die_when_used(server, [first], "mute")
        with socks(proxy, service.port) as sock:
            sock.sendall(bytes(70_000))
            eventually(lambda: sum(map(len, first.packets)) > 70_000)
            server.end(first, reset=True)
            assert ends_with_reset(sock)
        assert proxy.count(RETRIED) == 0
        assert len(server.conns) == 1


def test_nothing_is_sent_again_once_something_came(
    any_server: RustProxyServer, service: Service
) -> None:
    server = any_server
    with through(server) as proxy:
        (first,) = fill(proxy, server, service.port, 1)
        with socks(proxy, service.port) as sock:
            assert ask(sock, b"hello") == b"hello"
            server.end(first, reset=True)
            assert ends_with_reset(sock)
        assert proxy.count(RETRIED) == 0
        assert len(server.conns) == 1


def test_a_dead_target_costs_one_fresh_connection(
    server: RustProxyServer, service: Service
) -> None:
    """A used connection may have been dead; a fresh one that ends says it all."""
    with through(server) as proxy:
        fill(proxy, server, service.port, 1)
        with socks(proxy, free_port()) as sock:
            assert ends_with_reset(sock)
        assert len(server.connects) == 3
        assert len(server.conns) == 2


# -- options ---------------------------------------------------------------------------


@pytest.mark.parametrize("says", [b"", b"x"], ids=["silent", "spoke"])
def test_connect_only_stops_once_the_client_has_spoken(
    server: RustProxyServer, service: Service, says: bytes
) -> None:
    with through(server, "--retry-mode", "connect-only") as proxy:
        (first,) = fill(proxy, server, service.port, 1)
        die_when_used(server, [first], "mute")
        with socks(proxy, service.port) as sock:
            sock.sendall(says)
            eventually(lambda: len(first.packets) >= 3 + 1 + len(says))
            server.end(first, reset=True)
            if says:
                assert ends_with_reset(sock)
            else:
                proxy.wait_for(RETRIED)
                assert ask(sock, b"later") == b"later"
        assert proxy.count(RETRIED) == (not says)


def test_no_retry_at_all(server: RustProxyServer, service: Service) -> None:
    with through(server, "--retry-pooled", "0") as proxy:
        die_when_used(server, fill(proxy, server, service.port, 3), "reset")
        with socks(proxy, service.port) as sock:
            assert ends_with_reset(sock)
        assert proxy.count(RETRIED) == 0


# -- HTTP ------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_requests_are_repeated_only_if_idempotent(
    server: RustProxyServer, method: str
) -> None:
    """RFC 9110 section 9.2.2; the server may have passed it on before it died."""
    with Origin() as origin, through(server) as proxy:
        with connect(proxy.port) as sock:
            sock.sendall(get(origin.port))
            assert read_answer(sock)[0] == 200
        settle(server, 1)
        (first,) = server.open
        die_when_used(server, [first], "mute")
        with connect(proxy.port) as sock:
            head = get(origin.port, "127.0.0.1", "/x", "Content-Length: 0")
            sock.sendall(head.replace(b"GET", method.encode(), 1))
            eventually(lambda: first.is_mute and first.packets[-1][:1] == b"\2")
            server.end(first, reset=True)
            if method == "GET":
                assert read_answer(sock)[1]["path"] == "/x"
            else:
                assert read_head(sock)[0] == 502
        assert proxy.count(RETRIED) == (method == "GET")
        assert len(origin.seen) == 1 + (method == "GET")


# -- while there is no connection ------------------------------------------------------


def in_limbo(proxy: Fastws, server: RustProxyServer, port: int) -> Any:
    """A stream whose connection has died, while the next one is not there yet."""
    (first,) = fill(proxy, server, port, 1)
    die_when_used(server, [first], "reset")
    server.delays = [LONG]
    sock = socks(proxy, port)
    sock.sendall(b"x")
    proxy.wait_for(RETRIED)
    eventually(lambda: not server.delays)
    return sock


def test_a_client_that_leaves_meanwhile(
    server: RustProxyServer, service: Service
) -> None:
    with through(server) as proxy:
        reset(in_limbo(proxy, server, service.port))
        proxy.wait_for(r"client: reset")
        assert len(server.connects) == 2


def test_no_other_connection_in_time(server: RustProxyServer, service: Service) -> None:
    with through(server, "--connect-timeout", units(20)) as proxy:
        with in_limbo(proxy, server, service.port) as sock:
            assert ends_with_reset(sock)
        proxy.wait_for("no pooled connection in time")


def test_a_drain_meanwhile(server: RustProxyServer, service: Service) -> None:
    with through(server, "--drain-timeout", units(2)) as proxy:
        sock = in_limbo(proxy, server, service.port)
    assert ends_with_reset(sock)


# -- R25 -------------------------------------------------------------------------------


def test_r25_a_server_that_dies_with_a_hundred_streams(
    server: RustProxyServer, service: Service
) -> None:
    """All of them end with an error, none hangs, and the pool recovers."""
    with through(server) as proxy:
        streams = [socks(proxy, service.port) for _ in range(100)]
        for sock in streams:
            assert ask(sock, b"x") == b"x"
        server.kill(reset=True)
        for sock in streams:
            with sock:
                sock.settimeout(LONG)
                assert ends_with_reset(sock)
        server.restart()
        for _ in range(3):
            once(proxy, service.port)
        settle(server, 1)
