"""Names for the shapes that cross module borders. Imports nothing of fastws."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    import logging

BytesLike: TypeAlias = bytes | bytearray | memoryview
"""Read-only use; one-dimensional, C-contiguous, itemsize 1."""

WritableBuffer: TypeAlias = bytearray | memoryview
"""Written in place; one-dimensional, C-contiguous, itemsize 1."""

HeaderList: TypeAlias = Sequence[tuple[str, str]]
"""HTTP fields in wire order, names as written, values without outer white space."""

LoggerLike: TypeAlias = "logging.Logger | logging.LoggerAdapter[Any]"
"""Where log lines go."""

Address: TypeAlias = tuple[str, int] | str
"""``(host, port)`` for TCP, a path for a unix socket."""


class Codec(Protocol):
    """What compresses messages (RFC 7692). One for each connection."""

    def compress(self, data: BytesLike, final: bool) -> bytes:
        """The payload of the next frame; ``data`` is viewed during the call.

        Args:
            data: the next part of a message.
            final: the message ends here.
        """

    def decompress(self, chunk: BytesLike, final: bool, max_size: int) -> bytes:
        """What ``chunk`` (viewed during the call) unpacks to.

        Args:
            chunk: the next bytes of a message, cut anywhere.
            final: the message ends here.
            max_size: bytes that this message may still have.

        Raises:
            RemoteProtocolError: 1009 for more than ``max_size`` bytes, else 1007.
        """
