"""Incremental UTF-8: RFC 3629 section 4, RFC 6455 section 8.1."""

from types import ModuleType

import pytest

VALID = [
    "",
    "plain ASCII, longer than one word and than one block of 64 bytes " * 3,
    "κόσμε",
    "\x00\x7f\x80\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0010ffff",
    "a" * 7 + "é" + "b" * 9 + "€" + "c" * 70 + "𝄞",
]
INVALID = {
    "lone continuation": "80",
    "overlong 2": "c080",
    "overlong 2 high": "c1bf",
    "overlong 3": "e09fbf",
    "overlong 4": "f08fbfbf",
    "surrogate low end": "eda080",
    "surrogate high end": "edbfbf",
    "above U+10FFFF": "f4908080",
    "lead f5": "f5",
    "lead ff": "ff",
    "text after lead": "c361",
    "lead after lead": "e282c3",
}


@pytest.mark.parametrize("text", VALID, ids=range(len(VALID)))
def test_accept_valid_in_any_cut(backend: ModuleType, text: str) -> None:
    data = text.encode()
    for cut in range(len(data) + 1):
        validator = backend.Utf8Validator()
        assert validator.feed(data[:cut]) is True
        assert validator.feed(data[cut:]) is True
        assert validator.complete is True


@pytest.mark.parametrize("wrong", INVALID.values(), ids=INVALID)
@pytest.mark.parametrize("before", [b"", b"a", b"a" * 100], ids=["0", "1", "100"])
def test_reject_at_the_first_wrong_byte(
    backend: ModuleType, wrong: str, before: bytes
) -> None:
    data = bytes.fromhex(wrong)
    # No text starts with the first n bytes, and some does with one less.
    n = next(n for n in range(1, 5) if not has_continuation(data[:n]))
    validator = backend.Utf8Validator()
    assert validator.feed(before + data[: n - 1]) is True
    assert validator.feed(data[n - 1 : n]) is False
    assert validator.complete is False
    assert validator.feed(b"fine") is False
    assert validator.feed(b"") is False


def has_continuation(data: bytes) -> bool:
    """Whether some valid text starts with ``data``, by brute force."""
    try:
        data.decode()
    except UnicodeDecodeError:
        pass
    else:
        return True
    if len(data) == 4:
        return False
    return any(has_continuation(data + bytes([more])) for more in (0x80, 0x90, 0xA0))


def test_complete_inside_and_after_a_character(backend: ModuleType) -> None:
    validator = backend.Utf8Validator()
    assert validator.complete is True
    for byte, complete in ((0xF0, False), (0x9D, False), (0x84, False), (0x9E, True)):
        assert validator.feed(bytes([byte])) is True
        assert validator.complete is complete


def test_next_message_after_complete(backend: ModuleType) -> None:
    validator = backend.Utf8Validator()
    assert validator.feed("é".encode())
    assert validator.complete
    assert validator.feed(b"\x80") is False


def test_two_byte_strings_exhaustively(backend: ModuleType) -> None:
    for number in range(1 << 16):
        data = number.to_bytes(2, "big")
        validator = backend.Utf8Validator()
        validator.feed(data)
        try:
            data.decode()
        except UnicodeDecodeError:
            assert not validator.complete, data.hex()
        else:
            assert validator.complete, data.hex()
