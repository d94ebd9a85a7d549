"""``fastws.connect``: clients of the coroutine API.

Source: RFC 6455 section 4.1. Names and meanings are those of ``websockets``.
"""

import asyncio
import base64
import logging
import os
import socket
import ssl as tls
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, Unpack
from urllib.parse import unquote

from fastws._consts import Side
from fastws.config.endpoint import WsUrl
from fastws.config.proxy import ProxyUrl, proxy_from_environment
from fastws.exceptions import (
    ConfigError,
    Denied,
    DialError,
    DialTimeout,
    InvalidHandshake,
    InvalidMessage,
    InvalidProxy,
    InvalidStatus,
    InvalidURI,
    OpenTimeout,
    RemoteProtocolError,
    SecurityError,
    Unsupported,
)
from fastws.net.backoff import Backoff
from fastws.net.dial import Dialer
from fastws.net.upgrade import NO_HEAD
from fastws.typing import LoggerLike
from fastws.wire.deflate import Deflate
from fastws.wire.head import Head
from fastws.ws.connection import Connection
from fastws.ws.heads import (
    PRODUCT,
    HeadersLike,
    Request,
    Response,
    pairs_of,
    request_of,
    response_of,
)
from fastws.ws.limits import (
    NO_LIMIT,
    Limits,
    MaxQueue,
    Options,
    logger_of,
    names_of,
    options_of,
    plain_limits,
    water_marks,
)
from fastws.ws.open import (
    Openable,
    confirm_codec,
    make_dialer,
    shake_hands,
    start_client,
)
from fastws.ws.protocol import WebSocket
from fastws.ws.redirect import (
    MAX_REDIRECTS,
    is_same_origin,
    redirect_of,
    without_credentials,
)

logger = logging.getLogger("fastws.ws")

_PASSING = (500, 502, 503, 504)


