"""fastws proxy --via a rust-proxy server: the R rows of its checklist, client side.

The server is tests/support/rust_proxy_server.py, which does what the specification
saw the real program do; the bytes are those of its worked examples.
"""

import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.asking import (
    connect_head,
    connect_status,
    get,
    socks_code,
)
from tests.support.certs import certs, plain_server_context
from tests.support.cli import Fastws, eventually
from tests.support.origin import Origin, forward_proxy, read_answer, read_head
from tests.support.rust_proxy_server import RustProxyServer
from tests.support.servers import free_port
from tests.support.services import (
    Service,
    answer_late,
    ask,
    connect,
    ends_with_reset,
    pump_through,
    read_exactly,
    read_to_end,
    reset,
)
from tests.support.timing import LONG, SHORT, UNIT, units
from tests.support.via import RUST, once, settle, socks, through

pytestmark = pytest.mark.e2e


@pytest.fixture
def server() -> Iterator[RustProxyServer]:
    with RustProxyServer() as running:
        yield running


# -- the wire ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "port", "packet"),
    [
        ("127.0.0.1", 7001, "01 01 59 1b 7f 00 00 01"),
        ("localhost", 7001, "01 03 59 1b 6c 6f 63 61 6c 68 6f 73 74"),
        ("::1", 7001, "01 04 59 1b" + " 00" * 15 + " 01"),
        ("example.com", 443, "01 03 bb 01 65 78 61 6d 70 6c 65 2e 63 6f 6d"),
        ("192.168.1.100", 22, "01 01 16 00 c0 a8 01 64"),
    ],
)
def test_r1_each_kind_of_address(
    server: RustProxyServer, host: str, port: int, packet: str
) -> None:
    server.decide = lambda conn, number: "mute"
    with through(server) as proxy, socks(proxy, port, host) as sock:
        sock.sendall(b"ping-data")
        data = bytes.fromhex("02 70 69 6e 67 2d 64 61 74 61")
        expected = [bytes.fromhex(packet), data]
        eventually(lambda: server.conns and server.conns[0].packets == expected)
        sock.shutdown(socket.SHUT_WR)
        eventually(lambda: server.conns[0].packets == [*expected, b"\3"])


def test_r3_the_token_is_sent_bare(server: RustProxyServer, service: Service) -> None:
    with through(server) as proxy:
        once(proxy, service.port)
    lines = server.conns[0].head.decode().split("\r\n")
    assert "Authorization: tok" in lines
    assert not any(line.lower().startswith("x-fastws") for line in lines)


def test_r3_a_wrong_token_is_named(server: RustProxyServer) -> None:
    url = f"ws://127.0.0.1:{server.port}/"
    with forward_proxy("--via", url, *RUST, "--via-token", "no") as proxy:
        assert socks_code(proxy, "127.0.0.1", 1) == 1
        proxy.wait_for("closed before a whole HTTP head came")
        assert connect_status(proxy, "127.0.0.1:1") == 502
    assert "'no'" not in proxy.text


@pytest.mark.parametrize("path", ["/", "/some/path?x=1"])
def test_r4_any_path(server: RustProxyServer, service: Service, path: str) -> None:
    url = f"ws://127.0.0.1:{server.port}{path}"
    with forward_proxy("--via", url, *RUST) as proxy:
        once(proxy, service.port)
    assert server.conns[0].head.startswith(f"GET {path} HTTP/1.1\r\n".encode())
    assert f"Host: 127.0.0.1:{server.port}".encode() in server.conns[0].head


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_r5_tls_by_name_and_by_address(service: Service, host: str) -> None:
    """An IP literal works too, which the real client cannot do."""
    with RustProxyServer(tls=plain_server_context(certs().server)) as server:
        url = f"wss://{host}:{server.port}/"
        with forward_proxy("--via", url, *RUST, "--ca", certs().ca) as proxy:
            for _ in range(3):
                once(proxy, service.port)
            assert len(server.conns) == 1


