"""Several processes that share the listening sockets: one parent, N workers.

The parent binds, forks and watches; it accepts nothing and has no event loop. What it
is told by signals it tells its workers through a pipe of each: a signal that reaches
parent and workers alike, as from a terminal or from systemd, then counts once. A pipe
at its end means that the parent is gone: the workers drain.
"""

import logging
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from types import FrameType

from fastws.net.backoff import Backoff

logger = logging.getLogger("fastws.app")

DRAIN = b"d"
RESET = b"r"
RELOAD = b"h"

_ORDERS = {signal.SIGTERM: DRAIN, signal.SIGINT: DRAIN}
if hasattr(signal, "SIGHUP"):  # not on Windows
    _ORDERS[signal.SIGHUP] = RELOAD


class Worker:
    """One place in the crew, filled by one process after the other.

    Attributes:
        number: from 0.
        pid: of the process, 0 while there is none.
        due: clock time at which to start the next one.
    """

    __slots__ = ("backoff", "due", "number", "orders", "pid", "started")

    def __init__(self, number: int) -> None:
        self.number = number
        self.pid = 0
        self.started = 0.0
        self.due = 0.0
        self.orders = -1
        self.backoff = Backoff()

    def tell(self, order: bytes) -> None:
        """Pass an order on; a worker that has just gone hears nothing."""
        if self.pid:
            try:
                os.write(self.orders, order)
            except OSError:
                pass  # its end is noticed by waitpid

    def bury(self) -> None:
        """The process is gone."""
        os.close(self.orders)
        self.orders = -1
        self.pid = 0


class Crew:
    """Forks workers, restarts those that die, passes signals on.

    Args:
        count: workers.
        body: what a worker does, given its number and the descriptor from which it
            reads orders; returns its exit status. Runs in the forked process.
        release: called in the parent when workers are no longer restarted and the
            sockets may go, ``delay`` seconds after the first signal.
        delay: see there.
    """

    def __init__(
        self,
        count: int,
        body: Callable[[int, int], int],
        release: Callable[[], None],
        delay: float = 0.0,
    ) -> None:
        self.workers = [Worker(number) for number in range(count)]
        self._body = body
        self._release = release
        self._release_at = 0.0
        self._stopping = False
        self._delay = delay
        self._caught: list[int] = []
        self._wake, self._waker = socket.socketpair()

    def run(self, say: Callable[[], None]) -> None:
        """Work until all workers have ended after a signal.

        Args:
            say: called once signals are heard, before the first fork.
        """
        self._catch_signals()
        say()
        while not self._stopping:
            now = time.monotonic()
            for worker in self.workers:
                if not worker.pid and now >= worker.due:
                    self._start(worker)
            self._look()
        while any(worker.pid for worker in self.workers):
            if self._release_at and time.monotonic() >= self._release_at:
                self._release_at = 0.0
                self._release()
            self._look()
        self._release()
        signal.set_wakeup_fd(-1)

    def _look(self) -> None:
        """Wait until there is something to do; pass orders on, bury the dead."""
        self._sleep(self._stopping)
        while self._caught:
            order = _ORDERS.get(signal.Signals(self._caught.pop(0)))
            if order == DRAIN and self._stopping:
                order = RESET
            elif order == DRAIN:
                self._stopping = True
                self._release_at = time.monotonic() + self._delay
            if order is not None:
                for worker in self.workers:
                    worker.tell(order)
        self._reap(self._stopping)

    def _catch_signals(self) -> None:
        for sock in (self._wake, self._waker):
            sock.setblocking(False)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        for number in (*_ORDERS, signal.SIGCHLD):
            signal.signal(number, self._catch)

    def _catch(self, number: int, frame: FrameType | None) -> None:
        self._caught.append(number)

    def _sleep(self, stopping: bool) -> None:
        """Until a signal, or until something is due."""
        if stopping:
            dues = [self._release_at] if self._release_at else []
        else:
            dues = [worker.due for worker in self.workers if not worker.pid]
        timeout = max(0.0, min(dues) - time.monotonic()) if dues else None
        if not self._caught:
            select.select([self._wake], [], [], timeout)
        try:
            while self._wake.recv(4096):
                pass
        except BlockingIOError:
            pass

    def _start(self, worker: Worker) -> None:
        """Fork one worker."""
        orders, ours = os.pipe()
        try:
            pid = os.fork()
        except OSError as error:  # as at a limit of processes
            os.close(orders)
            os.close(ours)
            worker.started = time.monotonic()
            self._put_off(worker, f"is not started: {error.strerror}")
            return
        if pid == 0:
            self._be_worker(worker.number, orders, ours)
        os.close(orders)
        os.set_blocking(ours, False)  # a worker that is stopped reads nothing
        worker.pid, worker.orders = pid, ours
        worker.started = time.monotonic()
        logger.debug("worker %d runs as process %d", worker.number + 1, pid)

    def _be_worker(self, number: int, orders: int, ours: int) -> None:
        """The forked process; never returns."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for caught in (*_ORDERS, signal.SIGCHLD):
                signal.signal(caught, signal.SIG_DFL)
            os.close(ours)
            for other in self.workers:  # their pipes must end with the parent
                if other.pid:
                    os.close(other.orders)
            self._wake.close()
            self._waker.close()
            status = self._body(number, orders)
        except BaseException as error:
            logger.error("worker %d: %s: %s", number + 1, type(error).__name__, error)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _reap(self, stopping: bool) -> None:
        """Notice the workers that have ended."""
        for worker in self.workers:
            if not worker.pid:
                continue
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if not pid:
                continue
            worker.bury()
            if stopping:
                continue
            self._put_off(worker, f"(process {pid}) {describe_status(status)}")

    def _put_off(self, worker: Worker, what: str) -> None:
        """Its next process starts a little later, and the later the more often."""
        now = time.monotonic()
        delay = worker.backoff.next_delay(now - worker.started)
        worker.due = now + delay
        logger.warning(
            "worker %d %s: the next one starts in %.1f s",
            worker.number + 1,
            what,
            delay,
        )


def describe_status(status: int) -> str:
    """How a process ended: ``was killed by SIGKILL``, ``ended with status 1``."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            return f"was killed by {signal.Signals(number).name}"
        except ValueError:  # a real-time signal has no name
            return f"was killed by signal {number}"
    return f"ended with status {os.WEXITSTATUS(status)}"
