"""A WebSocket as a byte stream: reading, writing, ends, cancellation."""

import asyncio
import contextlib
import socket
import struct
from typing import Any

import pytest

import fastws
from fastws.exceptions import StreamReset
from tests.support.copying import QUICK, give_up, noise, odd_pieces, send_all
from tests.support.ends import (
    STW,
    STW_FASTWS,
    WTS,
    WTS_FASTWS,
    Spec,
    at_once,
    every_end,
)
from tests.support.handlers import REQUEST
from tests.support.servers import both_loops, eventually, run_on
from tests.support.streams import WEBSOCKETS, stream_on
from tests.support.timing import SHORT, UNIT


@at_once(STW_FASTWS, WTS)
async def test_reading_means_what_asyncio_means(spec: Spec) -> None:
    async with stream_on(spec) as (stream, peer):
        await peer.send(b"one\ntw")
        assert await stream.readline() == b"one\n"
        await peer.send(b"o\nthree;four")
        assert await stream.readuntil(b";") == b"two\nthree;"
        assert await stream.readexactly(3) == b"fou"
        assert await stream.read(100) == b"r"
        await peer.send(b"a\nb\nc")
        await peer.finish()
        assert [line async for line in stream] == [b"a\n", b"b\n", b"c"]
        assert stream.at_eof()
        assert await stream.read() == b""
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await stream.readexactly(1)
        assert caught.value.partial == b""


@at_once(STW_FASTWS)
async def test_limit_of_a_line(spec: Spec) -> None:
    async with stream_on(spec, limit=100) as (stream, peer):
        await peer.send(bytes(150))
        with pytest.raises(asyncio.LimitOverrunError):
            await stream.readuntil()
        with pytest.raises(ValueError, match="limit"):
            await stream.readline()


@at_once(*WEBSOCKETS)
async def test_everything_until_the_end_both_ways(spec: Spec) -> None:
    there, back = noise(200_000), noise(200_000, 2)
    async with stream_on(spec) as (stream, peer):

        async def write() -> None:
            for piece in odd_pieces(there, 3):
                stream.write(piece)
                await stream.drain()

        async with asyncio.TaskGroup() as group:
            group.create_task(write())
            group.create_task(send_all(peer, odd_pieces(back)))
            came = group.create_task(peer.read(len(there)))
            assert await stream.readexactly(len(back)) == back
        assert came.result() == there
        await peer.finish()
        assert await stream.read() == b""
        stream.write_eof()
        assert await peer.read_end() == (b"", "eof")
        await peer.leave()
        await stream.wait_closed()


@at_once(STW, WTS, STW_FASTWS, WTS_FASTWS)
async def test_break_reaches_readers_and_writers(spec: Spec) -> None:
    async with stream_on(spec) as (stream, peer):
        reading = asyncio.create_task(stream.read(1))
        await asyncio.sleep(0)
        await peer.break_off()
        for call in (lambda: reading, stream.drain, stream.wait_closed, stream.read):
            with pytest.raises(StreamReset) as caught:
                await call()
            assert isinstance(caught.value, ConnectionResetError)
            assert str(caught.value) == "lost without a Close"
        assert stream.is_closing()
        stream.write(b"dropped")


@at_once(STW, WTS_FASTWS)
async def test_break_reaches_who_waits_for_room(spec: Spec) -> None:
    async with stream_on(spec, buffers=65536) as (stream, peer):
        waiting = asyncio.create_task(fill(stream))
        await eventually(lambda: stream.transport.get_write_buffer_size())
        await peer.break_off()
        with pytest.raises(StreamReset, match="lost without a Close"):
            await waiting


async def fill(stream: Any) -> None:
    """Write until nothing more is taken, and wait for room."""
    while True:
        stream.write(bytes(50_000))
        await stream.drain()


@at_once(STW, WTS_FASTWS)
async def test_memory_is_bounded_both_ways(spec: Spec) -> None:
    """Nobody reads on either side: each writer stops, and little is held."""
    async with stream_on(spec, buffers=65536) as (stream, peer):
        writing = asyncio.create_task(fill(stream))
        sending = asyncio.create_task(send_all(peer, [bytes(30_000)] * 1000))
        transport = stream.transport
        await eventually(
            lambda: not transport.end.is_reading and not transport.is_reading()
        )
        reader, _ = stream.reader_and_writer
        await asyncio.sleep(UNIT)
        assert len(reader._buffer) + transport.held <= 512 * 1024
        assert transport.get_write_buffer_size() <= 128 * 1024
        assert not writing.done()
        assert not sending.done()
        await give_up(writing)
        await give_up(sending)


CALLS: dict[str, Any] = {
    "read": lambda stream: stream.read(10),
    "readexactly": lambda stream: stream.readexactly(10),
    "readuntil": lambda stream: stream.readuntil(b";"),
    "readline": lambda stream: stream.readline(),
    "anext": anext,
}


