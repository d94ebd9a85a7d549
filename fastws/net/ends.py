"""The ends of a copy: what each kind of transport can say and hear.

An end is the asyncio protocol of one transport. The pump below it
(``fastws._backend.CopyEnd``) moves the bytes; this module decides what an EOF, a
reset and a silence mean for a raw byte stream, and how to say them to one. The
WebSocket end stands in :mod:`fastws.net.websocket`.

An orderly end is *EOF*: everything before it was delivered. Anything else is a
*reset*, and never becomes an EOF on its way.
"""

import asyncio
import errno
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from fastws import _consts
from fastws._backend import CopyEnd, FrameDecoder, MaskKeys, Scratch
from fastws.net import sockopt
from fastws.net.stream import ByteStream, Kind


@dataclass(frozen=True, slots=True)
class CopyOptions:
    """How long and how strictly a copy waits. Seconds and bytes; 0 is off.

    Attributes:
        linger: patience after the last word, from when all of it is acknowledged.
        half_close_timeout: silence after which a half-closed copy is reset.
        idle_timeout: payload silence after which a copy ends.
        ping: seconds between WebSocket pings.
        ping_deadline: silence after a ping that means the peer is gone.
        max_message: one outgoing frame, its header included.
        on_eof: what stw does with a stranger at a TCP EOF: ``hold`` or ``close``.
    """

    linger: float = _consts.LINGER
    half_close_timeout: float = _consts.HALF_CLOSE_TIMEOUT
    idle_timeout: float = _consts.IDLE_TIMEOUT
    ping: float = _consts.PING
    ping_deadline: float = _consts.PING_DEADLINE
    max_message: int = _consts.MAX_MESSAGE
    on_eof: str = "hold"

    granularity: float = field(init=False)
    """Seconds between two looks at a copy that waits for something."""

    def __post_init__(self) -> None:
        times = (self.linger, self.half_close_timeout, self.idle_timeout)
        pings = (self.ping, self.ping_deadline) if self.ping else ()
        steps = [t / 4 for t in times + pings if t > 0]
        object.__setattr__(self, "granularity", min([1.0, *steps]))


_UNANSWERED = 3.0  # seconds; longer than Linux holds an ACK of a probe back
_LAST_LOOK = 0.05  # seconds for input that was on its way when the peer closed
_NEARLY_NOTHING = 4096  # bytes; no kernel's send buffer is full with that


class Owner(Protocol):
    """What an end tells the copy it belongs to."""

    options: CopyOptions
    loop: asyncio.AbstractEventLoop

    def other(self, end: "End") -> "End": ...
    def received_eof(self, end: "End") -> None: ...
    def received_reset(self, end: "End", reason: str, drop: bool = False) -> None: ...
    def blame(self, end: "End", reason: str) -> None: ...
    def end_lost(self, end: "End") -> None: ...
    def wake(self) -> None: ...


if TYPE_CHECKING:
    _Base = CopyEnd
else:

    class _Base(CopyEnd, asyncio.BufferedProtocol):
        """asyncio tells buffered protocols from others by their base class."""

        __slots__ = ()


