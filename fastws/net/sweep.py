"""One clock for all copies of an event loop.

Pings, time limits and ends that nobody polls need a look now and then. One timer
per loop walks over all copies; a copy in which both ends read and nothing is due is
passed over at the cost of two attribute reads.
"""

import asyncio
from collections.abc import Callable, MutableMapping
from typing import Any, Protocol

INTERVAL = 1.0  # seconds between two sweeps


class Swept(Protocol):
    """What a sweep looks at."""

    due: float

    @property
    def is_flowing(self) -> bool: ...

    def tick(self, now: float) -> None: ...


class Sweep:
    """Walks over the registered copies of one loop; idle loops have no timer."""

    __slots__ = ("_handle", "_interval", "_loop", "_swept", "chores")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._swept: dict[Swept, None] = {}
        self._interval = INTERVAL
        self._handle: asyncio.TimerHandle | None = None
        self.chores: list[Callable[[], None]] = []  # done once a sweep

    def add(self, swept: Swept, granularity: float = INTERVAL) -> None:
        """Look at ``swept`` every ``granularity`` seconds or more often."""
        self._swept[swept] = None
        if self._handle is None:
            self._interval = granularity
        elif granularity < self._interval:
            self._interval = granularity
            self._handle.cancel()
            self._handle = None
        if self._handle is None:
            self._handle = self._loop.call_later(self._interval, self._run)

    def discard(self, swept: Swept) -> None:
        """Forget ``swept``; unknown ones are ignored."""
        self._swept.pop(swept, None)

    def __len__(self) -> int:
        return len(self._swept)

    def _run(self) -> None:
        now = self._loop.time()
        try:
            for chore in self.chores:
                chore()
            for swept in list(self._swept):
                if now >= swept.due or not swept.is_flowing:
                    swept.tick(now)
        finally:  # whatever a look finds, the clock goes on for the others
            self._handle = None
            if self._swept:
                self._handle = self._loop.call_later(self._interval, self._run)


_sweeps: dict[asyncio.AbstractEventLoop, Sweep] = {}


def sweep_of(loop: asyncio.AbstractEventLoop) -> Sweep:
    """Return the sweep of ``loop``, made at its first use."""
    sweep = _sweeps.get(loop)
    if sweep is None:
        forget_closed(_sweeps)
        sweep = _sweeps[loop] = Sweep(loop)
    return sweep


def forget_closed(by_loop: MutableMapping[asyncio.AbstractEventLoop, Any]) -> None:
    """Drop what belongs to loops that are closed; it would keep them alive."""
    for loop in [loop for loop in by_loop if loop.is_closed()]:
        del by_loop[loop]
