"""Servers of the callback layer: from an accepted socket to a handler."""

import asyncio
import logging
import re
import socket
import ssl as tls
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import Any, Self, TypeAlias

from fastws._address import join_host_port
from fastws._consts import BACKLOG, CLOSE_GOING_AWAY, MAX_CONNECTIONS
from fastws.config.endpoint import Listen
from fastws.exceptions import FastwsError, RemoteProtocolError
from fastws.http.answers import Refusal
from fastws.net import sockopt
from fastws.net.bind import open_listeners
from fastws.net.handoff import HandOff
from fastws.net.stream import Kind
from fastws.net.sweep import sweep_of
from fastws.typing import LoggerLike
from fastws.wire.deflate import Deflate
from fastws.wire.handshake import check_upgrade, origin_allowed
from fastws.ws.handler import Handler
from fastws.ws.limits import Options, options_of
from fastws.ws.opening import Opening
from fastws.ws.protocol import WebSocket

logger = logging.getLogger("fastws.ws")

Origins: TypeAlias = Collection[str | re.Pattern[str] | None]
"""Those that are admitted; ``None`` in it for requests without one."""

HandlerFactory: TypeAlias = Callable[
    [Opening], Handler | Awaitable[Handler | None] | None
]
"""Makes the handler of a connection; may refuse by a ``RemoteProtocolError``.

``None``: the opening was finished or detached there.
"""

ProcessRequest: TypeAlias = Callable[[Opening], bytes | Awaitable[bytes | None] | None]
"""Looks at a request first; a whole HTTP response is sent in place of a WebSocket."""


