"""A WebSocket as a byte stream for coroutines: asyncio's reader and writer in one."""

import asyncio
from collections.abc import Iterable
from typing import Any, Self

from fastws.exceptions import StreamReset
from fastws.net.ends import CopyOptions
from fastws.net.websocket import WebSocketStream
from fastws.typing import BytesLike
from fastws.ws.heads import Request, Response
from fastws.ws.transport import WebSocketTransport

LIMIT = 64 * 1024
"""Bytes: asyncio's own limit of a line, and half of what waits to be read."""


class _Protocol(asyncio.StreamReaderProtocol):
    """Between transport and reader; waiting for the end may be cancelled."""

    def __init__(
        self, reader: asyncio.StreamReader, loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__(reader, loop=loop)
        self.error: Exception | None = None
        self._is_gone = False
        self._gone: asyncio.Future[None] | None = None  # for those that wait

    def connection_lost(self, exc: Exception | None) -> None:
        self.error = exc
        self._is_gone = True
        if self._gone is not None:
            self._gone.set_result(None)
        super().connection_lost(exc)
        closed = getattr(self, "_closed", None)
        if closed is not None and closed.done() and not closed.cancelled():
            closed.exception()  # nobody has to ask, and asyncio does not complain

    async def wait_gone(self) -> None:
        """Wait for ``connection_lost``."""
        if not self._is_gone:
            if self._gone is None:
                self._gone = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._gone)


class Stream:
    """One WebSocket as bytes. For the tasks of one event loop.

    One task may read and one may write at a time. Reading means what it means to
    ``asyncio.StreamReader``; iterate over a stream for lines. Frame boundaries mean
    nothing. An orderly end of the peer is EOF; everything else raises
    :class:`fastws.StreamReset`, also from :meth:`drain`.

    As an async context manager it closes at the end and waits for the peer's end; an
    exception resets it, so that the peer takes what it got for no whole.

    Attributes:
        transport: below it; its own methods must not be mixed with these.
    """

    def __init__(
        self,
        stream: WebSocketStream,
        options: CopyOptions,
        extra: dict[str, Any],
        *,
        limit: int = LIMIT,
        on_end: Any = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._carrier = stream.transport
        self._reader = asyncio.StreamReader(limit, loop)
        self._protocol = _Protocol(self._reader, loop)
        self.transport = WebSocketTransport(
            stream, self._protocol, options, extra, on_end
        )
        self._writer = asyncio.StreamWriter(
            self.transport, self._protocol, self._reader, loop
        )

    # -- reading -----------------------------------------------------------------------

    async def read(self, n: int = -1) -> bytes:
        """Read up to ``n`` bytes, at least one; ``-1``: all until EOF.

        ``b""`` is EOF. Cancelled, it takes nothing, unless ``n`` is -1.

        Raises:
            StreamReset: the stream broke.
        """
        return await self._reader.read(n)

    async def readexactly(self, n: int) -> bytes:
        """Read exactly ``n`` bytes.

        Raises:
            asyncio.IncompleteReadError: EOF came first; ``partial`` is what came.
            StreamReset: the stream broke.
        """
        return await self._reader.readexactly(n)

    async def readuntil(self, separator: bytes = b"\n") -> bytes:
        """Read up to and with ``separator``.

        Raises:
            asyncio.IncompleteReadError: EOF came first; ``partial`` is what came.
            asyncio.LimitOverrunError: more than ``limit`` bytes without it.
            StreamReset: the stream broke.
        """
        return await self._reader.readuntil(separator)

    async def readline(self) -> bytes:
        """Read a line with its end; without one at EOF.

        Raises:
            ValueError: more than ``limit`` bytes without an end.
            StreamReset: the stream broke.
        """
        return await self._reader.readline()

    def at_eof(self) -> bool:
        """EOF has come, and everything before it was read."""
        return self._reader.at_eof()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """The next line, until EOF."""
        line = await self._reader.readline()
        if not line:
            raise StopAsyncIteration
        return line

    # -- writing -----------------------------------------------------------------------

    def write(self, data: BytesLike) -> None:
        """Send ``data``: anything with the buffer protocol.

        The memory stays the caller's: what was not sent at once is copied before this
        returns. Call :meth:`drain` after it, or what waits grows without limit.

        Raises:
            RuntimeError: :meth:`write_eof` was called.
        """
        self.transport.write(data)

    def writelines(self, data: Iterable[BytesLike]) -> None:
        """Send all of them, as one :meth:`write`."""
        self.transport.writelines(data)

    async def drain(self) -> None:
        """Wait while more than 64 KiB wait to be sent, until 16 KiB are left.

        Raises:
            StreamReset: the stream broke.
        """
        if self._carrier.is_closing():
            await asyncio.sleep(0)  # the loop gets a turn, in which to tell of its end
        try:
            await self._writer.drain()
        except ConnectionResetError as exc:
            if isinstance(exc, StreamReset):
                raise
            raise self.transport.error() from exc

    def write_eof(self) -> None:
        """Say that no more comes; reading goes on.

        A fastws peer hears it at once. WebSocket has no such word for others: a
        client waits until the server has sent nothing for ``linger``, and then closes
        with 1000; a server closes with 1000 at once, and reads on until the client's
        Close.
        """
        self.transport.write_eof()

    def can_write_eof(self) -> bool:
        """Always."""
        return True

    # -- closing -----------------------------------------------------------------------

    def close(self) -> None:
        """Send what is left and our end; what still comes is dropped.

        The connection is gone once the peer has ended as well: see
        :meth:`wait_closed`. One that goes on sending for ``linger`` is reset.
        """
        self.transport.close()

    def abort(self) -> None:
        """Break the stream: the peer sees a reset, what is unsent is dropped."""
        self.transport.abort()

    def is_closing(self) -> bool:
        """It is closed, or about to be."""
        return self.transport.is_closing()

    async def wait_closed(self) -> None:
        """Wait until the stream is gone, whoever ends it.

        Raises:
            StreamReset: not everything can be taken as delivered.
        """
        await self._protocol.wait_gone()
        if self._protocol.error is not None:
            raise self._protocol.error

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, exc: object, traceback: object) -> None:
        if kind is not None:
            self.abort()
            return
        self.close()
        try:
            await self.wait_closed()
        except asyncio.CancelledError:
            self.abort()
            raise

    @property
    def reader_and_writer(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The pair that this stream is made of, for code that wants asyncio's own."""
        return self._reader, self._writer

    # -- facts -------------------------------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """As :meth:`fastws.ws.transport.WebSocketTransport.get_extra_info`."""
        return self.transport.get_extra_info(name, default)

    @property
    def request(self) -> Request:
        """Of the opening handshake."""
        request: Request = self.get_extra_info("request")
        return request

    @property
    def response(self) -> Response:
        """Of the opening handshake."""
        response: Response = self.get_extra_info("response")
        return response

    @property
    def subprotocol(self) -> str | None:
        """Agreed on, or ``None``."""
        name: str | None = self.get_extra_info("subprotocol")
        return name

    @property
    def remote_address(self) -> Any:
        """The peer's, ``None`` where there is none."""
        return self.get_extra_info("peername")

    def __repr__(self) -> str:
        state = "closing" if self.is_closing() else "open"
        return f"<{type(self).__name__} {state} {self.remote_address}>"
