"""HTTP/1 heads: read through llhttp with the rules llhttp leaves out; written by hand.

Source: RFC 9110, RFC 9112. The grammar is httptools' (llhttp): it refuses obs-fold,
bare CR and LF, Content-Length beside Transfer-Encoding or another Content-Length,
white space before a colon, and NUL. This module adds what llhttp lets through: two
Host fields, no Host, Transfer-Encoding in HTTP/1.0, a head without end, and a
Content-Length or Transfer-Encoding on a WebSocket upgrade, whose body would pass for
frames. Only heads are parsed here; what follows one is handed out untouched.
"""

import re

import httptools

from fastws._consts import MAX_FIELDS, MAX_HEAD, Side
from fastws.exceptions import LocalProtocolError, RemoteProtocolError
from fastws.typing import HeaderList
from fastws.wire.head import TCHAR, Head, build_request, encode_fields

__all__ = ["Head", "HeadReader", "build_head", "build_request", "build_response"]

_REASONS = {
    100: "Continue",
    101: "Switching Protocols",
    200: "OK",
    204: "No Content",
    206: "Partial Content",
    301: "Moved Permanently",
    302: "Found",
    304: "Not Modified",
    307: "Temporary Redirect",
    308: "Permanent Redirect",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    407: "Proxy Authentication Required",
    408: "Request Timeout",
    411: "Length Required",
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    417: "Expectation Failed",
    426: "Upgrade Required",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    505: "HTTP Version Not Supported",
    508: "Loop Detected",
}
_NO_BODY = (101, 204, 304)
_MAX_METHOD = 32
_TLS_RECORDS = (0x14, 0x15, 0x16, 0x17)  # RFC 8446 section 5.1: content types

_method_prefix = re.compile(rf"{TCHAR}{{1,{_MAX_METHOD}}}(?: |$)".encode()).match
_request_line = re.compile(rf"{TCHAR}+ [^ ]+ HTTP/\d\.\d".encode()).fullmatch
# RFC 9110 section 15: 100 to 599; what is above counts as one of 5xx.
_status_line = re.compile(rb"HTTP/\d\.\d [1-9]\d\d(?: .*)?").fullmatch
_bare_lf = re.compile(rb"(?<!\r)\n").search
_is_host = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^\s:/?#@\\,\[\]]*)(?::\d*)?").fullmatch
_bad_reason = re.compile(r"[^\t\x20-\x7e\x80-\xff]").search


class _Collector:
    """What llhttp calls back with, in wire order."""

    __slots__ = ("complete", "headers", "reason", "target")

    def __init__(self) -> None:
        self.complete = False
        self.target = b""
        self.reason = b""
        self.headers: list[tuple[str, str]] = []

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_status(self, reason: bytes) -> None:
        self.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append(
            (name.decode("latin-1"), value.strip(b" \t").decode("latin-1"))
        )

    def on_headers_complete(self) -> None:
        self.complete = True


