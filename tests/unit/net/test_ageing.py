"""When an old connection is told to go: with a clock that the test turns."""

from types import SimpleNamespace
from typing import Any

import pytest

from fastws.net.ageing import Ageing
from fastws.net.copy import Copy


class Clock:
    """A loop that only tells the time and keeps timers."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[Any] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, call: Any, *args: Any) -> Any:
        timer = SimpleNamespace(when=when, call=lambda: call(*args))
        timer.cancel = lambda: self.timers.remove(timer)
        self.timers.append(timer)
        return timer

    def advance(self, until: float, each: Any = None) -> None:
        """Run the timers that are due until ``until``, in order."""
        while due := [t for t in self.timers if t.when <= until]:
            timer = min(due, key=lambda t: t.when)
            self.timers.remove(timer)
            self.now = max(self.now, timer.when)
            if each is not None:
                each(self.now)
            timer.call()
        self.now = until


class FakeCopy(Copy):
    """A copy that moves what the test says."""

    __slots__ = ("gone_at", "reset_at")

    def __init__(self, clock: Clock) -> None:
        self.loop: Any = clock
        self.a: Any = SimpleNamespace(payload_in=0)
        self.b: Any = SimpleNamespace(payload_in=0)
        self.gone_at = self.reset_at = 0.0

    def go_away(self, reason: str) -> None:
        assert reason == "connection age (--max-connection-age)"
        self.gone_at = self.loop.time()

    def abort(self, reason: str) -> None:
        assert reason == "connection age (--max-connection-age)"
        self.reset_at = self.loop.time()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_quiet_connection_goes_at_its_age(clock: Clock) -> None:
    group, copy = Ageing(100.0), FakeCopy(clock)
    group.add(copy)
    clock.advance(1099.9)
    assert copy.gone_at == 0.0
    clock.advance(1200.0)
    assert 1100.0 <= copy.gone_at <= 1100.25


def test_busy_connection_goes_at_1_1_times_its_age_at_the_latest(clock: Clock) -> None:
    group, copy = Ageing(100.0), FakeCopy(clock)
    group.add(copy)

    def move(now: float) -> None:
        copy.a.payload_in += 1

    clock.advance(1200.0, move)
    assert 1109.0 <= copy.gone_at <= 1110.0


@pytest.mark.parametrize("side", ["a", "b"])
def test_busy_connection_goes_in_its_next_pause(clock: Clock, side: str) -> None:
    group, copy = Ageing(100.0), FakeCopy(clock)
    group.add(copy)

    def move(now: float) -> None:
        if now < 1105.0:
            getattr(copy, side).payload_in += 1

    clock.advance(1200.0, move)
    assert 1105.5 <= copy.gone_at <= 1106.5


def test_age_below_the_pause_still_ends(clock: Clock) -> None:
    group, copy = Ageing(0.5), FakeCopy(clock)
    group.add(copy)
    clock.advance(1001.0)
    assert 1000.5 <= copy.gone_at <= 1000.55


def test_each_by_its_own_age_with_one_timer(clock: Clock) -> None:
    group = Ageing(100.0)
    copies = [FakeCopy(clock) for _ in range(3)]
    for number, copy in enumerate(copies):
        clock.advance(1000.0 + 30 * number)
        group.add(copy)
        assert len(clock.timers) == 1
    clock.advance(1300.0)
    for number, copy in enumerate(copies):
        assert 0 <= copy.gone_at - (1100.0 + 30 * number) <= 0.25


def test_connection_that_ended_before_is_forgotten(clock: Clock) -> None:
    group, first, second = Ageing(100.0), FakeCopy(clock), FakeCopy(clock)
    group.add(first)
    group.add(second)
    group.discard(first)
    assert first not in group
    clock.advance(1200.0)
    assert first.gone_at == 0.0
    assert second.gone_at
    group.discard(second)
    group.discard(second)
    assert not group
    assert not clock.timers


def test_connection_that_does_not_go_is_reset(clock: Clock) -> None:
    group, deaf, late = Ageing(100.0, 5.0), FakeCopy(clock), FakeCopy(clock)
    group.add(deaf)
    clock.advance(1050.0)
    group.add(late)
    clock.advance(1104.9)
    assert deaf.gone_at
    assert not deaf.reset_at
    clock.advance(1105.5)
    assert deaf.reset_at == deaf.gone_at + 5.0
    group.discard(deaf)
    clock.advance(1150.5)
    assert late.gone_at
    group.discard(late)  # in time
    clock.advance(1200.0)
    assert not late.reset_at
    assert not clock.timers


def test_no_timer_without_connections(clock: Clock) -> None:
    group, copy = Ageing(100.0), FakeCopy(clock)
    group.add(copy)
    group.discard(copy)
    assert not clock.timers
    group.add(copy)
    assert len(clock.timers) == 1
