"""What a warm pool saves: round trips, shown with a far end that is 50 ms away."""

import pytest

from tests.support.certs import certs
from tests.support.cli import Fastws, eventually
from tests.support.far_away import FarAway
from tests.support.origin import forward_proxy
from tests.support.services import Service, ask, echo
from tests.support.via import socks

pytestmark = pytest.mark.e2e

DELAY = 0.05
TRIES = 3


def first_byte(proxy: Fastws, port: int, away: FarAway) -> int:
    """Least round trips from a client that connects to its first byte of the target."""
    took = []
    for number in range(1, TRIES + 1):
        before = away.rounds
        with socks(proxy, port) as sock:
            assert ask(sock, b"x") == b"x"
            took.append(away.rounds - before)
        eventually(lambda: proxy.count(" in=1 out=1 .* closed$") == number)  # noqa: B023
    return min(took)


@pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
def test_a_warm_pool_saves_the_handshakes(secure: bool) -> None:
    """The upgrade is one round trip, and TLS another one; none of them is left."""
    cert = ("--cert", certs().server) if secure else ()
    ca = ("--ca", certs().ca) if secure else ()
    options = ("--no-auth", "--allow", "private", *cert)
    with (
        Service(echo) as service,
        Fastws("proxy-server", "127.0.0.1:0", *options) as server,
        FarAway(server.port, DELAY) as away,
    ):
        url = f"{'wss' if secure else 'ws'}://127.0.0.1:{away.port}/"
        with forward_proxy("--via", url, *ca, "--pool-keep", "0") as proxy:
            cold = first_byte(proxy, service.port, away)
        proxy.wait_for(f"pool of .*: {TRIES} opened", start=0)
        with forward_proxy("--via", url, *ca) as proxy:
            warm = first_byte(proxy, service.port, away)
        proxy.wait_for("pool of .*: 1 opened", start=0)
    assert warm == 2  # the target's answer, and the echo
    assert cold == warm + 1 + secure