class End(_Base):
    """One end of a copy: its direction states and its timers.

    Attributes:
        eof_in: no more payload comes from here, in order.
        eof_out: no more payload goes out here.
        lost: the transport is gone.
        resetting: it will be reset, now or when what was sent is acknowledged.
        stuck_at: when something of ours was last acknowledged, while
            :attr:`is_stuck`; loop time.
    """

    __slots__ = (
        "_payload_seen",
        "_quiet_at",
        "_unacked_seen",
        "_unanswered_at",
        "eof_in",
        "eof_out",
        "kind",
        "lost",
        "owner",
        "resetting",
        "stuck_at",
    )

    def __init__(
        self,
        owner: Owner,
        kind: Kind,
        scratch: Scratch,
        *,
        decoder: FrameDecoder | None = None,
        keys: MaskKeys | None = None,
        vectored: bool = False,
        max_message: int = 0,
        data_kind: int = -1,
    ) -> None:
        super().__init__(
            scratch,
            decoder=decoder,
            keys=keys,
            max_message=max_message or owner.options.max_message,
            vectored=vectored,
            data_kind=data_kind,
        )
        self.owner = owner
        self.kind = kind
        self.eof_in = False
        self.eof_out = False
        self.lost = False
        self.resetting = False
        self._payload_seen = 0
        self._unacked_seen = 0
        self._unanswered_at = 0.0  # since when the kernel asks without an answer
        self._quiet_at = self.stuck_at = owner.loop.time()

    # -- asked of every end --------------------------------------------------------

    def send_eof(self) -> None:
        """The other end has ended in order: say so here, after all bytes."""
        raise NotImplementedError

    def send_reset(self, reason: str, *, drop: bool = False) -> None:
        """The other end broke: say so here, after all bytes unless ``drop``."""
        if drop:
            self.abort()
        else:
            self.reset_when_acked()

    def send_going_away(self, reason: str) -> None:
        """We end this copy ourselves (drain, idle time)."""
        self.send_reset(reason)

    def tick(self, now: float) -> None:
        """Look at the clock: called while the copy waits for something."""
        raise NotImplementedError

    def abort(self) -> None:
        """Reset the transport at once."""
        self.is_sending = False
        self.is_discarding = True
        if not self.lost and self.transport is not None:
            self.resetting = True
            sockopt.reset(self.transport)

    # -- shared mechanics ----------------------------------------------------------

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = self.is_deaf = True
        self.is_sending = self.is_reading = False
        self.fd = -1
        if self.peer is not None:
            self.peer.resume()  # it may have waited for room here: nobody will tell it
        self.transport_lost(exc)
        self.owner.end_lost(self)

    def transport_lost(self, exc: Exception | None) -> None:
        """Tell the owner what the loss of the transport means."""
        raise NotImplementedError

    def payload_refused(self) -> None:
        """Payload for an end that takes none: by default nobody waits for it."""

    def drained(self) -> None:
        """Nothing is unsent any more."""

    def unacked(self) -> int:
        """Bytes of ours that the peer's kernel has not acknowledged yet."""
        if self.lost or self.transport is None:
            return 0
        unsent = int(self.transport.get_write_buffer_size())
        sock = self.socket
        return unsent if sock is None else unsent + sockopt.unacked(sock)

    @property
    def socket(self) -> sockopt.SocketLike | None:
        """The socket below the transport; ``None``: none, or closed by now."""
        sock: sockopt.SocketLike | None = self.transport.get_extra_info("socket")
        return sock

    @property
    def is_stuck(self) -> bool:
        """Something of ours was not acknowledged when :meth:`observe` looked."""
        return self._unacked_seen > 0

    def observe(self, now: float) -> None:
        """Look at what went out and came in since the last look."""
        unacked = self.unacked()
        if unacked < self._unacked_seen or not self._unacked_seen:
            self.stuck_at = now
        self._unacked_seen = unacked
        is_paused = not self.is_reading and not self.is_deaf
        if unacked or is_paused or self.payload_in != self._payload_seen:
            self._payload_seen = self.payload_in
            self._quiet_at = now

    def find_dead(self, now: float) -> str | None:
        """Why the path is dead although the transport has not noticed, or None.

        Call after :meth:`observe`. A reader that merely stalls answers the kernel's
        probes, so ``TCP_INFO`` tells it from a path on which nothing passes.
        """
        if self.eof_out and self._unacked_seen:
            if 0 < self.owner.options.half_close_timeout < now - self.stuck_at:
                return "no progress"
        if self.fd < 0:
            return None
        if not self.is_reading and sockopt.poll_dead(self.fd) == "reset":
            return "reset"
        return "dead path" if self._is_path_dead(now) else None

    def _is_path_dead(self, now: float) -> bool:
        """Whether the kernel's retransmissions and probes have long had no answer.

        One look proves nothing: each probe is unanswered for a moment, and late in a
        stall Linux probes so rarely that the last answer may be minutes old.
        """
        options = self.owner.options
        info = None
        if self._unacked_seen and options.ping and self.kind is not Kind.UNIX:
            info = sockopt.tcp_info(self.socket)
        if info is None or not (info.retransmits or info.probes):
            self._unanswered_at = 0.0
            return False
        self._unanswered_at = self._unanswered_at or now
        deadline = options.ping_deadline
        return (
            now - self._unanswered_at >= max(deadline / 2, _UNANSWERED)
            and info.last_ack_recv > options.ping + deadline
        )

    def check_path(self, now: float) -> bool:
        """Reset this end if its path is dead; call after :meth:`observe`."""
        reason = self.find_dead(now)
        if reason is None:
            return True
        self.abort()
        self.owner.received_reset(self, reason)
        return False

    def close_when_flushed(self) -> None:
        """Close, over TLS only if everything was sent; a later tick calls again.

        ``close()`` of TLS throws away what is left after its shutdown time-out, and
        what its inner transport holds is out of sight: that holds something only
        while the kernel's buffer is full.
        """
        if self.lost or self.transport.is_closing():
            return
        if self.kind is Kind.TLS:
            sock = self.socket
            if self.transport.get_write_buffer_size() or (
                sock is not None and sockopt.unacked(sock) > _NEARLY_NOTHING
            ):
                return
            self.resume()  # aiofastnet hears no answer to its close_notify otherwise
        self.transport.close()

    def reset_when_acked(self) -> None:
        """Reset once what was sent is acknowledged, at most after ``linger``."""
        if self.lost or self.resetting:
            return
        self.resetting = True
        self.is_sending = False
        self.is_discarding = True
        self.pause()
        loop = self.owner.loop
        self._poll_acked(0.002, loop.time() + self.owner.options.linger)

    def _poll_acked(self, delay: float, deadline: float) -> None:
        if self.lost or self.transport is None:
            return
        loop = self.owner.loop
        if not self.unacked() or loop.time() >= deadline:
            sockopt.reset(self.transport)
        else:
            again = min(delay * 2, 0.1)
            loop.call_later(delay, self._poll_acked, again, deadline)


