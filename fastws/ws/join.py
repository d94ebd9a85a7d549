"""``fastws.copy_bidirectional``: join any two byte streams.

Whatever is given becomes a :class:`fastws.net.stream.ByteStream`, and the one pump
that ``stw`` and ``wts`` use as well does the rest.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any, TypeAlias, Unpack

from fastws.exceptions import ConcurrencyError
from fastws.net import sockopt
from fastws.net.copy import CopyResult
from fastws.net.copy import copy_bidirectional as pump
from fastws.net.dial import open_stream
from fastws.net.stream import ByteStream, Hold, Kind, kind_of
from fastws.ws.pipe import PipeTransport
from fastws.ws.stream import Stream
from fastws.ws.transport import (
    MovedStream,
    StreamLimits,
    WebSocketTransport,
    stream_options,
)

Joinable: TypeAlias = (
    Stream
    | tuple[asyncio.StreamReader, asyncio.StreamWriter]
    | socket.socket
    | asyncio.BaseTransport
)
"""What can be joined."""

_METHODS = "write writelines pause_reading resume_reading write_eof set_protocol"


class Taken:
    """One end, from the moment it is taken until it is gone.

    Attributes:
        stream: what the pump gets.
    """

    __slots__ = ("_old", "stream")

    def __init__(self, stream: ByteStream, old: asyncio.BaseProtocol | None) -> None:
        self.stream = stream
        self._old = old

    def last_look(self) -> ByteStream:
        """What the pump gets now: a WebSocket itself, where that is possible."""
        transport, hold = self.stream.transport, self.stream.hold
        if isinstance(transport, WebSocketTransport) and transport.can_move():
            self.stream = MovedStream(transport, hold.leftover)
        return self.stream

    @property
    def counted(self) -> int:
        """Bytes in the pump's count that were read before."""
        stream = self.stream
        return stream.counted if isinstance(stream, MovedStream) else 0

    def over(self) -> None:
        """The transport is gone: its first protocol hears of it, and of it only."""
        old, self._old = self._old, None
        if old is not None:
            old.connection_lost(None)
        transport = self.stream.transport
        if isinstance(transport, WebSocketTransport) and transport.has_moved:
            transport.over()


async def copy_bidirectional(
    a: Joinable, b: Joinable, **limits: Unpack[StreamLimits]
) -> CopyResult:
    """Join two byte streams until both have ended, and close them.

    EOF becomes EOF, and everything else that ends a stream a reset, as docs/wire.md
    says. A slow reader stops its writer. What was read and not used yet goes first:
    the bytes that wait in the buffer of a ``StreamReader`` are not lost.

    Args:
        a: a :class:`fastws.Stream`; a pair of asyncio's ``StreamReader`` and
            ``StreamWriter``; a connected ``socket.socket``, TCP or unix; or an asyncio
            transport of TCP, TLS, a unix socket or
            :func:`fastws.open_transport`. Owned from now on, nobody may read from it or
            write to it; what was written before goes first, ``write_eof`` not. The
            protocol of a transport keeps what it got (pause reading first), and hears
            ``connection_lost(None)`` at the end, so that ``wait_closed`` of a writer
            returns.
        b: likewise.
        limits: of :func:`fastws.ws.transport.stream_options`.

    Returns:
        ``a_to_b`` and ``b_to_a``: bytes of payload; ``is_clean``: both directions ended
        in order; ``reason``: ``closed``, or what broke it first, with ``a:`` or ``b:``
        in front. Nothing is raised for what peers do.

    Raises:
        TypeError: one of them is none of these; nothing was touched.
        ValueError: they are the same, or a limit makes no sense; likewise.
        ConcurrencyError: a task reads from one of them; nothing was touched.
        asyncio.CancelledError: both were reset.
    """
    options = stream_options(**limits)
    if a is b:
        raise ValueError("a stream cannot be joined with itself")
    takes = [_taker(a), _taker(b)]
    taken: list[Taken] = []
    try:
        for take in takes:
            taken.append(await take())
        first, second = taken
        result = await pump(first.last_look(), second.last_look(), options)
        return result._replace(
            a_to_b=result.a_to_b - first.counted, b_to_a=result.b_to_a - second.counted
        )
    except BaseException:
        for end in taken:
            sockopt.reset(end.stream.transport)
        for unused in (a, b)[len(taken) :]:
            _discard(unused)
        raise
    finally:
        for end in taken:
            end.over()


def _taker(end: Any) -> Callable[[], Any]:
    """Check ``end``; what is returned takes it.

    Raises:
        TypeError: it cannot be joined.
        ConcurrencyError: a task reads from it.
    """
    if isinstance(end, Stream):
        end = end.reader_and_writer
    if isinstance(end, socket.socket):
        if isinstance(end, ssl.SSLSocket) or end.type != socket.SOCK_STREAM:
            raise TypeError("a plain TCP or unix socket is needed")
        return lambda: _take_socket(end)
    reader = None
    if isinstance(end, tuple) and len(end) == 2:
        reader, writer = end
        if not isinstance(reader, asyncio.StreamReader):
            raise TypeError(f"cannot join a pair with {type(reader).__name__}")
        if getattr(reader, "_waiter", None) is not None:
            raise ConcurrencyError("a task waits for bytes of the StreamReader")
        end = writer.transport
    if not all(hasattr(end, name) for name in _METHODS.split()):
        raise TypeError(f"cannot join {type(end).__name__}")
    return lambda: _take_transport(end, reader)


def _discard(end: Any) -> None:
    """Reset what was not taken yet."""
    if isinstance(end, socket.socket):
        if end.fileno() >= 0:
            sockopt.arm_reset(end)
            end.close()
    else:
        transport = end[1].transport if isinstance(end, tuple) else end
        sockopt.reset(transport.transport if isinstance(end, Stream) else transport)


async def _take_socket(sock: socket.socket) -> Taken:
    loop = asyncio.get_running_loop()
    sock.setblocking(False)
    disarm = sockopt.arm_reset(sock)
    stream = await open_stream(loop, sock)
    disarm()
    return Taken(stream, None)


async def _take_transport(transport: Any, reader: Any) -> Taken:
    hold = Hold()
    if reader is not None:
        # asyncio has no call for what a reader holds but one that may wait.
        hold.leftover = bytes(reader._buffer)
        reader._buffer.clear()
        hold.eof, hold.error = reader._eof, reader.exception()
    is_pipe = isinstance(transport, PipeTransport)
    kind = Kind.STREAM if is_pipe else kind_of(transport)
    old = transport.get_protocol()
    if transport.is_closing():
        hold.lost = True
        return Taken(ByteStream(transport, kind, hold), None)
    if is_pipe:
        transport.lend()
    hold.transport = transport
    transport.pause_reading()
    transport.set_protocol(hold)
    return Taken(ByteStream(transport, kind, hold), old)
