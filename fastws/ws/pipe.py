"""An asyncio transport in memory: user's protocol on one side, the pump on the other.

What the pump writes comes to the protocol in a later turn of the loop, never from
within the pump, whose read memory is shared; what the user writes goes into the
pump's memory at once while the pump reads. Both ways a bounded amount is held.
"""

import asyncio
import errno
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from fastws.net.stream import Hold, Kind, write_limits
from fastws.typing import BytesLike

HELD = 64 * 1024  # bytes for a protocol that has paused; more stop the pump
PIECE = 256 * 1024  # bytes that the pump gets at once
_HIGH = 64 * 1024  # bytes: asyncio's own high water mark


_EMPTY: deque[bytes] = deque(maxlen=0)
"""What a queue is while nothing waits: one of its own takes 0.7 KiB."""


def _added(queue: deque[bytes], data: bytes) -> deque[bytes]:
    """The queue to use from now on, with ``data`` at its end."""
    if queue is _EMPTY:
        return deque((data,))
    queue.append(data)
    return queue


class PumpSide(asyncio.Transport):
    """The end of a pipe that the pump holds; its kind is a tunnel stream.

    Args:
        pipe: the other end.

    Attributes:
        protocol: the pump's end, which is fed while it is open.
        is_open: the pump reads, as far as it knows.
        is_gone: it was closed, aborted or cut off.
    """

    def __init__(self, pipe: "PipeTransport") -> None:
        super().__init__({"peername": "pipe", "kind": Kind.STREAM})
        self.protocol: Any = Hold()
        self.protocol.connection_made(self)
        self.is_open = False
        self.is_gone = False
        self._pipe = pipe
        self._is_full = False

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self.protocol
        return protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def is_closing(self) -> bool:
        return self.is_gone

    def is_reading(self) -> bool:
        return self.is_open

    def pause_reading(self) -> None:
        self.is_open = False

    def resume_reading(self) -> None:
        if not self.is_gone and not self.is_open:
            self.is_open = True
            self._pipe.wake()

    def write(self, data: BytesLike) -> None:
        """Hand a copy of ``data`` to the other end."""
        if self.is_gone:
            return
        if self._pipe.take(bytes(data)) > HELD and not self._is_full:
            self._is_full = True
            self.protocol.pause_writing()

    def writelines(self, list_of_data: Iterable[BytesLike]) -> None:
        self.write(b"".join(list_of_data))

    def emptied(self) -> None:
        """Nothing is held any more."""
        if self._is_full:
            self._is_full = False
            if not self.is_gone:
                self.protocol.resume_writing()

    def get_write_buffer_size(self) -> int:
        """0 while there is room: what is held then is a copy, no memory of the pump."""
        return self._pipe.held if self._is_full else 0

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return 0, 0

    def set_write_buffer_limits(
        self, high: int | None = None, low: int | None = None
    ) -> None:
        """Fixed."""

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """The other end hears of it behind all bytes."""
        self._pipe.take_eof()

    def close(self) -> None:
        """Both directions have ended."""
        self._end(None)

    def abort(self) -> None:
        """The other end hears of a reset behind all bytes."""
        if not self.is_gone:
            self._end(None)
            self._pipe.take_reset()

    def cut(self, exc: Exception | None) -> None:
        """Tell the pump now that the other end is gone."""
        if not self.is_gone:
            self.is_gone, self.is_open = True, False
            self.protocol.connection_lost(exc)

    def _end(self, exc: Exception | None) -> None:
        if not self.is_gone:
            self.is_gone, self.is_open = True, False
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, exc)


