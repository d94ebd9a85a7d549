"""Payloads that every benchmark uses: seeded, so that two runs see the same bytes."""

import random

SEED = 6455
SIZES = (8, 125, 126, 1024, 16 * 1024, 64 * 1024, 1024 * 1024)
"""Bytes: around each length code of RFC 6455 section 5.2, then up to a bulk read."""

KEY = bytes.fromhex("37fa213d")
"""The masking key of RFC 6455 section 5.7."""


def size_name(size: int) -> str:
    """``1024`` → ``1KiB``; names the groups of a report."""
    if size < 1024:
        return f"{size}B"
    return f"{size >> 10}KiB" if size < 1 << 20 else f"{size >> 20}MiB"


def payload(size: int) -> bytes:
    """Random bytes, always the same for one size."""
    return random.Random(SEED + size).randbytes(size)


def text(size: int) -> str:
    """Text that is mostly ASCII, exactly ``size`` bytes in UTF-8."""
    words = "the quick brown fox jumps over the lazy dog, naïvely; "
    data = (words * (size // len(words) + 1)).encode()[:size]
    return data.decode("utf-8", "ignore").ljust(size)[:size]
