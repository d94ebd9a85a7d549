"""Connections and guesses per address."""

import pytest

from fastws.http.limit import Attempts, PerAddress


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


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_guesses_are_limited_and_come_back_one_by_one() -> None:
    clock = Clock()
    attempts = Attempts(3, 60.0, clock)
    for _ in range(3):
        assert attempts.wait("203.0.113.9") == 0
        attempts.count("203.0.113.9")
    assert attempts.wait("203.0.113.9") == pytest.approx(20)
    assert attempts.wait("203.0.113.10") == 0
    clock.now += 19.9
    assert attempts.wait("203.0.113.9") == pytest.approx(0.1)
    clock.now += 0.2
    assert attempts.wait("203.0.113.9") == 0
    attempts.count("203.0.113.9")
    assert attempts.wait("203.0.113.9") == pytest.approx(19.9)
    clock.now += 60
    for _ in range(3):
        assert attempts.wait("203.0.113.9") == 0
        attempts.count("203.0.113.9")
    assert attempts.wait("203.0.113.9") > 0


def test_a_site_of_ipv6_shares_its_guesses() -> None:
    attempts = Attempts(1, 60.0, Clock())
    attempts.count("2a00::1")
    assert attempts.wait("2a00::ffff") > 0
    assert attempts.wait("2a00:0:0:1::1") == 0


def test_only_so_many_addresses_are_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Attempts, "MOST", 3)
    attempts = Attempts(1, 60.0, Clock())
    for number in (1, 2, 3, 1, 4):
        attempts.count(f"203.0.113.{number}")
    waiting = [n for n in (1, 2, 3, 4) if attempts.wait(f"203.0.113.{n}")]
    assert waiting == [1, 3, 4]  # who guesses again stays
