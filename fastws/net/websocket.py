"""The WebSocket end of a copy: signals and the close handshake.

Source: RFC 6455 section 7; docs/wire.md for the signals between fastws
ends. What a *stranger* is told follows from what RFC 6455 programs understand: it
has no half-close, so an EOF becomes Close 1000, early or late (docs/wire.md).
"""

import asyncio
from enum import Enum

from fastws import _consts
from fastws._backend import Scratch
from fastws._consts import Side
from fastws.exceptions import RemoteProtocolError
from fastws.net import sockopt
from fastws.net.ends import Owner, RereadEnd, describe_loss, needs_rereads
from fastws.net.keepalive import PingingEnd
from fastws.net.stream import ByteStream, Hold, Kind, write_eof
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
        ident: of this connection, if the far end logs it too.
    """

    __slots__ = ("ident", "opened_at", "peer", "side")

    def __init__(
        self,
        transport: asyncio.Transport,
        kind: Kind,
        hold: Hold,
        *,
        side: Side,
        peer: Peer = Peer.STRANGER,
        opened_at: float = 0.0,
        ident: str = "",
    ) -> None:
        super().__init__(transport, kind, hold)
        self.ident = ident
        self.side = side
        self.peer = peer
        self.opened_at = opened_at


class WebSocketEnd(PingingEnd):
    """One WebSocket of a copy.

    Attributes:
        who: the peer, once known.
        close_sent: code of our Close, 0 before it.
        close_received: code of the peer's Close, 0 before it.
    """

    __slots__ = (
        "_deadline",
        "_eof_pending",
        "_opened_at",
        "_seen",
        "close_received",
        "close_sent",
        "who",
    )

    def __init__(
        self, owner: Owner, stream: WebSocketStream, scratch: Scratch, vectored: bool
    ) -> None:
        super().__init__(owner, stream.kind, stream.side, scratch, vectored)
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
        self._seen = 0  # what moved at the last look, while we wait

    @property
    def may_ping(self) -> bool:
        return not self.close_sent and not self.close_received

    # -- what the peer says --------------------------------------------------------

    def signal_received(self, text: bytes) -> None:
        if text == SIGNAL_CONFIRM:
            self.who = Peer.FASTWS
            if self._eof_pending:
                self._send_fin()
        elif text == SIGNAL_FIN:
            self._receive_fin()
        elif text == SIGNAL_RESET:
            self.owner.received_reset(self, "reset by peer", drop=True)
            self.send_close(_consts.CLOSE_INTERNAL_ERROR)  # as the one on its way
            self._read_on()
        else:
            self.who = Peer.STRANGER
            if self._eof_pending:
                self._end_stranger()

    def _receive_fin(self) -> None:
        if self.eof_signalled:
            self.protocol_error(RemoteProtocolError("second signal F"))
            return
        self.eof_in = self.eof_signalled = True
        self.owner.received_eof(self)
        self._after_fin()

    def control_received(self, opcode: int, payload: bytes) -> None:
        if opcode == _consts.OP_PING and not self.close_sent:
            self.answer_ping(payload)
        elif opcode == _consts.OP_CLOSE and not self.close_received:
            try:
                close = Close.parse(payload)
            except RemoteProtocolError as error:
                self.protocol_error(error)
            else:
                self._receive_close(close.code, close.reason)

    def _receive_close(self, code: int, reason: str) -> None:
        in_order = self._is_orderly(code)
        self.close_received = code
        self._read_on()
        if self.close_sent:
            self._finish()
        elif self._answers_at_once(in_order):
            self.send_close(code)
        if not in_order:
            self.owner.received_reset(self, describe_close(code, reason))
        elif not self.eof_in:
            self.eof_in = True
            self.owner.received_eof(self)
        self.owner.wake()

    def _is_orderly(self, code: int) -> bool:
        """Whether this Close ends the data in order (docs/wire.md, both tables)."""
        if self.who is Peer.FASTWS:
            return self.eof_in and self.eof_out
        left = self.side is Side.SERVER and code == _consts.CLOSE_GOING_AWAY
        return left or code in (_consts.CLOSE_NORMAL, _consts.CLOSE_NO_STATUS)

    def _answers_at_once(self, in_order: bool) -> bool:
        """A stranger that is done may still take what our target has to say."""
        if not in_order or self.who is Peer.FASTWS or self.eof_out:
            return True
        return self.side is Side.CLIENT

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
        self.owner.wake()

    def _cut(self, reason: str) -> None:
        self.is_sending = False
        if self.eof_in and self.eof_out:
            # All that came is good, but nobody confirmed the last we sent.
            self.owner.blame(self, reason)
        else:
            self.eof_in = True
            self.owner.received_reset(self, reason)

    def payload_refused(self) -> None:
        """After our answer nothing can be sent: the other side has to know."""
        if self.close_received:
            self.owner.received_reset(self, "data after its Close")

    # -- what we say ---------------------------------------------------------------

    def send_eof(self) -> None:
        if self.eof_out or self.lost:
            return
        self.eof_out = True
        self.is_sending = False
        self._quiet_at = self.owner.loop.time()
        if self.who is Peer.FASTWS:
            self._send_fin()
        elif self.who is Peer.UNCONFIRMED:
            self._eof_pending = True
            self.owner.wake()
        else:
            self._end_stranger()

    def _send_fin(self) -> None:
        self._eof_pending = False
        self.write_frame(_consts.OP_TEXT, SIGNAL_FIN)
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
        hold = self.side is Side.CLIENT and self.owner.options.on_eof == "hold"
        self._eof_pending = hold
        if not hold:
            self.send_close(self.close_received or _consts.CLOSE_NORMAL)
        self.owner.wake()

    def hang_up(self) -> None:
        """Nobody waits for late answers any more: a Close held for them goes out."""
        if self._eof_pending and self.who is Peer.STRANGER:
            self.send_close(_consts.CLOSE_NORMAL)

    def send_reset(self, reason: str, *, drop: bool = False) -> None:
        if self.who is Peer.FASTWS and not self.close_sent:
            self.write_frame(_consts.OP_TEXT, SIGNAL_RESET)
        self.send_close(_consts.CLOSE_INTERNAL_ERROR, reason)
        self._read_on()

    def send_going_away(self, reason: str) -> None:
        self.send_close(_consts.CLOSE_GOING_AWAY, reason)
        self._read_on()

    def send_close(self, code: int, reason: str = "") -> None:
        """Send our Close once; no data may follow it."""
        self.is_sending = False
        self.eof_out = True
        self._eof_pending = False
        if self.close_sent or self.lost:
            return
        self.close_sent = code
        self._deadline = 0.0
        reason = reason.encode()[:_MAX_REASON].decode(errors="ignore")
        if code == _consts.CLOSE_NO_STATUS:
            reason = ""
        self.write_frame(_consts.OP_CLOSE, Close(code, reason).encode())
        self.owner.wake()
        if self.close_received:
            self._finish()

    def _finish(self) -> None:
        """Both Closes are out, or nothing more is worth reading: let TCP end."""
        if self.lost:
            return
        self.is_discarding = True
        if self.is_deaf or (self.side is Side.SERVER and self.kind is Kind.TLS):
            self.close_when_flushed()
        elif self.side is Side.SERVER and not self.transport.is_closing():
            write_eof(self.transport)
        self.owner.wake()

    def _read_on(self) -> None:
        """What is left to read decides the end: read it, whoever is slow."""
        self.keeps_reading = True
        self.resume()

    # -- time ----------------------------------------------------------------------

    def check_path(self, now: float) -> bool:
        """Reset this end if its path is dead; that breaks nothing after a Close.

        A fastws peer has everything then, and a stranger said that it is done.
        """
        reason = self.find_dead(now)
        if reason is None:
            return True
        self.abort()
        is_done = reason == "reset" or self.who is Peer.FASTWS
        if not (self.close_received and is_done):
            self.owner.received_reset(self, reason)
        return False

    def next_due(self) -> float:
        """When :meth:`tick` has to look again although nothing happens."""
        is_waiting = self._deadline or self._eof_pending or not self.may_ping
        return 0.0 if is_waiting else super().next_due()

    def tick(self, now: float) -> None:
        if self.lost:
            self._tick_left(now)
            return
        self.observe(now)
        if self.resetting:
            return
        if not self.is_reading and not self.is_deaf and self.fd >= 0:
            # A reset while paused: the peer's Close may still be in the kernel.
            if sockopt.poll_dead(self.fd) == "reset":
                self._read_on()
        if self.lost or not self.check_path(now):
            return
        if self.close_sent:
            self._tick_closing(now)
        elif self.close_received:
            self._tick_unanswered(now)
        else:
            if self._eof_pending:
                self._tick_pending(now)
            if self.may_ping:
                self.tick_ping(now)

    def _has_expired(self, now: float, patience: float, moved: bool) -> bool:
        """Whether nothing moved for ``patience`` seconds in this state."""
        if moved or not self._deadline:
            self._deadline = now + patience
            return False
        return now >= self._deadline

    def _has_moved(self, count: int) -> bool:
        """Whether ``count`` is another one than at the last look."""
        moved = count != self._seen
        self._seen = count
        return moved

    def _tick_closing(self, now: float) -> None:
        """Our Close is out: ``linger`` from when it was acknowledged.

        A fastws peer whose own reader is slow comes to our Close late; till then
        its pings show that it lives.
        """
        options = self.owner.options
        patience = options.linger
        is_slow = not self.is_reading and not self.is_deaf
        moved = self.is_stuck or is_slow
        if self.who is Peer.FASTWS and self.eof_in and options.ping:
            patience = max(patience, options.ping_deadline)
            moved = self._has_moved(self.reads) or moved
        if self._has_expired(now, patience, moved):
            if not self.eof_in:
                self.eof_in = True
                self.owner.received_reset(self, "no Close in answer")
            self.close_when_flushed()
        elif self.close_received and (self.is_deaf or self.side is Side.SERVER):
            if self.kind is Kind.TLS:
                self.close_when_flushed()

    def _tick_unanswered(self, now: float) -> None:
        """A stranger's Close waits for the target's EOF, while it sends payload."""
        moved = self.is_stuck or self.owner.other(self).unacked() > 0
        moved = self._has_moved(self.payload_out) or moved
        if self._has_expired(now, self.owner.options.linger, moved):
            self.send_close(self.close_received)

    def _tick_pending(self, now: float) -> None:
        linger = self.owner.options.linger
        if self.who is Peer.UNCONFIRMED:
            if now - self._opened_at >= linger:
                self.who = Peer.STRANGER
                self.text_mode = _consts.TEXT_FORWARD
                self._end_stranger()
        elif now - self._quiet_at >= linger:
            self.send_close(_consts.CLOSE_NORMAL)

    def _tick_left(self, now: float) -> None:
        """The stranger left after its Close: TCP has had its EOF, and ``linger``."""
        other = self.owner.other(self)
        if other.lost or other.resetting or other.eof_in:
            return
        if self._has_expired(now, self.owner.options.linger, other.unacked() > 0):
            self.owner.received_reset(self, "no end after the WebSocket was closed")


class RereadWebSocketEnd(RereadEnd, WebSocketEnd):
    """One WebSocket over TLS of aiofastnet."""

    __slots__ = ()


def websocket_end(
    owner: Owner, stream: WebSocketStream, scratch: Scratch, vectored: bool
) -> WebSocketEnd:
    """The end for a WebSocket over whatever transport."""
    if stream.kind is Kind.TLS and needs_rereads(stream.transport):
        return RereadWebSocketEnd(owner, stream, scratch, vectored)
    return WebSocketEnd(owner, stream, scratch, vectored)


def describe_close(code: int, reason: str) -> str:
    """A close code and its reason, fit for one log line."""
    return f"Close {code}" + (f" {reason!r}" if reason else "")
