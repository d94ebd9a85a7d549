"""A message end on a transport made of lists, and everything that it says."""

from types import ModuleType
from typing import Any

from fastws._consts import Side
from fastws.exceptions import RemoteProtocolError
from tests.support.peers import CLOSE, xor

KEYS = bytes(range(256)) * 16
KEY = b"\x01\x80\xff\x37"
ATTRIBUTES = (
    *("is_open", "can_write", "is_discarding", "is_reading", "is_write_paused"),
    *("reads", "assembles", "copies", "unsent", "max_size", "fd"),
)
WHOLE = 256 * 1024 - 1  # a read that is not full


class Transport:
    """Takes ``room`` bytes at once and keeps the rest until :meth:`drain`."""

    def __init__(self, room: int = 1 << 40) -> None:
        self.room = room
        self.kept = bytearray()
        self.sent = bytearray()
        self.writes: list[int] = []  # sizes
        self.is_reading = False
        self.end: Any = None
        self.is_paused = False

    def set_protocol(self, end: Any) -> None:
        self.end = end

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True

    def get_write_buffer_size(self) -> int:
        return len(self.kept)

    def write(self, data: bytes) -> None:
        assert type(data) is bytes  # nobody changes it while it is unsent
        self.writes.append(len(data))
        self.kept += data
        self._send()
        if self.kept and not self.is_paused:
            self.is_paused = True
            self.end.pause_writing()

    def _send(self) -> None:
        size = min(self.room, len(self.kept))
        self.room -= size
        self.sent += self.kept[:size]
        del self.kept[:size]

    def drain(self, room: int = 1 << 40) -> None:
        """The peer has read: there is room for more."""
        self.room += room
        self._send()
        if not self.kept and self.is_paused:
            self.is_paused = False
            self.end.resume_writing()


class Rot:
    """A codec that is easy to read: 13 is added to every byte."""

    def compress(self, data: Any, final: bool) -> bytes:
        return bytes((c + 13) % 256 for c in bytes(data))

    def decompress(self, chunk: Any, final: bool, max_size: int) -> bytes:
        if len(chunk) > max_size:
            raise RemoteProtocolError("too much", close_code=1009)
        return bytes((c - 13) % 256 for c in bytes(chunk))


def make_end(twin: ModuleType, pool: Any, side: Side, **options: Any) -> Any:
    """An end that notes in ``log`` whatever its hooks and its handler hear."""

    class End(twin.MessageEnd):  # type: ignore[misc, name-defined]
        log: list[Any]

        def close_received(self, payload: bytes) -> None:
            self.log.append(("close", bytes(payload)))
            self.is_discarding = True

        def protocol_error(self, error: Any) -> None:
            self.log.append(("error", error.close_code, error.reason))
            self.is_discarding = True

        def handler_failed(self, exc: Exception) -> None:
            self.log.append(("failed", type(exc).__name__, str(exc)))
            self.is_discarding = True

        def write_stalled(self) -> None:
            self.log.append("stalled")

        def drained(self) -> None:
            self.log.append("drained")

    if side is Side.CLIENT:
        options["keys"] = twin.MaskKeys(lambda n: KEYS[:n])
    end = End(pool, side, **options)
    end.log = []
    return end


class Line:
    """One end of one twin, open and reading, on a :class:`Transport`."""

    def __init__(
        self, twin: ModuleType, side: Side = Side.SERVER, room: int = 1 << 40, **o: Any
    ) -> None:
        self.side = side
        self.pool = o.pop("pool", None) or twin.MessagePool()
        self.transport = Transport(room)
        self.end = make_end(twin, self.pool, side, **o)
        self.log = self.end.log
        self.end.attach(self.transport)
        self.end.on_message = self.hear
        self.end.on_ping = lambda payload: self.log.append(("ping", payload))
        self.end.on_pong = lambda payload: self.log.append(("pong", payload))
        self.end.resume_reading()

    def hear(self, payload: Any, opcode: int, final: bool) -> None:
        whole = payload if isinstance(payload, str) else bytes(payload)
        self.log.append((opcode, whole, final))

    def read(self, data: bytes) -> None:
        """Let the end read ``data``, whatever it thinks of it."""
        while data:
            window = memoryview(self.end.get_buffer(-1))
            size = min(len(window), len(data), WHOLE)
            window[:size] = data[:size]
            window.release()
            self.end.buffer_updated(size)
            data = data[size:]

    def frame(
        self, opcode: int, payload: bytes = b"", fin: bool = True, rsv: int = 0
    ) -> bytes:
        """One frame as the peer of this end sends it."""
        masked = self.side is Side.SERVER
        return frame(opcode, payload, masked=masked, fin=fin, rsv=rsv)

    @property
    def sent(self) -> list[tuple[int, bytes]]:
        """First byte and payload of every whole frame that was sent."""
        return unframe(bytes(self.transport.sent), self.side is Side.CLIENT)


def state(line: Line) -> Any:
    """All that must be the same for both twins."""
    line.transport.drain()
    attributes = {name: getattr(line.end, name) for name in ATTRIBUTES}
    return line.log, attributes, bytes(line.transport.sent), line.transport.is_reading


def frame(
    opcode: int, payload: bytes, *, masked: bool, fin: bool = True, rsv: int = 0
) -> bytes:
    """One frame, masked with the same key each time."""
    head = bytes([opcode | rsv | (0x80 if fin else 0)])
    mask = 0x80 if masked else 0
    size = len(payload)
    if size < 126:
        head += bytes([mask | size])
    elif size < 65536:
        head += bytes([mask | 126]) + size.to_bytes(2)
    else:
        head += bytes([mask | 127]) + size.to_bytes(8)
    return head + KEY + xor(payload, KEY) if masked else head + payload


def unframe(data: bytes, masked: bool) -> list[tuple[int, bytes]]:
    """First byte and payload of each frame; checks masks and lengths."""
    found, at = [], 0
    while at < len(data):
        first, second = data[at : at + 2]
        assert (second & 0x80 != 0) is masked, "masked by the wrong side"
        size, start = second & 0x7F, at + 2
        if size >= 126:
            wide = 2 if size == 126 else 8
            size = int.from_bytes(data[start : start + wide])
            assert size > (125 if wide == 2 else 65535), "length not minimal"
            start += wide
        key = data[start : start + 4] if masked else bytes(4)
        start += 4 if masked else 0
        assert first & 15 < CLOSE or size <= 125
        found.append((first, xor(data[start : start + size], key)))
        assert start + size <= len(data), "the last frame is not whole"
        at = start + size
    return found
