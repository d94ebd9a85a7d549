"""``copy_bidirectional``: the one call that every mode ends in.

It takes two streams, makes an end for each, feeds what was read before, and waits
until both transports are gone. Which event on one side becomes what on the other is
decided by the two ends (:mod:`fastws.net.ends`, :mod:`fastws.net.websocket`); this
module introduces them to each other and keeps the time limits that need both.
"""

import asyncio
from typing import Any, NamedTuple

from fastws._backend import Scratch
from fastws.net.ends import CopyOptions, End, raw_end
from fastws.net.keepalive import PingingEnd
from fastws.net.sockopt import is_uvloop
from fastws.net.stream import AttachedStream, ByteStream, Kind
from fastws.net.sweep import forget_closed, sweep_of
from fastws.net.websocket import WebSocketStream, websocket_end

DEFAULTS = CopyOptions()
# Bytes of one read for these sinks, which copy it, and keep all of it when stalled.
TLS_READ = 64 * 1024
STREAM_READ = 128 * 1024


class CopyResult(NamedTuple):
    """How a copy ended.

    Attributes:
        a_to_b: payload bytes read from ``a`` and given to ``b``.
        b_to_a: payload bytes the other way.
        reason: ``closed``, or what broke it first.
        is_clean: both directions ended in order.
    """

    a_to_b: int
    b_to_a: int
    reason: str
    is_clean: bool


async def copy_bidirectional(
    a: ByteStream,
    b: ByteStream,
    options: CopyOptions = DEFAULTS,
    *,
    group: "set[Copy] | None" = None,
) -> CopyResult:
    """Join two streams until both have ended, and close them.

    Half-close, reset and close codes are carried as docs/wire.md says. Memory is
    bounded: a slow reader stops its writer.

    Args:
        a: owned from now on; its transport is paused and has a ``Hold`` protocol.
        b: likewise.
        options: time limits and frame size.
        group: the copy is a member while it runs, so that it can be told to go away.

    Returns:
        Byte counts and the reason; nothing is raised for what peers do.

    Raises:
        asyncio.CancelledError: both transports were reset.
    """
    copy = Copy(a, b, options)
    if group is not None:
        group.add(copy)
    try:
        copy.start(a, b)
        return await copy.done
    finally:
        copy.release()
        if group is not None:
            group.discard(copy)


