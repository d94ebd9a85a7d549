"""What every pair of ends has to do, whatever they are made of.

``x`` is the peer of the end under test, ``y`` a TCP peer at the other side.
"""

import asyncio
from dataclasses import replace

from fastws._consts import Side
from fastws.net.copy import scratch_of
from fastws.net.stream import Kind
from tests.support.copying import (
    QUICK,
    Relay,
    noise,
    odd_pieces,
    relay,
    send_all,
    stalled,
)
from tests.support.ends import Spec, at_once, every_end, every_spec
from tests.support.peers import CLOSE
from tests.support.servers import eventually, run_on
from tests.support.timing import UNIT


@every_end()
def test_bytes_pass_both_ways_unchanged(loop_name: str, spec: Spec) -> None:
    async def main() -> None:
        up, down = noise(300_001, 1), noise(400_003, 2)
        async with relay(spec) as r:
            got = await asyncio.gather(
                r.y.read(len(up)),
                r.x.read(len(down)),
                send_all(r.x, odd_pieces(up, 3)),
                send_all(r.y, odd_pieces(down, 4)),
            )
            assert got[:2] == [up, down]
            await r.x.finish()
            assert await r.y.read_end() == (b"", "eof")
            await r.y.finish()
            await end_in_order(r, spec)
            assert await r.result() == (len(up), len(down), "closed", True)

    run_on(loop_name, main())


async def end_in_order(r: Relay, spec: Spec) -> None:
    """x has finished and y too: x sees its end and leaves."""
    if spec.is_stranger:
        frame = await r.x.next_frame()
        assert (frame.opcode, frame.code) == (8, 1000)
    else:
        assert await r.x.read_end() == (b"", "eof")
    await r.x.leave()


@every_end()
def test_other_direction_goes_on_after_eof_of_the_peer(
    loop_name: str, spec: Spec
) -> None:
    async def main() -> None:
        late = noise(100_000)
        async with relay(spec) as r:
            await r.y.send(b"question")
            await r.y.finish()
            assert await r.x.read(8) == b"question"
            if spec.half_closes:
                assert await r.x.read_end() == (b"", "eof")
            await r.x.send(late)
            assert await r.y.read(len(late)) == late
            await r.x.finish()
            assert await r.y.read_end() == (b"", "eof")
            if spec.half_closes:
                await r.x.leave()
            else:
                await end_in_order(r, spec)
            assert await r.result() == (len(late), 8, "closed", True)

    run_on(loop_name, main())


@every_end()
def test_reset_by_the_peer_follows_its_bytes(loop_name: str, spec: Spec) -> None:
    """What breaks here is an RST at the other side, after all bytes, never an EOF."""

    async def main() -> None:
        data = noise(50_000)
        async with relay(spec) as r:
            await r.x.send(data)
            assert await r.y.read(100) == data[:100]
            await r.x.break_off()
            rest = await r.y.read_end()
            if spec.kind is Kind.UNIX and not spec.is_ws:
                assert rest == (data[100:], "eof")  # a unix socket knows no RST
                await r.y.finish()
            elif r.copy.a.payload_in == len(data):
                assert rest == (data[100:], "reset")
            else:  # the kernel dropped what nobody had read
                assert (data[100:].startswith(rest[0]), rest[1]) == (True, "reset")
            result = await r.result()
            assert result.is_clean is (spec.kind is Kind.UNIX and not spec.is_ws)

    run_on(loop_name, main())


@every_end()
def test_reset_of_the_other_side_is_told_after_its_bytes(
    loop_name: str, spec: Spec
) -> None:
    async def main() -> None:
        data = noise(50_000)
        async with relay(spec) as r:
            await r.y.send(data)
            got = await r.x.read(len(data))
            await r.y.break_off()
            rest, how = await r.x.read_end()
            assert got + rest == data
            if spec.is_ws:
                assert how == "reset"  # R and Close 1011, or Close 1011 alone
                await r.x.send_close(1011)
            else:
                assert how == ("eof" if spec.kind is Kind.UNIX else "reset")
            r.x.wire.close()
            result = await r.result()
            assert result == (0, len(data), "b: reset", False)

    run_on(loop_name, main())


