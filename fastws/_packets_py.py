"""Messages that begin with a kind, as one end reads them; pure twin."""

from fastws._consts import MAX_PACKET
from fastws.typing import BytesLike


class Packets:
    """The message of a pooled WebSocket that is being read (docs/pool.md).

    Attributes:
        kind: its first byte; -1: not there yet.
        size: bytes so far behind the kind.
    """

    __slots__ = ("_body", "kind", "size")

    def __init__(self) -> None:
        self.kind = -1
        self.size = 0
        self._body = b""

    def take_kind(self, payload: BytesLike) -> BytesLike:
        """Take the kind off a part, if it is there; return the rest."""
        if self.kind < 0 and len(payload):
            self.kind = payload[0]
            payload = payload[1:]
        self.size += len(payload)
        return payload

    def keep(self, payload: BytesLike) -> bool:
        """Collect a part of a body; whether the packet is short enough."""
        if 1 + len(self._body) + len(payload) > MAX_PACKET:
            return False
        self._body += payload
        return True

    def end(self) -> tuple[int, bytes]:
        """The message is over: its kind and what was collected of it."""
        kind, body = self.kind, self._body
        self.kind = -1
        self.size = 0
        self._body = b""
        return kind, body
