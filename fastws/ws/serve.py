"""``fastws.serve``: servers of the coroutine API.

Source: RFC 6455 section 4.2. Names and meanings are those of ``websockets``.
"""

import asyncio
import http
import logging
import os
import socket
import ssl as tls
from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from typing import Any, Self, TypeAlias, Unpack

from fastws._consts import CLOSE_GOING_AWAY, CLOSE_INTERNAL_ERROR
from fastws.exceptions import ConnectionClosed
from fastws.typing import LoggerLike
from fastws.wire.deflate import Deflate
from fastws.wire.handshake import accept_key
from fastws.ws.connection import Connection
from fastws.ws.facts import State
from fastws.ws.failures import log_failure
from fastws.ws.heads import (
    PRODUCT,
    Headers,
    HeadersLike,
    Request,
    Response,
    encode_response,
    pairs_of,
    response_of,
)
from fastws.ws.limits import (
    NO_LIMIT,
    Limits,
    MaxQueue,
    logger_of,
    names_of,
    plain_limits,
    water_marks,
)
from fastws.ws.opening import Opening
from fastws.ws.protocol import WebSocket
from fastws.ws.server import CallbackServer, Origins, address_of, serve_callbacks

logger = logging.getLogger("fastws.ws")


class ServerConnection(Connection):
    """The server's end of a WebSocket; handlers and hooks get it.

    Attributes:
        server: it belongs to.
        username: set by :func:`fastws.basic_auth`.
    """

    username: str

    def __init__(self, server: "Server", opening: Opening) -> None:
        super().__init__(server.max_queue)
        self.server = server
        self._logger = server.logger
        self._asked = opening.head.target, opening.head.headers
        self._address = opening.remote_address
        self._opening: Opening | None = opening
        self._answer: Response | tuple[str, str | None, list[Any]] | None = None

    def on_open(self, ws: WebSocket) -> None:
        super().on_open(ws)
        opening, self._opening = self._opening, None
        if opening is not None and self._answer is None:
            self.accepted(opening)
        self.server.opened(self)

    def on_close(self, code: int, reason: str) -> None:
        super().on_close(code, reason)
        self.server.all_connections.discard(self)

    def accepted(self, opening: Opening) -> None:
        """Keep what the 101 says."""
        if opening.upgrade is not None:
            key, extra = opening.upgrade.key, list(opening.headers)
            self._answer = key, opening.extensions, extra

    def answer(self, opening: Opening, response: Response) -> bytes | None:
        """Keep the 101 that a hook wants; any other answer is returned."""
        encoded = encode_response(response)
        if response.status_code != http.HTTPStatus.SWITCHING_PROTOCOLS:
            return encoded
        self._answer, opening.answer = response, encoded
        opening.subprotocol = response.headers.get("Sec-WebSocket-Protocol")
        if "Sec-WebSocket-Extensions" not in response.headers:
            opening.codec = None
        return None

    def respond(self, status: int, text: str) -> Response:
        """A plain answer for ``process_request`` to return."""
        status = http.HTTPStatus(status)
        fields = [("Content-Type", "text/plain; charset=utf-8")]
        return response_of(status, status.phrase, fields, text.encode())

    @property
    def transport(self) -> Any:
        """The asyncio transport, ``None`` after it: for ``get_extra_info``."""
        opening = self._opening
        return super().transport if opening is None else opening.transport

    @property
    def remote_address(self) -> Any:
        """The peer's, ``None`` where there is none."""
        return self._address

    @property
    def request(self) -> Request:
        """The client's request."""
        target, fields = self._asked
        return Request(target, Headers(fields))

    @property
    def response(self) -> Response | None:
        """Our 101."""
        if self._answer is None or isinstance(self._answer, Response):
            return self._answer
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

Review: TypeAlias = Callable[
    [ServerConnection, Request, Response], Awaitable[Response | None] | Response | None
]
"""Looks at an answer before it is sent: changes it, or returns another one."""

Select: TypeAlias = Callable[[ServerConnection, Sequence[str]], str | None]
"""Chooses one of the subprotocols that a client offers."""


