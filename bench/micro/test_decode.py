"""Masked binary frames as a server receives them: 64 KiB of them in one read."""

from types import ModuleType
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from websockets.frames import Frame
from websockets.streams import StreamReader
from wsproto.frame_protocol import FrameProtocol

from bench.data import KEY, size_name, text
from fastws import _backend

READ = 64 * 1024


@pytest.fixture(autouse=True)
def group(benchmark: BenchmarkFixture, data: bytes) -> None:
    benchmark.group = f"decode {size_name(len(data))}"


@pytest.fixture
def wire(data: bytes) -> tuple[bytes, int]:
    """One read, and how many frames are in it."""
    frame = _backend.encode_frame(2, data, key=KEY)
    count = max(1, READ // len(frame))
    return frame * count, count


def test_fastws(
    benchmark: BenchmarkFixture, backend: ModuleType, wire: tuple[bytes, int]
) -> None:
    decoder = backend.FrameDecoder(1)

    def read(buf: bytearray) -> int:
        return len(decoder.receive_data(buf))

    run(benchmark, read, wire)


def test_websockets(benchmark: BenchmarkFixture, wire: tuple[bytes, int]) -> None:
    reader = StreamReader()

    def read(buf: bytearray) -> int:
        reader.feed_data(buf)
        count = 0
        while reader.buffer:
            parser = Frame.parse(reader.read_exact, mask=True)
            with pytest.raises(StopIteration):
                next(parser)
            count += 1
        return count

    run(benchmark, read, wire)


def test_wsproto(benchmark: BenchmarkFixture, wire: tuple[bytes, int]) -> None:
    protocol = FrameProtocol(client=False, extensions=[])

    def read(buf: bytearray) -> int:
        protocol.receive_bytes(bytes(buf))
        return sum(1 for _ in protocol.received_frames())

    run(benchmark, read, wire)


def run(benchmark: BenchmarkFixture, read: Any, wire: tuple[bytes, int]) -> None:
    """Each round decodes a fresh copy: in place unmasking changes its input."""
    data, count = wire
    assert read(bytearray(data)) == count
    benchmark.pedantic(read, setup=lambda: ((bytearray(data),), {}), rounds=50)


def test_utf8(benchmark: BenchmarkFixture, backend: ModuleType, data: bytes) -> None:
    benchmark.group = f"utf-8 {size_name(len(data))}"
    validator = backend.Utf8Validator()
    benchmark(validator.feed, text(len(data)).encode())
    assert validator.complete
