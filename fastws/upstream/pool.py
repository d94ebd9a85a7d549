"""Which connection goes to whom: the decisions of a pool. Pure: the clock is passed in.

Each call changes the state and returns a :class:`Decision`: what the caller has to
open, close, wake and probe now. Whoever waits gets whichever comes first, a returned
connection or a new one; the other one is kept. Nothing here blocks, and no handshake
belongs to one waiter only, so a waiter that gives up costs nobody anything.
"""

import random as _random
from collections.abc import Callable
from typing import Generic

from fastws._consts import CONNECT_TIMEOUT, RECONNECT_MAX
from fastws.exceptions import Denied, DialError, DialTimeout, NoUpstream
from fastws.upstream.waiting import ConnT, Decision, PoolLimits, Waiter

_GROWTH = 3.0  # of the back-off: 0.2 s, 0.6 s, 1.8 s
_FOREVER = float("inf")


class _Entry(Generic[ConnT]):
    """A connection that is open. Clock times; infinity: never."""

    __slots__ = ("connection", "expires", "holder", "idle_until", "proof_due", "since")

    def __init__(self, connection: ConnT, since: float, expires: float) -> None:
        self.connection = connection
        self.since = since
        self.expires = expires  # too old then
        self.idle_until = 0.0  # idle for too long then
        self.proof_due = 0.0  # doubted until then; 0: trusted
        self.holder: Waiter[ConnT] | None = None  # the last one; None: never lent

    @property
    def due(self) -> float:
        """When an idle one has to go."""
        due = min(self.expires, self.idle_until)
        return min(due, self.proof_due) if self.proof_due else due


