"""How long to wait before the next attempt. Pure: no clock, no I/O."""

import random as _random
from collections.abc import Callable

from fastws._consts import RECONNECT_MAX, RECONNECT_MIN, RECONNECT_STABLE


class Backoff:
    """Delays between attempts: doubling, full jitter, reset after a stable time.

    The n-th delay since the last reset is drawn evenly from 0 to
    ``min(high, low * 2**n)``, so that many clients of one dead server come back
    spread out. For use by one task.

    Args:
        low: upper end of the first delay, seconds, above 0.
        high: upper end that doubling stops at, seconds.
        stable: an attempt that lasted this long, seconds, starts over.
        random: returns a float in [0, 1); tests pass a fixed one.
    """

    __slots__ = ("_high", "_low", "_random", "_stable", "_top")

    def __init__(
        self,
        low: float = RECONNECT_MIN,
        high: float = RECONNECT_MAX,
        stable: float = RECONNECT_STABLE,
        random: Callable[[], float] = _random.random,
    ) -> None:
        if not 0 < low <= high:
            raise ValueError(f"need 0 < low <= high, got low {low:g}, high {high:g}")
        self._low = low
        self._high = high
        self._stable = stable
        self._random = random
        self._top = low

    def next_delay(self, lasted: float = 0.0) -> float:
        """The seconds to wait now.

        Args:
            lasted: how long the attempt that just ended had worked, seconds;
                0 when it failed.
        """
        if lasted >= self._stable:
            self._top = self._low
        top = self._top
        self._top = min(self._high, top * 2)
        return top * self._random()

    def reset(self) -> None:
        """Start over with the shortest delay."""
        self._top = self._low
