"""Clients of byte streams: ``fastws.open_stream`` and ``fastws.open_transport``.

Source: RFC 6455 section 4.1, and docs/wire.md for how fastws ends recognise each
other.
"""

import asyncio
import os
import socket
import ssl as tls
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypedDict, TypeVar, Unpack

from fastws.config.endpoint import WsUrl
from fastws.net.dial import Dialer
from fastws.net.upgrade import confirm
from fastws.net.websocket import WebSocketStream
from fastws.wire import announce
from fastws.ws.connect import Connect, connect
from fastws.ws.heads import HeadersLike, request_of, response_of
from fastws.ws.limits import NO_LIMIT
from fastws.ws.open import Openable, shake_hands
from fastws.ws.stream import LIMIT, Stream
from fastws.ws.transport import StreamLimits, WebSocketTransport, stream_options


class _OfConnect(TypedDict, total=False):
    origin: str | None
    subprotocols: Sequence[str] | None
    additional_headers: HeadersLike | None
    user_agent_header: str | None
    proxy: str | Literal[True] | None
    open_timeout: float | None
    ssl: tls.SSLContext | Literal[True] | None
    server_hostname: str | None
    host: str | None
    sock: socket.socket | None
    unix: str | os.PathLike[str] | None


class WayOptions(_OfConnect, StreamLimits, total=False):
    """What opening a stream may be given, but for the port."""

    announce: bool


class OpenOptions(WayOptions, total=False):
    """What opening a stream may be given."""

    port: int | None


_NAMES = (*_OfConnect.__annotations__, "port")

ProtocolT = TypeVar("ProtocolT", bound=asyncio.BaseProtocol)

Opened = tuple[WebSocketStream, dict[str, Any]]
"""A WebSocket, paused, and what is to be known about it."""


class Way(Connect):
    """How to open WebSockets of bytes to one URL; arguments of :func:`open_stream`.

    Attributes:
        url: as understood.
        options: of the streams.
    """

    def __init__(
        self, url: str | WsUrl, *, announce: bool = True, **options: Any
    ) -> None:
        given = {name: options.pop(name) for name in _NAMES if name in options}
        self.options = stream_options(**options)
        base = connect(url, **given)
        super().__init__(base._url, base._settings)
        self.url = base._url
        self._announces = announce

    async def open(self) -> Opened:
        """Open one, with the errors of :func:`fastws.connect`."""
        opened: Any = await self._open()
        return opened  # type: ignore[no-any-return]

    async def _shake_hands(
        self, url: WsUrl, dialer: Dialer, headers: list[tuple[str, str]]
    ) -> Any:
        settings = self._settings
        ident = announce.make_id(os.urandom(8))
        fields = list(headers)
        if self._announces:
            fields.append((announce.HEADER, announce.format_offer(ident)))
        asked: dict[str, Any] = {
            "origin": settings.origin,
            "subprotocols": settings.subprotocols,
            "extensions": None,
            "headers": fields,
        }
        answer = await shake_hands(
            await dialer.dial(),
            url.target,
            url.host_header,
            timeout=NO_LIMIT if settings.timeout is None else settings.timeout,
            **asked,
        )
        head = answer.head
        details = {
            "request": request_of(url.target, url.host_header, **asked),
            "response": response_of(head.status or 0, head.reason, head.headers),
            "subprotocol": answer.subprotocol,
        }
        transport, kind = answer.stream.transport, answer.stream.kind
        offered = ident if self._announces else ""
        return confirm(transport, kind, answer.stream.hold, head, offered), details


class OpenStream(Openable[Stream]):
    """A byte stream to be opened: ``async with`` or ``await``."""

    _made_by = "open_stream()"

    def __init__(self, way: Way, limit: int) -> None:
        self._way = way
        self._limit = limit

    async def _open(self) -> Stream:
        stream, details = await self._way.open()
        return Stream(stream, self._way.options, details, limit=self._limit)


def open_stream(
    url: str | WsUrl, *, limit: int = LIMIT, **options: Unpack[OpenOptions]
) -> OpenStream:
    """Open a WebSocket as a byte stream: ``async with`` or ``await``.

    Args:
        url: ``ws://`` or ``wss://``.
        limit: bytes of the longest line; twice as many wait to be read before the
            peer is stopped.
        options: ``origin``, ``subprotocols``, ``additional_headers``,
            ``user_agent_header``, ``proxy``, ``ssl``, ``server_hostname``, ``host``,
            ``port``, ``sock``, ``unix`` and ``open_timeout`` as for
            :func:`fastws.connect`, which raises the same; ``announce``: ``False``
            keeps from the server that this is fastws, and from the stream its
            half-close; and the limits of
            :func:`fastws.ws.transport.stream_options`: ``ping_interval``,
            ``ping_timeout``, ``linger``, ``half_close_timeout``, ``idle_timeout``,
            ``max_message``, ``on_eof``.

    Raises:
        InvalidURI: the URL cannot be understood; also a ``ValueError``.
        InvalidProxy: nor can the proxy; also a ``ValueError``.
        ValueError: options exclude each other, or make no sense.

    On opening, these are raised:
        OSError: no connection, as a ``DialError``; ``OpenTimeout``, which is a
            ``TimeoutError``, when the time was over.
        InvalidHandshake: ``InvalidStatus`` for an answer other than 101,
            ``InvalidMessage`` for one that is none, and others.
    """
    return OpenStream(Way(url, **options), limit)


async def open_transport(
    url: str | WsUrl,
    protocol_factory: Callable[[], ProtocolT],
    **options: Unpack[OpenOptions],
) -> tuple[WebSocketTransport, ProtocolT]:
    """Open a WebSocket as an asyncio transport.

    Args:
        url: ``ws://`` or ``wss://``.
        protocol_factory: makes an ``asyncio.Protocol`` or ``BufferedProtocol``.
        options: as for :func:`open_stream`, without ``limit``.

    Returns:
        The transport and the protocol, as ``loop.create_connection`` does.

    Raises:
        OSError: no connection, as a ``DialError``.
        InvalidHandshake: no valid answer to the opening handshake.
        ValueError: the URL, the proxy or options make no sense.
    """
    way = Way(url, **options)
    protocol = protocol_factory()
    stream, details = await way.open()
    return WebSocketTransport(stream, protocol, way.options, details), protocol
