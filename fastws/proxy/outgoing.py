"""The way out of a proxy, and what its clients are told of a failure.

One table for all: :class:`fastws.wire.pool.Status` holds the SOCKS reply and the HTTP
status of each outcome; here stands which error means which.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol, TypeAlias

from fastws.exceptions import (
    ConnectRefused,
    Denied,
    DialError,
    DialTimeout,
    NetworkUnreachable,
    NoConnection,
    NoUpstream,
    UnknownName,
    Unreachable,
    Unsupported,
)
from fastws.net.stream import ByteStream
from fastws.wire.pool import Status

_ERRORS: tuple[tuple[type[DialError], Status], ...] = (
    (Denied, Status.DENIED),
    (Unsupported, Status.NOT_SUPPORTED),
    (DialTimeout, Status.TIMED_OUT),
    (UnknownName, Status.UNKNOWN_NAME),
    (ConnectRefused, Status.REFUSED),
    (NetworkUnreachable, Status.NETWORK_UNREACHABLE),
    (Unreachable, Status.HOST_UNREACHABLE),
    (NoUpstream, Status.FAILED),
)


Receive: TypeAlias = Callable[[str, int, memoryview], None]
"""``receive(host, port, payload)``: a datagram from there; a view, for the call."""


class DatagramWay(Protocol):
    """Sends datagrams to any number of targets, for one client.

    Attributes:
        dropped: datagrams lost for want of room, of a name, or too large.
        denied: datagrams that an access rule forbade.
        reason: the rule that forbade the first of them, empty for none.
        done: set once none can be sent any more: why, empty if in order.
        ident: names it in the log of the far end too; empty: not known there.
    """

    denied: int
    reason: str

    @property
    def dropped(self) -> int: ...

    @property
    def ident(self) -> str: ...

    @property
    def done(self) -> asyncio.Future[str]: ...

    def send(self, host: str, port: int, payload: memoryview) -> None:
        """Send one; ``payload`` is viewed during the call. Never waits."""

    def close(self) -> None:
        """No more in either direction. Idempotent."""


class Outgoing(Protocol):
    """Opens streams to where clients want to go. One event loop."""

    async def open(self, host: str, port: int, via: str = "") -> ByteStream:
        """Open a stream; it is the caller's, paused, its protocol a ``Hold``.

        Args:
            host: a name or an IP literal without brackets, as the client gave it.
            port: 0 to 65535.
            via: the proxies passed so far, as a Via field has them (RFC 9110 section
                7.6.3), for the head in which another proxy is asked; empty for none.

        Raises:
            Denied: an access rule forbids it; the text names the rule.
            DialTimeout: nothing answered in time.
            UnknownName: the name cannot be resolved.
            ConnectRefused: nobody listens there.
            Unreachable: no way there.
            DialError: anything else.
        """

    async def associate(self, receive: Receive) -> DatagramWay:
        """A way for datagrams; what comes back goes to ``receive``.

        Raises:
            Unsupported: this way out carries none.
            DialError: it cannot be opened.
        """


def status_of(error: DialError) -> Status:
    """What became of the target; ``socks_reply`` and ``http_status`` are its."""
    if isinstance(error, NoConnection):
        return Status.FAILED  # nobody has asked for the target
    for kind, status in _ERRORS:
        if isinstance(error, kind):
            return status
    return Status.FAILED


def error_of(status: Status, text: str) -> DialError:
    """The error for what a far end answered; :func:`status_of` gives it back."""
    for kind, known in _ERRORS:
        if known is status:
            return kind(text)
    return DialError(text)