class CallbackServer:
    """Serves WebSockets to handlers; made by :func:`serve_callbacks`.

    Use it as an async context manager, or call :meth:`start` and :meth:`aclose`.

    Attributes:
        addresses: where it listens, as text.
        sockets: the listening sockets.
        connections: the open WebSockets.
        options: limits of each connection.
        logger: where its log lines go.
        is_closing: set by the first :meth:`close`.
    """

    def __init__(
        self,
        handler_factory: HandlerFactory,
        socks: Sequence[socket.socket],
        options: Options,
        *,
        ssl: tls.SSLContext | None,
        process_request: ProcessRequest | None,
        subprotocols: Sequence[str],
        origins: Origins | None,
        compression: Deflate | None,
        open_timeout: float,
        linger: float,
        max_connections: int,
        logger: LoggerLike,
    ) -> None:
        self.options = options
        self.logger = logger
        self.open_timeout = open_timeout
        self.linger = linger
        self.sockets = list(socks)
        self.connections: set[WebSocket] = set()
        self.loop: asyncio.AbstractEventLoop = None  # type: ignore[assignment]
        self.listener = HandOff(
            socks,
            self._make_opening,
            tls=ssl,
            handshake_timeout=open_timeout,
            linger=linger,
            max_connections=max_connections,
        )
        self.addresses = self.listener.addresses
        self._factory = handler_factory
        self._process_request = process_request
        self._subprotocols = tuple(subprotocols)
        self._origins = origins
        self._compression = compression
        self._openings: set[Opening] = set()
        self._gone: asyncio.Event | None = None
        self.is_closing = asyncio.Event()

    # -- life ----------------------------------------------------------------------

    def start(self) -> None:
        """Begin to accept, on the running loop."""
        self.loop = asyncio.get_running_loop()
        self._sweep = sweep_of(self.loop)
        self._granularity = min(1.0, max(self.open_timeout, 0.1) / 4)
        self.listener.start()

    def close(
        self,
        code: int = CLOSE_GOING_AWAY,
        reason: str = "",
        *,
        connections: bool = True,
    ) -> None:
        """Stop accepting, refuse those that are shaking hands, and close the others.

        Args:
            code: of the Close that each connection gets.
            reason: likewise.
            connections: ``False`` lets them run on.
        """
        self.is_closing.set()
        self.listener.close()
        for opening in list(self._openings):
            opening.cancel_hook()
            opening.refuse(Refusal("closing", http_status=503))
        if connections:
            for ws in list(self.connections):
                ws.close(code, reason)

    async def wait_closed(self) -> None:
        """Wait until no connection is left."""
        await self.listener.wait_idle()
        while self.listener.active > 0:
            if self._gone is None or self._gone.is_set():
                self._gone = asyncio.Event()
            await self._gone.wait()

    async def aclose(self, code: int = CLOSE_GOING_AWAY, reason: str = "") -> None:
        """:meth:`close`, and wait until all connections are gone.

        It takes the closing time-out at most. Cancelled, it cuts them.
        """
        self.close(code, reason)
        try:
            await self.wait_closed()
        except asyncio.CancelledError:
            self.abort()
            raise

    def abort(self) -> None:
        """Stop accepting and cut every connection."""
        self.listener.close()
        for opening in list(self._openings):
            sockopt.reset(opening.transport)
        for ws in list(self.connections):
            ws.abort()

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        where = ", ".join(self.addresses)
        return f"<CallbackServer {where} connections={len(self.connections)}>"

    # -- what openings and connections say -----------------------------------------

    def _make_opening(self, peer: Any, fd: int) -> Opening:
        return Opening(self, peer, fd)

    def admit(self, transport: Any, peer: Any = None) -> None:
        """Serve a connection that came in another way than through the sockets.

        Args:
            transport: owned from now on; nothing has been read from it.
            peer: address at its other end, if it has one.
        """
        opening = self._make_opening(peer, -1)
        self.listener.arrived()
        transport.set_protocol(opening.protocol)
        opening.protocol.connection_made(transport)
        transport.resume_reading()

    def add_opening(self, opening: Opening) -> None:
        """A connection begins."""
        self._openings.add(opening)
        self._sweep.add(opening, self._granularity)

    def forget_opening(self, opening: Opening) -> None:
        """Its handshake is over."""
        self._openings.discard(opening)
        self._sweep.discard(opening)

    def forget(self, ws: WebSocket) -> None:
        """A connection is gone."""
        self.connections.discard(ws)
        self.left()

    def left(self) -> None:
        """One connection less, with or without a WebSocket."""
        self.listener.left()
        if self._gone is not None and self.listener.active <= 0:
            self._gone.set()

    def kind_of(self, peer: Any) -> Kind:
        """What the transport of a connection from ``peer`` can carry."""
        if self.listener.tls is not None:
            return Kind.TLS
        return Kind.TCP if isinstance(peer, tuple) else Kind.UNIX

    def answer(self, opening: Opening) -> None:
        """A whole request has come.

        Raises:
            RemoteProtocolError: with the status to answer.
        """
        if self._process_request is not None:
            response = self._process_request(opening)
            if not isinstance(response, bytes | None):
                self._wait(opening, self._finish_asked(opening, response))
                return
            if response is not None:
                opening.finish(response)
                return
        self._upgrade(opening)

    def _upgrade(self, opening: Opening) -> None:
        upgrade = opening.upgrade = check_upgrade(opening.head)
        if self._origins is not None:
            self._check_origin(upgrade.origin, self._origins)
        if self._subprotocols and opening.answer is None:
            opening.subprotocol = next(
                (n for n in self._subprotocols if n in upgrade.subprotocols), None
            )
        if self._compression is not None and opening.answer is None:
            self._agree(opening, self._compression)
        handler: Any = self._factory(opening)
        if hasattr(handler, "__await__"):
            self._wait(opening, self._finish_upgrade(opening, handler))
        else:
            opening.open(handler)

    def _agree(self, opening: Opening, compression: Deflate) -> None:
        """Choose among the offers of permessage-deflate."""
        offers = opening.head.get_all("sec-websocket-extensions")
        agreed = compression.accept(offers)
        if agreed is not None:
            opening.extensions, opening.codec = agreed

    def _check_origin(self, origin: str | None, origins: Origins) -> None:
        if origin is None:
            allowed = None in origins
        else:
            names = [name for name in origins if isinstance(name, str)]
            allowed = origin_allowed(origin, "", names) or any(
                isinstance(name, re.Pattern) and name.fullmatch(origin)
                for name in origins
            )
        if not allowed:
            raise Refusal(f"Origin {origin!r} is not admitted", http_status=403)

    # -- hooks that wait -----------------------------------------------------------

    def _wait(self, opening: Opening, rest: Any) -> None:
        """Go on in a task; nothing is read meanwhile."""
        opening.transport.pause_reading()
        opening.task = self.loop.create_task(self._guard(opening, rest))

    async def _guard(self, opening: Opening, rest: Awaitable[None]) -> None:
        try:
            await rest
        except RemoteProtocolError as error:
            opening.refuse(error)
        except Exception as exc:
            opening.fail(exc)

    async def _finish_asked(
        self, opening: Opening, response: Awaitable[bytes | None]
    ) -> None:
        answer = await response
        if answer is not None:
            opening.finish(answer)
        elif not opening.is_over:  # a hook need not heed that it was cancelled
            self._upgrade(opening)

    async def _finish_upgrade(
        self, opening: Opening, handler: Awaitable[Handler | None]
    ) -> None:
        made = await handler
        if not opening.is_over:
            opening.open(made)


