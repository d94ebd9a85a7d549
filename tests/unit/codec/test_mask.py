"""Masking and masking keys: RFC 6455 sections 5.3 and 5.7."""

import os
from types import ModuleType

import pytest

KEY = bytes.fromhex("37fa213d")


def slow_xor(data: bytes, key: bytes, phase: int = 0) -> bytes:
    return bytes(byte ^ key[(phase + i) % 4] for i, byte in enumerate(data))


def test_mask_rfc_vector(backend: ModuleType) -> None:
    buf = bytearray(b"Hello")
    assert backend.apply_mask(buf, KEY) == 1
    assert buf.hex() == "7f9f4d5158"
    assert backend.apply_mask(buf, KEY) == 1
    assert buf == b"Hello"


@pytest.mark.parametrize("phase", range(4))
@pytest.mark.parametrize(
    "size", [0, 1, 3, 4, 7, 8, 9, 63, 64, 65, 127, 128, 129, 1000, 65535, 65536, 65541]
)
def test_mask_every_size_and_phase(backend: ModuleType, size: int, phase: int) -> None:
    data = os.urandom(size)
    buf = bytearray(data)
    assert backend.apply_mask(buf, KEY, phase) == (phase + size) % 4
    assert buf == slow_xor(data, KEY, phase)


@pytest.mark.parametrize("start", range(1, 9))
def test_mask_unaligned_slice_leaves_the_rest(backend: ModuleType, start: int) -> None:
    data = os.urandom(200)
    buf = bytearray(data)
    backend.apply_mask(memoryview(buf)[start:-3], KEY)
    assert buf == data[:start] + slow_xor(data[start:-3], KEY) + data[-3:]


def test_mask_in_chunks_equals_mask_at_once(backend: ModuleType) -> None:
    data = os.urandom(1000)
    whole, cut = bytearray(data), bytearray(data)
    backend.apply_mask(whole, KEY)
    phase, at = 0, 0
    for size in (1, 2, 3, 0, 64, 65, 130, 735):
        phase = backend.apply_mask(memoryview(cut)[at : at + size], KEY, phase)
        at += size
    assert at == 1000
    assert cut == whole


@pytest.mark.parametrize("key", [b"", b"abc", b"abcde"], ids=repr)
def test_mask_reject_key_length(backend: ModuleType, key: bytes) -> None:
    buf = bytearray(b"data")
    with pytest.raises(ValueError, match=r"^a masking key is exactly 4 bytes$"):
        backend.apply_mask(buf, key)
    assert buf == b"data"


@pytest.mark.parametrize("phase", [-1, 4, 2**70])
def test_mask_reject_phase(backend: ModuleType, phase: int) -> None:
    with pytest.raises(ValueError, match=r"^phase must be in 0\.\.3$"):
        backend.apply_mask(bytearray(4), KEY, phase)


def test_mask_reject_read_only(backend: ModuleType) -> None:
    with pytest.raises(BufferError, match=r"^the buffer is read-only$"):
        backend.apply_mask(b"data", KEY)


def test_mask_reject_not_contiguous(backend: ModuleType) -> None:
    buf = bytearray(b"abcdefgh")
    with pytest.raises(BufferError, match=r"^the buffer is not contiguous$"):
        backend.apply_mask(memoryview(buf)[::2], KEY)
    assert buf == b"abcdefgh"


def test_mask_accept_key_in_any_buffer(backend: ModuleType) -> None:
    for key in (bytearray(KEY), memoryview(KEY)):
        buf = bytearray(b"Hello")
        backend.apply_mask(buf, key)
        assert buf.hex() == "7f9f4d5158"


def test_keys_come_from_the_source_in_order(backend: ModuleType) -> None:
    blocks: list[bytes] = []

    def source(n: int) -> bytes:
        assert n == 4096
        blocks.append(os.urandom(n))
        return blocks[-1]

    keys = backend.MaskKeys(source)
    assert blocks == []
    drawn = b"".join(keys() for _ in range(2048))
    assert drawn == blocks[0] + blocks[1]
    assert len(blocks) == 2


def test_keys_default_do_not_repeat(backend: ModuleType) -> None:
    keys = backend.MaskKeys()
    drawn = {keys() for _ in range(3000)}
    assert all(type(key) is bytes and len(key) == 4 for key in drawn)
    assert len(drawn) > 2990  # birthday: 0.001 repeats are expected


@pytest.mark.parametrize("answer", [b"short", bytearray(4096), "x" * 4096])
def test_keys_reject_wrong_source(backend: ModuleType, answer: object) -> None:
    keys = backend.MaskKeys(lambda n: answer)
    with pytest.raises(ValueError, match=r"^a key source must return 4096 bytes$"):
        keys()


def test_keys_failing_source_keeps_its_error(backend: ModuleType) -> None:
    def source(n: int) -> bytes:
        raise OSError("no entropy")

    with pytest.raises(OSError, match=r"^no entropy$"):
        backend.MaskKeys(source)()


def test_default_keys_is_one_object(backend: ModuleType) -> None:
    assert backend.default_keys() is backend.default_keys()
    assert type(backend.default_keys()) is backend.MaskKeys


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_keys_forked_child_draws_its_own(backend: ModuleType) -> None:
    keys = backend.default_keys()
    keys()
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write_end, b"".join(keys() for _ in range(100)))
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        theirs = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    ours = b"".join(keys() for _ in range(100))
    assert len(theirs) == 400
    assert theirs != ours
