"""A stream of a pooled WebSocket that goes on in another one when the first is dead.

A stranger does not answer Connect (docs/pool.md), so whether it is there shows only
when it says something. Until then what is sent is kept; if the WebSocket ends first,
the same bytes go to another one, and the other end of the copy notices nothing. They
may reach the target twice, if the server passed them on and died.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from fastws._backend import Scratch
from fastws.exceptions import FastwsError
from fastws.net.copy import Copy, scratch_of
from fastws.net.ends import End
from fastws.net.pool_end import PooledStream, PoolEnd
from fastws.net.stream import Kind
from fastws.typing import BytesLike

_ENOUGH = 64 * 1024  # bytes that are taken while there is no end


class Record:
    """Stands in for the transport of an end, and keeps what is written to it.

    It steps aside by itself when the peer has said something, or when there is more
    than can be kept.

    Args:
        end: a stream has begun, and none of its payload was written.
        limit: bytes of payload to keep.

    Attributes:
        frames: all payload so far, as it was written.
        is_whole: they are all, and the peer has not said a word.
    """

    __slots__ = ("_end", "_limit", "_reads", "_start", "_transport", "_whole", "frames")

    def __init__(self, end: PoolEnd, limit: int) -> None:
        self._end = end
        self._limit = limit
        self._start = end.payload_out
        self._reads = end.reads
        self._transport: Any = end.transport
        self._whole = True
        self.frames: list[bytes] = []
        self._attach(self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    @property
    def is_whole(self) -> bool:
        return self._whole and self._end.reads == self._reads

    @property
    def is_empty(self) -> bool:
        """No payload was written."""
        return self._end.payload_out == self._start

    def write(self, data: BytesLike) -> None:
        """Write, and keep a copy."""
        self._keep((data,))
        self._transport.write(data)

    def writelines(self, pieces: list[BytesLike]) -> None:
        """Write several, and keep copies."""
        self._keep(pieces)
        self._transport.writelines(pieces)

    def stop(self) -> None:
        """Keep no more: the end writes to its transport again. Idempotent."""
        if self._end.transport is self:
            self._attach(self._transport)

    def _keep(self, pieces: Iterable[BytesLike]) -> None:
        end = self._end
        if end.eof_out:
            return  # the last word, which is said anew
        if not self.is_whole or end.payload_out - self._start > self._limit:
            self._whole = False
            self.frames.clear()
            self.stop()
        else:
            self.frames += map(bytes, pieces)

    def _attach(self, transport: Any) -> None:
        end = self._end
        was_reading = end.is_reading
        end.attach(transport, end.fd)
        end.is_reading = was_reading


class _Sponge:
    """A transport that takes in what is written, and claims to have sent nothing."""

    def __init__(self) -> None:
        self.held: list[bytes] = []
        self.size = 0

    def write(self, data: BytesLike) -> None:
        self.held.append(bytes(data))
        self.size += len(data)

    def writelines(self, pieces: list[BytesLike]) -> None:
        for piece in pieces:
            self.write(piece)

    def get_write_buffer_size(self) -> int:
        return self.size

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def nothing(self, *args: object) -> None:
        """There is nothing to read, and nobody to be told."""

    set_protocol = pause_reading = resume_reading = nothing


class Limbo(End):
    """Keeps a place in a copy until there is an end for it.

    Attributes:
        task: looks for one; cancelled when the copy ends.
    """

    __slots__ = ("_sponge", "task")

    def __init__(self, owner: Copy, scratch: Scratch) -> None:
        super().__init__(owner, Kind.STREAM, scratch)
        self._sponge = _Sponge()
        self.attach(self._sponge)
        self.task: asyncio.Task[None] | None = None

    def take(self, size: int) -> Iterable[bytes]:
        """What was written meanwhile, in pieces of at most ``size`` bytes."""
        data = b"".join(self._sponge.held)
        return (data[start : start + size] for start in range(0, len(data), size))

    def send_eof(self) -> None:
        self.eof_out = True

    def send_reset(self, reason: str, *, drop: bool = False) -> None:
        self.abort()

    def abort(self) -> None:
        if self.lost:
            return
        self.lost = True
        self.is_sending = False
        if self.task is not None:
            self.task.cancel()
        self.owner.end_lost(self)

    def fail(self, reason: str) -> None:
        """There is no end to be had."""
        if not self.lost:
            self.task = None
            self.owner.received_reset(self, reason)
            self.abort()

    def tick(self, now: float) -> None:
        """The one who looks for an end has a clock."""


class ReplayStream(PooledStream):
    """The open stream of a stranger's WebSocket that has been idle, for one copy.

    Args:
        end: paused, nothing but Connect was sent.
        again: begins the same stream elsewhere; raises :class:`FastwsError`.
        keep: bytes of payload to keep for that.
        max_data: payload of one packet, bytes.
        connect_only: give up once payload was sent.
    """

    __slots__ = ("_again", "_copy", "_is_connect_only", "_keep", "_max_data", "_record")

    def __init__(
        self,
        end: PoolEnd,
        again: Callable[[], Awaitable[PooledStream]],
        *,
        keep: int,
        max_data: int,
        connect_only: bool,
    ) -> None:
        super().__init__(end)
        self._again = again
        self._keep = keep
        self._max_data = max_data
        self._is_connect_only = connect_only
        self._record: Record | None = None
        self._copy: Any = None

    def forgo_replay(self) -> None:
        """See :class:`fastws.net.stream.AttachedStream`."""
        self._is_connect_only = True

    def join(self, owner: Any) -> End:
        """See :class:`fastws.net.stream.AttachedStream`."""
        self._copy = owner
        end = super().join(owner)
        if self._end.reason:
            self._end.owner = self._end.carrier
            return self._begin_again(())
        keep = 0 if self._is_connect_only else self._keep
        self._record = Record(self._end, keep)
        self._end.rescue = self
        return end

    def joined(self) -> None:
        """See :class:`fastws.net.stream.AttachedStream`."""
        if self._record is not None:
            super().joined()

    # -- what the end asks for -------------------------------------------------------

    def stop(self) -> None:
        """The end needs no rescue any more."""
        if self._record is not None:
            self._record.stop()

    def save(self) -> None:
        """The WebSocket is dead: take the copy away from its end, if that can be."""
        record, copy, end = self._record, self._copy, self._end
        if record is None:
            return
        record.stop()
        user = copy.other(end)
        is_over = end.resetting or user.lost or user.resetting or copy.is_going_away
        may = record.is_empty or not self._is_connect_only
        if is_over or not may or not record.is_whole:
            return
        limbo = self._begin_again(record.frames)
        limbo.eof_out = end.eof_out
        end.owner = end.carrier
        copy.replace(end, limbo)

    def _begin_again(self, frames: Iterable[bytes]) -> Limbo:
        limbo = Limbo(self._copy, scratch_of(self._copy.loop))
        limbo.task = self._copy.loop.create_task(self._move(limbo, b"".join(frames)))
        return limbo

    async def _move(self, limbo: Limbo, frames: bytes) -> None:
        """Put another WebSocket in the place of ``limbo``."""
        try:
            stream = await self._again()
        except FastwsError as error:
            limbo.fail(str(error))
            return
        limbo.task = None
        copy, user = self._copy, self._copy.other(limbo)
        end = stream.join(copy)
        copy.replace(limbo, end)
        if frames:  # masked already; a key is as good for another connection
            end.transport.write(frames)
        for piece in limbo.take(self._max_data):
            end.send_bytes(piece)
        limbo.detach()
        stream.joined()
        if limbo.eof_out:
            end.send_eof()
        if not end.lost:
            user.start()
            end.start()
