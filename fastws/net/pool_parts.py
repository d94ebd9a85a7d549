"""Whom the end of a pooled WebSocket deals with, and what stays of it in a copy."""

from typing import Protocol

from fastws.net.ends import End, Owner
from fastws.wire.pool import Associate, Connect, Datagram, Status


class Carrier(Owner, Protocol):
    """What an end tells the one that keeps it: its owner between streams."""

    def requested(self, packet: Connect | Associate) -> None: ...
    def answered(self, status: Status) -> None: ...
    def arrived(self, datagram: Datagram) -> None: ...
    def over(self) -> None: ...
    def broke(self, reason: str) -> None: ...


class Rescue(Protocol):
    """Takes a copy away from an end that turned out dead."""

    def save(self) -> None: ...
    def stop(self) -> None: ...


class Parting(Owner, Protocol):
    """A copy that an end can part from."""

    def part(self, end: End, parted: "PartedEnd") -> None: ...


class PartedEnd:
    """What is left in a copy of an end that went on to other streams: its counts.

    It has ended, hears nothing and says nothing.
    """

    __slots__ = ("payload_in", "payload_out")
    eof_in = eof_out = lost = True
    resetting = is_stuck = is_reading = False
    stuck_at = 0.0

    def __init__(self, payload_in: int, payload_out: int) -> None:
        self.payload_in = payload_in
        self.payload_out = payload_out

    def nothing(self, *args: object, **options: object) -> None:
        """Nobody is there."""

    send_eof = send_reset = send_going_away = tick = abort = detach = nothing
    start = resume = nothing

    def unacked(self) -> int:
        """Nothing of ours is on its way."""
        return 0
