"""Clients of byte streams: ``fastws.open_stream`` and ``fastws.open_transport``.

Source: RFC 6455 section 4.1, and docs/wire.md for how fastws ends recognise each
other.
"""

import asyncio
import os
import ssl as tls
from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar

from fastws._backend import default_keys, encode_frame
from fastws._consts import OP_TEXT, Side
from fastws.config.endpoint import WsUrl
from fastws.exceptions import (
    DialTimeout,
    InvalidMessage,
    InvalidProxy,
    InvalidStatus,
    InvalidURI,
    OpenTimeout,
    RemoteProtocolError,
)
from fastws.net.dial import Dialer
from fastws.net.websocket import Peer, WebSocketStream
from fastws.typing import HeaderList
from fastws.wire import announce
from fastws.ws.heads import Headers, HeadersLike, Request, pairs_of, response_of
from fastws.ws.open import Answer, make_dialer, shake_hands
from fastws.ws.stream import LIMIT, Stream
from fastws.ws.transport import WebSocketTransport, stream_options

_NO_LIMIT = 86400.0  # seconds of an open_timeout that is None

ProtocolT = TypeVar("ProtocolT", bound=asyncio.BaseProtocol)


class Way:
    """How to open WebSockets of bytes to one URL; arguments of :func:`open_stream`."""

    def __init__(
        self,
        url: str | WsUrl,
        *,
        origin: str | None = None,
        subprotocols: Sequence[str] = (),
        additional_headers: HeadersLike | None = None,
        ssl: tls.SSLContext | None = None,
        server_hostname: str | None = None,
        proxy: str | None = None,
        unix: str | None = None,
        announce: bool = True,
        open_timeout: float | None = 10.0,
        **limits: Any,
    ) -> None:
        self.url = _parse(url)
        self.options = stream_options(**limits)
        self._announces = announce
        self._origin = origin
        self._subprotocols = tuple(subprotocols)
        self._headers = pairs_of(additional_headers)
        self._timeout = open_timeout
        self._limit = _NO_LIMIT if open_timeout is None else open_timeout
        self._dialer = _make_dialer(
            self.url,
            proxy,
            ssl=ssl,
            server_hostname=server_hostname,
            unix=unix,
            timeout=self._limit,
        )

    async def open(self) -> tuple[WebSocketStream, dict[str, Any]]:
        """A WebSocket, paused, and what is to be known about it.

        Raises:
            DialError: no connection; ``OpenTimeout`` when the time was over.
            InvalidHandshake: no valid 101.
        """
        try:
            async with asyncio.timeout(self._timeout):
                return await self._shake_hands()
        except InvalidStatus as error:
            status, reason = error.status, error.reason
            error.response = response_of(status, reason, error.fields, error.body)
            raise
        except RemoteProtocolError as error:
            raise InvalidMessage(error.reason) from error
        except DialTimeout as error:
            raise OpenTimeout(str(error)) from error
        except TimeoutError as error:
            raise OpenTimeout(f"not open within {self._timeout:g} s") from error

    async def _shake_hands(self) -> tuple[WebSocketStream, dict[str, Any]]:
        url, headers = self.url, list(self._headers)
        ident = announce.make_id(os.urandom(8))
        if self._announces:
            headers.append((announce.HEADER, announce.format_offer(ident)))
        answer = await shake_hands(
            await self._dialer.dial(),
            url.target,
            url.host_header,
            origin=self._origin,
            subprotocols=self._subprotocols,
            headers=headers,
            timeout=self._limit,
        )
        stream = _confirm(answer, ident if self._announces else None)
        return stream, self._details(answer, headers)

    def _details(self, answer: Answer, headers: HeaderList) -> dict[str, Any]:
        head = answer.head
        fields = [("Host", self.url.host_header), *headers]
        return {
            "request": Request(self.url.target, Headers(fields)),
            "response": response_of(head.status or 0, head.reason, head.headers),
            "subprotocol": answer.subprotocol,
        }


