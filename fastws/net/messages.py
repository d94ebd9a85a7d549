"""A WebSocket whose messages matter one by one: datagrams, lines of text.

Where ``copy_bidirectional`` forwards bytes and forgets frames, a :class:`MessageLink`
hands over whole messages. It keeps the connection alive, answers and sends Closes,
and tells its owner the rest. Source: RFC 6455 sections 5 to 7; docs/wire.md.
"""

import asyncio
import sys
from collections.abc import Callable
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from fastws import _consts
from fastws._backend import FrameDecoder, Utf8Validator, default_keys, encode_frame
from fastws._consts import OP_BINARY, OP_CLOSE, OP_CONT, OP_PING, OP_TEXT, Side
from fastws.exceptions import RemoteProtocolError
from fastws.net import sockopt
from fastws.net.ends import CopyOptions, describe_loss
from fastws.net.keepalive import after_ping
from fastws.net.stream import Kind, write_eof
from fastws.net.sweep import sweep_of
from fastws.net.websocket import Peer, WebSocketStream, describe_close
from fastws.typing import BytesLike
from fastws.wire.announce import SIGNAL_CONFIRM
from fastws.wire.frames import Close

_READ = 64 * 1024  # bytes of one read
_WHOLE = _consts.FRAME_START | _consts.FRAME_END | _consts.MESSAGE_END
_ORDERLY = (_consts.CLOSE_NORMAL, _consts.CLOSE_NO_STATUS)


class LinkOwner(Protocol):
    """What a link tells: all calls come from the event loop."""

    def message_received(self, payload: memoryview, is_text: bool) -> None:
        """A whole message; ``payload`` is valid during the call only."""

    def message_dropped(self) -> None:
        """A message was longer than ``max_incoming``; it has been passed over."""

    def link_closing(self) -> None:
        """Nothing can be sent any more. Comes once, before :meth:`link_ended`."""

    def link_ended(self, reason: str) -> None:
        """The transport is gone; an empty reason is an orderly end. Comes once."""

    def link_writable(self, is_writable: bool) -> None:
        """The transport holds unsent bytes, or holds none any more."""

    def link_tick(self, now: float) -> float:
        """A look at the clock; returns when the next one has to come, loop time."""


