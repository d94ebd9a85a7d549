"""The WebSocket libraries of Python, strangers to fastws: servers that echo, clients.

Messages of every kind and size, fragments, pings, and closing with 3000.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import picows
from aiohttp import web
from websockets.asyncio.client import connect as ws_connect
from websockets.asyncio.server import serve as ws_serve

from tests.support.aiohttp_app import aiohttp_app
from tests.support.peers import BINARY
from tests.support.servers import eventually
from tests.support.timing import LONG

SIZES = [0, 1, 125, 126, 65535, 65536, 1 << 20]
LIMIT = 4 << 20


def payload(size: int) -> bytes:
    return random.Random(size).randbytes(size)


# -- their servers ------------------------------------------------------------------


@contextlib.asynccontextmanager
async def websockets_server() -> AsyncIterator[int]:
    async def echo(connection: Any) -> None:
        async for message in connection:
            await connection.send(message)

    async with ws_serve(echo, "127.0.0.1", 0, max_size=LIMIT) as server:
        yield next(iter(server.sockets)).getsockname()[1]


@contextlib.asynccontextmanager
async def aiohttp_server() -> AsyncIterator[int]:
    async def echo(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(max_msg_size=LIMIT)
        await ws.prepare(request)
        async for message in ws:
            if message.type is aiohttp.WSMsgType.TEXT:
                await ws.send_str(message.data)
            else:
                await ws.send_bytes(message.data)
        return ws

    async with aiohttp_app({"/": echo}) as port:
        yield port


class PicowsEcho(picows.WSListener):  # type: ignore[misc]
    """Sends whole messages back; joins fragments, as picows leaves that to us."""

    def __init__(self) -> None:
        self.parts = b""
        self.kind = BINARY

    def on_ws_frame(self, transport: Any, frame: Any) -> None:
        kind = frame.msg_type
        if kind == picows.WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), b"")
            transport.disconnect()
        elif kind in (picows.WSMsgType.TEXT, picows.WSMsgType.BINARY, 0):
            self.parts += frame.get_payload_as_bytes()
            if kind:
                self.kind = kind
            if frame.fin:
                transport.send(picows.WSMsgType(self.kind), self.parts)
                self.parts = b""


@contextlib.asynccontextmanager
async def picows_server() -> AsyncIterator[int]:
    server = await picows.ws_create_server(
        lambda _: PicowsEcho(), "127.0.0.1", 0, max_frame_size=LIMIT
    )
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


ANSWERED = {"aiohttp": 1000}  # whatever the code of the Close it answers

SERVERS = {
    "websockets": websockets_server,
    "aiohttp": aiohttp_server,
    "picows": picows_server,
}


# -- their clients ------------------------------------------------------------------


async def talk(ws: Any) -> None:
    """What a client with the methods of websockets says to an echo, until it closes."""
    for size in SIZES:
        await ws.send(payload(size))
        assert await ws.recv() == payload(size)
    await ws.send(["ge", "t", "eilt"])
    assert await ws.recv() == "geteilt"
    assert await asyncio.wait_for(await ws.ping(), LONG) >= 0
    await ws.close(3000, "enough")


async def websockets_client(port: int) -> None:
    async with ws_connect(f"ws://127.0.0.1:{port}/", max_size=LIMIT) as ws:
        await talk(ws)
        assert ws.close_code == 3000


async def aiohttp_client(port: int) -> None:
    async with aiohttp.ClientSession() as session:
        url = f"ws://127.0.0.1:{port}/"
        async with session.ws_connect(url, max_msg_size=LIMIT) as ws:
            for size in SIZES:
                await ws.send_bytes(payload(size))
                assert await ws.receive_bytes() == payload(size)
            await ws.send_str("geteilt")
            assert await ws.receive_str() == "geteilt"
            await ws.ping(b"there?")
            await ws.close(code=3000, message=b"enough")
            assert ws.close_code == 3000


async def picows_client(port: int) -> None:
    got: list[bytes] = []

    class Listener(picows.WSListener):  # type: ignore[misc]
        def on_ws_frame(self, transport: Any, frame: Any) -> None:
            if frame.msg_type == picows.WSMsgType.CLOSE:
                assert frame.get_close_code() == 3000
                transport.disconnect()
            else:
                got.append(frame.get_payload_as_bytes())

    url = f"ws://127.0.0.1:{port}/"
    transport, _ = await picows.ws_connect(Listener, url, max_frame_size=LIMIT)
    for size in SIZES:
        transport.send(picows.WSMsgType.BINARY, payload(size))
    transport.send(picows.WSMsgType.TEXT, b"ge", False)
    transport.send(picows.WSMsgType.CONTINUATION, b"teilt")
    await eventually(lambda: len(got) == len(SIZES) + 1, LONG)
    assert got == [*map(payload, SIZES), b"geteilt"]
    transport.send_close(3000, b"enough")
    await transport.wait_disconnected()


CLIENTS = {
    "websockets": websockets_client,
    "aiohttp": aiohttp_client,
    "picows": picows_client,
}
