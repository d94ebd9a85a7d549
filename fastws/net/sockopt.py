"""Socket options, and what the kernel knows about a socket.

Every function takes anything with ``fileno``, ``family``, ``getsockopt`` and
``setsockopt``: a socket, or what ``transport.get_extra_info("socket")`` returns.
Where a system lacks an option or a counter, setting it does nothing and reading
it gives the neutral answer named in the docstring.
"""

import asyncio
import select
import socket
import struct
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from fastws._consts import KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_PROBES

if sys.platform != "win32":
    import fcntl
    import resource
    import termios

Death: TypeAlias = Literal["reset", "end"]
"""How a socket that nobody reads ended: cut, or closed in order both ways."""

_IP_FAMILIES = (socket.AF_INET, socket.AF_INET6)
_INET, _STREAM = int(socket.AF_INET), int(socket.SOCK_STREAM)
_LINGER = "hh" if sys.platform == "win32" else "ii"
_RESET = struct.pack(_LINGER, 1, 0)
_SO_NWRITE = 0x1024  # macOS: bytes of the send buffer not yet acknowledged
_TCP_INFO_SIZE = 60  # Linux struct tcp_info up to and with tcpi_last_ack_recv
_MANY_FILES = 1 << 20


class SocketLike(Protocol):
    """The part of a socket that these functions use."""

    @property
    def family(self) -> int: ...
    def fileno(self) -> int: ...
    def getsockopt(self, level: int, option: int, /) -> int: ...
    def setsockopt(self, level: int, option: int, value: int, /) -> None: ...


class TcpInfo(NamedTuple):
    """Some of Linux ``struct tcp_info`` (include/uapi/linux/tcp.h).

    Attributes:
        state: 1 established … 7 close, as in ``enum tcp_state``.
        retransmits: times the oldest unanswered segment was sent again.
        probes: unanswered probes of a closed window or of keepalive.
        last_ack_recv: seconds since the peer's last ACK.
    """

    state: int
    retransmits: int
    probes: int
    last_ack_recv: float


def _options(tcp_user_timeout: float) -> list[tuple[int, int, int]]:
    """Level, option and value of everything :func:`tune` sets here."""
    options = [(int(socket.IPPROTO_TCP), int(socket.TCP_NODELAY), 1)]
    options.append((int(socket.SOL_SOCKET), int(socket.SO_KEEPALIVE), 1))
    wanted = [
        ("TCP_KEEPIDLE", KEEPALIVE_IDLE),
        ("TCP_KEEPINTVL", KEEPALIVE_INTERVAL),
        ("TCP_KEEPCNT", KEEPALIVE_PROBES),
    ]
    if not hasattr(socket, "TCP_KEEPIDLE"):  # macOS before CPython 3.13's names
        wanted[0] = ("TCP_KEEPALIVE", KEEPALIVE_IDLE)
    if tcp_user_timeout > 0:
        wanted.append(("TCP_USER_TIMEOUT", max(1, round(tcp_user_timeout * 1000))))
    for name, value in wanted:
        option = getattr(socket, name, None)
        if option is not None:
            options.append((int(socket.IPPROTO_TCP), int(option), value))
    return options


_DEFAULT_OPTIONS = _options(0.0)


def tune(sock: SocketLike, *, tcp_user_timeout: float = 0.0) -> None:
    """Set TCP_NODELAY and keepalive; on other than TCP sockets nothing.

    On a listening socket the accepted ones inherit all of it (Linux, BSD, macOS).

    Args:
        sock: a TCP socket in any state.
        tcp_user_timeout: seconds without an ACK after which Linux gives the
            connection up, 0 for the system's own limit. Off by default: Linux
            applies it to living peers with a closed window too.

    Raises:
        OSError: the socket is closed.
    """
    if sock.family not in _IP_FAMILIES:
        return
    options = _options(tcp_user_timeout) if tcp_user_timeout else _DEFAULT_OPTIONS
    for level, option, value in options:
        sock.setsockopt(level, option, value)


def set_user_timeout(sock: SocketLike | None, seconds: float) -> None:
    """Change the ``tcp_user_timeout`` of :func:`tune`; a lost socket is left alone."""
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    if option is not None and sock is not None and sock.family in _IP_FAMILIES:
        with suppress(OSError, ValueError):
            sock.setsockopt(socket.IPPROTO_TCP, option, round(seconds * 1000))


