"""The pool's decisions: who gets what when, by the clock of the test."""

from collections.abc import Callable

import pytest

from fastws.exceptions import Denied, DialError, DialTimeout, NoUpstream
from fastws.upstream.pool import PoolState
from fastws.upstream.waiting import Decision, PoolLimits, Waiter

REFUSED = NoUpstream("refused")


def make(
    is_reusable: Callable[[str], bool] = lambda _: True, **limits: float
) -> PoolState[str]:
    values = {"age_jitter": 0.0, **limits}
    return PoolState(PoolLimits(**values), is_reusable, lambda: 0.0)  # type: ignore[arg-type]


def told(
    decision: Decision[str],
) -> tuple[list[str], list[Waiter[str]], list[int], list[str]]:
    return decision.closes, decision.wakes, decision.opens, decision.probes


NOTHING = ([], [], [], [])


def fill(pool: PoolState[str], *names: str, now: float = 0.0) -> None:
    """Put connections into the pool, idle from ``now`` on, in this order."""
    for name in names:
        waiter, decision = pool.acquire(now)
        (ticket,) = decision.opens
        assert told(pool.opened(ticket, name, now)) == ([], [waiter], [], [])
        assert waiter.connection == name
    for name in names:
        assert told(pool.release(name, now)) == NOTHING
    assert pool.idle == list(names)


def test_first_waiter_opens_and_gets_the_new_connection() -> None:
    pool = make()
    waiter, decision = pool.acquire(0.0)
    assert told(decision) == ([], [], [1], [])
    assert waiter.is_waiting
    assert told(pool.opened(1, "a", 0.3)) == ([], [waiter], [], [])
    assert (waiter.connection, waiter.error, waiter.is_fresh) == ("a", None, True)
    assert repr(pool) == "<PoolState 0 idle, 1 borrowed, 0 opening, 0 waiting>"


def test_idle_connections_go_out_last_in_first_out() -> None:
    pool = make()
    fill(pool, "a", "b", "c")
    for name in ("c", "b", "a"):
        waiter, decision = pool.acquire(1.0)
        assert told(decision) == NOTHING
        assert (waiter.connection, waiter.is_fresh) == (name, False)


def test_waiters_are_served_first_in_first_out() -> None:
    pool = make(max_total=1)
    fill(pool, "a")
    waiters = [pool.acquire(0.0)[0] for _ in range(4)]
    assert waiters[0].connection == "a"
    for waiter in waiters[1:]:
        assert told(pool.release("a", 1.0)) == ([], [waiter], [], [])
        assert waiter.connection == "a"
        assert not waiter.is_fresh


def test_returned_connection_wins_and_the_new_one_is_kept() -> None:
    pool = make()
    fill(pool, "a")
    pool.acquire(0.0)
    second, decision = pool.acquire(0.0)
    assert decision.opens == [2]
    assert told(pool.release("a", 0.3)) == ([], [second], [], [])
    assert second.connection == "a"
    assert told(pool.opened(2, "b", 1.5)) == NOTHING
    assert pool.idle == ["b"]
    third, decision = pool.acquire(2.0)
    assert (third.connection, told(decision)) == ("b", NOTHING)


def test_new_connection_wins_and_the_returned_one_is_kept() -> None:
    pool = make()
    fill(pool, "a")
    pool.acquire(0.0)
    second, _ = pool.acquire(0.0)
    assert told(pool.opened(2, "b", 0.1)) == ([], [second], [], [])
    assert told(pool.release("a", 0.2)) == NOTHING
    assert pool.idle == ["a"]


def test_first_new_connection_goes_to_who_came_first() -> None:
    pool = make()
    first, _ = pool.acquire(0.0)
    second, _ = pool.acquire(0.0)
    assert told(pool.opened(2, "b", 0.1)) == ([], [first], [], [])
    assert told(pool.failed(1, REFUSED, 0.2)) == NOTHING
    assert (second.is_waiting, second.failures) == (True, 1)


def test_handshake_without_a_waiter_is_adopted_not_repeated() -> None:
    pool = make()
    first, _ = pool.acquire(0.0)
    assert told(pool.cancel(first, 0.1)) == NOTHING
    second, decision = pool.acquire(0.2)
    assert told(decision) == NOTHING
    assert told(pool.opened(1, "a", 0.3)) == ([], [second], [], [])


