"""Client addresses through real front ends: nginx and HAProxy, both directions."""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import rawws
from tests.support.certs import certs, plain_client_context
from tests.support.cli import Fastws, wts
from tests.support.programs import program, running, site_of_nginx
from tests.support.rawws import BINARY
from tests.support.servers import free_port
from tests.support.services import Service, connect

pytestmark = pytest.mark.interop

# TCP mode, so that only the PROXY header says who the client is.
SENDER = """\
defaults
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend f
    mode tcp
    bind 127.0.0.1:{port}
    default_backend b
backend b
    mode tcp
    server s 127.0.0.1:{target} {send} check inter 100ms
"""

# Says who its client is, as the PROXY header has it.
RECEIVER = """\
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend f
    bind 127.0.0.1:{port} accept-proxy
    http-request return status 200 content-type text/plain lf-string %[src]:%[src_port]
"""


@contextlib.contextmanager
def haproxy(place: Path, text: str) -> Iterator[None]:
    config = place / "haproxy.cfg"
    config.write_text(text)
    port = int(text.partition("bind 127.0.0.1:")[2].split()[0])
    with running(port, program("haproxy"), "-f", str(config)):
        yield


def works(sock: socket.socket) -> None:
    sock.sendall(rawws.request())
    peer = rawws.Peer(sock, rawws.Answer(0, {}, ""))
    assert peer.head().status == 101
    peer.send(BINARY, b"hello")
    assert peer.message(5) == b"hello"


def named(process: Fastws, port: int) -> None:
    """The line of the connection has the client's own address."""
    process.wait_for(rf"wts 127\.0\.0\.1:{port} id=.* in=5 out=5 ")


@pytest.mark.parametrize("send", ["send-proxy", "send-proxy-v2"])
def test_proxy_header_of_haproxy(service: Service, tmp_path: Path, send: str) -> None:
    port = free_port()
    with wts(service.port, "--proxy-protocol", "require") as far:
        text = SENDER.format(port=port, target=far.port, send=send)
        with haproxy(tmp_path, text), connect(port) as sock:
            works(sock)
            ours = sock.getsockname()[1]
            sock.close()
            named(far, ours)


def test_proxy_header_of_haproxy_before_tls(service: Service, tmp_path: Path) -> None:
    port = free_port()
    options = ("--proxy-protocol", "require", "--cert", certs().server)
    with wts(service.port, *options) as far:
        text = SENDER.format(port=port, target=far.port, send="send-proxy-v2")
        with haproxy(tmp_path, text), connect(port) as sock:
            ours = sock.getsockname()[1]
            context = plain_client_context()
            with context.wrap_socket(sock, server_hostname="localhost") as wrapped:
                works(wrapped)
            named(far, ours)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_proxy_header_for_haproxy(tmp_path: Path, version: str) -> None:
    port = free_port()
    question = b"GET / HTTP/1.0\r\n\r\n"
    with haproxy(tmp_path, RECEIVER.format(port=port)):
        options = ("--send-proxy-protocol", version, "--trust", "127.0.0.1")
        with wts(port, *options) as process, connect(process.port) as sock:
            sock.sendall(rawws.request(X_Forwarded_For="203.0.113.9:4711"))
            peer = rawws.Peer(sock, rawws.Answer(0, {}, ""))
            assert peer.head().status == 101
            peer.send(BINARY, question)
            text = b""
            while b"\r\n\r\n" not in text or not text.endswith(b"203.0.113.9:4711"):
                text += peer.frame().payload


def test_address_that_nginx_forwards(service: Service, tmp_path: Path) -> None:
    """The client's own X-Forwarded-For is behind what nginx appends."""
    port = free_port()
    with wts(service.port, "--trust", "127.0.0.1", "--path", "/p") as far:
        appends = "$proxy_add_x_forwarded_for"
        with running(port, *site_of_nginx(port, far.port, tmp_path, appends)):
            with connect(port, "127.0.0.1") as sock:
                sock.sendall(rawws.request("/x", X_Forwarded_For="203.0.113.9"))
                assert rawws.Reader(sock).head().status == 404
            # 127.0.0.1 is trusted, so what stands left of it is believed ...
            far.wait_for(r"wts 203\.0\.113\.9: nothing at /x")
    with wts(service.port, "--path", "/p") as far:
        with running(port, *site_of_nginx(port, far.port, tmp_path)):
            with connect(port) as sock:
                sock.sendall(rawws.request("/x", X_Forwarded_For="203.0.113.9"))
                assert rawws.Reader(sock).head().status == 404
            # ... and of nobody without --trust.
            far.wait_for(r"wts 127\.0\.0\.1:\d+: nothing at /x")
