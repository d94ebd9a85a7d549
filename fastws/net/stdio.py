"""Standard input and output as one transport, and a socket given on descriptor 0.

What the process was started with may be a pipe, a socket, a terminal, ``/dev/null``
or a regular file, each side something else. Pipes and terminals are opened anew where
the system can, because O_NONBLOCK belongs to everybody who shares the old opening;
elsewhere the mode is put back at the end. What no event loop can poll is read and
written by a thread, through a pair of sockets.
"""

import asyncio
import atexit
import errno
import io
import logging
import os
import socket
import stat
import sys
import threading
from collections.abc import Callable
from typing import Any

from fastws.exceptions import FastwsError, ListenError
from fastws.net.listen import Handler, Listener
from fastws.net.sockopt import tune
from fastws.net.stream import Hold, Kind
from fastws.net.tls import explain_os

logger = logging.getLogger("fastws.net")

_NAMES = {0: "standard input", 1: "standard output"}
_BLOCK = 256 * 1024  # bytes a thread moves at once


def take(fd: int) -> int:
    """Move what ``fd`` stands for to a descriptor of ours; it is /dev/null then.

    So nothing that is printed or read by accident touches it, and closing ours is an
    end that the other side sees.

    Raises:
        ListenError: it is closed.
    """
    try:
        kept = os.dup(fd)
    except OSError as exc:
        name = _NAMES.get(fd, f"descriptor {fd}")
        raise ListenError(exc.errno or errno.EBADF, f"{name}: is closed") from exc
    null = os.open(os.devnull, os.O_RDWR)
    if null != fd:
        os.dup2(null, fd)
        os.close(null)
    return kept


def take_socket(fd: int = 0) -> socket.socket:
    """Take over the connected stream socket on ``fd``, as inetd hands it on.

    Further standard descriptors that are the same socket become /dev/null too: log
    lines must not reach the client.

    Raises:
        ListenError: it is no such socket.
    """
    kept = take(fd)
    try:
        sock = socket.socket(fileno=kept)
    except OSError as exc:
        os.close(kept)
        reason = "inetd: descriptor 0 is no socket; - takes a pipe or terminal"
        raise ListenError(exc.errno or errno.ENOTSOCK, reason) from exc
    try:
        sock.getpeername()
    except OSError as exc:
        sock.close()
        reason = "inetd: descriptor 0 is not connected; fd:0 takes a listening socket"
        raise ListenError(exc.errno or errno.ENOTCONN, reason) from exc
    if sock.type != socket.SOCK_STREAM:
        sock.close()
        raise ListenError(errno.EINVAL, "inetd: descriptor 0 is no stream socket")
    for other in range(3):
        if other != fd and is_same(other, sock.fileno()):
            os.close(take(other))
    sock.setblocking(False)
    tune(sock)
    return sock


def is_same(fd: int, other: int) -> bool:
    """Whether both descriptors stand for the same file or socket."""
    try:
        return os.path.samestat(os.fstat(fd), os.fstat(other))
    except OSError:
        return False


