"""UDP sockets: bound for a listener, or to be connected. Errors name the address."""

import errno
import socket
import sys
from collections.abc import Collection, Sequence
from typing import Any

from fastws.exceptions import ListenError
from fastws.net.bind import format_address
from fastws.net.tls import explain_os

_BUFFER = 1024 * 1024  # bytes asked of the kernel, which may grant less
_NO_SUCH_ADDRESS = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}


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
    missing: ListenError | None = None
    try:
        for host in hosts:
            try:
                for family, sockaddr in _lookup(host, port):
                    if port == 0 and socks:
                        chosen = socks[0].getsockname()[1]
                        sockaddr = (sockaddr[0], chosen, *sockaddr[2:])
                    socks.append(_bind_one(family, sockaddr))
            except ListenError as exc:
                if host not in optional or exc.errno not in _NO_SUCH_ADDRESS:
                    raise
                missing = exc
    except BaseException:
        for sock in socks:
            sock.close()
        raise
    if not socks:
        raise missing or ListenError(errno.EINVAL, "no address to listen on")
    return socks


def _lookup(host: str, port: int) -> list[tuple[int, tuple[Any, ...]]]:
    try:
        infos = socket.getaddrinfo(
            host, port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as exc:
        where = format_address(host, port)
        text = f"udp:{where}: unknown name"
        raise ListenError(errno.EADDRNOTAVAIL, text) from exc
    return list(dict.fromkeys((info[0], info[4]) for info in infos))


def _bind_one(family: int, sockaddr: tuple[Any, ...]) -> socket.socket:
    where = format_address(*sockaddr[:2])
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