class PipeTransport(asyncio.Transport):
    """The user's end of a pipe: asyncio's whole contract. For its event loop.

    Subclasses say what stands behind the pump: :meth:`error`, :meth:`closing`,
    :meth:`aborting`.

    Args:
        protocol: a ``Protocol`` or ``BufferedProtocol``; hears ``connection_made``
            in :meth:`begin`.

    Attributes:
        held: bytes that came and were not delivered yet.
        pump_side: the other end.
        timer: the only one that may run, cancelled at the end.
    """

    def __init__(self, protocol: asyncio.BaseProtocol) -> None:
        super().__init__()
        self.loop = asyncio.get_running_loop()
        self.held = 0
        self.pump_side = PumpSide(self)
        self._protocol: Any = None
        self.set_protocol(protocol)
        self._incoming = _EMPTY
        self._is_paused = False
        self._has_eof = self._told_eof = False  # of what comes
        self._end: tuple[Exception | None] | None = None  # to be told
        self._handle: asyncio.Handle | None = None
        self.timer: asyncio.TimerHandle | None = None
        self._outgoing = _EMPTY
        self._unsent = 0
        self._high, self._low = _HIGH, _HIGH // 4
        self._is_choked = False  # the protocol was asked to pause
        self._eof_wanted = self._eof_sent = False
        self._is_closing = self._is_lost = False
        self._is_deferring = False  # writes wait for a later turn of the loop

    # -- what a subclass adds --------------------------------------------------------

    def error(self) -> Exception:
        """Why the pump has reset this pipe."""
        return ConnectionResetError()

    def closing(self) -> None:
        """The user has closed: what still comes is dropped."""

    def aborting(self) -> None:
        """The user has aborted; the pump hears of it after this."""

    @property
    def linger(self) -> float:
        """Seconds that a protocol which has paused may leave a reset unheard."""
        return 0.0

    # -- what the pump says ----------------------------------------------------------

    def take(self, data: bytes) -> int:
        """Bytes have come; how many are held now."""
        if self._is_closing or self._end is not None:
            return 0
        self._incoming = _added(self._incoming, data)
        self.held += len(data)
        self.wake()
        return self.held

    def take_eof(self) -> None:
        """No more bytes come, in order."""
        self._has_eof = True
        self.wake()

    def take_reset(self) -> None:
        """The far end broke."""
        self.finish(self.error())

    def finish(self, exc: Exception | None) -> None:
        """Tell ``connection_lost``, behind all that came before it.

        A protocol that has paused gets a reset after :attr:`linger` all the same.
        """
        if self._end is not None or self._is_lost:
            return
        self._end = (exc,)
        self.pump_side.cut(exc)
        self._drop_outgoing()
        self.wake()
        if exc is not None and self._is_paused and self._incoming:
            self.timer = self.loop.call_later(self.linger, self._force)

    def _force(self) -> None:
        self._incoming = _EMPTY
        self.held = 0
        self._run()

    # -- one turn --------------------------------------------------------------------

    def wake(self) -> None:
        """Look at both directions in the next turn of the loop."""
        if self._handle is None and not self._is_lost:
            self._handle = self.loop.call_soon(self._run)

    def _run(self) -> None:
        self._handle = None
        self._flush()
        self._deliver()
        if self._end is not None and not self._incoming and not self._is_lost:
            is_behind = self._has_eof and not self._told_eof and not self._is_closing
            if self._end[0] is not None or not is_behind:
                self._lose(self._end[0])  # else it has not read up to the end yet

    def _deliver(self) -> None:
        try:
            while self._incoming and not self._is_paused and not self._is_closing:
                data = self._incoming.popleft()
                self.held -= len(data)
                self._feed(data)
        except Exception as exc:
            self._fail(exc, "protocol.data_received() call failed.")
        if not self._incoming:
            self._incoming = _EMPTY
            self.pump_side.emptied()
            if self._has_eof and not self._told_eof and not self._is_paused:
                self._deliver_eof()

    def _feed(self, data: bytes) -> None:
        protocol = self._protocol
        if not self._is_buffered:
            protocol.data_received(data)
            return
        view = memoryview(data)
        while view and not self._is_lost:
            room = memoryview(protocol.get_buffer(len(view)))
            count = min(len(room), len(view))
            if not count:
                raise RuntimeError("get_buffer() returned an empty buffer")
            room[:count] = view[:count]
            view = view[count:]
            protocol.buffer_updated(count)

    def _deliver_eof(self) -> None:
        self._told_eof = True
        if self._is_closing:
            return
        try:
            keep_open = self._protocol.eof_received()
        except Exception as exc:
            self._fail(exc, "protocol.eof_received() call failed.")
        else:
            if not keep_open:
                self.close()

    def _fail(self, exc: Exception, what: str) -> None:
        """The protocol raised: as asyncio's own transports do."""
        self._report(exc, f"Fatal error: {what}")
        self._abort(exc)

    def _report(self, exc: Exception, message: str) -> None:
        self.loop.call_exception_handler(
            {
                "message": message,
                "exception": exc,
                "transport": self,
                "protocol": self._protocol,
            }
        )

    def _lose(self, exc: Exception | None) -> None:
        self._is_lost = self._is_closing = True
        if self.timer is not None:
            self.timer.cancel()
        self._protocol.connection_lost(exc)

    # -- writing ---------------------------------------------------------------------

    def write(self, data: BytesLike) -> None:
        """Send ``data``, which is copied before this returns."""
        piece = data if type(data) is bytes else memoryview(data).cast("B")
        if self._eof_wanted and not self._is_closing:
            if not self._is_deferring:
                raise RuntimeError("Cannot call write() after write_eof()")
            self._abort(BrokenPipeError(errno.EPIPE, "written after write_eof()"))
        if self._is_closing or self._end is not None:
            return  # as asyncio: connection_lost says so
        if not self._outgoing and not self._is_deferring:
            piece = self._push(piece)
        if piece and self._end is None:
            self._outgoing = _added(self._outgoing, bytes(piece))
            self._unsent += len(piece)
            if self._is_deferring and self.pump_side.is_open:
                self.wake()
            self._maybe_pause()

    def _push(self, data: bytes | memoryview) -> bytes | memoryview:
        """Let the pump read; what it does not take is returned."""
        side = self.pump_side
        if len(data) <= PIECE:
            if not data or not side.is_open:
                return data
            side.protocol.feed(data)
            return b""
        data = memoryview(data)
        while data and side.is_open:
            side.protocol.feed(data[:PIECE])
            data = data[PIECE:]
        return data

    def _flush(self) -> None:
        while self._outgoing and self.pump_side.is_open:
            data = self._outgoing.popleft()
            left = self._push(data)
            self._unsent -= len(data) - len(left)
            if left and self._end is None:
                self._outgoing.appendleft(bytes(left))
        if not self._outgoing:
            self._outgoing = _EMPTY
        if self._is_choked and self._unsent <= self._low and self._end is None:
            self._is_choked = False
            self._call(self._protocol.resume_writing)
        if self._eof_wanted and not self._outgoing and not self._eof_sent:
            self._eof_sent = True
            if not self.pump_side.is_gone:
                self.pump_side.protocol.eof_received()

    def _flush_now(self) -> None:
        if self._is_deferring or self._outgoing:
            self.wake()
        else:
            self._flush()

    def _drop_outgoing(self) -> None:
        self._outgoing = _EMPTY
        self._unsent = 0

    def _maybe_pause(self) -> None:
        if not self._is_choked and self._unsent > self._high:
            self._is_choked = True
            self._call(self._protocol.pause_writing)

    def _call(self, hook: Callable[[], Any]) -> None:
        try:
            hook()
        except Exception as exc:
            self._report(exc, f"protocol.{hook.__name__}() failed")

    def writelines(self, list_of_data: Iterable[BytesLike]) -> None:
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        if not self._is_closing and not self._eof_wanted:
            self._eof_wanted = True
            self._flush_now()

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        """Bytes that the WebSocket has not taken yet."""
        return self._unsent

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def set_write_buffer_limits(
        self, high: int | None = None, low: int | None = None
    ) -> None:
        self._high, self._low = write_limits(high, low, _HIGH)
        self._maybe_pause()

    def lend(self) -> None:
        """The pump is the user now: it must not be called from within itself."""
        self._is_deferring = True

    @property
    def is_plain(self) -> bool:
        """Nothing waits to be sent, and neither direction has ended."""
        has_ended = self._has_eof or self._eof_wanted or self._is_closing
        return not (has_ended or self._outgoing or self._end is not None)

    def leave(self) -> bytes:
        """Give what was not delivered away; the protocol hears nothing more."""
        data = b"".join(self._incoming)
        self._incoming = _EMPTY
        self.held = 0
        self._is_closing = self._is_lost = True
        self.pump_side.cut(None)
        return data

    # -- reading, closing --------------------------------------------------------------

    def is_reading(self) -> bool:
        return not self._is_paused and not self._is_closing

    def pause_reading(self) -> None:
        self._is_paused = True

    def resume_reading(self) -> None:
        if self._is_paused:
            self._is_paused = False
            self.wake()

    def is_closing(self) -> bool:
        return self._is_closing or self._end is not None

    def close(self) -> None:
        """Send what is left and our end; drop what comes; then ``connection_lost``."""
        if self._is_closing:
            return
        self._is_closing = True
        self._incoming = _EMPTY
        self.held = 0
        self.wake()
        if self._end is None:
            self.closing()
            self._eof_wanted = True
            self._flush_now()

    def abort(self) -> None:
        """Reset the stream; what is unsent is dropped."""
        self._abort(None)

    def _abort(self, exc: Exception | None) -> None:
        if self._is_lost:
            return
        self._is_closing = True
        self._incoming = _EMPTY
        self.held = 0
        if self._end is None:
            self._end = (exc,)
            self._drop_outgoing()
            self.aborting()
            self.pump_side.cut(ConnectionResetError("aborted"))
        else:
            self._end = (exc or self._end[0],)
        self.wake()

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol
        self._is_buffered = isinstance(protocol, asyncio.BufferedProtocol)
