"""A pool under any course of events keeps its promises.

Never more than ``max_total``; no waiter lost; no connection with two owners; who came
first is served first. Waiters give up, handshakes fail, connections die at random.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from fastws.exceptions import DialError, DialTimeout, NoUpstream
from fastws.upstream.pool import PoolState
from fastws.upstream.waiting import Decision, PoolLimits, Waiter

TIMEOUT = 5.0
PICK = st.integers(0, 1000)


class PoolMachine(RuleBasedStateMachine):
    """The caller's side of a pool, with a ledger of its own."""

    @initialize(
        max_idle=st.integers(0, 4),
        max_total=st.integers(1, 6),
        max_opening=st.integers(1, 4),
        min_idle=st.integers(0, 2),
        attempts=st.integers(1, 3),
    )
    def begin(
        self,
        max_idle: int,
        max_total: int,
        max_opening: int,
        min_idle: int,
        attempts: int,
    ) -> None:
        self.limits = PoolLimits(
            max_idle=max_idle,
            max_total=max_total,
            max_opening=max_opening,
            min_idle=min(min_idle, max_idle),
            attempts=attempts,
            idle_time=20.0,
            max_age=60.0,
        )
        self.unfit: set[int] = set()
        self.pool: PoolState[int] = PoolState(
            self.limits, lambda connection: connection not in self.unfit
        )
        self.now = 0.0
        self.count = 0
        self.opening: set[int] = set()
        self.closed: set[int] = set()
        self.alive: set[int] = set()
        self.owners: dict[int, Waiter[int]] = {}
        self.queue: list[Waiter[int]] = []
        self.take(self.pool.start(self.now))

    def take(self, decision: Decision[int]) -> None:
        """Do what was decided; every promise that one decision can break is here."""
        for connection in decision.closes:
            assert connection in self.alive, "closed twice, or never opened"
            assert connection not in self.owners, "closed under its owner"
            self.alive.remove(connection)
            self.closed.add(connection)
        for waiter in decision.wakes:
            assert waiter in self.queue, "woken twice"
            assert not waiter.is_waiting
            assert (waiter.connection is None) is not (waiter.error is None)
            if waiter.connection is not None:
                self.check_turn(waiter)
                self.own(waiter)
            self.queue.remove(waiter)
        for ticket in decision.opens:
            assert ticket not in self.opening
            self.opening.add(ticket)

    def check_turn(self, waiter: Waiter[int]) -> None:
        """Nobody who came earlier, and would have taken it too, still waits."""
        earlier = self.queue[: self.queue.index(waiter)]
        if not waiter.is_fresh:
            earlier = [other for other in earlier if not other.wants_fresh]
        assert not [other for other in earlier if other.is_waiting]

    def own(self, waiter: Waiter[int]) -> None:
        connection = waiter.connection
        assert connection in self.alive, "a closed connection was given out"
        assert connection not in self.owners, "given out twice"
        self.owners[connection] = waiter

    def pick(self, number: int, things: list[int]) -> int:
        return things[number % len(things)]

    @rule(fresh=st.booleans())
    def acquire(self, fresh: bool) -> None:
        waiter, decision = self.pool.acquire(self.now, TIMEOUT, fresh=fresh)
        if waiter.connection is not None:
            assert waiter.connection not in self.unfit
            assert not fresh
            earlier = [w for w in self.queue if w.is_waiting and not w.wants_fresh]
            assert not earlier, "overtook somebody"
            self.own(waiter)
        elif waiter.error is None:
            self.queue.append(waiter)
        else:
            assert self.pool.is_closed
        self.take(decision)

    @precondition(lambda self: self.queue)
    @rule(number=PICK)
    def cancel_waiting(self, number: int) -> None:
        waiter = self.queue.pop(number % len(self.queue))
        self.take(self.pool.cancel(waiter, self.now))
        assert isinstance(waiter.error, DialError)
        assert waiter.connection is None

    @precondition(lambda self: self.owners)
    @rule(number=PICK)
    def cancel_served(self, number: int) -> None:
        connection = self.pick(number, sorted(self.owners))
        waiter = self.owners.pop(connection)
        self.take(self.pool.cancel(waiter, self.now))

    @precondition(lambda self: self.owners)
    @rule(number=PICK, fit=st.booleans())
    def release(self, number: int, fit: bool) -> None:
        connection = self.pick(number, sorted(self.owners))
        waiter = self.owners.pop(connection)
        self.take(self.pool.release(connection, self.now, fit=fit))
        assert fit or connection in self.closed
        self.take(self.pool.cancel(waiter, self.now))  # too late: changes nothing

    @precondition(lambda self: self.opening)
    @rule(number=PICK)
    def opened(self, number: int) -> None:
        ticket = self.pick(number, sorted(self.opening))
        self.opening.remove(ticket)
        self.count += 1
        self.alive.add(self.count)
        self.take(self.pool.opened(ticket, self.count, self.now))

    @precondition(lambda self: self.opening)
    @rule(number=PICK)
    def failed(self, number: int) -> None:
        ticket = self.pick(number, sorted(self.opening))
        self.opening.remove(ticket)
        self.take(self.pool.failed(ticket, NoUpstream("refused"), self.now))

    @precondition(lambda self: self.alive)
    @rule(number=PICK)
    def die(self, number: int) -> None:
        connection = self.pick(number, sorted(self.alive))
        self.take(self.pool.lost(connection, self.now))
        assert connection in self.closed or connection in self.owners

    @precondition(lambda self: self.alive)
    @rule(number=PICK)
    def become_unfit(self, number: int) -> None:
        self.unfit.add(self.pick(number, sorted(self.alive)))

    @rule()
    def doubt(self) -> None:
        self.take(self.pool.doubt(self.now))

    @precondition(lambda self: self.alive)
    @rule(number=PICK)
    def prove(self, number: int) -> None:
        connection = self.pick(number, sorted(self.alive))
        if connection not in self.unfit:
            self.take(self.pool.proved(connection, self.now))

    @rule(seconds=st.sampled_from([0.05, 0.5, 3.0, 30.0]))
    def wait(self, seconds: float) -> None:
        """Let time pass, looking at the clock only when the pool asks for it."""
        end = self.now + seconds
        for _ in range(1000):
            due = self.pool.next_due()
            if due > end:
                break
            self.now = max(self.now, due)
            self.take(self.pool.tick(self.now))
        else:
            raise AssertionError("the pool wants to be looked at for ever")
        self.now = end
        for waiter in self.queue:
            assert waiter.deadline > self.now, "nobody told it that time is up"

    @invariant()
    def counts_are_kept(self) -> None:
        if not hasattr(self, "pool"):
            return
        idle = self.pool.idle
        assert self.pool.total == len(self.alive) + len(self.opening)
        assert self.alive == set(idle) | set(self.owners)
        assert len(idle) + len(self.owners) == len(self.alive)
        assert len(idle) <= self.limits.max_idle
        assert self.pool.total <= self.limits.max_total
        assert len(self.opening) <= self.limits.max_opening
        assert all(waiter.is_waiting for waiter in self.queue)

    @invariant()
    def nobody_waits_for_nothing(self) -> None:
        """Each waiter has a handshake under way, unless a limit or a pause forbids."""
        if not hasattr(self, "pool"):
            return
        resting = [w for w in self.queue if w.failures and w.retry_at > self.now]
        if len(self.opening) < min(
            len(self.queue) - len(resting), self.limits.max_opening
        ):
            assert self.pool.total == self.limits.max_total
            assert not self.pool.idle or not self.queue

    def teardown(self) -> None:
        """In the end nobody waits and nothing is left open."""
        if not hasattr(self, "pool"):
            return
        self.take(self.pool.close(self.now))
        assert self.queue == []
        for connection in sorted(self.owners):
            del self.owners[connection]
            self.take(self.pool.release(connection, self.now))
        for ticket in sorted(self.opening):
            self.opening.remove(ticket)
            self.count += 1
            self.alive.add(self.count)
            self.take(self.pool.opened(ticket, self.count, self.now))
        assert self.alive == set()
        assert self.pool.total == 0


TestPool = PoolMachine.TestCase
TestPool.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)


def test_a_silent_server_fails_each_waiter_in_its_time() -> None:
    """Handshakes that never end block nobody for longer than the time-out."""
    pool: PoolState[int] = PoolState(PoolLimits(max_opening=2, max_total=4))
    waiters = [pool.acquire(0.1 * n, TIMEOUT)[0] for n in range(10)]
    for n, waiter in enumerate(waiters):
        due = pool.next_due()
        assert due == 0.1 * n + TIMEOUT
        assert pool.tick(due).wakes == [waiter]
        assert isinstance(waiter.error, DialTimeout)
    assert pool.total == 2
