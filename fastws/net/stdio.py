"""Standard input and output as one transport, and a socket given on descriptor 0.

What the process was started with may be a pipe, a socket, a terminal, ``/dev/null``
or a regular file, each side something else (:mod:`fastws.net.descriptors`).
"""

import asyncio
import errno
import io
import logging
import os
import socket
import stat
import sys
from collections.abc import Callable
from typing import Any

from fastws.exceptions import FastwsError, ListenError
from fastws.net.descriptors import (
    FileThread,
    Mode,
    is_same,
    reopen,
    take,
    take_socket,
)
from fastws.net.listen import Handler, Listener
from fastws.net.stream import Hold, Kind, pause_from_start
from fastws.net.tls import explain_os

logger = logging.getLogger("fastws.net")


class _In(asyncio.Protocol):
    """What is heard of the reading side."""

    def __init__(self, owner: "StdioTransport") -> None:
        self.owner = owner
        self.error: Callable[[], OSError | None] = lambda: None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        pause_from_start(transport)

    def data_received(self, data: bytes) -> None:
        self.owner.feed(data)

    def eof_received(self) -> bool:
        if self.error() is None:
            self.owner.end_reading()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.owner.reader_lost(self.error() or exc)


class _Out(asyncio.Protocol):
    """What is heard of the writing side; what a socket says there is ignored."""

    def __init__(self, owner: "StdioTransport") -> None:
        self.owner = owner
        self.thread: FileThread | None = None
        self._exc: Exception | None = None
        self._is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        pause = getattr(transport, "pause_reading", None)
        if pause is not None and transport.get_extra_info("pipe") is None:
            pause()

    def eof_received(self) -> bool:
        return True

    def pause_writing(self) -> None:
        self.owner.protocol.pause_writing()

    def resume_writing(self) -> None:
        self.owner.protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost = True
        self._exc = exc
        if self.thread is None:
            self.owner.writer_lost(exc)

    def thread_ended(self) -> None:
        """The file has everything, or has refused it."""
        self.owner.writer_lost(self.error or self._exc)

    @property
    def error(self) -> OSError | None:
        """Why the file refused what was written."""
        return None if self.thread is None else self.thread.error


