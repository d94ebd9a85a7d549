"""Listening sockets: TCP, unix, inherited. Errors name the address."""

import errno
import os
import socket
import stat
import sys
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

from fastws._address import join_host_port
from fastws._consts import BACKLOG
from fastws.exceptions import ListenError
from fastws.net.tls import explain_os

# Of several hosts with port 0, the first one's number may be taken for another.
_PORT_TRIES = 16
_NO_SUCH_ADDRESS = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}


class UnixListener(socket.socket):
    """A listening unix socket that removes its file when closed.

    Only the process that made it does so, and only while the file is still its own:
    forked workers and a successor on the same path are left alone.
    """

    def __init__(self, path: str) -> None:
        super().__init__(socket.AF_UNIX, socket.SOCK_STREAM)
        self._path = path
        self._owner = 0
        self._inode = (0, 0)

    def bind_path(self) -> None:
        """Bind, and remember which file that made."""
        self.bind(self._path)
        found = os.stat(self._path)
        self._inode = (found.st_dev, found.st_ino)
        self._owner = os.getpid()

    def close(self) -> None:
        if self._owner == os.getpid():
            self._owner = 0
            try:
                found = os.stat(self._path)
                if (found.st_dev, found.st_ino) == self._inode:
                    os.unlink(self._path)
            except OSError:
                pass  # gone already, or the directory is read-only now
        super().close()


def _listen_error(where: str, exc: OSError) -> ListenError:
    return ListenError(exc.errno or errno.EINVAL, f"{where}: {explain_os(exc)}")


def open_listeners(
    *,
    hosts: Sequence[str] = (),
    port: int = 0,
    optional: Collection[str] = (),
    path: str | None = None,
    fd: int | None = None,
    backlog: int = BACKLOG,
    reuse_port: bool = False,
) -> list[socket.socket]:
    """Open what one LISTEN names: ``path``, else ``fd``, else ``hosts``.

    See :func:`bind_unix`, :func:`adopt_fd` and :func:`bind_tcp`. The sockets are the
    caller's, until a :class:`Listener` owns them.
    """
    if path is not None:
        return [bind_unix(path, backlog=backlog)]
    if fd is not None:
        return [adopt_fd(fd)]
    return bind_tcp(
        hosts, port, optional=optional, backlog=backlog, reuse_port=reuse_port
    )


def share_listeners(
    socks: list[socket.socket], workers: int, *, backlog: int = BACKLOG
) -> list[list[socket.socket]]:
    """The listening sockets of each of several processes, bound before they exist.

    Where the system spreads connections over sockets of one address (Linux,
    SO_REUSEPORT, TCP), each gets its own; elsewhere all share ``socks``. That option
    is set on ``socks`` only now: a first bind without it finds a port in use.

    Args:
        socks: of the first; owned by it.
        workers: at least 1.
        backlog: connections that may wait at each.

    Raises:
        ListenError: names the address; what was opened here is closed.
    """
    if workers == 1 or not sys.platform.startswith("linux"):
        return [socks] * workers
    if any(sock.family not in (socket.AF_INET, socket.AF_INET6) for sock in socks):
        return [socks] * workers
    shares = [socks]
    try:
        for sock in socks:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        for _ in range(workers - 1):
            shares.append([])
            for sock in socks:
                twin = _bind_one(sock.family, sock.getsockname(), True)
                shares[-1].append(twin)
                _start_listening(twin, backlog)
    except BaseException:
        for share in shares:
            for sock in share:
                sock.close()
        raise
    return shares


def bind_tcp(
    hosts: Sequence[str],
    port: int,
    *,
    optional: Collection[str] = (),
    backlog: int = BACKLOG,
    reuse_port: bool = False,
) -> list[socket.socket]:
    """Listen on a port of one or more addresses.

    Args:
        hosts: IP literals, or names that are looked up now (this blocks). An IPv6
            socket takes IPv6 only.
        port: 0 lets the system choose; all hosts then share one number.
        optional: those of ``hosts`` that this machine may lack; at least one
            address must remain.
        backlog: connections that may wait to be accepted.
        reuse_port: SO_REUSEPORT, for one socket a worker.

    Returns:
        Non-blocking listening sockets, in the order of ``hosts``.

    Raises:
        ListenError: names the address; none is left open.
    """
    for left in reversed(range(_PORT_TRIES)):
        socks: list[socket.socket] = []
        try:
            bind_one = partial(_bind_one, reuse_port=reuse_port)
            bind_hosts(socks, hosts, port, optional, bind_one)
            for sock in socks:
                _start_listening(sock, backlog)
            return socks
        except BaseException as exc:
            for sock in socks:
                sock.close()
            is_clash = isinstance(exc, OSError) and exc.errno == errno.EADDRINUSE
            if not (is_clash and port == 0 and socks and left):
                raise
    raise AssertionError("unreachable")


