"""A WebSocket as an asyncio transport: flow control, and ends while it stands."""

import asyncio

import pytest

from fastws.exceptions import StreamReset
from fastws.ws.pipe import HELD
from tests.support.copying import LINGER, noise, odd_pieces, send_all
from tests.support.ends import (
    STW,
    STW_FASTWS,
    WTS_FASTWS,
    Spec,
    at_once,
    every_end,
)
from tests.support.servers import eventually, run_on
from tests.support.streams import (
    transport_on,
)
from tests.support.timing import UNIT


@at_once(STW, WTS_FASTWS)
async def test_protocol_that_pauses_stops_the_peer(spec: Spec) -> None:
    data = noise(8 << 20)
    async with transport_on(spec, buffers=65536) as (transport, protocol, peer):
        transport.pause_reading()
        assert not transport.is_reading()
        sending = asyncio.create_task(send_all(peer, odd_pieces(data)))
        await eventually(lambda: not transport.end.is_reading)
        held = transport.held
        await asyncio.sleep(UNIT)
        assert transport.held == held
        assert HELD < held <= 4 * HELD
        assert not protocol.data
        transport.resume_reading()
        await eventually(lambda: len(protocol.data) == len(data))
        assert protocol.data == data
        await sending


@every_end(STW, WTS_FASTWS)
def test_peer_that_does_not_read_stops_the_protocol(loop_name: str, spec: Spec) -> None:
    async def main() -> None:
        data = noise(4 << 20)
        async with transport_on(spec, buffers=65536) as (transport, protocol, peer):
            piece, sent = 100_000, 0
            while "pause" not in protocol.calls:
                transport.write(data[sent : sent + piece])
                sent += piece
            assert sent < len(data)
            low, high = transport.get_write_buffer_limits()
            assert (low, high) == (16384, 65536)
            assert high < transport.get_write_buffer_size() <= high + piece
            assert await peer.read(sent) == data[:sent]
            await eventually(lambda: "resume" in protocol.calls)
            assert protocol.calls == ["made", "pause", "resume"]
            assert transport.get_write_buffer_size() == 0

    run_on(loop_name, main())


@every_end(STW)
def test_write_buffer_limits(loop_name: str, spec: Spec) -> None:
    async def main() -> None:
        async with transport_on(spec, buffers=65536) as (transport, protocol, _):
            for given, both in (
                ({"high": 1000}, (250, 1000)),
                ({"low": 1000}, (1000, 4000)),
                ({"high": 0}, (0, 0)),
                ({}, (16384, 65536)),
                ({"high": 5, "low": 5}, (5, 5)),
            ):
                transport.set_write_buffer_limits(**given)
                assert transport.get_write_buffer_limits() == both
            for high, low in ((1, 2), (-1, -1)):
                with pytest.raises(ValueError, match="must be >="):
                    transport.set_write_buffer_limits(high=high, low=low)
            transport.set_write_buffer_limits(high=1 << 30)
            while transport.get_write_buffer_size() == 0:
                transport.write(bytes(100_000))
            assert "pause" not in protocol.calls
            transport.set_write_buffer_limits(high=0)
            assert protocol.calls == ["made", "pause"]
            transport.abort()

    run_on(loop_name, main())


@every_end(STW, WTS_FASTWS)
def test_reset_while_writing_stands(loop_name: str, spec: Spec) -> None:
    async def main() -> None:
        async with transport_on(spec, buffers=65536) as (transport, protocol, peer):
            while "pause" not in protocol.calls:
                transport.write(bytes(100_000))
            transport.write_eof()
            await peer.break_off()
            assert isinstance(await protocol.end(), StreamReset)
            assert transport.get_write_buffer_size() == 0
            assert protocol.calls == ["made", "pause", "lost"]

    run_on(loop_name, main())


@every_end(STW, WTS_FASTWS)
def test_abort_while_writing_stands(loop_name: str, spec: Spec) -> None:
    """A peer that reads nothing hears no R: the connection is cut at once."""

    async def main() -> None:
        async with transport_on(spec, buffers=65536) as (transport, protocol, peer):
            while "pause" not in protocol.calls:
                transport.write(bytes(100_000))
            transport.abort()
            assert await protocol.end() is None
            await eventually(transport.task.done)
            await eventually(peer.wire.was_reset)

    run_on(loop_name, main())


@at_once(STW_FASTWS)
async def test_reset_waits_for_a_protocol_that_has_paused(spec: Spec) -> None:
    loop = asyncio.get_running_loop()
    for resumes in (True, False):
        async with transport_on(spec) as (transport, protocol, peer):
            transport.pause_reading()
            await peer.send(b"before")
            await eventually(lambda t=transport: t.held)
            start = loop.time()
            await peer.send_close(1011)
            await eventually(transport.is_closing)
            if resumes:
                await asyncio.sleep(LINGER / 4)
                assert "lost" not in protocol.calls
                transport.resume_reading()
            error = await protocol.end()
            assert isinstance(error, StreamReset)
            assert protocol.data == (b"before" if resumes else b"")
            assert resumes or loop.time() - start >= LINGER * 0.9


@every_end(STW_FASTWS)
def test_orderly_end_waits_for_a_protocol_that_has_paused(
    loop_name: str, spec: Spec
) -> None:
    async def main() -> None:
        async with transport_on(spec) as (transport, protocol, peer):
            transport.pause_reading()
            transport.write_eof()
            await peer.send(b"last")
            await peer.finish()
            assert await peer.read_end() == (b"", "eof")
            await peer.leave()
            await eventually(transport.task.done)
            await asyncio.sleep(0)
            assert protocol.calls == ["made"]
            transport.resume_reading()
            assert await protocol.end() is None
            assert protocol.calls == ["made", "data", "eof", "lost"]

    run_on(loop_name, main())


@every_end(STW, WTS_FASTWS)
def test_write_copies_what_it_cannot_send(loop_name: str, spec: Spec) -> None:
    async def main() -> None:
        data = bytearray(noise(4 << 20))
        async with transport_on(spec, buffers=65536) as (transport, _, peer):
            before = bytes(data)
            transport.write(memoryview(data).cast("I"))
            data[:] = bytes(len(data))
            transport.writelines([b"and", bytearray(b" more"), memoryview(b"!")])
            assert await peer.read(len(before) + 9) == before + b"and more!"
            with pytest.raises(TypeError):
                transport.write("text")

    run_on(loop_name, main())
