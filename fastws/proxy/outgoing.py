"""The way out of a proxy, and what its clients are told of a failure.

One table for all: :class:`fastws.wire.pool.Status` holds the SOCKS reply and the HTTP
status of each outcome; here stands which error means which.
"""

from typing import Protocol

from fastws.exceptions import (
    ConnectRefused,
    Denied,
    DialError,
    DialTimeout,
    NetworkUnreachable,
    NoUpstream,
    UnknownName,
    Unreachable,
)
from fastws.net.stream import ByteStream
from fastws.wire.pool import Status

_ERRORS: tuple[tuple[type[DialError], Status], ...] = (
    (Denied, Status.DENIED),
    (DialTimeout, Status.TIMED_OUT),
    (UnknownName, Status.UNKNOWN_NAME),
    (ConnectRefused, Status.REFUSED),
    (NetworkUnreachable, Status.NETWORK_UNREACHABLE),
    (Unreachable, Status.HOST_UNREACHABLE),
    (NoUpstream, Status.FAILED),
)


class Outgoing(Protocol):
    """Opens streams to where clients want to go. One event loop."""

    async def open(self, host: str, port: int) -> ByteStream:
        """Open a stream; it is the caller's, paused, its protocol a ``Hold``.

        Args:
            host: a name or an IP literal without brackets, as the client gave it.
            port: 0 to 65535.

        Raises:
            Denied: an access rule forbids it; the text names the rule.
            DialTimeout: nothing answered in time.
            UnknownName: the name cannot be resolved.
            ConnectRefused: nobody listens there.
            Unreachable: no way there.
            DialError: anything else.
        """


def status_of(error: DialError) -> Status:
    """What became of the target; ``socks_reply`` and ``http_status`` are its."""
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
