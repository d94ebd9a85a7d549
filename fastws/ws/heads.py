"""Requests and answers of opening handshakes, with the names of ``websockets``."""

import sys
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field

from fastws._version import __version__
from fastws.typing import HeaderList
from fastws.wire.head import Head, encode_fields
from fastws.wire.http1 import build_response

PRODUCT = f"Python/{sys.version_info[0]}.{sys.version_info[1]} fastws/{__version__}"
"""How both sides call themselves (RFC 9110 section 10): User-Agent and Server."""

HeadersLike = Mapping[str, str] | Iterable[tuple[str, str]]
"""What hooks and callers may give as fields."""


class Headers(MutableMapping[str, str]):
    """HTTP fields, looked up in any case.

    ``headers[name]`` joins repeated fields by ``", "`` (RFC 9110 section 5.3);
    ``headers[name] = value`` adds one behind those that are there. ``str()`` of it is
    what is sent, with the empty line at the end.

    Args:
        fields: in wire order, or a mapping (copied).
        more: further fields.
    """

    __slots__ = ("_head",)

    def __init__(self, fields: HeadersLike = (), **more: str) -> None:
        self._head = Head(headers=[*pairs_of(fields), *more.items()])

    def __getitem__(self, name: str) -> str:
        value = self._head.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def __setitem__(self, name: str, value: str) -> None:
        """Add a field.

        Raises:
            LocalProtocolError: it holds what would break the head.
        """
        encode_fields([(name, value)])
        self._head = Head(headers=[*self._head.headers, (name, value)])

    def __delitem__(self, name: str) -> None:
        """Drop all fields called ``name``."""
        if name not in self:
            raise KeyError(name)
        rest = [pair for pair in self._head.headers if pair[0].lower() != name.lower()]
        self._head = Head(headers=rest)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._head.get(name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name.lower() for name, _ in self._head.headers))

    def __len__(self) -> int:
        return len({name.lower() for name, _ in self._head.headers})

    def __repr__(self) -> str:
        return f"Headers({self._head.headers!r})"

    def __str__(self) -> str:
        return "".join(f"{name}: {value}\r\n" for name, value in self.raw_items()) + (
            "\r\n"
        )

    def copy(self) -> "Headers":
        """The same fields, to be changed by themselves."""
        return Headers(self)

    def serialize(self) -> bytes:
        """As they are sent, with the empty line at the end."""
        return str(self).encode("latin-1")

    def update(  # type: ignore[override]
        self, fields: HeadersLike = (), /, **more: str
    ) -> None:
        """Add fields, each as by ``headers[name] = value``."""
        for name, value in [*pairs_of(fields), *more.items()]:
            self[name] = value

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


@dataclass(slots=True)
class Request:
    """The client's request.

    Attributes:
        path: path and query.
        headers: all fields.
        method: ``GET`` for a WebSocket.
    """

    path: str
    headers: Headers
    method: str = "GET"


@dataclass(slots=True)
class Response:
    """An answer to it, which ``process_response`` may change.

    Attributes:
        status_code: HTTP status.
        reason_phrase: may be empty.
        headers: all fields.
        body: of an answer other than 101; at most 1 MiB of it, when received.
    """

    status_code: int
    reason_phrase: str = ""
    headers: Headers = field(default_factory=Headers)
    body: bytes = b""


def request_of(
    target: str,
    host: str,
    *,
    origin: str | None,
    subprotocols: Sequence[str],
    extensions: str | None,
    headers: HeaderList,
) -> Request:
    """A client's request without the fields that every upgrade has."""
    fields = [("Host", host)]
    if origin is not None:
        fields.append(("Origin", origin))
    if subprotocols:
        fields.append(("Sec-WebSocket-Protocol", ", ".join(subprotocols)))
    if extensions is not None:
        fields.append(("Sec-WebSocket-Extensions", extensions))
    return Request(target, Headers([*fields, *headers]))


def response_of(
    status: int, reason: str, fields: HeaderList, body: bytes = b""
) -> Response:
    """An answer as hooks and callers see it."""
    return Response(status, reason, Headers(fields), body)


def encode_response(response: Response) -> bytes:
    """An answer as it is sent, also a 101.

    Raises:
        LocalProtocolError: a field holds what would break the head.
    """
    return build_response(
        response.status_code,
        list(response.headers.raw_items()),
        response.body,
        reason=response.reason_phrase or None,
    )
