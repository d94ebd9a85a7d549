"""A pooled WebSocket, both sides: streams one after the other (docs/pool.md).

The packets and the bytes are the business of :mod:`fastws.net.pool_end`; here the
client begins streams and hears what became of them, and the server is told of them.
"""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from fastws import _consts
from fastws.exceptions import NoUpstream
from fastws.net.copy import DEFAULTS, attach, scratch_of
from fastws.net.ends import CopyOptions, End
from fastws.net.pool_end import PooledStream, pool_end
from fastws.net.pool_udp import PooledDatagrams, Receive
from fastws.net.sockopt import is_uvloop
from fastws.net.stream import Kind
from fastws.net.sweep import sweep_of
from fastws.net.websocket import WebSocketStream
from fastws.wire.pool import MAX_DATA, Associate, Connect, Datagram, Status

_GONE = "the pooled WebSocket ended"


class Request(NamedTuple):
    """What a client asked for.

    Attributes:
        packet: the target of a stream, or that datagrams are wanted.
        stream: tells this stream from the next ones.
    """

    packet: Connect | Associate
    stream: int


class PooledSocket:
    """One pooled WebSocket. One event loop.

    Args:
        stream: after the opening handshake; owned from now on.
        options: for streams, and for the connection between them.
        max_data: payload of one packet to a stranger, bytes.
        on_idle: called each time the next stream may begin again.
        on_end: called once, when no stream can begin any more.

    Attributes:
        due: see :class:`fastws.net.sweep.Swept`.
        lost: set when the transport is gone.
    """

    __slots__ = (
        "_answer",
        "_datagrams",
        "_on_end",
        "_on_idle",
        "_request",
        "_waiter",
        "due",
        "end",
        "loop",
        "lost",
        "options",
    )

    def __init__(
        self,
        stream: WebSocketStream,
        options: CopyOptions = DEFAULTS,
        *,
        max_data: int = MAX_DATA,
        on_idle: Callable[["PooledSocket"], object] | None = None,
        on_end: Callable[["PooledSocket"], object] | None = None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.options = options
        self.due = 0.0
        self.lost: asyncio.Future[None] = self.loop.create_future()
        self._on_idle = on_idle
        self._on_end = on_end
        self._answer: asyncio.Future[Status] | None = None
        self._datagrams: PooledDatagrams | None = None
        self._request: Request | None = None
        self._waiter: asyncio.Future[None] | None = None
        vectored = stream.kind in (Kind.TCP, Kind.UNIX) and is_uvloop(self.loop)
        scratch = scratch_of(self.loop)
        self.end = pool_end(self, stream, scratch, vectored, max_data)
        self._take_over(stream)

    def _take_over(self, stream: WebSocketStream) -> None:
        end, hold = self.end, stream.hold
        attach(end, stream)
        sweep_of(self.loop).add(self, self.options.granularity)
        leftover, hold.leftover = hold.leftover, b""
        if leftover:
            end.feed(leftover)
        if hold.eof and not hold.lost:
            end.eof_received()
            end.transport.close()
        if hold.lost:
            end.connection_lost(hold.error)
        elif end.owner is self and end.may_read:
            end.resume()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.end.track!r} {self.reason}>"

    @property
    def reason(self) -> str:
        """Why no stream can begin any more, empty while one can."""
        return self.end.reason

    @property
    def is_idle(self) -> bool:
        """The next stream may begin."""
        return not self.end.reason and self.end.track.is_idle

    def close(self, code: int = _consts.CLOSE_NORMAL, reason: str = "closed") -> None:
        """End the connection; a stream that is open is reset. Idempotent."""
        self.end.leave(code, reason)

    def abort(self) -> None:
        """Reset the connection."""
        self.end.give_up("stopped")
        self.end.abort()

    # -- client ----------------------------------------------------------------------

    async def connect(
        self, host: str, port: int, timeout: float
    ) -> PooledStream | Status:
        """Begin a stream; :attr:`is_idle` has to hold.

        A stranger does not answer: its stream is there at once.

        Args:
            host: name or IP literal, without brackets.
            port: 0 to 65535.
            timeout: seconds until the answer has to come.

        Returns:
            The stream for one copy, or why there is none.

        Raises:
            LocalProtocolError: not our turn, or the address does not fit.
            NoUpstream: the connection ended meanwhile.
        """
        end = self.end
        end.connect(host, port)
        if end.track.is_answered:
            return PooledStream(end)
        status = await self._answered(timeout)
        return PooledStream(end) if status is Status.CONNECTED else status

    async def associate(
        self, receive: Receive, timeout: float
    ) -> PooledDatagrams | Status:
        """Begin an exchange of datagrams; :attr:`is_idle` has to hold.

        Args:
            receive: gets what comes back.
            timeout: seconds until the answer has to come.

        Returns:
            The way for the datagrams, or why there is none; a stranger's server
            does not support it.

        Raises:
            LocalProtocolError: not our turn.
            NoUpstream: the connection ended meanwhile.
        """
        end = self.end
        if not end.track.is_extended:
            return Status.NOT_SUPPORTED
        end.associate()
        datagrams = self._datagrams = PooledDatagrams(end)
        status = await self._answered(timeout)
        if status is Status.CONNECTED:
            datagrams.begin(receive)
            return datagrams
        return status

    async def _answered(self, timeout: float) -> Status:
        """Wait for what became of what was asked for.

        The answer wakes us in a later turn of the loop: by then the stream may be
        over, and the connection somebody else's.
        """
        number = self.end.track.stream
        answer: asyncio.Future[Status] = self.loop.create_future()
        self._answer = answer
        try:
            async with asyncio.timeout(timeout):
                status = await answer
        except TimeoutError:
            self._break_off(number, "no answer in time")
            return Status.TIMED_OUT
        except asyncio.CancelledError:
            self._break_off(number, "given up")
            raise
        finally:
            if self._answer is answer:
                self._answer = None
        if status is Status.CONNECTED and not self._is_at(number):
            return Status.FAILED
        return status

    def _is_at(self, number: int) -> bool:
        track = self.end.track
        return track.is_open and track.stream == number and not self.reason

    def _break_off(self, number: int, reason: str) -> None:
        if self._is_at(number):
            self.end.send_reset(reason)

    # -- server ----------------------------------------------------------------------

    async def next_request(self) -> Request | None:
        """Wait for the next stream; ``None``: the connection is over."""
        while self._request is None or not self.is_current(self._request):
            self._request = None
            if self.reason:
                return None
            self._waiter = self.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        request, self._request = self._request, None
        return request

    def is_current(self, request: Request) -> bool:
        """The client still waits for what becomes of it."""
        track = self.end.track
        is_same = track.is_open and track.stream == request.stream
        return is_same and not track.is_answered and not self.reason

    def accept(self, request: Request) -> PooledStream | None:
        """The target is there; join the stream in the same turn of the loop.

        Returns:
            ``None`` when the client does not wait for it any more.
        """
        if not self.is_current(request):
            return None
        self.end.answer(Status.CONNECTED)
        return PooledStream(self.end)

    def accept_datagrams(
        self, request: Request, receive: Receive
    ) -> PooledDatagrams | None:
        """Datagrams can be sent; those that came already are handed over first.

        Args:
            request: whose packet is an :class:`Associate`.
            receive: gets target and payload of each datagram.

        Returns:
            ``None`` when the client does not wait for it any more.
        """
        datagrams = self._datagrams
        if datagrams is None or not self.is_current(request):
            return None
        self.end.answer(Status.CONNECTED)
        datagrams.begin(receive)
        return datagrams

    def refuse(self, request: Request, status: Status) -> None:
        """There is no target; nothing happens when nobody waits for it."""
        if self.is_current(request):
            self.end.answer(status)

    # -- what the end tells ------------------------------------------------------------

    def requested(self, packet: Connect | Associate) -> None:
        """A stream begins; an older one is over by now."""
        self._request = Request(packet, self.end.track.stream)
        if isinstance(packet, Associate):
            self._datagrams = PooledDatagrams(self.end)
        self._wake_server()

    def answered(self, status: Status) -> None:
        """What became of the target; a failure ends our part too."""
        if status is not Status.CONNECTED:
            self.end.send_eof()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(status)

    def arrived(self, datagram: Datagram) -> None:
        """One datagram of the peer."""
        if self._datagrams is not None:
            self._datagrams.arrived(datagram)

    def over(self) -> None:
        """The next stream may begin."""
        self._datagrams = None
        if self._on_idle is not None:
            self._on_idle(self)

    def broke(self, reason: str) -> None:
        """No stream any more."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(NoUpstream(f"{_GONE}: {reason}"))
        if self._datagrams is not None:
            self._datagrams.ended(reason)
            self._datagrams = None
        self._wake_server()
        if self._on_end is not None:
            on_end, self._on_end = self._on_end, None
            on_end(self)

    def _wake_server(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def other(self, end: End) -> End:
        """There is no other end between streams."""
        return end

    def received_eof(self, end: End) -> None:
        """The peer has said all: of a stream before its copy, which will tell it."""
        if self._datagrams is not None:
            self._datagrams.ended("")

    def received_reset(self, end: End, reason: str, drop: bool = False) -> None:
        """A client breaks off what it asked for, or the connection is dead."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(Status.FAILED)
        if self._datagrams is not None:
            self._datagrams.ended(reason)
        if self.end.resetting:
            self.end.give_up(reason)

    def blame(self, end: End, reason: str) -> None:
        """Nobody asks."""

    def end_lost(self, end: End) -> None:
        """The transport is gone."""
        sweep_of(self.loop).discard(self)
        self.end.detach()
        if not self.lost.done():
            self.lost.set_result(None)

    # -- time --------------------------------------------------------------------------

    def wake(self) -> None:
        """Something has to be looked at with the next sweep."""
        self.due = 0.0

    @property
    def is_flowing(self) -> bool:
        """Whatever happens to the connection will be heard."""
        return bool(self.end.is_reading)

    def tick(self, now: float) -> None:
        """One look at the clock; during a copy that is its business."""
        if self.end.owner is self:
            self.end.tick(now)
            self.due = self.end.next_due()
