"""One WebSocket for coroutines, on the callback layer.

Names and meanings are those of ``websockets``. Messages wait in a queue whose length
stops and starts reading from the socket; what is sent waits while the peer does not
read. Every call may be cancelled: a message is either received or stays in the queue,
and is either sent whole or not at all.
"""

import asyncio
import os
from collections import deque
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Iterable,
    Mapping,
)
from time import perf_counter
from typing import Any, Literal, Self, overload

from fastws._consts import (
    CLOSE_INTERNAL_ERROR,
    CLOSE_INVALID_PAYLOAD,
    CLOSE_NORMAL,
    OP_PONG,
)
from fastws.exceptions import (
    ConcurrencyError,
    ConnectionClosed,
    ConnectionClosedOK,
)
from fastws.wire.frames import encode_control
from fastws.ws.facts import Facts
from fastws.ws.flag import Flag
from fastws.ws.fragments import (
    Data,
    DataLike,
    Incoming,
    Outgoing,
    closed_error,
    opcode_of,
    payload_of,
)
from fastws.ws.limits import MaxQueue, water_marks
from fastws.ws.protocol import WebSocket

_MANY_PINGS = 16  # without an answer yet; nobody needs as many at once


class Connection(Facts):
    """One WebSocket. For the tasks of one event loop.

    Any number of tasks may send, one may receive at a time. Iterate over it for
    messages until the connection is closed in order. As an async context manager it
    closes at the end: 1000, or 1011 after an exception.

    Args:
        max_queue: received messages that wait; more than so many stop reading.
    """

    _outgoing: Outgoing | None = None  # a message that is sent in fragments

    def __init__(self, max_queue: MaxQueue = 16) -> None:
        self._ws: Any = None  # the WebSocket, from on_open on
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Data] = deque()
        self._high, self._low = water_marks(max_queue)
        self._getter: Any = None  # a future that recv awaits, or an Incoming
        self._is_held = False  # the queue is full, reading stands
        self._drain: Any = None  # an event: too much is unsent
        self._fragments: asyncio.Event | None = None  # a fragmented message is sent
        self._pings: dict[bytes, tuple[asyncio.Future[float], float]] = {}
        self._gone = Flag()

    # -- what the callback layer says ----------------------------------------------

    def on_open(self, ws: WebSocket) -> None:
        """The opening handshake is done."""
        self._ws = ws
        ws.copies, ws.unread = True, self._queue

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
        now = perf_counter()
        if payload not in self._pings:
            if not payload and self._ws.pinged_at:
                self.latency = now - self._ws.pinged_at
            return
        for key in list(self._pings):
            waiter, sent = self._pings.pop(key)
            if not waiter.done():
                waiter.set_result(now - sent)
            if key == payload:
                self.latency = now - sent
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

    @overload
    async def recv(self, decode: Literal[True]) -> str: ...

    @overload
    async def recv(self, decode: Literal[False]) -> bytes: ...

    @overload
    async def recv(self, decode: bool | None = None) -> Data: ...

    async def recv(self, decode: bool | None = None) -> Data:
        """Receive the next message: ``str`` for text, ``bytes`` for binary.

        Args:
            decode: ``True``: always ``str``; ``False``: always ``bytes``.

        Raises:
            ConnectionClosed: it is closed, and all messages were received.
            ConcurrencyError: another task receives already.
        """
        if self._getter is not None:
            raise self._busy()
        if not self._queue:
            await self._wait_message()
        message = self._take()
        return message if decode is None else await self._convert(message, decode)

    async def _convert(self, message: Data, decode: bool | None) -> Data:
        """As ``decode`` asks; what cannot be text closes with 1007."""
        if decode in (None, isinstance(message, str)):
            return message
        if isinstance(message, str):
            return message.encode()
        try:
            return message.decode()
        except UnicodeDecodeError as exc:
            raise await self._refuse(exc) from exc

    async def _refuse(self, exc: UnicodeDecodeError) -> ConnectionClosed:
        self._ws.close(CLOSE_INVALID_PAYLOAD, f"{exc.reason} at position {exc.start}")
        await self._gone.wait()
        return self._closed()

    def _busy(self) -> ConcurrencyError:
        if isinstance(self._getter, Incoming) and self._getter.done():
            return ConcurrencyError("a message in parts goes on with recv_streaming")
        return ConcurrencyError("another task waits for a message already")

    @overload
    def recv_streaming(self, decode: Literal[True]) -> AsyncIterator[str]: ...
    @overload
    def recv_streaming(self, decode: Literal[False]) -> AsyncIterator[bytes]: ...
    @overload
    def recv_streaming(self, decode: bool | None = None) -> AsyncIterator[Data]: ...

    async def recv_streaming(self, decode: bool | None = None) -> AsyncIterator[Any]:
        """Receive the next message in parts, as they arrive.

        Parts need not be the fragments that were sent. What comes of a message that
        is left early is received by the next call.

        Args:
            decode: as for :meth:`recv`.

        Raises:
            ConnectionClosed: it is closed, and all messages were received.
            ConcurrencyError: another task receives already.
        """
        parts = self._getter
        if parts is None and self._queue:
            yield await self._convert(self._take(), decode)
            return
        if parts is None:
            if self._gone.is_set():
                raise self._closed()
            parts = self._getter = Incoming(self._ws, self.on_message, self._high)
        elif not isinstance(parts, Incoming) or not parts.done():
            raise self._busy()
        is_empty = True
        while not parts.is_complete:
            piece = await self._next_part(parts, decode)
            if piece or (is_empty and parts.is_complete):
                is_empty = False
                yield piece

    async def _next_part(self, parts: Incoming, decode: bool | None) -> Data:
        try:
            if not parts.has_parts and self._ws.failure is not None:
                self._ws.fail_now()
            if not parts.has_parts and (
                self._gone.is_set() or not await parts.wait(self._loop)
            ):
                raise self._closed()
            piece = parts.take(decode)
        except UnicodeDecodeError as exc:
            raise await self._refuse(exc) from exc
        finally:
            is_lost = self._gone.is_set() and not parts.has_parts
            if parts.is_complete or is_lost or not parts.is_begun:
                parts.end()
                self._getter = None
            if parts.may_read_on(self._low) and not (
                self._is_held or self._gone.is_set()
            ):
                self._ws.resume_reading()
        return piece

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
        if self._ws.failure is not None:
            self._ws.fail_now()
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
            raise self._busy()
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
        while (event := self._drain or self._fragments) is not None:
            await event.wait()
        if not isinstance(message, str | bytes | bytearray | memoryview):
            await self._send_fragments(message, text)
            return
        sent = self._ws.send(message, opcode_of(message, text))
        transport = self._ws.transport
        # One that has just failed is heard of by loops that get a turn only.
        if not sent or (transport is not None and transport.is_closing()):
            await self._gone.wait()
            raise self._closed()
        if self._drain is not None:
            await self._wait_drain()

    @property
    def is_sending_fragments(self) -> bool:
        """A message is under way that no other may interrupt."""
        return self._fragments is not None

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
        sender = self._outgoing = Outgoing(self._ws, text)
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
            self._fragments = self._outgoing = None
            fragments.set()

    async def _sent(self, done: bool) -> None:
        transport = self._ws.transport
        if not done or (transport is not None and transport.is_closing()):
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
        payload = os.urandom(4) if data is None else payload_of(data)
        while data is None and payload in self._pings:
            payload = os.urandom(4)
        if payload in self._pings:
            raise ConcurrencyError("a ping with the same payload is open already")
        if not self._ws.ping(payload):
            await self._sent(False)
        waiter: asyncio.Future[float] = self._loop.create_future()
        self._pings[payload] = waiter, perf_counter()
        await self._sent(True)
        if len(self._pings) > _MANY_PINGS:
            await asyncio.sleep(0)  # pongs are read in turns of the loop only
        return waiter

    async def pong(self, data: DataLike = b"") -> None:
        """Send a pong that nobody asked for (RFC 6455 section 5.5.3).

        Raises:
            ConnectionClosed: it is closed.
            LocalProtocolError: more than 125 bytes.
        """
        payload = payload_of(data)
        encode_control(OP_PONG, payload, None)  # raises for too many bytes
        is_open = self._ws.is_open
        if is_open:
            self._ws.send_control(OP_PONG, payload)
        await self._sent(is_open)

    # -- closing -------------------------------------------------------------------

    async def close(self, code: int = CLOSE_NORMAL, reason: str = "") -> None:
        """Close, and wait until the connection is gone; ``close_timeout`` at most.

        Later calls only wait. Messages that came before can still be received. While
        a message is sent in fragments the Close says 1011, as its end is lost.

        Raises:
            LocalProtocolError: code or reason must not be sent.
        """
        self.start_close(code, reason)
        await self._gone.wait()

    def start_close(self, code: int, reason: str) -> None:
        """What :meth:`close` does before it waits."""
        if self._outgoing is not None and self._outgoing.kind is not None:
            code, reason = CLOSE_INTERNAL_ERROR, "close during fragmented message"
        self._ws.close(code, reason)

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
        # A generator that is not finished ends in order: leaving a loop is no error.
        in_order = kind in (None, GeneratorExit)
        await self.close(CLOSE_NORMAL if in_order else CLOSE_INTERNAL_ERROR)

    def _closed(self) -> ConnectionClosed:
        """What to raise once the connection is gone."""
        return closed_error(self._ws)
