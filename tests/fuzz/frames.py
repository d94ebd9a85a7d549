"""Frames in any state of health: the twins do the same with them.

The first bytes of an input choose the options, the rest is what arrives: raw bytes, or
records of first byte, length and payload that become well-formed frames, which reach
deeper.
"""

import random
from types import ModuleType
from typing import Any

from fastws import _backend
from fastws._consts import RSV1, Side
from fastws.wire.deflate import Codec
from fastws.wire.websocket import Connection, Data
from tests.support.messages import Line, Rot, frame, state
from tests.support.pump import Pump

TWINS: tuple[ModuleType, ...] = (_backend.load("python"), _backend.load("cython"))
SIZES = (None, 0, 100, 1000, 70_000)
ROOMS = (0, 500, 1 << 40)


def records(data: bytes, masked: bool) -> bytes:
    """Well-formed frames, if often forbidden ones."""
    wire, at = b"", 0
    while at + 2 <= len(data):
        first, size = data[at : at + 2]
        payload = data[at + 2 : at + 2 + size % 128]
        at += 2 + len(payload)
        payload *= 1 + 40 * (size >> 7)
        wire += frame(
            first & 15,
            payload,
            masked=masked,
            fin=bool(first & 128),
            rsv=first & 0x70 if first & 15 < 3 else first & 0x20,
        )
    return wire


def cuts(data: bytes, seed: int) -> list[bytes]:
    """``data`` in pieces: all at once, byte by byte, or any others."""
    if seed % 3 == 0 or not data:
        return [data]
    if seed % 3 == 1 and len(data) < 1000:
        return [data[at : at + 1] for at in range(len(data))]
    pick, pieces, at = random.Random(seed), [], 0
    while at < len(data):
        size = int(len(data) ** pick.random())
        pieces.append(data[at : at + size])
        at += size
    return pieces


def decode(twin: ModuleType, side: Side, sizes: Any, rsv: int, pieces: Any) -> Any:
    """All that a decoder says."""
    decoder = twin.FrameDecoder(
        side, max_payload=sizes[0], max_message=sizes[1], rsv=rsv
    )
    heard: list[Any] = []
    for piece in pieces:
        parts = decoder.receive_data(bytearray(piece))
        heard += [(opcode, bytes(payload), flags) for opcode, payload, flags in parts]
        error = decoder.error
        said = None if error is None else (str(error), error.close_code)
        heard.append((decoder.in_message, decoder.at_boundary, said))
    return heard


def text(twin: ModuleType, pieces: Any) -> Any:
    """All that a validator says."""
    validator = twin.Utf8Validator()
    return [(validator.feed(piece), validator.complete) for piece in pieces]


def exchange(twin: ModuleType, side: Side, bits: int, size: Any, pieces: Any) -> Any:
    """All that an end of messages does, which echoes."""
    codec: Any = (None, Rot(), Codec(in_forgets=True), Codec())[bits & 3]
    room = ROOMS[(bits >> 2) % 3]
    line = Line(twin, side, room, max_size=size, codec=codec)
    line.end.assembles = not bits & 16
    line.end.copies = bool(bits & 32)
    hear = line.hear

    def echo(payload: Any, opcode: int, final: bool) -> None:
        hear(payload, opcode, final)
        line.end.send(payload)

    line.end.on_message = echo
    for piece in pieces:
        line.read(piece)
        line.transport.drain(300)
    return state(line)


def pump(twin: ModuleType, side: Side, bits: int, pieces: Any) -> Any:
    """All that the copy loop does, but for when it pauses within a read."""
    running = Pump(twin, (side, None), room=ROOMS[bits % 3], vectored=bool(bits & 4))
    running.ends[0].text_mode = (bits >> 3) % 3
    for number, piece in enumerate(pieces):
        if running.ends[0].is_discarding:
            break
        running.read(0, piece)
        if running.ends[0].is_reading or number % 3 == 0:
            running.transports[1].drain(400)
    log, *others = running.state()
    return [entry for entry in log if len(entry) > 2], *others


def machine(side: Side, pieces: Any) -> Any:
    """What the connection machine delivers, however its input is cut."""
    connection = Connection(side, key_source=lambda: b"abcd", max_message=70_000)
    joined: list[Any] = []
    for piece in pieces:
        connection.receive_data(piece)
        for event in connection.events_received():
            if isinstance(event, Data):
                payload = bytes(event.payload)
                if joined and isinstance(joined[-1], list) and not joined[-1][2]:
                    payload = joined.pop()[1] + payload
                joined.append([event.opcode, payload, event.message_end])
            else:
                joined.append(event)
    sent = b"".join(
        bytes(data) for data in connection.data_to_send() if data is not None
    )
    error = connection.error
    if error and joined and isinstance(joined[-1], list) and not joined[-1][2]:
        joined.pop()  # of text that fails, what was good is delivered as it comes
    return (
        joined,
        connection.state,
        error and (str(error), error.close_code),
        bool(sent),
    )


def run(data: bytes) -> None:
    """One input."""
    if len(data) < 4:
        return
    mode, bits, limits, seed = data[:4]
    side = Side(mode & 1)
    wire = data[4:]
    if mode & 2:
        wire = records(wire, masked=side is Side.SERVER)
    pieces = cuts(wire, seed)
    size = SIZES[limits % 5]
    what = (mode >> 2) % 4
    if what == 0:
        rsv = (0, RSV1, 0x30)[bits % 3]
        sizes = SIZES[limits // 5 % 5], size
        results = [decode(twin, side, sizes, rsv, pieces) for twin in TWINS]
        assert text(TWINS[0], pieces) == text(TWINS[1], pieces)
    elif what == 1:
        results = [exchange(twin, side, bits, size, pieces) for twin in TWINS]
    elif what == 2:
        results = [pump(twin, side, bits, pieces) for twin in TWINS]
    else:
        results = [machine(side, p) for p in ([wire], pieces)]
    assert results[0] == results[1], f"{results[0]}\n!=\n{results[1]}"
