"""Idle pooled WebSockets: guarded by the kernel, and asked whether they live."""

import asyncio
import socket

import pytest

from fastws._consts import Side
from fastws.net.pool_watch import IDLE_USER_TIMEOUT, guard, prove
from fastws.net.stream import Kind
from fastws.net.websocket import Peer
from tests.support.ends import Spec, every_end
from tests.support.peers import PING, PONG
from tests.support.pooled import pooled
from tests.support.servers import run_on
from tests.support.timing import LONG, UNIT

STRANGERS = (Spec(Kind.TCP, Side.CLIENT), Spec(Kind.TLS, Side.CLIENT))
SERVERS = (Spec(Kind.TCP, Side.CLIENT, Peer.FASTWS),)
CONNECT = "01 01 5f 1b 7f 00 00 01"

has_user_timeout = pytest.mark.skipif(
    not hasattr(socket, "TCP_USER_TIMEOUT"), reason="no TCP_USER_TIMEOUT here"
)


@has_user_timeout
@every_end(*STRANGERS)
def test_the_kernel_gives_up_an_idle_one_only(loop_name: str, spec: Spec) -> None:
    async def main() -> None:
        async with pooled(spec) as pool:
            sock = pool.socket.end.socket
            assert sock is not None

            def seen() -> int:
                return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)

            assert seen() == 0
            guard(pool.socket)
            assert seen() == IDLE_USER_TIMEOUT * 1000
            guard(pool.socket, 0)
            assert seen() == 0

    run_on(loop_name, main())


@every_end(*STRANGERS)
def test_a_stranger_proves_itself_by_its_kernel(loop_name: str, spec: Spec) -> None:
    """It gets a Close that means nothing; the next stream begins as any other."""

    async def main() -> None:
        async with pooled(spec) as pool:
            assert await prove(pool.socket, LONG)
            await pool.hears("03")
            assert pool.socket.is_idle
            far, task = await pool.joins(await pool.connects())
            await pool.hears(CONNECT)
            assert await prove(pool.socket, LONG)  # whoever uses it will hear
            await pool.says("03")
            await far.finish()
            await pool.hears("03")
            far.wire.close()
            await task

    run_on(loop_name, main())


@every_end(*SERVERS)
def test_a_fastws_server_proves_itself_by_a_pong(loop_name: str, spec: Spec) -> None:
    async def main() -> None:
        async with pooled(spec) as pool:
            asking = asyncio.create_task(prove(pool.socket, LONG))
            frame = await pool.peer.read_frame(LONG)
            assert frame.opcode == PING
            assert not asking.done()
            await pool.peer.send_frame(PONG, frame.payload)
            assert await asking
            assert not await prove(pool.socket, UNIT)  # no pong

    run_on(loop_name, main())


@every_end(STRANGERS[0], SERVERS[0])
def test_one_that_ends_proves_nothing(loop_name: str, spec: Spec) -> None:
    async def main() -> None:
        async with pooled(spec) as pool:
            pool.peer.answers_pings = False
            asking = asyncio.create_task(prove(pool.socket, LONG))
            await asyncio.sleep(0)
            pool.socket.abort()
            assert not await asking
            assert not await prove(pool.socket, LONG)
            guard(pool.socket)  # nothing to guard

    run_on(loop_name, main())