def serve_callbacks(
    handler_factory: HandlerFactory,
    listen: str | socket.socket | Iterable[str | socket.socket],
    *,
    ssl: tls.SSLContext | None = None,
    process_request: ProcessRequest | None = None,
    subprotocols: Sequence[str] = (),
    origins: Origins | None = None,
    compression: str | Deflate | None = None,
    open_timeout: float = 10.0,
    linger: float = 5.0,
    max_connections: int = MAX_CONNECTIONS,
    backlog: int = BACKLOG,
    logger: LoggerLike = logger,
    **limits: Any,
) -> CallbackServer:
    """Listen, and give every WebSocket a handler of its own.

    Args:
        handler_factory: called with each :class:`Opening` that passed every check;
            returns the handler, or an awaitable of it. A ``RemoteProtocolError`` with
            ``http_status`` is answered with that status.
        listen: ``PORT`` (loopback), ``:PORT`` (all interfaces), ``HOST:PORT``,
            ``unix:/PATH``, ``fd:NUMBER``; several of them; or sockets that are bound
            or listening, which the server owns from now on.
        ssl: a server context, for wss.
        process_request: called first with every request, also those that are no
            upgrade; a response (bytes, or an awaitable of them) ends it.
        subprotocols: those we speak, best first.
        origins: admitted, as text or as a compiled pattern of the whole; ``None`` in
            it for requests without one; by default all.
        compression: ``"deflate"`` or a :class:`fastws.Deflate` packs messages for
            clients that offer permessage-deflate (RFC 7692); by default nobody's.
        open_timeout: seconds for the opening handshake, hooks included.
        linger: seconds for the peer of a refusal to close.
        max_connections: as long as there are so many, nobody is accepted.
        backlog: connections that may wait for that.
        logger: where log lines of this server go.
        limits: as the attributes of :class:`Options`.

    Returns:
        The server, bound, not yet accepting: ``async with`` starts and ends it.

    Raises:
        ValueError: ``listen`` or ``compression`` is none of these.
        ListenError: an address cannot be listened on.
    """
    options = options_of(limits)
    deflate = Deflate.parse(compression)
    socks = _open_all(listen, backlog)
    return CallbackServer(
        handler_factory,
        socks,
        options,
        ssl=ssl,
        process_request=process_request,
        subprotocols=subprotocols,
        origins=origins,
        compression=deflate,
        open_timeout=open_timeout,
        linger=linger,
        max_connections=max_connections,
        logger=logger,
    )


def _open_all(
    listen: str | socket.socket | Iterable[str | socket.socket], backlog: int
) -> list[socket.socket]:
    """All sockets, or none."""
    names = [listen] if isinstance(listen, str | socket.socket) else listen
    socks: list[socket.socket] = []
    try:
        for name in names:
            if isinstance(name, socket.socket):
                name.setblocking(False)
                if not name.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    name.listen(backlog)
                socks.append(name)
            else:
                socks += _open_one(Listen.parse(name), backlog)
    except (OSError, FastwsError, ValueError):
        for sock in socks:
            sock.close()
        raise
    return socks


def _open_one(listen: Listen, backlog: int) -> list[socket.socket]:
    if listen.kind == "tcp":
        return open_listeners(
            hosts=listen.hosts,
            port=listen.port,
            optional=listen.optional,
            backlog=backlog,
        )
    if listen.kind == "unix":
        return open_listeners(path=listen.path, backlog=backlog)
    if listen.kind == "fd":
        return open_listeners(fd=listen.fd)
    raise ValueError(f"{listen.text}: write PORT, HOST:PORT, unix:/PATH or fd:NUMBER")


def address_of(host: Any, port: int | None) -> Any:
    """What :func:`fastws.serve_callbacks` takes for host and port.

    Raises:
        ValueError: there is none, or a socket has a port already.
    """
    if port is None:
        if host is None:
            raise ValueError("give host and port, or one address")
        return host
    if host is None or isinstance(host, str):
        return join_host_port(host or "", port)
    if isinstance(host, socket.socket):
        raise ValueError("a port goes with hosts, not with a socket")
    return [address_of(name, port) for name in host]
