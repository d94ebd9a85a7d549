"""Where a command listens and what it connects to, in every way of writing it."""

import socket
from pathlib import Path

import pytest

from tests.support import rawws
from tests.support.certs import certs, plain_client_context, plain_server_context
from tests.support.cli import Fastws, stw, tunnel, wts
from tests.support.machine import has_ipv6, needs_ipv6
from tests.support.services import Service, ask, connect, echo, pump_through
from tests.support.timing import LONG

pytestmark = pytest.mark.e2e

ECHO_SIZE = 4 << 20
LARGE = 100_000_000


def upgrades(host: str, port: int) -> bool:
    with connect(port, host) as sock:
        sock.sendall(rawws.request(Host="localhost"))
        return rawws.Reader(sock).head().status == 101


def unix_connect(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(LONG)
    sock.connect(str(path))
    return sock


# LISTEN


def test_bare_port_is_loopback_only() -> None:
    with Service(echo) as service:
        with Fastws("wts", "0", f"127.0.0.1:{service.port}") as process:
            assert upgrades("127.0.0.1", process.port)
            if has_ipv6():
                assert upgrades("::1", process.port)
            other = own_address()
            if other:
                with pytest.raises(ConnectionRefusedError):
                    connect(process.port, other)


def own_address() -> str | None:
    """An address of this machine that is not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))  # TEST-NET-1: nothing is sent
        except OSError:
            return None
        address = str(sock.getsockname()[0])
    return None if address.startswith("127.") else address


@pytest.mark.parametrize("text", [":0", "*:0"])
def test_colon_port_is_every_interface(text: str) -> None:
    with Service(echo) as service:
        with Fastws("wts", text, f"127.0.0.1:{service.port}") as process:
            assert process.endpoints[0].startswith("0.0.0.0:")
            assert upgrades("127.0.0.1", process.port)
            assert upgrades(own_address() or "127.0.0.1", process.port)
            if has_ipv6():
                assert process.endpoints[1] == f"[::]:{process.port}"
                assert upgrades("::1", process.port)


@needs_ipv6
def test_ipv6_literal() -> None:
    with Service(echo) as service:
        with Fastws("wts", "[::1]:0", f"127.0.0.1:{service.port}") as process:
            assert process.endpoints == [f"[::1]:{process.port}"]
            assert upgrades("::1", process.port)
            with Fastws("stw", "[::1]:0", f"ws://[::1]:{process.port}/") as near:
                with connect(near.port, "::1") as sock:
                    assert ask(sock, b"six") == b"six"


def test_unix_listen_and_target(tmp_path: Path) -> None:
    near_path, service_path = tmp_path / "near", tmp_path / "service"
    with Service(echo, path=str(service_path)):
        with wts(f"unix:{service_path}") as far:
            with Fastws("stw", f"unix:{near_path}", far.url) as near:
                assert near.endpoints == [f"unix:{near_path}"]
                with unix_connect(near_path) as sock:
                    pump_through(sock, ECHO_SIZE, seed=5)
                near.wait_for(r"stw unix id=.* closed$")
                far.wait_for(r" closed$")
    assert not near_path.exists(), "the socket file is removed"


def test_wts_listens_on_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "ws"
    with Service(echo) as service:
        with Fastws("wts", f"unix:{path}", f"127.0.0.1:{service.port}"):
            with unix_connect(path) as sock:
                sock.sendall(rawws.request())
                peer = rawws.Reader(sock)
                assert peer.head().status == 101
                sock.sendall(rawws.frame(rawws.BINARY, b"hello"))
                assert peer.message(5) == b"hello"


def test_inherited_descriptor() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, Service(echo) as service:
        fd, port = listener.fileno(), listener.getsockname()[1]
        where = f"127.0.0.1:{service.port}"
        with Fastws("wts", f"fd:{fd}", where, fds=(fd,)) as process:
            assert process.endpoints == [f"127.0.0.1:{port}"]
            assert upgrades("127.0.0.1", port)


# TARGET and URL


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "tcp://127.0.0.1:{}", "localhost:{}"])
def test_tcp_target(form: str) -> None:
    with Service(echo) as service, tunnel(form.format(service.port)) as (near, _):
        with connect(near.port) as sock:
            assert ask(sock, b"hello") == b"hello"


def test_tls_target() -> None:
    context = plain_server_context(certs().server)
    with Service(echo, tls=context) as service:
        with wts(f"tls://localhost:{service.port}", "--ca", certs().ca) as far:
            with stw(far.url) as near, connect(near.port) as sock:
                assert pump_through(sock, ECHO_SIZE, seed=6, end=False)


def test_stw_resolves_a_name() -> None:
    with Service(echo) as service, wts(service.port) as far:
        with stw(f"ws://localhost:{far.port}/") as near:
            with connect(near.port) as sock:
                assert ask(sock, b"hello") == b"hello"


# Bulk over every kind of transport


def wss_round_trip(total: int) -> None:
    """Plain TCP, wss between the two, and TLS to the service."""
    context = plain_server_context(certs().server)
    with Service(echo, tls=context) as service:
        options = ("--cert", certs().server, "--ca", certs().ca)
        with wts(f"tls://localhost:{service.port}", *options) as far:
            url = f"wss://localhost:{far.port}/"
            with stw(url, "--ca", certs().ca) as near:
                with connect(near.port) as sock:
                    pump_through(sock, total, seed=8, end=False)


def test_wss_and_tls_target_are_transparent() -> None:
    wss_round_trip(16 << 20)


@pytest.mark.slow
def test_wss_and_tls_target_are_transparent_for_100_mb() -> None:
    wss_round_trip(LARGE)


@pytest.mark.slow
def test_unix_is_transparent_for_100_mb(tmp_path: Path) -> None:
    near_path, service_path = tmp_path / "near", tmp_path / "service"
    with Service(echo, path=str(service_path)):
        with wts(f"unix:{service_path}") as far:
            with Fastws("stw", f"unix:{near_path}", far.url):
                with unix_connect(near_path) as sock:
                    pump_through(sock, LARGE, seed=50)


def test_half_close_through_wss() -> None:
    with Service(echo) as service:
        with wts(service.port, "--cert", certs().server) as far:
            url = f"wss://localhost:{far.port}/"
            with stw(url, "--ca", certs().ca) as near:
                with connect(near.port) as sock:
                    pump_through(sock, ECHO_SIZE, seed=9)
                near.wait_for("closed$")
                far.wait_for("closed$")


def test_raw_tls_client_of_wts() -> None:
    context = plain_client_context()
    with Service(echo) as service:
        with wts(service.port, "--cert", certs().server) as far:
            plain = connect(far.port)
            with context.wrap_socket(plain, server_hostname="localhost") as sock:
                sock.sendall(rawws.request())
                peer = rawws.Reader(sock)
                assert peer.head().status == 101
                sock.sendall(rawws.frame(rawws.BINARY, b"hello"))
                assert peer.message(5) == b"hello"
                sock.sendall(rawws.close(1000))
                assert peer.frame().code == 1000
                assert peer.at_end()
