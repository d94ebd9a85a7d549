"""Masking, masking keys and frame headers of the pure twin.

``_speedups_py`` re-exports the public names. This is the specification of that part
of ``_speedups.pyx``.
"""

import os
from collections.abc import Callable
from operator import index
from typing import Final, final

from fastws._buffer_py import byte_view
from fastws._consts import (
    FIN,
    LENGTH_16,
    LENGTH_64,
    LENGTH_MASK,
    MASK,
    OPCODE_MASK,
    RSV_MASK,
    FrameHeader,
)
from fastws.typing import BytesLike, WritableBuffer

KEY_BLOCK: Final = 4096
TOP_BIT: Final = 1 << 63


def mask_key(key: BytesLike) -> bytes:
    if type(key) is not bytes:
        key = bytes(byte_view(key, writable=False))
    if len(key) != 4:
        raise ValueError("a masking key is exactly 4 bytes")
    return key


def _xor_tables() -> list[bytes]:
    """For each key byte the table that ``bytes.translate`` XORs with."""
    plain = int.from_bytes(bytes(range(256)), "little")
    ones = int.from_bytes(b"\1" * 256, "little")
    return [(plain ^ ones * k).to_bytes(256, "little") for k in range(256)]


_TABLES: Final = _xor_tables()
_SMALL: Final = 128  # up to here one XOR of two numbers is faster
_STRIDE: Final = 64 * 1024  # one copy of this size stays in the cache


def apply_mask(buf: WritableBuffer, key: BytesLike, phase: int = 0) -> int:
    """XOR ``buf`` in place with a WebSocket masking key.

    Source: RFC 6455 section 5.3. Masking and unmasking are the same operation.

    Args:
        buf: n bytes, writable, C-contiguous; n may be 0. Viewed during the call,
            not retained.
        key: exactly 4 bytes, in wire order.
        phase: payload bytes of this frame already processed, modulo 4.

    Returns:
        The phase for the next chunk of the same frame, ``(phase + n) % 4``.

    Raises:
        ValueError: ``key`` is not 4 bytes, or ``phase`` is not in 0..3.
        BufferError: ``buf`` is read-only or not contiguous; nothing was changed.
    """
    key = mask_key(key)
    phase = index(phase)
    if not 0 <= phase <= 3:
        raise ValueError("phase must be in 0..3")
    view = byte_view(buf, writable=True)
    xor(view, key[phase:] + key[:phase])
    return (phase + len(view)) & 3


