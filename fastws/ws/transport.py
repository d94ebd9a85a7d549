"""A WebSocket as an asyncio transport of bytes.

Behind it stands the pump (:func:`fastws.net.copy.copy_bidirectional`) between the
WebSocket and a pipe in memory, so EOF, reset and close codes mean here what they mean
to ``stw`` and ``wts`` (docs/wire.md).
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Literal, TypedDict

from fastws import _consts
from fastws.exceptions import StreamReset
from fastws.net import sockopt
from fastws.net.copy import Copy, CopyResult
from fastws.net.ends import CopyOptions
from fastws.net.stream import AttachedStream, ByteStream, Hold, Kind
from fastws.net.websocket import Peer, WebSocketEnd, WebSocketStream
from fastws.ws.pipe import HELD, PipeTransport

_FRAME = 512  # bytes; no max_message is too small for that


class _Gone:
    """What stands in a copy for an end that went to another one: it says nothing."""

    __slots__ = ()
    eof_in = eof_out = lost = True
    resetting = is_stuck = is_reading = False
    stuck_at = 0.0
    payload_in = payload_out = 0

    def nothing(self, *args: object, **options: object) -> None:
        """Nobody is there."""

    send_eof = send_reset = send_going_away = tick = abort = detach = nothing
    start = resume = nothing


class WebSocketTransport(PipeTransport):
    """One WebSocket: asyncio's transport contract, half-close included.

    ``close()`` sends what is left and our end, and ``connection_lost`` follows when
    the peer has ended too. ``abort()`` makes the peer see a reset. After a reset
    ``connection_lost`` gets a :class:`fastws.StreamReset`. ``get_extra_info`` knows
    what the connection below knows (``peername``, ``socket``, ``ssl_object`` …) but
    for ``sslcontext``, which asyncio's own streams take as a sign that there is no
    half-close; and ``request``, ``response``, ``subprotocol`` and ``is_fastws``:
    whether the peer has proved to be one.

    Args:
        stream: owned; paused after the opening handshake.
        protocol: hears ``connection_made`` at once.
        options: of the copy behind it.
        extra: for :meth:`get_extra_info`.
        on_end: called when nothing of the WebSocket is left.

    Attributes:
        copy: what the WebSocket belongs to.
        has_moved: that is somebody else's copy.
        end: the pump's end of it.
        task: waits for the end of that copy.
    """

    def __init__(
        self,
        stream: WebSocketStream,
        protocol: asyncio.BaseProtocol,
        options: CopyOptions,
        extra: dict[str, Any],
        on_end: Callable[["WebSocketTransport"], object] | None = None,
    ) -> None:
        super().__init__(protocol)
        self._below = stream.transport
        self._details = extra
        self._on_end = on_end
        self._close_payload = 0
        self.has_moved = False
        inner = ByteStream(self.pump_side, Kind.STREAM, self.pump_side.protocol)
        self.copy = Copy(stream, inner, options)
        self.copy.b.read_limit = HELD
        assert isinstance(self.copy.a, WebSocketEnd)
        self.end = self.copy.a
        try:
            protocol.connection_made(self)
        except BaseException:
            sockopt.reset(stream.transport)
            raise
        self.copy.start(stream, inner)  # may bring all of it to an end
        self.task = self.loop.create_task(_wait(self.copy))
        self.task.add_done_callback(partial(self._ended, self.copy))

    def __repr__(self) -> str:
        state = "closing" if self.is_closing() else "open"
        return f"<{type(self).__name__} {state} {self.get_extra_info('peername')}>"

    def _ended(self, copy: Copy, task: asyncio.Task[CopyResult]) -> None:
        """The WebSocket is gone, or has moved; a cancelled task resets it."""
        copy.release()
        if self.copy is not copy:
            return
        exc: Exception | None = StreamReset("cancelled")
        if not task.cancelled():
            exc = None if task.result().is_clean else self.error()
        self.finish(exc)
        self.over()

    def over(self) -> None:
        """Nothing is left of the WebSocket."""
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end(self)

    # -- leaving the pipe --------------------------------------------------------------

    def can_move(self) -> bool:
        """Both directions are open, and nothing waits to be sent."""
        end = self.end
        is_open = not (end.eof_in or end.eof_out or end.close_sent or end.lost)
        return is_open and self.is_plain and self.copy.a is end

    def move(self, owner: Copy) -> bytes:
        """Let ``owner`` have the WebSocket; what came and was not read is returned.

        The protocol hears nothing more.
        """
        end, old = self.end, self.copy
        self.copy, self.has_moved = owner, True
        end.unlink()
        end.pause()
        end.owner = owner
        old.part(end, _Gone())
        return self.leave()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "sslcontext" or (name == "socket" and self._is_deferring):
            return default
        if name == "is_fastws":
            return self.end.who is Peer.FASTWS
        if name in self._details:
            return self._details[name]
        return self._below.get_extra_info(name, default)

    def go_away(self, code: int, reason: str) -> None:
        """End this ourselves: a Close to the peer, a reset to the protocol."""
        self.end.send_close(code, reason)
        self.copy.go_away(reason)

    # -- what the pipe asks ------------------------------------------------------------

    def error(self) -> Exception:
        reason = self.copy.reason.removeprefix("a: ").removeprefix("b: ")
        return StreamReset(reason or "reset", self.end.close_received or None)

    @property
    def linger(self) -> float:
        return self.copy.options.linger

    def closing(self) -> None:
        """A Close is not held for answers that nobody will read."""
        copy = self.copy
        copy.options = replace(copy.options, on_eof="close")
        self.end.hang_up()
        self.timer = self.loop.call_later(self.linger, self._check_closing)

    def _check_closing(self) -> None:
        """A peer that goes on sending long after our end is reset, as by TCP."""
        if self._is_lost or self.copy.done.done():
            return
        payload = self.copy.a.payload_in
        if payload != (self._close_payload or payload):
            self.pump_side.cut(ConnectionAbortedError("data long after close()"))
            return
        self._close_payload = payload
        self.timer = self.loop.call_later(self.linger, self._check_closing)

    def aborting(self) -> None:
        """A peer that does not even read what we had to say hears no more of us."""
        end = self.copy.a
        is_attached = not end.lost and end.transport is not None
        if is_attached and end.transport.get_write_buffer_size():
            end.abort()


async def _wait(copy: Copy) -> CopyResult:
    return await copy.done


class MovedStream(AttachedStream):
    """A WebSocket that leaves its transport for another end: no pipe between them.

    Args:
        transport: that can move.
        early: bytes that came first.

    Attributes:
        counted: payload that the end had read before, and what came first is not in.
    """

    __slots__ = ("_early", "_pipe", "counted")

    def __init__(self, transport: WebSocketTransport, early: bytes) -> None:
        super().__init__(transport, Kind.STREAM, Hold())
        self._pipe = transport
        self._early = early
        self.counted = 0

    def join(self, owner: Copy) -> WebSocketEnd:
        """Its end, paused."""
        end = self._pipe.end
        self._early += self._pipe.move(owner)
        self.counted = int(end.payload_in) - len(self._early)
        return end

    def joined(self) -> None:
        """Send on what came first, in frames of the usual size."""
        end = self._pipe.end
        other, data = end.owner.other(end), self._early
        for start in range(0, len(data), _FRAME):
            other.send_bytes(data[start : start + _FRAME])


class StreamLimits(TypedDict, total=False):
    """What :func:`stream_options` takes."""

    ping_interval: float | None
    ping_timeout: float | None
    linger: float
    half_close_timeout: float
    idle_timeout: float
    max_message: int
    on_eof: Literal["hold", "close"]


def stream_options(
    *,
    ping_interval: float | None = _consts.PING,
    ping_timeout: float | None = _consts.PING_DEADLINE,
    linger: float = _consts.LINGER,
    half_close_timeout: float = _consts.HALF_CLOSE_TIMEOUT,
    idle_timeout: float = _consts.IDLE_TIMEOUT,
    max_message: int = _consts.MAX_MESSAGE,
    on_eof: str = "hold",
) -> CopyOptions:
    """The limits of a byte stream. Seconds and bytes.

    Args:
        ping_interval: between pings; ``None`` or 0: none.
        ping_timeout: silence after a ping that means the peer is gone; ``None``:
            never.
        linger: patience after the last word, from when all of it is acknowledged.
        half_close_timeout: silence after which a half-closed stream is reset; 0: off.
        idle_timeout: silence after which a stream ends; 0: off.
        max_message: one outgoing frame, its header included.
        on_eof: what a client does with a stranger after ``write_eof``: ``hold`` its
            Close for the answer, or ``close`` at once.

    Raises:
        ValueError: ``on_eof`` is neither.
    """
    if on_eof not in ("hold", "close"):
        raise ValueError(f"on_eof is 'hold' or 'close', not {on_eof!r}")
    return CopyOptions(
        linger=linger,
        half_close_timeout=half_close_timeout,
        idle_timeout=idle_timeout,
        ping=ping_interval or 0.0,
        ping_deadline=float("inf") if ping_timeout is None else ping_timeout,
        max_message=max_message,
        on_eof=on_eof,
    )
