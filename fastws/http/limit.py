"""How many connections one address may have at once, and how often it may guess."""

import time
from collections.abc import Callable

from fastws.wire.forwarded import network_of


class PerAddress:
    """Counts connections by client address. One task at a time.

    An IPv6 client is counted with all of its /64. Memory: one entry for each address
    that has a connection.

    Args:
        limit: connections of one address, at least 1.
    """

    __slots__ = ("_open", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._open: dict[str, int] = {}

    def divide(self, workers: int) -> None:
        """Keep to the share of one process out of so many."""
        self.limit = _share(self.limit, workers)

    def take(self, host: str) -> str | None:
        """Count one more; ``None`` when the limit is reached.

        Returns:
            What :meth:`drop` is to be called with when the connection has ended.
        """
        name = network_of(host)
        count = self._open.get(name, 0)
        if count >= self.limit:
            return None
        self._open[name] = count + 1
        return name

    def drop(self, name: str) -> None:
        """Count one less."""
        count = self._open[name] - 1
        if count:
            self._open[name] = count
        else:
            del self._open[name]


def _share(limit: int, workers: int) -> int:
    """What one of so many processes keeps to, at least 1."""
    return max(1, (limit + workers - 1) // workers)


class Attempts:
    """Counts wrong guesses by client address. One task at a time.

    Each address has so many at once, and gets them back evenly within ``seconds``; an
    IPv6 client shares them with all of its /64. Memory: one entry for each address
    that has guessed lately, ``MOST`` at most; the one that guessed first is forgotten
    then.

    Args:
        limit: wrong guesses, at least 1.
        seconds: in which that many come back.
        clock: seconds, for tests.
    """

    MOST = 16384

    __slots__ = ("_clock", "_made", "limit", "seconds")

    def __init__(
        self,
        limit: int,
        seconds: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limit = limit
        self.seconds = seconds
        self._clock = clock
        self._made: dict[str, float] = {}  # when all of an address's are back

    def divide(self, workers: int) -> None:
        """Keep to the share of one process out of so many."""
        self.limit = _share(self.limit, workers)

    def wait(self, host: str) -> float:
        """Seconds until ``host`` may guess, 0 for now."""
        back = self._made.get(network_of(host), 0.0)
        step = self.seconds / self.limit
        return max(0.0, back - self._clock() - self.seconds + step)

    def count(self, host: str) -> None:
        """One wrong guess more."""
        name, now = network_of(host), self._clock()
        back = max(now, self._made.pop(name, 0.0)) + self.seconds / self.limit
        self._made[name] = back
        while len(self._made) > self.MOST:
            del self._made[next(iter(self._made))]
