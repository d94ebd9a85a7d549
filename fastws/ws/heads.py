"""Requests and answers of opening handshakes, with the names of ``websockets``."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from fastws.typing import HeaderList
from fastws.wire.head import Head

HeadersLike = Mapping[str, str] | Iterable[tuple[str, str]]
"""What hooks and callers may give as fields."""


class Headers(Mapping[str, str]):
    """HTTP fields, looked up in any case. Not to be changed.

    Source: RFC 9110 section 5.3: repeated fields are joined by ``", "``.

    Args:
        fields: in wire order, or a mapping.
    """

    __slots__ = ("_head",)

    def __init__(self, fields: HeadersLike = ()) -> None:
        self._head = Head(headers=pairs_of(fields))

    def __getitem__(self, name: str) -> str:
        value = self._head.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._head.get(name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name.lower() for name, _ in self._head.headers))

    def __len__(self) -> int:
        return len({name.lower() for name, _ in self._head.headers})

    def __repr__(self) -> str:
        return f"Headers({self._head.headers!r})"

    def get_all(self, name: str) -> list[str]:
        """The values of all fields called ``name``, in wire order."""
        return list(self._head.get_all(name))

    def raw_items(self) -> Iterator[tuple[str, str]]:
        """All fields as they were written, in wire order."""
        return iter(self._head.headers)


def pairs_of(fields: HeadersLike | None) -> list[tuple[str, str]]:
    """Fields as a list, in wire order."""
    if fields is None:
        return []
    if isinstance(fields, Headers):
        return list(fields.raw_items())
    return list(fields.items() if isinstance(fields, Mapping) else fields)


@dataclass(frozen=True, slots=True)
class Request:
    """The client's request.

    Attributes:
        path: path and query.
        headers: all fields.
    """

    path: str
    headers: Headers


@dataclass(frozen=True, slots=True)
class Response:
    """An answer to it.

    Attributes:
        status_code: HTTP status.
        reason_phrase: may be empty.
        headers: all fields.
        body: of an answer other than 101; the first bytes of it, when received.
    """

    status_code: int
    reason_phrase: str = ""
    headers: Headers = field(default_factory=Headers)
    body: bytes = b""


def response_of(
    status: int, reason: str, fields: HeaderList, body: bytes = b""
) -> Response:
    """An answer as hooks and callers see it."""
    return Response(status, reason, Headers(fields), body)
