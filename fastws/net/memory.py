"""A connection within this process: two transports, no socket below them.

What one side writes the other reads, in a later turn of the loop. Half-close, reset
and backpressure are those of a TCP connection with small kernel buffers.
"""

import asyncio
import errno
import os
from collections import deque
from collections.abc import Mapping
from typing import Any

from fastws.net.stream import write_limits
from fastws.typing import BytesLike

_HIGH = 64 * 1024  # bytes, as asyncio's own transports


class MemoryTransport(asyncio.Transport):
    """One end; made in pairs by :func:`memory_pair`. For one event loop.

    What is written is copied. Reading is paused until :meth:`resume_reading`.

    Args:
        loop: which it belongs to.
        protocol: to hear of it.
        extra: what ``get_extra_info`` knows.
        capacity: bytes under way to a peer that does not read: sent, and not taken.

    Attributes:
        peer: the other end.
    """

    __slots__ = (
        "_capacity",
        "_eof_told",
        "_has_eof",
        "_high",
        "_is_closing",
        "_is_due",
        "_is_lost",
        "_is_paused",
        "_is_reading",
        "_is_stalled",
        "_kept",
        "_loop",
        "_low",
        "_protocol",
        "_queue",
        "_size",
        "peer",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        protocol: asyncio.BaseProtocol,
        extra: Mapping[str, Any] | None = None,
        capacity: int = 0,
    ) -> None:
        super().__init__(dict(extra or {}))
        self._loop = loop
        self._protocol: Any = protocol
        self.peer: MemoryTransport = self  # until there are two
        self._capacity = capacity
        self._is_stalled = False
        self._queue: deque[memoryview] = deque()  # written, not taken
        self._size = 0
        self._high, self._low = _HIGH, _HIGH // 4
        self._is_paused = False  # the protocol was asked not to write
        self._kept = 0  # bytes of the peer's that our reader has not passed on
        self._is_reading = False
        self._has_eof = self._eof_told = False
        self._is_closing = self._is_lost = False
        self._is_due = False  # a call of _flow is on its way

    def __repr__(self) -> str:
        state = "lost" if self._is_lost else "closing" if self._is_closing else "open"
        return f"<MemoryTransport {state} unsent={self._size}>"

    # -- writing -------------------------------------------------------------------

    def write(self, data: BytesLike) -> None:
        if self._is_closing or self._has_eof or not data:
            return
        piece = memoryview(bytes(data))
        self._queue.append(piece)
        self._size += len(piece)
        self._schedule()
        self._ask_pause()

    def write_eof(self) -> None:
        self._has_eof = True
        self._schedule()

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return max(0, self._size + self.peer._kept - self._capacity)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def set_write_buffer_limits(
        self, high: int | None = None, low: int | None = None
    ) -> None:
        self._high, self._low = write_limits(high, low, _HIGH)
        self._ask_pause()

    def _ask_pause(self) -> None:
        if not self._is_paused and self.get_write_buffer_size() > self._high:
            self._is_paused = True
            self._protocol.pause_writing()

    # -- reading -------------------------------------------------------------------

    def is_reading(self) -> bool:
        return self._is_reading and not self._is_closing

    def pause_reading(self) -> None:
        self._is_reading = False

    def resume_reading(self) -> None:
        self._is_reading = True
        self.peer._schedule()

    def keep(self, count: int) -> None:
        """Let ``count`` bytes that were read here count as unsent at the peer.

        For a protocol that passes on what it reads: the peer goes on, and ends in
        order, when they have left it. Each call replaces the one before.
        """
        self._kept = count
        self.peer._schedule()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    def _receive(self, piece: memoryview) -> int:
        """Hand bytes to the protocol; how many it took."""
        protocol = self._protocol
        if not isinstance(protocol, asyncio.BufferedProtocol):
            protocol.data_received(bytes(piece))
            return len(piece)
        buffer = memoryview(protocol.get_buffer(len(piece)))
        count = min(len(buffer), len(piece))
        buffer[:count] = piece[:count]
        del buffer
        protocol.buffer_updated(count)
        return count

    def _receive_eof(self) -> None:
        if not self._protocol.eof_received():
            self.close()

    # -- moving --------------------------------------------------------------------

    def _schedule(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._flow)

    def _flow(self) -> None:
        """Move what was written here to the peer, as far as it reads."""
        self._is_due = False
        peer, queue = self.peer, self._queue
        while queue and peer.is_reading() and not self._is_stalled:
            piece = queue.popleft()
            count = peer._receive(piece)
            self._size -= count
            if count < len(piece) and not self._is_lost:
                queue.appendleft(piece[count:])
        if self._is_stalled:
            return
        if peer._is_lost and queue:  # written to one that has closed
            self.lose(_reset_error())
            return
        is_low = self.get_write_buffer_size() <= self._low
        if self._is_paused and is_low and not self._is_lost:
            self._is_paused = False
            self._protocol.resume_writing()
        if queue or not self._has_eof:
            return
        if not self._eof_told and peer.is_reading():
            self._eof_told = True
            peer._receive_eof()
        if self._is_closing:
            self.lose(None)

    def stall(self, is_stalled: bool = True) -> None:
        """Let nothing that is written here through, as on a path that is cut.

        Args:
            is_stalled: ``False``: let it through again, what has piled up first.
        """
        self._is_stalled = is_stalled
        self._schedule()

    # -- ending --------------------------------------------------------------------

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        """Send what is unsent, then end; what the peer still says is lost."""
        self._is_closing = self._has_eof = True
        self._schedule()
        self.peer._schedule()

    def abort(self) -> None:
        """Drop what is unsent; the peer sees a reset."""
        if self._is_lost:
            return
        self.lose(None)
        self.peer.lose(_reset_error())

    def lose(self, exc: Exception | None) -> None:
        """The connection is gone on this side, for that reason. Idempotent."""
        if self._is_lost:
            return
        self._is_lost = self._is_closing = True
        self._queue.clear()
        self._size = 0
        self._loop.call_soon(self._tell_lost, exc)

    def _tell_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)
        self.peer._schedule()


def memory_pair(
    loop: asyncio.AbstractEventLoop,
    one: asyncio.BaseProtocol,
    other: asyncio.BaseProtocol,
    extra: Mapping[str, Any] | None = None,
    other_extra: Mapping[str, Any] | None = None,
    *,
    capacity: int = 0,
) -> tuple[MemoryTransport, MemoryTransport]:
    """Connect two protocols; their ``connection_made`` is left to the caller.

    Args:
        loop: which both belong to.
        one: protocol of the first transport.
        other: of the second one.
        extra: what ``get_extra_info`` of the first transport knows.
        other_extra: likewise of the second one.
        capacity: bytes under way in each direction that count as sent.
    """
    near = MemoryTransport(loop, one, extra, capacity)
    far = MemoryTransport(loop, other, other_extra, capacity)
    near.peer, far.peer = far, near
    return near, far


def _reset_error() -> ConnectionResetError:
    return ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
