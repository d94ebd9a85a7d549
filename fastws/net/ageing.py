"""Connections that have lived long enough, ended when they are quiet.

CDNs and load balancers cut connections after some hours, in the middle of whatever
they carry; ending them a little earlier, in a pause, lets clients come back at a
moment of their own choosing.
"""

import asyncio
from typing import Any, Protocol

from fastws import _consts

QUIET = 1.0
"""Seconds without payload that make a pause."""

_LATEST = 1.1  # times the age
_REASON = "connection age (--max-connection-age)"
_STEP = 0.25  # seconds between two looks at a connection that is about to go


class Mortal(Protocol):
    """A copy, or whatever else serves a connection."""

    loop: asyncio.AbstractEventLoop

    @property
    def payload(self) -> int: ...
    def go_away(self, reason: str) -> None: ...
    def abort(self, reason: str) -> None: ...


class Ageing(set[Any]):
    """A set of copies, each of which is told to go away when it is old.

    To be the ``group`` of :func:`fastws.net.copy.copy_bidirectional`. One timer
    serves all: it waits for the oldest. For one event loop.

    Args:
        age: seconds after which a copy goes in its next pause of ``QUIET`` seconds,
            at the latest after 1.1 times that.
        linger: seconds from then until a copy that has not ended is reset, as in a
            drain: a peer that does not read must not stay for ever.
    """

    def __init__(self, age: float, linger: float = _consts.LINGER) -> None:
        super().__init__()
        self.age = age
        self._linger = linger
        self._watch_from = max(0.0, age - QUIET)
        self._step = min(_STEP, age * (_LATEST - 1) / 4)
        self._young: dict[Any, float] = {}  # loop time of the start, oldest first
        self._old: dict[Any, tuple[float, int, float]] = {}  # start, payload, since
        self._going: dict[Any, float] = {}  # when to reset it, soonest first
        self._timer: asyncio.TimerHandle | None = None

    def add(self, copy: Mortal) -> None:
        """A copy begins."""
        super().add(copy)
        now = copy.loop.time()
        self._young[copy] = now
        if self._timer is None:
            self._wait(copy.loop, now + self._watch_from)

    def discard(self, copy: object) -> None:
        """A copy has ended."""
        super().discard(copy)
        self._young.pop(copy, None)
        self._old.pop(copy, None)
        self._going.pop(copy, None)
        if not self and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait(self, loop: asyncio.AbstractEventLoop, when: float) -> None:
        self._timer = loop.call_at(when, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Watch those that come of age; let go those that are quiet or overdue."""
        now = loop.time()
        for copy, started in list(self._young.items()):
            if started + self._watch_from > now:
                break
            del self._young[copy]
            self._old[copy] = started, copy.payload, now
        for copy, (started, seen, since) in list(self._old.items()):
            payload = copy.payload
            if payload != seen:
                self._old[copy] = started, payload, since = started, payload, now
            age = now - started
            is_quiet = age >= self.age and now - since >= QUIET
            if is_quiet or age >= self.age * _LATEST - self._step:
                del self._old[copy]
                self._going[copy] = now + self._linger
                copy.go_away(_REASON)
        for copy, when in list(self._going.items()):
            if when > now:
                break
            del self._going[copy]
            copy.abort(_REASON)
        self._timer = None
        dues = [next(iter(self._going.values()))] if self._going else []
        if self._old:
            dues.append(now + self._step)
        elif self._young:
            dues.append(next(iter(self._young.values())) + self._watch_from)
        if dues:
            self._wait(loop, min(dues))
