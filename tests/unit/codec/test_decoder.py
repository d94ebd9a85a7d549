"""FrameDecoder: RFC 6455 sections 5.1 to 5.7, every rule on both sides of its limit."""

from types import ModuleType
from typing import Any

import pytest

from fastws._consts import (
    FRAME_END,
    FRAME_START,
    MESSAGE_END,
    PART_RSV1,
    Side,
)

CLIENT, SERVER = Side.CLIENT, Side.SERVER
KEY = bytes.fromhex("37fa213d")
WHOLE = FRAME_START | FRAME_END | MESSAGE_END
Parts = list[tuple[int, bytes, int]]


def receive(decoder: Any, data: bytes) -> Parts:
    """Feed a copy of ``data``; parts with plain bytes."""
    return [
        (op, bytes(p), flags) for op, p, flags in decoder.receive_data(bytearray(data))
    ]


def error_of(decoder: Any) -> tuple[str, int]:
    return str(decoder.error), decoder.error.close_code


# ------------------------------------------------------------------ good frames


@pytest.mark.parametrize(
    ("side", "wire", "parts"),
    [
        (CLIENT, "810548656c6c6f", [(1, b"Hello", WHOLE)]),
        (SERVER, "818537fa213d7f9f4d5158", [(1, b"Hello", WHOLE)]),
        (
            CLIENT,
            "010348656c80026c6f",
            [(1, b"Hel", FRAME_START | FRAME_END), (1, b"lo", WHOLE)],
        ),
        (CLIENT, "890548656c6c6f", [(9, b"Hello", WHOLE)]),
        (SERVER, "8a8537fa213d7f9f4d5158", [(10, b"Hello", WHOLE)]),
        (CLIENT, "827e0100" + "ab" * 256, [(2, b"\xab" * 256, WHOLE)]),
        (
            CLIENT,
            "827f0000000000010000" + "ab" * 65536,
            [(2, b"\xab" * 65536, WHOLE)],
        ),
    ],
    ids=["text", "masked", "fragments", "ping", "pong", "256", "64KiB"],
)
def test_accept_rfc_vector(
    backend: ModuleType, side: Side, wire: str, parts: Parts
) -> None:
    decoder = backend.FrameDecoder(side)
    assert receive(decoder, bytes.fromhex(wire)) == parts
    assert decoder.error is None
    assert decoder.at_boundary
    assert not decoder.in_message


def stream(backend: ModuleType, side: Side) -> bytes:
    """Frames of every length code and kind, as the peer of ``side`` sends them."""
    key = KEY if side is SERVER else None
    frames = [
        (1, "naïve".encode(), True),
        (2, b"", True),
        (2, bytes(range(125)), False),
        (9, b"in between", True),
        (0, b"", False),
        (0, bytes(300), False),
        (10, b"", True),
        (0, b"end", True),
        (2, b"x" * 65536, True),
        (8, b"\x03\xe8bye", True),
    ]
    encode = backend.encode_frame
    return b"".join(encode(op, data, fin=fin, key=key) for op, data, fin in frames)


def joined(parts: Parts) -> Parts:
    """Parts of the same frame put together."""
    result: Parts = []
    for opcode, payload, flags in parts:
        if flags & FRAME_START:
            result.append((opcode, payload, flags))
        else:
            first_opcode, first, first_flags = result.pop()
            assert first_opcode == opcode
            assert not first_flags & FRAME_END
            result.append((opcode, first + payload, first_flags | flags))
    return result


@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize("step", [1, 2, 3, 7, 13, 64, 1000, 10**6])
def test_cut_changes_nothing(backend: ModuleType, side: Side, step: int) -> None:
    data = stream(backend, side)
    decoder = backend.FrameDecoder(side)
    parts: Parts = []
    for at in range(0, len(data), step):
        parts += receive(decoder, data[at : at + step])
    start, end, last = FRAME_START, FRAME_END, MESSAGE_END
    assert joined(parts) == [
        (1, "naïve".encode(), WHOLE),
        (2, b"", WHOLE),
        (2, bytes(range(125)), start | end),
        (9, b"in between", WHOLE),
        (2, b"", start | end),
        (2, bytes(300), start | end),
        (10, b"", WHOLE),
        (2, b"end", start | end | last),
        (2, b"x" * 65536, WHOLE),
        (8, b"\x03\xe8bye", WHOLE),
    ]
    assert decoder.error is None
    assert decoder.at_boundary


