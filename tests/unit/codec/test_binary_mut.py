"""BinaryMut: the byte queue with views and splits."""

import sys
from types import ModuleType

import pytest


def filled(backend: ModuleType, data: bytes, capacity: int = 0):  # type: ignore[no-untyped-def]
    buf = backend.BinaryMut(capacity)
    buf.extend(data)
    return buf


def test_new_is_empty(backend: ModuleType) -> None:
    buf = backend.BinaryMut()
    assert (len(buf), buf.spare, bytes(buf), bytes(buf.chunk())) == (0, 0, b"", b"")
    assert backend.BinaryMut(100).spare == 100


def test_extend_advance_in_order(backend: ModuleType) -> None:
    buf = filled(backend, b"hello ")
    buf.extend(bytearray(b"big "))
    buf.extend(memoryview(b"world"))
    buf.advance(6)
    assert (len(buf), bytes(buf)) == (9, b"big world")
    buf.advance(9)
    assert (len(buf), bytes(buf)) == (0, b"")


def test_chunk_mut_then_advance_mut(backend: ModuleType) -> None:
    buf = filled(backend, b"ab")
    spare = buf.chunk_mut(10)
    assert len(spare) == buf.spare >= 10
    assert not spare.readonly
    spare[:3] = b"cde"
    assert bytes(buf) == b"ab"
    buf.advance_mut(3)
    assert bytes(buf) == b"abcde"


def test_chunk_writes_through(backend: ModuleType) -> None:
    buf = filled(backend, b"abc")
    buf.chunk()[1:2] = b"X"
    assert bytes(buf) == b"aXc"


def test_reserve_keeps_what_is_there(backend: ModuleType) -> None:
    buf = filled(backend, b"abc", capacity=3)
    assert buf.spare == 0
    buf.reserve(1)
    assert buf.spare == 61  # 64 is the smallest block
    buf.reserve(1000)
    assert buf.spare == 1000
    buf.reserve(1001)
    assert buf.spare == 2 * 1003 - 3  # doubled
    assert bytes(buf) == b"abc"


def test_reserve_reuses_the_front(backend: ModuleType) -> None:
    buf = filled(backend, b"a" * 90 + b"b" * 10, capacity=100)
    buf.advance(90)
    buf.reserve(90)
    assert (buf.spare, bytes(buf)) == (90, b"b" * 10)


def test_reserve_grows_rather_than_move_much(backend: ModuleType) -> None:
    buf = filled(backend, b"a" * 40 + b"b" * 60, capacity=100)
    buf.advance(40)
    buf.reserve(1)
    assert (buf.spare, bytes(buf)) == (140, b"b" * 60)


@pytest.mark.parametrize("more", [90, 400], ids=["compact", "grow"])
def test_views_outlive_growth(backend: ModuleType, more: int) -> None:
    buf = filled(backend, b"a" * 90 + b"b" * 10, capacity=100)
    buf.advance(90)
    view = buf.chunk()
    buf.extend(b"c" * more)
    buf.chunk()[:10] = b"X" * 10
    assert bytes(view) == b"b" * 10
    assert bytes(buf) == b"X" * 10 + b"c" * more


def test_views_outlive_the_buffer(backend: ModuleType) -> None:
    buf = filled(backend, b"data" * 1000)
    view = buf.chunk()
    part = view[4:8]
    del buf, view
    assert bytes(part) == b"data"


def test_released_view_frees_the_block_for_reuse(backend: ModuleType) -> None:
    buf = filled(backend, b"a" * 100, capacity=100)
    with buf.chunk():
        buf.advance(100)
    spare = buf.chunk_mut(100)
    assert len(spare) == 100


def test_split_to_shares_nothing_later(backend: ModuleType) -> None:
    buf = filled(backend, b"hello world", capacity=100)
    front = buf.split_to(5)
    assert (bytes(front), front.spare) == (b"hello", 0)
    assert (bytes(buf), buf.spare) == (b" world", 89)
    front.extend(b", there")
    buf.extend(b"!")
    assert (bytes(front), bytes(buf)) == (b"hello, there", b" world!")


def test_split_to_is_zero_copy(backend: ModuleType) -> None:
    buf = filled(backend, b"hello world")
    view = buf.chunk()
    front = buf.split_to(5)
    view[0:1] = b"J"
    assert bytes(front) == b"Jello"