class ClientConnection(Connection):
    """The client's end of a WebSocket; made by :func:`connect`."""

    def __init__(self, request: Request, max_queue: MaxQueue) -> None:
        super().__init__(max_queue)
        self._request = request
        self._head: Head | None = None

    @property
    def request(self) -> Request:
        """What was asked for, without the fields that every upgrade has."""
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

    Failures to connect, servers that close instead of an answer and the statuses
    500, 502, 503 and 504 pass.
    """
    if isinstance(exc, InvalidStatus):
        return None if exc.status in _PASSING else exc
    if isinstance(exc, InvalidMessage) and isinstance(exc.__cause__, EOFError):
        return None
    if isinstance(exc, OSError) and not isinstance(exc, Denied | Unsupported):
        return None
    return exc


@dataclass(frozen=True, slots=True)
class _Settings:
    """Arguments of :func:`connect`."""

    options: Options
    dialing: dict[str, Any]
    origin: str | None
    subprotocols: Sequence[str]
    headers: list[tuple[str, str]]
    deflate: Deflate | None
    max_queue: MaxQueue
    timeout: float | None
    process_exception: Callable[[Exception], Exception | None]
    delays: Callable[[], Iterator[float]] | None
    logger: LoggerLike
    create_connection: Callable[[Request, MaxQueue], ClientConnection]


class _DialOptions(TypedDict, total=False):
    ssl: tls.SSLContext | Literal[True] | None
    server_hostname: str | None
    host: str | None
    port: int | None
    sock: socket.socket | None
    unix: str | os.PathLike[str] | None


class _Options(_DialOptions, Limits, total=False):
    """What a way out and a connection may be limited to, by name."""


class Connect(Openable[ClientConnection]):
    """A way to open one WebSocket, or one after the other; see :func:`connect`."""

    _made_by = "connect()"

    def __init__(self, url: WsUrl, settings: _Settings) -> None:
        self._url = url
        self._settings = settings
        self._dialer = _dialer_of(url, settings.dialing)

    # -- one after the other -------------------------------------------------------

    async def __aiter__(self) -> AsyncIterator[ClientConnection]:
        """Connect again whenever a connection has ended or could not be made."""
        loop = asyncio.get_running_loop()
        backoff, delays = Backoff(), self._delays()
        while True:
            lasted, failed = 0.0, None
            try:
                connection = await self._open()
            except Exception as exc:
                failed = exc
                self._judge(exc)
            else:
                since = loop.time()
                async with connection:
                    yield connection
                lasted = loop.time() - since
                delays = self._delays()
            if delays is None:
                delay = backoff.next_delay(lasted)
            else:
                delay = 0.0 if failed is None else next(delays)
            if failed is not None:
                self._settings.logger.info(
                    "connect failed; reconnecting in %.1f seconds: %s", delay, failed
                )
            await asyncio.sleep(delay)

    def _delays(self) -> Iterator[float] | None:
        delays = self._settings.delays
        return None if delays is None else delays()

    def _judge(self, exc: Exception) -> None:
        """Raise unless it passes."""
        try:
            failure = self._settings.process_exception(exc)
        except Exception as raised:
            failure = raised
        if failure is exc:
            raise exc
        if failure is not None:
            raise failure from exc

    # -- one -----------------------------------------------------------------------

    async def _open(self) -> ClientConnection:
        timeout = self._settings.timeout
        try:
            async with asyncio.timeout(timeout):
                return await self._follow()
        except InvalidHandshake:
            raise
        except RemoteProtocolError as error:
            is_end = error.reason == NO_HEAD
            cause = EOFError(error.reason) if is_end else error
            raise InvalidMessage(error.reason) from cause
        except DialTimeout as error:
            raise OpenTimeout(str(error)) from error
        except DialError:
            raise
        except TimeoutError as error:
            raise OpenTimeout(f"not open within {timeout:g} s") from error

    async def _follow(self) -> ClientConnection:
        """Shake hands with the server, or with the one it redirects to."""
        url, dialer, headers = self._url, self._dialer, self._settings.headers
        for _ in range(MAX_REDIRECTS + 1):
            try:
                return await self._shake_hands(url, dialer, headers)
            except InvalidStatus as error:
                error.response = response_of(
                    error.status, error.phrase, error.fields, error.body
                )
                target = redirect_of(error, url)
                if target is None:
                    raise
                is_used_up = self._settings.dialing["sock"] is not None
                if is_used_up or not is_same_origin(url, target):
                    dialer = self._elsewhere(target, error)
                    headers = without_credentials(headers)
                url = target
        raise SecurityError(f"more than {MAX_REDIRECTS} redirects")

    def _elsewhere(self, target: WsUrl, answer: InvalidStatus) -> Dialer:
        """The dialer for another origin."""
        dialing = dict(self._settings.dialing)
        if any(dialing[name] is not None for name in ("unix", "sock", "host", "port")):
            raise ValueError(
                f"the server redirects to {target.display}, but the address was given"
            ) from answer
        if not target.secure:
            dialing["ssl"] = None
        return _dialer_of(target, dialing)

    async def _shake_hands(
        self, url: WsUrl, dialer: Dialer, headers: list[tuple[str, str]]
    ) -> ClientConnection:
        settings = self._settings
        deflate = settings.deflate
        asked: dict[str, Any] = {
            "origin": settings.origin,
            "subprotocols": settings.subprotocols,
            "extensions": None if deflate is None else deflate.offer(),
            "headers": headers,
        }
        answer = await shake_hands(
            await dialer.dial(),
            url.target,
            url.host_header,
            timeout=NO_LIMIT if settings.timeout is None else settings.timeout,
            **asked,
        )
        codec = confirm_codec(deflate, answer)
        request = request_of(url.target, url.host_header, **asked)
        connection = settings.create_connection(request, settings.max_queue)
        connection._head = answer.head
        connection._logger = settings.logger
        loop = asyncio.get_running_loop()
        ws = WebSocket(loop, Side.CLIENT, settings.options, codec)
        start_client(ws, answer, connection)
        return connection


def connect(
    uri: str | WsUrl,
    *,
    origin: str | None = None,
    subprotocols: Sequence[str] | None = None,
    compression: str | Deflate | None = None,
    additional_headers: HeadersLike | None = None,
    user_agent_header: str | None = PRODUCT,
    proxy: str | Literal[True] | None = True,
    process_exception: Callable[[Exception], Exception | None] = process_exception,
    open_timeout: float | None = 10.0,
    reconnect_delays: Callable[[], Iterator[float]] | None = None,
    max_queue: MaxQueue = 16,
    logger: "LoggerLike | None" = None,
    create_connection: Callable[..., ClientConnection] | None = None,
    **options: Unpack[_Options],
) -> Connect:
    """Open a WebSocket: ``async with``, ``await``, or ``async for`` to reconnect.

    Redirects are followed, ten at most; another server does not get ``Authorization``
    and ``Cookie``.

    Args:
        uri: ``ws://`` or ``wss://``; a user and password in it are sent as Basic
            credentials.
        origin: value of the Origin field.
        subprotocols: offered, best first.
        compression: ``"deflate"`` or a :class:`fastws.Deflate` offers to pack messages
            (RFC 7692); by default nothing is offered.
        additional_headers: further fields of the request.
        user_agent_header: value of User-Agent, ``None`` for no such field.
        proxy: ``True`` for the one that ``https_proxy``, ``http_proxy`` and
            ``no_proxy`` name; URL of an http, https, socks5 or socks5h proxy;
            ``None`` for none.
        process_exception: of a reconnecting client: returns ``None`` to try again,
            or what to raise.
        open_timeout: seconds for everything together; ``None``: no limit.
        reconnect_delays: makes the delays between attempts, in seconds, from the last
            success on; by default random ones that double from 0.2 to 30 s.
        max_queue: received messages that wait before reading stops; or that number
            and the one at which it goes on; ``None``: no limit.
        logger: where log lines of this client go.
        create_connection: a subclass of :class:`ClientConnection`.
        ssl: a client context for wss; by default the system's authorities count.
        server_hostname: name to ask for and verify, the URL's host by default.
        host: what to connect to in place of the URL's host.
        port: likewise.
        sock: a socket that is connected already; owned from the opening on.
        unix: path of a unix socket to connect to.
        options: ``max_size``, ``ping_interval``, ``ping_timeout``, ``close_timeout``,
            ``write_limit`` and ``max_unsent``: see :class:`fastws.ws.limits.Options`.

    Raises:
        InvalidURI: the URL cannot be understood; also a ``ValueError``.
        InvalidProxy: nor can the proxy; also a ``ValueError``.
        ValueError: ``max_queue`` or ``compression`` makes no sense, or arguments
            exclude each other.

    On opening, these are raised:
        OSError: no connection, as a ``DialError``; ``OpenTimeout``, which is a
            ``TimeoutError``, when the time was over.
        InvalidHandshake: ``InvalidStatus`` for an answer other than 101,
            ``InvalidMessage`` for one that is none, ``InvalidHeader``,
            ``NegotiationError`` or ``SecurityError``.
    """
    url, credentials = _url_of(uri)
    headers = _headers_of(additional_headers, credentials, user_agent_header)
    limits: dict[str, Any] = dict(options)
    dialing = {name: limits.pop(name, None) for name in _DialOptions.__annotations__}
    timeout = NO_LIMIT if open_timeout is None else open_timeout
    settings = _Settings(
        options=options_of(plain_limits(limits)),
        dialing={**dialing, "proxy": proxy, "timeout": timeout},
        origin=origin,
        subprotocols=names_of(subprotocols),
        headers=headers,
        deflate=Deflate.parse(compression),
        max_queue=water_marks(max_queue),
        timeout=open_timeout,
        process_exception=process_exception,
        delays=reconnect_delays,
        logger=logger_of(logger),
        create_connection=create_connection or ClientConnection,
    )
    return Connect(url, settings)


def unix_connect(
    path: str | os.PathLike[str] | None = None,
    uri: str | WsUrl | None = None,
    **options: Any,
) -> Connect:
    """:func:`connect` to a unix socket.

    Args:
        path: of the socket; or ``sock=`` is one that is connected already.
        uri: by default ``ws://localhost/``, with ``ssl`` ``wss://localhost/``.
        options: as for :func:`connect`.

    Raises:
        ValueError: neither path nor ``sock``; and what :func:`connect` raises.
    """
    if path is None and options.get("sock") is None:
        raise ValueError("give the path of a unix socket, or sock")
    if uri is None:
        secure = options.get("ssl") is not None
        uri = "wss://localhost/" if secure else "ws://localhost/"
    return connect(uri, unix=path, **options)


def _url_of(uri: str | WsUrl) -> tuple[WsUrl, list[tuple[str, str]]]:
    """The URL, and a field for the user in it."""
    if isinstance(uri, WsUrl):
        return uri, []
    scheme, mark, rest = uri.partition("://")
    authority, slash, path = rest.partition("/")
    userinfo, at, place = authority.rpartition("@")
    fields = []
    if at and "?" not in authority:
        uri = f"{scheme}{mark}{place}{slash}{path}"
        user, _, password = userinfo.partition(":")
        pair = f"{unquote(user)}:{unquote(password)}".encode()
        value = f"Basic {base64.b64encode(pair).decode()}"  # RFC 7617
        fields = [("Authorization", value)]
    try:
        return WsUrl.parse(uri), fields
    except ValueError as error:
        raise InvalidURI(uri, str(error)) from None


def _headers_of(
    additional: HeadersLike | None,
    credentials: list[tuple[str, str]],
    user_agent: str | None,
) -> list[tuple[str, str]]:
    """All fields that the caller chose; those that are given win over our own."""
    fields = pairs_of(additional)
    ours = list(credentials)
    if user_agent is not None:
        ours.append(("User-Agent", user_agent))
    given = {name.lower() for name, _ in fields}
    return [pair for pair in ours if pair[0].lower() not in given] + fields


def _dialer_of(url: WsUrl, dialing: dict[str, Any]) -> Dialer:
    return make_dialer(url, **{**dialing, "proxy": _proxy_of(url, dialing)})


def _proxy_of(url: WsUrl, dialing: dict[str, Any]) -> ProxyUrl | None:
    proxy = dialing["proxy"]
    if dialing["unix"] is not None or dialing["sock"] is not None:
        return None
    try:
        if proxy is True:
            return proxy_from_environment(os.environ, url, dialing["host"] or url.host)
        return None if proxy is None else ProxyUrl.parse(proxy)
    except ConfigError as error:
        raise InvalidProxy(error.path, str(error)) from None
    except ValueError as error:
        raise InvalidProxy(proxy, str(error)) from None
