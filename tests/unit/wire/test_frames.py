"""Close payloads and control frames: RFC 6455 sections 5.5 and 7.4."""

import pytest

from fastws.exceptions import LocalProtocolError, RemoteProtocolError
from fastws.wire.frames import Close, CloseCode, Opcode, encode_control, is_sendable

KEY = bytes.fromhex("37fa213d")
SENDABLE = [*range(1000, 1004), *range(1007, 1015), 3000, 3999, 4000, 4999]
FORBIDDEN = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535]


def test_5_2_opcodes():
    assert [int(opcode) for opcode in Opcode] == [0, 1, 2, 8, 9, 10]


@pytest.mark.parametrize("code", SENDABLE)
def test_7_4_accept_code(code):
    assert is_sendable(code)
    close = Close(code, "why")
    assert close.encode() == code.to_bytes(2, "big") + b"why"
    assert Close.parse(close.encode()) == close


@pytest.mark.parametrize("code", FORBIDDEN)
def test_7_4_reject_code(code):
    assert not is_sendable(code)
    with pytest.raises(RemoteProtocolError) as caught:
        Close.parse(code.to_bytes(2, "big"))
    assert caught.value.close_code == CloseCode.PROTOCOL_ERROR
    assert str(caught.value) == f"Close frame with the forbidden code {code}"


@pytest.mark.parametrize("code", [code for code in FORBIDDEN if code != 1005])
def test_7_4_reject_own_code(code):
    with pytest.raises(LocalProtocolError):
        Close(code).encode()


def test_7_1_5_empty_close_is_1005():
    assert Close.parse(b"") == Close() == Close(1005, "")
    assert Close().encode() == b""


def test_7_1_5_reject_own_reason_without_code():
    with pytest.raises(LocalProtocolError):
        Close(reason="why").encode()


def test_5_5_1_reject_close_of_one_byte():
    with pytest.raises(RemoteProtocolError) as caught:
        Close.parse(b"\x03")
    assert caught.value.close_code == CloseCode.PROTOCOL_ERROR


@pytest.mark.parametrize("reason", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"ok\xf4\x90"])
def test_8_1_reject_reason(reason):
    with pytest.raises(RemoteProtocolError) as caught:
        Close.parse(b"\x03\xe8" + reason)
    assert caught.value.close_code == CloseCode.INVALID_DATA


def test_5_5_1_reason_length():
    reason = "\xe9" * 61 + "x"
    assert len(Close(1000, reason).encode()) == 125
    with pytest.raises(LocalProtocolError, match="of 124 bytes, over 123"):
        Close(1000, reason + "x").encode()


def test_5_5_1_accept_memoryview():
    assert Close.parse(memoryview(b"\x03\xe8bye")) == Close(1000, "bye")


def test_5_7_control_frames():
    assert encode_control(Opcode.PING, b"Hello", None).hex() == "890548656c6c6f"
    masked = encode_control(Opcode.PONG, b"Hello", KEY)
    assert masked.hex() == "8a8537fa213d7f9f4d5158"
    assert encode_control(Opcode.CLOSE, b"", None) == b"\x88\x00"


def test_5_5_control_length():
    assert encode_control(Opcode.PING, bytes(125), None) == b"\x89\x7d" + bytes(125)
    with pytest.raises(LocalProtocolError, match="126 bytes, over 125"):
        encode_control(Opcode.PING, bytes(126), None)


@pytest.mark.parametrize("opcode", [Opcode.CONT, Opcode.TEXT, Opcode.BINARY, 3, 11])
def test_5_5_reject_data_opcode(opcode):
    with pytest.raises(LocalProtocolError):
        encode_control(opcode, b"", None)
