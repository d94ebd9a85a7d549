"""``fastws.serve_streams``: servers whose WebSockets are byte streams."""

import asyncio
import socket
import ssl as tls
from collections.abc import (
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Sequence,
)
from functools import partial
from typing import Any, TypeAlias, Unpack

from fastws._consts import CLOSE_GOING_AWAY, LINGER, Side
from fastws.net.ends import CopyOptions
from fastws.net.websocket import Peer, WebSocketStream
from fastws.typing import LoggerLike
from fastws.wire import announce
from fastws.ws.failures import log_failure
from fastws.ws.heads import HeadersLike, pairs_of
from fastws.ws.limits import NO_LIMIT, logger_of, names_of
from fastws.ws.opening import Opening
from fastws.ws.serve import Hook, Review, Select, Serve, Server, ServerConnection
from fastws.ws.server import Origins, address_of
from fastws.ws.stream import LIMIT, Stream
from fastws.ws.transport import StreamLimits, WebSocketTransport, stream_options

StreamHandler: TypeAlias = Callable[[Stream], Awaitable[object]]
"""Called with each stream; when it returns, the stream is closed."""


class ServeOptions(StreamLimits, total=False):
    """Limits of a server and of its streams."""

    max_connections: int
    backlog: int


_BELOW = ("max_connections", "backlog")