def xor(view: memoryview, key: bytes) -> None:
    size = len(view)
    if size <= _SMALL:
        pattern = int.from_bytes((key * (size // 4 + 1))[:size], "little")
        view[:] = (int.from_bytes(view, "little") ^ pattern).to_bytes(size, "little")
        return
    tables = [_TABLES[k] for k in key]
    for start in range(0, size, _STRIDE):
        part = view[start : start + _STRIDE]
        copy = bytearray(part)
        for lane, table in enumerate(tables):
            copy[lane::4] = copy[lane::4].translate(table)
        part[:] = copy


_forks = 0


def _forget_keys() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_keys)


@final
class MaskKeys:
    """Fresh, unpredictable masking keys, one per frame (RFC 6455 section 5.3).

    Keys are drawn in blocks of 4 KiB. A forked child drops the block it inherited:
    two processes never use the same keys.

    Args:
        source: ``source(n)`` returns n unpredictable bytes; default ``os.urandom``.
            Retained. Tests pass a fixed one.
    """

    __slots__ = ("_at", "_block", "_forks", "_source")

    def __init__(self, source: Callable[[int], bytes] | None = None) -> None:
        self._source = os.urandom if source is None else source
        self._block = b""
        self._at = 0
        self._forks = _forks

    def __call__(self) -> bytes:
        """The key of the next frame, 4 bytes.

        Raises:
            ValueError: the source did not return the 4096 bytes it was asked for.
        """
        if self._at == len(self._block) or self._forks != _forks:
            block = self._source(KEY_BLOCK)
            if type(block) is not bytes or len(block) != KEY_BLOCK:
                raise ValueError(f"a key source must return {KEY_BLOCK} bytes")
            self._block = block
            self._at = 0
            self._forks = _forks
        at = self._at
        self._at = at + 4
        return self._block[at : at + 4]


_shared_keys: MaskKeys | None = None


def default_keys() -> MaskKeys:
    """The instance that everything in this process shares, made at first use."""
    global _shared_keys
    if _shared_keys is None:
        _shared_keys = MaskKeys()
    return _shared_keys


def first_byte(opcode: int, fin: bool, rsv: int) -> int:
    opcode = index(opcode)
    if not 0 <= opcode <= 15:
        raise ValueError("opcode must be in 0..15")
    rsv = index(rsv)
    if rsv & ~RSV_MASK:
        raise ValueError("rsv may only hold the bits 0x70")
    return (FIN if fin else 0) | rsv | opcode


def header_size(length: int, masked: bool) -> int:
    size = 2 if length < LENGTH_16 else 4 if length < 1 << 16 else 10
    return size + 4 if masked else size


def _header(b0: int, length: int, key: bytes | None) -> bytes:
    masked = 0 if key is None else MASK
    if length < LENGTH_16:
        head = bytes((b0, masked | length))
    elif length < 1 << 16:
        head = bytes((b0, masked | LENGTH_16)) + length.to_bytes(2, "big")
    else:
        head = bytes((b0, masked | LENGTH_64)) + length.to_bytes(8, "big")
    return head if key is None else head + key


def write_header(
    buf: WritableBuffer,
    offset: int,
    opcode: int,
    length: int,
    *,
    fin: bool = True,
    rsv: int = 0,
    key: BytesLike | None = None,
) -> int:
    """Write a frame header at ``buf[offset:]``.

    Source: RFC 6455 section 5.2. Only the shape is checked, not the rules for roles
    and control frames, so that tests and probes can write wrong frames.

    Args:
        buf: written in place, not retained.
        offset: where the header starts, bytes.
        opcode: 0..15.
        length: payload bytes, 0..2**63-1; written in the shortest form.
        fin: the FIN bit.
        rsv: reserved bits in place, a combination of ``0x40``, ``0x20``, ``0x10``.
        key: masking key, 4 bytes; ``None`` writes the header of an unmasked frame.

    Returns:
        The size of the header, 2..14 bytes.

    Raises:
        ValueError: an argument is out of range, or the header does not fit.
        BufferError: ``buf`` is read-only or not contiguous.
    """
    b0 = first_byte(opcode, fin, rsv)
    length = index(length)
    if not 0 <= length < TOP_BIT:
        raise ValueError("length must be in 0..2**63-1")
    head = _header(b0, length, None if key is None else mask_key(key))
    start = index(offset)
    size = len(head)
    view = byte_view(buf, writable=True)
    if start < 0 or len(view) - start < size:
        raise ValueError(f"a header of {size} bytes does not fit at {offset}")
    view[start : start + size] = head
    return size


def encode_frame(
    opcode: int,
    payload: BytesLike,
    *,
    fin: bool = True,
    rsv: int = 0,
    key: BytesLike | None = None,
) -> bytes:
    """One frame, header and payload, as new bytes.

    Source: RFC 6455 section 5.2. Checks as little as :func:`write_header`.

    Args:
        opcode: 0..15.
        payload: copied.
        fin: the FIN bit.
        rsv: reserved bits in place.
        key: masking key, 4 bytes, for a client's frame; ``None`` leaves it unmasked.

    Raises:
        ValueError: an argument is out of range.
        BufferError: ``payload`` is not contiguous.
    """
    b0 = first_byte(opcode, fin, rsv)
    key = None if key is None else mask_key(key)
    body = byte_view(payload, writable=False)
    head = _header(b0, len(body), key)
    if key is None:
        return b"".join((head, body))
    frame = bytearray(head)
    frame += body
    xor(memoryview(frame)[len(head) :], key)
    return bytes(frame)


def whole_header(b1: int) -> int:
    """Header bytes that a frame with this second byte has."""
    code = b1 & LENGTH_MASK
    size = 2 if code < LENGTH_16 else 4 if code == LENGTH_16 else 10
    return size + 4 if b1 & MASK else size


def read_length(head: BytesLike) -> int:
    code = head[1] & LENGTH_MASK
    if code < LENGTH_16:
        return code
    return int.from_bytes(head[2 : 4 if code == LENGTH_16 else 10], "big")


def decode_header(buf: BytesLike) -> FrameHeader | None:
    """Read the header at the start of ``buf`` without any check.

    Source: RFC 6455 section 5.2. Rules, roles and limits are not looked at; that is
    what :class:`FrameDecoder` does.

    Args:
        buf: viewed during the call, not retained.

    Returns:
        The header, or ``None`` while it is incomplete.
    """
    view = byte_view(buf, writable=False)
    if len(view) < 2 or len(view) < (size := whole_header(view[1])):
        return None
    return FrameHeader(
        bool(view[0] & FIN),
        view[0] & RSV_MASK,
        view[0] & OPCODE_MASK,
        bytes(view[size - 4 : size]) if view[1] & MASK else None,
        read_length(view),
        size,
    )
