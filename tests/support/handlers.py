"""Handlers of the callback layer that note what they hear, and servers for them."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastws.ws.open import open_websocket
from fastws.ws.protocol import WebSocket
from fastws.ws.server import CallbackServer, serve_callbacks
from tests.support.peers import Wire, WsPeer
from tests.support.servers import eventually

REQUEST = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


class Heard:
    """Notes everything; views as bytes.

    Args:
        on_message: called with this handler and the message, after noting it.
    """

    def __init__(self, on_message: Callable[..., Any] | None = None) -> None:
        self.ws: WebSocket = None  # type: ignore[assignment]
        self.messages: list[tuple[int, bytes]] = []
        self.closes: list[tuple[int, str]] = []
        self.pongs: list[bytes] = []
        self.react = on_message

    def on_open(self, ws: WebSocket) -> None:
        self.ws = ws

    def on_message(self, payload: Any, opcode: int, final: bool) -> None:
        assert final
        self.messages.append((opcode, bytes(payload)))
        if self.react is not None:
            self.react(self, payload, opcode)

    def on_pong(self, payload: bytes) -> None:
        self.pongs.append(payload)

    def on_close(self, code: int, reason: str) -> None:
        self.closes.append((code, reason))

    async def wait_open(self) -> WebSocket:
        await eventually(lambda: self.ws)
        return self.ws

    async def wait_message(self, count: int = 1) -> tuple[int, bytes]:
        await eventually(lambda: len(self.messages) >= count)
        return self.messages[count - 1]

    async def wait_close(self) -> tuple[int, str]:
        await eventually(lambda: self.closes)
        return self.closes[0]


def echo(handler: Heard, payload: Any, opcode: int) -> None:
    """Send it back."""
    handler.ws.send(payload, opcode)


def port_of(server: CallbackServer) -> int:
    return int(server.addresses[0].rpartition(":")[2])


@contextlib.asynccontextmanager
async def serving(
    factory: Callable[[Any], Any] | None = None, **options: Any
) -> AsyncIterator[tuple[CallbackServer, int, list[Heard]]]:
    """A server on a port of 127.0.0.1, and the handlers it made; echoes by default."""
    made: list[Heard] = []

    def make(_: Any) -> Heard:
        made.append(Heard(echo))
        return made[-1]

    async with serve_callbacks(factory or make, "127.0.0.1:0", **options) as server:
        yield server, port_of(server), made


async def raw_client(port: int, *, buffers: int = 0) -> WsPeer:
    """A client by hand, after its opening handshake."""
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if buffers:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffers)
    wire = Wire(sock)
    await wire.send(REQUEST)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += await wire.recv(1)
    assert head.startswith(b"HTTP/1.1 101 "), head
    return WsPeer(wire, is_client=True, is_fastws=False, max_message=1 << 30)


async def ask(port: int, request: bytes) -> bytes:
    """Everything that a server answers until it ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    try:
        return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


@contextlib.asynccontextmanager
async def pair(
    client: Heard | None = None, **options: Any
) -> AsyncIterator[tuple[Heard, Heard]]:
    """A client and the server's end of it, both noting."""
    heard = client or Heard()
    async with serving(**options) as (_, port, made):
        await open_websocket(f"ws://127.0.0.1:{port}/", heard, **options)
        await made[0].wait_open()
        try:
            yield heard, made[0]
        finally:
            heard.ws.abort()
            await heard.wait_close()
