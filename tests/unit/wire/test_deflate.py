"""permessage-deflate: messages, memory and bad input (RFC 7692 section 7.2)."""

import random
import time
import tracemalloc
import zlib

import pytest

from fastws.exceptions import RemoteProtocolError
from fastws.wire import deflate
from fastws.wire.deflate import Codec, Deflate
from tests.support.timing import UNIT

MIB = 1024 * 1024
both_ways = pytest.mark.parametrize("forgets", [False, True])


def pack(data: bytes, bits: int = 15) -> bytes:
    """One message by zlib alone."""
    packer = zlib.compressobj(wbits=-bits)
    return (packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


def fails(codec: Codec, data: bytes, final: bool = True, limit: int = 1000) -> int:
    with pytest.raises(RemoteProtocolError) as caught:
        codec.decompress(data, final, limit)
    assert caught.value.close_code is not None
    return caught.value.close_code


# -- messages -----------------------------------------------------------------------


def test_section_7_2_3_1_one_block():
    assert Codec().compress(b"Hello", True).hex(" ") == "f2 48 cd c9 c9 07 00"
    codec = Codec()
    assert codec.decompress(bytes.fromhex("f248cd"), False, 5) == b"He"
    assert codec.decompress(bytes.fromhex("c9c90700"), True, 3) == b"llo"


@pytest.mark.parametrize("bits", range(8, 16))
def test_section_7_2_3_2_sharing_the_window(bits):
    sender, receiver = Codec(out_bits=bits), Codec(in_bits=bits)
    for expected in ("f2 48 cd c9 c9 07 00", "f2 00 11 00 00"):
        packed = sender.compress(b"Hello", True)
        assert packed.hex(" ") == expected
        assert receiver.decompress(packed, True, 5) == b"Hello"


def test_section_7_2_3_2_without_sharing():
    sender = Codec(out_forgets=True)
    for _ in range(3):
        assert sender.compress(b"Hello", True).hex(" ") == "f2 48 cd c9 c9 07 00"
    receiver = Codec(in_forgets=True)
    assert receiver.decompress(bytes.fromhex("f248cdc9c90700"), True, 5) == b"Hello"
    assert fails(receiver, bytes.fromhex("f200110000")) == 1007  # nothing to share


@both_ways
@pytest.mark.parametrize(
    "packed",
    [
        "00 05 00 fa ff 48 65 6c 6c 6f 00",  # section 7.2.3.3: no compression
        "f3 48 cd c9 c9 07 00 00",  # section 7.2.3.4: BFINAL
        "f2 48 05 00 00 00 ff ff ca c9 c9 07 00",  # section 7.2.3.5: two blocks
        "f3 48 cd c9 c9 07 00",  # BFINAL, and nothing after it
        "f3 48 05 00 cb c9 c9 07 00 00",  # two streams
    ],
)
def test_sections_7_2_3_3_to_7_2_3_5(packed, forgets):
    codec = Codec(in_forgets=forgets)
    data = bytes.fromhex(packed)
    for _ in range(3):
        assert codec.decompress(data, True, 5) == b"Hello"
    for at in range(len(data)):
        first = codec.decompress(data[:at], False, 5)
        rest = codec.decompress(data[at:], True, 5 - len(first))
        assert first + rest == b"Hello"


@both_ways
def test_section_7_2_3_6_empty_message(forgets):
    sender, receiver = Codec(out_forgets=forgets), Codec(in_forgets=forgets)
    for text in (b"", b"", b"x", b"", b""):
        packed = sender.compress(text, True)
        assert text or packed == b"\x00"
        assert receiver.decompress(packed, True, 1) == text


@both_ways
def test_fragments_leave_at_once(forgets):
    sender, receiver = Codec(out_forgets=forgets), Codec(in_forgets=forgets)
    for _ in range(2):
        for text in (b"ge", b"", b"t", b"eilt"):
            packed = sender.compress(text, False)
            assert packed.endswith(b"\x00\x00\xff\xff")
            assert receiver.decompress(packed, False, 10) == text
        packed = sender.compress(b"", True)
        assert packed == b"\x00"
        assert receiver.decompress(packed, True, 10) == b""


@both_ways
def test_any_buffer_is_taken(forgets):
    sender, receiver = Codec(out_forgets=forgets), Codec(in_forgets=forgets)
    for kind in (bytes, bytearray, memoryview):
        packed = sender.compress(kind(b"Hello"), True)
        assert receiver.decompress(kind(packed), True, 5) == b"Hello"


@pytest.mark.parametrize("bits", range(8, 16))
def test_window_of_what_we_send(bits):
    """A peer with exactly that window reads it, byte by byte, so nothing else helps."""
    rng = random.Random(bits)
    unit = rng.randbytes(1 << bits)
    near, far = unit[:120] * 5, unit + unit  # repeated inside and just at the window
    data = near + far + rng.randbytes(300) + near + unit[:250] * 3 + unit[:263] * 3
    packed = Codec(out_bits=bits, level=9).compress(data, True)
    reader = zlib.decompressobj(-bits)
    out, rest = bytearray(), packed + b"\0\0\xff\xff"
    while True:
        piece = reader.decompress(rest, 1)
        rest = reader.unconsumed_tail
        if not piece:
            break
        out += piece
    assert out == data
    assert len(packed) < len(data)


def test_reject_what_reaches_before_the_window():
    unit = random.Random(1).randbytes(2000)
    packed = pack(unit * 2, 15)
    assert len(packed) < 2200
    assert Codec(in_bits=11).decompress(packed, True, 4000) == unit * 2
    codec = Codec(in_bits=9)
    with pytest.raises(RemoteProtocolError, match="too far back"):
        for byte in packed:
            codec.decompress(bytes([byte]), False, 4000)


@pytest.mark.parametrize("level", range(-1, 10))
@pytest.mark.parametrize("mem_level", [1, 9])
def test_levels(level, mem_level):
    agreed = Deflate(level=level, mem_level=mem_level).accept([deflate.NAME])
    assert agreed is not None
    data = b"abc" * 5000
    packed = agreed[1].compress(data, True)
    assert Codec().decompress(packed, True, len(data)) == data
    packer = zlib.compressobj(level, zlib.DEFLATED, -12, mem_level)
    assert packed + b"\0\0\xff\xff" == packer.compress(data) + packer.flush(
        zlib.Z_SYNC_FLUSH
    )


# -- memory -------------------------------------------------------------------------


def test_one_that_forgets_keeps_nothing_and_leaks_nothing():
    """Compressors pass from connection to connection, and tell nothing of either."""
    key = (-1, 13, 5)
    deflate._idle.pop(key, None)
    codecs = [Codec(out_bits=13, out_forgets=True) for _ in range(20)]
    alone = codecs[0].compress(b"secret" * 20, True)
    assert len(deflate._idle[key]) == 1
    for codec in codecs:
        assert codec.compress(b"secret" * 20, True) == alone
    assert len(deflate._idle[key]) == 1
    for codec in codecs:  # twenty messages at the same time
        codec.compress(b"secret" * 10, False)
    assert deflate._idle[key] == []
    ends = {codec.compress(b"secret" * 10, True) for codec in codecs}
    assert len(ends) == 1
    assert len(deflate._idle[key]) == 8


def test_nothing_is_taken_before_the_first_message():
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        codecs = [Codec() for _ in range(100)]
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert taken < 400 * len(codecs)


# -- bad input ----------------------------------------------------------------------


@both_ways
@pytest.mark.parametrize("size", [0, 1, 5, 32768, MIB - 1, MIB, MIB + 1, 3 * MIB])
def test_limit(size, forgets):
    data = b"a" * size
    packed = pack(data)
    assert Codec(in_forgets=forgets).decompress(packed, True, size) == data
    if size:
        assert fails(Codec(in_forgets=forgets), packed, True, size - 1) == 1009


@both_ways
def test_limit_of_a_message_in_pieces(forgets):
    data = random.Random(2).randbytes(2000) * 3
    packed = pack(data)
    codec = Codec(in_forgets=forgets)
    out = b""
    for byte in packed:
        out += codec.decompress(bytes([byte]), False, len(data) - len(out))
    out += codec.decompress(b"", True, len(data) - len(out))
    assert out == data


@both_ways
def test_limit_unlimited(forgets):
    codec = Codec(in_forgets=forgets)
    assert codec.decompress(pack(bytes(MIB)), True, (1 << 63) - 1) == bytes(MIB)


@pytest.mark.parametrize("limit", [0, 1000, MIB, 4 * MIB])
def test_bomb_takes_its_limit_at_most(limit):
    """64 MiB in 64 KiB."""
    bomb = pack(bytes(64 * MIB))
    assert len(bomb) < 70_000
    codec = Codec()
    codec.decompress(pack(b"x"), True, 1)
    tracemalloc.start()
    try:
        assert fails(codec, bomb, True, limit) == 1009
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < limit + 2 * MIB + 3 * len(bomb) + 65536


@both_ways
@pytest.mark.parametrize(
    "packed",
    [
        b"\xff",  # no such kind of block
        b"\x06\x00",
        b"Hello, world",
        pack(b"Hello")[1:],
        b"\x00\x05\x00\xfb\xffHello\x00",  # LEN and NLEN differ
    ],
)
def test_reject_what_is_not_deflate(packed, forgets):
    assert fails(Codec(in_forgets=forgets), packed) == 1007


@both_ways
def test_reject_empty_payload(forgets):
    codec = Codec(in_forgets=forgets)
    assert fails(codec, b"") == 1007
    codec = Codec(in_forgets=forgets)
    assert codec.decompress(b"", False, 5) == b""
    assert fails(codec, b"") == 1007


def test_reject_what_is_cut_off():
    """Where every message stands alone; otherwise it shows in a later one."""
    packed = pack(b"Hello" * 100 + bytes(range(256)))
    for end in range(1, len(packed) - 1):
        assert fails(Codec(in_forgets=True), packed[:end]) == 1007


@both_ways
def test_stream_that_ends_with_a_fragment(forgets):
    ended = bytes.fromhex("f348cdc9c90700")
    codec = Codec(in_forgets=forgets)
    assert codec.decompress(ended, False, 5) == b"Hello"
    assert codec.decompress(b"\x00", True, 0) == b""
    assert codec.decompress(ended, False, 5) == b"Hello"
    assert fails(codec, b"") == 1007


@both_ways
def test_streams_that_end_again_and_again(forgets):
    end = b"\x03\x00"
    codec = Codec(in_forgets=forgets)
    assert codec.decompress(end * 250 + b"\x00", True, 5) == b""
    started = time.thread_time()
    assert fails(codec, end * 128 * 1024) == 1007
    assert time.thread_time() - started < 10 * UNIT
