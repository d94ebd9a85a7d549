"""Echo servers of WebSocket libraries: ``python -m bench.e2e.echo LIBRARY PORT``.

Each as its documentation writes one, on uvloop, without compression, access log or
limits of its own on the size of a message.
"""

from __future__ import annotations

import asyncio
import sys
from importlib import import_module
from typing import Any

HERE = "127.0.0.1"
MAX = 16 << 20  # bytes of a message


async def fastws(port: int) -> None:
    """The callback layer."""
    library = import_module("fastws.ws.server")

    class Echo:
        __slots__ = ("ws",)

        def on_open(self, ws: Any) -> None:
            self.ws = ws

        def on_message(self, payload: memoryview, opcode: int, final: bool) -> None:
            self.ws.send(payload, opcode)

        def on_close(self, code: int, reason: str) -> None:
            pass

    async with library.serve_callbacks(lambda _: Echo(), f"{HERE}:{port}"):
        await asyncio.Event().wait()


async def coroutines(port: int) -> None:
    """The coroutine API of fastws."""
    library = import_module("fastws.ws.serve")

    async def echo(connection: Any) -> None:
        async for message in connection:
            await connection.send(message)

    async with library.serve(echo, HERE, port, max_size=MAX):
        await asyncio.Event().wait()


async def picows(port: int) -> None:
    """Its listener, as in its own benchmark."""
    library = import_module("picows")

    class Echo(library.WSListener):  # type: ignore[misc, name-defined]
        def on_ws_frame(self, transport: Any, frame: Any) -> None:
            if frame.msg_type == library.WSMsgType.CLOSE:
                transport.send_close(frame.get_close_code(), frame.get_close_message())
                transport.disconnect()
            else:
                transport.send(frame.msg_type, frame.get_payload_as_memoryview())

    server = await library.ws_create_server(
        lambda _: Echo(), HERE, port, max_frame_size=MAX
    )
    await server.serve_forever()


async def websockets(port: int) -> None:
    """Its coroutine server."""
    library = import_module("websockets.asyncio.server")

    async def echo(connection: Any) -> None:
        async for message in connection:
            await connection.send(message)

    async with library.serve(
        echo, HERE, port, compression=None, max_size=MAX
    ) as server:
        await server.serve_forever()


async def aiohttp(port: int) -> None:
    """Its coroutine server."""
    web = import_module("aiohttp.web")

    async def echo(request: Any) -> Any:
        ws = web.WebSocketResponse(compress=False, max_msg_size=MAX)
        await ws.prepare(request)
        async for message in ws:
            if message.type is web.WSMsgType.BINARY:
                await ws.send_bytes(message.data)
        return ws

    app = web.Application()
    app.router.add_get("/", echo)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, HERE, port, backlog=1024).start()
    await asyncio.Event().wait()


LIBRARIES = {f.__name__: f for f in (fastws, coroutines, picows, websockets, aiohttp)}


def main() -> None:
    """Serve until killed."""
    import_module("uvloop").run(LIBRARIES[sys.argv[1]](int(sys.argv[2])))


if __name__ == "__main__":
    main()
