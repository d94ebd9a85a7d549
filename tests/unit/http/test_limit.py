"""Connections per address."""

from fastws.http.limit import PerAddress


def test_limit_is_per_address() -> None:
    limit = PerAddress(2)
    names = [limit.take("203.0.113.9"), limit.take("203.0.113.9")]
    assert names == ["203.0.113.9"] * 2
    assert limit.take("203.0.113.9") is None
    assert limit.take("203.0.113.10") == "203.0.113.10"
    limit.drop("203.0.113.9")
    assert limit.take("203.0.113.9") == "203.0.113.9"


def test_one_site_of_ipv6_is_one_address() -> None:
    limit = PerAddress(1)
    name = limit.take("2a00::1")
    assert name == "2a00::/64"
    assert limit.take("2a00::ffff") is None
    assert limit.take("2a00:0:0:1::1") == "2a00:0:0:1::/64"


def test_addresses_without_connections_are_forgotten() -> None:
    limit = PerAddress(5)
    for _ in range(3):
        limit.take("203.0.113.9")
    for _ in range(3):
        limit.drop("203.0.113.9")
    assert limit._open == {}
