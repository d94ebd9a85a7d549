"""The pooled way out, against scripted fastws servers (docs/pool.md).

Streams of strangers that are begun again: tests/fault/test_pool_retry.py.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fastws._consts import Side
from fastws.exceptions import (
    ConnectRefused,
    Denied,
    DialError,
    DialTimeout,
    NetworkUnreachable,
    NoConnection,
    NoUpstream,
    UnknownName,
    Unreachable,
    Unsupported,
)
from fastws.net.pool_end import PooledStream
from fastws.net.stream import Kind
from fastws.net.websocket import Peer, WebSocketStream
from fastws.proxy.pooled import PooledOptions, PooledWay
from fastws.upstream.waiting import PoolLimits
from tests.support.copying import QUICK
from tests.support.ends import Spec, open_end
from tests.support.peers import BINARY, CLOSE, PING
from tests.support.servers import both_loops, eventually, run_on
from tests.support.timing import LONG, SHORT, UNIT

SERVER = Spec(Kind.TCP, Side.CLIENT, Peer.FASTWS)
CONNECTED = "04 01 00 00 00 00"
LIMITS = PoolLimits(attempts=1)


class Far:
    """The servers that a way out gets to, one for each connection.

    Attributes:
        peers: of the connections so far.
        way: under test.
    """

    def __init__(self, **options: Any) -> None:
        options = {"copy": QUICK, "limits": LIMITS, "connect_timeout": LONG, **options}
        self.peers: list[Any] = []
        self.error: DialError | None = None
        self.way = PooledWay("ws://far/", self._upgrade, PooledOptions(**options))

    async def _upgrade(self) -> WebSocketStream:
        if self.error is not None:
            raise self.error
        stream, peer = await open_end(SERVER, linger=QUICK.linger)
        self.peers.append(peer)
        assert isinstance(stream, WebSocketStream)
        return stream

    def opens(self, host: str = "a.test") -> "asyncio.Task[Any]":
        """Begin a stream."""
        return asyncio.create_task(self.way.open(host, 80))

    async def peer(self, number: int) -> Any:
        """The server of that connection, from 1."""
        await eventually(lambda: len(self.peers) >= number)
        return self.peers[number - 1]

    async def hears(self, number: int, packet: str) -> Any:
        """That server hears these bytes next, or a Connect of that stream."""
        peer = await self.peer(number)
        frame = await peer.next_frame()
        assert frame.opcode == BINARY
        assert frame.payload.hex(" ").startswith(packet)
        return peer

    async def serve(self, number: int, stream: int) -> None:
        """A stream that is refused, so that its connection is idle again."""
        task = self.opens()
        peer = await self.hears(number, f"01 {stream:02x} 00 00 00")
        await peer.send_frame(BINARY, bytes((4, stream, 0, 0, 0, 5)))
        with pytest.raises(ConnectRefused):
            await task
        await self.hears(number, f"03 {stream:02x} 00 00 00")
        await eventually(lambda: self.way.pool.idle)


@contextlib.asynccontextmanager
async def far(**options: Any) -> AsyncIterator[Far]:
    servers = Far(**options)
    try:
        yield servers
    finally:
        for peer in servers.peers:
            peer.wire.reset()
        await servers.way.aclose()


async def ends(task: "asyncio.Task[Any]") -> Any:
    return await asyncio.wait_for(task, SHORT)


@both_loops
def test_a_close_in_place_of_the_answer_is_tried_elsewhere(loop_name: str) -> None:
    """Also on a fresh connection: a server that drains has passed nothing on."""

    async def main() -> None:
        async with far() as servers:
            task = servers.opens()
            peer = await servers.hears(1, "01 01")
            await peer.send_frame(CLOSE, (1001).to_bytes(2, "big"))
            peer = await servers.hears(2, "01 01")
            await peer.send_frame(BINARY, bytes.fromhex(CONNECTED))
            stream = await ends(task)
            assert isinstance(stream, PooledStream)
            assert servers.way.pool.stats.retried == 1
            stream.discard()
            await servers.hears(2, "05 01")

    run_on(loop_name, main())


@both_loops
def test_servers_that_all_drain(loop_name: str) -> None:
    """Two, and then one that is fresh for certain; no more."""

    async def main() -> None:
        async with far() as servers:
            task = servers.opens()
            for number in (1, 2, 3):
                peer = await servers.hears(number, "01 01")
                await peer.send_frame(CLOSE, (1001).to_bytes(2, "big"))
            with pytest.raises(NoUpstream, match=r"^ws://far/: the pooled WebSocket"):
                await ends(task)
            assert len(servers.peers) == 3

    run_on(loop_name, main())


@both_loops
def test_a_fresh_connection_that_is_lost_is_not_tried_elsewhere(
    loop_name: str,
) -> None:
    async def main() -> None:
        async with far() as servers:
            task = servers.opens()
            peer = await servers.hears(1, "01 01")
            peer.wire.reset()
            with pytest.raises(NoUpstream):
                await ends(task)
            assert len(servers.peers) == 1
            assert servers.way.pool.stats.retried == 0

    run_on(loop_name, main())


@both_loops
def test_a_used_connection_that_is_lost_is_tried_elsewhere(loop_name: str) -> None:
    async def main() -> None:
        async with far() as servers:
            await servers.serve(1, 1)
            await servers.serve(1, 2)
            task = servers.opens()
            peer = await servers.hears(1, "01 03")
            peer.wire.reset()
            peer = await servers.hears(2, "01 01")
            await peer.send_frame(BINARY, bytes.fromhex(CONNECTED))
            (await ends(task)).discard()
            assert servers.way.pool.stats.retried == 1

    run_on(loop_name, main())


@both_loops
def test_nothing_is_tried_twice_if_not_wanted(loop_name: str) -> None:
    async def main() -> None:
        async with far(retry_pooled=0) as servers:
            await servers.serve(1, 1)
            task = servers.opens()
            peer = await servers.hears(1, "01 02")
            peer.wire.reset()
            with pytest.raises(NoUpstream):
                await ends(task)
            assert len(servers.peers) == 1

    run_on(loop_name, main())


@both_loops
def test_no_answer_in_time_puts_the_others_in_doubt(loop_name: str) -> None:
    async def main() -> None:
        async with far(connect_timeout=15 * UNIT) as servers:
            await servers.serve(1, 1)
            task = servers.opens()
            peer = await servers.hears(1, "01 02")
            other = servers.opens()
            idle = await servers.hears(2, "01 01")
            await idle.send_frame(BINARY, bytes.fromhex("04 01 00 00 00 05"))
            with pytest.raises(ConnectRefused):
                await ends(other)
            await servers.hears(2, "03 01")
            with pytest.raises(DialTimeout, match="timed out"):
                await ends(task)
            frame = await idle.read_frame(SHORT)
            assert frame.opcode == PING
            assert (await peer.next_frame()).payload.hex(" ") == "05 02 00 00 00"

    run_on(loop_name, main())


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (1, NoUpstream),
        (2, Denied),
        (3, NetworkUnreachable),
        (4, Unreachable),
        (5, ConnectRefused),
        (6, DialTimeout),
        (7, Unsupported),
        (8, UnknownName),
        (99, NoUpstream),
    ],
)
def test_each_answer_has_its_error(status: int, kind: type[DialError]) -> None:
    async def main() -> None:
        async with far() as servers:
            task = servers.opens()
            peer = await servers.hears(1, "01 01")
            await peer.send_frame(BINARY, bytes((4, 1, 0, 0, 0, status)))
            with pytest.raises(DialError, match=r"^a.test:80: .* \(says ws://far/\)$"):
                await ends(task)
            assert type(task.exception()) is kind
            await eventually(lambda: servers.way.pool.idle)

    run_on("asyncio", main())


@both_loops
def test_a_name_that_does_not_fit_costs_no_connection(loop_name: str) -> None:
    async def main() -> None:
        async with far() as servers:
            with pytest.raises(DialError, match=r"^x{300}: "):
                await ends(servers.opens("x" * 300))
            await servers.serve(1, 1)
            assert len(servers.peers) == 1

    run_on(loop_name, main())


@both_loops
def test_who_gives_up_breaks_off_the_stream_only(loop_name: str) -> None:
    async def main() -> None:
        async with far() as servers:
            task = servers.opens()
            peer = await servers.hears(1, "01 01")
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            await servers.hears(1, "05 01 00 00 00")
            assert servers.way.pool.idle == []
            await peer.send_frame(BINARY, bytes.fromhex("05 01 00 00 00"))
            await eventually(lambda: servers.way.pool.idle)
            await servers.serve(1, 2)

    run_on(loop_name, main())


@both_loops
def test_a_server_out_of_reach_is_not_the_targets_fault(
    loop_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever runs the proxy is told once, and when it is over."""
    caplog.set_level(logging.INFO, "fastws.proxy")

    async def main() -> None:
        async with far() as servers:
            servers.error = ConnectRefused("far:443: connection refused")
            with pytest.raises(
                NoUpstream, match=r"^ws://far/: far:443: conn"
            ) as caught:
                await servers.way.open("a.test", 80)
            assert type(caught.value) is NoUpstream
            servers.error = DialTimeout("far:443: not connected within 5 s")
            with pytest.raises(NoConnection, match=r"^ws://far/: far:443: not"):
                await servers.way.open("a.test", 80)
            servers.error = None
            await servers.serve(1, 1)

    run_on(loop_name, main())
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        ("WARNING", "no WebSocket to ws://far/: far:443: connection refused"),
        ("INFO", "ws://far/: WebSockets open again"),
    ]