class StdioTransport(asyncio.Transport):
    """Joins a transport that is read and one that is written; see asyncio.Transport.

    For one event loop. Reading is paused until asked for, but for what uvloop has read
    by then. A reader of our output that
    goes away is no end as long as there is nothing to write to it.

    Attributes:
        protocol: what hears of both.
    """

    def __init__(self, protocol: asyncio.BaseProtocol) -> None:
        super().__init__({"peername": "stdio", "kind": Kind.STDIO})
        self.protocol: Any = protocol
        self._loop = asyncio.get_running_loop()
        self._sink = _Out(self)
        self._reader: Any = None
        self._writer: Any = None
        self._modes: dict[bool, Mode] = {}  # by side: whether it is written
        self._has_ended = False  # input: EOF was told
        self._reader_gone = self._writer_gone = False
        self._is_paused = False
        self._is_closing = False
        self._eof_sent = False
        self._is_over = False
        self._error: Exception | None = None

    # -- opening -------------------------------------------------------------------

    async def open(self, read_fd: int, write_fd: int) -> None:
        """Take both descriptors over; then the protocol hears ``connection_made``.

        Raises:
            OSError: one cannot be used; both are closed.
        """
        try:
            self._writer = await self._open(write_fd, self._sink, True)
        except BaseException:
            os.close(read_fd)
            self._is_over = self._is_closing = True
            self._restore(False, True)
            raise
        try:
            self._reader = await self._open(read_fd, _In(self), False)
        except BaseException:
            self._is_over = self._is_closing = True
            self._writer.abort()
            self._restore(False, True)
            raise
        self.pause_reading()  # uvloop reads since connection_made
        if not self._is_closing:
            self.protocol.connection_made(self)

    async def _open(self, fd: int, side: _In | _Out, writes: bool) -> Any:
        """A transport for one descriptor of whatever kind."""
        loop = self._loop
        mode = os.fstat(fd).st_mode
        if stat.S_ISFIFO(mode) or os.isatty(fd):
            new = reopen(fd, os.O_WRONLY if writes else os.O_RDONLY)
            if new == fd:
                self._modes[writes] = Mode(fd)
            pipe = io.FileIO(new, "w" if writes else "r")
            connect: Any = loop.connect_write_pipe if writes else loop.connect_read_pipe
            return (await connect(lambda: side, pipe))[0]
        if stat.S_ISSOCK(mode):
            self._modes[writes] = Mode(fd)
            sock = socket.socket(fileno=fd)
            sock.setblocking(False)
        else:
            sock = self._start_thread(fd, side)
        return (await loop.connect_accepted_socket(lambda: side, sock))[0]

    def _start_thread(self, fd: int, side: _In | _Out) -> socket.socket:
        if isinstance(side, _Out):
            thread = FileThread(fd, True, side.thread_ended)
            side.thread = thread
        else:
            thread = FileThread(fd, False, lambda: None)
            side.error = lambda: thread.error
        thread.start()
        return thread.ours

    # -- what both sides tell --------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Input has come."""
        protocol = self.protocol
        if self._is_closing:
            return
        if not isinstance(protocol, asyncio.BufferedProtocol):
            protocol.data_received(data)
            return
        view = memoryview(data)
        while view:
            room = memoryview(protocol.get_buffer(len(view)))
            count = min(len(room), len(view))
            room[:count] = view[:count]
            view = view[count:]
            protocol.buffer_updated(count)

    def end_reading(self) -> None:
        """Input has ended in order."""
        if not self._has_ended and not self._is_closing:
            self._has_ended = True
            self.protocol.eof_received()

    def reader_lost(self, exc: Exception | None) -> None:
        """The reading side is gone."""
        self._reader_gone = True
        self._restore(False)
        if exc is not None and not self._is_closing:
            self._fail(exc)
        else:
            self.end_reading()
            self._end_if_over()

    def writer_lost(self, exc: Exception | None) -> None:
        """The writing side is gone: everything is out, or nobody takes it."""
        self._writer_gone = True
        self._restore(True)
        if not self._writer.is_closing():  # its thread has failed
            self._writer.abort()
        if exc is not None and not (self._is_closing and self._error):
            self._fail(exc)
        else:
            self._end_if_over()

    def _fail(self, exc: Exception) -> None:
        self._error = self._error or exc
        self.abort()

    def _end_if_over(self) -> None:
        if self._is_over or not (self._reader_gone and self._writer_gone):
            return
        if not self._is_closing and not self._eof_sent:
            return  # a protocol that has something to say yet will learn it then
        self._is_over = self._is_closing = True
        self._loop.call_soon(self.protocol.connection_lost, self._error)

    def _restore(self, *sides: bool) -> None:
        """Put blocking modes back; also what lets the far side see its end."""
        for side in sides:
            mode = self._modes.pop(side, None)
            if mode is not None:
                mode.restore()

    # -- asyncio.Transport -----------------------------------------------------------

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self.protocol
        return protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def is_closing(self) -> bool:
        return self._is_closing

    def is_reading(self) -> bool:
        return not self._reader_gone and not self._is_paused

    def pause_reading(self) -> None:
        self._is_paused = True
        if not self._reader_gone and not self._reader.is_closing():
            self._reader.pause_reading()

    def resume_reading(self) -> None:
        self._is_paused = False
        if not self._reader_gone and not self._reader.is_closing():
            self._reader.resume_reading()

    def write(self, data: Any) -> None:
        if self._is_closing:
            return
        if self._eof_sent:
            raise RuntimeError("nothing can be written after write_eof()")
        if not self._writer_gone and not self._writer.is_closing():
            self._writer.write(data)
        elif data:
            closed = BrokenPipeError(errno.EPIPE, "standard output: closed")
            self._fail(self._sink.error or closed)

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """End the output once everything is out."""
        if self._eof_sent:
            return
        self._eof_sent = True
        if self._writer_gone:
            self._end_if_over()
        else:
            self._writer.close()

    def get_write_buffer_size(self) -> int:
        return 0 if self._writer_gone else int(self._writer.get_write_buffer_size())

    def get_write_buffer_limits(self) -> tuple[int, int]:
        limits: tuple[int, int] = self._writer.get_write_buffer_limits()
        return limits

    def set_write_buffer_limits(
        self, high: int | None = None, low: int | None = None
    ) -> None:
        if not self._writer_gone:
            self._writer.set_write_buffer_limits(high, low)

    def close(self) -> None:
        """Read no more, write what is left, then tell ``connection_lost``."""
        self._is_closing = True
        if not self._reader_gone:
            self._reader.close()
        self.write_eof()
        self._end_if_over()

    def abort(self) -> None:
        """Drop what is unsent and tell ``connection_lost``."""
        self._is_closing = self._eof_sent = True
        if not self._reader_gone:
            self._reader.close()
        if not self._writer_gone:
            self._writer.abort()
        self._end_if_over()


class GivenListener(Listener):
    """Serves the one connection that the process was started with.

    It has the face of a :class:`Listener` with nothing to accept; the same handler
    gets the transport. TLS, and everything else about it, holds for a socket.

    Args:
        handler: as there.
        conn: the connection; ``None`` takes standard input and output.
        ended: called when it is over, also if it never began.
        options: as there.
    """

    def __init__(
        self,
        handler: Handler,
        conn: socket.socket | None,
        ended: Callable[[], object],
        **options: Any,
    ) -> None:
        super().__init__([], handler, **options)
        self._conn = conn
        self._ended = ended
        self._fds = (-1, -1)
        if conn is not None:
            self.addresses = ["inetd"]
            return
        self.addresses = ["stdio"]
        for name, stream in (("input", sys.stdin), ("output", sys.stdout)):
            if stream is None:  # its number may be somebody else's by now
                raise ListenError(errno.EBADF, f"standard {name}: is closed")
        if is_same(0, 1) and stat.S_ISSOCK(os.fstat(0).st_mode):
            self._conn = take_socket()
        else:
            self._fds = take(0), take(1)

    def start(self) -> None:
        super().start()
        conn, self._conn = self._conn, None
        serve = self._serve_stdio() if conn is None else self._serve(conn, None)
        task = self._loop.create_task(serve)
        self.accepted += 1
        self._tasks.add(task)
        task.add_done_callback(self._end)

    def close(self) -> None:
        super().close()
        if self._conn is not None:  # never started
            self._conn.close()
            self._conn = None

    def _end(self, task: asyncio.Task[None]) -> None:
        super()._end(task)
        self._ended()

    async def _serve_stdio(self) -> None:
        """The tail of ``Listener._serve`` for a pair of descriptors."""
        hold = Hold()
        transport = StdioTransport(hold)
        try:
            await transport.open(*self._fds)
            await self._handler(transport, hold)
        except OSError as exc:
            logger.error("stdio: %s", explain_os(exc))
        except FastwsError as exc:
            logger.warning("connection failed: %s", exc)
        finally:
            if not transport.is_closing():
                transport.abort()
