"""The clock of all copies, on a loop whose time the test sets."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from fastws.net.copy import scratch_of
from fastws.net.sweep import INTERVAL, Sweep, forget_closed, sweep_of


class Handle:
    def __init__(self, when: float, call: Callable[[], None]) -> None:
        self.when, self.call = when, call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """Just enough of a loop; ``advance`` runs what is due."""

    def __init__(self) -> None:
        self.now = 100.0
        self.handles: list[Handle] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, call: Callable[[], None]) -> Handle:
        self.handles.append(Handle(self.now + delay, call))
        return self.handles[-1]

    def advance(self, seconds: float) -> None:
        until = self.now + seconds
        while due := [h for h in self.pending() if h.when <= until]:
            handle = min(due, key=lambda h: h.when)
            self.handles.remove(handle)
            self.now = handle.when
            handle.call()
        self.now = until

    def pending(self) -> list[Handle]:
        return [handle for handle in self.handles if not handle.cancelled]


class Swept:
    def __init__(self, due: float = 0.0, is_flowing: bool = True) -> None:
        self.due, self.is_flowing = due, is_flowing
        self.ticks: list[float] = []
        self.then: Callable[[], Any] = lambda: None

    def tick(self, now: float) -> None:
        self.ticks.append(now)
        self.then()


def make() -> tuple[Loop, Sweep]:
    loop = Loop()
    return loop, Sweep(loop)  # type: ignore[arg-type]


def test_copy_that_waits_is_looked_at_every_second() -> None:
    loop, sweep = make()
    copy = Swept(due=float("inf"), is_flowing=False)
    sweep.add(copy)
    loop.advance(3.5)
    assert copy.ticks == [101.0, 102.0, 103.0]


def test_flowing_copy_is_passed_over_until_it_is_due() -> None:
    loop, sweep = make()
    copy = Swept(due=102.5)
    sweep.add(copy)
    loop.advance(4)
    assert copy.ticks == [103.0, 104.0]


def test_shortest_time_sets_the_interval() -> None:
    loop, sweep = make()
    slow, fast = Swept(), Swept()
    sweep.add(slow)
    sweep.add(fast, 0.25)
    sweep.add(Swept(), 0.5)
    loop.advance(1)
    assert fast.ticks == slow.ticks == [100.25, 100.5, 100.75, 101.0]
    assert len(loop.pending()) == 1


def test_empty_sweep_has_no_timer() -> None:
    loop, sweep = make()
    copy = Swept()
    assert loop.pending() == []
    sweep.add(copy)
    assert len(sweep) == 1
    sweep.discard(copy)
    sweep.discard(copy)
    assert len(sweep) == 0
    loop.advance(2)
    assert (copy.ticks, loop.pending()) == ([], [])
    sweep.add(copy)
    loop.advance(INTERVAL)
    assert len(copy.ticks) == 1


def test_copy_may_leave_while_it_is_looked_at() -> None:
    loop, sweep = make()
    first, second = Swept(), Swept()
    first.then = lambda: sweep.discard(first)
    sweep.add(first)
    sweep.add(second)
    loop.advance(2)
    assert (len(first.ticks), len(second.ticks)) == (1, 2)


def test_clock_goes_on_after_an_error() -> None:
    loop, sweep = make()
    copy = Swept()
    copy.then = lambda: 1 / 0
    sweep.add(copy)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            loop.advance(INTERVAL)
    assert len(copy.ticks) == 2


def test_chores_are_done_once_a_sweep() -> None:
    loop, sweep = make()
    done: list[float] = []
    sweep.chores.append(lambda: done.append(loop.now))
    sweep.add(Swept(due=float("inf")))
    loop.advance(2)
    assert done == [101.0, 102.0]


def test_each_loop_has_one_sweep_and_one_scratch_until_it_is_closed() -> None:
    async def main() -> tuple[Sweep, Any]:
        loop = asyncio.get_running_loop()
        assert sweep_of(loop) is sweep_of(loop)
        assert scratch_of(loop) is scratch_of(loop)
        return sweep_of(loop), scratch_of(loop)

    first, second = asyncio.run(main()), asyncio.run(main())
    assert first[0] is not second[0]
    assert first[1] is not second[1]
    closed, open_ = asyncio.new_event_loop(), asyncio.new_event_loop()
    closed.close()
    kept = {closed: 1, open_: 2}
    forget_closed(kept)
    assert kept == {open_: 2}
    open_.close()
