"""permessage-deflate: offers and answers, messages, limits (RFC 7692)."""

import itertools
import random
import re
import time
import tracemalloc
import zlib
from typing import Any

import pytest

from fastws.exceptions import RemoteProtocolError
from fastws.wire import deflate
from fastws.wire.deflate import Codec, Deflate, parse_extensions
from tests.support.timing import UNIT

MIB = 1024 * 1024
both_ways = pytest.mark.parametrize("forgets", [False, True])


def accept(offer: str, **settings: Any) -> str | None:
    agreed = Deflate(**settings).accept([offer])
    return None if agreed is None else agreed[0]


def shape(codec: Codec | None) -> str:
    return repr(codec)


def pack(data: bytes, bits: int = 15) -> bytes:
    """One message by zlib alone."""
    packer = zlib.compressobj(wbits=-bits)
    return (packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


def fails(codec: Codec, data: bytes, final: bool = True, limit: int = 1000) -> int:
    with pytest.raises(RemoteProtocolError) as caught:
        codec.decompress(data, final, limit)
    assert caught.value.close_code is not None
    return caught.value.close_code


# -- the field ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], []),
        (["", " , ,"], []),
        (["a"], [("a", [])]),
        (["a, b", "c"], [("a", []), ("b", []), ("c", [])]),
        (["a;x;y=1 ; z = 2\t,b;x"], [("a", [*"xyz"]), ("b", ["x"])]),
        (['a; x="10"; y="\\1\\0"'], [("a", ["x", "y"])]),
    ],
)
def test_parse_extensions(values, expected):
    found = parse_extensions(values)
    assert [(name, [key for key, _ in params]) for name, params in found] == expected


def test_parse_values_of_parameters():
    (found,) = parse_extensions(['a;w;x=1 ; y = 2\t; z="\\1\\0"'])
    assert found.params == [("w", ""), ("x", "1"), ("y", "2"), ("z", "10")]


@pytest.mark.parametrize(
    "value",
    [
        *("a b", "a;", "a;;b", ";a", "=", "a;x=", "a;x=;y", "a;=1", "a=1", "a;x=1=2"),
        *('a;x=""', 'a;x="1', 'a;x="1,2"', 'a;x="a b"', 'a;x="1"2', "a;x y", "a@b"),
    ],
)
def test_reject_malformed_extensions(value):
    for text in (value, f"b, {value}", f"{value}, b"):
        with pytest.raises(RemoteProtocolError) as caught:
            parse_extensions([text])
        assert caught.value.http_status == 400


@pytest.mark.parametrize(
    "value",
    [
        "a" * 16000 + "@",
        "a" + " " * 16000 + "@",
        "a;" + " " * 8000 + "b" + " " * 8000 + "@",
        "a" + ";b=1" * 4000 + "@",
        'a;b="' + "\\a" * 8000,
        "," * 16000 + "@",
        "a" + "; b" * 5000 + " " * 1000 + "=",
    ],
)
def test_malformed_extensions_take_no_time(value):
    started = time.thread_time()
    with pytest.raises(RemoteProtocolError):
        parse_extensions([value])
    assert time.thread_time() - started < UNIT


# -- the server's choice ------------------------------------------------------------

P = "permessage-deflate"


