"""PROXY headers towards wts, on plain and TLS ports, and from wts to its target.

With them what stands on the same sockets: plain clients on a TLS port.
"""

import contextlib
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import rawws
from tests.support.certs import certs, plain_client_context
from tests.support.cli import (
    Fastws,
    clean_environment,
    eventually,
    run_fastws,
    stw,
    wts,
)
from tests.support.rawws import BINARY
from tests.support.services import (
    Bystander,
    Service,
    ask,
    connect,
    echo,
    read_exactly,
    read_to_end,
)
from tests.support.timing import LONG, UNIT, units

pytestmark = pytest.mark.e2e

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V1 = b"PROXY TCP4 203.0.113.9 198.51.100.1 4711 443\r\n"
V2 = SIGNATURE + bytes.fromhex("2111000ccb007109c6336401126701bb")
V6 = b"PROXY TCP6 2a00::5 2a00::1 4711 443\r\n"
LOCAL = SIGNATURE + b"\x20\x00\x00\x00"
PAIR = ("--cert", certs().cert, "--key", certs().key)


@pytest.fixture(scope="module")
def requiring(service: Service) -> Iterator[Fastws]:
    options = ("--proxy-protocol", "require", "--handshake-timeout", units(20))
    with wts(service.port, *options) as process:
        yield process


@pytest.fixture(scope="module")
def secure(service: Service) -> Iterator[Fastws]:
    """TLS, plain clients too, and PROXY headers before either."""
    options = ("--proxy-protocol", "accept", "--plain-too", *PAIR)
    with wts(service.port, *options, "--handshake-timeout", units(20)) as process:
        yield process


def upgrade(sock: Any) -> rawws.Peer:
    sock.sendall(rawws.request())
    peer = rawws.Peer(sock, rawws.Answer(0, {}, ""))
    peer.answer = peer.head()
    assert peer.answer.status == 101
    return peer


def works(sock: Any) -> None:
    peer = upgrade(sock)
    peer.send(BINARY, b"hello")
    assert peer.message(5) == b"hello"


def over_tls(sock: socket.socket) -> ssl.SSLSocket:
    return plain_client_context().wrap_socket(sock, server_hostname="localhost")


@pytest.mark.parametrize(
    ("header", "client"),
    [(V1, "203.0.113.9:4711"), (V2, "203.0.113.9:4711"), (V6, "[2a00::5]:4711")],
    ids=["v1", "v2", "v6"],
)
@pytest.mark.parametrize("at_once", [True, False], ids=["at-once", "byte-by-byte"])
def test_header_names_the_client(
    requiring: Fastws, header: bytes, client: str, at_once: bool
) -> None:
    requiring.mark = len(requiring.lines)
    with connect(requiring.port) as sock:
        if at_once:
            sock.sendall(header + rawws.request())
            assert rawws.Reader(sock).head().status == 101
        else:
            for byte in header:
                sock.sendall(bytes([byte]))
            works(sock)
    requiring.wait_for(f"INFO +wts {client.replace('[', '.').replace(']', '.')} id=")


@pytest.mark.parametrize("header", [LOCAL, b"PROXY UNKNOWN\r\n"], ids=["v2", "v1"])
def test_header_without_a_client(requiring: Fastws, header: bytes) -> None:
    """Health checks of front ends: their own address counts."""
    with connect(requiring.port) as sock:
        sock.sendall(header + b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert rawws.Reader(sock).head().status == 200


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (rawws.request(), r"no PROXY header: b'GET / HTTP"),
        (b"PROXY TCP4 1.2.3.4 5 6 7\r\n" + rawws.request(), "malformed address"),
        (b"PROXY TCP4 1.2.3.4\r\n" + rawws.request(), "malformed PROXY header"),
        (b"PROXY UNKNOWN " + b"x" * 200, "PROXY header over 107 bytes"),
        (SIGNATURE + b"\x21\x11\xff\xff", "65551 bytes, over 4096"),
        (SIGNATURE + b"\x31\x11\x00\x0c", "unknown version or command 0x31"),
        (b"\0" * 100, "no PROXY header"),
    ],
    ids=["missing", "address", "fields", "long", "long-v2", "version", "garbage"],
)
def test_bad_headers(requiring: Fastws, data: bytes, reason: str) -> None:
    requiring.mark = len(requiring.lines)
    with connect(requiring.port) as other:
        other.sendall(V1)
        peer = upgrade(other)

        def say(data: bytes) -> bytes:
            peer.send(BINARY, data)
            return peer.message(len(data))

        bystander = Bystander(say)
        bystander.check()
        answer, _ = rawws.exchange(requiring.port, data)
        assert answer.status == 400
        requiring.wait_for(rf"WARNING wts 127\.0\.0\.1:\d+: .*{reason}")
        bystander.check()


