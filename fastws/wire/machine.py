"""The contract that every wire machine keeps.

Bytes go in by ``receive_data`` and ``receive_eof``, events come out by
``events_received``, bytes to write by ``data_to_send``. Cutting the input differently
changes no event, once adjacent payload chunks are joined.
"""

from typing import Protocol, TypeVar

from fastws.exceptions import RemoteProtocolError
from fastws.typing import BytesLike

EventT = TypeVar("EventT")

SEND_EOF = b""
"""In ``data_to_send``: shut the write side down now; nothing follows it."""


class Machine(Protocol[EventT]):
    """One end of one protocol, without I/O. One task at a time.

    Attributes:
        error: what the peer did wrong; set once, after the reply to it was queued.
    """

    error: RemoteProtocolError | None

    def receive_data(self, data: BytesLike) -> None:
        """Take bytes from the peer; never blocks, never raises for peer input.

        Args:
            data: at least 1 byte. Read-only memory is copied; writable memory may be
                changed in place and is retained by the events until they are dropped.
        """

    def receive_eof(self) -> None:
        """Take note that the peer sends nothing any more; idempotent."""

    def events_received(self) -> list[EventT]:
        """Take and clear what happened; views inside stay valid while held."""

    def data_to_send(self) -> list[BytesLike]:
        """Take and clear what to write, in order; ``SEND_EOF`` can only be last."""
