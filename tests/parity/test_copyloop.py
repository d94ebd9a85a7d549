"""The pump of both twins on the same transports: same writes, same hooks, same state.

The transports are made of lists: what they cannot send at once they keep, by reference,
and compare later, as uvloop does.
"""

from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastws import _backend
from fastws._consts import Side
from tests.support.messages import frame
from tests.support.peers import BINARY, CLOSE, PING, TEXT
from tests.support.pump import Pump

Twins = tuple[ModuleType, ModuleType]


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