@every_end()
def test_what_was_read_before_comes_first(loop_name: str, spec: Spec) -> None:
    async def main() -> None:
        early = b"early"
        if spec.side is Side.CLIENT:
            early = b"\x82\x05early"
        elif spec.side is Side.SERVER:
            early = b"\x82\x85\0\0\0\0early"
        async with relay(spec, unread=(early, b"hello")) as r:
            await r.x.send(b" and late")
            await r.y.send(b" again")
            assert await r.y.read(14) == b"early and late"
            assert await r.x.read(11) == b"hello again"

    run_on(loop_name, main())


@at_once(*every_spec())
async def test_idle_copy_ends(spec: Spec) -> None:
    options = replace(QUICK, idle_timeout=6 * UNIT)
    async with relay(spec, options=options) as r:
        await r.x.send(b"a")
        assert await r.y.read(1) == b"a"
        assert await r.y.read_end() == (b"", "reset")
        if spec.is_ws:
            frame = await r.x.next_frame()
            assert (frame.opcode, frame.code) == (CLOSE, 1001)
            await r.x.send_close(1001)
        else:
            how = "eof" if spec.kind is Kind.UNIX else "reset"
            assert await r.x.read_end() == (b"", how)
        r.x.wire.close()
        assert await r.result() == (1, 0, "idle time-out", False)


@at_once(*(spec for spec in every_spec() if spec.half_closes))
async def test_half_closed_copy_without_a_byte_is_reset(spec: Spec) -> None:
    options = replace(QUICK, half_close_timeout=6 * UNIT)
    async with relay(spec, options=options) as r:
        await r.x.finish()
        assert await r.y.read_end() == (b"", "eof")
        await r.y.send(b"a")
        assert await r.x.read(1) == b"a"
        await eventually(r.y.wire.was_reset)  # after the EOF, recv tells no more
        how = "eof" if spec.kind is Kind.UNIX and not spec.is_ws else "reset"
        assert await r.x.read_end() == (b"", how)
        r.x.wire.close()
        assert await r.result() == (0, 1, "half-close time-out", False)


@at_once(*(spec for spec in every_spec() if spec.half_closes))
async def test_half_closed_copy_with_bytes_lives(spec: Spec) -> None:
    options = replace(QUICK, half_close_timeout=12 * UNIT)
    loop = asyncio.get_running_loop()
    async with relay(spec, options=options) as r:
        await r.x.finish()
        until = loop.time() + 20 * UNIT
        while loop.time() < until:
            await r.y.send(b"a")
            assert await r.x.read(1) == b"a"
            await asyncio.sleep(UNIT / 2)
        await r.y.finish()
        assert await r.x.read_end() == (b"", "eof")
        await r.x.leave()
        assert (await r.result()).reason == "closed"


@every_end()
def test_slow_reader_stops_its_writer_and_loses_nothing(
    loop_name: str, spec: Spec
) -> None:
    """Either side in turn stops reading while the other one pushes 2 MB."""

    async def main() -> None:
        data = noise(2_000_000)
        async with relay(spec, buffers=262144) as r:
            for source, sink, end in (
                (r.y, r.x, r.copy.a),
                (r.x, r.y, r.copy.b),
            ):
                sending = asyncio.create_task(send_all(source, odd_pieces(data)))
                await stalled(r.copy)
                assert end.transport.get_write_buffer_size() <= BOUND
                assert scratch_of(r.copy.loop).lent <= 1
                assert await sink.read(len(data)) == data
                await sending
            assert scratch_of(r.copy.loop).lent == 0

    run_on(loop_name, main())


BOUND = 1 << 20
"""Bytes that a stalled direction may hold in the process."""
