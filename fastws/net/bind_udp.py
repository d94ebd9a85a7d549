"""UDP sockets: bound for a listener, or to be connected. Errors name the address."""

import errno
import socket
import struct
import sys
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from fastws._address import join_host_port
from fastws.exceptions import ListenError
from fastws.net.bind import bind_hosts
from fastws.net.tls import explain_os

ANCILLARY = 64  # bytes of room for :func:`local_address`, which takes at most 40
_IP_PKTINFO = 8  # Linux' number; Python has no name for it before 3.14
_BUFFER = 1024 * 1024  # bytes asked of the kernel, which may grant less


def udp_socket(family: int) -> socket.socket:
    """A non-blocking UDP socket with as much buffer as the system grants."""
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setblocking(False)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        try:
            sock.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
        except OSError:
            pass  # macOS refuses what is over its limit
    return sock


def bind_udp(
    hosts: Sequence[str], port: int, *, optional: Collection[str] = ()
) -> list[socket.socket]:
    """Bind a port of one or more addresses for datagrams.

    Args:
        hosts: IP literals, or names that are looked up now (this blocks).
        port: 0 lets the system choose; all hosts then share one number.
        optional: those of ``hosts`` that this machine may lack; at least one
            address must remain.

    Returns:
        Non-blocking sockets, in the order of ``hosts``.

    Raises:
        ListenError: names the address; none is left open.
    """
    socks: list[socket.socket] = []
    try:
        bind_hosts(socks, hosts, port, optional, _bind_one, socket.SOCK_DGRAM)
    except BaseException:
        for sock in socks:
            sock.close()
        raise
    return socks


def _bind_one(family: int, sockaddr: tuple[Any, ...]) -> socket.socket:
    where = join_host_port(*sockaddr[:2])
    try:
        sock = udp_socket(family)
    except OSError as exc:
        text = f"udp:{where}: {explain_os(exc)}"
        raise ListenError(exc.errno or errno.EINVAL, text) from exc
    try:
        if sys.platform == "win32":  # others could take the port there
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(sockaddr)
    except OSError as exc:
        sock.close()
        text = f"udp:{where}: {explain_os(exc)}"
        raise ListenError(exc.errno or errno.EINVAL, text) from exc
    return sock


def tells_local(sock: socket.socket) -> bool:
    """Have a socket of all addresses say which one each datagram was sent to.

    Source: ip(7), RFC 3542 section 6.1. Linux only; elsewhere, and for a socket of
    one address, nothing is done.

    Returns:
        Whether :func:`local_address` finds an answer from now on.
    """
    if not sys.platform.startswith("linux") or not is_any(sock.getsockname()[0]):
        return False
    try:
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        # Only now: binding without it found a port in use.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError:
        return False
    return True


def is_any(host: str) -> bool:
    """Whether a socket bound to this takes what is sent to any address."""
    return host in ("0.0.0.0", "::")


def local_address(
    ancillary: Iterable[tuple[int, int, bytes]], port: int
) -> tuple[Any, ...] | None:
    """What to answer from: the address that a datagram was sent to.

    For a broadcast or multicast one it is the receiving interface's.

    Args:
        ancillary: as ``recvmsg`` gives it.
        port: of the socket.

    Returns:
        A socket address to bind, ``None`` when nothing was said.
    """
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IP and kind == _IP_PKTINFO and len(data) >= 12:
            return socket.inet_ntop(socket.AF_INET, data[4:8]), port
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            if data[0] == 0xFF or len(data) < 20:  # multicast is no source
                return None
            (index,) = struct.unpack_from("=I", data, 16)
            scope = index if data[:2] == b"\xfe\x80" else 0
            return socket.inet_ntop(socket.AF_INET6, data[:16]), port, 0, scope
    return None


def bind_twin(family: int, sockaddr: tuple[Any, ...]) -> socket.socket:
    """A socket of one address beside one of all: it gets what comes to that address.

    Raises:
        OSError: it cannot be bound; none is left open.
    """
    sock = udp_socket(family)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(sockaddr)
    except OSError:
        sock.close()
        raise
    return sock