class RereadEnd(End):
    """An end on a TLS transport that forgets what it holds when reading is resumed.

    aiofastnet 1.2 looks at bytes that it took from the socket before the pause only
    when the socket has more; without more the relay would stand still.
    """

    __slots__ = ()

    def resume(self) -> None:
        was_reading = self.is_reading
        super().resume()
        if self.is_reading and not was_reading:
            self.owner.loop.call_soon(self._read_held)

    def _read_held(self) -> None:
        if self.is_reading:
            read_held(self.transport)


class RawEnd(End):
    """TCP, unix socket or tunnel stream: EOF each way is a message of its own."""

    __slots__ = ()

    def eof_received(self) -> bool:
        if not self.eof_in:
            self.eof_in = self.is_deaf = True
            self.is_reading = False
            self.owner.received_eof(self)
            self._close_if_ended()
        return True

    def send_eof(self) -> None:
        if self.eof_out or self.lost or self.resetting:
            return
        self.eof_out = True
        self.is_sending = False
        if not self.transport.is_closing():
            with suppress(
                OSError
            ):  # asyncio's raises after a reset, which we will hear
                self.transport.write_eof()
            self._close_if_ended()

    def _close_if_ended(self) -> None:
        if self.eof_in and self.eof_out and not self.lost:
            self.transport.close()

    def transport_lost(self, exc: Exception | None) -> None:
        if self.resetting or (self.eof_in and self.eof_out and exc is None):
            return
        self.owner.received_reset(self, describe_loss(exc))

    def tick(self, now: float) -> None:
        if not self.lost and not self.resetting:
            self.observe(now)
            self.check_path(now)


class StdioEnd(RawEnd):
    """Standard input and output: nobody has to close the first one by hand."""

    __slots__ = ()

    def send_eof(self) -> None:
        """Once the WebSocket has closed, what is typed has nowhere to go.

        What comes at once was cut off and makes this a reset; silence is an end. A
        fastws peer that has only ended its direction goes on reading.
        """
        super().send_eof()
        if getattr(self.owner.other(self), "close_sent", 0) and not self.lost:
            self.resume()
            self.owner.loop.call_later(_LAST_LOOK, self._end_input)

    def _end_input(self) -> None:
        if not (self.eof_in or self.lost or self.resetting):
            self.eof_in = self.is_deaf = True
            self.is_reading = False
            self._close_if_ended()


