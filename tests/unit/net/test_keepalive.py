"""Pings and pongs: answered, bounded, and never a reason to end a slow reader."""

import asyncio
from dataclasses import replace
from typing import Any

from fastws._backend import Scratch
from fastws._consts import Side
from fastws.net.ends import CopyOptions
from fastws.net.keepalive import PingingEnd, after_ping
from fastws.net.stream import Kind
from tests.support.copying import QUICK, Relay, give_up, noise, relay, send_all, stalled
from tests.support.ends import (
    STW,
    STW_FASTWS,
    WTS,
    WTS_FASTWS,
    Spec,
    at_once,
    every_end,
)
from tests.support.peers import PING, PONG
from tests.support.servers import eventually, run_on
from tests.support.timing import LONG, UNIT

PINGING = replace(QUICK, ping=3 * UNIT, ping_deadline=8 * UNIT)
SIDES = (STW, WTS, STW_FASTWS, WTS_FASTWS)
every_side = every_end(*SIDES)


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


@at_once(*SIDES)
async def test_pings_come_at_their_interval(spec: Spec) -> None:
    loop = asyncio.get_running_loop()
    start = loop.time()
    async with relay(spec, options=PINGING) as r:
        for _ in range(3):
            assert await r.x.read_frame() == (True, PING, b"")
            await r.x.send_frame(PONG)
        assert loop.time() - start >= 3 * 0.85 * PINGING.ping


@at_once(*SIDES)
async def test_ping_without_an_answer_is_a_reset(spec: Spec) -> None:
    loop = asyncio.get_running_loop()
    async with relay(spec, options=PINGING) as r:
        start = loop.time()
        assert await r.y.read_end() == (b"", "reset")
        took = loop.time() - start
        assert took >= 0.9 * PINGING.ping + PINGING.ping_deadline
        assert await r.result() == (0, 0, "a: ping timeout", False)


@at_once(*SIDES)
async def test_any_byte_shows_that_the_peer_lives(spec: Spec) -> None:
    options = replace(PINGING, ping_deadline=15 * UNIT)
    async with relay(spec, options=options) as r:
        for _ in range(30):  # two deadlines long, and never a pong
            await r.x.send(b"a")
            assert await r.y.read(1) == b"a"
            await asyncio.sleep(UNIT)
        assert not r.task.done()


@every_side
def test_ping_is_heard_while_data_to_the_peer_is_stalled(
    loop_name: str, spec: Spec
) -> None:
    """x reads nothing and pings on: its data pass, and its newest ping is answered."""

    async def main() -> None:
        async with relay(spec, buffers=262144) as r:
            sending = await stall(r)
            for number in range(2000):
                await r.x.send_frame(PING, b"%d" % number)
            await r.x.send(b"done")
            assert await r.y.read(4) == b"done"
            await give_up(sending)
            pongs = [0]
            while pongs[-1] != 1999:
                frame = await r.x.read_frame()
                if frame.opcode == PONG:
                    pongs.append(int(frame.payload))
            assert pongs == sorted(pongs)

    run_on(loop_name, main())


class FullTransport:
    """Holds everything back until told otherwise."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.is_full = True

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self.written)) if self.is_full else 0

    def set_protocol(self, _: object) -> None: ...


class LoneOwner:
    """An owner with a clock of its own; nothing is told to anybody."""

    def __init__(self, options: CopyOptions) -> None:
        self.options = options
        self.loop: Any = self
        self.now = 0.0

    def time(self) -> float:
        return self.now


class LonePinging(PingingEnd):
    may_ping = True


def lone_end(options: CopyOptions = QUICK) -> tuple[LonePinging, FullTransport]:
    transport = FullTransport()
    owner: Any = LoneOwner(options)
    end = LonePinging(owner, Kind.STREAM, Side.SERVER, Scratch(), False)
    end.attach(transport)
    return end, transport


def test_one_pong_is_unsent_and_the_newest_ping_answered() -> None:
    end, transport = lone_end()
    for number in range(1000):
        end.answer_ping(b"%d" % number)
    assert transport.written == [b"\x8a\x010"]
    end.drained()  # ... and full again at once
    assert transport.written == [b"\x8a\x010", b"\x8a\x03999"]
    end.answer_ping(b"last")
    transport.is_full = False
    end.drained()
    assert transport.written[2:] == [b"\x8a\x04last"]
    end.answer_ping(b"again")
    end.answer_ping(b"and again")
    assert len(transport.written) == 5


def test_one_ping_is_unsent() -> None:
    options = replace(QUICK, ping=1.0, ping_deadline=10.0)
    end, transport = lone_end(options)
    for second in range(100):
        end.tick_ping(float(second))
    assert transport.written == [b"\x89\0"]
    transport.is_full = False
    end.drained()
    for second in range(100, 120):
        end.tick_ping(float(second))
    assert 2 < len(transport.written) <= 22
    assert set(transport.written) == {b"\x89\0"}


def test_interval_of_pings_varies_by_a_tenth() -> None:
    due = [after_ping(100.0, 10.0) for _ in range(1000)]
    assert 109.0 <= min(due) < 109.5
    assert 110.5 < max(due) <= 111.0


@at_once(*SIDES)
async def test_paused_end_shows_that_it_lives(spec: Spec) -> None:
    """It cannot read what the peer answers, so it pings well within the deadline."""
    options = replace(PINGING, ping=6 * UNIT, ping_deadline=16 * UNIT)
    async with relay(spec, options=options, buffers=262144) as r:
        sending = asyncio.create_task(send_all(r.x, [noise(65000)] * 400))
        await eventually(lambda: not r.copy.a.is_reading)
        for _ in range(6):
            frame = await r.x.read_frame(options.ping_deadline)
            assert frame == (True, PING, b"")
        assert not r.task.done()
        assert not r.copy.a.is_reading
        await give_up(sending)


@at_once(*SIDES)
async def test_slow_reader_is_not_killed(spec: Spec) -> None:
    """x reads nothing for many deadlines, and then everything."""
    options = CopyOptions(
        linger=UNIT, half_close_timeout=LONG, ping=2 * UNIT, ping_deadline=10 * UNIT
    )
    async with relay(spec, options=options, buffers=262144) as r:
        r.x.answers_pings = False
        data = noise(3_000_000)
        sending = asyncio.create_task(send_all(r.y, [data]))
        await eventually(lambda: not r.copy.b.is_reading)
        await asyncio.sleep(25 * UNIT)
        r.x.answers_pings = True  # its deadline begins with the last byte sent
        assert await r.x.read(len(data)) == data
        await sending