def _confirm(answer: Answer, ident: str | None) -> WebSocketStream:
    """What the pump takes; a server that proved to be fastws hears so first."""
    stream, peer = answer.stream, Peer.STRANGER
    proofs = answer.head.get_all(announce.HEADER)
    if ident is not None and announce.check_answer(proofs, ident):
        peer = Peer.FASTWS
        key = default_keys()()
        frame = encode_frame(OP_TEXT, announce.SIGNAL_CONFIRM, key=key)
        stream.transport.write(frame)
    return WebSocketStream(
        stream.transport, stream.kind, stream.hold, side=Side.CLIENT, peer=peer
    )


def _parse(url: str | WsUrl) -> WsUrl:
    if isinstance(url, WsUrl):
        return url
    try:
        return WsUrl.parse(url)
    except ValueError as error:
        raise InvalidURI(url, str(error)) from None


def _make_dialer(url: WsUrl, proxy: str | None, **options: Any) -> Dialer:
    try:
        return make_dialer(url, proxy=proxy, **options)
    except ValueError as error:
        raise InvalidProxy(proxy or "", str(error)) from None


class OpenStream:
    """A byte stream to be opened: ``async with`` or ``await``."""

    def __init__(self, way: Way, limit: int) -> None:
        self._way = way
        self._limit = limit
        self._stream: Stream | None = None

    def __await__(self) -> Generator[Any, None, Stream]:
        return self._open().__await__()

    async def _open(self) -> Stream:
        stream, details = await self._way.open()
        return Stream(stream, self._way.options, details, limit=self._limit)

    async def __aenter__(self) -> Stream:
        self._stream = await self._open()
        return self._stream

    async def __aexit__(self, kind: object, exc: object, traceback: object) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.__aexit__(kind, exc, traceback)


def open_stream(url: str | WsUrl, *, limit: int = LIMIT, **options: Any) -> OpenStream:
    """Open a WebSocket as a byte stream: ``async with`` or ``await``.

    Args:
        url: ``ws://`` or ``wss://``.
        limit: bytes of the longest line; twice as many wait to be read before the
            peer is stopped.
        options: ``origin``, ``subprotocols``, ``additional_headers``, ``ssl``,
            ``server_hostname``, ``proxy``, ``unix`` and ``open_timeout`` as for
            :func:`fastws.connect`; ``announce``: ``False`` keeps from the server that
            this is fastws, and from the stream its half-close; and the limits of
            :func:`fastws.ws.transport.stream_options`: ``ping_interval``,
            ``ping_timeout``, ``linger``, ``half_close_timeout``, ``idle_timeout``,
            ``max_message``, ``on_eof``.

    Raises:
        InvalidURI: the URL cannot be understood; also a ``ValueError``.
        InvalidProxy: nor can the proxy; also a ``ValueError``.

    On opening, these are raised:
        DialError: no connection; ``OpenTimeout`` when the time was over.
        InvalidHandshake: ``InvalidStatus`` for an answer other than 101,
            ``InvalidMessage`` for one that is none.
    """
    return OpenStream(Way(url, **options), limit)


async def open_transport(
    url: str | WsUrl, protocol_factory: Callable[[], ProtocolT], **options: Any
) -> tuple[WebSocketTransport, ProtocolT]:
    """Open a WebSocket as an asyncio transport.

    Args:
        url: ``ws://`` or ``wss://``.
        protocol_factory: makes an ``asyncio.Protocol`` or ``BufferedProtocol``.
        options: as for :func:`open_stream`, without ``limit``.

    Returns:
        The transport and the protocol, as ``loop.create_connection`` does.

    Raises:
        DialError: no connection; ``OpenTimeout`` when the time was over.
        InvalidHandshake: ``InvalidStatus`` for an answer other than 101,
            ``InvalidMessage`` for one that is none.
        InvalidURI: the URL cannot be understood; also a ``ValueError``.
        InvalidProxy: nor can the proxy; also a ``ValueError``.
    """
    way = Way(url, **options)
    protocol = protocol_factory()
    stream, details = await way.open()
    return WebSocketTransport(stream, protocol, way.options, details), protocol
