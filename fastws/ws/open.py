"""Clients of the callback layer: from a URL to an open WebSocket.

Source: RFC 6455 section 4.1; the rules stand in :mod:`fastws.wire.handshake`.
"""

import asyncio
import os
import socket
import ssl as tls
from collections.abc import Generator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, Literal, TypeVar

from fastws._consts import CONNECT_TIMEOUT, LINGER, Side
from fastws.config.endpoint import WsUrl
from fastws.config.proxy import ProxyUrl
from fastws.exceptions import RemoteProtocolError
from fastws.net import sockopt
from fastws.net.dial import Dialer, open_stream
from fastws.net.proxy import ProxyDialer
from fastws.net.stream import ByteStream
from fastws.net.tls import client_context
from fastws.net.upgrade import ask_upgrade, read_answer
from fastws.typing import HeaderList
from fastws.wire.deflate import Codec, Deflate
from fastws.wire.handshake import build_upgrade, check_answer, make_key
from fastws.wire.head import Head
from fastws.ws.handler import Handler
from fastws.ws.limits import options_of
from fastws.ws.protocol import WebSocket

_BODY_MAX = 1024 * 1024  # bytes of a refusal's body, for who looks at it
_AT_ONCE = 0.05  # seconds of connecting that shorten no further limit

OpenedT = TypeVar("OpenedT", bound=AbstractAsyncContextManager[Any])


class Openable(Generic[OpenedT]):
    """Something to be opened: ``await`` does so, ``async with`` also closes it.

    Subclasses say how in :meth:`_open`, and in ``_made_by`` which call of the user's
    has made them.
    """

    _made_by: str
    _opened: OpenedT | None = None

    async def _open(self) -> OpenedT:
        raise NotImplementedError

    def __await__(self) -> Generator[Any, None, OpenedT]:
        return self._open().__await__()

    async def __aenter__(self) -> OpenedT:
        if self._opened is not None:
            raise RuntimeError(f"{self._made_by} is in use: one call for each block")
        self._opened = await self._open()
        return self._opened

    async def __aexit__(self, kind: Any, exc: Any, traceback: Any) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.__aexit__(kind, exc, traceback)


class Answer:
    """A server's 101 and what was agreed on with it.

    Attributes:
        head: the answer.
        subprotocol: agreed on, or ``None``.
        leftover: bytes that came behind the head.
        stream: the connection, owned.
    """

    __slots__ = ("head", "leftover", "stream", "subprotocol")

    def __init__(self, stream: ByteStream, head: Head, leftover: bytes) -> None:
        self.stream = stream
        self.head = head
        self.leftover = leftover
        self.subprotocol: str | None = None


async def shake_hands(
    stream: ByteStream,
    target: str,
    host: str,
    *,
    origin: str | None = None,
    subprotocols: Sequence[str] = (),
    extensions: str | None = None,
    headers: HeaderList = (),
    timeout: float,
) -> Answer:
    """Ask for a WebSocket on a fresh connection, which a failure uses up.

    Args:
        stream: owned from now on.
        target: path and query.
        host: the Host field.
        origin: the Origin field.
        subprotocols: offered, best first.
        extensions: offered; the caller checks what is accepted.
        headers: further fields.
        timeout: seconds until the head of the answer has to be complete.

    Raises:
        InvalidStatus: the server answered something other than 101.
        RemoteProtocolError: the answer is no valid handshake.
        DialTimeout: no answer in time.
    """
    transport = stream.transport
    key = make_key(os.urandom(16))
    try:
        request = build_upgrade(
            target,
            host,
            key,
            origin=origin,
            subprotocols=subprotocols,
            extensions=extensions,
            headers=headers,
        )
        hold = ask_upgrade(stream, request)
        head = await read_answer(hold, timeout, f"{timeout:.3g} s", _BODY_MAX)
        answer = Answer(ByteStream(transport, stream.kind, hold), head, hold.leftover)
        answer.subprotocol = check_answer(
            head, key, subprotocols=subprotocols, extensions=extensions is not None
        )
    except BaseException:
        sockopt.reset(transport)
        raise
    return answer


class _SocketDialer(Dialer):
    """Takes a socket that is connected already; once.

    Args:
        sock: owned from the first :meth:`dial` on.
        options: as for :class:`Dialer`.
    """

    __slots__ = ("_sock",)

    def __init__(self, sock: socket.socket, **options: Any) -> None:
        is_tcp = sock.family in (socket.AF_INET, socket.AF_INET6)
        super().__init__(("", 0) if is_tcp else "", **options)
        self.name = "the socket that was given"
        self._sock: socket.socket | None = sock

    async def dial(
        self, timeout: float | None = None, preface: bytes = b""
    ) -> ByteStream:
        sock, self._sock = self._sock, None
        if sock is None:
            raise ValueError("a socket that was given connects only once")
        sock.setblocking(False)
        if self.tls is not None:
            return await self.start_tls(sock, self.tls)
        return await open_stream(asyncio.get_running_loop(), sock)