def test_payload_is_a_view_of_the_input(backend: ModuleType) -> None:
    buf = bytearray(bytes.fromhex("818537fa213d7f9f4d5158") + b"\x89\x80\0\0\0\0")
    [(_, text, _), (_, ping, _)] = backend.FrameDecoder(SERVER).receive_data(buf)
    assert type(text) is memoryview
    assert type(ping) is bytes
    assert buf[6:11] == b"Hello"
    buf[6:7] = b"J"
    assert bytes(text) == b"Jello"


def test_partial_payload_comes_at_once(backend: ModuleType) -> None:
    decoder = backend.FrameDecoder(SERVER)
    wire = bytes.fromhex("018537fa213d7f9f4d5158")
    assert receive(decoder, wire[:6]) == []
    assert receive(decoder, wire[6:9]) == [(1, b"Hel", FRAME_START)]
    assert not decoder.at_boundary
    assert decoder.in_message
    assert receive(decoder, wire[9:10]) == [(1, b"l", 0)]
    assert receive(decoder, wire[10:]) == [(1, b"o", FRAME_END)]
    assert decoder.at_boundary
    assert decoder.in_message
    assert receive(decoder, b"\x80\x80" + KEY) == [(1, b"", WHOLE)]
    assert not decoder.in_message


def test_at_boundary_inside_a_header(backend: ModuleType) -> None:
    decoder = backend.FrameDecoder(CLIENT)
    assert decoder.at_boundary
    assert receive(decoder, b"\x82") == []
    assert not decoder.at_boundary
    assert receive(decoder, b"\x00") == [(2, b"", WHOLE)]
    assert decoder.at_boundary


def test_empty_input(backend: ModuleType) -> None:
    decoder = backend.FrameDecoder(SERVER)
    assert receive(decoder, b"") == []
    assert decoder.at_boundary


def test_control_payload_cut_anywhere_comes_whole(backend: ModuleType) -> None:
    wire = backend.encode_frame(9, bytes(range(125)), key=KEY)
    for cut in range(len(wire)):
        decoder = backend.FrameDecoder(SERVER)
        assert receive(decoder, wire[:cut]) == []
        assert receive(decoder, wire[cut:]) == [(9, bytes(range(125)), WHOLE)]


def test_after_close_everything_is_ignored(backend: ModuleType) -> None:
    decoder = backend.FrameDecoder(CLIENT)
    assert receive(decoder, b"\x88\x00\x82\x01x") == [(8, b"", WHOLE)]
    assert receive(decoder, b"\xff\xff garbage") == []
    assert decoder.error is None
    assert decoder.at_boundary


def test_client_takes_read_only_memory(backend: ModuleType) -> None:
    [(_, payload, _)] = backend.FrameDecoder(CLIENT).receive_data(b"\x82\x01x")
    assert bytes(payload) == b"x"


def test_server_rejects_read_only_memory(backend: ModuleType) -> None:
    decoder = backend.FrameDecoder(SERVER)
    with pytest.raises(BufferError, match=r"^the buffer is read-only$"):
        decoder.receive_data(bytes.fromhex("818537fa213d7f9f4d5158"))
    assert decoder.at_boundary


# ------------------------------------------------------------------ each rule


