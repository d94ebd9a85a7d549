"""One WebSocket for coroutines, on the callback layer.

Names and meanings are those of ``websockets``. Messages wait in a queue whose length
stops and starts reading from the socket; what is sent waits while the peer does not
read. Every call may be cancelled: a message is either received or stays in the queue,
and is either sent whole or not at all.
"""

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from enum import IntEnum
from time import perf_counter
from typing import Any, Self, TypeAlias

from fastws._consts import (
    CLOSE_ABNORMAL,
    CLOSE_INTERNAL_ERROR,
    CLOSE_NORMAL,
    OP_BINARY,
    OP_CONT,
    OP_PONG,
    OP_TEXT,
)
from fastws.exceptions import (
    ConcurrencyError,
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
    PayloadTooBig,
    RemoteProtocolError,
)
from fastws.typing import BytesLike
from fastws.wire.frames import encode_control
from fastws.ws.heads import Request, Response
from fastws.ws.protocol import WebSocket

Data: TypeAlias = str | bytes
"""A received message: text or binary."""

DataLike: TypeAlias = str | BytesLike
"""A message to send, or a fragment of one."""

MaxQueue: TypeAlias = int | tuple[int | None, int | None] | None
"""Messages at which reading stops, and those at which it goes on (a quarter)."""

_OK_CODES = (1000, 1001, 1005)
_NO_LIMIT = 1 << 62


class State(IntEnum):
    """Of a connection (RFC 6455 section 4 and 7.1)."""

    CONNECTING = 0
    OPEN = 1
    CLOSING = 2
    CLOSED = 3