@pytest.mark.parametrize(
    ("offer", "answer"),
    [
        (P, f"{P}; server_max_window_bits=12"),
        (
            f"{P}; client_max_window_bits",
            f"{P}; server_max_window_bits=12; client_max_window_bits=12",
        ),
        (
            f"{P}; client_max_window_bits=10; server_max_window_bits=9",
            f"{P}; server_max_window_bits=9; client_max_window_bits=10",
        ),
        (
            f"{P}; server_max_window_bits=8; client_max_window_bits=8",
            f"{P}; server_max_window_bits=8; client_max_window_bits=8",
        ),
        (
            f'{P}; client_max_window_bits="15"; server_max_window_bits="\\1\\5"',
            f"{P}; server_max_window_bits=12; client_max_window_bits=12",
        ),
        (
            f"{P}; client_no_context_takeover; server_no_context_takeover",
            f"{P}; server_no_context_takeover; client_no_context_takeover"
            "; server_max_window_bits=12",
        ),
        (f"x-other; a=b, {P}", f"{P}; server_max_window_bits=12"),
        (
            f"{P}; foo, {P}; server_max_window_bits=11",
            f"{P}; server_max_window_bits=11",
        ),
        (f"{P}; server_max_window_bits=9, {P}", f"{P}; server_max_window_bits=9"),
    ],
)
def test_server_answers(offer, answer):
    assert accept(offer) == answer


@pytest.mark.parametrize(
    "offer",
    [
        "",
        "x-webkit-deflate-frame",
        "Permessage-Deflate",
        f"{P}; unknown",
        f"{P}; unknown=1",
        f"{P}; server_no_context_takeover; server_no_context_takeover",
        f"{P}; server_max_window_bits=9; server_max_window_bits=9",
        f"{P}; server_max_window_bits=9; server_max_window_bits=10",
        f"{P}; client_max_window_bits; client_max_window_bits=10",
        f"{P}; server_no_context_takeover=1",
        f"{P}; client_no_context_takeover=true",
        f"{P}; server_max_window_bits",
        *(f"{P}; server_max_window_bits={n}" for n in ("7", "16", "08", "8.", "x")),
        *(f"{P}; client_max_window_bits={n}" for n in ("0", "7", "16", "015", "+9")),
    ],
)
def test_server_declines(offer):
    assert accept(offer) is None


@pytest.mark.parametrize(
    ("settings", "offer", "answer"),
    [
        ({"server_max_window_bits": 15}, P, P),
        (
            {"server_max_window_bits": 15},
            f"{P}; server_max_window_bits=15",
            f"{P}; server_max_window_bits=15",
        ),
        (
            {"server_max_window_bits": 15, "client_max_window_bits": 15},
            f"{P}; client_max_window_bits",
            f"{P}; client_max_window_bits=15",
        ),
        (
            {"server_max_window_bits": 9, "client_max_window_bits": 9},
            P,
            f"{P}; server_max_window_bits=9",
        ),
        (
            {"server_no_context_takeover": True, "client_no_context_takeover": True},
            P,
            f"{P}; server_no_context_takeover; client_no_context_takeover"
            "; server_max_window_bits=12",
        ),
    ],
)
def test_server_settings_shape_the_answer(settings, offer, answer):
    assert accept(offer, **settings) == answer


# -- the client's check -------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "offer"),
    [
        ({}, f"{P}; client_max_window_bits"),
        (
            {"server_max_window_bits": 8, "client_max_window_bits": 15},
            f"{P}; server_max_window_bits=8; client_max_window_bits=15",
        ),
        (
            {"server_no_context_takeover": True, "client_no_context_takeover": True},
            f"{P}; server_no_context_takeover; client_no_context_takeover"
            "; client_max_window_bits",
        ),
    ],
)
def test_client_offers(settings, offer):
    assert Deflate(**settings).offer() == offer


@pytest.mark.parametrize(
    ("settings", "answer", "codec"),
    [
        ({}, P, "out: remembers 2^12, in: remembers 2^15"),
        (
            {},
            f"{P}; server_max_window_bits=8; client_max_window_bits=10",
            "out: remembers 2^10, in: remembers 2^8",
        ),
        (
            {},
            f"{P}; client_max_window_bits=8",
            "out: remembers 2^9, in: remembers 2^15",  # 9 of zlib fits into 8
        ),
        (
            {},
            f"{P}; server_no_context_takeover; client_no_context_takeover",
            "out: forgets 2^12, in: forgets 2^15",
        ),
        (
            {"client_no_context_takeover": True, "client_max_window_bits": 15},
            P,
            "out: forgets 2^15, in: remembers 2^15",
        ),
        (
            {"server_max_window_bits": 10},
            f"{P}; server_max_window_bits=10",
            "out: remembers 2^12, in: remembers 2^10",
        ),
    ],
)
def test_client_takes_the_answer(settings, answer, codec):
    assert shape(Deflate(**settings).confirm([answer])) == f"<Codec {codec}>"


