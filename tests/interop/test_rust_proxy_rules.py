"""``fastws proxy-server`` with rust-proxy's clients: odd input, rules 13.3.4-7."""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.cli import Fastws, eventually
from tests.support.rawws import PING, PONG, close, frame
from tests.support.rust_proxy import (
    CLOSE,
    RustProxyClient,
    opened,
    proxy_server,
)
from tests.support.servers import black_hole, closing
from tests.support.services import (
    Service,
    read_exactly,
    read_to_end,
)
from tests.support.timing import SHORT, UNIT, units

pytestmark = [pytest.mark.e2e, pytest.mark.interop]


@pytest.fixture(scope="module")
def server() -> Iterator[Fastws]:
    with proxy_server() as process:
        yield process


# -- section 10: odd input ---------------------------------------------------------


def kinds(port: int) -> dict[str, bytes]:
    """Messages that the codec has no word for."""
    number = port.to_bytes(2, "little")
    return {
        "empty message": frame(2, b""),
        "empty data": frame(2, b"\2"),
        "unknown kind": frame(2, b"\4abc"),
        "kind zero": frame(2, b"\0"),
        "text": frame(1, b"hello"),
        "text like a signal": frame(1, b"F"),
        "close frame": close(1000),
        "connect without address": frame(2, b"\1"),
        "unknown address type": frame(2, b"\1\2" + number + b"abcd"),
        "short address": frame(2, b"\1\1" + number + b"\x7f\0\0"),
        "long address": frame(2, b"\1\1" + number + b"\x7f\0\0\1\0"),
        "short IPv6 address": frame(2, b"\1\4" + number + bytes(15)),
        "no name": frame(2, b"\1\3" + number),
        "name with a space": frame(2, b"\1\3" + number + b"a b"),
        "name that is no UTF-8": frame(2, b"\1\3" + number + b"\xff\xfe"),
        "name too long": frame(2, b"\1\3" + number + b"a" * 256),
        "enormous connect": frame(2, b"\1\3" + number + b"a" * 100_000),
        "close with more": frame(2, b"\3\0"),
        "unmasked": frame(2, b"\3", key=None),
        "reserved bit": frame(2, b"\3", rsv=4),
    }


@pytest.mark.parametrize("name", kinds(0))
def test_rule_13_3_7_what_is_no_packet_ends_a_waiting_connection(
    server: Fastws, name: str
) -> None:
    with opened(server.port) as client:
        client.sock.sendall(kinds(7001)[name])
        assert ends(client)


@pytest.mark.parametrize("name", kinds(0))
def test_section_10_what_is_no_packet_ends_stream_and_target(
    server: Fastws, name: str
) -> None:
    """No user waits for ever: the target is reset, and so is the connection."""
    ended: list[str] = []

    def greet(sock: Any) -> None:
        sock.sendall(b"hello")
        try:
            ended.append(f"EOF after {read_to_end(sock)!r}")
        except ConnectionResetError:
            ended.append("reset")

    with Service(greet) as service, opened(server.port) as client:
        client.dial("127.0.0.1", service.port)
        assert client.take_data(5) == b"hello"
        client.sock.sendall(kinds(7001)[name])
        assert ends(client)
        eventually(lambda: ended)
        assert ended == ["reset"]


def test_section_10_connect_while_relaying(server: Fastws, service: Service) -> None:
    with opened(server.port) as client:
        client.dial("127.0.0.1", service.port)
        client.dial("127.0.0.1", service.port)
        assert ends(client)
    server.wait_for("protocol error: Connect out of turn")


def ends(client: RustProxyClient) -> bool:
    """TCP ends without a frame; over TLS with or without close_notify."""
    try:
        return client.is_closed()
    except ssl.SSLError:
        return True


def test_rule_13_3_7_waiting_ignores_data_and_close(
    server: Fastws, service: Service
) -> None:
    """Clients of ours probe with Close; a real one may send what came too late."""
    with opened(server.port) as client:
        for _ in range(3):
            client.say(CLOSE, b"\2late", CLOSE)
            assert client.ask(service.port, b"hello") == b"hello"
        assert client.is_quiet(UNIT)


