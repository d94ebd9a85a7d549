"""Compressed messages in any state of health, beside zlib itself.

Cuts do not show, the limit is exact, what is packed unpacks, and both twins take the
same messages.
"""

import zlib
from typing import Any

from fastws.exceptions import RemoteProtocolError
from fastws.wire.deflate import Codec
from tests.fuzz.frames import TWINS, cuts

LIMITS = (0, 1, 100, 4096, 70_000)
TAIL = b"\x00\x00\xff\xff"


def unpack(codec: Any, pieces: list[bytes], limit: int) -> Any:
    """The message, or the code of its refusal."""
    out = b""
    for number, piece in enumerate(pieces):
        final = number == len(pieces) - 1
        try:
            out += codec.decompress(piece, final, limit - len(out))
        except RemoteProtocolError as error:
            return {1007: 1007, 1009: 1009}[error.close_code or 0]
        assert len(out) <= limit
    return out


def zlib_says(payloads: list[bytes], bits: int) -> list[bytes] | None:
    """The same by zlib, where it is simple: streams that do not end, and no errors."""
    inflate = zlib.decompressobj(-bits)
    found = []
    for payload in payloads:
        try:
            found.append(inflate.decompress(payload + TAIL, 200_000))
        except zlib.error:
            return None
        if inflate.eof or inflate.unconsumed_tail or not payload:
            return None
    return found


def take(data: bytes, mode: int, seed: int) -> None:
    """Payloads from anywhere, of several messages."""
    limit = LIMITS[seed % 5]
    bits = 8 + (mode >> 3) % 8
    forgets = bool(mode & 4)
    payloads = data.split(b"\xfa\xce")[:4]
    made = [
        twin.Unpacker(zlib.decompressobj, zlib.error, -bits, forgets)
        for twin in (*TWINS, *TWINS)
    ]
    results: list[list[Any]] = [[], [], [], []]
    for payload in payloads:
        whole, cut = [payload], cuts(payload, seed) or [payload]
        ways = (whole, whole, cut, cut)
        for unpacker, pieces, found in zip(made, ways, results, strict=True):
            found.append(unpack(unpacker, pieces, limit))
        last = [found[-1] for found in results]
        assert last[0] == last[1], f"{last[0]!r} != {last[1]!r}"
        assert last[2] == last[3], f"{last[2]!r} != {last[3]!r}"
        if isinstance(last[0], int) and isinstance(last[2], int):
            return  # too big, or wrong right behind that: the connection has to end
        if last[2] == 1007 and bits < 15:
            return  # within one call zlib lets distances reach beyond the window
        assert last[0] == last[2], f"{last[0]!r} != {last[2]!r}"
    if not forgets:
        expected = zlib_says(payloads, bits)
        assert expected is None or expected == results[0]


def give(data: bytes, mode: int, seed: int) -> None:
    """Messages of ours come back, and are refused above the limit only."""
    out_bits = 8 + (mode >> 3) % 8
    forgets = bool(mode & 4)
    sender = Codec(out_bits=out_bits, out_forgets=forgets, level=seed % 10)
    taker = Codec(in_bits=out_bits, in_forgets=forgets)
    strict = Codec(in_bits=out_bits, in_forgets=forgets)
    for message in data.split(b"\xfa\xce")[:4]:
        message *= 1 + (seed >> 5) * 50
        parts = cuts(message, seed)
        packed = [
            sender.compress(part, number == len(parts) - 1)
            for number, part in enumerate(parts)
        ]
        assert unpack(taker, packed, len(message)) == message
        if not message:
            unpack(strict, packed, 0)
        elif unpack(strict, [b"".join(packed)], len(message) - 1) != 1009:
            raise AssertionError("more than the limit came through")
        else:
            return  # the connection has to end


def run(data: bytes) -> None:
    """One input."""
    if len(data) < 2:
        return
    mode, seed = data[:2]
    (give if mode & 1 else take)(data[2:], mode, seed)
