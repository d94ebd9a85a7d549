"""``fastws.forward``: a private unix socket in front of a WebSocket."""

import asyncio
import os
import shutil
import tempfile
from typing import Any, Unpack

from fastws.config.endpoint import WsUrl
from fastws.net import sockopt
from fastws.net.bind import bind_unix
from fastws.net.copy import Copy, copy_bidirectional
from fastws.net.listen import Listener
from fastws.net.stream import ByteStream, Hold, Kind
from fastws.ws.open_stream import Way, WayOptions

_LOOK = 0.02  # seconds between two looks at clients that have left


class Forward:
    """Each connection to a unix socket becomes one WebSocket; see :func:`forward`.

    Attributes:
        path: of the socket, while it is there.
    """

    def __init__(self, way: Way, name: str) -> None:
        self.path = ""
        self._way = way
        self._name = name
        self._place = ""
        self._listener: Listener | None = None
        self._copies: set[Copy] = set()
        self._clients: set[Any] = set()  # their transports

    async def __aenter__(self) -> str:
        """Make the directory, which nobody else may enter, and listen in it.

        Raises:
            OSError: the directory cannot be made.
            ListenError: its path is too long for a socket, or there are none here.
        """
        self._place = tempfile.mkdtemp(prefix="fastws-")  # mode 0700
        try:
            path = os.path.join(self._place, self._name)
            self._listener = Listener([bind_unix(path)], self._handle)
        except BaseException:
            shutil.rmtree(self._place, ignore_errors=True)
            raise
        self._listener.start()
        self.path = path
        return path

    async def _handle(self, transport: Any, hold: Hold) -> None:
        """Serve one connection; a failure to open the WebSocket closes it."""
        transport.pause_reading()
        self._clients.add(transport)
        try:
            up, _ = await self._way.open()
            down = ByteStream(transport, Kind.UNIX, hold)
            await copy_bidirectional(down, up, self._way.options, group=self._copies)
        finally:
            self._clients.discard(transport)
            if not transport.is_closing():
                transport.abort()

    async def __aexit__(self, *_: object) -> None:
        """Remove the socket; what clients have left behind is delivered first.

        It takes ``linger`` at most. Who is still there is cut off.
        """
        listener = self._listener
        assert listener is not None
        try:
            for _turn in range(2):  # who waits for being accepted may have left too
                await asyncio.sleep(0)
            listener.close()
            await self._deliver(listener)
            for copy in list(self._copies):
                copy.go_away("the forwarding ends")
        finally:
            listener.close()
            self.path = ""
            shutil.rmtree(self._place, ignore_errors=True)
            await listener.abort()

    async def _deliver(self, listener: Listener) -> None:
        """Wait for connections whose clients have closed."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._way.options.linger
        while any(map(_has_left, self._clients)) and loop.time() < deadline:
            await listener.wait_idle(_LOOK)

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self.path or 'closed'} {self._way.url.display}>"
        )


def _has_left(transport: Any) -> bool:
    """Whether the client has closed; it waits for nothing then."""
    sock = transport.get_extra_info("socket")
    if sock is None or transport.is_closing():
        return True
    return sockopt.poll_dead(sock.fileno()) is not None


def forward(
    url: str | WsUrl,
    *,
    name: str | None = None,
    port: int = 5432,
    **options: Unpack[WayOptions],
) -> Forward:
    """Put a private unix socket in front of a WebSocket: ``async with … as path``.

    Only this user can connect to it, and no port is open. Each connection opens a
    WebSocket of its own; if that fails it is closed, and a warning says why.

    Args:
        url: ``ws://`` or ``wss://``.
        name: of the socket in its directory. By default ``.s.PGSQL.PORT``, so that
            asyncpg takes the path as ``host`` and libpq the directory.
        port: in that name.
        options: as for :func:`fastws.open_stream`, without ``limit`` and ``port``.

    Raises:
        InvalidURI: the URL cannot be understood; also a ``ValueError``.
        InvalidProxy: nor can the proxy; also a ``ValueError``.
        ValueError: ``name`` is a path.

    On start, ``ListenError`` is raised where there can be no such socket.
    """
    name = f".s.PGSQL.{port}" if name is None else name
    if not name or os.path.basename(name) != name or name in (".", ".."):
        raise ValueError(f"{name!r} is no name of a file")
    return Forward(Way(url, **options), name)
