"""What type checkers know of the WebSocket library. Nothing here runs."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from typing import Any, assert_type

import fastws


async def client(context: ssl.SSLContext) -> None:
    async with fastws.connect("ws://h/") as ws:
        assert_type(ws, fastws.ClientConnection)
    ws = await fastws.connect(
        "wss://h/",
        origin="https://h",
        subprotocols=["a"],
        additional_headers={"A": "b"},
        user_agent_header=None,
        proxy=True,
        ssl=context,
        host="127.0.0.1",
        port=443,
        compression=fastws.Deflate(level=1),
        open_timeout=None,
        ping_interval=None,
        ping_timeout=20,
        close_timeout=None,
        max_size=(None, 1 << 20),
        max_queue=(16, 4),
        write_limit=1 << 16,
        reconnect_delays=lambda: iter([1.0, 2.0]),
        process_exception=lambda exc: None,
    )
    assert_type(ws, fastws.ClientConnection)
    async for again in fastws.connect("ws://h/"):
        assert_type(again, fastws.ClientConnection)
    fastws.unix_connect("/path", "ws://h/", open_timeout=1.0)


async def connection(ws: fastws.ClientConnection, other: fastws.Connection) -> None:
    assert_type(await ws.recv(), str | bytes)
    assert_type(await ws.recv(decode=True), str)
    assert_type(await ws.recv(decode=False), bytes)
    async for message in ws:
        assert_type(message, str | bytes)
    async for part in ws.recv_streaming():
        assert_type(part, str | bytes)
    async for text in ws.recv_streaming(decode=True):
        assert_type(text, str)
    async for data in ws.recv_streaming(decode=False):
        assert_type(data, bytes)

    async def parts() -> AsyncIterator[bytes]:
        yield b"a"

    await ws.send("text")
    await ws.send(bytearray(b"binary"), text=True)
    await ws.send(["a", "b"])
    await ws.send(parts())
    assert_type(await (await ws.ping()), float)
    await ws.pong(b"x")
    await ws.close(fastws.CloseCode.GOING_AWAY, "bye")
    assert_type(ws.state, fastws.State)
    assert_type(ws.latency, float)
    assert_type(ws.close_code, int | None)
    assert_type(ws.close_reason, str | None)
    assert_type(ws.subprotocol, str | None)
    assert_type(ws.request, fastws.Request)
    assert_type(ws.response, fastws.Response | None)
    assert_type(ws.request.headers["A"], str)
    assert_type(ws.request.headers.get_all("A"), list[str])
    fastws.broadcast([ws, other], "text", raise_exceptions=True)


async def handler(ws: fastws.ServerConnection) -> None:
    assert_type(ws.username, str)
    assert_type(ws.server, fastws.Server)
    assert_type(ws.respond(404, "no"), fastws.Response)


async def ask(
    ws: fastws.ServerConnection, request: fastws.Request
) -> fastws.Response | None:
    return None if request.path == "/" else ws.respond(404, "no")


def review(
    ws: fastws.ServerConnection, request: fastws.Request, response: fastws.Response
) -> None:
    response.headers["A"] = "b"


def choose(ws: fastws.ServerConnection, offered: Sequence[str]) -> str | None:
    return offered[0] if offered else None


async def server(context: ssl.SSLContext) -> None:
    async with fastws.serve(handler, "127.0.0.1", 0) as running:
        assert_type(running, fastws.Server)
        assert_type(running.connections, set[fastws.ServerConnection])
    running = await fastws.serve(
        handler,
        ["127.0.0.1", "::1"],
        8080,
        origins=["https://h", None],
        subprotocols=["a"],
        select_subprotocol=choose,
        process_request=ask,
        process_response=review,
        server_header=None,
        ssl=context,
        compression="deflate",
        max_connections=10,
        max_size=None,
    )
    running.close(code=1012, reason="restart")
    await running.wait_closed()
    hook = fastws.basic_auth(realm="a", credentials=[("user", "password")])
    fastws.serve(handler, "unix:/path", process_request=hook)


def errors(exc: Exception) -> None:
    if isinstance(exc, fastws.ConnectionClosed):
        assert_type(exc.code, int)
        assert_type(exc.reason, str)
    if isinstance(exc, fastws.InvalidHeader):
        assert_type(exc.value, str | None)
    if isinstance(exc, fastws.DialError):
        assert_type(exc.errno, int | None)


def codec(data: bytearray) -> None:
    decoder = fastws.FrameDecoder(fastws.Side.SERVER, max_payload=1 << 20)
    for opcode, _, flags in decoder.receive_data(data):
        assert_type(opcode, int)
        assert_type(flags, int)


class Handler:
    """Of the callback layer."""

    def on_open(self, ws: fastws.WebSocket) -> None:
        self.ws = ws

    def on_message(self, payload: Any, opcode: int, final: bool) -> None:
        assert_type(self.ws.send(payload, opcode), bool)

    def on_close(self, code: int, reason: str) -> None:
        pass


async def callbacks() -> None:
    assert_type(await fastws.open_websocket("ws://h/", Handler()), fastws.WebSocket)
    async with fastws.serve_callbacks(lambda opening: Handler(), ":0"):
        pass


async def shout(stream: fastws.Stream) -> None:
    async for line in stream:
        assert_type(line, bytes)
        stream.write(memoryview(line.upper()))
        await stream.drain()


class Protocol(asyncio.Protocol):
    """Of a transport."""


async def streams(sock: socket.socket) -> None:
    async with fastws.serve_streams(shout, "127.0.0.1", 0, linger=1.0) as server:
        assert_type(server, fastws.StreamServer)
        assert_type(server.streams, set[fastws.Stream])
    async with fastws.open_stream("ws://h/", port=1, ping_interval=None) as stream:
        assert_type(stream, fastws.Stream)
        assert_type(await stream.readexactly(1), bytes)
        assert_type(stream.subprotocol, str | None)
    stream = await fastws.open_stream("ws://h/", announce=False)
    pair = await asyncio.open_connection("127.0.0.1", 1)
    result = await fastws.copy_bidirectional(pair, stream, on_eof="close")
    assert_type(result, fastws.CopyResult)
    assert_type(result.a_to_b, int)
    transport, protocol = await fastws.open_transport("ws://h/", Protocol)
    assert_type(protocol, Protocol)
    await fastws.copy_bidirectional(transport, sock)
    async with fastws.forward("ws://h/", port=5433, open_timeout=1) as path:
        assert_type(path, str)


def stream_reset(error: fastws.StreamReset) -> None:
    assert_type(error.reason, str)
    assert_type(error.close_code, int | None)
    assert_type(error.errno, int | None)