def tune_transport(
    transport: asyncio.BaseTransport, *, tcp_user_timeout: float = 0.0
) -> None:
    """:func:`tune` for a connected TCP transport; a lost one is left alone."""
    options = _options(tcp_user_timeout) if tcp_user_timeout else _DEFAULT_OPTIONS
    try:
        # uvloop's view builds a socket object for each call; one serves them all.
        # The family is never looked at: every option here belongs to TCP or to any.
        fd = transport.get_extra_info("socket").fileno()
        sock = socket.SocketType(_INET, _STREAM, 0, fd)
    except (AttributeError, OSError, ValueError):
        return  # gone already: whoever reads it learns that from the transport
    try:
        for level, option, value in options[1:]:  # loops set TCP_NODELAY themselves
            sock.setsockopt(level, option, value)
    except OSError:
        pass  # macOS: EINVAL once the peer has reset
    finally:
        sock.detach()


def unacked(sock: SocketLike) -> int:
    """Bytes in the send buffer that the peer has not acknowledged.

    Source: Linux SIOCOUTQ (tcp(7)), macOS SO_NWRITE. 0 elsewhere and for a socket
    that is closed.
    """
    count = 0
    try:
        if sys.platform == "linux":
            got = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
            (count,) = struct.unpack("i", got)
        elif sys.platform == "darwin":
            count = sock.getsockopt(socket.SOL_SOCKET, _SO_NWRITE)
    except (OSError, ValueError):
        pass
    return count


def reset(transport: Any) -> None:
    """End a transport so that the peer sees a reset, where its kind has one.

    SO_LINGER (on, 0 s), then ``abort()``: alone, ``abort()`` looks like a clean end
    to the peer. Bytes not yet sent are dropped. Unix sockets and pipes are only
    closed. Tunnel streams (no socket) reset in their own ``abort()``.
    """
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family in _IP_FAMILIES:
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        except (OSError, ValueError):
            pass  # closed already; uvloop's view of it has no descriptor
    transport.abort()


def is_uvloop(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether ``writelines`` of this loop's transports is one vectored write."""
    return type(loop).__module__.partition(".")[0] == "uvloop"


def let_go(loop: asyncio.AbstractEventLoop, sock: socket.socket | None) -> None:
    """Have ``sock`` hold nothing: ``create_connection(sock=…)`` failed with it.

    Every loop has closed the descriptor then, or will. uvloop before 0.23 leaves its
    number in the object, which some time later would close what has that number then.
    """
    if sock is not None and is_uvloop(loop):
        sock.detach()


def arm_reset(sock: socket.socket) -> Callable[[], None]:
    """Make whoever closes ``sock`` reset it; the call that is returned undoes that.

    Other than TCP sockets have no reset, and stay as they are.
    """
    if sock.family not in _IP_FAMILIES:
        return lambda: None
    before = sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, len(_RESET))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    return lambda: sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, before)


def poll_dead(fd: int) -> Death | None:
    """How the connection of ``fd`` ended, ``None`` while it lives.

    Asks ``poll`` for no events, so data waiting to be read do not count. POLLERR is
    a reset; POLLHUP alone an orderly end in both directions. Always ``None`` where
    the system has no ``poll``, and below 0: there is no descriptor.
    """
    for _, death in poll_dead_all((fd,) if fd >= 0 else ()):
        return death
    return None


def poll_dead_all(fds: Iterable[int]) -> list[tuple[int, Death]]:
    """:func:`poll_dead` of many descriptors in one call: only the ended ones."""
    if not hasattr(select, "poll"):
        return []
    poller = select.poll()
    for fd in fds:
        poller.register(fd, 0)
    return [
        (fd, "reset" if events & select.POLLERR else "end")
        for fd, events in poller.poll(0)
        if events & (select.POLLERR | select.POLLHUP)
    ]


def tcp_info(sock: Any) -> TcpInfo | None:
    """What Linux knows about the path; ``None`` elsewhere, and if not live TCP."""
    if sys.platform != "linux" or sock is None:
        return None
    try:
        raw = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_SIZE)
        state, retransmits, probes, acked = struct.unpack_from("=BxBB52xI", raw)
    except (OSError, ValueError, struct.error):
        return None
    return TcpInfo(state, retransmits, probes, acked / 1000)


def raise_nofile_limit() -> int:
    """Raise the soft limit of open files to the hard one.

    Returns:
        The soft limit now; 2**20 where the system knows none.
    """
    if sys.platform == "win32":
        return _MANY_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    infinity = resource.RLIM_INFINITY
    # macOS says "unlimited" and then refuses more than OPEN_MAX.
    for wanted in (hard, 10240):
        if soft == infinity or (hard != infinity and soft >= wanted):
            break
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            continue
        soft = wanted
        break
    return _MANY_FILES if soft == infinity else soft
