"""Properties of the codec: round trip, any cut, any bytes."""

from itertools import pairwise
from types import ModuleType
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastws._consts import FRAME_END, FRAME_START, MESSAGE_END
from fastws.exceptions import RemoteProtocolError

# The fixture hands out a module: nothing in it changes between examples.
codec = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)

sides = st.sampled_from([0, 1])
keys = st.binary(min_size=4, max_size=4)
sizes = st.one_of(st.integers(0, 300), st.sampled_from([65535, 65536, 70000]))
payloads = st.one_of(st.binary(max_size=300), sizes.map(bytes))
controls = st.lists(st.tuples(st.sampled_from([9, 10]), st.binary(max_size=125)))
messages = st.lists(
    st.tuples(
        st.sampled_from([1, 2]),
        st.lists(st.tuples(payloads, controls), min_size=1, max_size=4),
    ),
    max_size=4,
)


def wire_of(
    backend: ModuleType, messages: Any, key: bytes | None
) -> tuple[bytes, list[tuple[int, bytes, int]]]:
    """Messages as frames with control frames between, and what they decode to."""
    wire, events = bytearray(), []
    for opcode, fragments in messages:
        for number, (payload, between) in enumerate(fragments):
            fin = number == len(fragments) - 1
            sent_as = 0 if number else opcode
            wire += backend.encode_frame(sent_as, payload, fin=fin, key=key)
            ends = FRAME_START | FRAME_END | (MESSAGE_END if fin else 0)
            events.append((opcode, payload, ends))
            for control, body in between:
                wire += backend.encode_frame(control, body, key=key)
                events.append((control, body, FRAME_START | FRAME_END | MESSAGE_END))
    return bytes(wire), events


def decode(decoder: Any, chunks: list[bytes]) -> list[tuple[int, bytes, int]]:
    """Events of all chunks, parts of one frame joined."""
    events: list[tuple[int, bytes, int]] = []
    for chunk in chunks:
        for opcode, payload, flags in decoder.receive_data(bytearray(chunk)):
            if not flags & FRAME_START:
                _, first, started = events.pop()
                payload, flags = first + bytes(payload), started | flags
            events.append((opcode, bytes(payload), flags))
    return events


def cut(data: bytes, at: list[int]) -> list[bytes]:
    edges = sorted({min(edge, len(data)) for edge in at} | {0, len(data)})
    return [data[a:b] for a, b in pairwise(edges)]


@codec
@given(messages, sides, keys, st.lists(st.integers(0, 3000), max_size=20))
def test_any_cut_gives_what_was_sent(
    backend: ModuleType, messages: Any, side: int, key: bytes, at: list[int]
) -> None:
    wire, events = wire_of(backend, messages, key if side else None)
    decoder = backend.FrameDecoder(side)
    assert decode(decoder, cut(wire, at)) == events
    assert decoder.error is None
    assert decoder.at_boundary
    assert not decoder.in_message


@codec
@given(
    st.binary(max_size=400),
    sides,
    st.lists(st.integers(0, 400), max_size=10),
    st.sampled_from([0, 0x40, 0x70]),
    st.sampled_from([None, 0, 10, 200]),
)
def test_any_bytes_give_the_same_end_in_any_cut(
    backend: ModuleType,
    data: bytes,
    side: int,
    at: list[int],
    rsv: int,
    limit: int | None,
) -> None:
    outcomes = []
    for chunks in ([data], cut(data, at), [bytes([byte]) for byte in data]):
        decoder = backend.FrameDecoder(side, rsv=rsv, max_payload=limit)
        events = decode(decoder, chunks)
        error = decoder.error
        assert error is None or type(error) is RemoteProtocolError
        state = (decoder.in_message, decoder.at_boundary)
        outcomes.append((events, error and (str(error), error.close_code), state))
    assert outcomes[0] == outcomes[1] == outcomes[2]


@codec
@given(
    st.integers(0, 15),
    st.booleans(),
    st.sampled_from(range(0, 0x80, 0x10)),
    st.one_of(st.none(), keys),
    st.one_of(st.integers(0, 70000), st.integers(0, 2**63 - 1)),
    st.integers(0, 5),
)
def test_header_round_trip(
    backend: ModuleType,
    opcode: int,
    fin: bool,
    rsv: int,
    key: bytes | None,
    length: int,
    offset: int,
) -> None:
    buf = bytearray(20)
    size = backend.write_header(buf, offset, opcode, length, fin=fin, rsv=rsv, key=key)
    header = backend.decode_header(memoryview(buf)[offset:])
    assert header == (fin, rsv, opcode, key, length, size)


@codec
@given(payloads, keys, st.integers(0, 3))
def test_mask_twice_is_nothing(
    backend: ModuleType, data: bytes, key: bytes, phase: int
) -> None:
    buf = bytearray(data)
    backend.apply_mask(buf, key, phase)
    assert all(
        buf[i] == data[i] ^ key[(phase + i) % 4] for i in range(0, len(data), 97)
    )
    backend.apply_mask(buf, key, phase)
    assert buf == data


@codec
@given(st.binary(max_size=100), st.lists(st.integers(0, 100), max_size=5))
def test_utf8_agrees_with_the_decoder(
    backend: ModuleType, data: bytes, at: list[int]
) -> None:
    validator = backend.Utf8Validator()
    for chunk in cut(data, at):
        validator.feed(chunk)
    try:
        data.decode()
    except UnicodeDecodeError:
        assert not validator.complete
    else:
        assert validator.complete


@codec
@given(st.text(max_size=100), st.lists(st.integers(0, 400), max_size=5))
def test_utf8_accepts_every_text(backend: ModuleType, text: str, at: list[int]) -> None:
    validator = backend.Utf8Validator()
    assert all(validator.feed(chunk) for chunk in cut(text.encode(), at))
    assert validator.complete


@codec
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=300),
            st.tuples(st.sampled_from(["advance", "split_to"]), st.integers(0, 400)),
        ),
        max_size=40,
    )
)
def test_binary_mut_is_a_queue(backend: ModuleType, calls: list[Any]) -> None:
    buf, model, parts = backend.BinaryMut(), b"", []
    for call in calls:
        if isinstance(call, bytes):
            buf.extend(call)
            model += call
            continue
        name, n = call
        n = min(n, len(model))
        taken = getattr(buf, name)(n)
        if name == "split_to":
            parts.append((taken, model[:n]))
        model = model[n:]
        assert bytes(buf) == model
        assert len(buf) == len(model)
    assert bytes(buf) == model
    assert all(bytes(part) == expected for part, expected in parts)
