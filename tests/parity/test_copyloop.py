"""The pump of both twins on the same transports: same writes, same hooks, same state.

The transports are made of lists: what they cannot send at once they keep, by reference,
and compare later, as uvloop does.
"""

from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastws import _backend, _consts
from fastws._consts import Side
from tests.support.peers import BINARY, CLOSE, PING, TEXT

Twins = tuple[ModuleType, ModuleType]
KEYS = bytes(range(256)) * 16
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
        return data if role is None else unframe(data, role is Side.CLIENT)

    def state(self) -> Any:
        """All that must be the same for both twins."""
        for transport in self.transports:
            transport.drain(1 << 30)
        attributes = [[getattr(end, name) for name in ATTRIBUTES] for end in self.ends]
        assert self.scratch.lent == 0
        return self.log, attributes, self.written(0), self.written(1)


def frame(opcode: int, payload: bytes, masked: bool, fin: bool = True) -> bytes:
    """One frame, with a key of its own."""
    head = bytes([opcode | (0x80 if fin else 0)])
    mask = 0x80 if masked else 0
    if len(payload) < 126:
        head += bytes([mask | len(payload)])
    else:
        head += bytes([mask | 126]) + len(payload).to_bytes(2)
    if not masked:
        return head + payload
    key = b"\x01\x80\xff\x37"
    return head + key + bytes(c ^ key[i % 4] for i, c in enumerate(payload))


def unframe(data: bytes, masked: bool) -> bytes:
    """The payload of binary frames, none of them longer than 1 024 bytes."""
    payload, at = b"", 0
    while at < len(data):
        assert data[at] == 0x82
        assert (data[at + 1] & 0x80 != 0) is masked
        length, start = data[at + 1] & 0x7F, at + 2
        if length == 126:
            length, start = int.from_bytes(data[at + 2 : at + 4]), at + 4
        key = data[start : start + 4] if masked else bytes(4)
        start += 4 if masked else 0
        piece = data[start : start + length]
        payload += bytes(c ^ key[i % 4] for i, c in enumerate(piece))
        assert start + length - at <= 1024
        at = start + length
    return payload


ROLES = [
    (None, None),
    (None, Side.CLIENT),
    (None, Side.SERVER),
    (Side.CLIENT, None),
    (Side.SERVER, None),
    (Side.SERVER, Side.CLIENT),
]
every_pair = pytest.mark.parametrize(
    "roles", ROLES, ids=lambda r: "-".join("raw" if s is None else s.name for s in r)
)
both_writes = pytest.mark.parametrize("vectored", [False, True])


def wire(
    role: Side | None, data: bytes, fin: bool = True, opcode: int = BINARY
) -> bytes:
    """``data`` as the peer of an end with that role sends it."""
    if role is None:
        return data
    return frame(opcode, data, masked=role is Side.SERVER, fin=fin)


@every_pair
@both_writes
@pytest.mark.parametrize("size", [1, 125, 126, 1016, 1017, 5000, 60_000])
def test_payload_passes_both_ways(
    twins: Twins, roles: tuple[Side | None, Side | None], vectored: bool, size: int
) -> None:
    states = []
    for twin in twins:
        pump = Pump(twin, roles, vectored=vectored)
        for number in (0, 1):
            data = bytes(i * (number + 3) % 251 for i in range(size))
            pump.read(number, wire(roles[number], data))
            assert pump.written(1 - number) == data
        states.append(pump.state())
    assert states[0] == states[1]


@every_pair
@both_writes
def test_unsent_bytes_stop_the_source_and_stay_unchanged(
    twins: Twins, roles: tuple[Side | None, Side | None], vectored: bool
) -> None:
    states = []
    for twin in twins:
        pump = Pump(twin, roles, room=700, vectored=vectored)
        expected = b""
        for turn in range(20):
            data = bytes([turn]) * 3000
            if pump.ends[0].is_reading:
                expected += data
                pump.read(0, wire(roles[0], data))
            pump.read(1, wire(roles[1], b"other"))  # overwrites what is not kept
            pump.transports[1].drain(1100)
        states.append(pump.state())
        assert states[-1][3] == expected
    assert states[0] == states[1]


