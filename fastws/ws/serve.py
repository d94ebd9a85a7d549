"""``fastws.serve``: servers of the coroutine API.

Source: RFC 6455 section 4.2. Names and meanings are those of ``websockets``.
"""

import asyncio
import http
import logging
import socket
import ssl as tls
from collections.abc import (
    Awaitable,
    Callable,
    Collection,
    Generator,
    Iterable,
    Sequence,
)
from typing import Any, Self, TypeAlias

from fastws._consts import CLOSE_GOING_AWAY, CLOSE_INTERNAL_ERROR
from fastws.exceptions import ConnectionClosed
from fastws.wire.handshake import accept_key
from fastws.wire.http1 import build_response
from fastws.ws.connection import Connection
from fastws.ws.heads import (
    Headers,
    HeadersLike,
    Request,
    Response,
    pairs_of,
    response_of,
)
from fastws.ws.limits import MaxQueue, water_marks
from fastws.ws.opening import Opening
from fastws.ws.protocol import WebSocket
from fastws.ws.server import CallbackServer, serve_callbacks

logger = logging.getLogger("fastws.ws")


class ServerConnection(Connection):
    """The server's end of a WebSocket; handlers and hooks get it."""

    def __init__(self, server: "Server", opening: Opening) -> None:
        super().__init__(server.max_queue)
        self.server = server
        self._head = opening.head
        self._address = opening.remote_address
        self._opening: Opening | None = opening
        self._answer: tuple[str, str | None, list[tuple[str, str]]] | None = None

    def on_open(self, ws: WebSocket) -> None:
        super().on_open(ws)
        opening, self._opening = self._opening, None
        if opening is not None and opening.upgrade is not None:
            key, extra = opening.upgrade.key, list(opening.headers)
            self._answer = key, opening.extensions, extra
        self.server.opened(self)

    def on_close(self, code: int, reason: str) -> None:
        super().on_close(code, reason)
        self.server.connections.discard(self)

    def respond(self, status: int, text: str) -> Response:
        """A plain answer for ``process_request`` to return."""
        status = http.HTTPStatus(status)
        fields = [("Content-Type", "text/plain; charset=utf-8")]
        return response_of(status, status.phrase, fields, text.encode())

    @property
    def remote_address(self) -> Any:
        """The peer's, ``None`` where there is none."""
        return self._address

    @property
    def request(self) -> Request:
        """The client's request."""
        return Request(self._head.target, Headers(self._head.headers))

    @property
    def response(self) -> Response | None:
        """Our 101."""
        if self._answer is None:
            return None
        key, extensions, extra = self._answer
        fields = [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Accept", accept_key(key)),
        ]
        if self.subprotocol is not None:
            fields.append(("Sec-WebSocket-Protocol", self.subprotocol))
        if extensions is not None:
            fields.append(("Sec-WebSocket-Extensions", extensions))
        return response_of(101, "Switching Protocols", [*fields, *extra])


Handler: TypeAlias = Callable[[ServerConnection], Awaitable[None]]
"""Called with each connection; when it returns, the connection is closed."""

Hook: TypeAlias = Callable[
    [ServerConnection, Request], Awaitable[Response | None] | Response | None
]
"""Looks at a request first; a response is sent in place of a WebSocket."""

Select: TypeAlias = Callable[[ServerConnection, Sequence[str]], str | None]
"""Chooses one of the subprotocols that a client offers."""


