"""HTTP/1 bodies: where one ends, and its bytes without and with chunk framing.

Source: RFC 9112 sections 6 and 7. :mod:`fastws.wire.http1` parses the head that
decides; two parsers that disagree about a body's end let one smuggle requests past the
other, so whatever is not plainly one framing is refused, never repaired. Bodies are
handed on as they arrive: written by hand, because llhttp would call back for each
piece and wants to parse the head too.
"""

import re
from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from fastws._consts import MAX_FIELDS, MAX_HEAD
from fastws.exceptions import LocalProtocolError, RemoteProtocolError
from fastws.typing import HeaderList
from fastws.wire.head import TCHAR, Head, encode_fields

MAX_CHUNK_LINE = 4096
"""Bytes of one chunk-size line; a peer has no use for more."""

MAX_EXTENSIONS = 16 * 1024
"""Bytes of all chunk extensions of a body (RFC 9112 section 7.1.1)."""

_FEW = 4096  # bytes up to which copying costs no more than a view

Piece = bytes | memoryview
"""Some payload; a view is of memory that nobody changes."""

_MAX_DIGITS = 18  # of a Content-Length: below 2**63, as counters elsewhere have it

_length = re.compile(r"[0-9]+").fullmatch
# RFC 9112 section 7.1: chunk-size [ chunk-ext ]; 15 hex digits stay below 2**63.
_size_line = re.compile(
    rb"([0-9A-Fa-f]{1,15})((?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?)"
).fullmatch
_size_prefix = re.compile(
    rb"[0-9A-Fa-f]{1,15}[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?"
).fullmatch
_trailer_line = re.compile(
    rf"({TCHAR}+):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*".encode()
).fullmatch
_NO_BODY = (204, 304)


