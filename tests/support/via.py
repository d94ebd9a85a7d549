"""fastws proxy through a server of pooled WebSockets, and what its users do."""

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

from tests.support.asking import NO_LOGIN, reply, request
from tests.support.certs import certs
from tests.support.cli import Fastws, eventually
from tests.support.origin import forward_proxy
from tests.support.rust_proxy_server import RustProxyServer
from tests.support.services import ask, connect, read_exactly, read_to_end

RUST = ("--via-protocol", "rust-proxy", "--via-token", "tok")


@contextlib.contextmanager
def through(server: RustProxyServer, *options: str) -> Iterator[Fastws]:
    """``fastws proxy`` through ``server``."""
    tls = ("--ca", certs().ca) if server.has_tls else ()
    url = f"{'wss' if tls else 'ws'}://127.0.0.1:{server.port}/"
    with forward_proxy("--via", url, *RUST, *tls, *options) as process:
        yield process


def socks(proxy: Fastws, port: int, host: str = "127.0.0.1") -> Any:
    """A stream to a target."""
    sock = connect(proxy.port)
    sock.sendall(NO_LOGIN + request(host, port))
    assert read_exactly(sock, 2) == b"\5\0"
    assert reply(sock) == (0, "0.0.0.0", 0)
    return sock


def once(proxy: Fastws, port: int, word: bytes = b"hello") -> None:
    """One stream that asks an echo and ends in order."""
    with socks(proxy, port) as sock:
        assert ask(sock, word) == word
        sock.shutdown(socket.SHUT_WR)
        assert read_to_end(sock) == b""


def is_quiet(server: RustProxyServer) -> bool:
    """No stream is open."""
    return all(conn.up is None for conn in server.open)


def settle(server: RustProxyServer, count: int) -> None:
    """Wait until no stream is open, and ``count`` connections are."""
    eventually(lambda: is_quiet(server) and len(server.open) == count)