def test_split_to_after_advance_and_of_everything(backend: ModuleType) -> None:
    buf = filled(backend, b"hello", capacity=8)
    buf.advance(1)
    rest = buf.split_to(4)
    assert (bytes(rest), bytes(buf), buf.spare) == (b"ello", b"", 3)
    empty = buf.split_to(0)
    assert (len(empty), empty.spare) == (0, 0)
    assert type(empty) is backend.BinaryMut


def test_split_parts_never_write_into_each_other(backend: ModuleType) -> None:
    buf = filled(backend, b"a" * 50 + b"b" * 50, capacity=100)
    front = buf.split_to(50)
    front.advance(30)
    front.extend(b"c" * 30)
    buf.advance(30)
    buf.extend(b"d" * 30)
    assert bytes(front) == b"a" * 20 + b"c" * 30
    assert bytes(buf) == b"b" * 20 + b"d" * 30


def test_clear_keeps_the_memory(backend: ModuleType) -> None:
    buf = filled(backend, b"a" * 100, capacity=100)
    buf.clear()
    assert (len(buf), buf.spare) == (0, 0)
    buf.reserve(100)
    assert buf.spare == 100


def test_extend_from_itself(backend: ModuleType) -> None:
    buf = filled(backend, b"ab")
    for _ in range(8):
        buf.extend(buf.chunk())
    assert bytes(buf) == b"ab" * 256


def test_repr_shows_sizes(backend: ModuleType) -> None:
    buf = filled(backend, b"abc", capacity=10)
    assert repr(buf) == "<BinaryMut 3 bytes, room for 7>"


@pytest.mark.parametrize(
    ("method", "wrong", "text"),
    [
        ("advance", -1, "advance needs 0..3 bytes"),
        ("advance", 4, "advance needs 0..3 bytes"),
        ("advance", 2**70, "advance needs 0..3 bytes"),
        ("advance_mut", -1, "advance_mut needs 0..7 bytes"),
        ("advance_mut", 8, "advance_mut needs 0..7 bytes"),
        ("split_to", -1, "split_to needs 0..3 bytes"),
        ("split_to", 4, "split_to needs 0..3 bytes"),
        ("reserve", -1, "reserve needs at least 0 bytes"),
        ("chunk_mut", -1, "reserve needs at least 0 bytes"),
    ],
)
def test_reject_count(backend: ModuleType, method: str, wrong: int, text: str) -> None:
    buf = filled(backend, b"abc", capacity=10)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (compared below)
        getattr(buf, method)(wrong)
    assert str(caught.value) == text
    assert (bytes(buf), buf.spare) == (b"abc", 7)


def test_reject_negative_capacity(backend: ModuleType) -> None:
    with pytest.raises(ValueError, match=r"^capacity must be at least 0$"):
        backend.BinaryMut(-1)


@pytest.mark.parametrize("size", [2**62, 2**63 - 1, 2**70])
def test_too_much_memory_changes_nothing(backend: ModuleType, size: int) -> None:
    buf = filled(backend, b"abc", capacity=10)
    with pytest.raises(MemoryError):
        buf.reserve(size)
    assert (bytes(buf), buf.spare) == (b"abc", 7)


def test_reject_text(backend: ModuleType) -> None:
    buf = filled(backend, b"abc")
    with pytest.raises(TypeError, match="a bytes-like object is required, not 'str'"):
        buf.extend("text")
    assert bytes(buf) == b"abc"


def test_filled_and_drained_in_step_stays_small(backend: ModuleType) -> None:
    buf = backend.BinaryMut()
    for _ in range(10_000):
        buf.extend(b"x" * 100)
        buf.advance(100)
    assert buf.spare <= 400


def test_buffer_protocol(backend: ModuleType) -> None:
    buf = filled(backend, b"abcdef")
    if backend.BinaryMut.__module__ != "fastws._speedups" and sys.version_info < (
        3,
        12,
    ):
        pytest.skip("a Python class exports buffers from 3.12 on")
    buf.advance(1)
    view = memoryview(buf)
    assert (bytes(view), view.readonly) == (b"bcdef", False)
    buf.extend(b"g" * 1000)
    assert bytes(view) == b"bcdef"
