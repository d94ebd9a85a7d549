"""Frame headers and whole frames: RFC 6455 sections 5.2 and 5.7."""

from types import ModuleType

import pytest

KEY = bytes.fromhex("37fa213d")

# RFC 6455 section 5.7: name, opcode, payload, keywords, bytes.
RFC_FRAMES = [
    ("unmasked text", 1, b"Hello", {}, "810548656c6c6f"),
    ("masked text", 1, b"Hello", {"key": KEY}, "818537fa213d7f9f4d5158"),
    ("first fragment", 1, b"Hel", {"fin": False}, "010348656c"),
    ("last fragment", 0, b"lo", {}, "80026c6f"),
    ("unmasked ping", 9, b"Hello", {}, "890548656c6c6f"),
    ("masked pong", 10, b"Hello", {"key": KEY}, "8a8537fa213d7f9f4d5158"),
    ("256 bytes", 2, bytes(256), {}, "827e0100" + "00" * 256),
    ("64 KiB", 2, bytes(65536), {}, "827f0000000000010000" + "00" * 65536),
]


@pytest.mark.parametrize("case", RFC_FRAMES, ids=lambda case: case[0])
def test_encode_rfc_vector(backend: ModuleType, case: tuple) -> None:  # type: ignore[type-arg]
    _, opcode, payload, keywords, wire = case
    assert backend.encode_frame(opcode, payload, **keywords).hex() == wire


@pytest.mark.parametrize(
    ("length", "head"),
    [
        (0, "8200"),
        (1, "8201"),
        (125, "827d"),
        (126, "827e007e"),
        (65535, "827effff"),
        (65536, "827f0000000000010000"),
        (2**63 - 1, "827f7fffffffffffffff"),
    ],
)
@pytest.mark.parametrize("key", [None, KEY], ids=["unmasked", "masked"])
def test_header_shortest_form_both_ways(
    backend: ModuleType, length: int, head: str, key: bytes | None
) -> None:
    wire = bytearray.fromhex(head)
    if key is not None:
        wire[1] |= 0x80
        wire += key
    buf = bytearray(b"\xee" * 20)
    size = backend.write_header(buf, 3, 2, length, key=key)
    assert size == len(wire)
    assert buf[:3] == b"\xee" * 3
    assert buf[3 : 3 + size] == wire
    assert buf[3 + size :] == b"\xee" * (17 - size)
    assert backend.decode_header(wire) == (True, 0, 2, key, length, size)


def test_header_first_byte(backend: ModuleType) -> None:
    buf = bytearray(2)
    for fin in (True, False):
        for rsv in range(0, 0x80, 0x10):
            for opcode in range(16):
                backend.write_header(buf, 0, opcode, 5, fin=fin, rsv=rsv)
                assert buf == bytes((fin << 7 | rsv | opcode, 5))
                header = backend.decode_header(buf)
                assert header == (fin, rsv, opcode, None, 5, 2)
                assert header.fin is fin


@pytest.mark.parametrize("size", range(14))
def test_decode_header_incomplete(backend: ModuleType, size: int) -> None:
    wire = bytes.fromhex("82ff0000000000010000") + KEY
    assert backend.decode_header(wire[:size]) is None
    assert backend.decode_header(wire + b"more").size == 14


def test_decode_header_does_not_judge(backend: ModuleType) -> None:
    top_bit = bytes.fromhex("ff7f8000000000000000")
    assert backend.decode_header(top_bit) == (True, 0x70, 15, None, 2**63, 10)
    not_minimal = bytes.fromhex("097e0001")
    assert backend.decode_header(not_minimal) == (False, 0, 9, None, 1, 4)


@pytest.mark.parametrize(
    ("arguments", "keywords", "text"),
    [
        ((0, -1, 5), {}, "opcode must be in 0..15"),
        ((0, 16, 5), {}, "opcode must be in 0..15"),
        ((0, 2, 5), {"rsv": 0x80}, "rsv may only hold the bits 0x70"),
        ((0, 2, 5), {"rsv": 1}, "rsv may only hold the bits 0x70"),
        ((0, 2, 5), {"rsv": -1}, "rsv may only hold the bits 0x70"),
        ((0, 2, -1), {}, "length must be in 0..2**63-1"),
        ((0, 2, 2**63), {}, "length must be in 0..2**63-1"),
        ((0, 2, 5), {"key": b"abc"}, "a masking key is exactly 4 bytes"),
        ((9, 2, 5), {}, "a header of 2 bytes does not fit at 9"),
        ((7, 2, 126), {}, "a header of 4 bytes does not fit at 7"),
        ((-2, 2, 5), {}, "a header of 2 bytes does not fit at -2"),
        ((2**70, 2, 5), {}, f"a header of 2 bytes does not fit at {2**70}"),
    ],
)
def test_write_header_reject(
    backend: ModuleType,
    arguments: tuple[int, int, int],
    keywords: dict[str, object],
    text: str,
) -> None:
    buf = bytearray(10)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (compared below)
        backend.write_header(buf, *arguments, **keywords)
    assert str(caught.value) == text
    assert buf == bytes(10)


def test_write_header_fits_exactly(backend: ModuleType) -> None:
    buf = bytearray(10)
    assert backend.write_header(buf, 8, 2, 5) == 2
    assert buf == bytes(8) + b"\x82\x05"


def test_write_header_reject_read_only(backend: ModuleType) -> None:
    with pytest.raises(BufferError, match=r"^the buffer is read-only$"):
        backend.write_header(bytes(14), 0, 2, 5)


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
def test_encode_copies_any_buffer(backend: ModuleType, make: type) -> None:
    payload = make(b"abc")
    assert backend.encode_frame(2, payload, key=bytes(4)) == b"\x82\x83\0\0\0\0abc"
    assert payload == b"abc"


def test_encode_reject_text(backend: ModuleType) -> None:
    with pytest.raises(TypeError, match="a bytes-like object is required, not 'str'"):
        backend.encode_frame(1, "Hello")
