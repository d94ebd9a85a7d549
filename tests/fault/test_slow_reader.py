"""A slow reader is not killed, whatever else has ended; and it costs little memory."""

import asyncio
from dataclasses import replace

import pytest

from fastws.net.copy import scratch_of
from fastws.net.ends import CopyOptions
from fastws.net.stream import Kind
from tests.support.copying import Relay, give_up, noise, relay, send_all
from tests.support.ends import (
    STW_FASTWS,
    TCP,
    TLS,
    WTS,
    WTS_FASTWS,
    Spec,
    at_once,
    every_end,
)
from tests.support.peers import BINARY, CLOSE, PING
from tests.support.servers import LOOPS, both_loops, eventually, run_on
from tests.support.timing import LONG, UNIT

SCALED = CopyOptions(
    linger=4 * UNIT, half_close_timeout=LONG, ping=4 * UNIT, ping_deadline=20 * UNIT
)
SIZE = 3_000_000


async def download(r: Relay, pause: float, ended: bool) -> None:
    """y sends all, x reads a little, pauses, and reads the rest."""
    data = noise(SIZE)

    async def talk() -> None:
        await send_all(r.y, [data])
        if ended:
            await r.y.finish()

    talking = asyncio.create_task(talk())
    await eventually(lambda: not r.copy.b.is_reading or r.copy.b.eof_in)
    got = await r.x.read(100_000)
    await asyncio.sleep(pause)
    got += await r.x.read(SIZE - len(got))
    assert got == data
    await talking


async def both(r: Relay, pause: float) -> None:
    """Both sides send and neither reads for a while."""
    data = noise(SIZE)
    pieces = [data[i : i + 60000] for i in range(0, SIZE, 60000)]
    up = asyncio.create_task(send_all(r.x, pieces))
    down = asyncio.create_task(send_all(r.y, pieces))
    await eventually(lambda: not (r.copy.a.is_reading or r.copy.b.is_reading))
    await asyncio.sleep(pause)
    got = await asyncio.gather(r.x.read(SIZE), r.y.read(SIZE))
    assert got == [data, data]
    await asyncio.gather(up, down)


async def try_all(loop_name: str, options: CopyOptions, pause: float) -> None:
    """Every kind at once: downloads, open and ended by the sender, then both ways."""
    kinds = [TCP, TLS, WTS, WTS_FASTWS, STW_FASTWS, Spec(Kind.TLS, WTS.side)]
    if loop_name == "asyncio":
        kinds += [replace(kind, stock=True) for kind in kinds if kind.kind is Kind.TLS]

    async def one(spec: Spec, case: int) -> None:
        async with relay(spec, options=options, buffers=1 << 18) as r:
            if case == 2:
                await both(r, pause)
            else:
                await download(r, pause, ended=case == 1)

    await asyncio.gather(*(one(kind, case) for kind in kinds for case in range(3)))


@both_loops
def test_slow_reader_is_not_killed(loop_name: str) -> None:
    """Scaled: 3 s against a linger of 0.4 s, a ping of 0.4 s and 2 s for its pong."""
    run_on(loop_name, try_all(loop_name, SCALED, 30 * UNIT))


@at_once(WTS_FASTWS)
async def test_fastws_peer_whose_reader_is_slow_is_waited_for(spec: Spec) -> None:
    """Its kernel has everything; only its pings show that it lives."""

    async def one(f_first: bool) -> None:
        async with relay(spec, options=SCALED) as r:
            if f_first:
                await r.x.finish()
                assert await r.y.read_end() == (b"", "eof")
            await r.y.send(b"all there is")
            await r.y.finish()
            for _ in range(28):  # ping and deadline, and more
                await asyncio.sleep(UNIT)
                await r.x.send_frame(PING)
            if not f_first:
                await r.x.finish()
            got, how = await r.x.read_end()
            assert (got, how) == (b"all there is", "eof")
            frame = await r.x.next_frame()
            assert (frame.opcode, frame.code) == (CLOSE, 1000)
            await r.x.send_close(1000)
            assert (await r.result()).is_clean

    await asyncio.gather(one(False), one(True))


@pytest.mark.slow
@pytest.mark.timeout(300)
@both_loops
def test_slow_reader_of_70_s_is_not_killed(loop_name: str) -> None:
    with asyncio.Runner(loop_factory=LOOPS[loop_name]) as runner:
        runner.run(try_all(loop_name, CopyOptions(), 70.0))


@every_end(TCP, TLS, WTS, WTS_FASTWS, Spec(Kind.TLS, WTS.side))
def test_stalled_connection_holds_little(loop_name: str, spec: Spec) -> None:
    """DESIGN 3, backpressure: 512 KiB over TCP and 1 MiB over TLS, both directions."""

    async def main() -> None:
        bound = (1024 if spec.kind is Kind.TLS else 512) * 1024
        async with relay(spec) as r:
            pieces = [noise(60000)] * 400
            tasks = [
                asyncio.create_task(send_all(r.x, pieces)),
                asyncio.create_task(send_all(r.y, pieces)),
            ]
            ends = (r.copy.a, r.copy.b)
            await eventually(lambda: not any(end.is_reading for end in ends))
            assert sum(e.transport.get_write_buffer_size() for e in ends) <= bound
            assert scratch_of(r.copy.loop).lent <= 4
            for task in tasks:
                await give_up(task)

    run_on(loop_name, main())


@every_end(WTS, WTS_FASTWS)
def test_idle_connection_holds_nothing(loop_name: str, spec: Spec) -> None:
    async def main() -> None:
        async with relay(spec) as r:
            await r.x.send_frame(BINARY, bytes(100_000))
            assert await r.y.read(100_000) == bytes(100_000)
            assert scratch_of(r.copy.loop).lent == 0

    run_on(loop_name, main())
