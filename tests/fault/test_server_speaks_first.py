"""A server that greets at once: none of its bytes is lost on the way to the pump."""

import asyncio

import pytest

from fastws.net.copy import copy_bidirectional
from fastws.net.dial import Dialer
from fastws.net.stream import ByteStream, Hold, Kind
from tests.support.copying import QUICK
from tests.support.ends import open_plain, socket_pair
from tests.support.peers import RawPeer, Wire
from tests.support.servers import both_loops, run_on, tcp_server

GREETING = b"220 mail.example ESMTP ready\r\n"
CONNECTIONS = 1000
AT_ONCE = 50


@pytest.mark.parametrize("then", ["stays", "closes"])
@both_loops
def test_no_greeting_is_lost(loop_name: str, then: str) -> None:
    """1 000 connections are dialled and copied; the client says nothing first."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(GREETING)
        if then == "closes":
            writer.close()
        await reader.read()

    async def main() -> None:
        async with tcp_server(greet) as port:
            dialer = Dialer(("127.0.0.1", port))
            for _ in range(CONNECTIONS // AT_ONCE):
                await asyncio.gather(*(one(dialer) for _ in range(AT_ONCE)))

    async def one(dialer: Dialer) -> None:
        up = await dialer.dial()
        near, far = socket_pair(Kind.TCP)
        peer = RawPeer(Wire(far))
        transport, hold = await open_plain(near)
        down = ByteStream(transport, Kind.TCP, hold)
        assert isinstance(hold, Hold)
        copying = asyncio.create_task(copy_bidirectional(down, up, QUICK))
        assert await peer.read(len(GREETING)) == GREETING
        await peer.finish()
        assert await peer.read_end() == (b"", "eof")
        assert (await copying)[:2] == (0, len(GREETING))
        peer.wire.close()

    run_on(loop_name, main())
