"""The ends of a copy: what each kind of transport can say and hear.

An end is the asyncio protocol of one transport. The pump below it
(``fastws._backend.CopyEnd``) moves the bytes; this module decides what an EOF, a
reset and a silence mean for a raw byte stream, and how to say them to one. The
WebSocket end stands in :mod:`fastws.net.websocket`.

An orderly end is *EOF*: everything before it was delivered. Anything else is a
*reset*, and never becomes an EOF on its way.
"""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

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

    @property
    def granularity(self) -> float:
        """Seconds between two looks at a copy that waits for something."""
        times = (self.linger, self.half_close_timeout, self.idle_timeout)
        pings = (self.ping, self.ping_deadline) if self.ping else ()
        return min(1.0, *(t / 4 for t in times + pings if t > 0), 1.0)


class Owner(Protocol):
    """What an end tells the copy it belongs to."""

    options: CopyOptions
    loop: asyncio.AbstractEventLoop

    def other(self, end: "End") -> "End": ...
    def received_eof(self, end: "End") -> None: ...
    def received_reset(self, end: "End", reason: str, drop: bool = False) -> None: ...
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
    """

    __slots__ = (
        "_ack_seen",
        "_progress_at",
        "_quiet_at",
        "_reads_seen",
        "eof_in",
        "eof_out",
        "kind",
        "lost",
        "owner",
        "resetting",
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
    ) -> None:
        super().__init__(
            scratch,
            decoder=decoder,
            keys=keys,
            max_message=owner.options.max_message,
            vectored=vectored,
        )
        self.owner = owner
        self.kind = kind
        self.eof_in = False
        self.eof_out = False
        self.lost = False
        self.resetting = False
        self._reads_seen = 0
        self._ack_seen = 0
        self._quiet_at = self._progress_at = owner.loop.time()

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
        self.lost = True
        self.is_deaf = True
        self.is_sending = False
        self.fd = -1
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

    def quiet_for(self, now: float) -> float:
        """Seconds since a byte came, counted from when all of ours was taken."""
        pending = self.unacked()
        if pending != self._ack_seen:
            self._ack_seen = pending
            self._progress_at = now
        if pending or self.reads != self._reads_seen:
            self._reads_seen = self.reads
            self._quiet_at = now
        return now - self._quiet_at

    def check_path(self, now: float) -> bool:
        """Reset this end if its path is dead; call after :meth:`quiet_for`."""
        reason = self.find_dead(now)
        if reason is None:
            return True
        self.abort()
        self.owner.received_reset(self, reason)
        return False

    def find_dead(self, now: float) -> str | None:
        """Why the path is dead although the transport has not noticed, or None."""
        limit = self.owner.options.half_close_timeout
        if limit and self._ack_seen and now - self._progress_at > limit:
            return "no progress"
        if self.fd < 0:
            return None
        if not self.is_reading and sockopt.poll_dead(self.fd) == "reset":
            return "reset"
        options = self.owner.options
        if options.ping and self.kind is not Kind.UNIX and self._ack_seen:
            info = sockopt.tcp_info(self.socket)
            if (
                info is not None
                and (info.retransmits or info.probes)
                and info.last_ack_recv > options.ping + options.ping_deadline
            ):
                return "dead path"
        return None

    def close_when_flushed(self) -> None:
        """Close if the transport holds nothing; a later tick calls again.

        TLS keeps what its inner transport could not send out of sight: there the
        kernel's free space tells. ``close()`` would throw the rest away.
        """
        if self.lost or self.transport.get_write_buffer_size():
            return
        if self.kind is Kind.TLS and self.fd >= 0:
            if sockopt.send_capacity(self.socket) <= 0:
                return
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
        if self.lost:
            return
        loop = self.owner.loop
        if not self.unacked() or loop.time() >= deadline:
            sockopt.reset(self.transport)
        else:
            again = min(delay * 2, 0.1)
            loop.call_later(delay, self._poll_acked, again, deadline)


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
        if self.lost or self.resetting:
            return
        self.quiet_for(now)
        self.check_path(now)


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
        self.owner.wake()

    def payload_refused(self) -> None:
        """It closed both ways: a sender that goes on learns it as from TCP."""
        if self.eof_in and not self.eof_out:
            self.owner.other(self).send_reset("data after the TLS end closed")

    def transport_lost(self, exc: Exception | None) -> None:
        if self.resetting or self.eof_in:
            return
        self.owner.received_reset(self, describe_loss(exc, "TLS cut"))

    def tick(self, now: float) -> None:
        linger = self.owner.options.linger
        if self.eof_in and not self.eof_out:
            self._ends_at = self._ends_at or now + linger
            if now >= self._ends_at:
                self.owner.other(self).send_reset("no end after the TLS end closed")
            return
        if self.lost or self.resetting:
            return
        quiet = self.quiet_for(now)
        if self.check_path(now) and self.eof_out and not self.eof_in:
            if quiet >= linger:
                self.eof_in = self.is_deaf = True
                self.close_when_flushed()
                self.owner.received_eof(self)


def describe_loss(exc: Exception | None, otherwise: str = "reset") -> str:
    """One or two words for the log: how a transport was lost."""
    if exc is None or isinstance(exc, ConnectionResetError):
        return otherwise
    if isinstance(exc, TimeoutError):
        return "keepalive failed"
    return str(getattr(exc, "strerror", None) or exc) or type(exc).__name__


def raw_end(owner: Owner, stream: ByteStream, scratch: Scratch, vectored: bool) -> End:
    """The end for a raw stream of whatever kind."""
    if stream.kind is Kind.TLS:
        return TlsEnd(owner, stream.kind, scratch)
    return RawEnd(owner, stream.kind, scratch, vectored=vectored)
