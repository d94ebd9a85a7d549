"""Durations and sizes as people write them. Pure.

``"10s" "1m30s" "500ms" "1.5h"`` become ``float`` seconds, ``"64KiB" "1.5MiB"``
become ``int`` bytes. A bare number is seconds or bytes. ``K``, ``M`` and ``G``
alone mean KiB, MiB and GiB; ``KB``, ``MB`` and ``GB`` are powers of 1000.
"""

import re
from decimal import Decimal

_NUMBER = r"[0-9]{1,15}(?:\.[0-9]{1,9})?"
_BARE = re.compile(_NUMBER)
_DURATION = re.compile(rf"(?:{_NUMBER}(?:ms|s|m|h|d))+")
_DURATION_PART = re.compile(rf"({_NUMBER})(ms|s|m|h|d)")
_SIZE = re.compile(rf"({_NUMBER}) ?([a-z]*)")

_SECONDS = {
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86400),
}
_BYTES = {
    "": 1,
    "b": 1,
    "k": 1024,
    "kib": 1024,
    "kb": 1000,
    "m": 1024**2,
    "mib": 1024**2,
    "mb": 1000**2,
    "g": 1024**3,
    "gib": 1024**3,
    "gb": 1000**3,
}
MAX_DURATION = 366 * 86400.0
"""Seconds; more is a slip of the pen, and timers of some loops overflow."""

_DURATION_HINT = "write a number with ms, s, m, h or d, such as 10s, 500ms or 1m30s"
_SIZE_HINT = "write a number with B, KiB, MiB or GiB, such as 64KiB"


def parse_duration(text: str) -> float:
    """Read a duration.

    Args:
        text: ``10s``, ``1m30s``, ``500ms``, ``1.5h``, or bare seconds.

    Returns:
        Seconds, from 0 to 366 days.

    Raises:
        ValueError: the text is no duration, or longer than 366 days.
    """
    bare = text.strip()
    if _BARE.fullmatch(bare):
        seconds = Decimal(bare)
    elif _DURATION.fullmatch(bare):
        parts = _DURATION_PART.findall(bare)
        seconds = sum((Decimal(n) * _SECONDS[unit] for n, unit in parts), Decimal(0))
    else:
        raise ValueError(f"{text!r} is not a duration; {_DURATION_HINT}")
    if seconds > MAX_DURATION:
        raise ValueError(f"{text!r} is longer than 366d; {_DURATION_HINT}")
    return float(seconds)


def parse_size(text: str) -> int:
    """Read a size.

    Args:
        text: ``64KiB``, ``1.5MiB``, ``1MB``, or bare bytes; case does not matter.

    Returns:
        Bytes.

    Raises:
        ValueError: the text is no size, or no whole number of bytes.
    """
    match = _SIZE.fullmatch(text.strip().lower())
    factor = _BYTES.get(match[2]) if match else None
    if match is None or factor is None:
        raise ValueError(f"{text!r} is not a size; {_SIZE_HINT}")
    size = Decimal(match[1]) * factor
    if size != int(size):
        raise ValueError(f"{text!r} is not a whole number of bytes; {_SIZE_HINT}")
    return int(size)


def format_duration(seconds: float) -> str:
    """Write seconds the short way: ``20s``, ``500ms``, ``10m``, ``1m30s``."""
    millis = round(seconds * 1000)
    if millis % 1000:
        return f"{millis}ms" if millis < 1000 else f"{millis / 1000:g}s"
    rest, out = millis // 1000, ""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        count, rest = divmod(rest, size)
        out += f"{count}{unit}" if count else ""
    return out + f"{rest}s" if rest or not out else out


def format_size(size: int) -> str:
    """Write bytes in the largest binary unit that divides them: ``32KiB``."""
    for unit, factor in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return f"{size}B"
