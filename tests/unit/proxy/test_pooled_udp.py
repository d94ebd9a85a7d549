"""Datagrams through a pool of WebSockets, against scripted servers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fastws._consts import Side
from fastws.config.rules import Rule
from fastws.exceptions import NoUpstream, Unsupported
from fastws.net.access import Access
from fastws.net.stream import Kind
from fastws.net.websocket import Peer, WebSocketStream
from fastws.proxy.outgoing import DatagramWay
from fastws.proxy.pooled import PooledOptions, PooledWay
from fastws.upstream.waiting import PoolLimits
from tests.support.copying import QUICK
from tests.support.ends import Spec, open_end
from tests.support.pooled import Pooled
from tests.support.servers import both_loops, eventually, run_on
from tests.support.timing import LONG, SHORT

FASTWS = Spec(Kind.TCP, Side.CLIENT, Peer.FASTWS)
STRANGER = Spec(Kind.TCP, Side.CLIENT)


class Pool:
    """A way through scripted servers.

    Attributes:
        servers: the far side of each WebSocket, in the order of the handshakes.
    """

    def __init__(self, spec: Spec = FASTWS, access: Access | None = None) -> None:
        self.servers: list[Pooled] = []
        self._spec = spec
        options = PooledOptions(
            limits=PoolLimits(), copy=QUICK, connect_timeout=LONG, open_timeout=LONG
        )
        self.way = PooledWay("ws://far", self._upgrade, options, access=access)

    async def _upgrade(self) -> WebSocketStream:
        stream, peer = await open_end(self._spec, linger=QUICK.linger)
        assert isinstance(stream, WebSocketStream)
        nobody: Any = None
        self.servers.append(Pooled(nobody, peer))
        return stream

    async def server(self, number: int) -> Pooled:
        """The server of the WebSocket with this number, from 1, once it is there."""
        await eventually(lambda: len(self.servers) >= number)
        return self.servers[number - 1]

    def asks(self) -> "asyncio.Task[DatagramWay]":
        return asyncio.create_task(self.way.associate(ignore))


def ignore(host: str, port: int, payload: memoryview) -> None:
    """What comes back does not matter."""


@contextlib.asynccontextmanager
async def pooled(
    spec: Spec = FASTWS, access: Access | None = None
) -> AsyncIterator[Pool]:
    pool = Pool(spec, access)
    try:
        yield pool
    finally:
        for server in pool.servers:
            server.peer.wire.reset()
        await asyncio.wait_for(pool.way.aclose(), LONG)


@both_loops
def test_a_websocket_carries_datagrams_again_and_again(loop_name: str) -> None:
    async def main() -> None:
        async with pooled() as pool:
            for number in ("01", "02", "03"):
                asking = pool.asks()
                server = await pool.server(1)
                await server.hears(f"06 {number} 00 00 00")
                await server.says(f"04 {number} 00 00 00 00")
                way = await asking
                way.send("192.0.2.1", 53, memoryview(b"hi"))
                await server.hears("07 01 35 00 c0 00 02 01 68 69")
                way.close()
                await server.hears(f"03 {number} 00 00 00")
                await server.says(f"03 {number} 00 00 00")
                await eventually(lambda: len(pool.way.pool.idle) == 1)
            assert len(pool.servers) == 1

    run_on(loop_name, main())


@both_loops
def test_a_dead_websocket_is_replaced_unseen(loop_name: str) -> None:
    """One that was used before; a fresh one that dies as well is an error."""

    async def main() -> None:
        async with pooled() as pool:
            asking = pool.asks()
            server = await pool.server(1)
            await server.hears("06 01 00 00 00")
            await server.says(
                "04 01 00 00 00 07",
            )
            with pytest.raises(Unsupported, match="UDP: not supported"):
                await asking
            await server.hears("03 01 00 00 00")
            await eventually(lambda: len(pool.way.pool.idle) == 1)

            asking = pool.asks()
            await server.hears("06 02 00 00 00")
            server.peer.wire.reset()
            server = await pool.server(2)
            await server.hears("06 01 00 00 00")
            await server.says("04 01 00 00 00 00")
            way = await asking
            server.peer.wire.reset()
            assert await asyncio.wait_for(asyncio.shield(way.done), SHORT) != ""

            asking = pool.asks()
            server = await pool.server(3)
            await server.hears("06 01 00 00 00")
            server.peer.wire.reset()
            with pytest.raises(NoUpstream, match="ws://far: "):
                await asking
            assert len(pool.servers) == 3

    run_on(loop_name, main())


@both_loops
def test_rules_here_are_asked_for_each_datagram(loop_name: str) -> None:
    async def main() -> None:
        rules = Access((), (Rule.parse("192.0.2.7"), Rule.parse("*.bad.test")))
        async with pooled(access=rules) as pool:
            asking = pool.asks()
            server = await pool.server(1)
            await server.hears("06 01 00 00 00")
            await server.says("04 01 00 00 00 00")
            way = await asking
            for host in ("192.0.2.7", "x.bad.test", "127.0.0.1", "93.184.216.34"):
                way.send(host, 53, memoryview(b"hi"))
            await server.hears("07 01 35 00 5d b8 d8 22 68 69")
            assert (way.denied, way.dropped) == (3, 0)
            assert way.reason == "192.0.2.7:53: forbidden: --deny 192.0.2.7"
            way.close()
            await server.hears("03 01 00 00 00")

    run_on(loop_name, main())


@both_loops
def test_a_stranger_keeps_its_place_in_the_pool(loop_name: str) -> None:
    async def main() -> None:
        async with pooled(STRANGER) as pool:
            for _ in range(2):
                with pytest.raises(Unsupported, match="UDP: not supported"):
                    await pool.way.associate(ignore)
                assert len(pool.way.pool.idle) == 1
            assert len(pool.servers) == 1

    run_on(loop_name, main())


@both_loops
def test_who_gives_up_waiting_costs_no_websocket(loop_name: str) -> None:
    async def main() -> None:
        async with pooled() as pool:
            asking = pool.asks()
            server = await pool.server(1)
            await server.hears("06 01 00 00 00")
            asking.cancel()
            await server.hears("05 01 00 00 00")
            await server.says("05 01 00 00 00")
            await eventually(lambda: len(pool.way.pool.idle) == 1)

    run_on(loop_name, main())