class Framing(Enum):
    """How the end of a body is told (RFC 9112 section 6.3)."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"


class Extent(NamedTuple):
    """The framing of one body.

    Attributes:
        framing: how its end is told.
        length: bytes, of ``Framing.LENGTH`` only; at least 1.
    """

    framing: Framing
    length: int = 0


NO_BODY = Extent(Framing.NONE)


def request_extent(head: Head) -> Extent:
    """Where the body of a request ends.

    Args:
        head: accepted by ``HeadReader``, not a CONNECT.

    Raises:
        RemoteProtocolError: with ``http_status`` 400, or 501 for a transfer coding
            other than chunked (RFC 9112 section 6.1).
    """
    try:
        return _extent(head) or NO_BODY
    except _UnknownCodingError as error:
        raise RemoteProtocolError(error.reason, http_status=501) from None
    except RemoteProtocolError as error:
        raise RemoteProtocolError(error.reason, http_status=400) from None


def response_extent(head: Head, method: str | None) -> Extent:
    """Where the body of a response ends.

    Args:
        head: of the response.
        method: of the request that it answers.

    Raises:
        RemoteProtocolError: its framing is contradictory or unknown.
    """
    status = head.status or 0
    if method == "HEAD" or status < 200 or status in _NO_BODY:
        return NO_BODY  # whatever its fields say
    if method == "CONNECT" and status < 300:
        return NO_BODY
    return _extent(head) or Extent(Framing.CLOSE)


class _UnknownCodingError(RemoteProtocolError):
    """A transfer coding that we do not speak."""


def _extent(head: Head) -> Extent | None:
    """What the fields say; ``None`` when there are none."""
    codings = [value.lower() for value in head.get_tokens("transfer-encoding")]
    lengths = head.get_all("content-length")
    if head.get_all("transfer-encoding"):
        # RFC 9112 section 6.3: either could be meant, and somebody would choose
        # the other; section 6.1: whoever speaks 1.0 did not write the field.
        if lengths:
            raise RemoteProtocolError("Content-Length beside Transfer-Encoding")
        if head.version == "1.0":
            raise RemoteProtocolError("Transfer-Encoding in HTTP/1.0")
        if codings != ["chunked"]:
            what = ", ".join(codings)
            raise _UnknownCodingError(f"transfer coding {what!r} is not known")
        return Extent(Framing.CHUNKED)
    if not lengths:
        return None
    value = lengths[0]
    if len(lengths) > 1 or not _length(value) or len(value) > _MAX_DIGITS:
        raise RemoteProtocolError(f"malformed Content-Length: {', '.join(lengths)!r}")
    return Extent(Framing.LENGTH, int(value)) if int(value) else NO_BODY


class _State(Enum):
    """What comes next in a chunked body (RFC 9112 section 7.1)."""

    SIZE = "a chunk size"
    DATA = "chunk data"
    END = "the end of a chunk"
    TRAILERS = "the trailer section"


class BodyReader:
    """Takes the framing off one body. One task at a time.

    Memory: an unfinished line; payload is handed out with the call that brought it,
    large pieces as views of what came.

    Args:
        extent: how the body ends.

    Attributes:
        is_complete: all of it came; at once without a body.
        leftover: bytes after the body; empty until it is complete.
        trailers: fields after a chunked body, names as written.
    """

    __slots__ = (
        "_extensions",
        "_framing",
        "_held",
        "_left",
        "_state",
        "is_complete",
        "leftover",
        "trailers",
    )

    def __init__(self, extent: Extent) -> None:
        self._framing = extent.framing
        self._left = extent.length  # bytes of the body or of this chunk
        self._state = _State.SIZE
        self._held = b""
        self._extensions = 0
        self.is_complete = extent.framing is Framing.NONE
        self.leftover = b""
        self.trailers: list[tuple[str, str]] = []

    def receive_data(self, data: bytes) -> list[Piece]:
        """Return the payload in the next bytes, in order; may be empty.

        Args:
            data: at least 1 byte, retained by the pieces; not to be called again
                once the body is complete.

        Raises:
            RemoteProtocolError: the framing is broken, ``http_status`` is 400; the
                reader is of no further use.
        """
        if self._framing is Framing.LENGTH:
            size = len(data)
            left = self._left
            self._left = max(left - size, 0)
            self.is_complete = size >= left
            if size <= left:
                return [data]
            self.leftover = data[left:]
            return [data[:left]]
        if self._framing is Framing.CHUNKED:
            return self._receive_chunks(data)
        return [data]

    def receive_eof(self) -> None:
        """The peer sends nothing more: the end of a close-delimited body.

        Raises:
            RemoteProtocolError: any other body was cut off (RFC 9112 section 8).
        """
        if self._framing is Framing.CLOSE:
            self.is_complete = True
        if not self.is_complete:
            raise RemoteProtocolError("the body was cut off", http_status=400)

    def _receive_chunks(self, data: bytes) -> list[Piece]:
        if self._held:
            data = self._held + data
            self._held = b""
        payload: list[Piece] = []
        view = memoryview(data)
        at, size = 0, len(data)
        while at < size and not self.is_complete:
            if self._state is _State.DATA:
                taken = min(self._left, size - at)
                few = taken < _FEW
                payload.append((data if few else view)[at : at + taken])
                at += taken
                self._left -= taken
                if not self._left:
                    self._state = _State.END
                continue
            end = data.find(b"\r\n", at)
            if end < 0:
                self._hold(data[at:])
                at = size
                break
            self._receive_line(data[at:end])
            at = end + 2
        if self.is_complete:
            self.leftover = data[at:]
        return payload

    def _receive_line(self, line: bytes) -> None:
        if self._state is _State.SIZE:
            match = _size_line(line)
            if match is None or len(line) > MAX_CHUNK_LINE:
                raise self._error(f"malformed chunk size: {line[:32]!r}")
            digits, extension = match.groups()
            self._extensions += len(extension)
            if self._extensions > MAX_EXTENSIONS:
                raise self._error(f"chunk extensions over {MAX_EXTENSIONS} bytes")
            self._left = int(digits, 16)
            self._state = _State.DATA if self._left else _State.TRAILERS
            if not self._left:
                self._extensions = 0  # from here on: bytes of trailers
        elif self._state is _State.END:
            if line:
                raise self._error("a chunk is longer than its size")
            self._state = _State.SIZE
        else:
            self._receive_trailer(line)

    def _receive_trailer(self, line: bytes) -> None:
        if not line:
            self.is_complete = True
            return
        self._extensions += len(line) + 2
        if self._extensions > MAX_HEAD or len(self.trailers) >= MAX_FIELDS:
            raise self._error("HTTP trailers are too long", 431)
        match = _trailer_line(line)
        if match is None:
            raise self._error(f"malformed HTTP trailer: {line[:32]!r}")
        name, value = match.groups()
        self.trailers.append((name.decode("ascii"), value.decode("latin-1")))

    def _hold(self, rest: bytes) -> None:
        """Keep an unfinished line, unless it cannot become one."""
        state = self._state
        most = MAX_CHUNK_LINE if state is _State.SIZE else MAX_HEAD
        if state is _State.END and rest != b"\r":
            raise self._error("a chunk is longer than its size")
        line = rest.removesuffix(b"\r")
        if state is _State.SIZE and line and _size_prefix(line) is None:
            raise self._error(f"malformed chunk size: {line[:32]!r}")
        if len(line) > most:
            raise self._error(f"no end of {state.value} within {most} bytes")
        self._held = rest

    def _error(self, reason: str, status: int = 400) -> RemoteProtocolError:
        return RemoteProtocolError(reason, http_status=status)


def encode_chunk(pieces: Sequence[Piece]) -> list[Piece]:
    """One chunk around ``pieces``; nothing around nothing, which would be the end."""
    size = sum(map(len, pieces))
    return [b"%x\r\n" % size, *pieces, b"\r\n"] if size else []


def encode_end(trailers: HeaderList = ()) -> bytes:
    """The last chunk and the trailer section.

    Raises:
        LocalProtocolError: a field holds what would break the framing.
    """
    return f"0\r\n{encode_fields(trailers)}\r\n".encode("latin-1")


class BodyWriter:
    """Puts the framing around one body. One task at a time.

    Args:
        extent: how it ends; ``Framing.CLOSE`` leaves that to the connection.
    """

    __slots__ = ("_framing", "_left")

    def __init__(self, extent: Extent) -> None:
        self._framing = extent.framing
        self._left = extent.length

    def encode(self, pieces: Sequence[Piece]) -> list[Piece]:
        """What to write for the next payload, which may be empty.

        Raises:
            LocalProtocolError: it is more than was announced.
        """
        if self._framing is Framing.CHUNKED:
            return encode_chunk(pieces)
        if self._framing is not Framing.CLOSE:
            self._left -= sum(map(len, pieces))
            if self._left < 0:
                raise LocalProtocolError("the body is longer than announced")
        return list(pieces)

    def finish(self, trailers: HeaderList = ()) -> bytes:
        """What to write at the end; trailers need chunks, and are dropped else.

        Raises:
            LocalProtocolError: the body is shorter than announced.
        """
        if self._framing is Framing.CHUNKED:
            return encode_end(trailers)
        if self._left > 0:
            raise LocalProtocolError("the body is shorter than announced")
        return b""