def test_r5_tls_is_verified() -> None:
    with RustProxyServer(tls=plain_server_context(certs().server)) as server:
        url = f"wss://localhost:{server.port}/"
        with forward_proxy("--via", url, *RUST) as proxy:
            assert socks_code(proxy, "127.0.0.1", 1) == 1
            proxy.wait_for("unknown CA")
        with forward_proxy("--via", url, *RUST, "--insecure") as proxy:
            server.decide = lambda conn, number: "mute"
            socks(proxy, 1).close()
            proxy.wait_for("NOT verified", start=0)


# -- streams -----------------------------------------------------------------------


def test_r7_twenty_streams_in_one_connection(
    server: RustProxyServer, service: Service
) -> None:
    with through(server) as proxy:
        for number in range(20):
            once(proxy, service.port, b"stream %d" % number)
        assert len(server.conns) == 1
        assert len(server.connects) == 20
        closes = [packet for packet in server.conns[0].packets if packet == b"\3"]
        assert len(closes) == 20
    assert set(server.conns[0].opcodes) == {2}


def test_r8_half_close(server: RustProxyServer) -> None:
    """The target answers only after the end of its input."""
    with Service(answer_late) as late, through(server) as proxy:
        with socks(proxy, late.port) as sock:
            sock.sendall(b"12345")
            sock.shutdown(socket.SHUT_WR)
            assert read_to_end(sock).startswith(b"5 5994471abb01112afcc18159f6cc74b4")
        settle(server, 1)
        assert server.conns[0].packets[1:] == [b"\x0212345", b"\3"]


def test_r9_the_target_ends_first(server: RustProxyServer) -> None:
    """1 MiB and an end, a hundred times; all of it arrives, in one connection."""
    blob = bytes(range(256)) * 4096

    def give(sock: Any) -> None:
        sock.sendall(blob)
        sock.shutdown(socket.SHUT_WR)
        read_to_end(sock)

    with Service(give) as giver, through(server) as proxy:
        for _ in range(100):
            with socks(proxy, giver.port) as sock:
                assert read_to_end(sock) == blob
            settle(server, 1)
        assert len(server.conns) == 1


def test_r17_packets_are_short_enough(
    server: RustProxyServer, service: Service
) -> None:
    with through(server) as proxy, socks(proxy, service.port) as sock:
        pump_through(sock, 4 << 20, 5)
        assert server.conns[0].longest == 2049


def test_r17_longer_packets_if_asked_for(
    server: RustProxyServer, service: Service
) -> None:
    with through(server, "--max-data", "1000") as proxy:
        with socks(proxy, service.port) as sock:
            pump_through(sock, 100_000, 6)
        assert server.conns[0].longest == 1001


def test_r18_nothing_but_binary_messages(
    server: RustProxyServer, service: Service
) -> None:
    """However long it lasts: idle with probes, busy, and at the end."""
    with through(server, "--pool-probe", units(2), "--ping", units(2)) as proxy:
        with socks(proxy, service.port) as sock:
            pump_through(sock, 1 << 20, 7, end=False)
            time.sleep(10 * UNIT)  # as long as it takes: nothing must come
        settle(server, 1)
        quiet = len(server.conns[0].packets)
        eventually(lambda: len(server.conns[0].packets) >= quiet + 3, LONG)
        assert set(server.conns[0].packets[quiet:]) == {b"\3"}
        once(proxy, service.port)
    assert set(server.conns[0].opcodes) == {2}
    assert len(server.conns) == 1


def test_r18_a_probe_never_comes_within_a_stream(
    server: RustProxyServer, service: Service
) -> None:
    with through(server, "--pool-probe", units(1)) as proxy:
        with socks(proxy, service.port) as sock:
            for _ in range(10):
                assert ask(sock, b"x") == b"x"
                time.sleep(UNIT)
            assert b"\3" not in server.conns[0].packets
            assert ask(sock, b"y") == b"y"