def make_dialer(
    url: WsUrl,
    *,
    ssl: tls.SSLContext | Literal[True] | None = None,
    server_hostname: str | None = None,
    proxy: str | ProxyUrl | None = None,
    unix: str | os.PathLike[str] | None = None,
    sock: socket.socket | None = None,
    host: str | None = None,
    port: int | None = None,
    timeout: float = CONNECT_TIMEOUT,
) -> Dialer:
    """What connects to ``url``; arguments as for :func:`fastws.connect`.

    Raises:
        ValueError: the proxy cannot be understood, or arguments exclude each other.
    """
    if ssl is not None and not url.secure:
        raise ValueError("ssl goes with a wss:// URL")
    options: dict[str, Any] = {
        "tls": client_context() if ssl in (None, True) and url.secure else ssl,
        "server_hostname": server_hostname or url.host,
        "connect_timeout": timeout,
        "handshake_timeout": timeout,
        "linger": LINGER,
    }
    if unix is not None or sock is not None:
        if any(value is not None for value in (proxy, host, port)):
            raise ValueError("a unix socket is not reached through a proxy or host")
        if sock is None:
            return Dialer(os.fspath(unix or ""), **options)
        return _SocketDialer(sock, **options)
    address = host or url.host, url.port if port is None else port
    if isinstance(proxy, str):
        proxy = ProxyUrl.parse(proxy)
    if proxy is None or proxy.is_off:
        return Dialer(address, **options)
    return ProxyDialer(
        address,
        scheme=proxy.scheme,
        proxy=proxy.address,
        user=proxy.user,
        password=proxy.password,
        **options,
    )


async def open_websocket(
    url: str | WsUrl,
    handler: Handler,
    *,
    origin: str | None = None,
    subprotocols: Sequence[str] = (),
    additional_headers: HeaderList = (),
    ssl: tls.SSLContext | None = None,
    server_hostname: str | None = None,
    proxy: str | None = None,
    unix: str | None = None,
    compression: str | Deflate | None = None,
    open_timeout: float = 10.0,
    **limits: Any,
) -> WebSocket:
    """Open a WebSocket whose messages go to ``handler``.

    Args:
        url: ``ws://`` or ``wss://``.
        handler: ``on_open`` has been called when this returns.
        origin: value of the Origin field.
        subprotocols: offered, best first.
        additional_headers: further fields of the request.
        ssl: a client context for wss; by default the system's authorities count.
        server_hostname: name to ask for and verify, the URL's host by default.
        proxy: URL of an http, https, socks5 or socks5h proxy, user and password in
            it if it wants them.
        unix: path of a unix socket to connect to.
        compression: ``"deflate"`` or a :class:`fastws.Deflate` offers to pack messages
            (permessage-deflate, RFC 7692); by default nothing is offered.
        open_timeout: seconds for everything together.
        limits: as the attributes of :class:`fastws.ws.limits.Options`.

    Raises:
        ValueError: the URL, the proxy or ``compression`` cannot be understood.
        DialError: no connection; :class:`DialTimeout` when the time was over.
        InvalidStatus: the server answered something other than 101.
        RemoteProtocolError: the answer is no valid handshake.
    """
    options = options_of(limits)
    deflate = Deflate.parse(compression)
    parsed = WsUrl.parse(url) if isinstance(url, str) else url
    loop = asyncio.get_running_loop()
    dialer = make_dialer(
        parsed,
        ssl=ssl,
        server_hostname=server_hostname,
        proxy=proxy,
        unix=unix,
        timeout=open_timeout,
    )
    stream, left = await _dial(dialer, open_timeout)
    answer = await shake_hands(
        stream,
        parsed.target,
        parsed.host_header,
        origin=origin,
        subprotocols=subprotocols,
        extensions=None if deflate is None else deflate.offer(),
        headers=additional_headers,
        timeout=left,
    )
    ws = WebSocket(loop, Side.CLIENT, options, confirm_codec(deflate, answer))
    return start_client(ws, answer, handler)


async def _dial(dialer: Dialer, limit: float) -> tuple[ByteStream, float]:
    """Connect; what is left of ``limit`` then, all of it if it was quick."""
    loop = asyncio.get_running_loop()
    since = loop.time()
    stream = await dialer.dial()
    spent = loop.time() - since
    return stream, limit if spent < _AT_ONCE else max(limit - spent, 0.0)


def confirm_codec(deflate: Deflate | None, answer: Answer) -> Codec | None:
    """What was agreed on; the connection does not outlive a wrong answer."""
    if deflate is None:
        return None
    try:
        return deflate.confirm(answer.head.get_all("sec-websocket-extensions"))
    except RemoteProtocolError:
        sockopt.reset(answer.stream.transport)
        raise


def start_client(ws: WebSocket, answer: Answer, handler: Handler) -> WebSocket:
    """Hand a connection over to its WebSocket, also one that is gone already."""
    hold, stream = answer.stream.hold, answer.stream
    ws.subprotocol = answer.subprotocol
    if hold.lost:
        ws.lost_early(handler, hold.error)
        return ws
    ws.start(stream.transport, stream.kind, handler, leftover=answer.leftover)
    if hold.eof and ws.transport is not None:
        ws.eof_received()
        ws.transport.close()
    return ws