class MessageLink(asyncio.BufferedProtocol):
    """One WebSocket, seen as messages. One event loop, no task of its own.

    Args:
        stream: after the opening handshake; owned from now on.
        owner: is told; retained.
        options: time limits, and ``max_message`` for each frame sent.
        max_incoming: bytes of a message that is handed over.

    Attributes:
        who: the peer, once known.
        is_open: messages can be sent.
        reads: reads so far; any received byte counts.
        reason: why it ended, or will; empty while all is in order.
        due: loop time of the next look at the clock (for the sweep).
    """

    __slots__ = (
        "_close_received",
        "_close_sent",
        "_deadline",
        "_decoder",
        "_deliver",
        "_is_deaf",
        "_is_oversize",
        "_is_reading",
        "_keys",
        "_max_incoming",
        "_max_payload",
        "_next_ping",
        "_options",
        "_owner",
        "_partial",
        "_ping_reads",
        "_ping_since",
        "_pong",
        "_stuck",
        "_stuck_at",
        "_text",
        "_view",
        "due",
        "is_open",
        "kind",
        "loop",
        "lost",
        "reads",
        "reason",
        "side",
        "transport",
        "who",
    )

    def __init__(
        self,
        stream: WebSocketStream,
        owner: LinkOwner,
        options: CopyOptions,
        max_incoming: int,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.transport: Any = stream.transport
        self.kind = stream.kind
        self.side = stream.side
        self.who = stream.peer
        self.is_open = True
        self.lost = False
        self.reads = 0
        self.reason = ""
        self.due = 0.0
        self._owner = owner
        self._deliver: Callable[[memoryview, bool], None] = owner.message_received
        self._options = options
        self._max_incoming = max_incoming
        self._decoder = FrameDecoder(stream.side)
        self._keys = default_keys() if stream.side is Side.CLIENT else None
        overhead = 4 if self._keys is None else 8
        if options.max_message - overhead > 65535:
            overhead += 6
        self._max_payload = options.max_message - overhead
        self._view = memoryview(_memory_of(self.loop))
        self._partial: bytearray | None = None
        self._text: Utf8Validator | None = None
        self._pong: bytes | None = None
        self._close_sent = self._close_received = 0
        self._deadline = self._stuck_at = 0.0
        self._stuck = 0  # bytes that the peer had not taken at the last look
        self._is_deaf = self._is_oversize = False
        self._is_reading = True
        self._ping_since = 0.0
        self._ping_reads = 0
        self._next_ping = after_ping(self.loop.time(), options.ping)
        self._start(stream)

    def _start(self, stream: WebSocketStream) -> None:
        """Take the transport over, then what it said meanwhile, in this order."""
        hold = stream.hold
        if hold.lost:
            self.loop.call_soon(self.connection_lost, hold.error)
            return
        transport = self.transport
        transport.set_protocol(self)
        if self.kind is Kind.TLS:  # see fastws.net.copy.attach
            transport.set_write_buffer_limits(high=1, low=0)
        else:
            transport.set_write_buffer_limits(high=0)
        sweep_of(self.loop).add(self, self._options.granularity)
        self.loop.call_soon(self._begin, hold.leftover, hold.eof)
        hold.leftover = b""

    def _begin(self, leftover: bytes, eof: bool) -> None:
        """Read; in a turn of its own, so that the owner is complete by then."""
        if leftover:
            self.reads += 1
            self._receive(memoryview(bytearray(leftover)))
        if eof:
            self.eof_received()
            self.transport.close()
        elif not self.lost and self._is_reading and not self.transport.is_closing():
            self.transport.resume_reading()

    # -- reading -------------------------------------------------------------------

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view  # TLS of the stock loop reads into slices of it

    def buffer_updated(self, nbytes: int) -> None:
        self.reads += 1
        if not self._is_deaf:
            self._receive(self._view[:nbytes])

    def _receive(self, view: memoryview) -> None:
        deliver = self._deliver
        for opcode, payload, flags in self._decoder.receive_data(view):
            if (
                flags == _WHOLE
                and opcode == OP_BINARY
                and self._partial is None
                and self.who is not Peer.UNCONFIRMED
            ):
                deliver(payload, False)  # type: ignore[arg-type]
            elif opcode >= OP_CLOSE:
                self._receive_control(opcode, bytes(payload))
            else:
                self._receive_part(opcode, payload, flags)
            if self._is_deaf:
                return
        if self._decoder.error is not None:
            self._refuse(self._decoder.error)

    def _receive_part(self, opcode: int, payload: BytesLike, flags: int) -> None:
        """Collect a message; the first one says who an announced client is."""
        ended = bool(flags & _consts.MESSAGE_END)
        if opcode == OP_TEXT and not self._check_text(payload, ended):
            return
        if self._partial is None:
            self._partial = bytearray()
        if len(self._partial) + len(payload) > self._max_incoming:
            self._is_oversize = True
        if self._is_oversize:
            self._partial.clear()
        else:
            self._partial += payload
        if not ended:
            return
        message, self._partial = self._partial, None
        dropped, self._is_oversize = self._is_oversize, False
        if self.who is Peer.UNCONFIRMED:
            is_confirmed = opcode == OP_TEXT and message == SIGNAL_CONFIRM
            self.who = Peer.FASTWS if is_confirmed else Peer.STRANGER
            if is_confirmed:
                return
        if dropped:
            self._owner.message_dropped()
        else:
            self._deliver(memoryview(message), opcode == OP_TEXT)

    def _check_text(self, payload: BytesLike, ended: bool) -> bool:
        """Text is UTF-8 (RFC 6455 section 8.1), and nothing between fastws ends."""
        if self.who is Peer.FASTWS:
            error = RemoteProtocolError("text from a fastws end")
        else:
            text = self._text
            if text is None:
                text = self._text = Utf8Validator()
            if text.feed(payload) and (text.complete or not ended):
                return True
            error = RemoteProtocolError(
                "text is not valid UTF-8", close_code=_consts.CLOSE_INVALID_PAYLOAD
            )
        self._refuse(error)
        return False

    def _refuse(self, error: RemoteProtocolError) -> None:
        self._is_deaf = True
        self.reason = self.reason or f"protocol error: {error.reason}"
        self.close(error.close_code or _consts.CLOSE_PROTOCOL_ERROR, error.reason)
        self._finish()

    def _receive_control(self, opcode: int, payload: bytes) -> None:
        if opcode == OP_PING:
            self._pong = payload
            if self.is_open and not self.transport.get_write_buffer_size():
                self._send_pong()
        elif opcode == OP_CLOSE:
            try:
                close = Close.parse(payload)
            except RemoteProtocolError as error:
                self._refuse(error)
            else:
                self._receive_close(close)

    def _receive_close(self, close: Close) -> None:
        self._is_deaf = True
        self._close_received = close.code
        if not self._close_sent:
            left = self.side is Side.SERVER and close.code == _consts.CLOSE_GOING_AWAY
            if close.code not in _ORDERLY and not left:
                self.reason = self.reason or describe_close(close.code, close.reason)
            self.close(close.code)
        self._finish()

    def pause_reading(self) -> None:
        """Stop reading; control frames wait too."""
        if self._is_reading and not self._is_deaf:
            self._is_reading = False
            if not self.lost and not self.transport.is_closing():
                self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        if not self._is_reading:
            self._is_reading = True
            if not self.lost and not self.transport.is_closing():
                self.transport.resume_reading()

    # -- writing -------------------------------------------------------------------

    def unsent(self) -> int:
        """Bytes that the transport has not handed to the kernel."""
        return 0 if self.lost else int(self.transport.get_write_buffer_size())

    def encode(self, payload: BytesLike, opcode: int = OP_BINARY) -> bytes:
        """One message as it goes out: one frame, or several if it is long."""
        keys = self._keys
        size = len(payload)
        if size <= self._max_payload:
            key = None if keys is None else keys()
            return encode_frame(opcode, payload, key=key)
        view, frames = memoryview(payload), []
        for start in range(0, size, self._max_payload):
            piece = view[start : start + self._max_payload]
            fin = start + len(piece) == size
            key = None if keys is None else keys()
            frames.append(encode_frame(opcode, piece, fin=fin, key=key))
            opcode = OP_CONT
        return b"".join(frames)

    def write(self, frames: bytes) -> None:
        """Write what :meth:`encode` returned, while :attr:`is_open`."""
        if self.is_open:
            self.transport.write(frames)

    def pause_writing(self) -> None:
        self._owner.link_writable(False)

    def resume_writing(self) -> None:
        if self._pong is not None and self.is_open:
            self._send_pong()
        self._owner.link_writable(True)

    def _send_pong(self) -> None:
        payload, self._pong = self._pong, None
        assert payload is not None
        self._write_control(_consts.OP_PONG, payload)

    def _write_control(self, opcode: int, payload: bytes) -> None:
        key = None if self._keys is None else self._keys()
        self.transport.write(encode_frame(opcode, payload, key=key))

    # -- the end -------------------------------------------------------------------

    def close(self, code: int, reason: str = "") -> None:
        """Send our Close, once; the peer has ``linger`` to answer it."""
        if self._close_sent or self.lost:
            return
        self._close_sent = code
        reason = reason.encode()[:123].decode(errors="ignore")
        close = Close(code, "" if code == _consts.CLOSE_NO_STATUS else reason)
        self._write_control(OP_CLOSE, close.encode())
        self._stop_sending()
        self.resume_reading()

    def go_away(self, reason: str) -> None:
        """End it ourselves: Close 1001."""
        if self.is_open:
            self.reason = self.reason or reason
            self.close(_consts.CLOSE_GOING_AWAY, reason)

    def abort(self, reason: str) -> None:
        """Reset the transport."""
        self.reason = self.reason or reason
        if not self.lost:
            sockopt.reset(self.transport)

    def _stop_sending(self) -> None:
        self.due = 0.0
        if self.is_open:
            self.is_open = False
            self._owner.link_closing()

    def _finish(self) -> None:
        """Nothing more is worth reading: RFC 6455 section 7.1.1, the server first."""
        self._is_deaf = True
        if self.lost or self.transport.is_closing() or self.side is Side.CLIENT:
            return
        if self.kind is Kind.TLS:
            if not self.unsent():
                self.transport.close()
        else:
            write_eof(self.transport)

    def eof_received(self) -> bool:
        if not self._close_received:
            self.reason = self.reason or "lost without a Close"
        self._is_deaf = True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self.lost:
            return
        self.lost = True
        if not self._close_received:
            loss = describe_loss(exc, "lost without a Close")
            self.reason = self.reason or loss
        sweep_of(self.loop).discard(self)
        self._stop_sending()
        self._owner.link_ended(self.reason)

    # -- time ----------------------------------------------------------------------

    @property
    def is_flowing(self) -> bool:
        """Whatever happens to it will be heard (for the sweep)."""
        return self._is_reading

    def tick(self, now: float) -> None:
        """One look at the clock, by the sweep."""
        if self.lost:
            return
        unacked = self._unacked()
        if self._is_dead(unacked):
            self.abort("dead path")
        elif not self.is_open:
            self._tick_closing(now, unacked)
        else:
            due = self._owner.link_tick(now)
            if self._options.ping and self.is_open:
                due = min(due, self._tick_ping(now, unacked))
            self.due = due if self.is_open else 0.0

    def _unacked(self) -> int:
        sock = self.transport.get_extra_info("socket")
        return self.unsent() + (0 if sock is None else sockopt.unacked(sock))

    def _is_dead(self, unacked: int) -> bool:
        """See ``End.find_dead``: nothing passes although there is something to send."""
        options = self._options
        if not unacked or not options.ping:
            return False
        info = sockopt.tcp_info(self.transport.get_extra_info("socket"))
        limit = options.ping + options.ping_deadline
        return (
            info is not None
            and bool(info.retransmits or info.probes)
            and info.last_ack_recv > limit
        )

    def _tick_closing(self, now: float, unacked: int) -> None:
        """``linger`` for the peer's Close and end, from when ours was acknowledged.

        A peer that takes nothing of what is in front of it has ``half_close_timeout``.
        """
        self.due = 0.0
        limit = self._options.half_close_timeout
        if not self._stuck or unacked < self._stuck:
            self._stuck, self._stuck_at = unacked, now
        elif 0 < limit <= now - self._stuck_at:
            self.reason = self.reason or "no progress"
            self.abort("")
            return
        if not self._deadline or (unacked > 0 and not self._close_received):
            self._deadline = now + self._options.linger
        elif now >= self._deadline:
            if not self._close_received:
                self.reason = self.reason or "no Close in answer"
            self.abort("")
        elif self._close_received or self._decoder.error is not None:
            self._finish()

    def _tick_ping(self, now: float, unacked: int) -> float:
        """Ping when one is due; a peer that lets one go unanswered is dead.

        Returns:
            When to look again.
        """
        options = self._options
        if self._ping_since and self.reads != self._ping_reads:
            self._ping_since = 0.0
        elif self._ping_since and (unacked > 0 or not self._is_reading):
            self._ping_since = now
        elif self._ping_since and now - self._ping_since > options.ping_deadline:
            self.abort("ping timeout")
            return now
        if now >= self._next_ping and not self._ping_since and not self.unsent():
            self._next_ping = after_ping(now, options.ping)
            self._ping_since, self._ping_reads = now, self.reads
            self._write_control(OP_PING, b"")
        return 0.0 if self._ping_since else self._next_ping


_memories: "WeakKeyDictionary[asyncio.AbstractEventLoop, bytearray]" = (
    WeakKeyDictionary()
)


def _memory_of(loop: asyncio.AbstractEventLoop) -> bytearray:
    """Memory to read into, one for all links of ``loop``: each read is used up at once.

    Windows reads in the background, there each link has its own.
    """
    memory = None if sys.platform == "win32" else _memories.get(loop)
    if memory is None:
        memory = _memories[loop] = bytearray(_READ)
    return memory