class Mode:
    """Puts the blocking mode of a shared descriptor back, at the latest at exit.

    Args:
        fd: duplicated until then.
    """

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = -1
        if os.get_blocking(fd):
            self._fd = os.dup(fd)
            atexit.register(self.restore)

    def restore(self) -> None:
        """Put it back. Idempotent."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            atexit.unregister(self.restore)
            os.set_blocking(fd, True)
            os.close(fd)


def reopen(fd: int, flags: int) -> int:
    """The same pipe or terminal in a non-blocking opening of our own.

    Returns:
        A new descriptor, the old one is closed; or the old one, where the system
        cannot, or may not, open it again.
    """
    try:
        path = f"/proc/self/fd/{fd}" if sys.platform == "linux" else os.ttyname(fd)
        new = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return fd
    os.close(fd)
    return new


class FileThread(threading.Thread):
    """Moves bytes between a descriptor that no loop can poll and a socket.

    Ends with the descriptor and the socket closed.

    Args:
        fd: owned from now on.
        writes: to ``fd``; otherwise from it.
        ended: called in the loop when all is done.

    Attributes:
        ours: the loop's end of the pair.
        error: why it failed; complete when the pair has ended, or ``ended`` is called.
    """

    def __init__(self, fd: int, writes: bool, ended: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self.error: OSError | None = None
        self._fd = fd
        self._ended = ended
        self._move = self._write if writes else self._read
        self._loop = asyncio.get_running_loop()
        self.ours, self._far = socket.socketpair()
        self.ours.setblocking(False)

    def run(self) -> None:
        try:
            try:
                self._move()
            finally:
                os.close(self._fd)  # also tells what a file system noticed late
        except OSError as exc:
            self.error = exc
        self._far.close()
        try:
            self._loop.call_soon_threadsafe(self._ended)
        except RuntimeError:
            pass  # the loop is closed: nobody asks any more

    def _read(self) -> None:
        while data := os.read(self._fd, _BLOCK):
            try:
                self._far.sendall(data)
            except OSError:
                return  # whoever read has closed: that is no fault of the file

    def _write(self) -> None:
        block = memoryview(bytearray(_BLOCK))
        while count := self._far.recv_into(block):
            rest = block[:count]
            while rest:
                rest = rest[os.write(self._fd, rest) :]


class _In(asyncio.Protocol):
    """What is heard of the reading side."""

    def __init__(self, owner: "StdioTransport") -> None:
        self.owner = owner
        self.error: Callable[[], OSError | None] = lambda: None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.pause_reading()  # type: ignore[attr-defined]

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
        assert self.thread is not None
        self.owner.writer_lost(self.thread.error or self._exc)


class StdioTransport(asyncio.Transport):
    """Joins a transport that is read and one that is written; see asyncio.Transport.

    For one event loop. Reading is paused until asked for. A reader of our output that
    goes away is no end as long as there is nothing to write to it.

    Attributes:
        protocol: what hears of both.
    """

    def __init__(self, protocol: asyncio.BaseProtocol) -> None:
        super().__init__({"peername": "stdio", "kind": Kind.STDIO})
        self.protocol: Any = protocol
        self._loop = asyncio.get_running_loop()
        self._reader: Any = None
        self._writer: Any = None
        self._modes: list[Mode] = []
        self._has_ended = False  # input: EOF was told
        self._reader_gone = self._writer_gone = False
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
            self._reader = await self._open(read_fd, _In(self), False)
        except BaseException:
            os.close(write_fd)
            self._is_over = self._is_closing = True
            self._restore()
            raise
        try:
            self._writer = await self._open(write_fd, _Out(self), True)
        except BaseException:
            self._is_over = self._is_closing = True
            self._reader.close()
            self._restore()
            raise
        self.protocol.connection_made(self)

    async def _open(self, fd: int, side: _In | _Out, writes: bool) -> Any:
        """A transport for one descriptor of whatever kind."""
        loop = self._loop
        mode = os.fstat(fd).st_mode
        if stat.S_ISFIFO(mode) or os.isatty(fd):
            new = reopen(fd, os.O_WRONLY if writes else os.O_RDONLY)
            if new == fd:
                self._modes.append(Mode(fd))
            pipe = io.FileIO(new, "w" if writes else "r")
            connect: Any = loop.connect_write_pipe if writes else loop.connect_read_pipe
            return (await connect(lambda: side, pipe))[0]
        if stat.S_ISSOCK(mode):
            self._modes.append(Mode(fd))
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
        if exc is not None and not self._is_closing:
            self._fail(exc)
        else:
            self.end_reading()
            self._end_if_over()

    def writer_lost(self, exc: Exception | None) -> None:
        """The writing side is gone: everything is out, or nobody takes it."""
        self._writer_gone = True
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
        self._restore()
        self._loop.call_soon(self.protocol.connection_lost, self._error)

    def _restore(self) -> None:
        for mode in self._modes:
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
        return not self._reader_gone and bool(self._reader.is_reading())

    def pause_reading(self) -> None:
        if not self._reader_gone and not self._reader.is_closing():
            self._reader.pause_reading()

    def resume_reading(self) -> None:
        if not self._reader_gone and not self._reader.is_closing():
            self._reader.resume_reading()

    def write(self, data: Any) -> None:
        if self._eof_sent:
            raise RuntimeError("nothing can be written after write_eof()")
        if self._writer_gone or self._writer.is_closing():
            if not self._is_closing and data:
                self._fail(BrokenPipeError(errno.EPIPE, "standard output: closed"))
            return
        self._writer.write(data)

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
        options: as there.
    """

    def __init__(
        self, handler: Handler, conn: socket.socket | None = None, **options: Any
    ) -> None:
        super().__init__([], handler, **options)
        self._conn = conn
        self._fds = (-1, -1)
        if conn is not None:
            self.addresses = ["inetd"]
            return
        self.addresses = ["stdio"]
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