def bind_hosts(
    socks: list[socket.socket],
    hosts: Sequence[str],
    port: int,
    optional: Collection[str],
    bind_one: Callable[[int, tuple[Any, ...]], socket.socket],
    kind: int = socket.SOCK_STREAM,
) -> None:
    """Bind every host into ``socks``; with port 0 the first one's number serves all.

    Args:
        socks: added to; the caller closes them after an error.
        hosts: IP literals or names.
        port: for all of them.
        optional: those of ``hosts`` that this machine may lack.
        bind_one: makes the socket of a family and an address.
        kind: ``SOCK_STREAM`` or ``SOCK_DGRAM``.

    Raises:
        ListenError: names the address.
    """
    missing: ListenError | None = None
    for host in hosts:
        try:
            for family, sockaddr in _lookup(host, port, kind):
                if port == 0 and socks:
                    sockaddr = (sockaddr[0], socks[0].getsockname()[1], *sockaddr[2:])
                socks.append(bind_one(family, sockaddr))
        except ListenError as exc:
            if host not in optional or exc.errno not in _NO_SUCH_ADDRESS:
                raise
            missing = exc
    if not socks:
        raise missing or ListenError(errno.EINVAL, "no address to listen on")


def _lookup(host: str, port: int, kind: int) -> list[tuple[int, tuple[Any, ...]]]:
    """The addresses of ``host`` to bind, each once."""
    try:
        infos = socket.getaddrinfo(host, port, type=kind, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as exc:
        where = join_host_port(host, port)
        if kind == socket.SOCK_DGRAM:
            where = f"udp:{where}"
        raise ListenError(errno.EADDRNOTAVAIL, f"{where}: unknown name") from exc
    return list(dict.fromkeys((info[0], info[4]) for info in infos))


def _bind_one(
    family: int, sockaddr: tuple[Any, ...], reuse_port: bool
) -> socket.socket:
    """One bound TCP socket, not yet listening."""
    where = join_host_port(*sockaddr[:2])
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as exc:
        raise _listen_error(where, exc) from exc
    try:
        sock.setblocking(False)
        if sys.platform == "win32":  # SO_REUSEADDR would share the port there
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(sockaddr)
    except OSError as exc:
        sock.close()
        raise _listen_error(where, exc) from exc
    return sock


def _start_listening(sock: socket.socket, backlog: int) -> None:
    try:
        sock.listen(backlog)
    except OSError as exc:  # Linux tells of a port in use only here
        raise _listen_error(describe_listener(sock), exc) from exc


def bind_unix(path: str, *, backlog: int = BACKLOG) -> socket.socket:
    """Listen on a unix socket; closing it removes the file.

    A file left by a dead process is replaced, one that somebody still answers on, or
    that is no socket, is not.

    Raises:
        ListenError: names the path.
    """
    where = f"unix:{path}"
    if not hasattr(socket, "AF_UNIX"):
        raise ListenError(errno.EAFNOSUPPORT, f"{where}: no unix sockets here")
    sock = UnixListener(path)
    try:
        sock.setblocking(False)
        try:
            sock.bind_path()
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE:
                raise
            _remove_stale(path)
            sock.bind_path()
        sock.listen(backlog)
    except ListenError:
        sock.close()
        raise
    except OSError as exc:
        sock.close()
        raise _listen_error(where, exc) from exc
    return sock


def _remove_stale(path: str) -> None:
    """Unlink a socket file that nobody listens on any more."""
    where = f"unix:{path}"
    if not stat.S_ISSOCK(os.stat(path).st_mode):
        raise ListenError(errno.EADDRINUSE, f"{where}: exists and is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:
            pass  # its backlog is full, so it lives
    raise ListenError(errno.EADDRINUSE, f"{where}: address already in use")


def adopt_fd(fd: int) -> socket.socket:
    """Take over an inherited listening socket (systemd, a parent process).

    Args:
        fd: owned by the returned socket from now on.

    Raises:
        ListenError: it is not a listening stream socket; it stays open.
    """
    try:
        sock = socket.socket(fileno=fd)
    except OSError as exc:
        raise _listen_error(f"fd:{fd}", exc) from exc
    try:
        is_listening = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError:
        is_listening = 0
    if sock.type != socket.SOCK_STREAM or not is_listening:
        sock.detach()
        raise ListenError(errno.EINVAL, f"fd:{fd}: not a listening stream socket")
    sock.setblocking(False)
    return sock


def describe_listener(sock: socket.socket) -> str:
    """The address a socket is bound to, as a user would write it."""
    name = sock.getsockname()
    if isinstance(name, tuple):
        return join_host_port(name[0], name[1])
    return f"unix:{os.fsdecode(name)}"