@pytest.mark.parametrize(
    ("side", "wire", "text"),
    [
        (CLIENT, "c100", "reserved bits 0x40 are set without an extension"),
        (CLIENT, "a100", "reserved bits 0x20 are set without an extension"),
        (CLIENT, "9100", "reserved bits 0x10 are set without an extension"),
        (CLIENT, "f900", "reserved bits 0x70 are set without an extension"),
        *((CLIENT, f"8{op:x}00", f"opcode 0x{op:x} is reserved") for op in range(3, 8)),
        *(
            (CLIENT, f"8{op:x}00", f"opcode 0x{op:x} is reserved")
            for op in range(11, 16)
        ),
        (SERVER, "8100", "a frame from a client is not masked"),
        (SERVER, "8900", "a frame from a client is not masked"),
        (CLIENT, "8180", "a frame from a server is masked"),
        (CLIENT, "8880", "a frame from a server is masked"),
        (CLIENT, "0900", "a control frame is fragmented"),
        (CLIENT, "0800", "a control frame is fragmented"),
        (CLIENT, "897e", "a control frame has more than 125 bytes"),
        (SERVER, "88ff", "a control frame has more than 125 bytes"),
        (CLIENT, "8000", "a continuation frame has no message to continue"),
        (CLIENT, "0000", "a continuation frame has no message to continue"),
        (CLIENT, "01008200", "a new message starts inside a fragmented message"),
        (
            CLIENT,
            "01000000" + "0100",
            "a new message starts inside a fragmented message",
        ),
        (CLIENT, "827e0000", "length 0 is not in its shortest form"),
        (CLIENT, "827e007d", "length 125 is not in its shortest form"),
        (CLIENT, "827f000000000000007d", "length 125 is not in its shortest form"),
        (CLIENT, "827f000000000000ffff", "length 65535 is not in its shortest form"),
        (SERVER, "82fe000100000000", "length 1 is not in its shortest form"),
        (CLIENT, "827f8000000000000000", "a 64-bit length has its top bit set"),
        (CLIENT, "827fffffffffffffffff", "a 64-bit length has its top bit set"),
    ],
)
def test_reject_protocol_error(
    backend: ModuleType, side: Side, wire: str, text: str
) -> None:
    data = bytes.fromhex(wire)
    for step in (1, len(data)):
        decoder = backend.FrameDecoder(side)
        for at in range(0, len(data), step):
            assert decoder.error is None
            receive(decoder, data[at : at + step])
        assert error_of(decoder) == (text, 1002)
        assert not decoder.at_boundary
        assert receive(decoder, b"\x82\x00") == []


@pytest.mark.parametrize(
    "wire",
    ["827e007e", "827effff", "827f0000000000010000", "827f7fffffffffffffff", "897d"],
)
def test_accept_lengths_at_their_limit(backend: ModuleType, wire: str) -> None:
    decoder = backend.FrameDecoder(CLIENT)
    assert receive(decoder, bytes.fromhex(wire)) == []
    assert decoder.error is None


def test_parts_before_a_mistake_are_delivered(backend: ModuleType) -> None:
    decoder = backend.FrameDecoder(CLIENT)
    assert receive(decoder, b"\x82\x02ok\x89\x01p\x83\x00") == [
        (2, b"ok", WHOLE),
        (9, b"p", WHOLE),
    ]
    assert error_of(decoder) == ("opcode 0x3 is reserved", 1002)


def test_max_payload_both_sides_of_the_limit(backend: ModuleType) -> None:
    decoder = backend.FrameDecoder(CLIENT, max_payload=3)
    assert receive(decoder, b"\x02\x03abc\x80\x03def") == [
        (2, b"abc", FRAME_START | FRAME_END),
        (2, b"def", WHOLE),
    ]
    assert receive(decoder, b"\x82\x04") == []
    assert error_of(decoder) == ("a frame of 4 bytes exceeds 3", 1009)


def test_max_payload_does_not_bind_control_frames(backend: ModuleType) -> None:
    decoder = backend.FrameDecoder(CLIENT, max_payload=0, max_message=0)
    assert receive(decoder, b"\x89\x02hi\x82\x00") == [
        (9, b"hi", WHOLE),
        (2, b"", WHOLE),
    ]
    receive(decoder, b"\x82\x01")
    assert error_of(decoder) == ("a frame of 1 bytes exceeds 0", 1009)


def test_max_message_sums_fragments(backend: ModuleType) -> None:
    decoder = backend.FrameDecoder(CLIENT, max_message=5)
    receive(decoder, b"\x82\x05abcde\x02\x03abc\x89\x02hi\x80\x02de")
    assert decoder.error is None
    receive(decoder, b"\x02\x03abc\x00\x02de\x80\x01")
    assert error_of(decoder) == ("a message of 6 bytes or more exceeds 5", 1009)


def test_max_message_huge_lengths_do_not_wrap(backend: ModuleType) -> None:
    decoder = backend.FrameDecoder(CLIENT, max_message=10)
    receive(decoder, b"\x02\x05abcde\x80\x7f\x7f" + b"\xff" * 7)
    assert decoder.error.close_code == 1009
    assert f"message of {2**63 + 4} bytes" in str(decoder.error)


def test_limit_beyond_any_length_is_none(backend: ModuleType) -> None:
    decoder = backend.FrameDecoder(CLIENT, max_payload=2**70, max_message=2**64)
    receive(decoder, b"\x82\x7f\x7f" + b"\xff" * 7)
    assert decoder.error is None