FRAMES = st.lists(
    st.tuples(
        st.sampled_from([BINARY, TEXT, 0, PING, 10, CLOSE]),
        st.one_of(
            st.sampled_from([b"", b"C", b"F", b"R", b"\xff", b"\xc3", b"CC"]),
            st.binary(max_size=100),
            st.builds(bytes, st.integers(1000, 5000)),
        ),
        st.booleans(),
    ),
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(
    frames=FRAMES,
    cuts=st.lists(st.integers(1, 3000), min_size=1, max_size=20),
    text_mode=st.sampled_from([0, 1, 2]),
    side=st.sampled_from([Side.CLIENT, Side.SERVER]),
    vectored=st.booleans(),
    room=st.sampled_from([0, 500, 1 << 30]),
)
def test_any_frames_do_the_same(
    frames: list[tuple[int, bytes, bool]],
    cuts: list[int],
    text_mode: int,
    side: Side,
    vectored: bool,
    room: int,
) -> None:
    """Signals, texts, control frames and errors in any order, cut anywhere."""
    data = b"".join(wire(side, p, fin, opcode) for opcode, p, fin in frames)
    states = []
    for name in ("python", "cython"):
        try:
            twin = _backend.load(name)
        except ImportError as error:
            pytest.skip(str(error))
        pump = Pump(twin, (side, None), room=room, vectored=vectored)
        pump.ends[0].text_mode = text_mode
        rest = data
        for number, cut in enumerate(cuts * len(data)):
            if not rest or pump.ends[0].is_discarding:
                break
            pump.read(0, rest[:cut])
            if pump.ends[0].is_reading or number % 3 == 0:
                pump.transports[1].drain(400)
            rest = rest[cut:]
        log, *others = pump.state()
        # When a pause falls between two parts of one read is not part of the contract.
        states.append(([entry for entry in log if len(entry) > 2], *others))
    assert states[0] == states[1]


@pytest.mark.parametrize("is_ws", [False, True])
def test_fed_bytes_are_read_bytes(twins: Twins, is_ws: bool) -> None:
    states = []
    for twin in twins:
        pump = Pump(twin, (Side.SERVER if is_ws else None, None))
        data = wire(pump.roles[0], b"left over")
        pump.ends[0].feed(memoryview(data))
        assert pump.written(1) == b"left over"
        states.append(pump.state())
    assert states[0] == states[1]


def test_end_that_sends_no_more_refuses(twins: Twins) -> None:
    states = []
    for twin in twins:
        pump = Pump(twin, (None, None))
        pump.ends[1].is_sending = False
        pump.read(0, b"data")
        pump.ends[1].send_bytes(b"C")
        assert pump.written(1) == b""
        states.append(pump.state())
    assert states[0] == states[1]
    assert states[0][0][-2:] == [("b", "refused"), ("b", "refused")]


def test_end_that_is_read_on_is_never_paused(twins: Twins) -> None:
    states = []
    for twin in twins:
        pump = Pump(twin, (None, None), room=10)
        pump.ends[0].keeps_reading = True
        for number in range(5):
            pump.read(0, bytes([number]) * 3000)
        pump.ends[1].wants_drained = True
        states.append(pump.state())
        assert states[-1][3] == b"".join(bytes([n]) * 3000 for n in range(5))
    assert states[0] == states[1]
    assert ("a", "pause") not in states[0][0]
    assert ("b", "drained") in states[0][0]


def test_deaf_end_is_never_resumed(twins: Twins) -> None:
    states = []
    for twin in twins:
        pump = Pump(twin, (None, None), room=10)
        pump.read(0, bytes(3000))
        pump.ends[0].is_deaf = True
        states.append(pump.state())
    assert states[0] == states[1]
    assert states[0][0][-1] == ("a", "pause")


def test_detached_end_keeps_nothing(twins: Twins) -> None:
    for twin in twins:
        pump = Pump(twin, (None, None), room=10)
        pump.read(0, bytes(3000))
        for end in pump.ends:
            end.detach()
            assert (end.transport, end.peer, end.is_sending) == (None, None, False)
        for transport in pump.transports:
            transport.kept.clear()
        assert pump.scratch.lent == 0
