"""A byte queue that is filled by one read and drained in pieces of 1 KiB."""

from types import ModuleType

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.data import size_name

PIECE = 1024


def pieces(data: bytes) -> list[int]:
    """Sizes of the pieces, the last one may be short."""
    return [min(PIECE, len(data) - at) for at in range(0, len(data), PIECE)]


@pytest.fixture(autouse=True)
def group(benchmark: BenchmarkFixture, data: bytes) -> None:
    benchmark.group = f"buffer {size_name(len(data))}"


def test_fastws(benchmark: BenchmarkFixture, backend: ModuleType, data: bytes) -> None:
    buf = backend.BinaryMut()
    sizes = pieces(data)

    def fill_and_drain() -> None:
        buf.extend(data)
        for size in sizes:
            buf.advance(size)

    benchmark(fill_and_drain)


def test_fastws_split(
    benchmark: BenchmarkFixture, backend: ModuleType, data: bytes
) -> None:
    buf = backend.BinaryMut()
    sizes = pieces(data)

    def fill_and_split() -> None:
        buf.extend(data)
        for size in sizes:
            buf.split_to(size)

    benchmark(fill_and_split)


def test_bytearray(benchmark: BenchmarkFixture, data: bytes) -> None:
    buf = bytearray()
    sizes = pieces(data)

    def fill_and_drain() -> None:
        buf.extend(data)
        for size in sizes:
            del buf[:size]

    benchmark(fill_and_drain)