class HeadReader:
    """Collects bytes until one head is complete. One task at a time, one head.

    A server reads a request, a client the answer to one; answers 100 to 199 other
    than 101 are skipped (RFC 9110 section 15.2) unless they are asked for. Input that
    cannot become a head is refused with its first bytes, never waited for. Memory: at
    most ``max_head`` and one read.

    Args:
        side: ours; ``Side.SERVER`` reads requests.
        max_head: bytes of the head (all heads, when some are skipped), CRLFs included.
        max_fields: fields of one head.
        interim: return answers 100 to 199 too, each like any other head.

    Attributes:
        leftover: bytes that came after the head; empty until it is complete.
    """

    __slots__ = (
        "_buffer",
        "_interim",
        "_max_fields",
        "_max_head",
        "_seen",
        "_side",
        "_skipped",
        "leftover",
    )

    def __init__(
        self,
        side: Side,
        *,
        max_head: int = MAX_HEAD,
        max_fields: int = MAX_FIELDS,
        interim: bool = False,
    ) -> None:
        self._side = side
        self._interim = interim
        self._max_head = max_head
        self._max_fields = max_fields
        self._buffer = b""
        self._seen = 0  # bytes of the buffer that hold no end of a head
        self._skipped = 0  # bytes of heads before this one
        self.leftover = b""

    def receive_data(self, data: bytes) -> Head | None:
        """Take the next bytes; return the head once it is complete, else ``None``.

        Args:
            data: copied; not to be called again after a head was returned.

        Raises:
            RemoteProtocolError: the bytes are no head we accept; ``http_status`` is
                what a server answers (``None`` on the client side). The reader is
                of no further use.
        """
        buffer = self._buffer + data
        if self._seen == 0 and buffer[:2] == b"\r\n" and self._side is Side.SERVER:
            buffer = buffer[2:]  # RFC 9112 section 2.2: one empty line is ignored
            self._seen = 1
        while True:
            end = buffer.find(b"\r\n\r\n", max(self._seen - 3, 0)) + 4
            if end == 3:
                self._keep(buffer)
                return None
            if self._skipped + end > self._max_head:
                raise self._too_long()
            head = self._parse(buffer[:end])
            status = head.status
            if status is None or status >= 200 or status == 101 or self._interim:
                self._buffer = b""
                self.leftover = buffer[end:]
                return head
            self._skipped += end
            buffer = buffer[end:]
            self._seen = 0

    def _keep(self, buffer: bytes) -> None:
        """Hold an unfinished head, unless it cannot become one."""
        self._check_start(buffer, self._seen)
        if self._skipped + len(buffer) > self._max_head:
            raise self._too_long()
        self._buffer = buffer
        if len(buffer) > 1:  # a lone CR may still become the ignored empty line
            self._seen = len(buffer)

    def _parse(self, data: bytes) -> Head:
        """Parse one complete head, ``data`` ending with its empty line."""
        if self._side is Side.SERVER:
            return self._parse_request(data)
        return self._parse_response(data)

    def _parse_request(self, data: bytes) -> Head:
        sink = _Collector()
        parser = httptools.HttpRequestParser(sink)
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # not an error: llhttp says that what follows is not HTTP
        except httptools.HttpParserError as exc:
            raise self._refused(data, exc) from None
        version = parser.get_http_version()
        self._check_parsed(data, version, sink)
        method = parser.get_method()
        if data.find(b"\r\n") != len(method) + len(sink.target) + 10:
            raise self._error(400, "HTTP request line is malformed")
        target = sink.target.decode("ascii")
        head = Head(method.decode("ascii"), target, version, None, "", sink.headers)
        self._check_request(head)
        return head

    def _parse_response(self, data: bytes) -> Head:
        if not data.startswith(b"HTTP/1."):  # llhttp skips empty lines
            raise self._refused(data, None)
        sink = _Collector()
        parser = httptools.HttpResponseParser(sink)
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # as above
        except httptools.HttpParserError as exc:
            # A 101 without Upgrade stops llhttp too: the handshake says what is wrong.
            if not sink.complete or parser.get_status_code() != 101:
                raise self._refused(data, exc) from None
        version = parser.get_http_version()
        self._check_parsed(data, version, sink)
        status = parser.get_status_code()
        if status < 100:
            raise self._refused(data, None)
        return Head(
            None, "", version, status, sink.reason.decode("latin-1"), sink.headers
        )

    def _check_parsed(self, data: bytes, version: str, sink: _Collector) -> None:
        if version != "1.1" and version != "1.0":
            raise self._refused(data, None)
        if len(sink.headers) > self._max_fields:
            raise self._error(431, f"HTTP head with over {self._max_fields} fields")

    def _check_request(self, head: Head) -> None:
        """Refuse what llhttp lets through: RFC 9112 sections 3.2 and 6.1."""
        hosts = head.get_all("host")
        if len(hosts) != 1:
            if hosts:
                raise self._error(400, "HTTP request with more than one Host field")
            if head.version == "1.1":
                raise self._error(400, "HTTP/1.1 request without a Host field")
        elif not _is_host(hosts[0]):
            raise self._error(400, f"HTTP request with a malformed Host: {hosts[0]!r}")
        coding = head.get_all("transfer-encoding")
        length = head.get_all("content-length")
        if not coding and not length:
            return
        if coding and head.version == "1.0":
            raise self._error(400, "Transfer-Encoding in an HTTP/1.0 request")
        if head.method == "CONNECT":
            if coding or length != ["0"]:  # "0" is sent by clients in the field
                raise self._error(400, "CONNECT request with a body")
        elif head.has_token("upgrade", "websocket"):
            name = "Transfer-Encoding" if coding else "Content-Length"
            raise self._error(400, f"{name} on a WebSocket upgrade")

    def _check_start(self, buffer: bytes, seen: int) -> None:
        """Refuse bytes that no continuation turns into a head we accept."""
        if len(buffer) > 0 and buffer[0] in _TLS_RECORDS and buffer[1:2] in b"\x03":
            raise self._error(400, "TLS on a plain port")
        if self._side is Side.SERVER:
            prefix = buffer[: _MAX_METHOD + 1]
            known = buffer == b"\r" or _method_prefix(prefix) is not None
            line_form, what = _request_line, "request"
        else:
            known = buffer.startswith(b"HTTP/1."[: len(buffer)])
            line_form, what = _status_line, "response"
        if buffer and not known:
            raise self._error(400, f"not an HTTP/1 {what}: {buffer[:16]!r}")
        if _bare_lf(buffer, seen):
            raise self._error(400, f"HTTP {what} with a bare LF")
        end = buffer.find(b"\r\n")
        if end >= 0 and not line_form(buffer, 0, end):
            raise self._error(400, f"HTTP {what} line is malformed")

    def _refused(
        self, data: bytes, exc: httptools.HttpParserError | None
    ) -> RemoteProtocolError:
        """Say why a complete head was refused, with the status to answer."""
        try:
            self._check_start(data, 0)
        except RemoteProtocolError as error:
            return error
        line = data[: data.find(b"\r\n")]
        if self._side is Side.SERVER and not line.endswith((b"/1.1", b"/1.0")):
            return self._error(505, f"HTTP version {line[-3:].decode()} in a request")
        if isinstance(exc, httptools.HttpParserInvalidMethodError):
            method = line.partition(b" ")[0].decode()
            return self._error(501, f"HTTP method {method} is not known")
        return self._error(400, f"malformed HTTP head: {exc or 'version'}")

    def _too_long(self) -> RemoteProtocolError:
        return self._error(431, f"HTTP head over {self._max_head} bytes")

    def _error(self, status: int, reason: str) -> RemoteProtocolError:
        answer = status if self._side is Side.SERVER else None
        return RemoteProtocolError(reason, http_status=answer)


