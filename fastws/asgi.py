"""A wts endpoint inside an ASGI application: each WebSocket becomes one TCP connection.

Mount it where the WebSockets are to arrive (Starlette, FastAPI), or run it by itself
under any ASGI 3 server::

    app.mount("/ssh", fastws.asgi.WsToTcp("127.0.0.1:22", auth_token=("secret",)))

Everything is decided by the code of ``fastws wts``. It talks HTTP and WebSocket to a
client in this process, which says the same to the server in ASGI messages. What those
cannot say is lost: see docs/howto/asgi.md. Source: ASGI 3.0, "HTTP & WebSocket ASGI
Message Format" 2.5.
"""

import asyncio
import string
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from contextvars import ContextVar
from typing import Any, TypeAlias
from urllib.parse import quote

from fastws._backend import FrameDecoder, encode_frame
from fastws._consts import (
    CLOSE_ABNORMAL,
    CLOSE_INTERNAL_ERROR,
    CLOSE_NO_STATUS,
    CLOSE_NORMAL,
    MAX_CONNECTIONS,
    MESSAGE_END,
    OP_BINARY,
    OP_CLOSE,
    OP_PING,
    OP_PONG,
    OP_TEXT,
    Side,
)
from fastws.config import schema
from fastws.config.endpoint import is_loopback
from fastws.exceptions import ConfigError, FastwsError, LocalProtocolError
from fastws.modes.ws_to_tcp import WsToTcpRunner
from fastws.net.memory import MemoryTransport, memory_pair
from fastws.net.serving import Serving
from fastws.wire.frames import Close
from fastws.wire.head import Head, build_request
from fastws.wire.http1 import HeadReader

__all__ = ["WsToTcp"]

Scope: TypeAlias = MutableMapping[str, Any]
Event: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Event]]
Send: TypeAlias = Callable[[Event], Awaitable[None]]

_NOT_HERE = (
    *("listen", "cert", "key", "client_ca", "plain_too", "proxy_protocol", "web"),
    *("oneshot", "ping", "ping_deadline"),
)
_UNREADABLE = b"?\r\n\r\n"  # answered with 400
_KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # the real one was the server's to answer
_UNMASKED = bytes(4)  # a masking key that changes nothing
_LOST = (CLOSE_ABNORMAL, 1015)  # codes of no Close (RFC 6455 section 7.4.1)
_AHEAD = 64 * 1024  # bytes read from the server before the target has taken them
# Of the connection to the ASGI server, not of the request; it has checked them.
_HOP_FIELDS = frozenset(
    {
        *("connection", "content-length", "keep-alive", "te", "transfer-encoding"),
        *("upgrade", "http2-settings", "proxy-connection", "expect"),
        *("sec-websocket-key", "sec-websocket-version", "sec-websocket-extensions"),
        *("sec-websocket-protocol", "sec-websocket-accept"),
    }
)

_server_host: ContextVar[str] = ContextVar("fastws_asgi_server", default="")


