"""Connections that a pool opens ahead of need, by the clock of the test."""

import pytest

from fastws.exceptions import NoUpstream
from fastws.upstream.pool import PoolState
from fastws.upstream.waiting import Decision, PoolLimits, Waiter

REFUSED = NoUpstream("refused")
NOTHING = ([], [], [], [])


def make(**limits: float) -> PoolState[str]:
    values = {"age_jitter": 0.0, **limits}
    return PoolState(PoolLimits(**values), random=lambda: 0.0)  # type: ignore[arg-type]


def told(
    decision: Decision[str],
) -> tuple[list[str], list[Waiter[str]], list[int], list[str]]:
    return decision.closes, decision.wakes, decision.opens, decision.probes


def test_minimum_is_opened_ahead_and_refilled() -> None:
    pool = make(min_idle=2)
    assert told(pool.start(0.0)) == ([], [], [1, 2], [])
    pool.opened(1, "a", 0.1)
    pool.opened(2, "b", 0.1)
    waiter, decision = pool.acquire(1.0)
    assert (waiter.connection, decision.opens) == ("b", [3])
    assert pool.lost("a", 1.1).opens == [4]


def test_minimum_rests_after_a_failure() -> None:
    pool = make(min_idle=1)
    pool.start(0.0)
    assert told(pool.failed(1, REFUSED, 1.0)) == NOTHING
    assert pool.next_due() == pytest.approx(1.2)
    assert told(pool.tick(1.2)) == ([], [], [2], [])
    assert told(pool.failed(2, REFUSED, 2.0)) == NOTHING
    assert pool.next_due() == pytest.approx(2.6)
    waiter, decision = pool.acquire(2.1)  # a user is not kept waiting by that
    assert decision.opens == [3]
    assert pool.opened(3, "a", 2.2).wakes == [waiter]


def test_a_server_that_ends_what_is_warm_is_asked_less_and_less() -> None:
    """Each handshake succeeds: without a pause they would follow each other."""
    pool = make(min_idle=1)
    assert pool.start(0.0).opens == [1]
    now = 0.0
    pauses = []
    for ticket in range(1, 6):
        assert told(pool.opened(ticket, "a", now)) == NOTHING
        opens = pool.lost("a", now).opens
        if not opens:
            due = pool.next_due()
            assert pool.tick(due - 0.01).opens == []
            opens = pool.tick(due).opens
            pauses.append(round(due - now, 9))
            now = due
        assert opens == [ticket + 1]
    assert pauses == [0.6, 1.8, 5.4, 16.2]


def test_those_that_end_together_are_one_failure() -> None:
    """Else whoever has many of them would wait long after a restart of the server."""
    pool = make(min_idle=4)
    for ticket, name in zip(pool.start(0.0).opens, "abcd", strict=True):
        pool.opened(ticket, name, 0.0)
    assert [pool.lost(name, 1.0).opens for name in "abcd"] == [[5], [], [], []]
    due = pool.next_due()
    assert due == pytest.approx(1.6)
    assert pool.tick(due).opens == [6, 7, 8]
    for ticket in (5, 6, 7, 8):
        assert told(pool.failed(ticket, REFUSED, 2.0)) == NOTHING
    due = pool.next_due()
    assert due == pytest.approx(3.8)
    assert len(pool.tick(due).opens) == 4


@pytest.mark.parametrize("proof", ["served", "old", "lived"])
def test_a_server_that_was_of_use_is_asked_at_once_again(proof: str) -> None:
    pool = make(min_idle=1, max_age=20.0, idle_time=0.0)
    (ticket,) = pool.start(0.0).opens
    for name in ("a", "b"):
        pool.opened(ticket, name, 0.0)
        ticket = next(iter(pool.lost(name, 0.0).opens), ticket)
    assert pool.tick(0.7).opens == [3]
    pool.opened(3, "c", 0.7)
    if proof == "served":
        assert pool.acquire(1.0)[0].connection == "c"
        pool.opened(4, "d", 1.0)
        pool.release("c", 1.0)
        assert pool.lost("d", 1.0).opens == []  # c is there
        assert pool.lost("c", 1.0).opens == [5]
    elif proof == "old":
        assert told(pool.tick(21.0)) == (["c"], [], [4], [])
        pool.opened(4, "d", 21.0)
        assert pool.lost("d", 21.0).opens == [5]
    else:
        assert pool.lost("c", 31.0).opens == [4]
        pool.opened(4, "d", 31.0)
        assert pool.lost("d", 31.0).opens == [5]


def test_warm_handshake_serves_a_waiter() -> None:
    pool = make(min_idle=1)
    pool.start(0.0)
    waiter, decision = pool.acquire(0.1)
    assert decision.opens == [2]  # another one ahead of need; the first is taken over
    assert pool.opened(1, "a", 0.2).wakes == [waiter]