# ------------------------------------------------------------------ extensions


def test_rsv1_marks_every_part_of_its_message(backend: ModuleType) -> None:
    decoder = backend.FrameDecoder(CLIENT, rsv=0x40)
    wire = b"\x41\x02ab\x89\x00\x80\x01c\x82\x01d"
    assert receive(decoder, wire) == [
        (1, b"ab", FRAME_START | FRAME_END | PART_RSV1),
        (9, b"", WHOLE),
        (1, b"c", WHOLE | PART_RSV1),
        (2, b"d", WHOLE),
    ]


def test_limit_of_packed_messages_is_for_their_content(backend: ModuleType) -> None:
    """RFC 7692: 1 000 bytes need 1 128 at most, and each fragment some of its own."""
    decoder = backend.FrameDecoder(CLIENT, max_message=1000, rsv=0x40)
    receive(decoder, b"\xc2\x7e\x04\xb8" + bytes(1208))
    receive(decoder, b"\x42\x40" + bytes(64))
    receive(decoder, (b"\x00\x40" + bytes(64)) * 10_000 + b"\x80\x00")
    assert decoder.error is None
    receive(decoder, b"\x42\x7e\x02\x58" + bytes(600) + b"\x80\x7e\x02\xb9")
    assert error_of(decoder) == ("a message of 1007 bytes or more exceeds 1000", 1009)


def test_limit_of_other_messages_stays(backend: ModuleType) -> None:
    decoder = backend.FrameDecoder(CLIENT, max_message=1000, rsv=0x40)
    receive(decoder, b"\xc2\x7e\x04\xb8" + bytes(1208))
    receive(decoder, b"\x82\x7e\x03\xe9")
    assert error_of(decoder) == ("a message of 1001 bytes or more exceeds 1000", 1009)


@pytest.mark.parametrize(
    ("wire", "text"),
    [
        (b"\xc9\x00", "RSV1 is set on a control frame"),
        (b"\x41\x00\xc0\x00", "RSV1 is set on a continuation frame"),
        (b"\x61\x00", "reserved bits 0x20 are set without an extension"),
    ],
)
def test_reject_rsv_with_rsv1_allowed(
    backend: ModuleType, wire: bytes, text: str
) -> None:
    decoder = backend.FrameDecoder(CLIENT, rsv=0x40)
    receive(decoder, wire)
    assert error_of(decoder) == (text, 1002)


def test_accept_rsv2_and_rsv3_where_allowed(backend: ModuleType) -> None:
    decoder = backend.FrameDecoder(CLIENT, rsv=0x30)
    assert receive(decoder, b"\xb2\x00\xb9\x00") == [(2, b"", WHOLE), (9, b"", WHOLE)]


# ------------------------------------------------------------------ arguments


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"side": 2}, "side must be Side.CLIENT or Side.SERVER"),
        ({"side": SERVER, "max_payload": -1}, "max_payload must be None or at least 0"),
        ({"side": SERVER, "max_message": -1}, "max_message must be None or at least 0"),
        ({"side": SERVER, "rsv": 0x80}, "rsv may only hold the bits 0x70"),
    ],
)
def test_reject_argument(
    backend: ModuleType, arguments: dict[str, Any], text: str
) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (compared below)
        backend.FrameDecoder(**arguments)
    assert str(caught.value) == text


def test_accept_plain_numbers_for_side(backend: ModuleType) -> None:
    assert receive(backend.FrameDecoder(0), b"\x82\x00") == [(2, b"", WHOLE)]
    assert receive(backend.FrameDecoder(1), b"\x82\x80abcd") == [(2, b"", WHOLE)]


def test_payload_in_many_small_reads(backend: ModuleType) -> None:
    decoder = backend.FrameDecoder(SERVER)
    receive(decoder, b"\x82\xff\0\0\0\0\0\x10\0\0" + KEY)
    flags = []
    for number in range(65536):
        [(opcode, payload, flag)] = decoder.receive_data(bytearray(16))
        assert (opcode, bytes(payload)) == (2, KEY * 4)
        if flag:
            flags.append((number, flag))
    assert flags == [(0, FRAME_START), (65535, FRAME_END | MESSAGE_END)]
    assert decoder.at_boundary
