"""Descriptors that a process was started with: taken over, opened anew, given back.

Pipes and terminals are opened anew where the system can, because O_NONBLOCK belongs to
everybody who shares the old opening; elsewhere the mode is put back at the end. What
no event loop can poll is read and written by a thread, through a pair of sockets.
"""

import asyncio
import atexit
import errno
import os
import socket
import sys
import threading
from collections.abc import Callable

from fastws.exceptions import ListenError
from fastws.net.sockopt import tune

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
        reason = "inetd: descriptor 0 is no socket; stw - takes a pipe or terminal"
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
