"""What a process looks at once a second: files that changed, and whether it idles."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fastws.exceptions import ConfigError

if TYPE_CHECKING:
    from fastws.modes.parts import Part
    from fastws.modes.runner import Runner

logger = logging.getLogger("fastws.app")

INTERVAL = 1.0
"""Seconds between two looks."""


def reload(runners: Sequence["Runner"]) -> None:
    """Read every file again; what cannot be used leaves the old state."""
    for runner in runners:
        for part in runner.parts:
            part.has_changed()  # not to be read once more by the next look
            reload_part(runner.name, part, in_loop=True)


def reload_part(mode: str, part: "Part", *, in_loop: bool = False) -> None:
    """Read one part again and log what came of it.

    Args:
        mode: for the log.
        part: what to read.
        in_loop: this is the event loop, which goes on while a large one is read.
    """
    if not part.is_lasting:
        logger.info("%s: %s: nothing reloaded: a pipe is read once", mode, part.name)
        return

    def report(error: ConfigError | None) -> None:
        if error is not None:
            logger.error("%s: %s: nothing reloaded: %s", mode, part.name, error)
        else:
            logger.info("%s: %s reloaded", mode, part.name)

    if in_loop:
        part.reload_soon(report)
    else:
        part.reload(report)


class Watch:
    """Reloads files that changed; ends a process that has nothing to do.

    For one event loop, which must be running. Costs nothing where there is nothing
    to look at.

    Args:
        runners: already open.
        idle_exit: seconds without a connection after which to stop; 0 for never.
        stop: called then.
    """

    def __init__(
        self,
        runners: Sequence["Runner"],
        *,
        idle_exit: float = 0.0,
        stop: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._runners = runners
        self._parts = [
            (runner.name, part)
            for runner in runners
            for part in runner.parts
            if part.paths
        ]
        self._idle_exit = idle_exit
        self._idle_since = self._loop.time()
        self._stop = stop
        self._timer: asyncio.TimerHandle | None = None
        if self._parts or idle_exit:
            self._timer = self._loop.call_later(INTERVAL, self._look)

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = self._loop.call_later(INTERVAL, self._look)
        for mode, part in self._parts:
            if part.has_changed():
                reload_part(mode, part, in_loop=True)
        if self._idle_exit:
            self._look_for_work()

    def _look_for_work(self) -> None:
        now = self._loop.time()
        listeners = [runner.listener for runner in self._runners]
        if any(listener is not None and listener.active for listener in listeners):
            self._idle_since = now
        elif now - self._idle_since >= self._idle_exit:
            logger.info("no connection for %g s: stopping", self._idle_exit)
            self._stop()
