"""``fastws.connect``: clients of the coroutine API.

Source: RFC 6455 section 4.1. Names and meanings are those of ``websockets``.
"""

import asyncio
import ssl as tls
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from typing import Any

from fastws._consts import Side
from fastws.config.endpoint import WsUrl
from fastws.exceptions import (
    Denied,
    DialError,
    DialTimeout,
    InvalidMessage,
    InvalidProxy,
    InvalidStatus,
    InvalidURI,
    OpenTimeout,
    RemoteProtocolError,
    Unsupported,
)
from fastws.net.backoff import Backoff
from fastws.net.dial import Dialer
from fastws.wire.deflate import Deflate
from fastws.wire.head import Head
from fastws.ws.connection import Connection
from fastws.ws.heads import (
    Headers,
    HeadersLike,
    Request,
    Response,
    pairs_of,
    response_of,
)
from fastws.ws.limits import MaxQueue, Options, water_marks
from fastws.ws.open import confirm_codec, make_dialer, shake_hands, start_client
from fastws.ws.protocol import WebSocket

_NO_LIMIT = 86400.0  # seconds of an open_timeout that is None
_PASSING = (500, 502, 503, 504)


class ClientConnection(Connection):
    """The client's end of a WebSocket; made by :func:`connect`."""

    def __init__(self, request: Request, max_queue: MaxQueue) -> None:
        super().__init__(max_queue)
        self._request = request
        self._head: Head | None = None

    @property
    def request(self) -> Request:
        """What was asked for; the fields are those that the caller chose."""
        return self._request

    @property
    def response(self) -> Response | None:
        """The server's 101."""
        head = self._head
        if head is None:
            return None
        return response_of(head.status or 0, head.reason, head.headers)


def process_exception(exc: Exception) -> Exception | None:
    """Whether a reconnecting client tries again: ``None``; else what it raises.

    Failures to connect and the statuses 500, 502, 503 and 504 pass.
    """
    if isinstance(exc, InvalidStatus):
        return None if exc.status in _PASSING else exc
    if isinstance(exc, DialError) and not isinstance(exc, Denied | Unsupported):
        return None
    return exc


class Connect:
    """A way to open one WebSocket, or one after the other; see :func:`connect`."""

    def __init__(
        self,
        url: WsUrl,
        dialer: Dialer,
        options: Options,
        *,
        origin: str | None,
        subprotocols: Sequence[str],
        headers: list[tuple[str, str]],
        deflate: Deflate | None,
        max_queue: MaxQueue,
        open_timeout: float | None,
        process_exception: Callable[[Exception], Exception | None],
        backoff: Backoff,
    ) -> None:
        self._url = url
        self._dialer = dialer
        self._options = options
        self._origin = origin
        self._subprotocols = subprotocols
        self._headers = headers
        self._deflate = deflate
        self._max_queue = max_queue
        self._timeout = open_timeout
        self._process_exception = process_exception
        self._backoff = backoff
        self._connection: ClientConnection | None = None

    def __await__(self) -> Generator[Any, None, ClientConnection]:
        return self._open().__await__()

    async def __aenter__(self) -> ClientConnection:
        self._connection = await self._open()
        return self._connection

    async def __aexit__(self, kind: object, exc: object, traceback: object) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.__aexit__(kind, exc, traceback)

    async def __aiter__(self) -> AsyncIterator[ClientConnection]:
        """Connect again whenever a connection has ended or could not be made."""
        loop = asyncio.get_running_loop()
        while True:
            lasted = 0.0
            try:
                connection = await self._open()
            except Exception as exc:
                failure = self._process_exception(exc)
                if failure is exc:
                    raise
                if failure is not None:
                    raise failure from exc
            else:
                since = loop.time()
                async with connection:
                    yield connection
                lasted = loop.time() - since
            await asyncio.sleep(self._backoff.next_delay(lasted))

    async def _open(self) -> ClientConnection:
        try:
            async with asyncio.timeout(self._timeout):
                return await self._shake_hands()
        except InvalidStatus as error:
            error.response = response_of(
                error.status, error.reason, error.fields, error.body
            )
            raise
        except RemoteProtocolError as error:
            raise InvalidMessage(error.reason) from error
        except DialTimeout as error:
            raise OpenTimeout(str(error)) from error
        except TimeoutError as error:
            raise OpenTimeout(f"not open within {self._timeout:g} s") from error

    async def _shake_hands(self) -> ClientConnection:
        url = self._url
        limit = _NO_LIMIT if self._timeout is None else self._timeout
        deflate = self._deflate
        answer = await shake_hands(
            await self._dialer.dial(),
            url.target,
            url.host_header,
            origin=self._origin,
            subprotocols=self._subprotocols,
            extensions=None if deflate is None else deflate.offer(),
            headers=self._headers,
            timeout=limit,
        )
        codec = confirm_codec(deflate, answer)
        fields = [("Host", url.host_header), *self._headers]
        connection = ClientConnection(
            Request(url.target, Headers(fields)), self._max_queue
        )
        connection._head = answer.head
        ws = WebSocket(asyncio.get_running_loop(), Side.CLIENT, self._options, codec)
        start_client(ws, answer, connection)
        return connection


