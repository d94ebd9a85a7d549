"""The far end of datagrams in a pooled WebSocket, against scripted clients."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from fastws._consts import Side
from fastws.config.rules import Rule
from fastws.exceptions import Unsupported
from fastws.net.access import Access
from fastws.net.stream import Kind
from fastws.net.websocket import Peer
from fastws.proxy.direct import Direct, Through
from fastws.proxy.served_udp import Exchange
from fastws.wire.pool import Status
from tests.support.ends import Spec, every_end
from tests.support.pooled import Pooled, pooled
from tests.support.servers import eventually, run_on
from tests.support.timing import SHORT, UNIT

SERVERS = (
    Spec(Kind.TCP, Side.SERVER, Peer.UNCONFIRMED),
    Spec(Kind.TLS, Side.SERVER, Peer.FASTWS),
)
ASSOCIATE = "06 01 00 00 00"
GRANTED = "04 01 00 00 00 00"
CLOSE = "03 01 00 00 00"


class Far:
    """A UDP target that answers in capitals."""

    def __init__(self) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.setblocking(False)
        port: int = self.sock.getsockname()[1]
        self.endpoint = f"01 {port.to_bytes(2, 'little').hex(' ')} 7f 00 00 01"
        self.got: list[bytes] = []

    def answer(self) -> None:
        data, source = self.sock.recvfrom(70000)
        self.got.append(data)
        self.sock.sendto(data.upper(), source)


@contextlib.asynccontextmanager
async def far_ends(count: int) -> AsyncIterator[list[Far]]:
    loop = asyncio.get_running_loop()
    fars = [Far() for _ in range(count)]
    for far in fars:
        loop.add_reader(far.sock.fileno(), far.answer)
    try:
        yield fars
    finally:
        for far in fars:
            loop.remove_reader(far.sock.fileno())
            far.sock.close()


async def opened(
    pool: Pooled, access: Access | None, idle: float = 0.0
) -> tuple[Exchange, "asyncio.Task[None]"]:
    await pool.says(ASSOCIATE)
    exchange = Exchange(idle)
    request = await pool.requested()
    assert await exchange.open(pool.socket, request, Direct(access=access))
    await pool.hears(GRANTED)
    return exchange, asyncio.create_task(exchange.run())


@every_end(*SERVERS)
def test_datagrams_reach_many_targets_and_come_back(loop_name: str, spec: Spec) -> None:
    async def main() -> None:
        async with pooled(spec) as pool, far_ends(20) as fars:
            exchange, task = await opened(pool, None)
            for number, far in enumerate(fars):
                text = f"to-{number:02}".encode()
                await pool.says(f"07 {far.endpoint} {text.hex()}")
                answer = text.upper().hex(" ")
                await pool.hears(f"07 {far.endpoint} {answer}")
                assert far.got == [text]
            await pool.says(CLOSE)
            await pool.hears(CLOSE)
            await asyncio.wait_for(task, SHORT)
            assert pool.socket.is_idle
            assert (exchange.bytes_in, exchange.bytes_out) == (100, 100)
            assert str(exchange) == "20 datagrams received, 20 sent, 0 dropped"

    run_on(loop_name, main())


@every_end(SERVERS[0])
def test_each_datagram_is_judged(loop_name: str, spec: Spec) -> None:
    """Private addresses pass only by name, and others may still follow."""

    async def main() -> None:
        async with pooled(spec) as pool, far_ends(2) as (one, two):
            port = two.sock.getsockname()[1]
            access = Access((Rule.parse(f"127.0.0.1:{port}"),), ())
            exchange, task = await opened(pool, access)
            for far in (one, one, two):
                await pool.says(f"07 {far.endpoint} 68 69")
            await pool.hears(f"07 {two.endpoint} 48 49")
            assert one.got == []
            await pool.says(CLOSE)
            await asyncio.wait_for(task, SHORT)
            text = "3 datagrams received, 1 sent, 0 dropped, 2 denied ("
            assert str(exchange).startswith(text)

            await pool.hears(CLOSE)

    run_on(loop_name, main())


@every_end(SERVERS[0])
def test_private_targets_are_denied_by_default(loop_name: str, spec: Spec) -> None:
    async def main() -> None:
        async with pooled(spec) as pool, far_ends(1) as (far,):
            exchange, task = await opened(pool, Access((), ()))
            await pool.says(f"07 {far.endpoint} 68 69", CLOSE)
            await pool.hears(CLOSE)
            await asyncio.wait_for(task, SHORT)
            assert ", 1 denied (" in str(exchange)
            assert far.got == []

    run_on(loop_name, main())


@every_end(*SERVERS)
def test_silence_ends_the_datagrams(loop_name: str, spec: Spec) -> None:
    """The WebSocket goes on to the next stream."""

    async def main() -> None:
        async with pooled(spec) as pool, far_ends(1) as (far,):
            exchange, task = await opened(pool, None, idle=UNIT)
            await pool.says(f"07 {far.endpoint} 68 69")
            await pool.hears(f"07 {far.endpoint} 48 49", CLOSE)
            await asyncio.wait_for(task, SHORT)
            assert not pool.socket.is_idle
            await pool.says(CLOSE)
            await eventually(lambda: pool.socket.is_idle)
            assert str(exchange) == "1 datagrams received, 1 sent, 0 dropped"

    run_on(loop_name, main())


@every_end(*SERVERS)
def test_a_client_that_dies_or_resets_ends_them(loop_name: str, spec: Spec) -> None:
    async def main() -> None:
        async with pooled(spec) as pool:
            exchange, task = await opened(pool, None)
            await pool.says("05 01 00 00 00")
            await asyncio.wait_for(task, SHORT)
            text = "0 datagrams received, 0 sent, 0 dropped: reset by peer"
            assert str(exchange) == text
            await pool.hears("05 01 00 00 00")
        async with pooled(spec) as pool:
            exchange, task = await opened(pool, None)
            pool.peer.wire.reset()
            await asyncio.wait_for(task, SHORT)
            assert str(exchange).endswith(f" dropped: {pool.socket.reason}")

    run_on(loop_name, main())


@every_end(SERVERS[0])
def test_a_way_out_without_datagrams_is_an_error(loop_name: str, spec: Spec) -> None:
    async def main() -> None:
        async with pooled(spec) as pool:
            await pool.says(ASSOCIATE)
            request = await pool.requested()
            way = Through(scheme="http", proxy=("127.0.0.1", 9))
            with pytest.raises(Unsupported):
                await Exchange(0).open(pool.socket, request, way)
            assert pool.socket.is_current(request)

    run_on(loop_name, main())


@every_end(SERVERS[0])
def test_a_client_that_has_gone_gets_no_way(loop_name: str, spec: Spec) -> None:
    async def main() -> None:
        async with pooled(spec) as pool:
            await pool.says(ASSOCIATE)
            request = await pool.requested()
            pool.socket.refuse(request, Status.FAILED)
            assert not await Exchange(0).open(pool.socket, request, Direct())

    run_on(loop_name, main())
