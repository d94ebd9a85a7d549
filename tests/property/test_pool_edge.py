"""A pool at work keeps its promises whoever gives up when, and whatever fails.

Never more than ``max_total``; no connection with two borrowers; nobody waits for ever;
nothing is left afterwards. Turns of the loop stand for time.
"""

import asyncio
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from fastws.exceptions import DialError, NoUpstream
from fastws.upstream.edge import Lease, Pool
from fastws.upstream.waiting import PoolLimits

TURNS = st.integers(0, 12)


class User(NamedTuple):
    """One borrower, in turns of the loop."""

    start: int
    cancelled_after: int
    is_cancelled: bool
    holds: int
    fit: bool
    forgets: bool
    fresh: bool


class Handshake(NamedTuple):
    """How long one takes, and whether it fails."""

    turns: int
    fails: bool


USERS = st.lists(
    st.builds(
        User,
        start=TURNS,
        cancelled_after=TURNS,
        is_cancelled=st.booleans(),
        holds=TURNS,
        fit=st.booleans(),
        forgets=st.booleans(),
        fresh=st.booleans(),
    ),
    min_size=1,
    max_size=12,
)
HANDSHAKES = st.lists(st.builds(Handshake, TURNS, st.booleans()), max_size=20)


class World:
    """The far end, and the ledger."""

    def __init__(self, limits: PoolLimits, handshakes: list[Handshake]) -> None:
        self.limits = limits
        self.handshakes = handshakes
        self.opening = 0
        self.count = 0
        self.alive: set[int] = set()
        self.held: set[int] = set()

    def check(self) -> None:
        assert self.opening + len(self.alive) <= self.limits.max_total
        assert self.opening <= self.limits.max_opening
        assert self.held <= self.alive, "closed under its borrower"

    async def open(self) -> int:
        self.opening += 1
        self.check()
        try:
            plan = self.handshakes.pop() if self.handshakes else Handshake(1, False)
            await turns(plan.turns)
            if plan.fails:
                raise NoUpstream("refused")
        finally:
            self.opening -= 1
        self.count += 1
        self.alive.add(self.count)
        self.check()
        return self.count

    def close(self, connection: int) -> None:
        assert connection in self.alive, "closed twice"
        self.alive.discard(connection)

    async def use(self, pool: Pool[int], user: User) -> None:
        await turns(user.start)
        lease: Lease[int] = await pool.acquire(60.0, fresh=user.fresh)
        connection = lease.connection
        assert connection not in self.held, "lent twice"
        self.held.add(connection)
        self.check()
        try:
            await turns(user.holds)
        finally:
            self.held.discard(connection)
            if user.forgets:
                del lease
            else:
                lease.release(fit=user.fit)


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def run(world: World, users: list[User]) -> None:
    pool: Pool[int] = Pool(world.open, world.close, world.limits)
    tasks = [asyncio.create_task(world.use(pool, user)) for user in users]
    for turn in range(14):
        for user, task in zip(users, tasks, strict=True):
            if user.is_cancelled and user.cancelled_after == turn:
                task.cancel()
        await asyncio.sleep(0)
        world.check()
    _, waiting = await asyncio.wait(tasks, timeout=30)
    assert not waiting, "somebody waits for ever"
    for user, task in zip(users, tasks, strict=True):
        if task.cancelled():
            assert user.is_cancelled
        elif (error := task.exception()) is not None:
            assert isinstance(error, DialError), repr(error)
    await turns(3)
    assert not world.held
    assert set(pool.idle) == world.alive
    assert len(pool.idle) <= world.limits.max_idle
    await pool.aclose()
    assert not world.alive
    assert asyncio.all_tasks() == {asyncio.current_task()}


@given(
    users=USERS,
    handshakes=HANDSHAKES,
    max_idle=st.integers(0, 3),
    max_total=st.integers(1, 4),
    max_opening=st.integers(1, 3),
    attempts=st.integers(1, 2),
)
@settings(deadline=None, max_examples=200)
def test_promises_hold_under_random_cancellation(
    users: list[User],
    handshakes: list[Handshake],
    max_idle: int,
    max_total: int,
    max_opening: int,
    attempts: int,
) -> None:
    limits = PoolLimits(
        max_idle=max_idle,
        max_total=max_total,
        max_opening=max_opening,
        attempts=attempts,
        retry_delay=0.0,
    )
    asyncio.run(run(World(limits, handshakes), users))
