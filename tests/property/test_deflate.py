"""What holds for every compressed message: round trip, any cut, peers, garbage.

Source: RFC 7692 section 7.2. zlib alone and wsproto are the others.
"""

import zlib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from wsproto.extensions import PerMessageDeflate
from wsproto.frame_protocol import FrameProtocol, Opcode, RsvBits

from fastws.exceptions import RemoteProtocolError
from fastws.wire.deflate import Codec, Deflate
from tests.support.drive import pieces

TAIL = b"\x00\x00\xff\xff"
LIMIT = 1 << 20
BITS = st.integers(8, 15)
CUTS = st.lists(st.integers(0, 200), max_size=12)
# Text that repeats at every distance up to some 1000 bytes.
UNIT = st.tuples(st.binary(max_size=80), st.integers(0, 300)).map(
    lambda given: given[0] + bytes(given[1] * 7 % 256 for _ in range(given[1]))
)
TEXT = st.lists(UNIT, min_size=1, max_size=3).flatmap(
    lambda units: st.lists(st.sampled_from(units), max_size=12).map(b"".join)
)
MESSAGES = st.lists(st.lists(TEXT, min_size=1, max_size=3), max_size=4)


def read(codec: Codec, data: bytes, cuts: list[int]) -> bytes:
    """One message, cut anywhere."""
    out = b""
    chunks = [piece for piece in pieces(data, cuts) if piece]
    for number, chunk in enumerate(chunks):
        final = number == len(chunks) - 1
        out += codec.decompress(chunk, final, LIMIT - len(out))
    return out


@given(
    messages=MESSAGES,
    bits=BITS,
    forgets=st.booleans(),
    level=st.integers(-1, 9),
    mem_level=st.integers(1, 9),
    cuts=CUTS,
)
def test_what_we_send_is_read_by_us_and_by_zlib(
    messages: list[list[bytes]],
    bits: int,
    forgets: bool,
    level: int,
    mem_level: int,
    cuts: list[int],
) -> None:
    sender = Codec(out_bits=bits, out_forgets=forgets, level=level, mem_level=mem_level)
    receiver = Codec(in_bits=bits, in_forgets=forgets)
    other = zlib.decompressobj(-bits)
    for parts in messages:
        packed = b""
        for number, part in enumerate(parts):
            packed += sender.compress(part, number == len(parts) - 1)
        assert read(receiver, packed, cuts) == b"".join(parts)
        if forgets:
            other = zlib.decompressobj(-bits)
        assert other.decompress(packed + TAIL) == b"".join(parts)
        assert not other.unused_data


FLUSHES = st.lists(
    st.tuples(
        TEXT,
        st.sampled_from(
            [zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_BLOCK, zlib.Z_FINISH]
        ),
    ),
    max_size=4,
)


@given(messages=st.lists(FLUSHES, max_size=4), bits=st.integers(9, 15), cuts=CUTS)
def test_what_zlib_sends_in_blocks_and_streams_is_read(
    messages: list[list[tuple[bytes, int]]], bits: int, cuts: list[int]
) -> None:
    """Sections 7.2.3.4 and 7.2.3.5: any blocks, BFINAL among them."""
    receiver = Codec(in_bits=bits)
    packer = zlib.compressobj(wbits=-bits)
    for message in messages:
        packed = b""
        for text, flush in message:
            packed += packer.compress(text) + packer.flush(flush)
            if flush == zlib.Z_FINISH:
                packer = zlib.compressobj(wbits=-bits)
        packed += packer.compress(b"") + packer.flush(zlib.Z_SYNC_FLUSH)
        assert packed.endswith(TAIL)
        expected = b"".join(text for text, _ in message)
        assert read(receiver, packed[:-4], cuts) == expected


def theirs(bits: int, forgets: bool) -> tuple[PerMessageDeflate, FrameProtocol]:
    """wsproto as a server; both directions alike."""
    extension = PerMessageDeflate(forgets, bits, forgets, bits)
    return extension, FrameProtocol(client=False, extensions=[extension])


@given(messages=MESSAGES, bits=st.integers(9, 15), forgets=st.booleans(), cuts=CUTS)
def test_wsproto_reads_and_is_read(
    messages: list[list[bytes]], bits: int, forgets: bool, cuts: list[int]
) -> None:
    ours = Codec(out_bits=bits, in_bits=bits, out_forgets=forgets, in_forgets=forgets)
    extension, frames = theirs(bits, forgets)
    plain = RsvBits(False, False, False)
    for parts in messages:
        expected, sent, read_there = b"".join(parts), b"", b""
        for number, part in enumerate(parts):
            final = number == len(parts) - 1
            opcode = Opcode.CONTINUATION if number else Opcode.BINARY
            packed = ours.compress(part, final)
            rsv = RsvBits(not number, False, False)
            decoder: Any = frames
            extension.frame_inbound_header(decoder, opcode, rsv, len(packed))
            got = extension.frame_inbound_payload_data(frames, packed)
            assert isinstance(got, bytes)
            rest = extension.frame_inbound_complete(frames, final) or b""
            assert isinstance(rest, bytes)
            read_there += got + rest
            bits_sent, data = extension.frame_outbound(
                frames, opcode, plain, part, final
            )
            assert bits_sent.rsv1 is (number == 0)
            sent += data
        assert read_there == expected
        assert read(ours, sent, cuts) == expected


@given(
    data=st.lists(st.binary(max_size=300), max_size=4),
    prefix=TEXT,
    flip=st.integers(0, 1 << 16),
    forgets=st.booleans(),
    limit=st.sampled_from([0, 10, 5000]),
)
def test_garbage_is_refused_with_a_code(
    data: list[bytes], prefix: bytes, flip: int, forgets: bool, limit: int
) -> None:
    """Never more than the limit, never another exception."""
    good = bytearray(Codec().compress(prefix, True))
    good[flip % len(good)] ^= 1 << flip % 8
    codec = Codec(in_forgets=forgets)
    sizes, codes = [], []
    for chunk in [bytes(good), *data]:
        try:
            sizes.append(len(codec.decompress(chunk, True, limit)))
        except RemoteProtocolError as error:
            codes.append(error.close_code)
            break
    assert max(sizes, default=0) <= limit
    assert codes in ([], [1007], [1009])


FIELD = st.lists(
    st.sampled_from(
        [
            *("permessage-deflate", "server_max_window_bits", "client_max_window_bits"),
            *("server_no_context_takeover", "client_no_context_takeover", "x", "8"),
            *(";", ";", "=", ",", '"', "\\", " ", "\t", "15", "10", "\x80", "@"),
        ]
    ),
    max_size=14,
).map("".join)


@given(values=st.lists(FIELD, max_size=3))
def test_any_field_is_answered_or_refused(values: list[str]) -> None:
    """Our client takes every answer of ours: it leaves all of it to the server."""
    codes, agreed = [], None
    try:
        agreed = Deflate().accept(values)
    except RemoteProtocolError as error:
        codes.append(error.http_status)
    assert codes in ([], [400])
    if agreed is not None:
        assert Deflate().confirm([agreed[0]]) is not None
