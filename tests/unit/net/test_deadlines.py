"""Time limits that share a timer: order, cancelling, memory, and the fallback."""

import asyncio
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from fastws.net.deadlines import Deadlines, Limit, start_limit
from tests.support.servers import both_loops, run_on


class Clock:
    """What :class:`Deadlines` uses of a loop; time goes by hand."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> object:
        self.timers.append((when, callback))
        return object()

    def advance(self, seconds: float) -> None:
        """Let time go by; due timers run."""
        self.now += seconds
        due = [timer for timer in self.timers if timer[0] <= self.now]
        self.timers = [timer for timer in self.timers if timer[0] > self.now]
        for _, callback in due:
            callback()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def deadlines(clock: Clock) -> Deadlines:
    loop: Any = clock
    return Deadlines(loop, 10.0)


def test_each_limit_ends_in_its_time(clock: Clock, deadlines: Deadlines) -> None:
    ended: list[str] = []
    deadlines.start(lambda: ended.append("a"))
    clock.advance(4)
    deadlines.start(lambda: ended.append("b"))
    clock.advance(5.9)
    assert ended == []
    clock.advance(0.1)
    assert ended == ["a"]
    clock.advance(3.9)
    assert ended == ["a"]
    clock.advance(0.1)
    assert ended == ["a", "b"]
    assert clock.timers == []


def test_one_timer_serves_all(clock: Clock, deadlines: Deadlines) -> None:
    for _ in range(100):
        deadlines.start(lambda: None)
    assert [when for when, _ in clock.timers] == [110.0]


def test_a_cancelled_limit_does_not_end(clock: Clock, deadlines: Deadlines) -> None:
    ended: list[str] = []
    first = deadlines.start(lambda: ended.append("a"))
    deadlines.start(lambda: ended.append("b"))
    first.cancel()
    first.cancel()
    clock.advance(10)
    assert ended == ["b"]


def test_cancelled_limits_leave_no_timer(clock: Clock, deadlines: Deadlines) -> None:
    deadlines.start(lambda: None).cancel()
    clock.advance(10)
    assert clock.timers == []
    assert len(deadlines) == 0


def test_a_limit_may_cancel_another(clock: Clock, deadlines: Deadlines) -> None:
    ended: list[str] = []
    limits: list[Limit] = []
    deadlines.start(lambda: limits[0].cancel())
    limits.append(deadlines.start(lambda: ended.append("b")))
    clock.advance(10)
    assert ended == []


def test_a_limit_that_fails_stops_no_other(clock: Clock, deadlines: Deadlines) -> None:
    ended: list[str] = []

    def fail() -> None:
        raise RuntimeError("ours")

    deadlines.start(fail)
    deadlines.start(lambda: ended.append("b"))
    with pytest.raises(RuntimeError, match="ours"):
        clock.advance(10)
    clock.advance(0)
    assert ended == ["b"]


def test_a_limit_may_start_another(clock: Clock, deadlines: Deadlines) -> None:
    ended: list[str] = []

    def start_late() -> None:
        deadlines.start(lambda: ended.append("late"))

    deadlines.start(start_late)
    clock.advance(10)
    assert ended == []
    assert [when for when, _ in clock.timers] == [120.0]
    clock.advance(10)
    assert ended == ["late"]


def test_a_timer_that_comes_early_is_no_loop(
    clock: Clock, deadlines: Deadlines
) -> None:
    """uvloop rounds to milliseconds: a timer may come half of one too soon."""
    ended: list[str] = []
    deadlines.start(lambda: ended.append("a"))
    clock.now = 109.9995
    (_, run), clock.timers = clock.timers[0], []
    run()
    assert ended == ["a"]


def test_cancelled_limits_are_forgotten(clock: Clock, deadlines: Deadlines) -> None:
    """Of many connections in a second none leaves anything behind for ten."""
    oldest = deadlines.start(lambda: None)
    for _ in range(1000):
        deadlines.start(lambda: None).cancel()
    oldest.cancel()
    deadlines.start(lambda: None)
    assert len(deadlines) == 1


def test_a_cancelled_limit_keeps_nothing_alive(deadlines: Deadlines) -> None:
    class Connection:
        def expire(self) -> None:
            pass

    connection = Connection()
    gone = weakref.ref(connection)
    deadlines.start(lambda: None)
    limit = deadlines.start(connection.expire)
    limit.cancel()
    del connection
    gc.collect()
    assert gone() is None


@both_loops
def test_limits_of_a_loop_end(loop_name: str) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        cancelled = start_limit(loop, 0.01, lambda: ended.set_result("cancelled"))
        start_limit(loop, 0.01, lambda: ended.set_result("ended"))
        cancelled.cancel()
        assert await ended == "ended"

    run_on(loop_name, scenario())


def test_unusual_durations_get_timers_of_their_own() -> None:
    async def scenario() -> list[bool]:
        loop = asyncio.get_running_loop()
        limits = [start_limit(loop, 1000.0 + n, lambda: None) for n in range(70)]
        limits.append(start_limit(loop, 0.0, lambda: None))
        limits.append(start_limit(loop, 1000.0, lambda: None))
        for limit in limits:
            limit.cancel()
        return [isinstance(limit, Limit) for limit in limits]

    assert asyncio.run(scenario()) == [True] * 64 + [False] * 7 + [True]


@both_loops
def test_what_is_left_of_a_limit_takes_a_timer_of_its_own(loop_name: str) -> None:
    """No two such durations are alike: they would only fill the queues."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        left = start_limit(loop, 9.98765, lambda: None)
        whole = start_limit(loop, 9.875, lambda: None)
        assert (isinstance(left, Limit), isinstance(whole, Limit)) == (False, True)
        left.cancel()
        whole.cancel()

    run_on(loop_name, main())
