"""The WebSocket end of a copy: frames, signals, pings and the close handshake.

Source: RFC 6455 sections 5.5 and 7; docs/wire.md for the signals between fastws
ends. What a *stranger* is told follows from what RFC 6455 programs understand: it
has no half-close, so an EOF becomes Close 1000, early or late (docs/wire.md).
"""

import asyncio
import random
from enum import Enum

from fastws import _consts
from fastws._backend import FrameDecoder, Scratch, default_keys, encode_frame
from fastws._consts import Side
from fastws.exceptions import RemoteProtocolError
from fastws.net import sockopt
from fastws.net.ends import End, Owner, describe_loss
from fastws.net.stream import ByteStream, Hold, Kind
from fastws.wire.announce import SIGNAL_CONFIRM, SIGNAL_FIN, SIGNAL_RESET
from fastws.wire.frames import Close

_MAX_REASON = 123  # RFC 6455 section 5.5: a control payload of 125, less the code


class Peer(Enum):
    """Who is at the other end (docs/wire.md, announcement)."""

    STRANGER = "stranger"
    UNCONFIRMED = "unconfirmed"  # a client announced itself; its C is to come
    FASTWS = "fastws"


class WebSocketStream(ByteStream):
    """An open WebSocket, ready for the pump.

    Args:
        transport: of the connection, after the opening handshake; paused.
        kind: of that transport.
        hold: its protocol, with the bytes after the handshake.
        side: ours.
        peer: who answered.
        opened_at: loop time of the 101, seconds.
    """

    __slots__ = ("opened_at", "peer", "side")

    def __init__(
        self,
        transport: asyncio.Transport,
        kind: Kind,
        hold: Hold,
        *,
        side: Side,
        peer: Peer = Peer.STRANGER,
        opened_at: float = 0.0,
    ) -> None:
        super().__init__(transport, kind, hold)
        self.side = side
        self.peer = peer
        self.opened_at = opened_at


