"""Both twins carry compressed messages alike, with the real codec behind them."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastws import _backend
from fastws._consts import Side
from fastws.wire.deflate import Codec
from tests.support.messages import Line
from tests.support.peers import BINARY, PING, TEXT

MIB = 1024 * 1024
both_sides = pytest.mark.parametrize("side", [Side.CLIENT, Side.SERVER])


def load_both() -> list[Any]:
    try:
        return [_backend.load("python"), _backend.load("cython")]
    except ImportError as error:
        pytest.skip(str(error))


PART = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=60).map(str.encode),
    st.integers(0, 40_000).map(bytes),
    st.just(random.Random(1).randbytes(70_000)),
)
MESSAGES = st.lists(
    st.tuples(
        st.sampled_from([TEXT, BINARY]),
        st.lists(PART, min_size=1, max_size=3),
        st.booleans(),  # compressed
        st.integers(0, 40),  # 0: broken
    ),
    max_size=5,
)


def sent_by_a_peer(line: Line, forgets: bool, messages: Any) -> bytes:
    peer, data = Codec(out_forgets=forgets), b""
    for opcode, parts, is_packed, health in messages:
        for number, part in enumerate(parts):
            fin = number == len(parts) - 1
            rsv = 0x40 if is_packed and not number else 0
            payload = peer.compress(part, fin) if is_packed else part
            if not health:
                payload = payload[1:]
            data += line.frame(0 if number else opcode, payload, fin=fin, rsv=rsv)
            data += line.frame(PING, b"between")
    return data


@settings(max_examples=40, deadline=None)
@given(
    messages=MESSAGES,
    cuts=st.lists(st.integers(1, 5000), min_size=1, max_size=10),
    side=st.sampled_from([Side.CLIENT, Side.SERVER]),
    forgets=st.booleans(),
    assembles=st.booleans(),
    copies=st.booleans(),
    max_size=st.sampled_from([None, 1000, MIB]),
)
def test_any_compressed_messages_do_the_same(
    messages: Any,
    cuts: list[int],
    side: Side,
    forgets: bool,
    assembles: bool,
    copies: bool,
    max_size: int | None,
) -> None:
    """Heard and echoed."""
    states = []
    for twin in load_both():
        codec = Codec(in_forgets=forgets, out_forgets=forgets)
        line = Line(twin, side, max_size=max_size, codec=codec)
        line.end.assembles = assembles
        line.end.copies = copies
        hear = line.hear

        def echo(payload: Any, opcode: int, final: bool) -> None:
            hear(payload, opcode, final)  # noqa: B023
            line.end.send(payload, final=final)  # noqa: B023

        line.end.on_message = echo
        data = sent_by_a_peer(line, forgets, messages)
        for cut in cuts * (len(data) // sum(cuts) + 1):
            line.read(data[:cut])
            data = data[cut:]
        states.append((line.log, bytes(line.transport.sent)))
    assert states[0] == states[1]


@both_sides
@pytest.mark.parametrize("forgets", [False, True])
def test_messages_arrive(backend: Any, side: Side, forgets: bool) -> None:
    line = Line(backend, side, codec=Codec(in_forgets=forgets))
    noise = random.Random(2).randbytes(300_000)
    messages = [
        (TEXT, ["grün".encode(), b"", b"er"], True, 1),
        (BINARY, [b"plain"], False, 1),
        (BINARY, [noise, bytes(MIB)], True, 1),
        (TEXT, [b""], True, 1),
    ]
    line.end.on_ping = None
    line.read(sent_by_a_peer(line, forgets, messages))
    assert line.log == [
        (TEXT, "grüner".encode(), True),
        (BINARY, b"plain", True),
        (BINARY, noise + bytes(MIB), True),
        (TEXT, b"", True),
    ]


@both_sides
@pytest.mark.parametrize("assembles", [False, True])
@pytest.mark.parametrize("limit", [1000, 8 * MIB])
def test_bomb_ends_at_the_limit(
    backend: Any, side: Side, assembles: bool, limit: int
) -> None:
    """In one frame and spread over many, after a message of just the limit."""
    for pieces in (1, 50):
        line = Line(backend, side, max_size=limit, codec=Codec())
        line.end.assembles = assembles
        line.end.on_ping = None
        heard = 0

        def count(payload: Any, opcode: int, final: bool) -> None:
            nonlocal heard
            heard += len(payload)

        line.end.on_message = count
        peer = Codec()
        line.read(line.frame(BINARY, peer.compress(bytes(limit), True), rsv=0x40))
        assert heard == limit
        bomb = peer.compress(bytes(limit + 1), True)
        step = len(bomb) // pieces + 1
        for at in range(0, len(bomb), step):
            opcode, rsv = (0, 0) if at else (BINARY, 0x40)
            fin = at + step >= len(bomb)
            line.read(line.frame(opcode, bomb[at : at + step], fin=fin, rsv=rsv))
        assert line.log == [("error", 1009, "decompressed message is too big")]
        assert heard <= 2 * limit
        assert not assembles or heard == limit
