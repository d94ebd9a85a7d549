"""A pool of connections at work: what :mod:`fastws.upstream.pool` decides is done here.

Handshakes and probes run in tasks of the pool, so that nobody's patience ends them;
one timer stands for all times. Whoever gets a connection holds a :class:`Lease`.
"""

import asyncio
import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, Generic, Self

from fastws._consts import CONNECT_TIMEOUT
from fastws.exceptions import DialError, DialTimeout, NoUpstream
from fastws.upstream.pool import PoolState
from fastws.upstream.waiting import ConnT, Decision, PoolLimits, Waiter

_SOON = 0.001  # seconds; clocks of event loops count milliseconds
_NO_LIMITS = PoolLimits()


class PoolStats:
    """Counters of one pool, since its start.

    Attributes:
        opened: handshakes that succeeded.
        failed: handshakes that failed.
        reused: times that a connection was handed out again.
        lost: idle connections that ended, said something, or failed a probe.
        closed: connections that the pool closed.
        retried: streams that were tried again, as their owner counts them.
    """

    __slots__ = ("closed", "failed", "lost", "opened", "retried", "reused")

    def __init__(self) -> None:
        self.opened = self.failed = self.reused = 0
        self.lost = self.closed = self.retried = 0

    def __repr__(self) -> str:
        counts = ", ".join(f"{k}={v}" for k, v in self.as_fields().items())
        return f"PoolStats({counts})"

    def __str__(self) -> str:
        """For the last line of a log."""
        return (
            f"{self.opened} opened ({self.failed} failed),"
            f" {self.reused} time{_s(self.reused)} reused, {self.lost} lost while idle,"
            f" {self.retried} stream{_s(self.retried)} begun again"
        )

    def as_fields(self) -> dict[str, int]:
        """Name and number of each counter, for logs that machines read."""
        return {name: getattr(self, name) for name in self.__slots__}


class Lease(Generic[ConnT]):
    """A connection that somebody has borrowed.

    It goes back by :meth:`release`, at the end of a ``with`` block, or when the lease
    is forgotten. It knows its pool only weakly: one that is gone is missed by nobody,
    and the connection is closed.

    Attributes:
        connection: of the pool; whether it may be used again the pool finds out.
        is_fresh: it was opened for this lease, and nobody has used it before.
    """

    __slots__ = ("__weakref__", "_close", "_loop", "_pool", "connection", "is_fresh")

    def __init__(
        self, pool: "Pool[ConnT]", connection: ConnT, *, is_fresh: bool
    ) -> None:
        self.connection = connection
        self.is_fresh = is_fresh
        self._loop = pool.loop
        self._close = pool.close_connection
        self._pool: weakref.ref[Pool[ConnT]] | None = weakref.ref(pool)

    def __repr__(self) -> str:
        state = "given back" if self._pool is None else "lent"
        return f"<{type(self).__name__} {state} {self.connection!r}>"

    def release(self, *, fit: bool = True) -> None:
        """Give the connection back. Idempotent.

        Args:
            fit: whoever comes next may have it; otherwise it is closed.
        """
        if self._pool is not None:
            pool, self._pool = self._pool, None
            _give_back(pool, self.connection, self._close, fit)

    def __enter__(self) -> ConnT:
        return self.connection

    def __exit__(self, kind: object, *_: object) -> None:
        self.release(fit=kind is None)

    def __del__(self) -> None:
        if self._pool is not None and not self._loop.is_closed():
            # The collector runs in any thread, in the midst of anything.
            pool, self._pool = self._pool, None
            back = partial(_give_back, pool, self.connection, self._close, True)
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(back)


def _give_back(
    ref: "weakref.ref[Pool[ConnT]]",
    connection: ConnT,
    close: Callable[[ConnT], object],
    fit: bool,
) -> None:
    pool = ref()
    if pool is None:
        close(connection)
    else:
        pool.put_back(connection, fit=fit)


