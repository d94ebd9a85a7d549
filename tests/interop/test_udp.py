"""Datagrams beside the library websockets: as server of stw, as client of wts."""

import asyncio
import os
from collections.abc import Iterator

import pytest
from websockets.asyncio.client import connect as ws_connect
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as ws_serve
from websockets.exceptions import ConnectionClosed

from tests.support.cli import Fastws, wts
from tests.support.datagrams import UdpService, ask, udp_client
from tests.support.timing import LONG, units

pytestmark = pytest.mark.interop

SIZES = (1, 0, 125, 126, 1400, 40_000, 65_507)


@pytest.fixture(scope="module")
def far() -> Iterator[Fastws]:
    """wts in front of a UDP echo."""
    with UdpService() as service:
        with wts(f"udp:127.0.0.1:{service.port}", "--udp-idle", units(20)) as process:
            yield process


@pytest.mark.asyncio
async def test_websockets_client(far: Fastws) -> None:
    async with ws_connect(far.url, max_size=None) as ws:
        for size in SIZES:
            data = os.urandom(size)
            await ws.send(data)
            assert await asyncio.wait_for(ws.recv(), LONG) == data
        await ws.send("text is a datagram too")
        assert await ws.recv() == b"text is a datagram too"
        await ws.send([b"frag", b"men", b"ts"])
        assert await ws.recv() == b"fragments"
        await asyncio.wait_for(await ws.ping(), LONG)


@pytest.mark.asyncio
async def test_websockets_client_sees_the_idle_end(far: Fastws) -> None:
    async with ws_connect(far.url) as ws:
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(ws.recv(), LONG)
        assert ws.close_code == 1000


@pytest.mark.asyncio
async def test_websockets_server() -> None:
    kinds: list[type] = []
    ends: list[int | None] = []

    async def handle(ws: ServerConnection) -> None:
        async for message in ws:
            kinds.append(type(message))
            await ws.send(message)
        ends.append(ws.close_code)

    def talk(near: Fastws) -> None:
        with udp_client(near.port) as one, udp_client(near.port) as other:
            for size in SIZES:
                data = os.urandom(size)
                assert ask(one, data) == data
            assert ask(other, b"other") == b"other"
        near.wait_for("idle; 7 datagrams received, 7 sent, 0 dropped, 0 errors")
        near.wait_for("idle; 1 datagrams received, 1 sent, 0 dropped, 0 errors")

    def run(url: str) -> None:
        with Fastws("stw", "udp:127.0.0.1:0", url, "--udp-idle", units(20)) as near:
            talk(near)

    async with ws_serve(handle, "127.0.0.1", 0, max_size=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        await asyncio.to_thread(run, f"ws://127.0.0.1:{port}/")
    assert kinds == [bytes] * 8
    assert ends == [1000, 1000]
