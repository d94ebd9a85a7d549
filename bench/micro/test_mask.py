"""Masking one payload. fastws works in place, the rivals return a copy."""

from types import ModuleType

import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from websockets.speedups import apply_mask as websockets_mask
from wsproto.frame_protocol import XorMaskerSimple

from bench.data import KEY, size_name


@pytest.fixture(autouse=True)
def group(benchmark: BenchmarkFixture, data: bytes) -> None:
    benchmark.group = f"mask {size_name(len(data))}"


def test_fastws(benchmark: BenchmarkFixture, backend: ModuleType, data: bytes) -> None:
    buf = bytearray(data)
    benchmark(backend.apply_mask, buf, KEY)


def test_websockets(benchmark: BenchmarkFixture, data: bytes) -> None:
    benchmark(websockets_mask, data, KEY)


def test_wsproto(benchmark: BenchmarkFixture, data: bytes) -> None:
    masker = XorMaskerSimple(KEY)
    buf = bytearray(data)
    benchmark(masker.process, buf)


def test_keys(benchmark: BenchmarkFixture, backend: ModuleType, data: bytes) -> None:
    benchmark.group = "masking key"
    benchmark(backend.MaskKeys())