def test_not_more_than_max_total() -> None:
    pool = make(max_total=2)
    decisions = [pool.acquire(0.0)[1] for _ in range(4)]
    assert [decision.opens for decision in decisions] == [[1], [2], [], []]
    pool.opened(1, "a", 0.1)
    assert told(pool.opened(2, "b", 0.1))[2] == []
    decision = pool.release("a", 0.2, fit=False)
    assert (decision.closes, decision.opens) == (["a"], [3])
    assert pool.total == 2


def test_not_more_than_max_opening_handshakes() -> None:
    pool = make()
    opens = [pool.acquire(0.0)[1].opens for _ in range(20)]
    assert opens == [[n] for n in range(1, 17)] + [[]] * 4
    assert pool.opened(3, "a", 0.1).opens == [17]
    assert pool.failed(4, REFUSED, 0.1).opens == [18]
    assert repr(pool) == "<PoolState 0 idle, 1 borrowed, 16 opening, 19 waiting>"


def test_surplus_of_returned_connections_is_closed() -> None:
    pool = make(max_idle=10)
    names = [f"c{n}" for n in range(15)]
    for name in names:
        _, decision = pool.acquire(0.0)
        pool.opened(decision.opens[0], name, 0.0)
    closed = [name for name in names if pool.release(name, 1.0).closes]
    assert closed == names[10:]
    assert pool.idle == names[:10]


def test_waiter_times_out() -> None:
    pool = make(max_total=1)
    fill(pool, "a")
    pool.acquire(0.0)
    waiter, _ = pool.acquire(10.0, timeout=5.0)
    assert pool.next_due() == 15.0
    assert told(pool.tick(14.9)) == NOTHING
    assert told(pool.tick(15.0)) == ([], [waiter], [], [])
    assert isinstance(waiter.error, DialTimeout)
    assert told(pool.release("a", 16.0)) == NOTHING
    assert pool.idle == ["a"]


def test_waiter_that_times_out_learns_the_last_error() -> None:
    pool = make()
    waiter, _ = pool.acquire(0.0, timeout=0.5)
    pool.failed(1, REFUSED, 0.4)
    pool.tick(0.5)
    assert waiter.error is REFUSED


def test_handshakes_are_tried_again_with_back_off() -> None:
    pool = make()
    waiter, _ = pool.acquire(0.0)
    assert told(pool.failed(1, REFUSED, 1.0)) == NOTHING
    assert pool.next_due() == pytest.approx(1.2)
    assert told(pool.tick(1.1)) == NOTHING
    assert told(pool.tick(1.25)) == ([], [], [2], [])
    assert told(pool.failed(2, REFUSED, 2.0)) == NOTHING
    assert pool.next_due() == pytest.approx(2.6)
    assert told(pool.tick(2.7)) == ([], [], [3], [])
    last = NoUpstream("still refused")
    assert told(pool.failed(3, last, 3.0)) == ([], [waiter], [], [])
    assert waiter.error is last
    assert repr(pool) == "<PoolState 0 idle, 0 borrowed, 0 opening, 0 waiting>"


def test_one_attempt_switches_retries_off() -> None:
    pool = make(attempts=1)
    waiter, _ = pool.acquire(0.0)
    assert told(pool.failed(1, REFUSED, 1.0)) == ([], [waiter], [], [])


def test_who_is_denied_does_not_ask_again() -> None:
    pool = make()
    waiter, _ = pool.acquire(0.0)
    denied = Denied("wrong token")
    assert told(pool.failed(1, denied, 1.0)) == ([], [waiter], [], [])
    assert waiter.error is denied


def test_resting_waiter_takes_a_returned_connection() -> None:
    pool = make()
    fill(pool, "a")
    pool.acquire(0.0)
    waiter, _ = pool.acquire(0.0)
    pool.failed(2, REFUSED, 1.0)
    assert told(pool.release("a", 1.1)) == ([], [waiter], [], [])
    assert told(pool.tick(1.3)) == NOTHING


def test_failure_is_counted_for_one_waiter_only() -> None:
    pool = make(attempts=1)
    waiters = [pool.acquire(0.0)[0] for _ in range(3)]
    assert told(pool.failed(2, REFUSED, 0.1)) == ([], [waiters[1]], [], [])
    assert [waiter.is_waiting for waiter in waiters] == [True, False, True]


