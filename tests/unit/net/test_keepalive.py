"""Pings and pongs: answered, bounded, and never a reason to end a slow reader."""

import asyncio
from dataclasses import replace

from fastws.net.ends import CopyOptions
from tests.support.copying import QUICK, Relay, give_up, noise, relay, send_all, stalled
from tests.support.ends import STW, STW_FASTWS, WTS, WTS_FASTWS, Spec, every_end
from tests.support.peers import PING, PONG
from tests.support.servers import eventually, run_on
from tests.support.timing import LONG, UNIT

PINGING = replace(QUICK, ping=2 * UNIT, ping_deadline=4 * UNIT)
every_side = every_end(STW, WTS, STW_FASTWS, WTS_FASTWS)


async def stall(r: Relay) -> asyncio.Task[None]:
    """Push from y until x, which does not read, has made the copy stop reading y."""
    sending = asyncio.create_task(send_all(r.y, [noise(65536)] * 400))
    await eventually(lambda: r.copy.a.transport.get_write_buffer_size() > 0)
    await stalled(r.copy)
    return sending


@every_side
def test_ping_gets_a_pong_with_its_payload(loop_name: str, spec: Spec) -> None:
    async def main() -> None:
        async with relay(spec) as r:
            for payload in (b"", b"\0\xff", bytes(range(125))):
                await r.x.send_frame(PING, payload)
                assert await r.x.read_frame() == (True, PONG, payload)
            assert await r.x.send_frame(PONG, b"unasked") is None
            await r.x.send(b"data")
            assert await r.y.read(4) == b"data"

    run_on(loop_name, main())


@every_side
def test_pings_come_at_their_interval(loop_name: str, spec: Spec) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with relay(spec, options=PINGING) as r:
            start = loop.time()
            for _ in range(3):
                assert await r.x.read_frame() == (True, PING, b"")
                await r.x.send_frame(PONG)
            took = loop.time() - start
            assert 3 * 0.9 * PINGING.ping <= took < 3 * 3 * PINGING.ping

    run_on(loop_name, main())


@every_side
def test_ping_without_an_answer_is_a_reset(loop_name: str, spec: Spec) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with relay(spec, options=PINGING) as r:
            start = loop.time()
            assert await r.y.read_end() == (b"", "reset")
            took = loop.time() - start
            assert took >= 0.9 * PINGING.ping + PINGING.ping_deadline
            assert await r.result() == (0, 0, "a: ping timeout", False)

    run_on(loop_name, main())


@every_side
def test_any_byte_shows_that_the_peer_lives(loop_name: str, spec: Spec) -> None:
    async def main() -> None:
        async with relay(spec, options=PINGING) as r:
            for _ in range(8):  # two deadlines long, and never a pong
                await r.x.send(b"a")
                assert await r.y.read(1) == b"a"
                await asyncio.sleep(UNIT)
            assert not r.task.done()

    run_on(loop_name, main())


@every_side
def test_ping_is_answered_while_data_to_the_peer_is_stalled(
    loop_name: str, spec: Spec
) -> None:
    """Pongs do not pile up: one is unsent, and the newest ping is answered."""

    async def main() -> None:
        async with relay(spec, buffers=262144) as r:
            sending = await stall(r)
            for number in range(2000):
                await r.x.send_frame(PING, b"%d" % number)
            await r.x.send(b"done")
            assert await r.y.read(4) == b"done"
            await give_up(sending)
            pongs = []
            while pongs[-1:] != [b"1999"]:
                frame = await r.x.read_frame()
                if frame.opcode == PONG:
                    pongs.append(frame.payload)
            assert len(pongs) <= 3

    run_on(loop_name, main())


@every_side
def test_paused_end_shows_that_it_lives(loop_name: str, spec: Spec) -> None:
    """It cannot read what the peer answers, so it pings well within the deadline."""

    async def main() -> None:
        async with relay(spec, options=PINGING, buffers=262144) as r:
            sending = asyncio.create_task(send_all(r.x, [noise(65000)] * 400))
            await eventually(lambda: not r.copy.a.is_reading)
            for _ in range(6):
                frame = await r.x.read_frame(PINGING.ping_deadline)
                assert frame == (True, PING, b"")
            assert not r.task.done()
            assert not r.copy.a.is_reading
            await give_up(sending)

    run_on(loop_name, main())


@every_side
def test_slow_reader_is_not_killed(loop_name: str, spec: Spec) -> None:
    """x reads nothing for many deadlines, and then everything."""

    async def main() -> None:
        options = CopyOptions(
            linger=UNIT, half_close_timeout=LONG, ping=UNIT, ping_deadline=UNIT
        )
        async with relay(spec, options=options, buffers=262144) as r:
            r.x.answers_pings = False
            data = noise(3_000_000)
            sending = asyncio.create_task(send_all(r.y, [data]))
            await eventually(lambda: not r.copy.b.is_reading)
            await asyncio.sleep(12 * UNIT)
            assert await r.x.read(len(data)) == data
            await sending

    run_on(loop_name, main())
