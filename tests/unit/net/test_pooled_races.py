"""Streams of a pooled WebSocket that end before their task has its turn.

Whoever asked for a stream wakes up in a later turn of the loop than the one in which
the answer came. By then the stream may be over, and the WebSocket somebody else's:
nothing of the late one may reach the next stream (docs/pool.md).
"""

import asyncio
import socket
from typing import Any

from fastws._consts import Side
from fastws.exceptions import NoUpstream
from fastws.net.pool_end import PooledStream
from fastws.net.pool_udp import PooledDatagrams
from fastws.net.stream import Kind
from fastws.net.websocket import Peer
from fastws.wire.pool import Status
from tests.support.ends import Spec, every_end
from tests.support.peers import BINARY
from tests.support.pooled import TARGET, Pooled, pooled
from tests.support.servers import eventually, run_on
from tests.support.timing import SHORT

SERVERS = (
    Spec(Kind.TCP, Side.CLIENT, Peer.FASTWS),
    Spec(Kind.TLS, Side.CLIENT, Peer.FASTWS),
)
CONNECTED, RESET = "04 0{} 00 00 00 00", "05 0{} 00 00 00"


def feed(pool: Pooled, number: int, *packets: str) -> None:
    """These packets of stream ``number`` arrive now, before any task runs."""
    texts = [packet.format(number) for packet in packets]
    frames = [pool.peer.encode(BINARY, bytes.fromhex(text)) for text in texts]
    pool.socket.end.feed(b"".join(frames))


async def begun(pool: Pooled, work: Any) -> "asyncio.Task[Any]":
    """A task that asks for something, and waits for its answer."""
    number = pool.socket.end.track.stream
    task = asyncio.create_task(work)
    await eventually(lambda: pool.socket.end.track.stream == number + 1)
    return task


@every_end(*SERVERS)
def test_a_stream_reset_behind_its_answer_is_not_the_next_one(
    loop_name: str, spec: Spec
) -> None:
    async def main() -> None:
        async with pooled(spec) as pool:
            first = await begun(pool, pool.connects())
            second = asyncio.create_task(pool.connects())
            feed(pool, 1, CONNECTED, RESET)  # the second one's turn comes first
            assert await first is Status.FAILED
            assert pool.socket.end.track.stream == 2
            feed(pool, 2, CONNECTED)
            stream = await asyncio.wait_for(second, SHORT)
            assert isinstance(stream, PooledStream)

    run_on(loop_name, main())


@every_end(*SERVERS)
def test_who_is_cancelled_late_leaves_the_next_stream_alone(
    loop_name: str, spec: Spec
) -> None:
    async def main() -> None:
        async with pooled(spec) as pool:
            first = await begun(pool, pool.connects())
            second = asyncio.create_task(pool.connects())
            feed(pool, 1, CONNECTED, RESET)
            first.cancel()
            await asyncio.wait([first])
            assert first.cancelled()
            feed(pool, 2, CONNECTED)
            stream = await asyncio.wait_for(second, SHORT)
            assert isinstance(stream, PooledStream)
            assert pool.socket.end.track.is_open

    run_on(loop_name, main())


@every_end(*SERVERS)
def test_a_stream_that_nobody_joined_in_time_is_given_up_alone(
    loop_name: str, spec: Spec
) -> None:
    async def main() -> None:
        async with pooled(spec) as pool:
            first = await begun(pool, pool.connects())
            feed(pool, 1, CONNECTED)
            late = await first
            feed(pool, 1, RESET)
            second = await begun(pool, pool.connects())
            late.discard()
            feed(pool, 2, CONNECTED)
            assert isinstance(await second, PooledStream)
            assert pool.socket.end.track.is_open

    run_on(loop_name, main())


@every_end(*SERVERS)
def test_datagrams_reset_behind_their_answer_are_not_the_next_ones(
    loop_name: str, spec: Spec
) -> None:
    async def main() -> None:
        async with pooled(spec) as pool:

            def associate() -> Any:
                return pool.socket.associate(lambda *_: None, SHORT)

            first = await begun(pool, associate())
            second = asyncio.create_task(associate())
            feed(pool, 1, CONNECTED, RESET)
            assert await first is Status.FAILED
            feed(pool, 2, CONNECTED)
            way = await asyncio.wait_for(second, SHORT)
            assert isinstance(way, PooledDatagrams)
            assert not way.done.done()

    run_on(loop_name, main())


@every_end(*SERVERS)
def test_a_websocket_that_ends_behind_the_answer(loop_name: str, spec: Spec) -> None:
    """The target was answered: nobody may take it for a safe retry."""

    async def main() -> None:
        async with pooled(spec) as pool:
            first = await begun(pool, pool.socket.connect(*TARGET, SHORT))
            feed(pool, 1, CONNECTED, "09")  # a fault
            try:
                stream = await first
            except NoUpstream as error:
                raise AssertionError("it would be begun again") from error
            assert stream is Status.FAILED

    run_on(loop_name, main())


@every_end(
    Spec(Kind.TCP, Side.SERVER, Peer.FASTWS), Spec(Kind.TLS, Side.SERVER, Peer.FASTWS)
)
def test_a_client_that_reads_no_answers_is_cut_off(loop_name: str, spec: Spec) -> None:
    """What it is told would pile up: a server cannot read less for it."""

    async def main() -> None:
        async with pooled(spec) as pool:
            end = pool.socket.end
            end.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            pool.peer.wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            most = 0
            for number in range(1, 1 << 17):
                name = number.to_bytes(4, "little").hex()
                connect, reset = f"01 {name} 01 5f1b 7f000001", f"05 {name}"
                feed(pool, 0, connect, reset)
                if pool.socket.reason:
                    break
                most = max(most, end.transport.get_write_buffer_size())
            reason = "protocol error: the last stream's end was not read yet"
            assert pool.socket.reason == reason
            assert 64 * 1024 < most <= 64 * 1024 + 64
            await eventually(lambda: end.lost)

    run_on(loop_name, main())
