"""One HTTP/1 head as data, and the check every outgoing field passes.

Source: RFC 9110 section 5 (fields), RFC 9112 sections 3 and 4.
"""

import re

from fastws.exceptions import LocalProtocolError
from fastws.typing import HeaderList

TCHAR = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
"""RFC 9110 section 5.6.2: one character of a token, as a regular expression."""

is_token = re.compile(rf"{TCHAR}+").fullmatch
"""Match a whole string that is a token (RFC 9110 section 5.6.2)."""

_bad_value = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]").search
_bad_target = re.compile(r"[^\x21-\x7e]").search


class Head:
    """The head of one request or response. One task at a time.

    Attributes:
        method: request method as sent, ``None`` in a response.
        target: request target as sent, empty in a response.
        version: ``"1.0"`` or ``"1.1"``.
        status: response status, ``None`` in a request.
        reason: response reason phrase, may be empty.
        headers: fields in wire order, names as written, values without outer white
            space, both as latin-1 text. Not to be changed after the first look-up.
    """

    __slots__ = ("_index", "headers", "method", "reason", "status", "target", "version")

    def __init__(
        self,
        method: str | None = None,
        target: str = "",
        version: str = "1.1",
        status: int | None = None,
        reason: str = "",
        headers: list[tuple[str, str]] | None = None,
    ) -> None:
        self.method = method
        self.target = target
        self.version = version
        self.status = status
        self.reason = reason
        self.headers: list[tuple[str, str]] = [] if headers is None else headers
        self._index: dict[str, list[str]] | None = None

    def __repr__(self) -> str:
        start = f"{self.method} {self.target}" if self.status is None else self.status
        return f"<Head {start} HTTP/{self.version}, {len(self.headers)} fields>"

    def get_all(self, name: str) -> list[str]:
        """Return the values of all fields called ``name``, in wire order."""
        index = self._index
        if index is None:
            index = {}
            for key, value in self.headers:
                key = key.lower()
                if key in index:
                    index[key].append(value)
                else:
                    index[key] = [value]
            self._index = index
        return index.get(name.lower(), [])

    def get(self, name: str) -> str | None:
        """Return the value of ``name``; repeated fields are joined by ``", "``.

        Source: RFC 9110 section 5.3. ``None`` when the field is absent.
        """
        values = self.get_all(name)
        if len(values) == 1:
            return values[0]
        return ", ".join(values) if values else None

    def get_tokens(self, name: str) -> list[str]:
        """Return the elements of a list field, in order, without empty ones."""
        parts = [part for value in self.get_all(name) for part in value.split(",")]
        return [part for raw in parts if (part := raw.strip(" \t"))]

    def has_token(self, name: str, token: str) -> bool:
        """Tell whether the list field ``name`` holds ``token``, in any case."""
        token = token.lower()
        for value in self.get_all(name):
            value = value.lower()
            if value == token:
                return True
            if "," in value and token in [v.strip(" \t") for v in value.split(",")]:
                return True
        return False


def encode_fields(fields: HeaderList) -> str:
    """Format ``fields`` as the lines of a head, each ended by CRLF.

    Source: RFC 9110 section 5.5: CR, LF and NUL in a value would start a new field.

    Raises:
        LocalProtocolError: a name is no token, or a value holds a control
            character or one outside latin-1.
    """
    lines = []
    for name, value in fields:
        if not is_token(name):
            raise LocalProtocolError(f"HTTP field name {name!r} is not a token")
        if _bad_value(value) or not (value.isascii() or _is_latin1(value)):
            raise LocalProtocolError(
                f"HTTP field {name} holds a character that is not allowed: {value!r}"
            )
        lines.append(f"{name}: {value}\r\n")
    return "".join(lines)


def build_request(method: str, target: str, headers: HeaderList) -> bytes:
    """Return an HTTP/1.1 request head, ended by its empty line; adds no field.

    Raises:
        LocalProtocolError: the method is no token, the target is empty or holds white
            space, a control or a non-ASCII character, or a field is invalid.
    """
    if not is_token(method):
        raise LocalProtocolError(f"HTTP method {method!r} is not a token")
    if not target or _bad_target(target):
        raise LocalProtocolError(f"HTTP target {target!r} holds a forbidden character")
    head = f"{method} {target} HTTP/1.1\r\n{encode_fields(headers)}\r\n"
    return head.encode("latin-1")


def _is_latin1(value: str) -> bool:
    return max(value) <= "\xff"
