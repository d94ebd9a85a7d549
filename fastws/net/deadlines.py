"""Time limits that are nearly always called off: one queue for each duration.

Every connection has a few, and a timer of the event loop costs as much as a system
call to make and another to cancel. Limits of the same length end in the order in
which they began, so one timer serves all of them, for the oldest that still counts.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from fastws.net.sweep import forget_closed

_MAX_QUEUES = 64  # durations are options: an event loop sees a handful
_EARLY = 0.001  # seconds; loops count whole milliseconds and may fire before the last


class Limit:
    """One time limit. One task at a time.

    Attributes:
        due: loop time, seconds.
        expire: called then, once; ``None`` from when it was cancelled or called.
    """

    __slots__ = ("due", "expire")

    def __init__(self, due: float, expire: Callable[[], None]) -> None:
        self.due = due
        self.expire: Callable[[], None] | None = expire

    def cancel(self) -> None:
        """Call it off; it keeps nothing alive from now on. Idempotent."""
        self.expire = None


class Deadlines:
    """All limits of one duration on one loop.

    Memory: cancelled limits go as soon as everything older has, at the latest with
    the duration.
    """

    __slots__ = ("_handle", "_loop", "_seconds", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._loop = loop
        self._seconds = seconds
        self._waiting: deque[Limit] = deque()
        self._handle: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def start(self, expire: Callable[[], None]) -> Limit:
        """Call ``expire`` after the duration, unless the limit is cancelled."""
        waiting = self._waiting
        while waiting and waiting[0].expire is None:
            waiting.popleft()
        limit = Limit(self._loop.time() + self._seconds, expire)
        waiting.append(limit)
        if self._handle is None:
            self._handle = self._loop.call_at(limit.due, self._run)
        return limit

    def _run(self) -> None:
        """End what is over; the timer goes on for the oldest of the others."""
        self._handle = None
        waiting, now = self._waiting, self._loop.time() + _EARLY
        try:
            while waiting and (waiting[0].expire is None or waiting[0].due <= now):
                expire, waiting[0].expire = waiting[0].expire, None
                waiting.popleft()
                if expire is not None:
                    expire()
        finally:
            if waiting and self._handle is None:
                self._handle = self._loop.call_at(waiting[0].due, self._run)


_deadlines: dict[asyncio.AbstractEventLoop, dict[float, Deadlines]] = {}


def start_limit(
    loop: asyncio.AbstractEventLoop, seconds: float, expire: Callable[[], None]
) -> Limit | asyncio.TimerHandle:
    """Call ``expire`` after ``seconds``; what is returned can be cancelled.

    Args:
        loop: the running loop.
        seconds: an option's value; anything else takes a timer of its own.
        expire: called without arguments.
    """
    queues = _deadlines.get(loop)
    if queues is None:
        forget_closed(_deadlines)
        queues = _deadlines[loop] = {}
    queue = queues.get(seconds)
    if queue is None:
        is_left_over = round(seconds, 3) != seconds  # of a limit: no two are alike
        if is_left_over or len(queues) >= _MAX_QUEUES or seconds <= 0:
            return loop.call_later(seconds, expire)
        queue = queues[seconds] = Deadlines(loop, seconds)
    return queue.start(expire)