class TlsEnd(End):
    """A raw stream over TLS: close_notify ends both directions at once."""

    __slots__ = ("_ends_at",)

    def __init__(self, owner: Owner, kind: Kind, scratch: Scratch) -> None:
        super().__init__(owner, kind, scratch)
        self._ends_at = 0.0

    def eof_received(self) -> bool:
        """Everything before it is delivered; what the other end says is not."""
        if not self.eof_in:
            self.eof_in = self.is_deaf = True
            self.is_sending = self.is_reading = False
            self.owner.received_eof(self)
            self.owner.wake()
        return False

    def send_eof(self) -> None:
        """TLS has no half-close: go on reading until it is quiet, then close."""
        self.eof_out = True
        self.is_sending = False
        self._quiet_at = self.owner.loop.time()
        self.owner.wake()

    def payload_refused(self) -> None:
        """It closed both ways: a sender that goes on learns it as from TCP."""
        if self.eof_in and not self.eof_out:
            self.owner.received_reset(self, "data after the TLS end closed")

    def transport_lost(self, exc: Exception | None) -> None:
        if not self.resetting and not self.eof_in:
            self.owner.received_reset(self, describe_loss(exc, "TLS cut"))

    def tick(self, now: float) -> None:
        if self.eof_in and not self.eof_out:
            self._tick_left(now)
        elif not self.lost and not self.resetting:
            self.observe(now)
            linger = self.owner.options.linger
            if self.check_path(now) and self.eof_out and now - self._quiet_at >= linger:
                if not self.eof_in:
                    self.eof_in = True
                    self.owner.received_eof(self)
                self.close_when_flushed()

    def _tick_left(self, now: float) -> None:
        """It closed both ways: the other end has ``linger`` to end too."""
        other = self.owner.other(self)
        if other.lost or other.resetting:
            return
        if other.unacked() or not self._ends_at:
            self._ends_at = now + self.owner.options.linger
        elif now >= self._ends_at:
            self.owner.received_reset(self, "no end after the TLS end closed")


class RereadTlsEnd(RereadEnd, TlsEnd):
    """A raw stream over TLS of aiofastnet."""

    __slots__ = ()


def describe_loss(exc: Exception | None, otherwise: str = "reset") -> str:
    """One or two words for the log: how a transport was lost."""
    if exc is None or isinstance(exc, ConnectionResetError):
        return otherwise
    if isinstance(exc, OSError) and exc.errno == errno.ENOTCONN:
        return otherwise  # our EOF came after its reset
    if isinstance(exc, TimeoutError):
        return "keepalive failed"
    text = str(getattr(exc, "strerror", None) or exc)
    if not text and isinstance(exc, BrokenPipeError):
        return "Broken pipe"  # asyncio's own for a pipe has no text
    return text or type(exc).__name__


def needs_rereads(transport: asyncio.Transport) -> bool:
    """Whether ends on this transport have to be of class :class:`RereadEnd`."""
    return type(transport).__module__.partition(".")[0] == "aiofastnet"


def read_held(transport: Any) -> None:
    """Have such a transport pass on what it holds; ``None``: it is gone."""
    if transport is None or transport.is_closing():
        return
    try:
        transport._do_read()  # nothing public makes it look
    except Exception as exc:
        transport._force_close(exc)  # as its own reader does


def raw_end(owner: Owner, stream: ByteStream, scratch: Scratch, vectored: bool) -> End:
    """The end for a raw stream of whatever kind."""
    if stream.kind is Kind.TLS:
        make = RereadTlsEnd if needs_rereads(stream.transport) else TlsEnd
        return make(owner, stream.kind, scratch)
    if stream.kind is Kind.STDIO:
        return StdioEnd(owner, stream.kind, scratch)
    return RawEnd(owner, stream.kind, scratch, vectored=vectored)
