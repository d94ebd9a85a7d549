"""The callback layer beside the WebSocket libraries of Python, both ways.

Messages of every kind and size, fragments, pings, and closing from either side.
"""

import asyncio
import contextlib
from typing import Any

import aiohttp
import pytest
from websockets.asyncio.client import connect as ws_connect

from fastws._consts import OP_CONT
from fastws.ws.open import open_websocket
from tests.support.handlers import Heard, serving
from tests.support.libraries import ANSWERED, CLIENTS, SERVERS, SIZES, payload
from tests.support.peers import BINARY, TEXT
from tests.support.servers import both_loops, eventually, run_on
from tests.support.timing import LONG

pytestmark = pytest.mark.interop


@both_loops
@pytest.mark.parametrize("library", SERVERS)
def test_our_client_and_their_server(loop_name: str, library: str) -> None:
    async def main() -> None:
        async with SERVERS[library]() as port:
            client = Heard()
            ws = await open_websocket(f"ws://127.0.0.1:{port}/", client)
            expected = []
            for size in SIZES:
                ws.send(payload(size))
                expected.append((BINARY, payload(size)))
            ws.send("grün")
            ws.send("ge", final=False)
            ws.send("t", OP_CONT, final=False)
            ws.send("eilt", OP_CONT)
            expected += [(TEXT, "grün".encode()), (TEXT, b"geteilt")]
            await client.wait_message(len(expected))
            assert client.messages == expected
            ws.ping(b"there?")
            await eventually(lambda: client.pongs)
            assert client.pongs == [b"there?"]
            ws.close(3000, "enough")
            assert (await client.wait_close())[0] == ANSWERED.get(library, 3000)

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize("library", CLIENTS)
def test_their_client_and_our_server(loop_name: str, library: str) -> None:
    async def main() -> None:
        async with serving() as (_, port, made):
            await CLIENTS[library](port)
            assert await made[0].wait_close() == (3000, "enough")

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize("library", ["websockets", "aiohttp"])
def test_our_server_closes_their_client(loop_name: str, library: str) -> None:
    async def main() -> None:
        async with serving() as (server, port, made):
            url = f"ws://127.0.0.1:{port}/"
            async with contextlib.AsyncExitStack() as stack:
                if library == "websockets":
                    ws: Any = await stack.enter_async_context(ws_connect(url))
                    server.close(1012, "restart")
                    await asyncio.wait_for(ws.wait_closed(), LONG)
                else:
                    session = aiohttp.ClientSession()
                    await stack.enter_async_context(session)
                    ws = await session.ws_connect(url)
                    server.close(1012, "restart")
                    message = await ws.receive(LONG)
                    assert message.type is aiohttp.WSMsgType.CLOSE
                assert ws.close_code == 1012
            assert (await made[0].wait_close())[0] == ANSWERED.get(library, 1012)

    run_on(loop_name, main())