class Connection:
    """One WebSocket. For the tasks of one event loop.

    Any number of tasks may send, one may receive at a time. Iterate over it for
    messages until the connection is closed in order. As an async context manager it
    closes at the end: 1000, or 1011 after an exception.

    Args:
        max_queue: received messages that wait; more than so many stop reading.
    """

    def __init__(self, max_queue: MaxQueue = 16) -> None:
        self._ws: Any = None  # the WebSocket, from on_open on
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Data] = deque()
        self._high, self._low = water_marks(max_queue)
        self._getter: asyncio.Future[None] | None = None
        self._is_held = False  # the queue is full, reading stands
        self._drain: Any = None  # an event: too much is unsent
        self._fragments: asyncio.Event | None = None  # a fragmented message is sent
        self._pings: dict[bytes, tuple[asyncio.Future[float], float]] = {}
        self._gone = asyncio.Event()

    # -- what the callback layer says ----------------------------------------------

    def on_open(self, ws: WebSocket) -> None:
        """The opening handshake is done."""
        self._ws = ws
        ws.copies = True

    def on_message(self, payload: Data, opcode: int, final: bool) -> None:
        """A message has come."""
        queue = self._queue
        queue.append(payload)
        if len(queue) > self._high:
            self._is_held = True
            self._ws.pause_reading()
        getter = self._getter
        if getter is not None and not getter.done():
            getter.set_result(None)

    def on_pong(self, payload: bytes) -> None:
        """It answers that ping, and those before it (RFC 6455 section 5.5.3)."""
        if payload not in self._pings:
            return
        now = perf_counter()
        for key in list(self._pings):
            waiter, sent = self._pings.pop(key)
            if not waiter.done():
                waiter.set_result(now - sent)
            if key == payload:
                break

    def on_pause(self) -> None:
        """The peer does not read fast enough."""
        self._drain = asyncio.Event()

    def on_resume(self) -> None:
        """Everything is sent."""
        if self._drain is not None:
            self._drain.set()
            self._drain = None

    def on_close(self, code: int, reason: str) -> None:
        """The connection is gone."""
        self._gone.set()
        self.on_resume()
        if self._getter is not None and not self._getter.done():
            self._getter.set_result(None)
        for waiter, _ in self._pings.values():
            if not waiter.done():
                waiter.set_exception(self._closed())
                waiter.exception()  # nobody has to wait for it
        self._pings.clear()

    # -- receiving -----------------------------------------------------------------

    async def recv(self, decode: bool | None = None) -> Data:
        """Receive the next message: ``str`` for text, ``bytes`` for binary.

        Args:
            decode: ``True``: always ``str``; ``False``: always ``bytes``.

        Raises:
            ConnectionClosed: it is closed, and all messages were received.
            ConcurrencyError: another task receives already.
        """
        if self._getter is not None:
            raise ConcurrencyError("another recv waits for a message already")
        if not self._queue:
            await self._wait_message()
        message = self._take()
        if decode is None or decode is isinstance(message, str):
            return message
        if isinstance(message, str):
            return message.encode()
        return message.decode()

    def _take(self) -> Data:
        message = self._queue.popleft()
        if self._is_held and len(self._queue) <= self._low:
            self._is_held = False
            if not self._gone.is_set():
                self._ws.resume_reading()
        return message

    async def _wait_message(self) -> None:
        if self._gone.is_set():
            raise self._closed()
        getter = self._getter = self._loop.create_future()
        try:
            await getter
        finally:
            self._getter = None
        if not self._queue:
            raise self._closed()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Data:
        """The next message, until the connection is closed in order."""
        if self._getter is not None:
            raise ConcurrencyError("another recv waits for a message already")
        if not self._queue:
            try:
                await self._wait_message()
            except ConnectionClosedOK:
                raise StopAsyncIteration from None
        return self._take()

    # -- sending -------------------------------------------------------------------

    async def send(
        self,
        message: DataLike | Iterable[DataLike] | AsyncIterable[DataLike],
        text: bool | None = None,
    ) -> None:
        """Send a message; waits while more than ``write_limit`` bytes are unsent.

        Args:
            message: text as ``str``, binary as ``bytes``, ``bytearray`` or
                ``memoryview`` (copied); or an iterator of fragments of one kind.
            text: ``True`` sends bytes as text, ``False`` a ``str`` as binary.

        Raises:
            ConnectionClosed: it is closed; the message may be lost.
            TypeError: it is none of these.
        """
        if self._drain is not None or self._fragments is not None:
            await self._wait_turn()
        if not isinstance(message, str | bytes | bytearray | memoryview):
            await self._send_fragments(message, text)
            return
        if not self._ws.send(message, _opcode(message, text)):
            await self._gone.wait()
            raise self._closed()
        if self._drain is not None:
            await self._wait_drain()

    async def _wait_turn(self) -> None:
        while (event := self._drain or self._fragments) is not None:
            await event.wait()

    async def _wait_drain(self) -> None:
        if self._drain is not None:
            await self._drain.wait()
            if self._gone.is_set():
                raise self._closed()

    async def _send_fragments(self, message: Any, text: bool | None) -> None:
        """Send what an iterator gives; one that fails ends the connection.

        No other message can be sent within a fragmented one (RFC 6455 section 5.4).
        """
        if isinstance(message, Mapping) or not isinstance(
            message, Iterable | AsyncIterable
        ):
            raise TypeError(f"cannot send {type(message).__name__}")
        fragments = self._fragments = asyncio.Event()
        sender = _Fragments(self._ws, text)
        try:
            if isinstance(message, AsyncIterable):
                async for fragment in message:
                    await self._sent(sender.send(fragment))
            else:
                for fragment in message:
                    await self._sent(sender.send(fragment))
            await self._sent(sender.end())
        except ConnectionClosed:
            raise
        except BaseException:
            if sender.kind is not None:
                self._ws.close(CLOSE_INTERNAL_ERROR, "error in fragmented message")
            raise
        finally:
            self._fragments = None
            fragments.set()

    async def _sent(self, done: bool) -> None:
        if not done:
            await self._gone.wait()
            raise self._closed()
        await self._wait_drain()

    async def ping(self, data: DataLike | None = None) -> "asyncio.Future[float]":
        """Send a ping; ``await`` the result for the seconds until its pong.

        Args:
            data: at most 125 bytes, none of an open ping; by default random.

        Raises:
            ConnectionClosed: it is closed; the result raises it as well.
            ConcurrencyError: such a ping is open already.
            LocalProtocolError: more than 125 bytes.
        """
        payload = os.urandom(4) if data is None else _payload(data)
        while data is None and payload in self._pings:
            payload = os.urandom(4)
        if payload in self._pings:
            raise ConcurrencyError("a ping with the same payload is open already")
        if not self._ws.ping(payload):
            await self._gone.wait()
            raise self._closed()
        waiter: asyncio.Future[float] = self._loop.create_future()
        self._pings[payload] = waiter, perf_counter()
        return waiter

    async def pong(self, data: DataLike = b"") -> None:
        """Send a pong that nobody asked for (RFC 6455 section 5.5.3).

        Raises:
            ConnectionClosed: it is closed.
            LocalProtocolError: more than 125 bytes.
        """
        payload = _payload(data)
        encode_control(OP_PONG, payload, None)  # raises for too many bytes
        if not self._ws.is_open:
            await self._gone.wait()
            raise self._closed()
        self._ws.send_control(OP_PONG, payload)

    # -- closing -------------------------------------------------------------------

    async def close(self, code: int = CLOSE_NORMAL, reason: str = "") -> None:
        """Close, and wait until the connection is gone; ``close_timeout`` at most.

        Later calls only wait. Messages that came before can still be received.

        Raises:
            LocalProtocolError: code or reason must not be sent.
        """
        self._ws.close(code, reason)
        await self._gone.wait()

    async def wait_closed(self) -> None:
        """Wait until the connection is gone, whoever closes it."""
        await self._gone.wait()

    def abort(self) -> None:
        """Cut the connection at once; the peer sees a reset."""
        if not self._gone.is_set():
            self._ws.abort()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, exc: object, traceback: object) -> None:
        await self.close(CLOSE_NORMAL if kind is None else CLOSE_INTERNAL_ERROR)

    def _closed(self) -> ConnectionClosed:
        """What to raise once the connection is gone."""
        ws = self._ws
        rcvd, sent = ws.close_rcvd, ws.close_sent
        order = None
        kind: Callable[..., ConnectionClosed] = ConnectionClosedError
        if rcvd is not None and sent is not None:
            order = ws.close_rcvd_then_sent
            if rcvd.code in _OK_CODES and sent.code in _OK_CODES:
                kind = ConnectionClosedOK
        exc = kind(rcvd, sent, order)
        cause = ws.error
        if isinstance(cause, RemoteProtocolError) and cause.close_code == 1009:
            cause = PayloadTooBig(cause.reason, close_code=1009)
        exc.__cause__ = cause
        return exc

    # -- facts ---------------------------------------------------------------------

    @property
    def state(self) -> State:
        """Whether it is open."""
        if self._gone.is_set():
            return State.CLOSED
        if self._ws is None:
            return State.CONNECTING
        return State.OPEN if self._ws.is_open else State.CLOSING

    @property
    def subprotocol(self) -> str | None:
        """Agreed on, or ``None``."""
        ws: WebSocket | None = self._ws
        return None if ws is None else ws.subprotocol

    @property
    def remote_address(self) -> Any:
        """The peer's, ``None`` where there is none."""
        return self._ws.remote_address

    @property
    def local_address(self) -> Any:
        """Ours; ``None`` once the connection is gone."""
        transport = self._ws.transport
        return None if transport is None else transport.get_extra_info("sockname")

    @property
    def close_code(self) -> int | None:
        """Of the peer's Close, 1006 without one; ``None`` until it is closed."""
        if not self._gone.is_set():
            return None
        rcvd = self._ws.close_rcvd
        return CLOSE_ABNORMAL if rcvd is None else int(rcvd.code)

    @property
    def close_reason(self) -> str | None:
        """Of the peer's Close; ``None`` until it is closed."""
        if not self._gone.is_set():
            return None
        rcvd = self._ws.close_rcvd
        return "" if rcvd is None else rcvd.reason

    @property
    def request(self) -> Request | None:
        """Of the opening handshake."""
        raise NotImplementedError

    @property
    def response(self) -> Response | None:
        """Of the opening handshake; ``None`` until it is sent."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.state.name.lower()}>"


class _Fragments:
    """Sends one message in parts of one kind."""

    def __init__(self, ws: WebSocket, text: bool | None) -> None:
        self._ws = ws
        self._text = text
        self.kind: type | None = None  # of the fragments; None: none was sent

    def send(self, fragment: Any) -> bool:
        if not isinstance(fragment, str | bytes | bytearray | memoryview):
            raise TypeError(f"cannot send {type(fragment).__name__} as a fragment")
        kind = str if isinstance(fragment, str) else bytes
        if self.kind is None:
            opcode = _opcode(fragment, self._text)
        elif self.kind is kind:
            opcode = OP_CONT
        else:
            raise TypeError("all fragments of a message must be text, or none")
        self.kind = kind
        return self._ws.send(fragment, opcode, False)

    def end(self) -> bool:
        if self.kind is None:
            return True
        return self._ws.send(b"", OP_CONT, True)


def _opcode(message: DataLike, text: bool | None) -> int:
    if text is None:
        text = isinstance(message, str)
    return OP_TEXT if text else OP_BINARY


def _payload(data: DataLike) -> bytes:
    return data.encode() if isinstance(data, str) else bytes(data)


def water_marks(max_queue: MaxQueue) -> tuple[int, int]:
    """High and low water marks of the queue.

    Raises:
        ValueError: not 0 <= low <= high.
    """
    high, low = max_queue if isinstance(max_queue, tuple) else (max_queue, None)
    if high is None:
        high = _NO_LIMIT
    if low is None:
        low = high // 4
    if not 0 <= low <= high:
        raise ValueError("max_queue: need 0 <= low <= high")
    return high, low
