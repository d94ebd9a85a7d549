"""An echo in a process of its own, whose memory can be looked at.

``python -m tests.support.echoing server-callbacks`` prints its port;
``… client-coroutines PORT COUNT`` opens so many connections to one.
"""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastws.exceptions import ConnectionClosed
from fastws.ws.connect import connect
from fastws.ws.open import open_websocket
from fastws.ws.serve import serve
from fastws.ws.server import serve_callbacks
from tests.support.servers import LOOPS

OPTIONS: dict[str, Any] = {
    "compression": "deflate",
    "max_size": 1 << 20,
    "ping_interval": None,
}


class Echo:
    """By callbacks."""

    def on_open(self, ws: Any) -> None:
        self.ws = ws

    def on_message(self, payload: Any, opcode: int, final: bool) -> None:
        self.ws.send(payload, opcode)

    def on_close(self, code: int, reason: str) -> None:
        pass


async def echo(ws: Any) -> None:
    """By coroutines."""
    with contextlib.suppress(ConnectionClosed):
        async for message in ws:
            await ws.send(message)


async def visit(url: str) -> None:
    """One client that echoes."""
    async with connect(url, **OPTIONS) as ws:
        await echo(ws)


async def main(what: str, port: str = "", count: str = "1") -> None:
    """Echo until killed."""
    url = f"ws://127.0.0.1:{port}/"
    tasks: list[Any] = []
    if what == "server-callbacks":
        server: Any = serve_callbacks(lambda _: Echo(), "127.0.0.1:0", **OPTIONS)
        server.start()
    elif what == "server-coroutines":
        server = await serve(echo, "127.0.0.1", 0, **OPTIONS)
    else:
        server = None
        for _ in range(int(count)):
            if what == "client-callbacks":
                tasks.append(await open_websocket(url, Echo(), **OPTIONS))
            else:
                tasks.append(asyncio.create_task(visit(url)))
    if server is not None:
        print(server.addresses[0].rpartition(":")[2], flush=True)
    await asyncio.Event().wait()


class Process:
    """One of these, running.

    Attributes:
        port: of a server, else 0.
    """

    def __init__(self, *args: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.echoing", *args],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            text=True,
        )
        assert self.process.stdout is not None
        is_server = args[0].startswith("server")
        self.port = int(self.process.stdout.readline()) if is_server else 0

    def resident(self) -> int:
        """Bytes of memory that it holds."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * 4096

    def cpu(self) -> float:
        """Seconds of processor time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2]
        return sum(map(int, fields.split()[11:13])) / 100


@contextlib.contextmanager
def echoing(*args: str) -> Iterator[Process]:
    """Start one, and end it."""
    running = Process(*args)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.wait()
        assert running.process.stdout is not None
        running.process.stdout.close()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=LOOPS.get("uvloop")) as runner:
        runner.run(main(*sys.argv[1:]))
