"""What the machine has that tests may go without."""

import contextlib
import socket

import pytest


def has_ipv6() -> bool:
    """There is a loopback of IPv6."""
    with contextlib.suppress(OSError), socket.create_server(("::1", 0), family=10):
        return True
    return False


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no ::1 on this machine")
