"""permessage-deflate beside zlib alone: one message packed, and unpacked again.

zlib alone is what any binding has to call: ``compress`` and a sync flush, the tail cut
off; ``decompress`` with the tail appended, without a limit.
"""

import zlib
from collections.abc import Callable

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.data import payload, size_name, text
from fastws.wire.deflate import Codec

BITS, LEVEL = 12, 5
TAIL = b"\x00\x00\xff\xff"
LIMIT = 16 * 1024 * 1024


def of_text(size: int) -> bytes:
    """JSON-like: a tenth is noise, so that it shrinks to about a quarter."""
    words, noise = text(size).encode(), payload(size)
    return b"".join(
        words[at : at + 90] + noise[at : at + 10] for at in range(0, size, 100)
    )[:size]


@pytest.fixture(params=[64, 1024, 64 * 1024, 1024 * 1024], ids=size_name)
def message(request: pytest.FixtureRequest) -> bytes:
    return of_text(request.param)


@pytest.fixture(params=[False, True], ids=["remembers", "forgets"])
def forgets(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(params=["pack", "unpack"])
def way(
    request: pytest.FixtureRequest,
    benchmark: BenchmarkFixture,
    message: bytes,
    forgets: bool,
) -> str:
    memory = "forgets" if forgets else "remembers"
    benchmark.group = f"{request.param} {size_name(len(message))} {memory}"
    return str(request.param)


def alone(forgets: bool) -> tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]:
    """Pack and unpack with zlib."""

    def new_packer() -> "zlib._Compress":
        return zlib.compressobj(-1, zlib.DEFLATED, -BITS, LEVEL)

    packer, unpacker = new_packer(), zlib.decompressobj(-BITS)

    def pack(data: bytes) -> bytes:
        nonlocal packer
        if forgets:
            packer = new_packer()
        return (packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]

    def unpack(data: bytes) -> bytes:
        nonlocal unpacker
        if forgets:
            unpacker = zlib.decompressobj(-BITS)
        return unpacker.decompress(data + TAIL)

    return pack, unpack


def run(
    benchmark: BenchmarkFixture,
    way: str,
    message: bytes,
    pack: Callable[[bytes], bytes],
    unpack: Callable[[bytes], bytes],
) -> None:
    packed = pack(message)  # the same each time: nothing reaches before it
    assert unpack(packed) == message
    if way == "pack":
        benchmark(lambda: pack(message))
    else:
        benchmark(lambda: unpack(packed))


def test_fastws(
    benchmark: BenchmarkFixture, way: str, message: bytes, forgets: bool
) -> None:
    codec = Codec(
        out_bits=BITS,
        in_bits=BITS,
        out_forgets=forgets,
        in_forgets=forgets,
        mem_level=LEVEL,
    )
    run(
        benchmark,
        way,
        message,
        lambda data: codec.compress(data, True),
        lambda data: codec.decompress(data, True, LIMIT),
    )


def test_zlib(
    benchmark: BenchmarkFixture, way: str, message: bytes, forgets: bool
) -> None:
    run(benchmark, way, message, *alone(forgets))
