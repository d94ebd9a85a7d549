"""The message API, by callbacks and coroutines, beside wsproto, Node's ws and aiohttp.

Each in both roles, with compression and without.
"""

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Message,
    Ping,
    Pong,
    Request,
    TextMessage,
)
from wsproto.extensions import PerMessageDeflate

from fastws.ws.connect import connect
from fastws.ws.open import open_websocket
from tests.support import coroutines, handlers, node
from tests.support.aiohttp_app import aiohttp_app
from tests.support.peers import BINARY, TEXT
from tests.support.servers import LOOPS, run_on, tcp_server
from tests.support.timing import LONG

pytestmark = pytest.mark.interop

SIZES = (0, 1, 125, 126, 5000, 65535, 65536, 1 << 18)
MESSAGES: list[str | bytes] = [random.Random(size).randbytes(size) for size in SIZES]
MESSAGES += ["grün, " * (size // 7) for size in SIZES]
MESSAGES += [bytes(1 << 18)]

LOOP = list(LOOPS)[-1]

apis = pytest.mark.parametrize("api", ["callbacks", "coroutines"])
packings = pytest.mark.parametrize("packing", ["plain", "deflate"])


def options(packing: str) -> dict[str, Any]:
    return {"compression": "deflate"} if packing == "deflate" else {}


# -- ours ---------------------------------------------------------------------------


async def talk(api: str, port: int, packing: str) -> None:
    """A client of ours: every message comes back, in fragments too."""
    url = f"ws://127.0.0.1:{port}/"
    if api == "coroutines":
        async with connect(url, **options(packing)) as ws:
            for message in MESSAGES:
                await ws.send(message)
                assert await ws.recv() == message
            await ws.send(["ge", "", "teilt"])
            assert await ws.recv() == "geteilt"
            assert await asyncio.wait_for(await ws.ping(), LONG) >= 0
            await ws.close(3000, "enough")
        return
    heard = handlers.Heard()
    client = await open_websocket(url, heard, **options(packing))
    for message in MESSAGES:
        client.send(message)
    client.send("ge", final=False)
    client.send("", final=False)
    client.send("teilt")
    await heard.wait_message(len(MESSAGES) + 1)
    assert heard.messages == [*map(as_heard, MESSAGES), (TEXT, b"geteilt")]
    client.ping(b"there?")
    client.close(3000, "enough")
    await heard.wait_close()


def as_heard(message: str | bytes) -> tuple[int, bytes]:
    if isinstance(message, str):
        return TEXT, message.encode()
    return BINARY, message


@contextlib.asynccontextmanager
async def echo(api: str, packing: str) -> AsyncIterator[int]:
    """A server of ours; at the end it must have seen Close 3000."""
    if api == "callbacks":
        async with handlers.serving(**options(packing)) as (_, port, made):
            yield port
            assert await made[0].wait_close() == (3000, "enough")
        return
    closes: list[Any] = []

    async def handler(ws: Any) -> None:
        try:
            await coroutines.echo(ws)
        finally:
            closes.append((ws.close_code, ws.close_reason))

    async with coroutines.serving(handler, **options(packing)) as (server, _):
        yield server.sockets[0].getsockname()[1]
    assert closes == [(3000, "enough")]


# -- wsproto ------------------------------------------------------------------------


class WsProto:
    """A connection of wsproto on streams; joins fragments, answers pings and Close."""

    def __init__(
        self, side: ConnectionType, streams: tuple[Any, Any], packing: str
    ) -> None:
        self.ws = WSConnection(side)
        self.reader, self.writer = streams
        self.extensions = [PerMessageDeflate()] if packing == "deflate" else []
        self.got: list[Any] = []

    def say(self, event: Any) -> None:
        self.writer.write(self.ws.send(event))

    async def events(self) -> AsyncIterator[Any]:
        """What has come, until the end; a whole message as one event."""
        parts: list[Any] = []
        while True:
            data = await self.reader.read(65536)
            self.ws.receive_data(data or None)
            for event in self.ws.events():
                if isinstance(event, Message):
                    parts.append(event.data)
                    if not event.message_finished:
                        continue
                    first = parts[0]
                    joined = first[:0].join(parts)
                    yield joined if isinstance(first, str) else bytes(joined)
                    parts.clear()
                elif isinstance(event, Ping):
                    self.say(event.response())
                else:
                    yield event
            if not data:
                return

    def answer(self, message: str | bytes) -> None:
        kind = TextMessage if isinstance(message, str) else BytesMessage
        self.say(kind(message))


@apis
@packings
def test_our_client_and_wsproto(api: str, packing: str) -> None:
    closes: list[Any] = []

    async def serve(reader: Any, writer: Any) -> None:
        peer = WsProto(ConnectionType.SERVER, (reader, writer), packing)
        async for event in peer.events():
            if isinstance(event, Request):
                peer.say(AcceptConnection(extensions=peer.extensions))
                assert bool(event.extensions) is (packing == "deflate")
            elif isinstance(event, str | bytes):
                peer.answer(event)
                await writer.drain()
            elif isinstance(event, CloseConnection) and event.code != 1006:
                closes.append((event.code, event.reason))
                peer.say(event.response())
                await writer.drain()
                return

    async def main() -> None:
        async with tcp_server(serve) as port:
            await talk(api, port, packing)

    run_on(LOOP, main())
    assert closes == [(3000, "enough")]


@apis
@packings
def test_wsproto_and_our_server(api: str, packing: str) -> None:
    async def visit(port: int) -> None:
        streams = await asyncio.open_connection("127.0.0.1", port)
        peer = WsProto(ConnectionType.CLIENT, streams, packing)
        request = Request(host="a", target="/", extensions=list(peer.extensions))
        peer.say(request)
        events = aiter(peer.events())
        accepted = await anext(events)
        assert isinstance(accepted, AcceptConnection)
        assert bool(accepted.extensions) is (packing == "deflate")
        for message in MESSAGES:
            peer.answer(message)
            assert await anext(events) == message
        peer.say(TextMessage("ge", message_finished=False))
        peer.say(Ping(b"between"))
        peer.say(TextMessage("teilt"))
        assert [await anext(events), await anext(events)] == [
            Pong(b"between"),
            "geteilt",
        ]
        peer.say(CloseConnection(3000, "enough"))
        assert (await anext(events)).code == 3000
        peer.writer.close()
        await peer.writer.wait_closed()

    async def main() -> None:
        async with echo(api, packing) as port:
            await visit(port)

    run_on(LOOP, main())


# -- Node's ws ----------------------------------------------------------------------


@apis
@packings
def test_our_client_and_node(api: str, packing: str) -> None:
    with node.Script("echo_server.js", packing) as script:
        port = script.next()
        run_on(LOOP, talk(api, port, packing))
        seen = script.next()
    assert ("permessage-deflate" in seen.pop("extensions")) is (packing == "deflate")
    texts = sum(isinstance(message, str) for message in MESSAGES) + 1
    count = len(MESSAGES) + 1
    assert seen == {"texts": texts, "count": count, "code": 3000, "reason": "enough"}


@apis
@packings
def test_node_and_our_server(api: str, packing: str) -> None:
    async def main() -> None:
        async with echo(api, packing) as port:
            url = f"ws://127.0.0.1:{port}/"
            sizes = map(str, SIZES)
            run = node.run
            said = await asyncio.to_thread(run, "echo_client.js", url, packing, *sizes)
        seen = json.loads(said)
        assert ("permessage-deflate" in seen.pop("extensions")) is (
            packing == "deflate"
        )
        assert seen == {
            "same": 2 * len(SIZES) + 1,
            "pong": "between",
            "code": 3000,
            "reason": "",
        }

    run_on(LOOP, main())


# -- aiohttp, with compression (without: test_callbacks and test_coroutines) --------


@apis
@pytest.mark.parametrize("bits", [9, 15])
def test_our_client_and_aiohttp(api: str, bits: int) -> None:
    packed: list[Any] = []

    async def serve(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(compress=True)
        await ws.prepare(request)
        packed.append(ws.compress)
        async for message in ws:
            if message.type is aiohttp.WSMsgType.TEXT:
                await ws.send_str(message.data)
            else:
                await ws.send_bytes(message.data, compress=bits)
        return ws

    async def main() -> None:
        async with aiohttp_app({"/": serve}) as port:
            await talk(api, port, "deflate")

    run_on(LOOP, main())
    assert packed == [15]


@apis
@pytest.mark.parametrize("bits", [9, 15])
def test_aiohttp_and_our_server(api: str, bits: int) -> None:
    async def main() -> None:
        async with echo(api, "deflate") as port, aiohttp.ClientSession() as session:
            url = f"ws://127.0.0.1:{port}/"
            async with session.ws_connect(url, compress=bits) as ws:
                assert ws.compress
                for message in MESSAGES:
                    if isinstance(message, str):
                        await ws.send_str(message)
                    else:
                        await ws.send_bytes(message)
                    assert (await ws.receive(LONG)).data == message
                await ws.close(code=3000, message=b"enough")

    run_on(LOOP, main())
