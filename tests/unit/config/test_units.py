"""Durations and sizes as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastws.config.units import (
    MAX_DURATION,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10s", 10.0),
        ("1m", 60.0),
        ("500ms", 0.5),
        ("1.5h", 5400.0),
        ("1m30s", 90.0),
        ("2d", 172800.0),
        ("20", 20.0),
        ("0.25", 0.25),
        ("0", 0.0),
        (" 3s ", 3.0),
        ("0.1s", 0.1),
        ("366d", MAX_DURATION),
    ],
)
def test_accept_duration(text: str, seconds: float) -> None:
    value = parse_duration(text)
    assert value == seconds
    assert isinstance(value, float)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "s",
        "-1s",
        "+1s",
        "1e3",
        "10 s",
        "10S",
        "1x",
        "1h-1s",
        ".5s",
        "5.",
        "nan",
        "inf",
        "1,5s",
        "٣s",
        "1m30",
        "10ss",
        "1_000",
        "0x10",
    ],
)
def test_reject_duration_and_say_what_would_be_right(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration; write a number with ms"):
        parse_duration(text)


def test_reject_duration_that_no_timer_takes() -> None:
    with pytest.raises(ValueError, match="longer than 366d"):
        parse_duration("367d")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("64KiB", 65536),
        ("1MiB", 1048576),
        ("2GiB", 2147483648),
        ("1.5KiB", 1536),
        ("4k", 4096),
        ("4K", 4096),
        ("1KB", 1000),
        ("1 MB", 1000000),
        ("7", 7),
        ("7B", 7),
        ("0", 0),
        ("0.5kib", 512),
    ],
)
def test_accept_size(text: str, size: int) -> None:
    value = parse_size(text)
    assert value == size
    assert isinstance(value, int)


@pytest.mark.parametrize("text", ["", "k", "-1", "1XiB", "1TiBB", "0x10", "1e3", "٣"])
def test_reject_size_and_say_what_would_be_right(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size; write a number with B"):
        parse_size(text)


def test_reject_part_of_a_byte() -> None:
    with pytest.raises(ValueError, match="not a whole number of bytes"):
        parse_size("1.5")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0s"),
        (0.5, "500ms"),
        (1.5, "1.5s"),
        (20.0, "20s"),
        (90.0, "1m30s"),
        (600.0, "10m"),
        (3600.0, "1h"),
        (90061.0, "1d1h1m1s"),
    ],
)
def test_format_duration(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0B"), (7, "7B"), (1536, "1536B"), (32768, "32KiB"), (16 << 20, "16MiB")],
)
def test_format_size(size: int, text: str) -> None:
    assert format_size(size) == text


@given(st.integers(0, 10**9))
def test_duration_survives_writing_and_reading(millis: int) -> None:
    if millis > 1000:
        millis -= millis % 100  # what the short form can show
    millis = min(millis, 99_999_900)
    assert parse_duration(format_duration(millis / 1000)) == millis / 1000


@given(st.integers(0, 10**15 - 1))
def test_size_survives_writing_and_reading(size: int) -> None:
    assert parse_size(format_size(size)) == size