class Server:
    """Runs a handler for every WebSocket; made by :func:`serve`.

    Attributes:
        connections: the open ones.
        max_queue: of each.
    """

    def __init__(
        self,
        handler: Handler,
        max_queue: MaxQueue,
        headers: list[tuple[str, str]],
        process_request: Hook | None,
        select_subprotocol: Select | None,
    ) -> None:
        self.connections: set[ServerConnection] = set()
        self.max_queue = max_queue
        self._handler = handler
        self._headers = headers
        self._process_request = process_request
        self._select_subprotocol = select_subprotocol
        self._tasks: set[asyncio.Task[None]] = set()
        self._below: CallbackServer = None  # type: ignore[assignment]

    def bind(self, below: CallbackServer) -> None:
        """Begin to accept."""
        self._below = below
        below.start()

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The listening sockets."""
        return tuple(self._below.sockets)

    @property
    def addresses(self) -> Sequence[str]:
        """Where it listens, as text."""
        return self._below.addresses

    # -- what the callback layer says ----------------------------------------------

    def connection_of(self, opening: Opening) -> ServerConnection:
        """The one that hooks and the handler see."""
        connection: ServerConnection | None = opening.context
        if connection is None:
            connection = opening.context = ServerConnection(self, opening)
        return connection

    def ask(self, opening: Opening) -> bytes | Awaitable[bytes | None] | None:
        """Let ``process_request`` look at a request."""
        assert self._process_request is not None
        connection = self.connection_of(opening)
        response = self._process_request(connection, connection.request)
        if isinstance(response, Response | None):
            return _encode(response)
        return self._wait_answer(response)

    async def _wait_answer(self, response: Awaitable[Response | None]) -> bytes | None:
        return _encode(await response)

    def accept(self, opening: Opening) -> ServerConnection:
        """The request is a WebSocket's: choose the subprotocol."""
        connection = self.connection_of(opening)
        opening.headers = self._headers
        if self._select_subprotocol is not None and opening.upgrade is not None:
            offered = opening.upgrade.subprotocols
            opening.subprotocol = self._select_subprotocol(connection, offered)
        return connection

    def opened(self, connection: ServerConnection) -> None:
        """Run the handler."""
        self.connections.add(connection)
        task = asyncio.get_running_loop().create_task(self._run(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, connection: ServerConnection) -> None:
        """One line for a handler that fails; none for a peer that went away."""
        try:
            await self._handler(connection)
            await connection.close()
        except ConnectionClosed as exc:
            logger.debug("WebSocket handler ended: %s", exc)
            await connection.close()
        except Exception as exc:
            logger.error(
                "WebSocket handler failed: %s: %s",
                type(exc).__name__,
                exc,
                exc_info=logger.isEnabledFor(logging.DEBUG),
            )
            await connection.close(CLOSE_INTERNAL_ERROR)
        except BaseException:
            connection.abort()
            raise

    # -- life ----------------------------------------------------------------------

    def close(
        self,
        close_connections: bool = True,
        code: int = CLOSE_GOING_AWAY,
        reason: str = "",
    ) -> None:
        """Stop accepting, and close the connections.

        Args:
            close_connections: ``False`` lets them run on.
            code: of the Close that each of them gets.
            reason: likewise.
        """
        self._below.close(code, reason, connections=close_connections)

    async def wait_closed(self) -> None:
        """Wait until no connection is left and all handlers have returned."""
        await self._below.wait_closed()
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def serve_forever(self) -> None:
        """Serve until cancelled; then close."""
        async with self:
            await self._loop_for_ever()

    async def _loop_for_ever(self) -> None:
        await asyncio.get_running_loop().create_future()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
        try:
            await self.wait_closed()
        except asyncio.CancelledError:
            self._below.abort()
            for task in self._tasks:
                task.cancel()
            raise

    def __repr__(self) -> str:
        where = ", ".join(self.addresses)
        return f"<Server {where} connections={len(self.connections)}>"


class Serve:
    """A server to be started: ``async with`` or ``await``; see :func:`serve`."""

    def __init__(
        self, server: Server, listen: Any, ask: bool, options: dict[str, Any]
    ) -> None:
        self._server = server
        self._listen = listen
        self._options = options
        if ask:
            options["process_request"] = server.ask

    def __await__(self) -> Generator[Any, None, Server]:
        return self._start().__await__()

    async def _start(self) -> Server:
        server = self._server
        server.bind(serve_callbacks(server.accept, self._listen, **self._options))
        return server

    async def __aenter__(self) -> Server:
        return await self._start()

    async def __aexit__(self, kind: object, exc: object, traceback: object) -> None:
        await self._server.__aexit__(kind, exc, traceback)


def serve(
    handler: Handler,
    host: str | socket.socket | Iterable[str | socket.socket] | None = None,
    port: int | None = None,
    *,
    origins: Collection[str | None] | None = None,
    subprotocols: Sequence[str] | None = None,
    select_subprotocol: Select | None = None,
    additional_headers: HeadersLike | None = None,
    process_request: Hook | None = None,
    ssl: tls.SSLContext | None = None,
    open_timeout: float = 10.0,
    max_queue: MaxQueue = 16,
    **options: Any,
) -> Serve:
    """Listen, and run ``handler`` for every WebSocket.

    Args:
        handler: a coroutine function; when it returns, its connection is closed with
            1000, when it raises with 1011 and one line in the log.
        host: name or address beside ``port``, ``None`` for all interfaces; without a
            port what :func:`fastws.serve_callbacks` takes: ``"127.0.0.1:0"``,
            ``"unix:/PATH"``, a listening socket, several of them.
        port: to listen on; 0 for any.
        origins: admitted, ``None`` in it for requests without one; by default all.
        subprotocols: those we speak, best first.
        select_subprotocol: chooses in place of that, called with the connection and
            the names that are offered.
        additional_headers: further fields of the 101.
        process_request: called first with connection and request, may be a coroutine
            function; a response ends it: ``return connection.respond(404, "no")``.
        ssl: a server context, for wss.
        open_timeout: seconds for the opening handshake, hooks included.
        max_queue: as for :func:`fastws.connect`.
        options: ``max_connections``, ``backlog`` and ``linger`` as for
            :func:`fastws.serve_callbacks`, and the attributes of
            :class:`fastws.ws.limits.Options`.

    Raises:
        ValueError: host and port, or ``max_queue``, make no sense.

    On start, ``ValueError`` is raised for an address that cannot be understood, and
    ``ListenError`` for one that cannot be listened on.
    """
    server = Server(
        handler,
        water_marks(max_queue),
        pairs_of(additional_headers),
        process_request,
        select_subprotocol,
    )
    options.update(
        ssl=ssl,
        origins=origins,
        subprotocols=tuple(subprotocols or ()),
        open_timeout=open_timeout,
    )
    listen = _listen(host, port)
    return Serve(server, listen, process_request is not None, options)


def _listen(host: Any, port: int | None) -> Any:
    if port is None:
        if host is None:
            raise ValueError("give host and port, or one address")
        return host
    if host is None or isinstance(host, str):
        host = host or ""
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    raise ValueError("a port goes with one host")


def _encode(response: Response | None) -> bytes | None:
    if response is None:
        return None
    return build_response(
        response.status_code,
        list(response.headers.raw_items()),
        response.body,
        reason=response.reason_phrase or None,
    )
