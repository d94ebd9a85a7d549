"""UDP ASSOCIATE through ``fastws proxy --via`` and ``fastws proxy-server``."""

import contextlib
import hashlib
import random
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.support.asking import Associated, socks_code
from tests.support.certs import certs
from tests.support.cli import Fastws
from tests.support.datagrams import UdpService
from tests.support.origin import forward_proxy
from tests.support.rust_proxy import TOKEN, proxy_server
from tests.support.rust_proxy_server import RustProxyServer
from tests.support.services import ends_with_reset, is_silent, read_to_end
from tests.support.timing import UNIT

pytestmark = pytest.mark.e2e

TARGETS = 30


class Chain(NamedTuple):
    """Both ends."""

    proxy: Fastws
    server: Fastws


@contextlib.contextmanager
def chain(
    *server: str, tls: bool = False, proxy: tuple[str, ...] = ()
) -> Iterator[Chain]:
    """A proxy in front of a server that may reach this machine."""
    with proxy_server(*server, tls=tls) as far:
        via = f"{'wss' if tls else 'ws'}://127.0.0.1:{far.port}/"
        with forward_proxy("--via", via, "--via-token", TOKEN, *proxy) as near:
            yield Chain(near, far)


@pytest.fixture(scope="module")
def both() -> Iterator[Chain]:
    with chain() as running:
        yield running


def test_datagrams_come_back_from_many_targets_unchanged(both: Chain) -> None:
    rng = random.Random(6)
    sent, received = hashlib.sha256(), hashlib.sha256()
    with contextlib.ExitStack() as stack:
        services = [stack.enter_context(UdpService()) for _ in range(TARGETS)]
        client = stack.enter_context(Associated(both.proxy))
        for service in (*services, *reversed(services), *services):
            data = rng.randbytes(rng.choice((0, 1, 64, 1400, 9000, 40000, 60000)))
            sent.update(data)
            client.send("127.0.0.1", service.port, data)
            host, port, back = client.receive()
            assert (host, port) == ("127.0.0.1", service.port)
            received.update(back)
        assert received.digest() == sent.digest()
        assert [len(service.seen) for service in services] == [3] * TARGETS


def test_two_clients_get_their_own_answers(both: Chain) -> None:
    with (
        UdpService() as service,
        Associated(both.proxy) as one,
        Associated(both.proxy) as two,
    ):
        for number in range(5):
            one.send("127.0.0.1", service.port, b"one %d" % number)
            two.send("127.0.0.1", service.port, b"two %d" % number)
            assert one.receive()[2] == b"one %d" % number
            assert two.receive()[2] == b"two %d" % number


def test_names_are_resolved_at_the_far_end(both: Chain) -> None:
    with UdpService() as service, Associated(both.proxy) as client:
        client.send("localhost", service.port, b"by name")
        assert client.receive() == ("127.0.0.1", service.port, b"by name")


def test_others_are_not_heard(both: Chain) -> None:
    with UdpService() as service, Associated(both.proxy) as client:
        client.send("127.0.0.1", service.port, b"first")
        client.receive()
        client.forge(service.port, service.seen[0][1])
        client.send("127.0.0.1", service.port, b"last")
        assert client.receive() == ("127.0.0.1", service.port, b"last")


def test_the_end_of_the_tcp_connection_ends_it_and_frees_the_websocket() -> None:
    with chain() as both, UdpService() as service:
        for stream in (1, 2, 3):
            both.server.mark = len(both.server.lines)
            with Associated(both.proxy) as client:
                client.send("127.0.0.1", service.port, b"hello")
                client.receive()
                client.tcp.close()
                line = both.server.wait_for(
                    rf"udp 1 datagrams received, 1 sent, 0 dropped id=\w+/{stream} "
                )
                assert line.endswith("in=5 out=5")
                both.proxy.wait_for(
                    "socks5 udp 1 datagrams received, 1 sent, 0 dropped"
                )
                client.send("127.0.0.1", service.port, b"after the end")
                assert is_silent(client.udp, UNIT)
        assert [data for data, _ in service.seen] == [b"hello"] * 3