def test_cancelled_waiter_is_skipped() -> None:
    pool = make(max_total=1)
    fill(pool, "a")
    pool.acquire(0.0)
    gone, _ = pool.acquire(0.0)
    next_one, _ = pool.acquire(0.0)
    assert told(pool.cancel(gone, 0.1)) == NOTHING
    assert told(pool.release("a", 0.2)) == ([], [next_one], [], [])
    assert gone.connection is None
    assert told(pool.cancel(gone, 0.3)) == NOTHING


def test_cancelled_after_it_was_served_hands_on() -> None:
    pool = make(max_total=1)
    gone, _ = pool.acquire(0.0)
    next_one, _ = pool.acquire(0.0)
    pool.opened(1, "a", 0.1)
    assert gone.connection == "a"
    assert told(pool.cancel(gone, 0.2)) == ([], [next_one], [], [])
    assert (next_one.connection, next_one.is_fresh) == ("a", False)
    assert told(pool.cancel(gone, 0.3)) == NOTHING  # "a" is not its own any more
    assert pool.release("a", 0.4).closes == []


def test_unfit_connection_is_closed_and_replaced_for_who_waits() -> None:
    pool = make(max_total=1)
    fill(pool, "a")
    pool.acquire(0.0)
    waiter, _ = pool.acquire(0.0)
    assert told(pool.release("a", 1.0, fit=False)) == (["a"], [], [2], [])
    assert waiter.is_waiting
    with pytest.raises(KeyError):
        pool.release("a", 1.0)


def test_connection_that_is_not_reusable_reaches_nobody() -> None:
    bad: set[str] = set()
    pool = make(lambda name: name not in bad)
    fill(pool, "a", "b", "c")
    bad |= {"b", "c"}
    waiter, decision = pool.acquire(1.0)
    assert (waiter.connection, decision.closes) == ("a", ["c", "b"])
    bad.add("a")
    assert told(pool.release("a", 1.0)) == (["a"], [], [], [])


def test_idle_connections_are_closed_after_idle_time() -> None:
    pool = make(idle_time=60.0)
    fill(pool, "a", now=0.0)
    fill_second = pool.acquire(0.0, fresh=True)[1]
    pool.opened(fill_second.opens[0], "b", 0.0)
    pool.release("b", 10.0)
    assert pool.next_due() == 60.0
    assert told(pool.tick(59.0)) == NOTHING
    assert told(pool.tick(60.0)) == (["a"], [], [], [])
    assert pool.next_due() == 70.0


def test_overdue_connection_is_not_handed_out_between_ticks() -> None:
    pool = make(idle_time=60.0)
    fill(pool, "a")
    waiter, decision = pool.acquire(60.0)
    assert told(decision) == (["a"], [], [2], [])
    assert waiter.is_waiting


def test_connections_grow_old() -> None:
    pool = make(max_age=600.0, idle_time=0.0)
    fill(pool, "a", "b")
    assert pool.next_due() == 600.0
    assert pool.acquire(599.0)[0].connection == "b"
    assert told(pool.tick(600.0)) == (["a"], [], [], [])
    assert told(pool.release("b", 601.0)) == (["b"], [], [], [])
    assert pool.next_due() == float("inf")


def test_age_varies_downwards() -> None:
    pool = PoolState[str](PoolLimits(idle_time=0.0), random=lambda: 0.5)
    fill(pool, "a")
    assert pool.next_due() == pytest.approx(570.0)


def test_no_limits_of_time() -> None:
    pool = make(max_age=0.0, idle_time=0.0)
    fill(pool, "a")
    assert pool.next_due() == float("inf")
    assert told(pool.tick(1e9)) == NOTHING
    assert pool.acquire(1e9)[0].connection == "a"


def test_lost_idle_connection_is_closed() -> None:
    pool = make()
    fill(pool, "a", "b")
    assert told(pool.lost("b", 1.0)) == (["b"], [], [], [])
    assert pool.idle == ["a"]
    pool.acquire(1.0)
    assert told(pool.lost("a", 1.0)) == NOTHING  # borrowed: its user sees it
    assert told(pool.lost("b", 1.0)) == NOTHING


