"""Servers of the bench itself: slow is no harm, only other processes are measured."""

from __future__ import annotations

import asyncio
import ssl
import threading

from bench.e2e.peers import HERE
from bench.e2e.proc import free_port

LIMIT = 10.0  # seconds for anything


class ServerThread:
    """A server in a thread with a loop of its own; subclasses say what it does.

    Attributes:
        port: Where it listens.
        loop: What it runs on; for no other thread.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.port = free_port()
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(lambda *_: None)  # peers vanish at the end
        self._tasks: set[asyncio.Task[None]] = set()
        start = asyncio.start_server(self._accept, HERE, self.port, ssl=context)
        self._server = self.loop.run_until_complete(start)
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    async def serve(self, r: asyncio.StreamReader, w: asyncio.StreamWriter) -> None:
        """Look after one connection, its end included; cancelled at the end of all."""
        raise NotImplementedError

    async def _accept(self, r: asyncio.StreamReader, w: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self.serve(r, w)
        finally:
            self._tasks.discard(task)

    def close(self) -> None:
        """End the thread and all connections."""
        asyncio.run_coroutine_threadsafe(self._end(), self.loop).result(LIMIT)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(LIMIT)
        self.loop.close()

    async def _end(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