def build_response(
    status: int,
    headers: HeaderList = (),
    body: bytes = b"",
    *,
    reason: str | None = None,
) -> bytes:
    """Return a whole response that ends its connection.

    ``Content-Length`` and ``Connection: close`` are added unless ``headers`` names
    them; 101, 204 and 304 get no Content-Length, 101 no Connection either.

    Args:
        status: 100 to 599.
        headers: fields in order.
        body: copied behind the head.
        reason: phrase; the usual one for ``status`` when ``None``.

    Raises:
        LocalProtocolError: a field or the reason holds CR, LF, NUL or another
            character that would break the head, or a 101, 204 or 304 has a body.
    """
    if body and status in _NO_BODY:
        raise LocalProtocolError(f"an HTTP {status} response has no body")
    given = {name.lower() for name, _ in headers}
    lines = _start(status, headers, reason)
    if status not in _NO_BODY and "content-length" not in given:
        lines += f"Content-Length: {len(body)}\r\n"
    if status != 101 and "connection" not in given:
        # RFC 9110 section 7.8: Upgrade is always a connection option as well.
        option = ", Upgrade" if "upgrade" in given else ""
        lines += f"Connection: close{option}\r\n"
    return f"{lines}\r\n".encode("latin-1") + body


def build_head(
    status: int, headers: HeaderList = (), *, reason: str | None = None
) -> bytes:
    """Return the head of a response, ended by its empty line; adds no field.

    Args:
        status: 100 to 599.
        headers: fields in order.
        reason: phrase; the usual one for ``status`` when ``None``.

    Raises:
        LocalProtocolError: as for :func:`build_response`.
    """
    return f"{_start(status, headers, reason)}\r\n".encode("latin-1")


def _start(status: int, headers: HeaderList, reason: str | None) -> str:
    """The status line and the fields."""
    phrase = _REASONS.get(status, "") if reason is None else reason
    if _bad_reason(phrase):
        raise LocalProtocolError(f"HTTP reason {phrase!r} holds a forbidden character")
    return f"HTTP/1.1 {status} {phrase}\r\n{encode_fields(headers)}"
