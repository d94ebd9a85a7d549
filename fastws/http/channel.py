"""One connection that carries HTTP messages: heads, bodies, and waiting for room.

Knows neither requests nor proxies; :mod:`fastws.http.server` and
:mod:`fastws.http.client` stand on it. Memory: one read that nobody wanted yet, and one
write that the kernel did not take; :func:`relay` stops reading while it waits for room.
"""

import asyncio
from collections.abc import Callable

from fastws._consts import Side
from fastws.exceptions import RemoteProtocolError
from fastws.http.rewrite import clean_trailers
from fastws.net import sockopt
from fastws.net.ends import needs_rereads, read_held
from fastws.net.stream import ByteStream, Hold, Kind, write_eof
from fastws.wire.body import BodyReader, BodyWriter, Extent, Piece
from fastws.wire.head import Head
from fastws.wire.http1 import HeadReader

HIGH = 64 * 1024
"""Bytes that are read ahead before reading stops."""

_POLL_MAX = 0.1  # seconds between two looks at what is not acknowledged


class Channel(Hold):
    """Reads and writes one transport. One task may read while another writes.

    Args:
        stream: taken over; what it holds is read first.

    Attributes:
        kind: of the transport.
        received: bytes read so far.
        sent: bytes given to the transport.
        on_lost: called once when the connection is gone, ``None`` for nobody.
    """

    __slots__ = (
        "_is_full",
        "_is_reading",
        "_reader",
        "_rereads",
        "_stream",
        "_writer",
        "kind",
        "on_lost",
        "received",
        "sent",
    )

    def __init__(self, stream: ByteStream) -> None:
        super().__init__()
        old, transport = stream.hold, stream.transport
        self._stream = stream
        self._is_full = self._is_reading = False
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._rereads = False
        self.kind = stream.kind
        self.on_lost: Callable[[], None] | None = None
        self.sent = 0
        self.peer = old.peer
        self.leftover, old.leftover = old.leftover, b""
        self.received = len(self.leftover)
        self.eof, self.lost, self.error = old.eof, old.lost, old.error
        if self.lost:
            return
        self.transport = transport
        transport.set_protocol(self)
        if stream.kind is Kind.TLS:  # see fastws.net.copy.attach
            self._rereads = needs_rereads(transport)
            transport.set_write_buffer_limits(high=1, low=0)
        else:
            transport.set_write_buffer_limits(high=0)

    # -- what the transport calls --------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        self.leftover = self.leftover + data if self.leftover else data
        if len(self.leftover) >= HIGH:
            self.pause()
        self._wake_reader()

    def eof_received(self) -> bool:
        keep_open = super().eof_received()
        self._is_reading = False
        self._wake_reader()
        return keep_open

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._is_reading = False
        self._wake_reader()
        self.resume_writing()
        on_lost, self.on_lost = self.on_lost, None
        if on_lost is not None:
            on_lost()

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(None)

    # -- reading -------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Both directions are."""
        transport = self.transport
        return transport is not None and not self.eof and not transport.is_closing()

    def pause(self) -> None:
        """Stop reading until somebody asks for more."""
        if self._is_reading:
            self._is_reading = False
            if self.transport is not None and not self.transport.is_closing():
                self.transport.pause_reading()

    def resume(self) -> None:
        """Read on, at most ``HIGH`` bytes and one read ahead."""
        if len(self.leftover) >= HIGH:
            return
        transport = self.transport
        if self._is_reading or self.eof or transport is None or transport.is_closing():
            return
        self._is_reading = True
        transport.resume_reading()
        if self._rereads:
            asyncio.get_running_loop().call_soon(self._read_held)

    async def wait(self) -> bool:
        """Wait until something can be read; ``False`` at the end, however it came."""
        while not self.leftover and not self.eof and not self.lost:
            self.resume()
            loop = asyncio.get_running_loop()
            self._reader = loop.create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        return bool(self.leftover)

    async def read(self) -> bytes:
        """Wait for the next bytes; ``b""`` at EOF.

        Raises:
            RemoteProtocolError: the connection broke; without an ``http_status``.
        """
        if not self.leftover and not await self.wait():
            if self.eof:
                return b""
            raise RemoteProtocolError("the connection was lost")
        data, self.leftover = self.leftover, b""
        return data

    async def read_head(self, side: Side, *, interim: bool = False) -> Head:
        """Wait for one head; what came after it is read next.

        Args:
            side: ours.
            interim: as for :class:`HeadReader`.

        Raises:
            RemoteProtocolError: it is refused, or the connection ended before it.
        """
        reader = HeadReader(side, interim=interim)
        while True:
            data = await self.read()
            if not data:
                raise RemoteProtocolError("closed before a whole HTTP head came")
            head = reader.receive_data(data)
            if head is not None:
                self.leftover = reader.leftover
                return head

    def _read_held(self) -> None:
        """aiofastnet forgets what it holds: see ``fastws.net.ends.RereadEnd``."""
        if self._is_reading:
            read_held(self.transport)

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    # -- writing -------------------------------------------------------------------

    @property
    def is_full(self) -> bool:
        """Something is unsent: wait with :meth:`drain` before the next write."""
        return self._is_full

    def write(self, data: bytes) -> None:
        """Send ``data``; it is dropped when the connection is gone."""
        transport = self.transport
        if data and transport is not None and not transport.is_closing():
            self.sent += len(data)
            transport.write(data)

    def write_pieces(self, pieces: list[Piece]) -> None:
        """Send them as one; a single one is not copied."""
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self.write(bytes(data))

    async def drain(self) -> bool:
        """Wait until all is sent; ``False`` when the connection is gone."""
        while self._is_full and not self.lost:
            self._writer = asyncio.get_running_loop().create_future()
            try:
                await self._writer
            finally:
                self._writer = None
        return self.transport is not None and not self.transport.is_closing()

    # -- ending --------------------------------------------------------------------

    def reset(self) -> None:
        """End it at once so that the peer sees a reset."""
        if self.transport is not None:
            sockopt.reset(self.transport)

    def close(self) -> None:
        """End it in order; only for a connection on which nothing is on its way."""
        if self.transport is not None:
            self.transport.close()

    def release(self) -> ByteStream:
        """Hand the stream on, paused, with what was not read."""
        self.pause()
        self.on_lost = None
        return ByteStream(self._stream.transport, self.kind, self)

    def check_alive(self) -> None:
        """End it if its peer has reset it while nobody was reading."""
        transport = self.transport
        if transport is None or self._is_reading or self.eof:
            return
        sock = transport.get_extra_info("socket")
        if sock is not None and sockopt.poll_dead(sock.fileno()) == "reset":
            self.reset()

    async def finish(self, linger: float) -> None:
        """End it after our last word: read and drop until the peer's EOF.

        Closing with unread input resets, and a reset destroys what is on its way.

        Args:
            linger: seconds for the peer to close, from when it has everything.
        """
        loop = asyncio.get_running_loop()
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        if transport.can_write_eof():
            write_eof(transport)
        elif not self._is_full:
            transport.close()  # TLS: reads on by itself until the peer's end
        await self._settle(loop.time() + linger)
        timer = loop.call_later(linger, self._give_up)
        try:
            while await self.wait():
                self.leftover = b""
        finally:
            timer.cancel()
            if self.transport is not None:
                self.transport.close()

    async def reset_after(self, linger: float) -> None:
        """Reset it once the peer has what was sent, at most after ``linger``."""
        await self._settle(asyncio.get_running_loop().time() + linger)
        self.reset()

    async def _settle(self, deadline: float) -> None:
        """Wait until the peer has acknowledged all, reading and dropping."""
        loop, delay = asyncio.get_running_loop(), 0.002
        while self._unacked() and loop.time() < deadline:
            self.leftover = b""
            self.resume()
            await asyncio.sleep(delay)
            delay = min(delay * 2, _POLL_MAX)

    def _unacked(self) -> int:
        """Bytes that the peer's kernel has not acknowledged; 0 when it is gone."""
        transport = self.transport
        if transport is None or transport.is_closing():
            return 0
        unsent = transport.get_write_buffer_size()
        sock = transport.get_extra_info("socket")
        return unsent if sock is None else unsent + sockopt.unacked(sock)

    def _give_up(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class Body:
    """The body of one message, as it arrives. One task at a time.

    Args:
        channel: its head was read.
        extent: how the body ends.

    Attributes:
        extent: as given.
        was_read: some of it was taken, so that it cannot be sent twice.
    """

    __slots__ = ("_channel", "_reader", "extent", "was_read")

    def __init__(self, channel: Channel, extent: Extent) -> None:
        self._channel = channel
        self._reader = BodyReader(extent)
        self.extent = extent
        self.was_read = False

    @property
    def is_complete(self) -> bool:
        """All of it was read, or there is none."""
        return self._reader.is_complete

    @property
    def trailers(self) -> list[tuple[str, str]]:
        """The fields after it, once it is complete."""
        return self._reader.trailers

    def pause(self) -> None:
        """Read nothing ahead until more is asked for."""
        self._channel.pause()

    def take(self) -> list[Piece]:
        """What is here already; may be empty.

        Raises:
            RemoteProtocolError: the framing is broken.
        """
        channel = self._channel
        if self.is_complete or not channel.leftover:
            return []
        data, channel.leftover = channel.leftover, b""
        return self._receive(data)

    async def read(self) -> list[Piece]:
        """Wait for more; nothing once it is complete.

        Raises:
            RemoteProtocolError: the framing is broken, or the body was cut off.
        """
        while not self._reader.is_complete:
            data = await self._channel.read()
            if not data:
                self._reader.receive_eof()
                break
            payload = self._receive(data)
            if payload:
                return payload
        return []

    def _receive(self, data: bytes) -> list[Piece]:
        self.was_read = True
        reader = self._reader
        payload = reader.receive_data(data)
        if reader.is_complete:
            self._channel.leftover = reader.leftover
        return payload


async def relay(
    body: Body, sink: Channel, writer: BodyWriter, pieces: list[Piece]
) -> bool:
    """Send the rest of a message, as its body arrives.

    Small messages are one write. While the sink has no room nothing is read.

    Args:
        body: read to its end.
        sink: written to.
        writer: puts the framing around what comes.
        pieces: go out first: the head, and what was taken of the body, encoded.

    Returns:
        ``False`` when the sink is gone; the body may be incomplete then.

    Raises:
        RemoteProtocolError: the body is broken or was cut off; what came before was
            sent, and no end of the body.
    """
    while True:
        if body.is_complete:
            end = writer.finish(clean_trailers(body.trailers))
            sink.write_pieces([*pieces, end] if end else pieces)
            return await sink.drain()
        sink.write_pieces(pieces)
        if sink.is_full:
            body.pause()
            await sink.drain()
        if sink.lost:
            return False
        pieces = writer.encode(await body.read())
