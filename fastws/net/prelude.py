"""What comes before TLS and HTTP: a PROXY header, and whether TLS comes at all.

Two ways to read a PROXY header: on a plain port it is cut off the first bytes that
the transport hands over (:mod:`fastws.net.arrived`); on a TLS port it is looked at
with ``MSG_PEEK`` and taken off the socket, because TLS starts with the socket.
"""

import asyncio
import socket
from collections.abc import Sequence
from typing import NamedTuple

from fastws.exceptions import RemoteProtocolError
from fastws.wire.forwarded import Trust
from fastws.wire.proxy_protocol import (
    MAX_V2,
    ProxyHeader,
    decode_header,
    may_start,
)
from fastws.wire.sniff import Sniffed, sniff

THIS_MACHINE = ("127.0.0.0/8", "::1", "unix")
"""Whose PROXY headers are believed when nobody is named."""

NO_HEADER = ProxyHeader(None, None, 0)
# Between two looks at a header that came in part, seconds: the socket stays readable.
# The first, and the longest; many slow clients must not keep the loop busy.
_LOOK_EVERY = 0.01
_LOOK_LAST = 0.5


class Arrival(NamedTuple):
    """How a connection began.

    Attributes:
        header: its PROXY header, :data:`NO_HEADER` without one.
        is_tls: TLS comes next.
        error: why it is refused.
        is_http: the client reads answers; where TLS was expected it may not.
    """

    header: ProxyHeader = NO_HEADER
    is_tls: bool = False
    error: RemoteProtocolError | None = None
    is_http: bool = False


NO_ARRIVAL = Arrival()


class ProxyRule:
    """Whose PROXY headers are believed, and whether there must be one.

    Args:
        required: connections without are refused.
        networks: who may send one; empty: this machine.
    """

    __slots__ = ("_trust", "required")

    def __init__(self, *, required: bool, networks: Sequence[str] = ()) -> None:
        self.required = required
        self._trust = Trust(networks or THIS_MACHINE)

    def read(self, data: bytes, host: str) -> ProxyHeader | None:
        """Find the header in the first bytes of a connection.

        Args:
            data: everything so far.
            host: address of the peer, empty for a unix socket.

        Returns:
            The header, :data:`NO_HEADER`, or ``None`` while that is open.

        Raises:
            RemoteProtocolError: none where there must be one, malformed, or from
                somebody who is not believed.
        """
        starts = may_start(data)
        if not starts and not self.required:
            return None if starts is None else NO_HEADER
        if not self._trust.trusts(host):
            what = "PROXY header" if starts else "no word"
            raise RemoteProtocolError(
                f"{what} accepted from {host or 'a unix socket'}, which --trust does"
                " not name (--proxy-protocol)",
                http_status=400,
            )
        return decode_header(data)


class _Refused(Exception):
    """A header is missing or wrong."""

    def __init__(self, error: RemoteProtocolError, is_http: bool) -> None:
        super().__init__(error)
        self.error = error
        self.is_http = is_http


class Prelude:
    """Looks at fresh sockets of a TLS listener, each in its own task.

    Args:
        rule: for PROXY headers, ``None`` without them.
        plain_too: clients without TLS are served as well.
    """

    __slots__ = ("_plain_too", "_rule")

    def __init__(self, rule: ProxyRule | None, *, plain_too: bool) -> None:
        self._rule = rule
        self._plain_too = plain_too

    async def read(self, sock: socket.socket, host: str, timeout: float) -> Arrival:
        """Read up to where TLS or HTTP starts; what is refused is in ``error``.

        Args:
            sock: accepted; is made non-blocking, and stays the caller's.
            host: address of the peer, empty for a unix socket.
            timeout: seconds, for all of it.

        Raises:
            OSError: the connection broke.
        """
        sock.setblocking(False)
        header = NO_HEADER
        try:
            async with asyncio.timeout(timeout):
                if self._rule is not None:
                    header = await _take_header(sock, host, self._rule)
                is_tls = not self._plain_too or await _is_tls(sock)
        except TimeoutError:
            limit = f"{timeout:g} s (--handshake-timeout)"
            what = (
                "PROXY header" if header is NO_HEADER and self._rule else "first byte"
            )
            reason = f"no whole {what} within {limit}"
            return Arrival(error=RemoteProtocolError(reason, http_status=408))
        except _Refused as refused:
            return Arrival(error=refused.error, is_http=refused.is_http)
        except RemoteProtocolError as error:
            return Arrival(error=error)
        return Arrival(header, is_tls)


async def _take_header(sock: socket.socket, host: str, rule: ProxyRule) -> ProxyHeader:
    """Take a PROXY header off the socket, and nothing else."""
    data = b""
    while True:
        data = await _peek(sock, MAX_V2, len(data))
        if not data:
            raise RemoteProtocolError("closed before its first byte")
        try:
            header = rule.read(data, host)
        except RemoteProtocolError as error:
            is_http = sniff(data) is Sniffed.HTTP and not may_start(data)
            raise _Refused(error, is_http) from None
        if header is not None:
            if header.size:
                sock.recv(header.size)
            return header


async def _is_tls(sock: socket.socket) -> bool:
    """Whether the first byte, which stays where it is, starts TLS."""
    data = await _peek(sock, 1, 0)
    if not data:
        raise RemoteProtocolError("closed before its first byte")
    return sniff(data) is Sniffed.TLS


async def _peek(sock: socket.socket, size: int, seen: int) -> bytes:
    """Wait for more than ``seen`` bytes, or for EOF; they stay on the socket."""
    pause = _LOOK_EVERY
    while True:
        try:
            data = sock.recv(size, socket.MSG_PEEK)
        except BlockingIOError:
            await _readable(sock)
            continue
        if len(data) > seen or not data:
            return data
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LOOK_LAST)


async def _readable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()
    loop.add_reader(sock, _wake, waiter)
    try:
        await waiter
    finally:
        loop.remove_reader(sock)


def _wake(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)
