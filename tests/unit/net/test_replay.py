"""A stream that moves to another WebSocket, or does not have to.

From the outside: tests/fault/test_pool_retry.py.
"""

import asyncio
from typing import Any

import pytest

from fastws._consts import Side
from fastws.exceptions import NoUpstream
from fastws.net.copy import copy_bidirectional
from fastws.net.pool_end import PooledStream
from fastws.net.replay import Record, ReplayStream
from fastws.net.stream import Kind
from tests.support.copying import QUICK
from tests.support.ends import TCP, Spec, every_end, open_end
from tests.support.pooled import Pooled, pooled
from tests.support.servers import eventually, run_on
from tests.support.timing import SHORT

STRANGERS = (Spec(Kind.TCP, Side.CLIENT), Spec(Kind.TLS, Side.CLIENT))
CONNECT = "01 01 5f 1b 7f 00 00 01"


async def replayed(pool: Pooled, other: Any, **how: Any) -> ReplayStream:
    """A stream of ``pool`` that may go on in ``other``, or raises it."""

    async def again() -> PooledStream:
        if isinstance(other, Exception):
            raise other
        stream = await other.connects()
        assert isinstance(stream, PooledStream)
        return stream

    how = {"keep": 65536, "max_data": 2048, "connect_only": False, **how}
    await pool.connects()
    await pool.hears(CONNECT)
    return ReplayStream(pool.socket.end, again, **how)


@every_end(*STRANGERS)
def test_a_stream_whose_connection_died_before_the_copy(
    loop_name: str, spec: Spec
) -> None:
    """What the user has said already goes to the other one."""

    async def main() -> None:
        async with pooled(spec) as dead, pooled(spec) as other:
            stream = await replayed(dead, other, connect_only=True)
            dead.socket.abort()
            raw, far = await open_end(TCP, linger=QUICK.linger)
            raw.unread(b"early ")
            copy = asyncio.create_task(copy_bidirectional(raw, stream, QUICK))
            await far.send(b"later")
            await far.finish()
            await other.hears(CONNECT)
            said = b""
            while len(said) < 11:
                frame = await other.peer.next_frame()
                assert frame.payload[:1] == b"\2"
                said += frame.payload[1:]
            assert said == b"early later"
            await other.hears("03")
            await other.says("02 6f 6b", "03")
            assert await far.read_end() == (b"ok", "eof")
            far.wire.close()
            assert await asyncio.wait_for(copy, SHORT) == (11, 2, "closed", True)
            assert other.socket.is_idle

    run_on(loop_name, main())


@every_end(*STRANGERS)
def test_no_other_connection_is_a_reset(loop_name: str, spec: Spec) -> None:
    async def main() -> None:
        async with pooled(spec) as dead:
            stream = await replayed(dead, NoUpstream("nowhere to go"))
            raw, far = await open_end(TCP, linger=QUICK.linger)
            copy = asyncio.create_task(copy_bidirectional(raw, stream, QUICK))
            await asyncio.sleep(0)
            dead.peer.wire.reset()
            assert (await far.read_end())[1] == "reset"
            far.wire.close()
            result = await asyncio.wait_for(copy, SHORT)
            assert (result.reason, result.is_clean) == ("b: nowhere to go", False)

    run_on(loop_name, main())


@pytest.mark.parametrize("why", ["spoke", "much", "over"])
@every_end(*STRANGERS)
def test_the_record_steps_aside(loop_name: str, spec: Spec, why: str) -> None:
    """The data path has its transport back as soon as nothing is kept."""

    async def main() -> None:
        async with pooled(spec) as pool:
            stream = await replayed(pool, NoUpstream("unused"), keep=10)
            end = pool.socket.end
            transport = end.transport
            raw, far = await open_end(TCP, linger=QUICK.linger)
            copy = asyncio.create_task(copy_bidirectional(raw, stream, QUICK))
            await eventually(lambda: isinstance(end.transport, Record))
            assert end.is_reading
            await far.send(b"hello")
            await pool.hears("02 68 65 6c 6c 6f")
            assert isinstance(end.transport, Record)
            if why == "spoke":
                await pool.says("02 6f 6b")
                assert await far.read(2) == b"ok"
                await far.send(b"x")
                await pool.hears("02 78")
            elif why == "much":
                await far.send(b"world!")
                await pool.hears("02 77 6f 72 6c 64 21")
            else:
                await pool.says("03")
                await far.finish()
                await pool.hears("03")
                await eventually(lambda: pool.socket.is_idle)
            assert end.transport is transport
            assert end.is_reading
            if why != "over":
                await pool.says("03")
                await far.finish()
                await pool.hears("03")
            await far.read_end()
            far.wire.close()
            assert (await asyncio.wait_for(copy, SHORT)).is_clean

    run_on(loop_name, main())
