"""A bound on equal log lines: peers decide how often they are refused, not our disk.

Of each kind of warning, error and refusal the first ``limit`` lines of a minute pass;
the rest are counted, and one line at the end of the minute says how many there were.
Lines about the process itself (start, stop, reload, workers) and the line at the end
of each connection always pass.
"""

import logging
import re
import threading
import time
from collections.abc import Callable

MINUTE = 60.0
"""Seconds in which lines of a kind are counted, from the first one on."""

MAX_KINDS = 64
"""Kinds counted apart in a minute; all others share one count."""

_PROCESS = ("fastws.app", "fastws.cli")  # loggers that no peer can move
_VARIABLE = re.compile(r"[\d'\"(]")  # where a reason begins to hold what a peer sent
_OTHERS = ("", 0, "", "")

_Kind = tuple[str, int, str, str]


class _Window:
    """One kind in one minute, and the last line of it that was left out."""

    __slots__ = ("last", "left_out", "seen", "start")

    def __init__(self, start: float) -> None:
        self.start = start
        self.seen = self.left_out = 0
        self.last: logging.LogRecord | None = None


class Tally:
    """Decides which lines pass. Pure: the clock is an argument.

    Args:
        limit: lines of a kind that pass in a minute, from 1.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._windows: dict[_Kind, _Window] = {}

    def admits(self, record: logging.LogRecord, now: float) -> bool:
        """Whether the line passes; one that does not is counted.

        Args:
            record: kept until its minute is over, if it does not pass.
            now: seconds of a clock that never goes back.
        """
        kind = kind_of(record)
        window = self._windows.get(kind)
        if window is None and len(self._windows) >= MAX_KINDS:
            self._forget(now)
        if window is None and len(self._windows) >= MAX_KINDS:
            kind = _OTHERS
            window = self._windows.get(kind)
        if window is None or (now - window.start >= MINUTE and not window.left_out):
            self._windows.pop(kind, None)
            window = self._windows[kind] = _Window(now)
        window.seen += 1
        if window.seen <= self._limit:
            return True
        window.left_out += 1
        window.last = record
        return False

    def _forget(self, now: float) -> None:
        """Minutes that are over and have nothing to report make room."""
        for kind, window in list(self._windows.items()):
            if now - window.start >= MINUTE and not window.left_out:
                del self._windows[kind]

    @property
    def due(self) -> float | None:
        """When :meth:`take` has a minute to report, ``None`` if nothing is open."""
        starts = [one.start for one in self._windows.values() if one.left_out]
        return min(starts) + MINUTE if starts else None

    def take(self, now: float, *, early: bool = False) -> list[logging.LogRecord]:
        """A line for each kind that was left out in a minute that is over.

        Args:
            now: as above. Minutes that are over are forgotten.
            early: report those that are not over, too; they stay closed.
        """
        lines = []
        for kind, window in list(self._windows.items()):
            is_over = now - window.start >= MINUTE
            if window.last is not None and (is_over or early):
                lines.append(_summary(window.last, window.left_out))
                window.left_out, window.last = 0, None
            if is_over:
                del self._windows[kind]
        return lines


def kind_of(record: logging.LogRecord) -> _Kind:
    """What lines that count together share: all but what peers choose in them."""
    reason = str(getattr(record, "reason", ""))
    fixed = _VARIABLE.split(reason, maxsplit=1)[0]
    return record.name, record.levelno, str(record.msg), fixed


def is_bounded(record: logging.LogRecord) -> bool:
    """Whether peers decide how often this line comes."""
    if record.name in _PROCESS or hasattr(record, "left_out"):
        return False
    if record.levelno >= logging.WARNING:
        return True
    is_end = hasattr(record, "bytes_in") or hasattr(record, "streams")
    is_refusal = hasattr(record, "reason") and not is_end
    return is_refusal or record.name == "fastws.net"


def _summary(last: logging.LogRecord, count: int) -> logging.LogRecord:
    text = "%d more lines like this were left out (--log-limit): %s"
    record = logging.LogRecord(
        last.name, last.levelno, "", 0, text, (count, last.getMessage()), None
    )
    record.__dict__["left_out"] = count
    return record


class FloodFilter(logging.Filter):
    """Keeps a handler to the limit, and gives it the line at the end of a minute.

    Any thread may log. A timer thread lives while lines are being left out.

    Args:
        handler: what it is a filter of; also gets the summaries.
        limit: lines of a kind in a minute, from 1.
        clock: seconds, never going back.
    """

    def __init__(
        self,
        handler: logging.Handler,
        limit: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._handler = handler
        self._tally = Tally(limit)
        self._clock = clock
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line passes."""
        if is_bounded(record):
            with self._lock:
                admitted = self._tally.admits(record, self._clock())
                if not admitted:
                    self._watch()
            return admitted
        if record.name == "fastws.app":  # as the last line of all: counts come first
            self.report(early=True)
        return True

    def report(self, *, early: bool = False) -> None:
        """Log what is due."""
        with self._lock:
            lines = self._tally.take(self._clock(), early=early)
        for line in lines:
            self._handler.handle(line)

    def _watch(self) -> None:
        """Have a timer run; one of before a fork does not."""
        due = self._tally.due
        if due is None or (self._timer is not None and self._timer.is_alive()):
            return
        self._timer = threading.Timer(max(0.0, due - self._clock()), self._ring)
        self._timer.daemon = True
        self._timer.start()

    def _ring(self) -> None:
        self.report()
        with self._lock:
            self._timer = None
            self._watch()