def test_denied_targets_are_counted_at_the_far_end() -> None:
    with UdpService() as good, UdpService() as bad:
        with chain("--deny", f"127.0.0.1:{bad.port}") as both:
            with Associated(both.proxy) as client:
                for _ in range(3):
                    client.send("127.0.0.1", bad.port, b"secret")
                client.send("127.0.0.1", good.port, b"public")
                assert client.receive() == ("127.0.0.1", good.port, b"public")
            line = both.server.wait_for("udp 4 datagrams received, 1 sent, 0 dropped, ")
            assert f"3 denied (127.0.0.1:{bad.port}: forbidden: --deny " in line
        assert bad.seen == []


def test_denied_targets_are_counted_here() -> None:
    with UdpService() as good, UdpService() as bad:
        deny = ("--deny", f"127.0.0.1:{bad.port}")
        with chain(proxy=deny) as both:
            with Associated(both.proxy) as client:
                client.send("127.0.0.1", bad.port, b"secret")
                client.send("127.0.0.1", good.port, b"public")
                assert client.receive() == ("127.0.0.1", good.port, b"public")
            line = both.proxy.wait_for("socks5 udp 2 datagrams received, 1 sent, ")
            assert "0 dropped, 0 foreign, 1 denied (" in line
            both.server.wait_for("udp 1 datagrams received, 1 sent, 0 dropped id=")
        assert bad.seen == []


def test_private_targets_need_a_rule_that_names_them() -> None:
    """Addresses and names alike; the unit tests have the server without any rule."""
    with UdpService() as good, UdpService() as bad:
        rules = ("--no-auth", "--allow=*", f"--allow=127.0.0.1:{good.port}")
        with (
            Fastws("proxy-server", "127.0.0.1:0", *rules) as server,
            forward_proxy("--via", server.url) as proxy,
        ):
            with Associated(proxy) as client:
                client.send("127.0.0.1", bad.port, b"x")
                client.send("127.0.0.1", good.port, b"public")
                assert client.receive() == ("127.0.0.1", good.port, b"public")
            line = server.wait_for("udp 2 datagrams received, 1 sent, 0 dropped, ")
            assert "1 denied (" in line
            assert "no --allow names it" in line
        assert bad.seen == []


def test_through_tls() -> None:
    with chain(tls=True, proxy=("--ca", certs().ca)) as both:
        with UdpService() as service, Associated(both.proxy) as client:
            data = bytes(range(256)) * 200
            client.send("127.0.0.1", service.port, data)
            assert client.receive() == ("127.0.0.1", service.port, data)


def test_a_server_that_is_killed_ends_the_clients_connection() -> None:
    with chain() as both, UdpService() as service, Associated(both.proxy) as client:
        client.send("127.0.0.1", service.port, b"x")
        client.receive()
        both.server.kill()
        assert ends_with_reset(client.tcp)


def test_a_server_that_drains_ends_the_clients_connection() -> None:
    with chain("--drain-timeout=1ms") as both, Associated(both.proxy) as client:
        both.server.signal(15)
        assert ends_with_reset(client.tcp)
        assert both.server.wait() == 0


def test_silence_ends_it_in_order() -> None:
    with chain("--idle-timeout=200ms") as both, Associated(both.proxy) as client:
        assert read_to_end(client.tcp) == b""
        both.server.wait_for("udp 0 datagrams received, 0 sent, 0 dropped id=")


def test_rust_proxy_carries_none() -> None:
    with RustProxyServer() as server:
        url = f"ws://127.0.0.1:{server.port}"
        options = ("--via-protocol=rust-proxy", "--via-token=tok")
        with forward_proxy("--via", url, *options) as proxy:
            for _ in range(2):
                assert socks_code(proxy, "0.0.0.0", 0, command=3) == 7
        assert server.connects == []
