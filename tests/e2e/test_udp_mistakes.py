"""``udp:`` addresses that cannot work are named before anything runs."""

import pytest

from tests.support.cli import run_fastws
from tests.support.datagrams import UdpService

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (("stw", "udp:x", "ws://h/"), 2, "write udp:PORT"),
        (("stw", "udp:1", "ws://h/", "--oneshot"), 78, "--oneshot: means nothing"),
        (("stw", "udp:1", "ws://h/", "--udp-idle", "0"), 78, "must be more than 0"),
        (("stw", "udp:1", "ws://h/", "--idle-timeout", "9"), 78, "use --udp-idle"),
        (("wts", "udp:1", "h:1"), 78, "LISTEN: WebSockets come over TCP"),
        (("wts", "1", "udp:53"), 2, "write udp:127.0.0.1:53"),
        (("stw", "udp:1", "ws://h/", "--workers", "2"), 78, "TCP and unix sockets"),
    ],
)
def test_mistakes_are_named(arguments: tuple[str, ...], status: int, text: str) -> None:
    done = run_fastws(*arguments)
    assert (done.returncode, text in done.stderr) == (status, True), done.stderr
    assert len(done.stderr.strip().splitlines()) <= 4


def test_port_in_use_is_named() -> None:
    with UdpService() as service:
        done = run_fastws("stw", f"udp:127.0.0.1:{service.port}", "ws://h/")
    assert done.returncode == 1
    assert f"udp:127.0.0.1:{service.port}: address already in use" in done.stderr