def connect(
    uri: str | WsUrl,
    *,
    origin: str | None = None,
    subprotocols: Sequence[str] | None = None,
    additional_headers: HeadersLike | None = None,
    ssl: tls.SSLContext | None = None,
    server_hostname: str | None = None,
    proxy: str | None = None,
    unix: str | None = None,
    compression: str | Deflate | None = None,
    open_timeout: float | None = 10.0,
    max_queue: MaxQueue = 16,
    process_exception: Callable[[Exception], Exception | None] = process_exception,
    backoff: Backoff | None = None,
    **limits: Any,
) -> Connect:
    """Open a WebSocket: ``async with``, ``await``, or ``async for`` to reconnect.

    Args:
        uri: ``ws://`` or ``wss://``.
        origin: value of the Origin field.
        subprotocols: offered, best first.
        additional_headers: further fields of the request.
        ssl: a client context for wss; by default the system's authorities count.
        server_hostname: name to ask for and verify, the URL's host by default.
        proxy: URL of an http, https, socks5 or socks5h proxy.
        unix: path of a unix socket to connect to.
        compression: ``"deflate"`` or a :class:`fastws.Deflate` offers to pack messages
            (RFC 7692); by default nothing is offered.
        open_timeout: seconds for everything together; ``None``: no limit.
        max_queue: received messages that wait before reading stops; or that number
            and the one at which it goes on; ``None``: no limit.
        process_exception: of a reconnecting client: returns ``None`` to try again,
            or what to raise.
        backoff: the delays of a reconnecting client.
        limits: as the attributes of :class:`fastws.ws.limits.Options`.

    Raises:
        InvalidURI: the URL cannot be understood; also a ``ValueError``.
        InvalidProxy: nor can the proxy; also a ``ValueError``.
        ValueError: ``max_queue`` or ``compression`` makes no sense.

    On opening, these are raised:
        DialError: no connection; ``OpenTimeout`` when the time was over.
        InvalidHandshake: ``InvalidStatus`` for an answer other than 101,
            ``InvalidMessage`` for one that is none.
    """
    url = _url_of(uri)
    dialer = _dialer_of(
        url,
        ssl=ssl,
        server_hostname=server_hostname,
        proxy=proxy,
        unix=unix,
        timeout=_NO_LIMIT if open_timeout is None else open_timeout,
    )
    return Connect(
        url,
        dialer,
        Options(**limits),
        origin=origin,
        subprotocols=tuple(subprotocols or ()),
        headers=pairs_of(additional_headers),
        deflate=Deflate.parse(compression),
        max_queue=water_marks(max_queue),
        open_timeout=open_timeout,
        process_exception=process_exception,
        backoff=backoff or Backoff(),
    )


def _url_of(uri: str | WsUrl) -> WsUrl:
    if isinstance(uri, WsUrl):
        return uri
    try:
        return WsUrl.parse(uri)
    except ValueError as error:
        raise InvalidURI(uri, str(error)) from None


def _dialer_of(url: WsUrl, *, proxy: str | None, **options: Any) -> Dialer:
    try:
        return make_dialer(url, proxy=proxy, **options)
    except ValueError as error:
        raise InvalidProxy(proxy or "", str(error)) from None