class Pool(Generic[ConnT]):
    """Keeps connections ready, and hands each to one borrower at a time.

    Whoever waits gets whichever comes first, a returned connection or a new one; the
    other is kept. For use by one event loop, which has to run when it is made.

    Args:
        open: opens a connection; a :class:`DialError` says why there is none.
        close: ends one; must not raise, and may be called more than once.
        limits: sizes, ages and patience.
        open_timeout: seconds that ``open`` may take, 0 for any.
        is_reusable: asked before a connection is handed out or kept; must not raise.
        probe: finds out whether an idle connection lives; without it those in doubt
            are closed.

    Attributes:
        stats: counters.
    """

    def __init__(
        self,
        open: Callable[[], Awaitable[ConnT]],
        close: Callable[[ConnT], object],
        limits: PoolLimits = _NO_LIMITS,
        *,
        open_timeout: float = 0.0,
        is_reusable: Callable[[ConnT], bool] = lambda _: True,
        probe: Callable[[ConnT], Awaitable[bool]] | None = None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.close_connection = close
        self.stats = PoolStats()
        self._open = open
        self._open_timeout = open_timeout
        self._probe = probe
        self._state: PoolState[ConnT] = PoolState(limits, is_reusable)
        self._waiting: dict[Waiter[ConnT], asyncio.Future[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._due = float("inf")
        self._do(self._state.start(self.loop.time()))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._state!r}>"

    @property
    def is_closed(self) -> bool:
        """Nothing can be borrowed any more."""
        return self._state.is_closed

    @property
    def idle(self) -> list[ConnT]:
        """Connections that wait to be borrowed, the next one last."""
        return self._state.idle

    @property
    def total(self) -> int:
        """Connections, and handshakes that are under way."""
        return self._state.total

    async def acquire(
        self, timeout: float = CONNECT_TIMEOUT, *, fresh: bool = False
    ) -> Lease[ConnT]:
        """Borrow a connection, waiting for one if need be.

        Args:
            timeout: seconds to wait.
            fresh: only one that is opened from now on will do.

        Raises:
            DialTimeout: none came in time.
            DialError: of the last handshake that was to serve this call.
            NoUpstream: the pool is closed.
        """
        waiter, decision = self._state.acquire(self.loop.time(), timeout, fresh=fresh)
        future: asyncio.Future[None] | None = None
        if waiter.is_waiting:
            future = self._waiting[waiter] = self.loop.create_future()
        self._do(decision)
        if future is not None:
            try:
                await future
            except asyncio.CancelledError:
                self._do(self._state.cancel(waiter, self.loop.time()))
                raise
            finally:
                self._waiting.pop(waiter, None)
        if waiter.error is not None:
            raise waiter.error
        assert waiter.connection is not None
        self.stats.reused += not waiter.is_fresh
        return Lease(self, waiter.connection, is_fresh=waiter.is_fresh)

    def put_back(self, connection: ConnT, *, fit: bool) -> None:
        """A borrowed connection comes back; its lease calls this.

        Raises:
            KeyError: it is not borrowed.
        """
        self._do(self._state.release(connection, self.loop.time(), fit=fit))

    def lost(self, connection: ConnT) -> None:
        """An idle connection is of no use any more; others are left alone."""
        if connection in self._state.idle:
            self.stats.lost += 1
            self._do(self._state.lost(connection, self.loop.time()))

    def doubt(self) -> None:
        """A connection turned out dead: check the idle ones before trusting them."""
        self._do(self._state.doubt(self.loop.time()))

    def check(self) -> None:
        """Probe the idle connections; whoever needs one meanwhile may have it."""
        if self._probe is not None:
            for connection in self.idle:
                self._run(self._check(connection, self._probe))

    def close(self) -> None:
        """End: idle connections and handshakes now, borrowed ones when they return.

        Whoever waits gets an error. Idempotent.
        """
        self._do(self._state.close(self.loop.time()))
        for task in self._tasks:
            task.cancel()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def aclose(self) -> None:
        """:meth:`close`, and wait until no task is left."""
        self.close()
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    # -- what was decided ----------------------------------------------------------

    def _do(self, decision: Decision[ConnT]) -> None:
        for connection in decision.closes:
            self.stats.closed += 1
            self.close_connection(connection)
        for waiter in decision.wakes:
            future = self._waiting.pop(waiter, None)
            if future is not None and not future.done():
                future.set_result(None)
        for ticket in decision.opens:
            self._run(self._open_one(ticket))
        for connection in decision.probes:
            if self._probe is None:
                self.lost(connection)
            else:
                self._run(self._check(connection, self._probe))
        self._arm()

    def _run(self, work: Any) -> None:
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _open_one(self, ticket: int) -> None:
        try:
            async with asyncio.timeout(self._open_timeout or None):
                connection = await self._open()
        except BaseException as error:
            self.stats.failed += 1
            failure = _failure_of(error)
            self._do(self._state.failed(ticket, failure, self.loop.time()))
            if isinstance(error, asyncio.CancelledError):
                raise
            return
        self.stats.opened += 1
        self._do(self._state.opened(ticket, connection, self.loop.time()))

    async def _check(
        self, connection: ConnT, probe: Callable[[ConnT], Awaitable[bool]]
    ) -> None:
        try:
            lives = await probe(connection)
        except (DialError, OSError):
            lives = False
        if lives:
            self._do(self._state.proved(connection, self.loop.time()))
        else:
            self.lost(connection)

    # -- time ----------------------------------------------------------------------

    def _arm(self) -> None:
        """See that the clock is looked at in time; too early does no harm."""
        due = self._state.next_due()
        if self._timer is not None:
            if self._due <= due:
                return
            self._timer.cancel()
            self._timer = None
        if due < float("inf") and not self.is_closed:
            self._due = due
            when = max(due, self.loop.time() + _SOON)
            self._timer = self.loop.call_at(when, _ring, weakref.ref(self))

    def ring(self) -> None:
        """The timer has come."""
        self._timer = None
        self._do(self._state.tick(self.loop.time()))


def _ring(ref: "weakref.ref[Pool[Any]]") -> None:
    pool = ref()
    if pool is not None:
        pool.ring()


def _s(count: int) -> str:
    """The end of the noun behind a number."""
    return "" if count == 1 else "s"


def _failure_of(error: BaseException) -> DialError:
    """What whoever waits for a handshake is told of its failure."""
    if isinstance(error, DialError):
        return error
    if isinstance(error, TimeoutError):
        failure: DialError = DialTimeout("the handshake was not finished in time")
    elif isinstance(error, asyncio.CancelledError):
        failure = NoUpstream("the handshake was given up")
    else:
        failure = NoUpstream(str(error) or type(error).__name__)
    failure.__cause__ = error
    return failure