class WsToTcp:
    """An ASGI 3 application that joins each WebSocket with one TCP connection.

    The target is connected before the WebSocket is accepted; where that fails the
    client gets 502 or 504 from servers with the ``websocket.http.response``
    extension, else 403. For one event loop at a time.

    Args:
        target: as for ``fastws wts``: ``host:port``, ``tls://host:port``,
            ``unix:/path``, ``udp:host:port``.
        more_targets: share the connections with it.
        options: those of :class:`fastws.WsToTcp`, without what the server decides:
            addresses, certificates, pings.

    Raises:
        ConfigError: an option makes no sense, or a file cannot be used.
        TypeError: there is no such option.
    """

    def __init__(self, target: str, *more_targets: str, **options: Any) -> None:
        for name in _NOT_HERE:
            if name in options:
                raise ConfigError(name, "belongs to the ASGI server")
        self._spec = schema.WsToTcp(
            listen="fd:0",  # never opened
            target=target,
            more_targets=more_targets,  # type: ignore[arg-type]
            **options,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._start()

    def _start(self) -> None:
        self._runner = _Runner(self._spec)
        self._runner.open()

    def __repr__(self) -> str:
        return f"<fastws.asgi.WsToTcp {self._runner.describe()}>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one scope: ``websocket``, ``http`` or ``lifespan``."""
        kind = scope["type"]
        if kind == "lifespan":
            await self._live(receive, send)
        elif kind in ("websocket", "http"):
            await self._serve(scope, receive, send)
        else:
            raise NotImplementedError(f"ASGI scope {kind!r}")

    async def aclose(self) -> None:
        """Drain as the options say: Close 1001 to whoever stays, then a reset.

        Servers that speak lifespan call it; a mounted application hears of that
        from nobody, so the lifespan of the outer one has to call it.
        """
        if self._loop is asyncio.get_running_loop():
            await self._runner.drain()

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            event = await receive()
            if event["type"] == "lifespan.startup":
                if self._runner.is_draining:
                    self._start()
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.aclose()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._loop is not None:  # of a test client, which makes one each time
                self._start()
            self._loop = loop
        runner = self._runner
        try:
            request = _request(scope)
        except LocalProtocolError:  # a field that no client of wts could send
            request = _UNREADABLE
        client, server = scope.get("client"), scope.get("server")
        peer = None if client is None else tuple(client)
        own = None if server is None or server[1] is None else tuple(server)
        _server_host.set("" if own is None else own[0])
        protocol = runner.listener.factory()
        protocol.peer = peer
        visitor = _Visitor(scope, runner.spec.linger)
        near, far = memory_pair(
            loop, protocol, visitor, {"peername": peer, "sockname": own}
        )
        protocol.connection_made(near)
        near.resume_reading()
        far.write(request)
        handling = runner.listener.spawn(runner.handle(near, protocol))
        await visitor.run(near, far, handling, receive, send)


class _Runner(WsToTcpRunner):
    """``fastws wts`` without a listener."""

    def open(self, workers: int = 1) -> None:
        options = self.listener_options()
        limit = self.spec.max_connections or MAX_CONNECTIONS
        self.listener = _Door(limit, options["protocol_factory"])
        self.listeners = [self.listener]
        self.is_ready = True

    def is_on_loopback(self) -> bool:
        return is_loopback(_server_host.get())


class _Door(Serving):
    """What a runner asks its listener for.

    Args:
        max_connections: at once.
        factory: makes the protocol that reads a request.
    """

    def __init__(self, max_connections: int, factory: Callable[[], Any]) -> None:
        super().__init__()
        self.max_connections = max_connections
        self.factory = factory
        self.addresses: list[str] = []
        self.tls = None

    def spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Serve one connection."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def close(self) -> None:
        """Nobody is accepted here."""


class _Visitor(asyncio.Protocol):
    """The client of one request: HTTP and WebSocket to wts, ASGI to the server.

    Args:
        scope: of the request.
        linger: seconds that the server has for the last messages.
    """

    def __init__(self, scope: Scope, linger: float) -> None:
        self._scope = scope
        self._linger = linger
        self._near: MemoryTransport
        self._far: MemoryTransport
        self._reader: HeadReader | None = HeadReader(Side.CLIENT)
        self._answer: Head | None = None  # other than 101
        self._decoder = FrameDecoder(Side.CLIENT)
        self._message = bytearray()  # of wts, incomplete
        self._body = b""
        self._queue: deque[Event] = deque()  # for the server
        self._unsent = 0  # bytes in it, and one for each event
        self._news = asyncio.Event()  # something is in the queue, or nothing will be
        self._room = asyncio.Event()  # wts takes more
        self._room.set()
        self._is_closed = self._is_over = False

    async def run(
        self,
        near: MemoryTransport,
        far: MemoryTransport,
        handling: "asyncio.Task[None]",
        receive: Receive,
        send: Send,
    ) -> None:
        """Ask, and pass on what both sides say until ``handling`` is done."""
        self._near, self._far = near, far
        loop = asyncio.get_running_loop()
        far.set_write_buffer_limits(high=_AHEAD, low=_AHEAD // 4)
        far.resume_reading()
        sending = loop.create_task(self._guard(self._send_all(send)))
        receiving = loop.create_task(self._guard(self._receive_all(receive)))
        tasks = (handling, sending, receiving)
        try:
            await asyncio.wait({handling})
            near.abort()
            await self._finish(sending)
        finally:
            for task in tasks:
                task.cancel()
            near.abort()
            await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.result()

    async def _guard(self, work: Awaitable[None]) -> None:
        """Whatever the server raises ends the connection."""
        try:
            await work
        except OSError:  # of servers whose client has gone
            self._is_closed = True
            self._far.abort()
        except Exception:
            self._is_closed = True
            self._far.abort()
            raise

    async def _finish(self, sending: "asyncio.Task[None]") -> None:
        """Let the server have what is left, and an end."""
        if self._scope["type"] == "websocket" and not self._is_closed:
            self._close(Close(CLOSE_INTERNAL_ERROR, ""))
        self._is_over = True
        self._news.set()
        await asyncio.wait({sending}, timeout=self._linger)

    # -- what wts says ---------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._reader is None:
            self._receive_frames(data)
            return
        if self._answer is not None:
            self._body += data
            return
        head = self._reader.receive_data(data)
        if head is None:
            return
        if head.status == 101:
            leftover, self._reader = self._reader.leftover, None
            self._accept(head)
            self._receive_frames(leftover)
        else:
            self._answer, self._body = head, self._reader.leftover

    def _accept(self, head: Head) -> None:
        fields = [
            (name.lower().encode("latin-1"), value.encode("latin-1"))
            for name, value in head.headers
            if name.lower() not in _HOP_FIELDS
        ]
        chosen = head.get("sec-websocket-protocol")
        self._put(
            {"type": "websocket.accept", "subprotocol": chosen, "headers": fields}
        )

    def _receive_frames(self, data: bytes) -> None:
        for opcode, payload, flags in self._decoder.receive_data(bytearray(data)):
            if opcode == OP_PING:  # the server looks after the connection
                self._far.write(encode_frame(OP_PONG, payload, key=_UNMASKED))
            elif opcode == OP_CLOSE:
                self._close(Close.parse(bytes(payload)))
            elif opcode in (OP_TEXT, OP_BINARY):
                self._message += payload
                if flags & MESSAGE_END:
                    self._send_message(opcode)

    def _send_message(self, opcode: int) -> None:
        message = bytes(self._message)
        self._message.clear()
        if opcode == OP_TEXT:
            self._put({"type": "websocket.send", "text": message.decode()})
        else:
            self._put({"type": "websocket.send", "bytes": message})

    def _close(self, close: Close) -> None:
        code = CLOSE_NORMAL if close.code == CLOSE_NO_STATUS else int(close.code)
        self._put({"type": "websocket.close", "code": code, "reason": close.reason})

    def eof_received(self) -> bool:
        """The end of an answer, or the end after both Closes."""
        if self._answer is not None:
            self._respond(self._answer, self._body)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._room.set()
        self._near.lose(None)  # nobody takes what wts still has to say

    def _respond(self, head: Head, body: bytes) -> None:
        """An answer other than 101."""
        kind = "http.response"
        if self._scope["type"] == "websocket":
            kind = "websocket.http.response"
            if kind not in (self._scope.get("extensions") or ()):
                return
        fields = []
        is_http1 = self._scope.get("http_version", "1.1").startswith("1")
        for name, value in head.headers:
            if name.lower() == "connection":
                continue
            if name.lower() == "upgrade":  # RFC 9110 section 7.8
                if not is_http1:
                    continue
                fields.append((b"connection", b"upgrade"))
            fields.append((name.lower().encode("latin-1"), value.encode("latin-1")))
        self._is_closed = True
        start = {"type": f"{kind}.start", "status": head.status, "headers": fields}
        self._put(start)
        self._put({"type": f"{kind}.body", "body": body})

    # -- to the server and from it ---------------------------------------------------

    def _put(self, event: Event) -> None:
        if event["type"] == "websocket.close":
            if self._is_closed:
                return
            self._is_closed = True
        self._queue.append(event)
        self._unsent += _size_of(event)
        self._far.keep(self._unsent)
        self._far.pause_reading()  # until the server has taken it
        self._news.set()

    async def _send_all(self, send: Send) -> None:
        queue = self._queue
        while True:
            while queue:
                event = queue.popleft()
                await send(event)
                self._unsent -= _size_of(event)
                self._far.keep(self._unsent)
            if self._is_over:
                return
            self._news.clear()
            self._far.resume_reading()
            await self._news.wait()

    def pause_writing(self) -> None:
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()

    async def _receive_all(self, receive: Receive) -> None:
        if self._scope["type"] != "websocket":
            return
        while not self._far.is_closing():
            event = await receive()
            kind = event["type"]
            if kind == "websocket.receive":
                text = event.get("text")
                opcode = OP_BINARY if text is None else OP_TEXT
                data = event.get("bytes") or b"" if text is None else text.encode()
                self._far.write(encode_frame(opcode, data, key=_UNMASKED))
                await self._room.wait()
            elif kind == "websocket.disconnect":
                self._leave(event)

    def _leave(self, event: Event) -> None:
        """The client has gone: by a Close, which the server has answered, or lost."""
        self._is_closed = True
        code = event.get("code") or CLOSE_NO_STATUS
        if code in _LOST or _is_made_up(event, self._scope):
            # What it said before comes first, if the target takes it in time.
            loop = asyncio.get_running_loop()
            loop.call_later(self._linger, self._far.abort)
        else:
            close = _close_of(code, event.get("reason") or "")
            self._far.write(encode_frame(OP_CLOSE, close.encode(), key=_UNMASKED))
        self._far.close()


def _is_made_up(event: Event, scope: Scope) -> bool:
    """Whether 1005 stands for no Close at all.

    uvicorn says so of clients that it has lost. Of a Close it also tells the reason,
    which is empty where there is no code (ASGI 2.5); older servers never tell one.
    """
    version = scope.get("asgi", {}).get("spec_version", "2.0").split(".")
    tells = [int(part) for part in version if part.isdecimal()] >= [2, 4]
    return tells and event.get("code") == CLOSE_NO_STATUS and "reason" not in event


def _size_of(event: Event) -> int:
    return 1 + len(event.get("bytes") or b"")


def _close_of(code: int, reason: str) -> Close:
    """A Close as the client may have sent it; servers make up codes of their own."""
    try:
        close = Close(code, reason)
        close.encode()
    except FastwsError:
        return Close(CLOSE_INTERNAL_ERROR)
    return close


def _request(scope: Scope) -> bytes:
    """The request of a scope, as a client of wts would write it."""
    fields = [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in scope["headers"]
        if name.lower().decode("latin-1") not in _HOP_FIELDS
    ]
    if not any(name.lower() == "host" for name, _ in fields):
        fields.append(("Host", (scope.get("server") or ("localhost",))[0]))
    method = scope.get("method", "GET")
    if scope["type"] == "websocket":
        fields += [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", _KEY),
            ("Sec-WebSocket-Version", "13"),
        ]
        if scope.get("subprotocols"):
            offered = ", ".join(scope["subprotocols"])
            fields.append(("Sec-WebSocket-Protocol", offered))
    return build_request(method, _target(scope), fields)


def _target(scope: Scope) -> str:
    """Path and query below the place where this application is mounted."""
    root = scope.get("root_path") or ""
    path = scope["path"]
    raw = (scope.get("raw_path") or b"").decode("latin-1")
    if not raw.startswith(quote(root)) or not raw.isascii():
        raw = quote(path.removeprefix(root))
    else:
        raw = raw.removeprefix(quote(root))
    query = quote(scope.get("query_string") or b"", safe=string.punctuation)
    target = raw if raw.startswith("/") else f"/{raw}"
    return f"{target}?{query}" if query else target