def test_r19_a_target_that_refuses_ends_the_stream(server: RustProxyServer) -> None:
    """Nothing else tells of it: the server drops a fresh connection."""
    with through(server) as proxy:
        started = time.monotonic()
        with socks(proxy, free_port()) as sock:
            assert ends_with_reset(sock)
        assert time.monotonic() - started < SHORT
        assert len(server.connects) == 1  # a dead target is not tried again


def test_r20_a_target_that_resets(server: RustProxyServer) -> None:
    """The server never says so: after our Close its own has to come in time."""

    def break_off(sock: Any) -> None:
        read_exactly(sock, 5)
        reset(sock)

    with Service(break_off) as breaker:
        with through(server, "--linger", units(5)) as proxy:
            with socks(proxy, breaker.port) as sock:
                sock.sendall(b"hello")
                sock.shutdown(socket.SHUT_WR)
                assert ends_with_reset(sock)
            settle(server, 0)


# -- HTTP, forwards, the other protocol ----------------------------------------------


def test_requests_in_absolute_form(server: RustProxyServer) -> None:
    with Origin() as origin, through(server) as proxy:
        for _ in range(3):
            with connect(proxy.port) as sock:
                for path in ("/1", "/2"):
                    sock.sendall(get(origin.port, "127.0.0.1", path))
                    status, seen = read_answer(sock)
                    assert (status, seen["path"]) == (200, path)
                where = f"127.0.0.1:{origin.port}"
                head = f"POST http://{where}/p HTTP/1.1\r\nHost: {where}\r\n"
                body = "x" * 100_000
                length = f"Content-Length: {len(body)}\r\n\r\n"
                sock.sendall((head + length + body).encode())
                assert read_answer(sock)[1]["body"] == body
            settle(server, 1)
        assert len(server.conns) == 1
        assert len(server.connects) == 3


def test_forward_goes_through_the_pool(
    server: RustProxyServer, service: Service
) -> None:
    url = f"ws://127.0.0.1:{server.port}/"
    forward = f"127.0.0.1:0=localhost:{service.port}"
    with Fastws("proxy", "--forward", forward, "--via", url, *RUST) as proxy:
        for _ in range(3):
            with connect(proxy.port) as sock:
                pump_through(sock, 300_000, 8)
        settle(server, 1)
    name = b"\1\3" + service.port.to_bytes(2, "little") + b"localhost"
    assert server.connects == [name] * 3
    assert len(server.conns) == 1


def test_who_is_no_fastws_server_is_not_used_as_one(server: RustProxyServer) -> None:
    server.token = "Bearer tok"
    url = f"ws://127.0.0.1:{server.port}/"
    with forward_proxy("--via", url, "--via-token", "tok") as proxy:
        with connect(proxy.port) as sock:
            sock.sendall(connect_head("127.0.0.1:1"))
            assert read_head(sock)[0] == 502
        proxy.wait_for("say --via-protocol rust-proxy")
    assert b"X-Fastws: pool/1; id=" in server.conns[0].head
    assert server.connects == []


def test_the_token_is_read_again(
    server: RustProxyServer, service: Service, tmp_path: Path
) -> None:
    """SIGHUP; connections that are open already go on."""
    file = tmp_path / "token"
    file.write_text("tok\n")
    url = f"ws://127.0.0.1:{server.port}/"
    options = ("--via", url, "--via-protocol", "rust-proxy")
    with forward_proxy(*options, FASTWS_VIA_TOKEN_FILE=str(file)) as proxy:
        with socks(proxy, service.port) as old:
            assert ask(old, b"x") == b"x"
            server.token = "new"
            assert socks_code(proxy, "127.0.0.1", service.port) == 1
            file.write_text("new\n")
            proxy.signal(signal.SIGHUP)
            proxy.wait_for("value of --via-token")
            once(proxy, service.port)
            assert ask(old, b"y") == b"y"
    assert "Authorization: new" in server.conns[1].head.decode()