class WebSocketEnd(End):
    """One WebSocket of a copy.

    Attributes:
        side: ours; the server closes TCP first.
        who: the peer, once known.
        close_sent: code of our Close, 0 before it.
        close_received: code of the peer's Close, 0 before it.
    """

    __slots__ = (
        "_deadline",
        "_eof_pending",
        "_next_ping",
        "_opened_at",
        "_payload_seen",
        "_ping_reads",
        "_ping_since",
        "_pong",
        "_unsent_ping",
        "_unsent_pong",
        "close_received",
        "close_sent",
        "side",
        "who",
    )

    def __init__(
        self, owner: Owner, stream: WebSocketStream, scratch: Scratch, vectored: bool
    ) -> None:
        super().__init__(
            owner,
            stream.kind,
            scratch,
            decoder=FrameDecoder(stream.side),
            keys=default_keys() if stream.side is Side.CLIENT else None,
            vectored=vectored,
        )
        self.side = stream.side
        self.who = stream.peer
        if stream.peer is Peer.UNCONFIRMED:
            self.text_mode = _consts.TEXT_CONFIRM
        elif stream.peer is Peer.FASTWS:
            self.text_mode = _consts.TEXT_SIGNAL
        self.close_sent = 0
        self.close_received = 0
        self._opened_at = stream.opened_at
        self._deadline = 0.0  # of the state we wait in, loop time; 0: none
        self._eof_pending = False  # send_eof waits: for C, or for the stranger
        self._pong: bytes | None = None  # newest ping that is not answered yet
        self._unsent_pong = self._unsent_ping = False
        self._ping_since = 0.0  # when the open ping was sent; 0: none is open
        self._ping_reads = 0
        self._payload_seen = 0
        self._next_ping = self._after(owner.loop.time())

    # -- what the peer says --------------------------------------------------------

    def signal_received(self, text: bytes) -> None:
        if text == SIGNAL_CONFIRM:
            self.who = Peer.FASTWS
            if self._eof_pending:
                self._send_fin()
        elif text == SIGNAL_FIN:
            self.eof_in = self.eof_signalled = True
            self.owner.received_eof(self)
            self._after_fin()
        elif text == SIGNAL_RESET:
            self.is_sending = False
            self._read_on()
            self.owner.received_reset(self, "reset by peer", drop=True)
        else:
            self.who = Peer.STRANGER
            if self._eof_pending:
                self._end_stranger()

    def control_received(self, opcode: int, payload: bytes) -> None:
        if opcode == _consts.OP_PING:
            self._answer_ping(payload)
        elif opcode == _consts.OP_CLOSE and not self.close_received:
            try:
                close = Close.parse(payload)
            except RemoteProtocolError as error:
                self.protocol_error(error)
            else:
                self._receive_close(close.code, close.reason)

    def _receive_close(self, code: int, reason: str) -> None:
        self.close_received = code
        self._read_on()
        if self.close_sent:
            if not self.eof_in and self.is_orderly(code):
                self._end_in_order()
            elif not self.eof_in:
                self.owner.received_reset(self, describe_close(code, reason))
            self._finish()
        elif self.who is Peer.FASTWS:
            self.send_close(code)
            if not (self.eof_in and self.eof_out):
                self.owner.received_reset(self, describe_close(code, reason))
        elif self.is_orderly(code):
            answered = self.side is Side.CLIENT or self.eof_out
            if answered:
                self.send_close(code)
            self._end_in_order()
            self.owner.wake()
        else:
            self.send_close(code)
            self.owner.received_reset(self, describe_close(code, reason))

    def is_orderly(self, code: int) -> bool:
        """A stranger's Close that means EOF; anything else means a reset."""
        if self.who is Peer.FASTWS:
            return False
        orderly = code in (_consts.CLOSE_NORMAL, _consts.CLOSE_NO_STATUS)
        left = self.side is Side.SERVER and code == _consts.CLOSE_GOING_AWAY
        return orderly or left

    def _end_in_order(self) -> None:
        if not self.eof_in:
            self.eof_in = True
            self.owner.received_eof(self)

    def protocol_error(self, error: RemoteProtocolError) -> None:
        code = error.close_code or _consts.CLOSE_PROTOCOL_ERROR
        self.send_close(code, error.reason)
        self.is_discarding = True
        self._read_on()
        self._finish()
        self.owner.received_reset(self, f"protocol error: {error.reason}")

    def eof_received(self) -> bool:
        """TCP EOF: in order only after the peer's Close."""
        self.is_deaf = True
        self.is_reading = False
        if not self.close_received:
            self._cut("lost without a Close")
            return False
        # A peer that is done may still read what we have, and our Close.
        return not self.close_sent and self.kind is not Kind.TLS

    def transport_lost(self, exc: Exception | None) -> None:
        if not self.close_received and not self.resetting:
            self._cut(describe_loss(exc, "lost without a Close"))
        self._deadline = 0.0
        self.owner.wake()

    def _cut(self, reason: str) -> None:
        self.is_sending = False
        if not (self.eof_in and self.eof_out):
            self.eof_in = True
            self.owner.received_reset(self, reason)

    # -- what we say ---------------------------------------------------------------

    def send_eof(self) -> None:
        if self.eof_out or self.lost:
            return
        self.eof_out = True
        self.is_sending = False
        if self.who is Peer.FASTWS:
            self._send_fin()
        elif self.who is Peer.UNCONFIRMED:
            self._eof_pending = True
            self.owner.wake()
        else:
            self._end_stranger()

    def _send_fin(self) -> None:
        self._eof_pending = False
        self._write(_consts.OP_TEXT, SIGNAL_FIN)
        self._after_fin()

    def _after_fin(self) -> None:
        """F both ways: the server sends Close 1000, the client waits for it."""
        if self.eof_in and self.eof_out and not self._eof_pending:
            if self.side is Side.SERVER:
                self.send_close(_consts.CLOSE_NORMAL)
            self._read_on()
            self.owner.wake()

    def _end_stranger(self) -> None:
        """Our EOF for a peer without half-close (docs/wire.md, strangers)."""
        wait = self.side is Side.CLIENT and self.owner.options.on_eof == "hold"
        self._eof_pending = wait and not self.close_received
        if not self._eof_pending:
            self.send_close(self.close_received or _consts.CLOSE_NORMAL)
        self.owner.wake()

    def send_reset(self, reason: str, *, drop: bool = False) -> None:
        if self.who is Peer.FASTWS and not self.close_sent and not self.lost:
            self._write(_consts.OP_TEXT, SIGNAL_RESET)
        self.send_close(_consts.CLOSE_INTERNAL_ERROR, reason)
        self._read_on()

    def send_going_away(self, reason: str) -> None:
        self.send_close(_consts.CLOSE_GOING_AWAY, reason)
        self._read_on()

    def send_close(self, code: int, reason: str = "") -> None:
        """Send our Close once; nothing but control frames may come before it now."""
        self.is_sending = False
        self.eof_out = True
        self._eof_pending = False
        if self.close_sent or self.lost:
            return
        self.close_sent = code
        reason = reason.encode()[:_MAX_REASON].decode(errors="ignore")
        if code == _consts.CLOSE_NO_STATUS:
            reason = ""
        self._write(_consts.OP_CLOSE, Close(code, reason).encode())
        self.owner.wake()
        if self.close_received:
            self._finish()

    def payload_refused(self) -> None:
        """After our answer nothing can be sent: the other side has to know."""
        if self.close_received:
            self.owner.other(self).send_reset("data after the WebSocket was closed")

    def _finish(self) -> None:
        """Both Closes are out, or nothing more is worth reading: let TCP end."""
        if self.lost:
            return
        self.is_discarding = True
        if self.is_deaf or (self.side is Side.SERVER and self.kind is Kind.TLS):
            self.close_when_flushed()
        elif self.side is Side.SERVER:
            self.transport.write_eof()
        self.owner.wake()

    def _read_on(self) -> None:
        """What is left to read decides the end: read it, whoever is slow."""
        self.keeps_reading = True
        self.resume()

    def _write(self, opcode: int, payload: bytes) -> None:
        if not self.lost:
            key = None if self.keys is None else self.keys()
            self.transport.write(encode_frame(opcode, payload, key=key))

    # -- pings ---------------------------------------------------------------------

    def _after(self, now: float) -> float:
        """When the next ping is due: ``ping`` seconds from now, ±10 %."""
        jitter = 1 + _consts.PING_JITTER * (2 * random.random() - 1)
        return now + self.owner.options.ping * jitter

    def _answer_ping(self, payload: bytes) -> None:
        """One pong at most is unsent; of later pings the newest is answered."""
        if self.close_sent:
            return
        if self._unsent_pong:
            self._pong = payload
            return
        self._write(_consts.OP_PONG, payload)
        if self.transport.get_write_buffer_size():
            self._unsent_pong = self.wants_drained = True

    def drained(self) -> None:
        self.wants_drained = self._unsent_pong = self._unsent_ping = False
        payload, self._pong = self._pong, None
        if payload is not None:
            self._answer_ping(payload)

    def next_due(self) -> float:
        """When :meth:`tick` has to look again although nothing happens."""
        waits = self._deadline or self._ping_since or self._eof_pending
        if waits or self.close_sent or self.close_received:
            return 0.0
        return self._next_ping if self.owner.options.ping else float("inf")

    def tick(self, now: float) -> None:
        if self.lost:
            self._tick_left(now)
            return
        quiet = self.quiet_for(now)
        if self.resetting:
            return
        if not self.is_reading and self.fd >= 0 and not self.is_deaf:
            # A reset while paused: the peer's Close may still be in the kernel.
            if sockopt.poll_dead(self.fd) == "reset":
                self._read_on()
        if self.lost or not self.check_path(now):
            return
        if self.close_sent:
            self._tick_closing(now)
        elif self.close_received:
            self._tick_unanswered(now)
        elif self._eof_pending:
            self._tick_pending(now, quiet)
        if self.owner.options.ping and not (self.close_sent or self.close_received):
            self._tick_ping(now)

    def _tick_closing(self, now: float) -> None:
        """Our Close is out: ``linger`` from when it was acknowledged."""
        if self._ack_seen or not self._deadline:
            self._deadline = now + self.owner.options.linger
        elif self.close_received and self.kind is Kind.TLS:
            self.close_when_flushed()
        elif now >= self._deadline:
            if not self.eof_in:
                self.eof_in = True
                self.owner.received_reset(self, "no Close in answer")
            if not self.close_received:
                self.abort()
            elif not self.lost:
                self.transport.close()

    def _tick_unanswered(self, now: float) -> None:
        """A stranger's Close waits for the target's EOF, while it sends payload."""
        if self.payload_out != self._payload_seen or not self._deadline:
            self._payload_seen = self.payload_out
            self._deadline = now + self.owner.options.linger
        elif now >= self._deadline:
            self._deadline = 0.0
            self.send_close(self.close_received)

    def _tick_pending(self, now: float, quiet: float) -> None:
        linger = self.owner.options.linger
        if self.who is Peer.UNCONFIRMED:
            if now - self._opened_at >= linger:
                self.who = Peer.STRANGER
                self.text_mode = _consts.TEXT_FORWARD
                self._end_stranger()
        elif quiet >= linger:
            self.send_close(_consts.CLOSE_NORMAL)

    def _tick_left(self, now: float) -> None:
        """The stranger left after its Close: TCP has had its EOF, and ``linger``."""
        other = self.owner.other(self)
        if other.lost or other.eof_in:
            return
        if not self._deadline:
            self._deadline = now + self.owner.options.linger
        elif now >= self._deadline:
            other.send_reset("no end after the WebSocket was closed")

    def _tick_ping(self, now: float) -> None:
        options = self.owner.options
        if self._ping_since:
            if self.reads != self._ping_reads:
                self._ping_since = 0.0
            elif self._ack_seen or not self.is_reading:
                self._ping_since = now
            elif now - self._ping_since > options.ping_deadline:
                self.abort()
                self.owner.received_reset(self, "ping timeout")
                return
        if now >= self._next_ping and not self._ping_since and not self._unsent_ping:
            self._next_ping = self._after(now)
            self._ping_since = now
            self._ping_reads = self.reads
            self._write(_consts.OP_PING, b"")
            if self.transport.get_write_buffer_size():
                self._unsent_ping = self.wants_drained = True


def describe_close(code: int, reason: str) -> str:
    """A close code and its reason, fit for one log line."""
    return f"Close {code}" + (f" {reason!r}" if reason else "")
