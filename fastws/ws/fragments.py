"""Messages of the coroutine API: what can be sent, and how a message comes in parts.

Source: RFC 6455 section 5.4.
"""

import asyncio
import codecs
import sys
from collections import deque
from typing import Any, TypeAlias

from fastws._consts import CLOSE_TOO_BIG, OP_BINARY, OP_CONT, OP_TEXT
from fastws.exceptions import (
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
    PayloadTooBig,
    RemoteProtocolError,
)
from fastws.typing import BytesLike
from fastws.ws.protocol import WebSocket

Data: TypeAlias = str | bytes
"""A received message: text or binary."""

DataLike: TypeAlias = str | BytesLike
"""A message to send, or a fragment of one."""

_OK_CODES = (1000, 1001, 1005)
# A read in the background may still be filling the memory of a message.
_MAY_TAKE_PARTIAL = sys.platform != "win32"


def opcode_of(message: DataLike, text: bool | None) -> int:
    """Text or binary, as ``text`` says or by the type."""
    if text is None:
        text = isinstance(message, str)
    return OP_TEXT if text else OP_BINARY


def payload_of(data: DataLike) -> bytes:
    """Of a control frame (copied).

    Raises:
        TypeError: it is neither text nor bytes.
    """
    if isinstance(data, str):
        return data.encode()
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data)
    raise TypeError(f"cannot send {type(data).__name__} in a control frame")


def closed_error(ws: WebSocket) -> ConnectionClosed:
    """What calls raise once ``ws`` is gone."""
    rcvd, sent = ws.close_rcvd, ws.close_sent
    order = None
    kind: type[ConnectionClosed] = ConnectionClosedError
    if rcvd is not None and sent is not None:
        order = ws.close_rcvd_then_sent
        if rcvd.code in _OK_CODES and sent.code in _OK_CODES:
            kind = ConnectionClosedOK
    exc = kind(rcvd, sent, order)
    cause = ws.error
    if isinstance(cause, RemoteProtocolError) and cause.close_code == CLOSE_TOO_BIG:
        cause = PayloadTooBig(cause.reason, close_code=CLOSE_TOO_BIG)
    exc.__cause__ = cause
    return exc


class Outgoing:
    """Sends one message in parts of one kind.

    Attributes:
        kind: of the parts, ``None`` until one was sent.
    """

    __slots__ = ("_text", "_ws", "kind")

    def __init__(self, ws: WebSocket, text: bool | None) -> None:
        self._ws = ws
        self._text = text
        self.kind: type | None = None

    def send(self, fragment: Any) -> bool:
        """Send a part; ``False``: the connection is closed.

        Raises:
            TypeError: it is no part of a message, or of another kind.
        """
        if not isinstance(fragment, str | bytes | bytearray | memoryview):
            raise TypeError(f"cannot send {type(fragment).__name__} as a fragment")
        kind = str if isinstance(fragment, str) else bytes
        if self.kind is None:
            opcode = opcode_of(fragment, self._text)
        elif self.kind is kind:
            opcode = OP_CONT
        else:
            raise TypeError("all fragments of a message must be text, or none")
        self.kind = kind
        return self._ws.send(fragment, opcode, False)

    def end(self) -> bool:
        """Send the end of the message, if there is one."""
        if self.kind is None:
            return True
        return self._ws.send(b"", OP_CONT, True)


class Incoming:
    """The parts of one message, from where it stands until its end.

    It stands in the place of the future of a ``recv`` that waits, so that the call
    of ``on_message`` costs nothing more while no message comes in parts.

    Args:
        ws: hands out parts from now on, and whole messages after this one.
        on_message: for those; restored at the end of this one.
        most: parts that wait; more than so many stop reading.

    Attributes:
        is_held: reading was stopped.
        is_complete: its last part was handed out.
    """

    __slots__ = (
        "_begun",
        "_decoder",
        "_on_message",
        "_parts",
        "_waiter",
        "_ws",
        "is_complete",
        "is_held",
        "most",
    )

    def __init__(self, ws: Any, on_message: Any, most: int) -> None:
        self._ws = ws
        self._on_message = on_message
        self._parts: deque[tuple[bytes, int, bool]] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._decoder: codecs.IncrementalDecoder | None = None
        self._begun = False
        self.most = most
        self.is_held = self.is_complete = False
        ws.assembles = False
        ws.on_message = self.on_part
        opcode, payload = ws.take_partial() if _MAY_TAKE_PARTIAL else (0, b"")
        if payload:
            self._parts.append((payload, opcode, False))

    # -- as a future ---------------------------------------------------------------

    def done(self) -> bool:
        """Nobody waits for a part."""
        return self._waiter is None or self._waiter.done()

    def set_result(self, result: None) -> None:
        """Wake whoever waits."""
        assert self._waiter is not None
        self._waiter.set_result(result)

    # -- parts ---------------------------------------------------------------------

    def on_part(self, payload: bytes, opcode: int, final: bool) -> None:
        """The next part has come; after the last one come whole messages."""
        self._parts.append((payload, opcode, final))
        if final:
            self.end()
        if len(self._parts) > self.most and not self.is_held:
            self.is_held = True
            self._ws.pause_reading()
        if not self.done():
            self.set_result(None)

    def end(self) -> None:
        """Hand out whole messages again."""
        self._ws.assembles = True
        if self._ws.on_message is not None:  # it is while nothing is wanted
            self._ws.on_message = self._on_message

    @property
    def has_parts(self) -> bool:
        """The next part is there."""
        return bool(self._parts)

    @property
    def is_begun(self) -> bool:
        """Something of the message has come."""
        return self._begun or self.has_parts

    async def wait(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Wait for a part; ``False``: the connection is gone."""
        if not self._parts:
            self._waiter = loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return bool(self._parts)

    def take(self, decode: bool | None) -> Data:
        """The next part, which must be there: text as far as characters are whole.

        Raises:
            UnicodeDecodeError: ``decode`` asks for text, and it is none.
        """
        payload, opcode, self.is_complete = self._parts.popleft()
        self._begun = True
        if opcode != OP_TEXT if decode is None else not decode:
            return payload
        if self._decoder is None:
            self._decoder = codecs.getincrementaldecoder("utf-8")()
        return self._decoder.decode(payload, self.is_complete)

    def may_read_on(self, low: int) -> bool:
        """Reading was stopped, and few enough parts wait."""
        if self.is_held and len(self._parts) <= low:
            self.is_held = False
            return True
        return False