class PoolState(Generic[ConnT]):
    """Idle and borrowed connections, handshakes under way, and who waits.

    For use by one event loop. Connections are told apart as dictionary keys are.

    Args:
        limits: of this pool.
        is_reusable: asked before an idle connection is handed out or kept: open,
            nothing unread, last stream ended cleanly. Called often; must not raise.
        random: returns a float in [0, 1); tests pass a fixed one.

    Attributes:
        is_closed: everything that comes back is closed.
    """

    __slots__ = (
        "_borrowed",
        "_idle",
        "_is_reusable",
        "_needy",
        "_openings",
        "_orphans",
        "_random",
        "_resting",
        "_tickets",
        "_waiters",
        "_warm_at",
        "_warm_failures",
        "is_closed",
        "limits",
    )

    def __init__(
        self,
        limits: PoolLimits,
        is_reusable: Callable[[ConnT], bool] = lambda _: True,
        random: Callable[[], float] = _random.random,
    ) -> None:
        self.limits = limits
        self.is_closed = False
        self._is_reusable = is_reusable
        self._random = random
        self._idle: list[_Entry[ConnT]] = []  # the one that came last is taken first
        self._borrowed: dict[ConnT, _Entry[ConnT]] = {}
        self._tickets = 0
        self._openings: dict[int, Waiter[ConnT] | None] = {}
        # Ordered sets. Openings that are counted for nobody; waiters in the order in
        # which they came; those of them without an opening: ready for one, or resting.
        self._orphans: dict[int, None] = {}
        self._waiters: dict[Waiter[ConnT], None] = {}
        self._needy: dict[Waiter[ConnT], None] = {}
        self._resting: dict[Waiter[ConnT], None] = {}
        self._warm_failures = 0
        self._warm_at = 0.0  # no handshake ahead of need before this

    def __repr__(self) -> str:
        state = (
            f"{len(self._idle)} idle, {len(self._borrowed)} borrowed,"
            f" {len(self._openings)} opening, {len(self._waiters)} waiting"
        )
        return f"<{type(self).__name__} {'closed, ' if self.is_closed else ''}{state}>"

    @property
    def total(self) -> int:
        """Connections and handshakes in all."""
        return len(self._idle) + len(self._borrowed) + len(self._openings)

    @property
    def idle(self) -> list[ConnT]:
        """Idle connections, the one that is taken next last."""
        return [entry.connection for entry in self._idle]

    # -- those who want a connection ---------------------------------------------------

    def acquire(
        self, now: float, timeout: float = CONNECT_TIMEOUT, *, fresh: bool = False
    ) -> tuple[Waiter[ConnT], Decision[ConnT]]:
        """Ask for a connection.

        Args:
            now: clock time.
            timeout: seconds to wait for one.
            fresh: only one that is opened from now on will do.

        Returns:
            Whether ``connection`` or ``error`` is set tells if there is anything to
            wait for; a waiter is woken only if it had to wait.
        """
        waiter: Waiter[ConnT] = Waiter(now + timeout, fresh)
        decision: Decision[ConnT] = Decision()
        if self.is_closed:
            waiter.error = NoUpstream("the pool is closed")
            return waiter, decision
        entry = None if fresh else self._take_idle(now, decision)
        if entry is None:
            self._waiters[waiter] = None
            self._needy[waiter] = None
        else:
            self._lend(entry, waiter)
        self._balance(now, decision)
        return waiter, decision

    def cancel(self, waiter: Waiter[ConnT], now: float) -> Decision[ConnT]:
        """The waiter gives up: a connection that it got goes to the next, unused.

        Nothing happens if it has released that connection already.
        """
        decision: Decision[ConnT] = Decision()
        if waiter.is_waiting:
            waiter.error = DialError("given up")
            self._forget(waiter)
        elif waiter.connection is not None:
            entry = self._borrowed.get(waiter.connection)
            if entry is not None and entry.holder is waiter:
                del self._borrowed[waiter.connection]
                self._put(entry, now, decision)
        self._balance(now, decision)
        return decision

    def release(
        self, connection: ConnT, now: float, *, fit: bool = True
    ) -> Decision[ConnT]:
        """A borrowed connection comes back.

        Args:
            connection: as it was given to a waiter.
            now: clock time.
            fit: its last stream ended cleanly; otherwise it is closed.

        Raises:
            KeyError: it is not borrowed.
        """
        decision: Decision[ConnT] = Decision()
        entry = self._borrowed.pop(connection)
        if fit:
            self._warm_failures = 0
            self._warm_at = 0.0
            self._put(entry, now, decision)
        else:
            decision.closes.append(connection)
        self._balance(now, decision)
        return decision

    # -- what became of handshakes and connections ------------------------------------

    def opened(self, ticket: int, connection: ConnT, now: float) -> Decision[ConnT]:
        """A handshake was successful.

        Raises:
            KeyError: there is no such ticket.
        """
        decision: Decision[ConnT] = Decision()
        self._end_opening(ticket)
        age = self.limits.max_age * (1 - self.limits.age_jitter * self._random())
        entry = _Entry(connection, now, now + age if age else _FOREVER)
        self._put(entry, now, decision, is_new=True)
        self._balance(now, decision)
        return decision

    def failed(self, ticket: int, error: DialError, now: float) -> Decision[ConnT]:
        """A handshake failed: whoever it was counted for may have another one.

        Raises:
            KeyError: there is no such ticket.
        """
        decision: Decision[ConnT] = Decision()
        waiter = self._end_opening(ticket)
        if waiter is None:
            self._rest_from_warming(now)
        else:
            delay = self._delay(waiter.failures)
            waiter.failures += 1
            waiter.last_error = error
            is_final = isinstance(error, Denied)  # asking again changes nothing
            if is_final or waiter.failures >= self.limits.attempts:
                self._fail(waiter, error, decision)
            else:
                del self._needy[waiter]
                self._resting[waiter] = None
                waiter.retry_at = now + delay
        self._balance(now, decision)
        return decision

    def lost(self, connection: ConnT, now: float) -> Decision[ConnT]:
        """An idle connection ended, or something came on it; of no use if not idle."""
        decision: Decision[ConnT] = Decision()
        for place, entry in enumerate(self._idle):
            if entry.connection == connection:
                del self._idle[place]
                decision.closes.append(connection)
                self._note_end(entry, now)
                break
        self._balance(now, decision)
        return decision

    def doubt(self, now: float) -> Decision[ConnT]:
        """A connection turned out dead: no idle one is trusted before it is proved."""
        decision: Decision[ConnT] = Decision()
        for entry in self._idle:
            if not entry.proof_due:
                entry.proof_due = now + (self.limits.probe_time or _FOREVER)
                decision.probes.append(entry.connection)
        self._balance(now, decision)
        return decision

    def proved(self, connection: ConnT, now: float) -> Decision[ConnT]:
        """A doubted connection is alive; nothing happens if it is not idle any more."""
        decision: Decision[ConnT] = Decision()
        for place, entry in enumerate(self._idle):
            if entry.connection == connection and entry.proof_due:
                entry.proof_due = 0.0
                if self._first_taker(is_new=False) is not None:
                    del self._idle[place]
                    self._put(entry, now, decision)
                break
        self._balance(now, decision)
        return decision

    # -- time --------------------------------------------------------------------------

    def next_due(self) -> float:
        """When :meth:`tick` has to be called although nothing happens; infinity."""
        dues = [entry.due for entry in self._idle]
        dues += [waiter.deadline for waiter in self._waiters]
        dues += [waiter.retry_at for waiter in self._resting]
        if self._warm_wanted() > 0 and self._may_open():
            dues.append(self._warm_at)
        return min(dues, default=_FOREVER)

    def tick(self, now: float) -> Decision[ConnT]:
        """Take note of the clock: time-outs, back-offs, what is too old."""
        decision: Decision[ConnT] = Decision()
        for waiter in [waiter for waiter in self._waiters if waiter.deadline <= now]:
            late = DialTimeout("no pooled connection in time")
            slow = waiter.ticket
            self._fail(waiter, waiter.last_error or late, decision)
            self._orphans.pop(slow, None)  # may hang: nobody else is to wait for it
        for entry in [entry for entry in self._idle if entry.due <= now]:
            self._idle.remove(entry)
            self._warm_failures = 0
            decision.closes.append(entry.connection)
        for waiter in [waiter for waiter in self._resting if waiter.retry_at <= now]:
            del self._resting[waiter]
            self._needy[waiter] = None
        self._balance(now, decision)
        return decision

    def start(self, now: float) -> Decision[ConnT]:
        """Open what is wanted ahead of need."""
        return self.tick(now)

    def close(self, now: float) -> Decision[ConnT]:
        """End: nobody waits any more; what is borrowed is closed when it comes back."""
        decision: Decision[ConnT] = Decision()
        self.is_closed = True
        decision.closes += self.idle
        self._idle.clear()
        for waiter in list(self._waiters):
            self._fail(waiter, NoUpstream("the pool is closed"), decision)
        return decision

    # -- mechanics --------------------------------------------------------------------

    def _take_idle(self, now: float, decision: Decision[ConnT]) -> _Entry[ConnT] | None:
        """The idle connection that came last and may be used again."""
        for place in range(len(self._idle) - 1, -1, -1):
            entry = self._idle[place]
            if entry.proof_due:
                continue
            del self._idle[place]
            if entry.due > now and self._is_reusable(entry.connection):
                return entry
            decision.closes.append(entry.connection)
        return None

    def _put(
        self,
        entry: _Entry[ConnT],
        now: float,
        decision: Decision[ConnT],
        *,
        is_new: bool = False,
    ) -> None:
        """Give a connection to who came first, or keep it, or close it."""
        is_good = is_new or (
            entry.expires > now and self._is_reusable(entry.connection)
        )
        if self.is_closed or not is_good:
            decision.closes.append(entry.connection)
        elif (waiter := self._first_taker(is_new=is_new)) is not None:
            self._forget(waiter)
            self._lend(entry, waiter)
            waiter.is_fresh = is_new
            decision.wakes.append(waiter)
        elif len(self._idle) < self.limits.max_idle:
            entry.idle_until = now + (self.limits.idle_time or _FOREVER)
            self._idle.append(entry)
        else:
            decision.closes.append(entry.connection)

    def _lend(self, entry: _Entry[ConnT], waiter: Waiter[ConnT]) -> None:
        self._borrowed[entry.connection] = entry
        entry.holder = waiter
        waiter.connection = entry.connection

    def _first_taker(self, *, is_new: bool) -> Waiter[ConnT] | None:
        for waiter in self._waiters:
            if is_new or not waiter.wants_fresh:
                return waiter
        return None

    def _forget(self, waiter: Waiter[ConnT]) -> None:
        """It waits no more; a handshake that was counted for it goes on."""
        del self._waiters[waiter]
        self._needy.pop(waiter, None)
        self._resting.pop(waiter, None)
        if waiter.ticket:
            self._openings[waiter.ticket] = None
            self._orphans[waiter.ticket] = None
            waiter.ticket = 0

    def _fail(
        self, waiter: Waiter[ConnT], error: DialError, decision: Decision[ConnT]
    ) -> None:
        self._forget(waiter)
        waiter.error = error
        decision.wakes.append(waiter)

    def _end_opening(self, ticket: int) -> Waiter[ConnT] | None:
        """Forget a handshake; the waiter it was counted for needs another one."""
        waiter = self._openings.pop(ticket)
        self._orphans.pop(ticket, None)
        if waiter is not None:
            waiter.ticket = 0
            self._needy[waiter] = None
        return waiter

    def _delay(self, failures: int) -> float:
        """The pause after one more failure."""
        delay = self.limits.retry_delay * _GROWTH ** min(failures, 8)
        return float(min(delay, RECONNECT_MAX))

    def _rest_from_warming(self, now: float) -> None:
        """One opened ahead of need was in vain: no other one at once.

        Those that end together, as when a server restarts, are one failure.
        """
        if now < self._warm_at:
            return
        self._warm_at = now + self._delay(self._warm_failures)
        self._warm_failures += 1

    def _note_end(self, entry: _Entry[ConnT], now: float) -> None:
        """An idle one ended: whose server ends all of them unused is in no hurry."""
        if entry.holder is not None or now - entry.since >= RECONNECT_MAX:
            self._warm_failures = 0
        elif self._warm_failures:
            self._rest_from_warming(now)
        else:
            self._warm_failures = 1

    def _may_open(self) -> bool:
        if len(self._openings) >= self.limits.max_opening or self.is_closed:
            return False
        return self.total < self.limits.max_total

    def _warm_wanted(self) -> int:
        """Handshakes ahead of need that are missing."""
        coming = len(self._idle) + len(self._orphans)
        return self.limits.min_idle - coming

    def _open(self, waiter: Waiter[ConnT] | None, decision: Decision[ConnT]) -> None:
        self._tickets += 1
        self._openings[self._tickets] = waiter
        decision.opens.append(self._tickets)
        if waiter is None:
            self._orphans[self._tickets] = None
        else:
            waiter.ticket = self._tickets

    def _balance(self, now: float, decision: Decision[ConnT]) -> None:
        """Begin the handshakes that are missing and allowed."""
        while self._needy:
            waiter = next(iter(self._needy))
            if self._orphans:
                ticket = next(iter(self._orphans))
                del self._orphans[ticket]
                self._openings[ticket] = waiter
                waiter.ticket = ticket
            else:
                is_full = self.total >= self.limits.max_total
                if len(self._openings) >= self.limits.max_opening:
                    return
                if is_full and not self._idle:
                    return
                if is_full:
                    # Idle ones do not help this waiter: it wants a new one, or they
                    # are doubted.
                    decision.closes.append(self._idle.pop(0).connection)
                self._open(waiter, decision)
            del self._needy[waiter]
        while self._warm_wanted() > 0 and now >= self._warm_at and self._may_open():
            self._open(None, decision)
