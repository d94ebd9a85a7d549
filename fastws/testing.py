"""For tests of programs that use fastws: WebSockets that need no network.

Client and server are those of :func:`fastws.connect` and :func:`fastws.serve`, and
what they say to each other is what they would say over TCP, the opening handshake
included; it goes through memory in place of sockets. So nothing listens, ports cannot
clash, and a connection can be stalled, dropped or reset when a test wants it.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Self

from fastws.exceptions import ConnectionClosed, StreamReset
from fastws.net.memory import MemoryTransport, memory_pair
from fastws.net.stream import ByteStream, Hold, Kind
from fastws.ws.connect import ClientConnection, Connect, connect
from fastws.ws.connection import Connection
from fastws.ws.open_stream import open_stream
from fastws.ws.serve import Server, ServerConnection, serve
from fastws.ws.serve_streams import serve_streams
from fastws.ws.stream import Stream

__all__ = ["Link", "MemoryServer", "link_of", "pair", "serving", "serving_stream"]

HOST = "testserver"
"""What the Host field of the clients says."""

_UNDER_WAY = 64 * 1024  # bytes that a stalled link swallows, as a kernel does


class MemoryServer:
    """A server that only :meth:`connect` reaches. An async context manager.

    At its end connections are closed, and an exception of a handler is raised: one
    that lost its connection has none.

    Args:
        handler: as for :func:`fastws.serve`.
        options: likewise, without addresses and ``ssl``.

    Attributes:
        server: what ``fastws.serve`` returns, from the start on.
    """

    def __init__(
        self, handler: Callable[[ServerConnection], Awaitable[None]], **options: Any
    ) -> None:
        self.server: Server = None  # type: ignore[assignment]
        self._watched = _Watched(handler)
        self._options = options

    def connect(self, path: str = "/", **options: Any) -> Connect:
        """What :func:`fastws.connect` returns: ``async with`` it, or ``await`` it.

        Args:
            path: path and query of the request.
            options: as for ``fastws.connect``, without a proxy, ``unix`` and ``ssl``.
        """
        way = connect(f"ws://{HOST}{path}", proxy=None, **options)
        way._dialer = _MemoryDialer(self.server)  # type: ignore[assignment]
        return way

    async def __aenter__(self) -> Self:
        self.server = await serve(self._watched, (), **self._options)
        return self

    async def __aexit__(self, kind: object, exc: object, traceback: object) -> None:
        await self.server.__aexit__(kind, exc, traceback)
        self._watched.check(exc)


class _Watched:
    """A handler whose exception a test is to see."""

    def __init__(self, handler: Callable[[Any], Awaitable[object]]) -> None:
        self._handler = handler
        self._failures: list[Exception] = []

    async def __call__(self, end: Any) -> None:
        try:
            await self._handler(end)
        except (ConnectionClosed, StreamReset):  # its peer has left
            raise
        except Exception as exc:
            self._failures.append(exc)
            raise

    def check(self, exc: object) -> None:
        """Raise what the handler raised, unless the test itself is stopped."""
        if self._failures and (exc is None or isinstance(exc, Exception)):
            raise self._failures[0]


class _MemoryDialer:
    """Dials one server, in memory."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def dial(self) -> ByteStream:
        hold = Hold()
        loop = asyncio.get_running_loop()
        near, far = memory_pair(loop, hold, hold, capacity=_UNDER_WAY)
        hold.connection_made(near)
        self._server._below.admit(far)
        return ByteStream(near, Kind.UNIX, hold)


