"""How the values of options are written and shown. Pure."""

from collections.abc import Callable
from typing import Any, TypedDict

import msgspec

from fastws.config import fields as f
from fastws.config.forward import parse_pseudonym
from fastws.config.units import (
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)


class Kind(msgspec.Struct, frozen=True):
    """How a value is written.

    Attributes:
        metavar: stands for the value in help texts.
        parse: text to value; ``ValueError`` says what would be right.
        show: value to text, for defaults.
    """

    metavar: str
    parse: Callable[[str], Any] = str
    show: Callable[[Any], str] = str


class Row(TypedDict, total=False):
    """Arguments of :class:`fastws.config.options.Option`, for rows in other files."""

    flag: str
    kind: Kind
    group: str
    help: str
    secret: bool
    off: bool
    default: Any


def parse_count(text: str) -> int:
    """Read a whole number; ``ValueError`` for anything else."""
    if not (text.isascii() and text.isdigit()) or len(text) > 15:
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


def choice(metavar: str, *names: str) -> Kind:
    """A kind that admits these words, in any case."""

    def parse(text: str) -> str:
        word = text.strip().lower()
        if word not in names:
            raise ValueError(
                f"{text!r} is none of them; write {', '.join(names[:-1])}"
                f" or {names[-1]}"
            )
        return word

    return Kind(metavar, parse)


FLAG = Kind("")
FILE = Kind("FILE")
HOST = Kind("HOST", f.parse_host)
NAME = Kind("NAME", f.parse_server_name)
ORIGIN = Kind("ORIGIN", f.parse_origin)
TIME = Kind("TIME", parse_duration, format_duration)
SIZE = Kind("SIZE", parse_size, format_size)
PSEUDONYM = Kind("NAME", parse_pseudonym)