@pytest.mark.parametrize("relaying", [False, True], ids=["waiting", "relaying"])
def test_section_10_pings_are_answered(
    server: Fastws, service: Service, relaying: bool
) -> None:
    with opened(server.port) as client:
        if relaying:
            client.dial("127.0.0.1", service.port)
        client.send(PING, b"are you there")
        answer = client.frame()
        assert (answer.opcode, answer.payload) == (PONG, b"are you there")
        client.send(PONG, b"")
        if not relaying:
            client.dial("127.0.0.1", service.port)
        client.give(b"hello")
        assert client.take_data(5) == b"hello"


# -- rules 13.3.4 to 13.3.6 --------------------------------------------------------


def test_rule_13_3_4_a_slow_dial_holds_up_nobody(service: Service) -> None:
    port, socks = black_hole()
    with closing(*socks), proxy_server("--connect-timeout", "60s") as server:
        with opened(server.port) as slow, opened(server.port) as fast:
            slow.dial("127.0.0.1", port)
            for _ in range(5):
                assert fast.ask(service.port, b"hello") == b"hello"
            assert slow.is_quiet(UNIT)


@pytest.mark.parametrize(
    ("host", "rule"),
    [
        ("10.0.0.1", "10.0.0.1 is not global, and no --allow names it"),
        ("169.254.169.254", "169.254.169.254 is not global"),
        ("0.0.0.0", "0.0.0.0 is not global"),
        ("::ffff:10.0.0.1", "10.0.0.1 is not global"),
        ("denied.example", "--deny \\*.example"),
        ("127.0.0.2", "--deny 127.0.0.2"),
    ],
)
def test_rule_13_3_4_access_rules_come_before_the_dial(host: str, rule: str) -> None:
    denied = ("--deny", "*.example", "--deny", "127.0.0.2")
    with proxy_server(*denied) as server, opened(server.port) as client:
        client.dial(host, 80)
        assert client.packet() == CLOSE
        server.wait_for(f"WARNING .*: forbidden: .*{rule}")


def test_rule_13_3_6_a_connection_that_waits_too_long_is_closed(
    service: Service,
) -> None:
    with proxy_server("--pool-idle", units(15)) as server:
        with opened(server.port) as client, opened(server.port) as busy:
            busy.dial("127.0.0.1", service.port)
            for _ in range(3):
                assert client.ask(service.port, b"hello") == b"hello"
            assert client.at_end()  # after close_notify
            server.wait_for("WebSocket ended after 3 streams: idle")
            busy.give(b"hello")
            assert busy.take_data(5) == b"hello"


def test_rule_13_3_6_each_stream_begins_the_time_anew(service: Service) -> None:
    with proxy_server("--pool-idle", units(20)) as server:
        with opened(server.port) as client:
            for _ in range(6):
                assert client.ask(service.port, b"hello") == b"hello"
                assert client.is_quiet(5 * UNIT)


def test_rule_13_3_5_draining() -> None:
    """Nobody new comes in; streams go on to their end; then idle ones are closed."""
    started = threading.Event()

    def hold(sock: Any) -> None:
        read_exactly(sock, 1)
        started.set()
        data = read_to_end(sock)
        sock.sendall(data)

    with Service(hold) as service, proxy_server() as server:
        with contextlib.ExitStack() as stack:
            idle = [stack.enter_context(opened(server.port)) for _ in range(4)]
            busy = stack.enter_context(opened(server.port))
            busy.dial("127.0.0.1", service.port)
            busy.give(b"x")
            assert started.wait(SHORT)
            server.signal(15)
            server.wait_for("draining")
            refused(server.port)
            # A rust-proxy client may still use what it has, and again.
            for _ in range(3):
                idle[0].dial("127.0.0.1", service.port)
                idle[0].give(b"xhello")
                idle[0].say(CLOSE)
                assert idle[0].take_until_close() == b"hello"
            assert idle[1].is_quiet(UNIT)
            busy.give(b"the end")
            busy.say(CLOSE)
            assert busy.take_until_close() == b"the end"
            for client in (*idle, busy):
                assert client.at_end()
            assert server.wait() == 0


def refused(port: int) -> None:
    """Wait until nobody listens."""
    deadline = time.monotonic() + SHORT
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), SHORT).close()
        except OSError:
            return
        assert time.monotonic() < deadline
        time.sleep(UNIT / 20)
