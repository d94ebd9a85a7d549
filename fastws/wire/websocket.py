"""The WebSocket connection machine, both roles. Source: RFC 6455 sections 5 to 7.

Payload is handed on as it arrives: no frame and no message is ever collected, so the
machine holds nothing but 14 header bytes, one control payload and one pong. Only what
the driver has not yet taken is queued.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from fastws._backend import FrameDecoder, Utf8Validator, encode_frame
from fastws._consts import MESSAGE_END, Side
from fastws.exceptions import LocalProtocolError, RemoteProtocolError
from fastws.typing import BytesLike
from fastws.wire.frames import Close, CloseCode, Opcode, encode_control
from fastws.wire.machine import SEND_EOF


class State(Enum):
    """RFC 6455 sections 4.1, 7.1.3 and 7.1.4; CONNECTING ends before this machine."""

    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


class _Step(Enum):
    """What moves a connection on; a Close goes each way at most once."""

    CLOSE_SENT = 1
    CLOSE_RECEIVED = 2
    EOF = 3


_NEXT = {
    (State.OPEN, _Step.CLOSE_SENT): State.CLOSING,
    (State.OPEN, _Step.CLOSE_RECEIVED): State.CLOSING,
    (State.OPEN, _Step.EOF): State.CLOSED,
    (State.CLOSING, _Step.CLOSE_SENT): State.CLOSED,
    (State.CLOSING, _Step.CLOSE_RECEIVED): State.CLOSED,
    (State.CLOSING, _Step.EOF): State.CLOSED,
    (State.CLOSED, _Step.EOF): State.CLOSED,
}


@dataclass(slots=True)
class Data:
    """A chunk of a data message, as it arrived.

    Attributes:
        opcode: of the message, ``Opcode.TEXT`` or ``Opcode.BINARY``; also in later
            frames of a fragmented one.
        payload: unmasked; a view of the memory given to ``receive_data``. Empty only
            when ``message_end`` is set.
        message_end: the message ends with this chunk.
    """

    opcode: int
    payload: memoryview
    message_end: bool


@dataclass(slots=True)
class Ping:
    """A Ping; the newest one is answered by the machine."""

    payload: bytes


@dataclass(slots=True)
class Pong:
    """A Pong, asked for or not."""

    payload: bytes


@dataclass(slots=True)
class CloseReceived:
    """The peer's Close; no event follows it.

    Attributes:
        code: 1005 when the frame carried none.
        reason: may be empty.
    """

    code: int
    reason: str


Event: TypeAlias = Data | Ping | Pong | CloseReceived


class Connection:
    """One end of an open WebSocket. One task at a time. See ``wire.machine``.

    Text is checked while it arrives: valid chunks before the bad one stay delivered,
    then Close 1007 is queued. After an error all further input is dropped.

    Args:
        side: ours.
        key_source: returns 4 fresh unpredictable bytes a call (RFC 6455 section 5.3);
            needed on the client side, unused on the server's.
        max_payload: bytes of one incoming frame, ``None`` for no limit (1009).
        max_message: bytes of one incoming message, ``None`` for no limit (1009).
        answer_close: answer a Close at once with its own code. Otherwise data may
            still be sent, until ``send_close`` (RFC 6455 section 5.5.1).

    Attributes:
        side: ours.
        state: RFC 6455's name for where the connection is.
        error: what the peer did wrong, or ``None``.
        close_sent: what our Close said, or ``None``.
        close_received: what the peer's Close said, or ``None``.
    """

    __slots__ = (
        "_answer_close",
        "_decoder",
        "_eof_queued",
        "_events",
        "_key_source",
        "_out",
        "_pong",
        "_sending",
        "_text",
        "close_received",
        "close_sent",
        "error",
        "side",
        "state",
    )

    def __init__(
        self,
        side: Side,
        *,
        key_source: Callable[[], bytes] | None = None,
        max_payload: int | None = None,
        max_message: int | None = None,
        answer_close: bool = True,
    ) -> None:
        if side is Side.CLIENT and key_source is None:
            raise LocalProtocolError("a client needs a source of masking keys")
        self.side = side
        self.state = State.OPEN
        self.error: RemoteProtocolError | None = None
        self.close_sent: Close | None = None
        self.close_received: Close | None = None
        self._key_source = key_source if side is Side.CLIENT else None
        self._answer_close = answer_close
        self._decoder = FrameDecoder(
            side, max_payload=max_payload, max_message=max_message
        )
        self._text: Utf8Validator | None = None
        self._events: list[Event] = []
        self._out: list[BytesLike] = []
        self._pong: bytes | None = None
        self._sending: int | None = None
        self._eof_queued = False

    def __repr__(self) -> str:
        return f"<Connection {self.side.name} {self.state.name}>"

    @property
    def close_code(self) -> int | None:
        """The code the connection ended with (RFC 6455 section 7.1.5).

        ``None`` before it is CLOSED; 1006 when no Close was received.
        """
        if self.state is not State.CLOSED:
            return None
        received = self.close_received
        return CloseCode.ABNORMAL_CLOSURE if received is None else received.code

    def receive_data(self, data: BytesLike) -> None:
        """Take bytes from the peer.

        Args:
            data: read-only memory is copied; writable memory is unmasked in place
                and retained by the events.
        """
        if self.error or self.close_received or self.state is State.CLOSED:
            return
        if isinstance(data, bytes) or (isinstance(data, memoryview) and data.readonly):
            data = bytearray(data)
        try:
            for opcode, payload, flags in self._decoder.receive_data(data):
                self._receive_part(opcode, payload, flags)
        except RemoteProtocolError as error:
            self._fail(error)
            return
        if self._decoder.error is not None:
            self._fail(self._decoder.error)

    def receive_eof(self) -> None:
        """Take note that the transport ended; without a Close this is 1006."""
        self.state = _NEXT[self.state, _Step.EOF]
        self._pong = None
        self._queue_eof()

    def events_received(self) -> list[Event]:
        """Take and clear what happened; views inside stay valid while held."""
        events, self._events = self._events, []
        return events

    def data_to_send(self) -> list[BytesLike]:
        """Take and clear what to write, in order; ``SEND_EOF`` can only be last."""
        self._flush_pong()
        out, self._out = self._out, []
        return out

    def send_text(self, text: str, *, fin: bool = True) -> None:
        """Send text, or the next fragment of it; see ``send_binary``."""
        self._send_data(Opcode.TEXT, text.encode(), fin)

    def send_binary(self, data: BytesLike, *, fin: bool = True) -> None:
        """Send a binary message, or the next fragment of one.

        Args:
            data: copied.
            fin: the message ends here.

        Raises:
            LocalProtocolError: a Close was sent, or a message of the other type has
                not ended.
        """
        self._send_data(Opcode.BINARY, data, fin)

    def send_ping(self, payload: BytesLike = b"") -> None:
        """Send a Ping of at most 125 bytes; errors as ``send_binary``."""
        self._send_control(Opcode.PING, payload)

    def send_pong(self, payload: BytesLike = b"") -> None:
        """Send a Pong nobody asked for (RFC 6455 section 5.5.3)."""
        self._send_control(Opcode.PONG, payload)

    def send_close(
        self, code: int = CloseCode.NORMAL_CLOSURE, reason: str = ""
    ) -> None:
        """Send Close, as the start or the answer of the closing handshake.

        Args:
            code: 1005 sends an empty frame.
            reason: at most 123 bytes of UTF-8.

        Raises:
            LocalProtocolError: a Close was sent already, the connection is closed, or
                code or reason must not be sent.
        """
        self._check_open()
        close = Close(code, reason)
        payload = close.encode()
        self._flush_pong()
        self._put(encode_control(Opcode.CLOSE, payload, self._next_key()))
        self.close_sent = close
        self._move(_Step.CLOSE_SENT)

    def _receive_part(
        self, opcode: int, payload: memoryview | bytes, flags: int
    ) -> None:
        if isinstance(payload, memoryview):
            message_end = flags & MESSAGE_END != 0
            if opcode == Opcode.TEXT:
                self._check_text(payload, message_end)
            if message_end or len(payload):
                self._events.append(Data(opcode, payload, message_end))
        elif opcode == Opcode.PING:
            self._events.append(Ping(payload))
            self._pong = payload  # RFC 6455 section 5.5.3: the newest is enough
        elif opcode == Opcode.PONG:
            self._events.append(Pong(payload))
        else:
            self._receive_close(Close.parse(payload))

    def _check_text(self, payload: memoryview, message_end: bool) -> None:
        """Fail as soon as a text message is not UTF-8 (RFC 6455 section 8.1)."""
        text = self._text
        if text is None:
            text = self._text = Utf8Validator()
        if not text.feed(payload) or (message_end and not text.complete):
            raise RemoteProtocolError(
                "text message that is not UTF-8", close_code=CloseCode.INVALID_DATA
            )

    def _receive_close(self, close: Close) -> None:
        self.close_received = close
        self._events.append(CloseReceived(close.code, close.reason))
        self._move(_Step.CLOSE_RECEIVED)
        if self._answer_close and self.close_sent is None:
            self.send_close(close.code)  # RFC 6455 section 5.5.1: echo the code

    def _fail(self, error: RemoteProtocolError) -> None:
        """Queue the Close that names the error (RFC 6455 section 7.1.7)."""
        if self.close_sent is None:
            code = error.close_code or CloseCode.PROTOCOL_ERROR
            self.send_close(code, str(error)[:120])
        self.error = error  # CLOSING until the transport ends: a Close went out
        if self.side is Side.SERVER:
            self._queue_eof()

    def _move(self, step: _Step) -> None:
        self.state = _NEXT[self.state, step]
        if self.state is State.CLOSED and self.side is Side.SERVER:
            self._queue_eof()  # RFC 6455 section 7.1.1: the server closes TCP first

    def _queue_eof(self) -> None:
        if not self._eof_queued:
            self._eof_queued = True
            self._out.append(SEND_EOF)

    def _send_data(self, opcode: Opcode, data: BytesLike, fin: bool) -> None:
        self._check_open()
        first = self._sending is None
        if not first and self._sending != opcode:
            raise LocalProtocolError("a message of the other type has not ended")
        wire_opcode = opcode if first else Opcode.CONT
        self._put(encode_frame(wire_opcode, data, fin=fin, key=self._next_key()))
        self._sending = None if fin else opcode

    def _send_control(self, opcode: Opcode, payload: BytesLike) -> None:
        self._check_open()
        self._put(encode_control(opcode, payload, self._next_key()))

    def _check_open(self) -> None:
        if self.close_sent is not None:
            raise LocalProtocolError("nothing may follow a Close frame")
        if self.state is State.CLOSED:
            raise LocalProtocolError("the connection is closed")

    def _flush_pong(self) -> None:
        payload, self._pong = self._pong, None
        if payload is not None and self.close_sent is None:
            self._put(encode_control(Opcode.PONG, payload, self._next_key()))

    def _put(self, frame: bytes) -> None:
        self._out.append(frame)

    def _next_key(self) -> bytes | None:
        return None if self._key_source is None else self._key_source()