def test_fresh_means_newly_opened() -> None:
    pool = make()
    fill(pool, "a")
    waiter, decision = pool.acquire(1.0, fresh=True)
    assert decision.opens == [2]
    plain, _ = pool.acquire(1.0)
    assert plain.connection == "a"
    assert told(pool.release("a", 1.1)) == NOTHING
    assert told(pool.opened(2, "b", 1.2)) == ([], [waiter], [], [])
    assert (waiter.connection, waiter.is_fresh) == ("b", True)


def test_fresh_waiter_is_passed_over_by_returned_connections() -> None:
    pool = make(max_total=2, max_opening=1)
    fill(pool, "a")
    pool.acquire(0.0)
    fresh, _ = pool.acquire(0.0, fresh=True)
    plain, _ = pool.acquire(0.0)
    assert told(pool.release("a", 0.1)) == ([], [plain], [], [])
    assert fresh.is_waiting


def test_fresh_waiter_takes_the_place_of_an_idle_connection() -> None:
    pool = make(max_total=2)
    fill(pool, "a", "b")
    _, decision = pool.acquire(1.0, fresh=True)
    assert told(decision) == (["a"], [], [3], [])
    assert pool.total == 2


def test_idle_connection_is_not_given_up_for_a_handshake_that_may_not_begin() -> None:
    pool = make(max_total=2, max_opening=1)
    fill(pool, "a")
    pool.acquire(1.0, fresh=True)
    assert told(pool.acquire(1.0, fresh=True)[1]) == NOTHING
    assert pool.idle == ["a"]


def test_doubted_connections_wait_for_their_proof() -> None:
    pool = make(probe_time=5.0)
    fill(pool, "a", "b", "c")
    assert told(pool.doubt(1.0)) == ([], [], [], ["a", "b", "c"])
    assert told(pool.doubt(2.0)) == NOTHING
    assert pool.next_due() == 6.0
    waiter, decision = pool.acquire(2.0)
    assert decision.opens == [4]
    assert told(pool.proved("b", 2.1)) == ([], [waiter], [], [])
    assert (waiter.connection, waiter.is_fresh) == ("b", False)
    assert told(pool.proved("a", 2.2)) == NOTHING
    assert pool.acquire(2.3)[0].connection == "a"
    assert told(pool.proved("a", 2.4)) == NOTHING
    assert told(pool.tick(6.0)) == (["c"], [], [], [])


def test_closed_pool_serves_nobody() -> None:
    pool = make(min_idle=0)
    fill(pool, "a")
    pool.acquire(0.0)
    waiter, decision = pool.acquire(0.0)
    assert decision.opens == [2]
    assert told(pool.close(1.0)) == ([], [waiter], [], [])
    assert isinstance(waiter.error, NoUpstream)
    late, decision = pool.acquire(2.0)
    assert str(late.error) == "the pool is closed"
    assert told(decision) == NOTHING
    text = "<PoolState closed, 0 idle, 1 borrowed, 1 opening, 0 waiting>"
    assert repr(pool) == text
    assert told(pool.release("a", 2.0)) == (["a"], [], [], [])
    assert told(pool.opened(2, "b", 3.0)) == (["b"], [], [], [])
    assert pool.total == 0
    assert pool.next_due() == float("inf")


def test_close_gives_up_idle_connections() -> None:
    pool = make()
    fill(pool, "a", "b")
    assert told(pool.close(1.0)) == (["a", "b"], [], [], [])
    assert told(pool.close(1.0)) == NOTHING


def test_unknown_ticket_is_our_mistake() -> None:
    pool = make()
    pool.acquire(0.0)
    with pytest.raises(KeyError):
        pool.opened(2, "a", 0.0)
    with pytest.raises(KeyError):
        pool.failed(2, DialError("x"), 0.0)


@pytest.mark.parametrize(
    "limits",
    [
        {"max_total": 0},
        {"max_opening": 0},
        {"attempts": 0},
        {"min_idle": -1},
        {"min_idle": 11},
    ],
    ids=str,
)
def test_senseless_limits_are_refused(limits: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"max_total|min_idle"):
        PoolLimits(**limits)  # type: ignore[arg-type]


def test_decision_shows_what_is_to_do() -> None:
    pool = make()
    _, decision = pool.acquire(0.0)
    assert repr(decision) == "<Decision closes=[] opens=[1] probes=[] wakes=[]>"
