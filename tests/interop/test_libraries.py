"""fastws beside the WebSocket libraries of Python: each as client of wts, each as
server of stw. Messages of every kind and size, pings, closing from either side.
"""

import asyncio
import contextlib
import random
import socket
import threading
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import websockets
from aiohttp import web
from websockets.asyncio.client import connect as ws_connect
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as ws_serve
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Message,
    Ping,
    Pong,
    RejectConnection,
    Request,
    TextMessage,
)

from tests.support.aiohttp_app import aiohttp_app
from tests.support.cli import Fastws, stw, tunnel
from tests.support.services import Service, connect, echo, read_exactly
from tests.support.timing import LONG

pytestmark = pytest.mark.interop

SIZES = [1, 125, 126, 65535, 65536, 1 << 20]


def payload(size: int) -> bytes:
    return random.Random(size).randbytes(size)


async def tcp_echo(port: int, end: bool) -> None:
    """Send every size through stw and read it back; ``end``: also by half-close."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for size in SIZES:
            writer.write(payload(size))
            got = await asyncio.wait_for(reader.readexactly(size), LONG)
            assert got == payload(size)
        if end:
            writer.write_eof()
            assert await asyncio.wait_for(reader.read(), LONG) == b""
    finally:
        writer.close()


# websockets


@pytest.mark.asyncio
@pytest.mark.parametrize("compression", ["deflate", None])
async def test_websockets_client(far: Fastws, compression: str | None) -> None:
    """permessage-deflate is offered, and declined by silence."""
    options: dict[str, Any] = {"compression": compression, "max_size": None}
    async with ws_connect(far.url, **options) as ws:
        assert ws.protocol.extensions == []
        for size in SIZES:
            await ws.send(payload(size))
            got = b""
            while len(got) < size:
                got += await asyncio.wait_for(ws.recv(decode=False), LONG)
            assert got == payload(size)
        await ws.send(["frag", "mented", " text"])
        got = b""
        while len(got) < 15:
            got += await asyncio.wait_for(ws.recv(decode=False), LONG)
        assert got == b"fragmented text"
        await asyncio.wait_for(await ws.ping(b"payload"), LONG)
    assert (ws.close_code, ws.close_reason) == (1000, "")


@pytest.mark.asyncio
async def test_websockets_server() -> None:
    async def handle(ws: ServerConnection) -> None:
        await asyncio.wait_for(await ws.ping(), LONG)
        async for message in ws:
            await ws.send(message)
        codes.append(ws.close_code)

    codes: list[int | None] = []
    async with ws_serve(handle, "127.0.0.1", 0, max_size=None) as server:
        port = server.sockets[0].getsockname()[1]
        with stw(f"ws://127.0.0.1:{port}/", "--on-eof", "close") as near:
            await tcp_echo(near.port, end=True)
            await asyncio.to_thread(near.wait_for, "closed$")
    assert codes == [1000]


@pytest.mark.asyncio
async def test_websockets_server_closes_first() -> None:
    async def handle(ws: ServerConnection) -> None:
        await ws.send(b"bye")
        await ws.close(1000, "that was all")

    async with ws_serve(handle, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with stw(f"ws://127.0.0.1:{port}/") as near:
            reader, writer = await asyncio.open_connection("127.0.0.1", near.port)
            assert await asyncio.wait_for(reader.read(), LONG) == b"bye"
            writer.close()
            await asyncio.to_thread(near.wait_for, "closed$")


@pytest.mark.asyncio
async def test_websockets_subprotocol_of_novnc(far: Fastws) -> None:
    names = [websockets.Subprotocol("binary"), websockets.Subprotocol("base64")]
    async with ws_connect(far.url, subprotocols=names) as ws:
        assert ws.subprotocol == "binary"


# aiohttp


@pytest.mark.asyncio
async def test_aiohttp_client(far: Fastws) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect(far.url, max_msg_size=0, compress=15) as ws:
            assert ws.compress == 0, "the offer is declined"
            for size in SIZES:
                await ws.send_bytes(payload(size))
                got = b""
                while len(got) < size:
                    got += await ws.receive_bytes(timeout=LONG)
                assert got == payload(size)
            await ws.send_str("ünïcode")
            assert await ws.receive_bytes(timeout=LONG) == "ünïcode".encode()
        assert ws.close_code == 1000


@contextlib.asynccontextmanager
async def aiohttp_server() -> AsyncIterator[int]:
    async def handle(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(max_msg_size=0)
        await ws.prepare(request)
        async for message in ws:
            await ws.send_bytes(message.data)
        return ws

    async with aiohttp_app({"/t": handle}) as port:
        yield port


@pytest.mark.asyncio
async def test_aiohttp_server() -> None:
    async with aiohttp_server() as port:
        with stw(f"ws://127.0.0.1:{port}/t", "--on-eof", "close") as near:
            await tcp_echo(near.port, end=True)
            await asyncio.to_thread(near.wait_for, "closed$")


@pytest.mark.asyncio
async def test_aiohttp_server_that_knows_no_such_path() -> None:
    async with aiohttp_server() as port:
        with stw(f"ws://127.0.0.1:{port}/missing") as near:
            reader, writer = await asyncio.open_connection("127.0.0.1", near.port)
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(reader.read(), LONG)
            writer.close()
            line = await asyncio.to_thread(near.wait_for, "WARNING")
    assert "the server answered HTTP 404 Not Found, Server: Python" in line
    assert "aiohttp/" in line


# wsproto


class WsProto:
    """A blocking socket around wsproto; collects payload, answers pings."""

    def __init__(self, sock: socket.socket, side: ConnectionType) -> None:
        self.sock = sock
        self.ws = WSConnection(side)
        self.data = b""
        self.pongs: list[bytes] = []
        self.code: int | None = None
        self.refused: int | None = None
        self.is_open = False

    def send(self, *events: Any) -> None:
        for event in events:
            self.sock.sendall(self.ws.send(event))

    def step(self) -> bool:
        """Read once; False at the end."""
        chunk = self.sock.recv(65536)
        self.ws.receive_data(chunk or None)
        for event in self.ws.events():
            if isinstance(event, Request):
                self.send(AcceptConnection())
                self.is_open = True
            elif isinstance(event, AcceptConnection):
                self.is_open = True
            elif isinstance(event, RejectConnection):
                self.refused = event.status_code
            elif isinstance(event, Message):
                data = event.data
                self.data += data.encode() if isinstance(data, str) else bytes(data)
            elif isinstance(event, Ping):
                self.send(event.response())
            elif isinstance(event, Pong):
                self.pongs.append(bytes(event.payload))
            elif isinstance(event, CloseConnection):
                self.code = event.code
                if chunk:
                    with contextlib.suppress(Exception):  # ours was first
                        self.send(event.response())
        return bool(chunk)

    def until(self, check: Any) -> None:
        while not check():
            assert self.step(), "ended"


def test_wsproto_client(far: Fastws) -> None:
    with connect(far.port) as sock:
        peer = WsProto(sock, ConnectionType.CLIENT)
        peer.send(Request(host="localhost", target="/"))
        peer.until(lambda: peer.is_open)
        for size in SIZES:
            peer.data = b""
            message = payload(size)
            sender = threading.Thread(
                target=peer.send, args=(BytesMessage(message),), daemon=True
            )
            sender.start()
            peer.until(lambda: len(peer.data) == size)  # noqa: B023
            sender.join()
            assert peer.data == message
        peer.data = b""
        peer.send(TextMessage("frag", message_finished=False), Ping(b"between"))
        peer.send(TextMessage("mented"))
        peer.until(lambda: len(peer.data) == 10 and peer.pongs)
        assert peer.data == b"fragmented"
        assert peer.pongs == [b"between"]
        peer.send(CloseConnection(code=1000))
        peer.until(lambda: peer.code is not None)
        assert peer.code == 1000
        assert not peer.step()


def test_wsproto_server() -> None:
    def handle(sock: Any) -> None:
        peer = WsProto(sock, ConnectionType.SERVER)
        while peer.code is None and peer.step():
            if peer.data:
                data, peer.data = peer.data, b""
                peer.send(BytesMessage(data))
        service.seen.append(peer.code)

    with Service(handle) as service:
        url = f"ws://127.0.0.1:{service.port}/"
        with stw(url, "--on-eof", "close") as near, connect(near.port) as sock:
            for size in SIZES:
                message = payload(size)
                sender = threading.Thread(
                    target=sock.sendall, args=(message,), daemon=True
                )
                sender.start()
                assert read_exactly(sock, size) == message
                sender.join()
            sock.shutdown(socket.SHUT_WR)
            assert sock.recv(1) == b""
            near.wait_for("closed$")
    assert service.seen == [1000]


# The standard library


def test_http_client_of_the_standard_library_reads_the_health_check(
    far: Fastws,
) -> None:
    import http.client  # noqa: PLC0415 - the subject of this test

    client = http.client.HTTPConnection("127.0.0.1", far.port, timeout=LONG)
    client.request("GET", "/healthz")
    answer = client.getresponse()
    assert (answer.status, answer.read()) == (200, b"ok\n")
    client.close()


def test_asyncio_streams_through_a_tunnel() -> None:
    with Service(echo) as service, tunnel(service.port) as (near, _):
        asyncio.run(tcp_echo(near.port, end=True))
