"""The pump on transports made of lists, and everything that it does."""

from types import ModuleType
from typing import Any

from fastws import _consts
from fastws._consts import Side
from tests.support.messages import KEYS, unframe
from tests.support.peers import BINARY, CLOSE

ATTRIBUTES = (
    *("payload_in", "payload_out", "reads", "is_sending", "is_discarding"),
    *("is_reading", "keeps_reading", "eof_signalled", "text_mode", "wants_drained"),
)


class Transport:
    """Takes ``room`` bytes at once and keeps the rest until :meth:`drain`."""

    def __init__(self, log: list[Any], name: str, room: int) -> None:
        self.log = log
        self.name = name
        self.room = room
        self.kept: list[memoryview] = []
        self.sent = bytearray()
        self.end: Any = None
        self.is_paused = False
        self.pieces: list[int] = []  # of each vectored write

    def set_protocol(self, end: Any) -> None:
        self.end = end

    def pause_reading(self) -> None:
        self.log.append((self.name, "pause"))

    def resume_reading(self) -> None:
        self.log.append((self.name, "resume"))

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self.kept))

    def writelines(self, pieces: list[Any]) -> None:
        self.pieces.append(len(pieces))
        for piece in pieces:
            self._take(memoryview(piece).cast("B"))
        self._tell()

    def write(self, data: Any) -> None:
        self._take(memoryview(data).cast("B"))
        self._tell()

    def _take(self, view: memoryview) -> None:
        size = 0 if self.kept else min(len(view), self.room - len(self.sent))
        self.sent += view[:size]
        if size < len(view):
            self.kept.append(view[size:])

    def _tell(self) -> None:
        if self.kept and not self.is_paused:
            self.is_paused = True
            self.end.pause_writing()

    def drain(self, room: int) -> None:
        """The peer has read: there is room for more."""
        self.room += room
        while self.kept and len(self.sent) < self.room:
            view = self.kept.pop(0)
            size = min(len(view), self.room - len(self.sent))
            self.sent += view[:size]
            if size < len(view):
                self.kept.insert(0, view[size:])
        if not self.kept and self.is_paused:
            self.is_paused = False
            self.end.resume_writing()


def make_end(twin: ModuleType, log: list[Any], name: str, **options: Any) -> Any:
    """An end whose hooks are logged."""

    class End(twin.CopyEnd):  # type: ignore[misc, name-defined]
        def control_received(self, opcode: int, payload: bytes) -> None:
            log.append((name, "control", opcode, bytes(payload)))
            if opcode == CLOSE:
                self.is_discarding = True

        def signal_received(self, text: bytes) -> None:
            log.append((name, "signal", bytes(text)))
            self.eof_signalled = self.eof_signalled or text == b"F"

        def protocol_error(self, error: Any) -> None:
            log.append((name, "error", error.close_code, error.reason))
            self.is_discarding = True

        def payload_refused(self) -> None:
            log.append((name, "refused"))

        def drained(self) -> None:
            log.append((name, "drained"))
            self.wants_drained = False

    return End(**options)


class Pump:
    """Two ends of one twin on two transports, and the log of what they did."""

    def __init__(
        self,
        twin: ModuleType,
        roles: tuple[Side | None, Side | None],
        *,
        room: int = 1 << 30,
        vectored: bool = False,
        max_message: int = 1024,
    ) -> None:
        self.log: list[Any] = []
        self.roles = roles
        self.max_message = max_message
        self.scratch = twin.Scratch()
        self.transports = [Transport(self.log, name, room) for name in "ab"]
        self.ends = []
        for name, role, transport in zip("ab", roles, self.transports, strict=True):
            is_client = role is Side.CLIENT
            end = make_end(
                twin,
                self.log,
                name,
                scratch=self.scratch,
                decoder=None if role is None else twin.FrameDecoder(role),
                keys=twin.MaskKeys(lambda n: KEYS[:n]) if is_client else None,
                max_message=max_message,
                vectored=vectored,
            )
            self.ends.append(end)
            end.attach(transport)
        self.ends[0].link(self.ends[1])
        for end in self.ends:
            end.start()

    def read(self, number: int, data: bytes) -> None:
        """Let end ``number`` read ``data``, as far as it reads at all."""
        end = self.ends[number]
        while data and end.is_reading:
            window = memoryview(end.get_buffer(-1))
            size = min(len(window), len(data), _consts.READ_MIN - 1)
            window[:size] = data[:size]
            window.release()
            end.buffer_updated(size)
            data = data[size:]

    def written(self, number: int) -> bytes:
        """Payload that reached the peer of end ``number``."""
        data = bytes(self.transports[number].sent)
        role = self.roles[number]
        if role is None:
            return data
        payloads = []
        for first, payload in unframe(data, role is Side.CLIENT):
            assert first == 0x80 | BINARY
            head = 2 + 2 * (len(payload) > 125) + 4 * (role is Side.CLIENT)
            assert head + len(payload) <= self.max_message
            payloads.append(payload)
        return b"".join(payloads)

    def state(self) -> Any:
        """All that must be the same for both twins."""
        for transport in self.transports:
            transport.drain(1 << 30)
        attributes = [[getattr(end, name) for name in ATTRIBUTES] for end in self.ends]
        assert self.scratch.lent == 0
        return self.log, attributes, self.written(0), self.written(1)
