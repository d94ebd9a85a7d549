"""An ASGI server that a test plays itself, and a target it holds in its hands."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, MutableMapping
from typing import Any, Self

from fastws.asgi import WsToTcp
from tests.support.peers import RawPeer, Wire
from tests.support.timing import LONG, SHORT

Event = MutableMapping[str, Any]
RESPONSES: dict[str, Any] = {"websocket.http.response": {}}


def scope_of(kind: str = "websocket", **fields: Any) -> dict[str, Any]:
    """A scope as servers make it; headers as text."""
    headers = {"host": "127.0.0.1", **fields.pop("headers", {})}
    path = fields.pop("path", "/")
    return {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(k.encode(), v.encode("latin-1")) for k, v in headers.items()],
        "client": ("192.0.2.1", 50000),
        "server": ("192.0.2.2", 80),
        "subprotocols": [],
        "extensions": RESPONSES,
        **fields,
    }


class Asgi:
    """One call of an application. An async context manager: the client leaves last.

    Attributes:
        sent: what the application sent and nobody took yet.
        takes: cleared, it lets ``send`` wait.
        is_gone: ``send`` raises, as it does when the client has left.
    """

    def __init__(self, app: Any, scope: dict[str, Any] | None = None) -> None:
        self._app = app
        self._scope = scope_of() if scope is None else scope
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self.sent: asyncio.Queue[Event] = asyncio.Queue()
        self.takes = asyncio.Event()
        self.takes.set()
        self.is_gone = False

    async def _receive(self) -> Event:
        return await self._events.get()

    async def _send(self, event: Event) -> None:
        await self.takes.wait()
        if self.is_gone:
            raise OSError("the client has gone")
        self.sent.put_nowait(event)

    async def __aenter__(self) -> Self:
        if self._scope["type"] == "websocket":
            self.say("connect")
        work = self._app(self._scope, self._receive, self._send)
        self.task: asyncio.Task[None] = asyncio.ensure_future(work)
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        if kind is None:
            if self._scope["type"] == "websocket":
                self.say("disconnect", code=1006)
            await self.done()
        else:
            self.task.cancel()
            await asyncio.wait({self.task})

    def say(self, kind: str, **fields: Any) -> None:
        """An event for the application: ``websocket.`` and ``kind``."""
        self._events.put_nowait({"type": f"websocket.{kind}", **fields})

    def tell(self, kind: str) -> None:
        """An event of another protocol, by its whole name."""
        self._events.put_nowait({"type": kind})

    @property
    def unread(self) -> int:
        """Events that the application has not asked for."""
        return self._events.qsize()

    async def next(self) -> Event:
        """What the application sends next."""
        return await asyncio.wait_for(self.sent.get(), SHORT)

    async def accepted(self) -> Event:
        """Its ``websocket.accept``."""
        event = await self.next()
        assert event["type"] == "websocket.accept"
        return event

    async def data(self, size: int) -> bytes:
        """``size`` bytes of binary messages."""
        data = bytearray()
        while len(data) < size:
            event = await self.next()
            assert event["type"] == "websocket.send"
            data += event["bytes"]
        assert len(data) == size
        return bytes(data)

    async def done(self) -> None:
        """Wait until the application has returned; raises what it raised."""
        await asyncio.wait_for(asyncio.shield(self.task), 5 * SHORT)


class Target:
    """A TCP service whose connections the test accepts by hand."""

    def __init__(self) -> None:
        self._sock = socket.create_server(("127.0.0.1", 0))
        self._sock.setblocking(False)
        self._peers: list[RawPeer] = []
        self.address = f"127.0.0.1:{self._sock.getsockname()[1]}"

    async def accept(self) -> RawPeer:
        """The next connection."""
        loop = asyncio.get_running_loop()
        sock, _ = await asyncio.wait_for(loop.sock_accept(self._sock), SHORT)
        self._peers.append(RawPeer(Wire(sock)))
        return self._peers[-1]

    def close(self) -> None:
        """The service, and what it has accepted."""
        self._sock.close()
        for peer in self._peers:
            peer.wire.close()


@contextlib.asynccontextmanager
async def target() -> AsyncIterator[Target]:
    """A target for the time of a test."""
    found = Target()
    try:
        yield found
    finally:
        found.close()


def app_of(service: Target, **options: Any) -> WsToTcp:
    """An application in front of a target."""
    return WsToTcp(service.address, **{"linger": LONG, **options})
