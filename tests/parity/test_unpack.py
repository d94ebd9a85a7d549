"""Both twins unpack the same, refuse the same, and go on the same."""

import random
import zlib
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastws import _backend

Twins = tuple[ModuleType, ModuleType]


def pack(data: bytes, *, how: int = zlib.Z_SYNC_FLUSH) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    packed = packer.compress(data) + packer.flush(how)
    return packed[:-4] if how == zlib.Z_SYNC_FLUSH else packed


WHOLE = [
    pack(b"hello " * 50),
    pack(b""),
    pack(b"ended", how=zlib.Z_FINISH),
    pack(b"ended", how=zlib.Z_FINISH) + pack(b"and more"),
    pack(bytes(3_000_000)),
    b"\x02\x00" * 300,
    b"",
    b"\xff",
]
CALLS = st.lists(
    st.tuples(
        st.one_of(st.sampled_from(WHOLE), st.binary(max_size=30)),
        st.booleans(),
        st.sampled_from([0, 1, 5, 299, 300, 10_000, 1 << 20, (1 << 63) - 1, 1 << 70]),
        st.sampled_from([bytes, bytearray, memoryview]),
    ),
    max_size=6,
)


def outcome(unpacker: Any, *args: Any) -> Any:
    try:
        result = unpacker.decompress(*args)
    except Exception as error:
        return type(error).__name__, str(error), getattr(error, "close_code", None)
    assert type(result) is bytes
    return result


@settings(max_examples=300, deadline=None)
@given(calls=CALLS, forgets=st.booleans(), bits=st.sampled_from([9, 12, 15]))
def test_any_calls_do_the_same(
    calls: list[tuple[bytes, bool, int, Any]], forgets: bool, bits: int
) -> None:
    try:
        twins = _backend.load("python"), _backend.load("cython")
    except ImportError as error:
        pytest.skip(str(error))
    made = [
        twin.Unpacker(zlib.decompressobj, zlib.error, -bits, forgets) for twin in twins
    ]
    for data, final, limit, kind in calls:
        results = [outcome(one, kind(data), final, limit) for one in made]
        assert results[0] == results[1]


@pytest.mark.parametrize("args", [("text", True, 5), (3, True, 5), (b"x", True, "5")])
def test_wrong_arguments_raise_the_same(twins: Twins, args: Any) -> None:
    names = []
    for twin in twins:
        unpacker = twin.Unpacker(zlib.decompressobj, zlib.error, -15, False)
        names.append(outcome(unpacker, *args)[0])
    assert names == ["TypeError", "TypeError"]


def test_messages_that_do_not_fit_one_step(backend: ModuleType) -> None:
    """Steps of 1 MiB join; the limit is exact."""
    data = random.Random(5).randbytes(1_500_000) + bytes(3_000_000)
    for limit, expected in ((len(data), data), (len(data) - 1, 1009)):
        unpacker = backend.Unpacker(zlib.decompressobj, zlib.error, -15, False)
        got = outcome(unpacker, pack(data), True, limit)
        assert (got if expected is data else got[2]) == expected
