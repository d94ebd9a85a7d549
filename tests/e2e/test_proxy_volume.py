"""Every way through the proxy carries a lot, unchanged, there and back at once."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.asking import NO_LOGIN, connect_head, reply, request
from tests.support.certs import certs
from tests.support.cli import Fastws
from tests.support.origin import forward_proxy, read_head
from tests.support.rust_proxy import TOKEN, proxy_server
from tests.support.services import Service, connect, echo, pump_through, read_exactly

pytestmark = pytest.mark.e2e

MIB = 1 << 20
NEAR = ("--via-token", TOKEN)
RUST = (*NEAR, "--via-protocol", "rust-proxy")


@contextlib.contextmanager
def through(scheme: str, *options: str) -> Iterator[Fastws]:
    """A proxy, in front of a server unless ``scheme`` is empty."""
    with contextlib.ExitStack() as stack:
        if scheme:
            far = stack.enter_context(proxy_server(tls=scheme == "wss"))
            options += (f"--via={scheme}://127.0.0.1:{far.port}/",)
        if scheme == "wss":
            options += ("--ca", certs().ca)
        yield stack.enter_context(forward_proxy(*options))


def by_connect(proxy: Fastws, port: int) -> Any:
    sock = connect(proxy.port)
    sock.sendall(connect_head(f"127.0.0.1:{port}"))
    assert read_head(sock)[0] == 200
    return sock


def by_socks(proxy: Fastws, port: int) -> Any:
    sock = connect(proxy.port)
    sock.sendall(NO_LOGIN + request("127.0.0.1", port))
    assert read_exactly(sock, 2) == b"\5\0"
    assert reply(sock)[0] == 0
    return sock


WAYS = [
    pytest.param(by_connect, "", (), id="connect-direct"),
    pytest.param(by_socks, "", (), id="socks5-direct"),
    pytest.param(by_connect, "ws", NEAR, id="connect-ws"),
    pytest.param(by_socks, "wss", NEAR, id="socks5-wss"),
    pytest.param(by_connect, "ws", RUST, id="connect-rust-proxy"),
    pytest.param(by_socks, "wss", RUST, id="socks5-rust-proxy-wss"),
]


def carry(ask: Any, scheme: str, options: tuple[str, ...], size: int) -> None:
    with Service(echo) as service, through(scheme, *options) as proxy:
        with ask(proxy, service.port) as sock:
            pump_through(sock, size, seed=size)
        proxy.wait_for(f" in={size} out={size} .* closed$")


@pytest.mark.parametrize(("ask", "scheme", "options"), WAYS)
def test_32_mib_come_back_unchanged(
    ask: Any, scheme: str, options: tuple[str, ...]
) -> None:
    carry(ask, scheme, options, 32 * MIB)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("ask", "scheme", "options"), WAYS)
def test_1_gib_comes_back_unchanged(
    ask: Any, scheme: str, options: tuple[str, ...]
) -> None:
    carry(ask, scheme, options, 1024 * MIB)
