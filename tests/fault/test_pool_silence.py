"""Idle pooled WebSockets whose path goes dark: no FIN, no RST. Needs root and Linux."""

import pytest

from tests.support.cli import eventually
from tests.support.origin import forward_proxy
from tests.support.rust_proxy_server import RustProxyServer
from tests.support.services import Service, ask, echo
from tests.support.timing import LONG, units
from tests.support.veth import Veth
from tests.support.via import RUST, once, settle, socks

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

PROBE_TIME = 5.0  # seconds that a probe has
COUNT = 8


def test_r15_dark_connections_are_not_handed_out(cable: Veth) -> None:
    """Probes find them; the next streams have fresh ones, and none is begun again."""
    host = cable.host(0)
    sock = cable.open_socket()
    sock.bind((host, 0))
    sock.listen(100)
    with Service(echo) as service, RustProxyServer(sock=sock) as server:
        url = f"ws://{host}:{server.port}/"
        with forward_proxy("--via", url, *RUST, "--pool-probe", units(3)) as proxy:
            files = proxy.files()
            streams = [socks(proxy, service.port) for _ in range(COUNT)]
            for stream in streams:
                assert ask(stream, b"x") == b"x"
                stream.close()
            settle(server, COUNT)
            assert proxy.files() >= files + COUNT
            cable.switch_off(host)
            eventually(lambda: proxy.files() <= files + 1, LONG + PROBE_TIME)
            cable.switch_on(host)
            for _ in range(COUNT + 4):
                once(proxy, service.port)
            assert len(server.conns) == COUNT + 1
        proxy.wait_for(f"{COUNT} lost while idle, 0 streams begun again", start=0)
