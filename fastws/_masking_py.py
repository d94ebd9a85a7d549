"""Masking and masking keys of the pure twin; ``_speedups_py`` re-exports them.

This is the specification of that part of ``_speedups.pyx``.
"""

import os
from collections.abc import Callable
from operator import index
from typing import Final, final

from fastws._buffer_py import byte_view
from fastws.typing import BytesLike, WritableBuffer

KEY_BLOCK: Final = 4096


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