@pytest.mark.parametrize("data", [b"", b"PROXY TCP4 1.2", SIGNATURE], ids=repr)
def test_slow_header(requiring: Fastws, data: bytes) -> None:
    requiring.mark = len(requiring.lines)
    answer, _ = rawws.exchange(requiring.port, data)
    assert answer.status == 408
    requiring.wait_for("no whole PROXY header within .*--handshake-timeout")


def test_accept_takes_both(service: Service) -> None:
    with wts(service.port, "--proxy-protocol", "accept") as process:
        for header in (b"", V1, V2):
            with connect(process.port) as sock:
                sock.sendall(header)
                works(sock)
        process.wait_for(r"wts 127\.0\.0\.1:\d+ id=")
        eventually(lambda: process.count(r"wts 203\.0\.113\.9:4711 id=") == 2)
        # A method that begins like a header.
        answer, _ = rawws.exchange(process.port, b"PUT / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer.status == 405


def test_off_knows_no_headers(service: Service) -> None:
    with wts(service.port) as process:
        answer, _ = rawws.exchange(process.port, V1 + rawws.request())
        assert answer.status in (400, 505)
        assert process.count("203.0.113.9:4711") == 0


@pytest.mark.parametrize("mode", ["accept", "require"])
def test_headers_of_untrusted_peers_are_refused(service: Service, mode: str) -> None:
    options = ("--proxy-protocol", mode, "--trust", "10.0.0.0/8")
    with wts(service.port, *options) as process:
        answer, _ = rawws.exchange(process.port, V1 + rawws.request())
        assert answer.status == 400
        process.wait_for("WARNING wts 127.*which --trust does not name")
        answer, _ = rawws.exchange(
            process.port, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        )
        assert answer.status == (200 if mode == "accept" else 400)


def test_believed_header_and_forwarded_field_are_a_chain(service: Service) -> None:
    """HAProxy says who the CDN is, the CDN's field who the client is."""
    trust = ("--trust", "127.0.0.1", "--trust", "203.0.113.0/24")
    with wts(service.port, *trust, "--proxy-protocol", "require") as process:
        with connect(process.port) as sock:
            fields = {"X_Forwarded_For": "6.6.6.6, 192.0.2.1"}
            sock.sendall(V1 + rawws.request(**fields))
            assert rawws.Reader(sock).head().status == 101
        process.wait_for(r"wts 192\.0\.2\.1 id=")


# TLS: the header comes before the handshake


@pytest.mark.parametrize("header", [b"", V1, V2], ids=["none", "v1", "v2"])
@pytest.mark.parametrize("tls", [True, False], ids=["tls", "plain"])
def test_before_tls_and_plain_on_one_port(
    secure: Fastws, header: bytes, tls: bool
) -> None:
    secure.mark = len(secure.lines)
    with connect(secure.port) as sock:
        sock.sendall(header)
        if tls:
            with over_tls(sock) as wrapped:
                works(wrapped)
        else:
            works(sock)
    client = "203.0.113.9:4711" if header else r"127\.0\.0\.1:\d+"
    secure.wait_for(f"INFO +wts {client} id=")


def test_header_in_pieces_before_tls(secure: Fastws) -> None:
    with connect(secure.port) as sock:
        for byte in V2:
            sock.sendall(bytes([byte]))
        with over_tls(sock) as wrapped:
            works(wrapped)


def test_malformed_header_before_tls(secure: Fastws) -> None:
    secure.mark = len(secure.lines)
    with connect(secure.port) as sock:
        sock.sendall(b"PROXY TCP4 nonsense\r\n")
        with contextlib.suppress(ConnectionResetError):  # of what was not read
            assert read_to_end(sock) == b""
    secure.wait_for("wts 127.*malformed PROXY header")


@pytest.mark.parametrize("data", [b"", b"PROXY TCP4 1.2"], ids=["nothing", "part"])
def test_slow_start_on_a_tls_port(secure: Fastws, data: bytes) -> None:
    secure.mark = len(secure.lines)
    with connect(secure.port) as sock:
        sock.sendall(data)
        with contextlib.suppress(ConnectionResetError):  # of what was not read
            assert read_to_end(sock) == b""
    secure.wait_for("wts 127.*no whole PROXY header within .*--handshake-timeout")
    with connect(secure.port) as sock:
        works(sock)


def test_garbage_is_no_tls_and_no_http(secure: Fastws) -> None:
    secure.mark = len(secure.lines)
    answer, _ = rawws.exchange(secure.port, b"\0\1\2\3" * 10)
    assert answer.status == 400
    secure.wait_for("not an HTTP/1 request")


def test_without_plain_too_a_tls_port_is_only_that(service: Service) -> None:
    with wts(service.port, *PAIR) as process:
        with connect(process.port) as sock:
            sock.sendall(rawws.request())
            assert b"HTTP/1.1 101" not in read_to_end(sock)
        process.wait_for("TLS handshake failed: the peer speaks plain HTTP")


def test_plain_too_needs_a_certificate() -> None:
    done = run_fastws("wts", "0", "127.0.0.1:9", "--plain-too")
    assert done.returncode == 78
    assert "--plain-too: needs --cert: without TLS all is plain" in done.stderr


@pytest.mark.parametrize(
    "command", [("wts", "0", "127.0.0.1:9"), ("proxy-server", "0", "--no-auth")]
)
def test_plain_too_is_no_way_around_client_certificates(
    command: tuple[str, ...],
) -> None:
    ways = ("--plain-too", "--cert", certs().server, "--client-ca", certs().ca)
    done = run_fastws(*command, *ways)
    assert done.returncode == 78
    assert "--plain-too: contradicts --client-ca: without TLS" in done.stderr


def test_peer_of_a_connection_that_was_handed_over(service: Service) -> None:
    """With inetd: it is the socket's own, and no unix socket's."""
    command = ["wts", "inetd:", f"127.0.0.1:{service.port}", *PAIR, "--plain-too"]
    command += ["--proxy-protocol", "accept", "--trust", "unix"]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with connect(listener.getsockname()[1]) as client:
            given, _ = listener.accept()
            client.sendall(V1 + rawws.request())
            with given:
                done = subprocess.run(
                    [sys.executable, "-m", "fastws", *command],
                    env=clean_environment(),
                    stdin=given,
                    capture_output=True,
                    encoding="utf-8",
                    timeout=LONG,
                    check=False,
                )
    assert "from 127.0.0.1, which --trust does not name" in done.stderr


# --send-proxy-protocol


class Target(Service):
    """Keeps the PROXY header that it hears first, then is an echo."""

    def __init__(self, **how: Any) -> None:
        super().__init__(self._serve_one, **how)

    def _serve_one(self, sock: Any) -> None:
        self.seen.append(read_header(sock))
        echo(sock)


def read_header(sock: Any) -> bytes:
    start = read_exactly(sock, 6)
    if start == b"PROXY ":
        while not start.endswith(b"\r\n"):
            start += read_exactly(sock, 1)
        return start
    start += read_exactly(sock, 10)
    return start + read_exactly(sock, int.from_bytes(start[14:16], "big"))


def test_send_v1() -> None:
    with Target() as target:
        options = ("--send-proxy-protocol", "v1", "--trust", "127.0.0.1")
        with wts(target.port, *options) as process:
            with connect(process.port) as sock:
                ours = sock.getsockname()[1]
                works(sock)
            with connect(process.port) as sock:
                request = rawws.request(X_Forwarded_For="203.0.113.9")
                sock.sendall(request)
                assert rawws.Reader(sock).head().status == 101
                eventually(lambda: len(target.seen) == 2)
            port = process.port
        assert target.seen == [
            f"PROXY TCP4 127.0.0.1 127.0.0.1 {ours} {port}\r\n".encode(),
            f"PROXY TCP4 203.0.113.9 127.0.0.1 0 {port}\r\n".encode(),
        ]


def test_received_header_is_passed_on() -> None:
    options = ("--proxy-protocol", "require", "--send-proxy-protocol", "v2")
    with Target() as target, wts(target.port, *options) as process:
        for header in (V1, V6, LOCAL):
            with connect(process.port) as sock:
                sock.sendall(header)
                works(sock)
        v4, v6, local = target.seen
        assert v4 == V2
        assert v6[:16] == SIGNATURE + b"\x21\x21\x00\x24"
        assert local[16:24] == bytes([127, 0, 0, 1]) * 2


def test_send_comes_before_tls() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certs().server)
    seen = []

    def serve(sock: socket.socket) -> None:
        seen.append(read_header(sock))
        with context.wrap_socket(sock, server_side=True) as wrapped:
            echo(wrapped)

    with Service(serve) as target:
        where = f"tls://localhost:{target.port}"
        options = ("--ca", certs().ca, "--send-proxy-protocol", "v2")
        with wts(where, *options) as process, connect(process.port) as sock:
            works(sock)
    assert seen[0].startswith(SIGNATURE + b"\x21\x11\x00\x0c\x7f\x00\x00\x01")


def test_nothing_is_sent_without_it(service: Service) -> None:
    with wts(service.port) as far, stw(far.url) as near, connect(near.port) as sock:
        assert ask(sock, b"hello") == b"hello"
        sock.settimeout(UNIT)
        with pytest.raises(TimeoutError):
            sock.recv(1)
