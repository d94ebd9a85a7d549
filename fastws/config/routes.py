"""Which request goes where: routes and token files. Pure.

A token file is websockify's: ``token: host:port`` a line, ``#`` begins a comment
line. Several are one after the other, as a directory of them is there.
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Self

import msgspec

from fastws.config import fields as f
from fastws.config.endpoint import Target, is_ip

_ROUTE_HINT = "write /PATH=TARGET or HOST/PATH=TARGET; /PATH/* is everything below it"
_REMEMBERED = 65536  # targets, of some 400 bytes
_SPLIT = re.compile(r":\s+")
_surrogate = re.compile("[\ud800-\udfff]").search


class Route(msgspec.Struct, frozen=True):
    """Requests for one path, or for everything below it, and their target.

    Attributes:
        host: Host of the request, lower case, with or without a port; empty for any.
        path: compared with the request's path as it was sent. That of a prefix ends
            in ``/``.
        is_prefix: matches every path that starts with ``path``.
        target: the service to connect to.
        text: as written.
    """

    host: str
    path: str
    is_prefix: bool
    target: Target
    text: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``/path=TARGET``, ``/path/*=TARGET``, both also behind a host.

        Raises:
            ValueError: another form.
        """
        bare = text.strip()
        where, equals, target = bare.partition("=")
        host, slash, rest = where.partition("/")
        if not equals or not slash:
            raise ValueError(f"{text!r} is not a route; {_ROUTE_HINT}")
        path = "/" + rest
        is_prefix = path.endswith("/*")
        if is_prefix:
            path = path.removesuffix("*")
        if "*" in path or "*" in host:
            raise ValueError(f"{text!r}: a * stands at the end, after /; {_ROUTE_HINT}")
        f.parse_path(path)
        if host:
            host = f.parse_host(host).lower()
        return cls(host, path, is_prefix, Target.parse(target), bare)

    @property
    def pattern(self) -> str:
        """What requests are compared with, as written: ``host/path/*``."""
        return f"{self.host}{self.path}{'*' if self.is_prefix else ''}"

    def __str__(self) -> str:
        return self.text


def find_clash(routes: Sequence[Route]) -> str | None:
    """The pattern that two routes share, ``None`` when there is none."""
    seen = set()
    for route in routes:
        if route.pattern in seen:
            return route.pattern
        seen.add(route.pattern)
    return None


class BrokenLine(msgspec.Struct, frozen=True):
    """A line of a token file that says nothing usable.

    Attributes:
        number: of the line, from 1.
        reason: what is wrong; never repeats the token.
    """

    number: int
    reason: str


def parse_tokens(text: str) -> Iterator[tuple[str, Target] | BrokenLine]:
    """Read a token file: every usable line, and every broken one.

    Args:
        text: the whole file; what was not UTF-8 stands in it as lone surrogates.

    Yields:
        Token and target, or a :class:`BrokenLine`.
    """
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip().removeprefix("\ufeff")
        if not line or line.startswith("#"):
            continue
        if not line.isascii() and _surrogate(line):
            yield BrokenLine(number, "is not UTF-8")
            continue
        token, *rest = _SPLIT.split(line)
        if len(rest) != 1 or not token:
            yield BrokenLine(number, "write 'token: host:port'")
            continue
        try:
            yield token, parse_target(rest[0])
        except ValueError as error:
            yield BrokenLine(number, str(error))


@lru_cache(maxsize=_REMEMBERED)
def parse_target(text: str) -> Target:
    """Read a target as websockify writes it, or as we do; ``ValueError``: neither.

    Remembered: a file that changes is read again while connections wait, and most of
    its lines are the same.
    """
    if text.startswith("unix_socket:"):
        return Target.parse("unix:" + text.removeprefix("unix_socket:"))
    host, _, port = text.rpartition(":")
    if ":" in host and is_ip(host):  # websockify takes IPv6 without brackets
        text = f"[{host}]:{port}"
    return Target.parse(text)
