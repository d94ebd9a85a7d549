"""Which upstream takes the next connection, and which rests; the clock is made up."""

import pytest

from fastws.upstream.balance import Balancer
from fastws.upstream.health import Health


def names(balancer: Balancer[str], now: float = 0.0) -> str:
    return "".join(member.item for member in balancer.order(now))


def test_health_rests_after_a_failure() -> None:
    health = Health(rest=10.0)
    assert not health.is_resting(100.0)
    health.failed(100.0)
    assert health.is_resting(100.0)
    assert health.is_resting(109.9)
    assert not health.is_resting(110.0)


def test_health_rests_again_after_the_next_failure() -> None:
    health = Health(rest=10.0)
    health.failed(100.0)
    health.failed(112.0)
    assert health.failures == 2
    assert health.is_resting(121.9)
    assert not health.is_resting(122.0)


def test_health_forgets_failures_that_a_success_follows() -> None:
    health = Health()
    health.failed(100.0)
    health.worked()
    assert not health.is_resting(100.0)
    assert health.failures == 0


def test_default_rest_is_10_seconds() -> None:
    health = Health()
    health.failed(0.0)
    assert (health.is_resting(9.99), health.is_resting(10.0)) == (True, False)


def test_nothing_to_balance() -> None:
    with pytest.raises(ValueError, match="nothing to balance"):
        Balancer([])


def test_least_connections_first() -> None:
    balancer = Balancer("abc")
    a, b, _ = balancer.members
    balancer.take(a)
    balancer.take(a)
    balancer.take(b)
    assert names(balancer) == "cba"
    balancer.release(a)
    balancer.release(a)
    assert names(balancer) == "cab"


def test_equals_take_turns() -> None:
    balancer = Balancer("abc")
    chosen = ""
    for _ in range(7):
        member = balancer.order(0.0)[0]
        balancer.take(member)
        balancer.release(member)
        chosen += member.item
    assert chosen == "abcabca"


def test_even_spread_of_connections_that_stay() -> None:
    balancer = Balancer("abc")
    for _ in range(31):
        balancer.take(balancer.order(0.0)[0])
    assert sorted(member.active for member in balancer.members) == [10, 10, 11]


def test_resting_ones_come_last_the_longest_rested_first() -> None:
    balancer = Balancer("abcd", rest=10.0)
    a, b, c, _ = balancer.members
    a.health.failed(5.0)
    b.health.failed(3.0)
    balancer.take(c)
    assert names(balancer, 6.0) == "dcba"
    assert names(balancer, 13.0) == "bdca"  # b has rested
    assert names(balancer, 15.0) == "abdc"