@contextlib.asynccontextmanager
async def pair(
    path: str = "/",
    *,
    client: Mapping[str, Any] | None = None,
    server: Mapping[str, Any] | None = None,
    **both: Any,
) -> AsyncIterator[tuple[ClientConnection, ServerConnection]]:
    """Two ends of one open WebSocket: ``async with pair() as (client, server)``.

    Both are closed at the end.

    Args:
        path: path and query of the client's request.
        client: further arguments of :func:`fastws.connect`.
        server: further arguments of :func:`fastws.serve`.
        both: arguments of either: ``compression``, ``max_size``, ``subprotocols``,
            ``ping_interval``, ``max_queue`` and so on.
    """
    opened: asyncio.Future[ServerConnection]
    opened = asyncio.get_running_loop().create_future()

    async def hold(connection: ServerConnection) -> None:
        opened.set_result(connection)
        await connection.wait_closed()

    async with MemoryServer(hold, **both, **(server or {})) as running:
        near = await running.connect(path, **both, **(client or {}))
        try:
            far = await opened
            yield near, far
        finally:
            _resume(near)
            await asyncio.gather(near.close(), far.close())


@contextlib.asynccontextmanager
async def serving(
    handler: Callable[[ServerConnection], Awaitable[None]],
    path: str = "/",
    *,
    client: Mapping[str, Any] | None = None,
    server: Mapping[str, Any] | None = None,
    **both: Any,
) -> AsyncIterator[ClientConnection]:
    """Run a handler for one client: ``async with serving(handler) as ws``.

    At the end the client is closed, and this waits until the handler has returned.
    What the handler raised is raised then, in place of what it caused.

    Args:
        handler: as for :func:`fastws.serve`.
        path: path and query of the client's request.
        client: further arguments of :func:`fastws.connect`.
        server: further arguments of :func:`fastws.serve`.
        both: arguments of either.
    """
    async with (
        MemoryServer(handler, **both, **(server or {})) as running,
        running.connect(path, **both, **(client or {})) as connection,
    ):
        try:
            yield connection
        finally:
            _resume(connection)


@contextlib.asynccontextmanager
async def serving_stream(
    handler: Callable[[Stream], Awaitable[object]],
    path: str = "/",
    *,
    client: Mapping[str, Any] | None = None,
    server: Mapping[str, Any] | None = None,
    **both: Any,
) -> AsyncIterator[Stream]:
    """Run a handler of byte streams: ``async with serving_stream(handler) as stream``.

    As :func:`serving`, with :func:`fastws.open_stream` and
    :func:`fastws.serve_streams`; :func:`link_of` knows connections only.

    Args:
        handler: as for ``fastws.serve_streams``.
        path: path and query of the client's request.
        client: further arguments of ``fastws.open_stream``.
        server: further arguments of ``fastws.serve_streams``.
        both: arguments of either.
    """
    watched = _Watched(handler)
    try:
        async with serve_streams(watched, (), **both, **(server or {})) as running:
            opening = open_stream(
                f"ws://{HOST}{path}", proxy=None, **both, **(client or {})
            )
            opening._way._dialer = _MemoryDialer(running)  # type: ignore[assignment]
            async with opening as stream:
                yield stream
    except BaseException as exc:
        watched.check(exc)
        raise
    watched.check(None)


class Link:
    """What lies between the two ends of a WebSocket; made by :func:`link_of`.

    Each call takes effect at once, in both directions.
    """

    def __init__(self, one: MemoryTransport) -> None:
        self._ends = (one, one.peer)

    def stall(self) -> None:
        """Let nothing through any more: what is sent waits, and no pong comes."""
        for end in self._ends:
            end.stall()

    def resume(self) -> None:
        """Let through what has piled up, and everything after it."""
        for end in self._ends:
            end.stall(False)

    def drop(self) -> None:
        """End the connection without a Close; both see 1006."""
        for end in self._ends:
            end.lose(None)

    def reset(self) -> None:
        """Reset the connection: as :meth:`drop`, with a ``ConnectionResetError``."""
        for end in self._ends:
            end.lose(ConnectionResetError("reset by the test"))


def link_of(connection: Connection) -> Link:
    """What lies between ``connection``, of either side, and its other end.

    Raises:
        ValueError: it is closed, or was not made by this module.
    """
    transport = None if connection._ws is None else connection._ws.transport
    if not isinstance(transport, MemoryTransport):
        raise ValueError("no open WebSocket of fastws.testing")
    return Link(transport)


def _resume(connection: Connection) -> None:
    """So that closing does not have to wait for its time-out."""
    with contextlib.suppress(ValueError):
        link_of(connection).resume()
