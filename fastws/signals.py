"""What signals and a parent ask of a running process, brought into its loop."""

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from fastws.workers import DRAIN, RELOAD, RESET

_RELOAD_REST = 0.2
"""Seconds from one reload to the next: a storm of SIGHUP must not stop the loop."""


class Signals:
    """What signals ask for: a drain, then a reset; SIGHUP reads files again.

    The handlers outlive the loop, so that a late signal is never the system's own
    "terminate". Only the main thread may have handlers: elsewhere nothing is set.

    Args:
        first: set by the first SIGTERM or SIGINT.
        reload: called in the loop for a SIGHUP.
    """

    def __init__(self, first: asyncio.Event | None, reload: Callable[[], None]) -> None:
        self.first = first or asyncio.Event()
        self.second = asyncio.Event()
        self._reload = reload
        self._loop = asyncio.get_running_loop()
        self._reload_from = 0.0  # no reload before
        self._is_reload_due = False
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._stop)
            if hasattr(signal, "SIGHUP"):  # not on Windows
                signal.signal(signal.SIGHUP, self._hang_up)

    def _in_loop(self, call: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:
            pass  # the loop is closed: everything has ended already

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._in_loop(self._set_next)

    def _set_next(self) -> None:
        (self.second if self.first.is_set() else self.first).set()

    def _hang_up(self, number: int, frame: FrameType | None) -> None:
        self._in_loop(self._reload_soon)

    def _reload_soon(self) -> None:
        """Reload now, or once for all who ask during the rest."""
        if not self._is_reload_due:
            self._is_reload_due = True
            now = self._loop.time()
            if now >= self._reload_from:
                self._reload_now()
            else:
                self._loop.call_at(self._reload_from, self._reload_now)

    def _reload_now(self) -> None:
        self._is_reload_due = False
        try:
            self._reload()
        finally:
            self._reload_from = self._loop.time() + _RELOAD_REST


class WorkerSignals(Signals):
    """The same for a worker: what the parent says counts.

    A signal that comes to the worker itself may be one that the parent got too; it
    is never the second one.

    Args:
        orders: descriptor to read orders from, see :mod:`fastws.workers`.
        reload: as above.
    """

    def __init__(self, orders: int, reload: Callable[[], None]) -> None:
        super().__init__(None, reload)
        self._orders = orders
        self._loop.add_reader(orders, self._obey)

    def _set_next(self) -> None:
        self.first.set()

    def _obey(self) -> None:
        orders = os.read(self._orders, 64)
        if not orders:  # the parent is gone
            self._loop.remove_reader(self._orders)
        if not orders or DRAIN in orders or RESET in orders:
            self.first.set()
        if RESET in orders:
            self.second.set()
        if RELOAD in orders:
            self._reload_soon()


@contextmanager
def waking(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Let a signal end the loop's wait, inside the block.

    One that comes right before the wait runs its handler only after it, which may be
    never. uvloop and the Windows loop see to that themselves.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    wakes, waker = socket.socketpair()
    with wakes, waker:
        wakes.setblocking(False)
        waker.setblocking(False)
        other = signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        if other != -1:
            signal.set_wakeup_fd(other)
            yield
            return
        loop.add_reader(wakes, wakes.recv, 4096)
        try:
            yield
        finally:
            loop.remove_reader(wakes)
            signal.set_wakeup_fd(-1)