@pytest.mark.parametrize("values", [[], [""], [" , "]])
def test_client_takes_a_refusal(values):
    assert Deflate().confirm(values) is None


@pytest.mark.parametrize(
    ("settings", "answer", "reason"),
    [
        ({}, "x-other", "extension was not offered: x-other"),
        ({}, f"{P}, x-other", "extension was not offered: x-other"),
        ({}, f"{P}, {P}", f"{P} twice"),
        ({}, f"{P}; foo", f"{P}: foo is unknown"),
        ({}, f"{P}; server_max_window_bits=9; server_max_window_bits=9", "twice"),
        ({}, f"{P}; client_no_context_takeover=1", "has a value"),
        ({}, f"{P}; server_max_window_bits", "not a number from 8 to 15"),
        ({}, f"{P}; server_max_window_bits=16", "not a number from 8 to 15"),
        ({}, f"{P}; client_max_window_bits", "not a number from 8 to 15"),
        ({}, f"{P};", "malformed"),
        ({"server_no_context_takeover": True}, P, "takeover is missing"),
        ({"server_max_window_bits": 10}, P, "server_max_window_bits is not 10 or less"),
        (
            {"server_max_window_bits": 10},
            f"{P}; server_max_window_bits=11",
            "server_max_window_bits is not 10 or less",
        ),
        (
            {"client_max_window_bits": 10},
            f"{P}; client_max_window_bits=11",
            "client_max_window_bits is not 10 or less",
        ),
    ],
)
def test_client_refuses_the_answer(settings, answer, reason):
    with pytest.raises(RemoteProtocolError, match=re.escape(reason)):
        Deflate(**settings).confirm([answer])


@pytest.mark.parametrize(
    "settings",
    [
        *({"server_max_window_bits": n} for n in (0, 7, 16)),
        *({"client_max_window_bits": n} for n in (7, 16, "12")),
        *({"level": n} for n in (-2, 10)),
        *({"mem_level": n} for n in (0, 10)),
    ],
)
def test_reject_settings(settings):
    with pytest.raises(ValueError, match=rf"{next(iter(settings))} must be"):
        Deflate(**settings)


def test_parse_what_a_user_gives():
    own = Deflate(level=1)
    assert Deflate.parse(None) is None
    assert Deflate.parse("deflate") == Deflate()
    assert Deflate.parse(own) is own
    for bad in ("gzip", "", True, 15):
        with pytest.raises(ValueError, match="compression must be"):
            Deflate.parse(bad)  # type: ignore[arg-type]


BITS = [None, 8, 9, 15]
FLAGS = [False, True]


ALL = list(itertools.product(FLAGS, FLAGS, BITS, BITS))


@pytest.mark.parametrize("theirs", ALL)
def test_every_client_and_every_server_agree(theirs):
    """Both directions have one meaning at both ends, and carry messages."""
    for ours in ALL:
        check_agreement(Deflate(*theirs), Deflate(*ours))


def check_agreement(client: Deflate, server: Deflate) -> None:
    agreed = server.accept([client.offer()])
    assert agreed is not None
    a, b = client.confirm([agreed[0]]), agreed[1]
    assert a is not None
    for sender, receiver in ((a, b), (b, a)):
        assert receiver.in_forgets <= sender.out_forgets
        for text in (b"Hello" * 100, b"Hello" * 100, b""):
            packed = sender.compress(text, True)
            assert receiver.decompress(packed, True, len(text)) == text


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
    agreed = Deflate(level=level, mem_level=mem_level).accept([P])
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