@both_loops
@pytest.mark.parametrize("call", list(CALLS))
def test_cancelled_read_takes_nothing(loop_name: str, call: str) -> None:
    async def main() -> None:
        async with stream_on(STW_FASTWS) as (stream, peer):
            task = asyncio.create_task(CALLS[call](stream))
            await asyncio.sleep(0)
            await peer.send(b"012345")
            await asyncio.sleep(UNIT / 4)
            if call != "read":
                await give_up(task)
                assert task.cancelled()
                assert await stream.readexactly(6) == b"012345"
            else:
                assert await task == b"012345"
            task = asyncio.create_task(CALLS[call](stream))
            await asyncio.sleep(0)
            await give_up(task)
            await peer.send(b"6789;\n")
            assert await stream.readexactly(6) == b"6789;\n"

    run_on(loop_name, main())


@at_once(STW, WTS_FASTWS)
async def test_cancelled_drain_leaves_the_stream_whole(spec: Spec) -> None:
    data = noise(3 << 20)
    async with stream_on(spec, buffers=65536) as (stream, peer):
        stream.write(data)
        task = asyncio.create_task(stream.drain())
        await asyncio.sleep(UNIT / 4)
        assert not task.done()
        await give_up(task)
        assert await peer.read(len(data)) == data
        await stream.drain()
        stream.write(b"more")
        assert await peer.read(4) == b"more"


@at_once(STW_FASTWS, WTS)
async def test_context_closes_and_waits(spec: Spec) -> None:
    async with stream_on(spec) as (stream, peer):

        async def use() -> None:
            async with stream:
                stream.write(b"all of it")

        using = asyncio.create_task(use())
        assert await peer.read_end() == (b"all of it", "eof")
        assert not using.done()
        await peer.finish()
        if spec.half_closes:
            await peer.leave()
        await using


@at_once(STW_FASTWS, WTS)
async def test_context_resets_after_an_exception(spec: Spec) -> None:
    async with stream_on(spec) as (stream, peer):
        with pytest.raises(ZeroDivisionError):
            async with stream:
                stream.write(b"half of it")
                raise ZeroDivisionError
        assert await peer.read_end() == (b"half of it", "reset")


@at_once(STW_FASTWS, WTS_FASTWS)
async def test_cancelled_exit_resets(spec: Spec) -> None:
    async with stream_on(spec) as (stream, peer):

        async def use() -> None:
            async with stream:
                pass

        using = asyncio.create_task(use())
        assert await peer.read_end() == (b"", "eof")
        await give_up(using)
        assert using.cancelled()
        assert await peer.read_end() == (b"", "reset")


@at_once(STW_FASTWS)
async def test_close_says_that_not_everything_arrived(spec: Spec) -> None:
    async with stream_on(spec) as (stream, peer):
        stream.close()
        assert await peer.read_end() == (b"", "eof")
        await peer.break_off()
        with pytest.raises(StreamReset):
            await stream.wait_closed()


@at_once(STW)
async def test_facts(spec: Spec) -> None:
    async with stream_on(spec) as (stream, peer):
        assert stream.remote_address == peer.wire.sock.getsockname()
        assert stream.can_write_eof()
        assert not stream.at_eof()
        assert repr(stream) == f"<Stream open {stream.remote_address}>"
        stream.abort()
        assert repr(stream) == f"<Stream closing {stream.remote_address}>"
        with contextlib.suppress(StreamReset):
            await stream.wait_closed()


@every_end(STW_FASTWS, WTS_FASTWS)
def test_two_copies_of_everything(loop_name: str, spec: Spec) -> None:
    """Memory given to ``write`` stays the caller's: it may be used again at once."""

    async def main() -> None:
        block = bytearray(1000)
        async with stream_on(spec, QUICK, buffers=65536) as (stream, peer):
            reading = asyncio.create_task(peer.read(500_000))
            for number in range(500):
                block[:] = bytes([number % 256]) * 1000
                stream.write(block)
            stream.writelines([])
            async with asyncio.timeout(SHORT):
                data = await reading
            assert data == b"".join(bytes([n % 256]) * 1000 for n in range(500))

    run_on(loop_name, main())


@both_loops
def test_a_handler_that_only_writes_hears_of_a_reset(loop_name: str) -> None:
    heard: list[BaseException] = []

    async def main() -> None:
        async def handler(stream: fastws.Stream) -> None:
            linger = struct.pack("ii", 1, 0)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            sock.close()  # a reset, and the loop has no turn to see it
            try:
                for _ in range(1000):
                    stream.write(b"x")
                    await stream.drain()
            except ConnectionResetError as exc:
                heard.append(exc)

        async with fastws.serve_streams(handler, "127.0.0.1:0") as server:
            sock = socket.create_connection(server.sockets[0].getsockname())
            sock.sendall(REQUEST)
            await eventually(lambda: heard)

    run_on(loop_name, main())
