"""Connections of the WebSocket library come and go; what stays is one line of JSON.

``python -m tests.support.churn callbacks 1000`` runs client and server in one loop.
Each connection sends a message and ends in one of several ways.
"""

import asyncio
import contextlib
import gc
import json
import os
import sys
from pathlib import Path
from typing import Any

from fastws.exceptions import ConnectionClosed, FastwsError, RemoteProtocolError
from fastws.net.deadlines import _deadlines
from fastws.net.sweep import sweep_of
from fastws.ws.connect import connect
from fastws.ws.open import open_websocket
from fastws.ws.serve import serve
from fastws.ws.server import serve_callbacks
from tests.support.servers import LOOPS

ENDS = ("client", "server", "abort", "cut", "mistake", "unread", "refused")
AT_ONCE = 40
MESSAGE = "grün" * 100
OPTIONS: dict[str, Any] = {"compression": "deflate"}


class Handler:
    """Either end by callbacks; the client's says how it goes on."""

    def __init__(self, end: str = "") -> None:
        self.end = end
        self.gone = asyncio.Event()

    def on_open(self, ws: Any) -> None:
        self.ws = ws
        if self.end:
            ws.send(f"{self.end} {MESSAGE}")

    def on_message(self, payload: Any, opcode: int, final: bool) -> None:
        words = bytes(payload[:10]).split()
        if not self.end:
            self.ws.send(payload, opcode)
            if words[0] == b"server":
                self.ws.close(1001)
            elif words[0] == b"cut":
                self.ws.abort()
        elif self.end == "client":
            self.ws.close()
        elif self.end == "abort":
            self.ws.abort()
        elif self.end == "mistake":
            self.ws.write_raw(b"\xff\xff")
        elif self.end == "unread":
            self.ws.send(bytes(1000))
            self.ws.pause_reading()
            self.ws.close()

    def on_close(self, code: int, reason: str) -> None:
        self.gone.set()


async def visit_callbacks(url: str, end: str) -> None:
    """One connection."""
    handler = Handler(end)
    await open_websocket(url, handler, **OPTIONS)
    await handler.gone.wait()


async def visit_coroutines(url: str, end: str) -> None:
    """One connection."""
    async with connect(url, **OPTIONS) as ws:
        await ws.send(f"{end} {MESSAGE}")
        if end == "unread":
            return
        with contextlib.suppress(ConnectionClosed):
            await ws.recv()
        if end == "abort":
            ws.abort()
        elif end == "mistake":
            ws._ws.write_raw(b"\xff\xff")
            await ws.wait_closed()
        elif end != "client":
            with contextlib.suppress(ConnectionClosed):
                await ws.recv()


async def echo(ws: Any) -> None:
    """The server by coroutines."""
    async for message in ws:
        await ws.send(message)
        if message.startswith("server"):
            await ws.close(1001)
        elif message.startswith("cut"):
            ws.abort()


async def visit(api: str, url: str, number: int) -> None:
    """One connection, which may be refused."""
    end = ENDS[number % len(ENDS)]
    if end == "refused":
        url += "nowhere"
    talk = visit_callbacks if api == "callbacks" else visit_coroutines
    with contextlib.suppress(FastwsError):
        await talk(url, end)


async def visits(api: str, url: str, count: int) -> None:
    """So many, some of them at once."""
    numbers = iter(range(count))

    async def guest() -> None:
        for number in numbers:
            await visit(api, url, number)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(guest())


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


async def held(server: Any) -> dict[str, int]:
    """What there is once nobody is connected."""
    for _ in range(1000):
        tasks, sweep = len(asyncio.all_tasks()), sweep_of(asyncio.get_running_loop())
        if tasks == 1 and not len(sweep) and not server.connections:
            break
        await asyncio.sleep(0.02)
    for queue in _deadlines.get(asyncio.get_running_loop(), {}).values():
        queue.start(lambda: None).cancel()  # lets go of those that were called off
    gc.collect()
    return {
        "rss": resident(),
        "fds": len(os.listdir("/proc/self/fd")),
        "tasks": len(asyncio.all_tasks()),
        "objects": len(gc.get_objects()),
        "connections": len(server.connections),
        "swept": len(sweep_of(asyncio.get_running_loop())),
    }


def refuse(connection: Any, request: Any) -> Any:
    """Coroutines: by ``process_request``."""
    if request.path.endswith("nowhere"):
        return connection.respond(404, "nowhere")
    return None


async def main(api: str, count: int) -> None:
    """Warm up with half as many, 10 000 at most; then all."""
    if api == "callbacks":

        def make(opening: Any) -> Handler:
            if opening.head.target.endswith("nowhere"):
                raise RemoteProtocolError("nowhere", http_status=404)
            return Handler()

        server: Any = serve_callbacks(make, "127.0.0.1:0", **OPTIONS)
        server.start()
    else:
        server = await serve(echo, "127.0.0.1", 0, process_request=refuse, **OPTIONS)
    url = f"ws://{server.addresses[0]}/"
    await visits(api, url, min(count // 2, 10_000))
    before = await held(server)
    await visits(api, url, count)
    print(json.dumps([before, await held(server)]))
    server.close()
    await server.wait_closed()


if __name__ == "__main__":
    loop = os.environ.get("FASTWS_LOOP", "uvloop")
    with asyncio.Runner(loop_factory=LOOPS.get(loop)) as runner:
        runner.run(main(sys.argv[1], int(sys.argv[2])))
