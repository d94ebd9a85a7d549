"""Flows of datagrams have no end: a drain ends each in its next pause."""

from collections.abc import Callable
from typing import Any

import pytest

from fastws._consts import DRAIN_SPREAD
from fastws.modes.udp import UdpFlow, end_quiet
from fastws.net.ageing import QUIET


class Clock:
    """A loop that only keeps what is to be called, and when."""

    def __init__(self) -> None:
        self.calls: list[tuple[float, Callable[..., Any], tuple[Any, ...]]] = []

    def call_later(self, delay: float, call: Callable[..., Any], *args: Any) -> None:
        self.calls.append((delay, call, args))

    def ring(self) -> float:
        """Do what is due next; returns how long that took."""
        delay, call, args = self.calls.pop(0)
        call(*args)
        return delay


class Done:
    """A future, as far as it is looked at."""

    def __init__(self) -> None:
        self.is_done = False

    def done(self) -> bool:
        return self.is_done


class Link:
    """What a flow tells its WebSocket."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def go_away(self, reason: str) -> None:
        self.said.append(reason)


def flow_on(clock: Clock) -> Any:
    flow: Any = UdpFlow.__new__(UdpFlow)
    flow.loop, flow.link, flow.done = clock, Link(), Done()
    flow.messages_in = flow.messages_out = 0
    return flow


def test_quiet_flow_goes_after_one_pause() -> None:
    clock = Clock()
    flow = flow_on(clock)
    end_quiet([flow, object()])
    assert clock.ring() == QUIET
    assert flow.link.said == ["draining"]
    assert clock.calls == []


@pytest.mark.parametrize("direction", ["messages_in", "messages_out"])
def test_busy_flow_stays_until_it_pauses(direction: str) -> None:
    clock = Clock()
    flow = flow_on(clock)
    end_quiet([flow])
    for _ in range(5):
        setattr(flow, direction, getattr(flow, direction) + 1)
        assert clock.ring() == QUIET
        assert flow.link.said == []
    assert clock.ring() == QUIET
    assert flow.link.said == ["draining"]


def test_flow_that_has_ended_is_left_alone() -> None:
    clock = Clock()
    flow = flow_on(clock)
    end_quiet([flow])
    flow.done.is_done = True
    clock.ring()
    assert flow.link.said == []
    assert clock.calls == []


def test_many_quiet_flows_do_not_come_back_in_one_moment() -> None:
    clock = Clock()
    end_quiet([flow_on(clock) for _ in range(100)])
    delays = [delay for delay, _, _ in clock.calls]
    assert all(QUIET <= delay <= QUIET + DRAIN_SPREAD for delay in delays)
    assert len(set(delays)) > 90
