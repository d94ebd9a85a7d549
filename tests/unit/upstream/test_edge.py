"""A pool with its tasks and its timer; what it decides is tested in test_pool.py."""

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import pytest

from fastws.exceptions import DialError, DialTimeout, NoUpstream
from fastws.upstream.edge import Lease, Pool
from fastws.upstream.waiting import PoolLimits
from tests.support.servers import both_loops, eventually, run_on
from tests.support.timing import LONG, SHORT, UNIT


class Conn:
    """A connection that knows what became of it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.is_open = True
        self.lives = True

    def close(self) -> None:
        self.is_open = False


class Far:
    """What a pool opens connections to.

    Attributes:
        conns: opened so far.
        gates: each holds one handshake back, in order.
        errors: the next handshakes fail with these.
        asked: handshakes so far.
    """

    def __init__(self) -> None:
        self.conns: list[Conn] = []
        self.gates: list[asyncio.Event] = []
        self.errors: list[Exception] = []
        self.asked = 0

    async def open(self) -> Conn:
        self.asked += 1
        if self.gates:
            await self.gates.pop(0).wait()
        if self.errors:
            raise self.errors.pop(0)
        self.conns.append(Conn(len(self.conns) + 1))
        return self.conns[-1]

    def pool(self, limits: PoolLimits | None = None, **options: Any) -> Pool[Conn]:
        """A pool of connections to here."""
        options.setdefault("is_reusable", lambda conn: conn.is_open)
        return Pool(self.open, Conn.close, limits or PoolLimits(), **options)


def on_both_loops(test: Callable[[Far], Any]) -> Any:
    """Run ``test(far)`` on each loop, which must end without a task."""

    def run(loop_name: str) -> None:
        async def main() -> None:
            await test(Far())

        run_on(loop_name, main())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return both_loops(run)


@on_both_loops
async def test_what_was_released_last_is_lent_first(far: Far) -> None:
    async with far.pool() as pool:
        one, two = await pool.acquire(SHORT), await pool.acquire(SHORT)
        assert (one.is_fresh, two.is_fresh, pool.total) == (True, True, 2)
        one.release()
        two.release()
        two.release()  # means nothing
        assert [conn.number for conn in pool.idle] == [1, 2]
        again = await pool.acquire(SHORT)
        assert (again.connection.number, again.is_fresh) == (2, False)
        again.release()
        stats = pool.stats
        assert (stats.opened, stats.reused, stats.closed) == (2, 1, 0)
    assert not any(conn.is_open for conn in far.conns)


@on_both_loops
async def test_a_with_block_gives_back_what_is_fit(far: Far) -> None:
    async with far.pool() as pool:
        with await pool.acquire(SHORT) as conn:
            assert conn.number == 1
        assert pool.idle == [conn]
        with pytest.raises(ZeroDivisionError), await pool.acquire(SHORT) as conn:
            1 / 0  # noqa: B018
        assert not conn.is_open
        assert pool.total == 0


@on_both_loops
async def test_a_returned_connection_overtakes_a_new_one(far: Far) -> None:
    gate = asyncio.Event()
    async with far.pool() as pool:
        first = await pool.acquire(SHORT)
        far.gates = [gate]
        waiting = asyncio.create_task(pool.acquire(LONG))
        await eventually(lambda: far.asked == 2)
        first.release()
        second = await waiting
        assert (second.connection.number, second.is_fresh) == (1, False)
        gate.set()
        await eventually(lambda: [conn.number for conn in pool.idle] == [2])
        second.release()


@on_both_loops
async def test_a_forgotten_lease_comes_back(far: Far) -> None:
    async with far.pool() as pool:
        lease: Lease[Conn] | None = await pool.acquire(SHORT)
        assert pool.idle == []
        lease = None
        gc.collect()
        await eventually(lambda: pool.idle == far.conns)
        assert lease is None


@on_both_loops
async def test_a_lease_does_not_keep_its_pool(far: Far) -> None:
    pool: Pool[Conn] | None = far.pool()
    assert pool is not None
    lease = await pool.acquire(SHORT)
    await asyncio.sleep(0)
    pool = None
    gc.collect()
    assert lease.connection.is_open
    lease.release()
    assert not lease.connection.is_open
    assert pool is None


@on_both_loops
async def test_who_gives_up_costs_nobody_anything(far: Far) -> None:
    """The handshake goes on, and the next one has its connection."""
    gate = asyncio.Event()
    far.gates = [gate]
    async with far.pool() as pool:
        waiting = asyncio.create_task(pool.acquire(LONG))
        await eventually(lambda: far.asked == 1)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        gate.set()
        (await pool.acquire(SHORT)).release()
        assert far.asked == 1


@on_both_loops
async def test_a_handshake_that_hangs_keeps_nobody_but_its_own_client(far: Far) -> None:
    gate = asyncio.Event()
    far.gates = [gate]
    async with far.pool() as pool:
        with pytest.raises(DialTimeout):
            await pool.acquire(UNIT)
        assert (await pool.acquire(SHORT)).connection.number == 1
        assert far.asked == 2
        gate.set()  # late, and kept
        await eventually(lambda: [conn.number for conn in pool.idle][-1:] == [2])


@on_both_loops
async def test_who_is_cancelled_while_served_loses_no_connection(far: Far) -> None:
    async with far.pool(PoolLimits(max_total=1)) as pool:
        first = await pool.acquire(SHORT)
        waiting = asyncio.create_task(pool.acquire(LONG))
        await asyncio.sleep(0)
        first.release()  # it is the waiter's now, which has not run yet
        assert pool.idle == []
        waiting.cancel()
        await asyncio.wait([waiting])
        assert pool.idle == far.conns


@on_both_loops
async def test_time_limits(far: Far) -> None:
    far.gates = [asyncio.Event(), asyncio.Event()]
    async with far.pool(open_timeout=2 * UNIT) as pool:
        with pytest.raises(DialTimeout, match="no pooled connection in time"):
            await pool.acquire(UNIT)
        await eventually(lambda: pool.stats.failed == 1)
    far.gates = [asyncio.Event()]
    async with far.pool(PoolLimits(attempts=1), open_timeout=UNIT) as pool:
        with pytest.raises(DialTimeout, match="handshake was not finished"):
            await pool.acquire(LONG)


@on_both_loops
async def test_handshakes_are_tried_again(far: Far) -> None:
    limits = PoolLimits(attempts=3, retry_delay=UNIT / 10)
    far.errors = [NoUpstream("refused"), RuntimeError("odd")]
    async with far.pool(limits) as pool:
        lease = await pool.acquire(LONG)
        assert lease.connection.number == 1
        assert (pool.stats.opened, pool.stats.failed) == (1, 2)
        cause = RuntimeError("odd")
        far.errors = [NoUpstream("refused"), DialError("b"), cause]
        with pytest.raises(NoUpstream, match="odd") as caught:
            await pool.acquire(LONG)
        assert caught.value.__cause__ is cause
        lease.release()


@on_both_loops
async def test_close_ends_everything(far: Far) -> None:
    pool = far.pool(PoolLimits(max_total=2))
    kept = await pool.acquire(SHORT)
    far.gates = [asyncio.Event()]
    opening = asyncio.create_task(pool.acquire(LONG))
    await eventually(lambda: far.asked == 2)
    queued = asyncio.create_task(pool.acquire(LONG))
    await asyncio.sleep(0)
    await pool.aclose()
    for task in (opening, queued):
        with pytest.raises(NoUpstream, match="the pool is closed"):
            await task
    assert kept.connection.is_open
    kept.release()
    assert not kept.connection.is_open
    with pytest.raises(NoUpstream, match="the pool is closed"):
        await pool.acquire(SHORT)
    pool.close()
    assert pool.is_closed


@on_both_loops
async def test_idle_connections_grow_old(far: Far) -> None:
    async with far.pool(PoolLimits(idle_time=UNIT)) as pool:
        (await pool.acquire(SHORT)).release()
        await eventually(lambda: not far.conns[0].is_open)
        assert pool.total == 0


@on_both_loops
async def test_warm_connections_are_opened_ahead_of_need(far: Far) -> None:
    async with far.pool(PoolLimits(min_idle=3)) as pool:
        await eventually(lambda: len(pool.idle) == 3)
        lease = await pool.acquire(SHORT)
        assert not lease.is_fresh
        await eventually(lambda: len(pool.idle) == 3)
        pool.lost(pool.idle[0])
        await eventually(lambda: far.asked == 5)
        assert pool.stats.lost == 1
        lease.release()


@on_both_loops
async def test_those_in_doubt_are_probed(far: Far) -> None:
    async def probe(conn: Conn) -> bool:
        await asyncio.sleep(0)
        if not conn.lives:
            raise OSError("reset")
        return True

    async with far.pool(probe=probe) as pool:
        leases = [await pool.acquire(SHORT) for _ in range(3)]
        for lease in leases:
            lease.release()
        far.conns[1].lives = False
        pool.doubt()
        far.gates = [asyncio.Event()]
        lease = await pool.acquire(SHORT)  # waits for the first that is proved
        assert lease.connection.lives
        await eventually(lambda: not far.conns[1].is_open)
        assert (pool.stats.lost, len(pool.idle)) == (1, 1)
        far.conns[0].lives = far.conns[2].lives = False
        lease.release()
        pool.check()
        await eventually(lambda: pool.idle == [])


@on_both_loops
async def test_without_a_probe_those_in_doubt_are_closed(far: Far) -> None:
    async with far.pool() as pool:
        (await pool.acquire(SHORT)).release()
        pool.doubt()
        assert pool.idle == []
        assert not far.conns[0].is_open
        pool.check()  # nothing to check with


@on_both_loops
async def test_it_says_how_it_is(far: Far) -> None:
    async with far.pool() as pool:
        lease = await pool.acquire(SHORT)
        assert repr(lease) == f"<Lease lent {lease.connection!r}>"
        lease.release()
        assert repr(lease) == f"<Lease given back {lease.connection!r}>"
        assert "1 idle, 0 borrowed" in repr(pool)
        assert repr(pool.stats).startswith("PoolStats(closed=0, failed=0, lost=0")
        assert str(pool.stats) == (
            "1 opened (0 failed), 0 times reused, 0 lost while idle,"
            " 0 streams begun again"
        )
        pool.stats.reused = pool.stats.retried = 1
        assert str(pool.stats) == (
            "1 opened (0 failed), 1 time reused, 0 lost while idle,"
            " 1 stream begun again"
        )