class StreamServer(Server):
    """Runs a handler for every stream; made by :func:`serve_streams`.

    Attributes:
        streams: those that are not gone.
    """

    def __init__(
        self,
        handler: StreamHandler,
        headers: list[tuple[str, str]],
        process_request: Hook | None,
        select_subprotocol: Select | None,
        *,
        options: CopyOptions,
        limit: int,
        announces: bool,
        process_response: Review | None = None,
        logger: "LoggerLike | None" = None,
    ) -> None:
        super().__init__(
            handler,  # type: ignore[arg-type]
            None,
            headers,
            process_request,
            select_subprotocol,
            process_response=process_response,
            logger=logger_of(logger),
        )
        self.streams: set[Stream] = set()
        self._serve: StreamHandler = handler
        self._options = options
        self._limit = limit
        self._announces = announces

    def accept(self, opening: Opening) -> Any:
        """The request is a WebSocket's: answer it, and run the handler."""
        made = super().accept(opening)
        peer = self._announce(opening)
        if isinstance(made, Awaitable):
            return self._take_reviewed(opening, peer, made)
        connection = self.connection_of(opening)
        if opening.answer is None:
            connection.accepted(opening)
        self._take(opening, peer, connection)
        return None

    def _announce(self, opening: Opening) -> Peer:
        """Answer an announcement; who the client is by then."""
        offer = None
        if self._announces:
            offer = announce.parse_offer(opening.head.get_all(announce.HEADER))
        if offer is None or offer.name != "tcp":
            return Peer.STRANGER
        field = announce.HEADER, announce.format_answer(offer)
        opening.headers = [*opening.headers, field]
        return Peer.UNCONFIRMED

    async def _take_reviewed(
        self, opening: Opening, peer: Peer, made: Awaitable[ServerConnection | None]
    ) -> None:
        connection = await made
        if connection is not None and not opening.is_over:
            self._take(opening, peer, connection)

    def _take(self, opening: Opening, peer: Peer, connection: ServerConnection) -> None:
        details = {
            "peername": opening.remote_address,
            "request": connection.request,
            "response": connection.response,
            "subprotocol": opening.subprotocol,
        }
        base, loop = opening.detach(), asyncio.get_running_loop()
        stream = Stream(
            WebSocketStream(
                base.transport,
                base.kind,
                base.hold,
                side=Side.SERVER,
                peer=peer,
                opened_at=loop.time(),
            ),
            self._options,
            details,
            limit=self._limit,
            on_end=self._left,
        )
        self.streams.add(stream)
        task = loop.create_task(self._run_stream(stream))
        self._tasks.add(task)
        task.add_done_callback(partial(self._over, stream))

    def _left(self, transport: WebSocketTransport) -> None:
        self._below.left()

    def _over(self, stream: Stream, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self.streams.discard(stream)

    async def _run_stream(self, stream: Stream) -> None:
        """One line for a handler that fails; none for a peer that went away."""
        try:
            await self._serve(stream)
            stream.close()
            await stream.wait_closed()
        except ConnectionError as exc:
            self.logger.debug("stream ended: %s", str(exc))  # keeps no frame
            stream.abort()
        except Exception as exc:
            log_failure(self.logger, exc)
            stream.abort()
        except BaseException:
            stream.abort()
            raise

    def close(
        self,
        close_connections: bool = True,
        code: int = CLOSE_GOING_AWAY,
        reason: str = "",
    ) -> None:
        """Stop accepting, and end the streams.

        Args:
            close_connections: ``False`` lets them run on.
            code: of the Close that each peer gets; handlers get a ``StreamReset``.
            reason: likewise.
        """
        self._below.close(code, reason)
        if close_connections:
            for stream in list(self.streams):
                stream.transport.go_away(code, reason or "the server closes")

    async def __aexit__(self, *args: object) -> None:
        try:
            await super().__aexit__(*args)
        except asyncio.CancelledError:
            for stream in list(self.streams):
                stream.transport.task.cancel()
            raise


class ServeStreams(Serve):
    """A server to be started: ``async with`` or ``await``."""

    _server: StreamServer

    def __await__(self) -> Generator[Any, None, StreamServer]:
        return self._start_streams().__await__()

    async def _start_streams(self) -> StreamServer:
        await self._start()
        return self._server

    async def __aenter__(self) -> StreamServer:
        return await self._start_streams()


def serve_streams(
    handler: StreamHandler,
    host: str | socket.socket | Iterable[str | socket.socket] | None = None,
    port: int | None = None,
    *,
    sock: socket.socket | None = None,
    origins: Origins | None = None,
    subprotocols: Sequence[str] | None = None,
    select_subprotocol: Select | None = None,
    additional_headers: HeadersLike | None = None,
    process_request: Hook | None = None,
    process_response: Review | None = None,
    ssl: tls.SSLContext | None = None,
    open_timeout: float | None = 10.0,
    logger: "LoggerLike | None" = None,
    announce: bool = True,
    limit: int = LIMIT,
    **options: Unpack[ServeOptions],
) -> ServeStreams:
    """Listen, and run ``handler`` for every WebSocket, as a byte stream.

    Args:
        handler: a coroutine function; gets a :class:`fastws.Stream`. When it returns,
            its stream is closed in order; when it raises, the stream is reset, and
            there is one line in the log.
        host: as for :func:`fastws.serve`.
        port: likewise.
        sock: likewise.
        origins: likewise.
        subprotocols: likewise.
        select_subprotocol: likewise.
        additional_headers: likewise.
        process_request: likewise.
        process_response: likewise.
        ssl: a server context, for wss.
        open_timeout: seconds for the opening handshake, hooks included; ``None``: no
            limit.
        logger: where log lines of this server go.
        announce: ``False``: clients do not learn that this is fastws, and no stream
            has a half-close.
        limit: as for :func:`fastws.open_stream`.
        options: ``max_connections`` and ``backlog`` as for
            :func:`fastws.serve_callbacks`, and the limits of
            :func:`fastws.ws.transport.stream_options`.

    Raises:
        ValueError: host and port make no sense.

    On start, ``ValueError`` is raised for an address that cannot be understood, and
    ``ListenError`` for one that cannot be listened on.
    """
    limits: dict[str, Any] = dict(options)
    below = {name: limits.pop(name) for name in _BELOW if name in limits}
    server = StreamServer(
        handler,
        pairs_of(additional_headers),
        process_request,
        select_subprotocol,
        options=stream_options(**limits),
        limit=limit,
        announces=announce,
        process_response=process_response,
        logger=logger,
    )
    names = names_of(subprotocols)
    timeout = NO_LIMIT if open_timeout is None else open_timeout
    below.update(ssl=ssl, origins=origins, subprotocols=names, open_timeout=timeout)
    below["linger"] = limits.get("linger", LINGER)
    address = address_of(host if sock is None else sock, port)
    return ServeStreams(server, address, process_request is not None, below)