class Copy:
    """Two ends and what holds for both: the owner of :mod:`fastws.net.ends`.

    Attributes:
        a: end of the first stream.
        b: end of the second stream.
        done: set to the result when both transports are gone.
        due: loop time at which a sweep has to look although data flows.
    """

    __slots__ = (
        "__weakref__",
        "_ended_seen",
        "_half_closed_at",
        "_payload_at",
        "_payload_seen",
        "a",
        "b",
        "done",
        "due",
        "is_going_away",
        "loop",
        "options",
        "reason",
    )

    def __init__(self, a: ByteStream, b: ByteStream, options: CopyOptions) -> None:
        self.loop = asyncio.get_running_loop()
        self.options = options
        self.done: asyncio.Future[CopyResult] = self.loop.create_future()
        self.reason = ""
        self.is_going_away = False
        self.due = 0.0
        self._half_closed_at = 0.0
        self._ended_seen = -1
        self._payload_at = self.loop.time()
        self._payload_seen = 0
        scratch = scratch_of(self.loop)
        self.a = self._make_end(a, scratch)
        self.b = self._make_end(b, scratch)
        self.a.link(self.b)

    def _make_end(self, stream: ByteStream, scratch: Scratch) -> End:
        plain = stream.kind in (Kind.TCP, Kind.UNIX)
        vectored = plain and is_uvloop(self.loop)
        if isinstance(stream, WebSocketStream):
            return websocket_end(self, stream, scratch, vectored)
        if isinstance(stream, AttachedStream):
            end: End = stream.join(self)
            return end
        return raw_end(self, stream, scratch, vectored)

    def start(self, a: ByteStream, b: ByteStream) -> None:
        """Take over both transports, then feed and read: in this order."""
        pairs = ((self.a, a), (self.b, b))
        for end, stream in pairs:
            if not isinstance(stream, AttachedStream):
                attach(end, stream)
        sweep_of(self.loop).add(self, self.options.granularity)
        for end, stream in pairs:
            if isinstance(stream, AttachedStream):
                stream.joined()
                continue
            hold = stream.hold
            leftover, hold.leftover = hold.leftover, b""
            if leftover:
                end.feed(leftover)
        for end, stream in pairs:
            if stream.hold.eof and not end.eof_received() and not end.lost:
                end.transport.close()
            if stream.hold.lost:
                end.connection_lost(stream.hold.error)
        for end in (self.a, self.b):
            if self.other(end).lost:
                end.resume()
            elif not end.lost:
                end.start()

    def release(self) -> None:
        """Leave nothing behind: reset what is still open, break the cycles."""
        sweep_of(self.loop).discard(self)
        for end in (self.a, self.b):
            if not end.lost:
                end.abort()
            end.detach()

    # -- what the ends tell --------------------------------------------------------

    def other(self, end: End) -> End:
        """The end that is not ``end``."""
        return self.b if end is self.a else self.a

    def received_eof(self, end: End) -> None:
        """No more payload comes from ``end``, in order."""
        self.other(end).send_eof()
        self.wake()

    def received_reset(self, end: End, reason: str, drop: bool = False) -> None:
        """``end`` broke: the other side has to see a reset, never an EOF."""
        self.blame(end, reason)
        self.other(end).send_reset(reason, drop=drop)
        self.wake()

    def blame(self, end: End, reason: str) -> None:
        """The copy does not end in order because of ``end``; a first reason stays."""
        if not self.reason:
            self.reason = f"{'ab'[end is self.b]}: {reason}"

    def end_lost(self, end: End) -> None:
        """The transport of ``end`` is gone; with both gone the copy is over."""
        if self.other(end).lost and not self.done.done():
            self.done.set_result(
                CopyResult(
                    self.a.payload_in,
                    self.b.payload_in,
                    self.reason or "closed",
                    not self.reason,
                )
            )

    def part(self, end: End, parted: Any) -> None:
        """``end`` goes on without this copy, in which ``parted`` stands for it."""
        if end is self.a:
            self.a = parted
        else:
            self.b = parted
        self.end_lost(parted)

    def replace(self, end: End, other: End) -> None:
        """``other`` goes on in the place of ``end``, which is linked no more."""
        end.unlink()
        if end is self.a:
            self.a = other
        else:
            self.b = other
        self.other(other).link(other)
        self.wake()

    def wake(self) -> None:
        """Something has to be looked at with the next sweep."""
        self.due = 0.0

    @property
    def payload(self) -> int:
        """Bytes of payload so far, both ways."""
        return self.a.payload_in + self.b.payload_in

    # -- time ----------------------------------------------------------------------

    @property
    def is_flowing(self) -> bool:
        """Both ends are read: whatever happens to them will be heard."""
        return bool(self.a.is_reading and self.b.is_reading)

    def tick(self, now: float) -> None:
        """One look at the clock, by the sweep."""
        self.due = float("inf")
        self.a.tick(now)
        self.b.tick(now)
        if self.done.done():
            return
        options = self.options
        if options.idle_timeout:
            self._tick_idle(now, options.idle_timeout)
        if options.half_close_timeout:
            self._tick_half_closed(now, options.half_close_timeout)
        for end in (self.a, self.b):
            if end.is_stuck or end.eof_in:
                self.due = 0.0
            elif isinstance(end, PingingEnd):
                self.due = min(self.due, end.next_due())

    def _tick_idle(self, now: float, limit: float) -> None:
        payload = self.a.payload_in + self.b.payload_in
        if payload != self._payload_seen:
            self._payload_seen = payload
            self._payload_at = now
        elif now - self._payload_at >= limit:
            self.go_away("idle time-out")
        self.due = 0.0

    def _tick_half_closed(self, now: float, limit: float) -> None:
        """After an EOF something has to move: payload, or what we have to send."""
        payload = self.a.payload_in + self.b.payload_in
        if not (self.a.eof_in or self.b.eof_in) or payload != self._ended_seen:
            self._ended_seen = payload
            self._half_closed_at = now
        moved = [end.stuck_at for end in (self.a, self.b) if end.is_stuck]
        if now - max(self._half_closed_at, *moved, 0.0) >= limit:
            self.reason = self.reason or "half-close time-out"
            self.a.send_reset("half-close time-out")
            self.b.send_reset("half-close time-out")

    def go_away(self, reason: str) -> None:
        """End this copy ourselves: Close 1001 to a WebSocket, reset to the rest."""
        if not self.is_going_away:
            self.is_going_away = True
            self.reason = self.reason or reason
            self.a.send_going_away(reason)
            self.b.send_going_away(reason)
            self.wake()

    def abort(self, reason: str) -> None:
        """Reset both transports now."""
        self.reason = self.reason or reason
        self.a.abort()
        self.b.abort()


def attach(end: End, stream: ByteStream) -> None:
    """Make ``end`` the protocol of a paused transport, with the limits we need.

    TLS with a limit of 0 would pause on an empty buffer and never resume; anything
    above 0 elsewhere would hide what is unsent.
    """
    transport = stream.transport
    if stream.hold.lost:
        end.lost = True
        end.is_sending = False
        return
    sock = transport.get_extra_info("socket")
    end.attach(transport, -1 if sock is None else sock.fileno())
    # After attach: if something is unsent already, the end has to hear of it now.
    if stream.kind is Kind.TLS:
        transport.set_write_buffer_limits(high=1, low=0)
        end.read_limit = TLS_READ
    else:
        transport.set_write_buffer_limits(high=0)
        if stream.kind is Kind.STREAM:
            end.read_limit = STREAM_READ


_scratches: dict[asyncio.AbstractEventLoop, Scratch] = {}


def scratch_of(loop: asyncio.AbstractEventLoop) -> Scratch:
    """The read memory of ``loop``, made at its first use."""
    scratch = _scratches.get(loop)
    if scratch is None:
        forget_closed(_scratches)
        scratch = _scratches[loop] = Scratch(loop.call_soon)
        sweep_of(loop).chores.append(scratch.trim)
    return scratch
