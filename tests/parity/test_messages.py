"""Both twins hand out the same messages and send the same bytes, whatever comes."""

import inspect
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastws import _backend
from fastws._consts import Side
from tests.support.messages import ATTRIBUTES, Line, Rot, state
from tests.support.peers import BINARY, CLOSE, PING, PONG, TEXT

Twins = tuple[ModuleType, ModuleType]
both_sides = pytest.mark.parametrize("side", [Side.CLIENT, Side.SERVER])

PAYLOAD = st.one_of(
    st.binary(max_size=130),
    st.text(max_size=40).map(str.encode),
    st.builds(bytes, st.integers(1000, 70_000)),
    st.sampled_from([b"", b"\xff", b"\xc3", b"\xa9", b"\x03\xe8", b"\x00"]),
)
FRAMES = st.lists(
    st.tuples(
        st.sampled_from([0, 0, TEXT, BINARY, BINARY, PING, PONG, CLOSE, 3]),
        PAYLOAD,
        st.booleans(),
        st.sampled_from([0, 0, 0x40, 0x20]),
    ),
    max_size=10,
)


def load_both() -> list[ModuleType]:
    try:
        return [_backend.load("python"), _backend.load("cython")]
    except ImportError as error:
        pytest.skip(str(error))


@settings(max_examples=200, deadline=None)
@given(
    frames=FRAMES,
    cuts=st.lists(st.integers(1, 5000), min_size=1, max_size=20),
    side=st.sampled_from([Side.CLIENT, Side.SERVER]),
    assembles=st.booleans(),
    copies=st.booleans(),
    has_codec=st.booleans(),
    max_size=st.sampled_from([None, 100, 1 << 20]),
    room=st.sampled_from([0, 500, 1 << 40]),
)
def test_any_frames_do_the_same(
    frames: list[tuple[int, bytes, bool, int]],
    cuts: list[int],
    side: Side,
    assembles: bool,
    copies: bool,
    has_codec: bool,
    max_size: int | None,
    room: int,
) -> None:
    """Everything RFC 6455 allows and forbids, cut anywhere, echoed."""
    states = []
    for twin in load_both():
        codec = Rot() if has_codec else None
        line = Line(twin, side, room, max_size=max_size, codec=codec)
        line.end.assembles = assembles
        line.end.copies = copies
        hear = line.hear

        def echo(payload: Any, opcode: int, final: bool) -> None:
            hear(payload, opcode, final)  # noqa: B023
            line.end.send(payload)  # noqa: B023

        line.end.on_message = echo
        data = b"".join(line.frame(*frame) for frame in frames)
        for cut in cuts * len(data):
            if not data:
                break
            line.read(data[:cut])
            data = data[cut:]
            line.transport.drain(300)
        states.append(state(line))
    assert states[0] == states[1]


SENDS = st.lists(
    st.tuples(
        st.one_of(PAYLOAD, st.text(max_size=30), st.just("ä" * 5000)),
        st.sampled_from([-1, -1, -1, 0, 1, 2, 3, 9]),
        st.booleans(),
    ),
    max_size=12,
)


@settings(max_examples=200, deadline=None)
@given(
    sends=SENDS,
    side=st.sampled_from([Side.CLIENT, Side.SERVER]),
    has_codec=st.booleans(),
    is_corked=st.booleans(),
    room=st.sampled_from([0, 500, 1 << 40]),
)
def test_any_calls_send_the_same(
    sends: list[tuple[Any, int, bool]],
    side: Side,
    has_codec: bool,
    is_corked: bool,
    room: int,
) -> None:
    """Results, exceptions and bytes, inside a handler and outside."""
    states = []
    for twin in load_both():
        line = Line(twin, side, room, codec=Rot() if has_codec else None)
        results: list[Any] = []

        def send_all(*_: Any) -> None:
            for args in sends:
                try:
                    results.append(line.end.send(*args))  # noqa: B023
                except Exception as error:
                    results.append((type(error), str(error)))  # noqa: B023

        if is_corked:
            line.end.on_message = send_all
            line.read(line.frame(BINARY, b"go"))
        else:
            send_all()
        states.append((results, state(line)))
    assert states[0] == states[1]


@both_sides
@pytest.mark.parametrize("size", [0, 125, 126, 8192, 8193, 65535, 65536, 131_073])
@pytest.mark.parametrize("extra", [0, 300_000])
@pytest.mark.parametrize("room", [0, 1 << 40])
def test_any_size_leaves_the_same(
    twins: Twins, side: Side, size: int, extra: int, room: int
) -> None:
    states = []
    for twin in twins:
        line = Line(twin, side, room)
        payload = bytes(i * 7 % 251 for i in range(size + extra))
        line.end.send(payload)
        line.end.send(memoryview(payload))
        line.transport.drain()
        assert line.sent == [(0x82, payload)] * 2
        states.append(state(line))
    assert states[0] == states[1]


@pytest.mark.parametrize("data", [3, None, memoryview(b"abcd")[::2], "\ud800"])
@pytest.mark.parametrize("opcode", [-1, 0, 7])
def test_wrong_data_raise_the_same(twins: Twins, data: Any, opcode: int) -> None:
    errors = []
    for twin in twins:
        line = Line(twin)
        with pytest.raises((TypeError, ValueError, BufferError)) as caught:
            line.end.send(data, opcode)
        errors.append((caught.type, str(caught.value), state(line)))
        assert line.end.send(b"after it") is True
    assert errors[0] == errors[1]


@pytest.mark.parametrize("name", ["MessageEnd", "MessagePool"])
def test_public_names_agree(twins: Twins, name: str) -> None:
    def names(twin: ModuleType) -> set[str]:
        return {n for n in dir(getattr(twin, name)) if not n.startswith("_")}

    made = {n for n in ATTRIBUTES if n != "unsent"} if name == "MessageEnd" else set()
    fields = {"transport", "pool", "side", "keys", "codec", "decoder"}
    hooks = {"on_message", "on_ping", "on_pong", "on_bytes"}
    pure, compiled = (names(twin) for twin in twins)
    if name == "MessageEnd":
        assert compiled - pure == made | fields | hooks
        assert pure <= compiled
    for method in pure & compiled:
        value = getattr(twins[0].MessageEnd, method, None)
        if inspect.isfunction(value) and method in {"send", "send_control", "attach"}:
            theirs = getattr(twins[1].MessageEnd, method)
            assert list(inspect.signature(value).parameters) == list(
                inspect.signature(theirs).parameters
            )
