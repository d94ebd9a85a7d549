"""How an address is written."""

from fastws._address import join_host_port


def test_brackets_stand_around_ipv6_alone() -> None:
    assert join_host_port("h", 1) == "h:1"
    assert join_host_port("::1", 1) == "[::1]:1"
