"""Delays between attempts."""

import pytest

from fastws.net.backoff import Backoff


def test_delays_double_up_to_high() -> None:
    backoff = Backoff(random=lambda: 1.0)
    delays = [backoff.next_delay() for _ in range(10)]
    assert delays == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0]


def test_jitter_takes_the_whole_range() -> None:
    draws = iter([0.0, 0.25, 0.999])
    backoff = Backoff(low=1.0, high=8.0, random=lambda: next(draws))
    assert [backoff.next_delay() for _ in range(3)] == [0.0, 0.5, 3.996]


def test_default_random_stays_below_the_top() -> None:
    backoff = Backoff(low=1.0, high=1.0)
    delays = {backoff.next_delay() for _ in range(50)}
    assert all(0 <= delay < 1 for delay in delays)
    assert len(delays) > 1


def test_reset_after_stable_attempt() -> None:
    backoff = Backoff(low=1.0, high=64.0, stable=60.0, random=lambda: 1.0)
    assert [backoff.next_delay() for _ in range(3)] == [1.0, 2.0, 4.0]
    assert backoff.next_delay(lasted=60.0) == 1.0
    assert backoff.next_delay() == 2.0


def test_no_reset_after_short_attempt() -> None:
    backoff = Backoff(low=1.0, high=64.0, stable=60.0, random=lambda: 1.0)
    backoff.next_delay()
    assert backoff.next_delay(lasted=59.9) == 2.0


def test_reset_by_call() -> None:
    backoff = Backoff(low=1.0, random=lambda: 1.0)
    backoff.next_delay()
    backoff.reset()
    assert backoff.next_delay() == 1.0


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 1.0), (2.0, 1.0)])
def test_reject_bounds(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="need 0 < low <= high"):
        Backoff(low=low, high=high)
