"""Drives any wire machine: bytes in at chosen cuts, events and bytes out."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

from fastws.exceptions import RemoteProtocolError
from fastws.wire.machine import SEND_EOF, Machine
from fastws.wire.websocket import Data, Event

EventT = TypeVar("EventT")


class Driven(NamedTuple):
    """What a machine did.

    Attributes:
        events: in order, as ``join`` left them.
        sent: everything it wrote, joined.
        eof: it asked for the write side to be shut down.
        error: what it holds against the peer.
    """

    events: list[EventT]
    sent: bytes
    eof: bool
    error: RemoteProtocolError | None


def pieces(data: bytes, cuts: Iterable[int]) -> Iterator[bytes]:
    """Cut ``data`` at these offsets; no piece is empty, others do not count."""
    start = 0
    for end in [*sorted({cut for cut in cuts if 0 < cut < len(data)}), len(data)]:
        if end > start:
            yield data[start:end]
        start = end


def drive(
    machine: Machine[EventT],
    data: bytes,
    cuts: Iterable[int] = (),
    *,
    join: Callable[[list[EventT]], list[EventT]] = list,
    eof: bool = False,
) -> Driven:
    """Feed ``data`` in pieces, take everything after each, and return all of it.

    Args:
        machine: used up by this.
        data: what the peer sends.
        cuts: offsets at which a new ``receive_data`` begins.
        join: joins adjacent payload events, so that cuts do not show.
        eof: the peer ends after ``data``.
    """
    events: list[EventT] = []
    sent: list[bytes] = []
    for piece in pieces(data, cuts):
        machine.receive_data(bytearray(piece))
        events += machine.events_received()
        sent += [bytes(chunk) for chunk in machine.data_to_send()]
    if eof:
        machine.receive_eof()
        events += machine.events_received()
        sent += [bytes(chunk) for chunk in machine.data_to_send()]
    assert SEND_EOF not in sent[:-1], "SEND_EOF is followed by something"
    ended = sent[-1:] == [SEND_EOF]
    return Driven(join(events), b"".join(sent), ended, machine.error)


def join_data(events: list[Event]) -> list[Event]:
    """Join chunks of one WebSocket message, their payload as bytes."""
    joined: list[Event] = []
    for event in events:
        if isinstance(event, Data):
            last = joined[-1] if joined else None
            payload = bytes(event.payload)
            if isinstance(last, Data) and not last.message_end:
                assert last.opcode == event.opcode
                payload = bytes(last.payload) + payload
                joined.pop()
            event = Data(event.opcode, memoryview(payload), event.message_end)
        joined.append(event)
    return joined
