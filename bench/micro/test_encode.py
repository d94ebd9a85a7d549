"""One masked binary frame, as a client sends it, and the header alone."""

from types import ModuleType

import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from websockets.frames import Frame, Opcode
from wsproto.frame_protocol import FrameProtocol

from bench.data import KEY, size_name


@pytest.fixture(autouse=True)
def group(benchmark: BenchmarkFixture, data: bytes) -> None:
    benchmark.group = f"encode {size_name(len(data))}"


def test_fastws(benchmark: BenchmarkFixture, backend: ModuleType, data: bytes) -> None:
    keys = backend.MaskKeys()
    benchmark(lambda: backend.encode_frame(2, data, key=keys()))


def test_websockets(benchmark: BenchmarkFixture, data: bytes) -> None:
    frame = Frame(Opcode.BINARY, data)
    benchmark(lambda: frame.serialize(mask=True))


def test_wsproto(benchmark: BenchmarkFixture, data: bytes) -> None:
    protocol = FrameProtocol(client=True, extensions=[])
    benchmark(lambda: bytes(protocol.send_data(data, fin=True)))


def test_header(benchmark: BenchmarkFixture, backend: ModuleType, data: bytes) -> None:
    benchmark.group = f"header {size_name(len(data))}"
    buf = bytearray(14)
    size = len(data)
    benchmark(lambda: backend.write_header(buf, 0, 2, size, key=KEY))