class Server:
    """Runs a handler for every WebSocket; made by :func:`serve`.

    Attributes:
        all_connections: those that are not gone.
        max_queue: of each.
        logger: where log lines go.
    """

    def __init__(
        self,
        handler: Handler,
        max_queue: MaxQueue,
        headers: list[tuple[str, str]],
        process_request: Hook | None,
        select_subprotocol: Select | None,
        *,
        process_response: Review | None = None,
        create_connection: Callable[..., ServerConnection] = ServerConnection,
        logger: LoggerLike = logger,
    ) -> None:
        self.all_connections: set[ServerConnection] = set()
        self.max_queue = max_queue
        self.logger = logger
        self._handler = handler
        self._headers = headers
        self._process_request = process_request
        self._process_response = process_response
        self._select_subprotocol = select_subprotocol
        self._create_connection = create_connection
        self._is_started = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._below: CallbackServer = None  # type: ignore[assignment]

    def bind(self, below: CallbackServer, start: bool = True) -> None:
        """Begin to accept, or let :meth:`start_serving` do so."""
        self._below = below
        if start:
            self._is_started = True
            below.start()

    @property
    def connections(self) -> set[ServerConnection]:
        """The open ones: those that may be sent to, as by :func:`fastws.broadcast`."""
        return {ws for ws in self.all_connections if ws.state is State.OPEN}

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The listening sockets; none once it is closed."""
        return tuple(sock for sock in self._below.sockets if sock.fileno() >= 0)

    @property
    def addresses(self) -> Sequence[str]:
        """Where it listens, as text."""
        return self._below.addresses

    # -- what the callback layer says ----------------------------------------------

    def connection_of(self, opening: Opening) -> ServerConnection:
        """The one that hooks and the handler see."""
        connection: ServerConnection | None = opening.context
        if connection is None:
            connection = opening.context = self._create_connection(self, opening)
        return connection

    def ask(self, opening: Opening) -> bytes | Awaitable[bytes | None] | None:
        """Let ``process_request`` look at a request."""
        assert self._process_request is not None
        connection = self.connection_of(opening)
        response = self._process_request(connection, connection.request)
        if response is None:
            return None
        if isinstance(response, Response) and self._process_response is None:
            return connection.answer(opening, response)
        return self._wait_answer(opening, response)

    async def _wait_answer(
        self, opening: Opening, response: Response | Awaitable[Response | None]
    ) -> bytes | None:
        final = response if isinstance(response, Response) else await response
        return None if final is None else await self._review(opening, final)

    def accept(
        self, opening: Opening
    ) -> ServerConnection | Awaitable[ServerConnection | None] | None:
        """The request is a WebSocket's: choose the subprotocol."""
        connection = self.connection_of(opening)
        if opening.answer is not None:  # by process_request
            return connection
        opening.headers = self._headers
        if self._select_subprotocol is not None and opening.upgrade is not None:
            offered = opening.upgrade.subprotocols
            opening.subprotocol = self._select_subprotocol(connection, offered)
        if self._process_response is None:
            return connection
        return self._let_review(connection, opening)

    async def _let_review(
        self, connection: ServerConnection, opening: Opening
    ) -> ServerConnection | None:
        """Let ``process_response`` look at the 101; another answer ends it."""
        connection.accepted(opening)
        response = connection.response
        assert response is not None
        refusal = await self._review(opening, response)
        if refusal is None:
            return connection
        opening.finish(refusal)
        return None

    async def _review(self, opening: Opening, response: Response) -> bytes | None:
        connection = self.connection_of(opening)
        if self._process_response is not None:
            result = self._process_response(connection, connection.request, response)
            if isinstance(result, Awaitable):
                result = await result
            response = response if result is None else result
        return connection.answer(opening, response)

    def opened(self, connection: ServerConnection) -> None:
        """Run the handler."""
        self.all_connections.add(connection)
        task = asyncio.get_running_loop().create_task(self._run(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, connection: ServerConnection) -> None:
        """One line for a handler that fails; none for a peer that went away."""
        try:
            await self._handler(connection)
            await connection.close()
        except ConnectionClosed as exc:
            self.logger.debug("WebSocket handler ended: %s", exc)
            await connection.close()
        except Exception as exc:
            log_failure(connection.logger, exc)
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
        self._below.close(connections=False)
        if close_connections:
            for connection in list(self.all_connections):
                connection.start_close(code, reason)

    async def wait_closed(self) -> None:
        """Wait for :meth:`close`, the end of all connections and of their handlers."""
        await self._below.is_closing.wait()
        await self._below.wait_closed()
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def start_serving(self) -> None:
        """Begin to accept, after ``serve(..., start_serving=False)``."""
        if not self._is_started:
            self._is_started = True
            self._below.start()

    def is_serving(self) -> bool:
        """Connections are accepted."""
        return self._is_started and not self._below.is_closing.is_set()

    async def serve_forever(self) -> None:
        """Serve until :meth:`close`, or until cancelled; then close."""
        await self.start_serving()
        async with self:
            await self.wait_closed()

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The event loop it runs on."""
        return self._below.loop

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
        self,
        server: Server,
        listen: Any,
        ask: bool,
        options: dict[str, Any],
        start: bool = True,
    ) -> None:
        self._server = server
        self._start_serving = start
        self._listen = listen
        self._options = options
        if ask:
            options["process_request"] = server.ask

    def __await__(self) -> Generator[Any, None, Server]:
        return self._start().__await__()

    async def _start(self) -> Server:
        server = self._server
        options = {"logger": server.logger, **self._options}
        below = serve_callbacks(server.accept, self._listen, **options)
        server.bind(below, self._start_serving)
        return server

    async def __aenter__(self) -> Server:
        return await self._start()

    async def __aexit__(self, kind: object, exc: object, traceback: object) -> None:
        await self._server.__aexit__(kind, exc, traceback)


class _Options(Limits, total=False):
    """What is passed on to :func:`fastws.serve_callbacks`."""

    ssl: tls.SSLContext | None
    origins: Origins | None
    compression: str | Deflate | None
    max_connections: int
    backlog: int
    linger: float


def serve(
    handler: Handler,
    host: str | socket.socket | Iterable[str | socket.socket] | None = None,
    port: int | None = None,
    *,
    sock: socket.socket | None = None,
    subprotocols: Sequence[str] | None = None,
    select_subprotocol: Select | None = None,
    additional_headers: HeadersLike | None = None,
    process_request: Hook | None = None,
    process_response: Review | None = None,
    server_header: str | None = PRODUCT,
    open_timeout: float | None = 10.0,
    max_queue: MaxQueue = 16,
    logger: "LoggerLike | None" = None,
    create_connection: Callable[..., ServerConnection] | None = None,
    start_serving: bool = True,
    **options: Unpack[_Options],
) -> Serve:
    """Listen, and run ``handler`` for every WebSocket.

    Args:
        handler: a coroutine function; when it returns, its connection is closed with
            1000, when it raises with 1011 and one line in the log.
        host: name or address beside ``port``, several of them, ``None`` for all
            interfaces; without a port what :func:`fastws.serve_callbacks` takes:
            ``"127.0.0.1:0"``, ``"unix:/PATH"``, a listening socket, several of them.
        port: to listen on; 0 for any.
        sock: a socket, bound or listening; owned from the start on.
        origins: admitted, as text or as a compiled pattern of the whole; ``None`` in
            it for requests without one; by default all.
        subprotocols: those we speak, best first.
        select_subprotocol: chooses in place of that, called with the connection and
            the names that are offered; ``NegotiationError`` refuses with 400.
        compression: ``"deflate"`` or a :class:`fastws.Deflate` packs messages for
            clients that offer permessage-deflate (RFC 7692); by default nobody's.
        additional_headers: further fields of the 101.
        process_request: called first with connection and request, may be a coroutine
            function; a response other than a 101 ends it, as
            ``return connection.respond(404, "no")`` does.
        process_response: called with connection, request and the 101, or what
            ``process_request`` returned, before it is sent; may change it or return
            another one, and may be a coroutine function.
        server_header: value of Server in the 101, ``None`` for no such field.
        ssl: a server context, for wss.
        open_timeout: seconds for the opening handshake, hooks included; ``None``: no
            limit.
        max_queue: as for :func:`fastws.connect`.
        logger: where log lines of this server go.
        create_connection: a subclass of :class:`ServerConnection`.
        start_serving: ``False`` waits for :meth:`Server.start_serving`.
        options: ``max_connections``, ``backlog`` and ``linger`` as for
            :func:`fastws.serve_callbacks`, and the attributes of
            :class:`fastws.ws.limits.Options`.

    Raises:
        ValueError: host and port, or ``max_queue``, make no sense.

    On start, ``ValueError`` is raised for an address that cannot be understood, and
    ``ListenError`` for one that cannot be listened on.
    """
    headers = pairs_of(additional_headers)
    if server_header is not None:
        headers.insert(0, ("Server", server_header))
    server = Server(
        handler,
        water_marks(max_queue),
        headers,
        process_request,
        select_subprotocol,
        process_response=process_response,
        create_connection=create_connection or ServerConnection,
        logger=logger_of(logger),
    )
    below: dict[str, Any] = {
        **plain_limits(dict(options)),
        "subprotocols": names_of(subprotocols),
        "open_timeout": NO_LIMIT if open_timeout is None else open_timeout,
    }
    listen = address_of(host if sock is None else sock, port)
    return Serve(server, listen, process_request is not None, below, start_serving)


def unix_serve(
    handler: Handler, path: str | os.PathLike[str] | None = None, **options: Any
) -> Serve:
    """:func:`serve` on a unix socket.

    Args:
        handler: as there.
        path: of the socket; one that nobody listens on is replaced. Or give ``sock``.
        options: as there.
    """
    where = None if path is None else f"unix:{os.path.abspath(path)}"
    return serve(handler, where, **options)
