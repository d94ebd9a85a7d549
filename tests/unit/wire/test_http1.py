"""HTTP heads: RFC 9110, RFC 9112, and the rules llhttp leaves out."""

import pytest

from fastws._consts import MAX_FIELDS, MAX_HEAD, Side
from fastws.exceptions import LocalProtocolError, RemoteProtocolError
from fastws.wire.http1 import Head, HeadReader, build_head, build_response

UPGRADE = (
    b"GET /chat?room=1 HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Origin: http://example.com\r\nSec-WebSocket-Version: 13\r\n"
)
TLS_HELLO = bytes.fromhex("16030100f4010000f00303")


def read_request(data: bytes, **limits: int) -> Head:
    head = HeadReader(Side.SERVER, **limits).receive_data(data)
    assert head is not None
    return head


def read_response(data: bytes) -> Head:
    head = HeadReader(Side.CLIENT).receive_data(data)
    assert head is not None
    return head


def refuse(data: bytes, side: Side = Side.SERVER, **limits: int) -> RemoteProtocolError:
    reader = HeadReader(side, **limits)
    with pytest.raises(RemoteProtocolError) as caught:
        reader.receive_data(data)
    return caught.value


def test_accept_request():
    reader = HeadReader(Side.SERVER)
    head = reader.receive_data(UPGRADE + b"\r\n\x81\x80")
    assert head is not None
    assert (head.method, head.target, head.version) == ("GET", "/chat?room=1", "1.1")
    assert (head.status, head.reason) == (None, "")
    assert head.headers == [
        ("Host", "server.example.com"),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Origin", "http://example.com"),
        ("Sec-WebSocket-Version", "13"),
    ]
    assert reader.leftover == b"\x81\x80"
    assert repr(head) == "<Head GET /chat?room=1 HTTP/1.1, 6 fields>"


def test_accept_response():
    reader = HeadReader(Side.CLIENT)
    head = reader.receive_data(b"HTTP/1.0 404 Not  here\r\nServer: x\r\n\r\nno such")
    assert head is not None
    assert (head.method, head.target, head.version) == (None, "", "1.0")
    assert (head.status, head.reason) == (404, "Not  here")
    assert head.headers == [("Server", "x")]
    assert reader.leftover == b"no such"
    assert repr(head) == "<Head 404 HTTP/1.0, 1 fields>"


def test_accept_response_without_reason():
    assert read_response(b"HTTP/1.1 200\r\n\r\n").reason == ""


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
def test_accept_request_in_pieces(size):
    data = b"\r\n" + UPGRADE + b"\r\n"
    reader = HeadReader(Side.SERVER)
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    for piece in pieces[:-1]:
        assert reader.receive_data(piece) is None
        assert reader.leftover == b""
    head = reader.receive_data(pieces[-1])
    assert head is not None
    assert head.headers == read_request(data).headers
    assert reader.leftover == b""


def test_accept_empty_input():
    assert HeadReader(Side.SERVER).receive_data(b"") is None
    assert HeadReader(Side.CLIENT).receive_data(b"") is None


def test_accept_one_empty_line_before_a_request():
    assert read_request(b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").target == "/"


@pytest.mark.parametrize("cut", [1, 2, 3, 4])
def test_reject_two_empty_lines_before_a_request(cut):
    reader = HeadReader(Side.SERVER)
    with pytest.raises(RemoteProtocolError, match="not an HTTP/1 request"):
        for piece in (b"\r\n\r\n"[:cut], b"\r\n\r\n"[cut:]):
            reader.receive_data(piece)


def test_reject_empty_line_before_a_response():
    assert "not an HTTP/1 response" in str(refuse(b"\r\nHTTP", Side.CLIENT))


@pytest.mark.parametrize("status", [100, 102, 103])
def test_accept_response_behind_informational_ones(status):
    reader = HeadReader(Side.CLIENT)
    first = f"HTTP/1.1 {status} Wait\r\nLink: x\r\n\r\n".encode()
    assert reader.receive_data(first) is None
    head = reader.receive_data(first + b"HTTP/1.1 101 Go\r\n\r\nrest")
    assert head is not None
    assert head.status == 101
    assert reader.leftover == b"rest"


def test_reject_endless_informational_responses():
    one = b"HTTP/1.1 100 Continue\r\n\r\n"
    error = refuse(one * 5, Side.CLIENT, max_head=4 * len(one))
    assert str(error) == f"HTTP head over {4 * len(one)} bytes"
    reader = HeadReader(Side.CLIENT, max_head=4 * len(one))
    assert reader.receive_data(one * 4) is None


def test_accept_values_with_outer_white_space_and_latin1():
    head = read_request(b"GET / HTTP/1.1\r\nHost: a\r\nX: \t a\xe9 b \t \r\nE:\r\n\r\n")
    assert head.get("x") == "a\xe9 b"
    assert head.get("e") == ""


class TestNotHttp:
    """What cannot become a head is refused with its first bytes."""

    @pytest.mark.parametrize("count", [1, 2, 3, 11])
    def test_reject_tls_client_hello(self, count):
        error = refuse(TLS_HELLO[:count])
        assert error.http_status == 400
        assert "TLS on a plain port" in str(error)

    def test_reject_tls_alert_from_a_server(self):
        error = refuse(b"\x15\x03\x01\x00\x02\x02\x46", Side.CLIENT)
        assert error.http_status is None
        assert "TLS on a plain port" in str(error)

    def test_reject_tls_with_an_empty_line_inside(self):
        assert "TLS" in str(refuse(TLS_HELLO + b"\r\n\r\n"))

    @pytest.mark.parametrize(
        "data",
        [
            b"\x05\x01\x00",
            b"\x04\x01\x00\x50",
            b"\x16\x05",
            b"\x00",
            b"\xff",
            b" GET",
            b"\rX",
            b"\n",
            b"{",
            b"A" * 33,
            b"A" * 33 + b" / HTTP/1.1\r\n\r\n",
        ],
        ids=repr,
    )
    def test_reject_garbage_at_once(self, data):
        error = refuse(data)
        assert error.http_status == 400
        assert str(error).startswith("not an HTTP/1 request: b")

    def test_accept_start_of_a_method_of_32_letters(self):
        assert HeadReader(Side.SERVER).receive_data(b"A" * 32) is None
        assert HeadReader(Side.SERVER).receive_data(b"A" * 32 + b" /") is None

    def test_reject_first_line_of_another_protocol(self):
        error = refuse(b"SSH-2.0-OpenSSH_9.2p1 Debian\r\n")
        assert str(error) == "HTTP request line is malformed"

    @pytest.mark.parametrize("data", [b"\x00\x00\x12\x04", b"HTTQ", b"GET", b"HTTP/2"])
    def test_reject_garbage_from_a_server(self, data):
        error = refuse(data, Side.CLIENT)
        assert error.http_status is None
        assert str(error) == f"not an HTTP/1 response: {data!r}"

    @pytest.mark.parametrize("count", range(1, 13))
    def test_accept_any_start_of_a_response(self, count):
        reader = HeadReader(Side.CLIENT)
        assert reader.receive_data(b"HTTP/1.1 101"[:count]) is None

    @pytest.mark.parametrize("end", [b"1o1 Go\r\n", b"099 Low\r\n", b"099 Low\r\n\r\n"])
    def test_reject_malformed_status_line(self, end):
        error = refuse(b"HTTP/1.1 " + end, Side.CLIENT)
        assert str(error) == "HTTP response line is malformed"

    def test_reject_response_of_another_minor_version(self):
        error = refuse(b"HTTP/1.7 200 OK\r\n\r\n", Side.CLIENT)
        assert error.http_status is None

    @pytest.mark.parametrize("cut", [0, 5, 15, 16, 17, 24])
    def test_reject_bare_lf_without_waiting(self, cut):
        data = b"GET / HTTP/1.1\r\nHost: a\n"
        reader = HeadReader(Side.SERVER)
        with pytest.raises(RemoteProtocolError, match="bare LF"):
            for piece in (data[:cut], data[cut:]):
                reader.receive_data(piece)

    def test_reject_bare_lf_as_first_line_end(self):
        assert "bare LF" in str(refuse(b"GET / HTTP/1.1\n"))


class TestGrammar:
    """RFC 9112 sections 2, 3 and 5."""

    @pytest.mark.parametrize(
        ("line", "status"),
        [
            (b"GET / HTTP/2.0", 505),
            (b"PRI * HTTP/2.0", 505),
            (b"GET / HTTP/1.9", 505),
            (b"GET / HTTP/0.9", 505),
            (b"BREW / HTTP/1.1", 501),
            (b"get / HTTP/1.1", 501),
            (b"GET /", 400),
            (b"GET  / HTTP/1.1", 400),
            (b"GET /  HTTP/1.1", 400),
            (b"GET / HTTP/1.1 ", 400),
            (b"GET / a HTTP/1.1", 400),
            (b"GET /\xc3\xa9 HTTP/1.1", 400),
            (b"GET HTTP/1.1", 400),
            (b"GET", 400),
        ],
        ids=repr,
    )
    def test_reject_request_line(self, line, status):
        assert refuse(line + b"\r\nHost: a\r\n\r\n").http_status == status

    @pytest.mark.parametrize(
        "field",
        [
            b"A: b\r\n c",
            b"A : b",
            b" A: b",
            b"A",
            b": b",
            b"A;: b",
            b"A: b\x00",
            b"A: b\x01c",
            b"A: b\rc",
            b"A: b\nc",
            b"Content-Length: 1\r\nContent-Length: 1",
            b"Content-Length: 1\r\nContent-Length: 2",
            b"Content-Length: 1, 1",
            b"Content-Length: -1",
            b"Content-Length: 1\r\nTransfer-Encoding: chunked",
            b"Transfer-Encoding: chunked\r\nContent-Length: 1",
            b"Transfer-Encoding: chunked, identity",
        ],
        ids=repr,
    )
    def test_reject_field(self, field):
        error = refuse(b"POST / HTTP/1.1\r\nHost: a\r\n" + field + b"\r\n\r\n")
        assert error.http_status == 400

    def test_accept_body_framing(self):
        head = read_request(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
        assert head.get("content-length") == "1"
        head = read_request(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        assert head.get("transfer-encoding") == "chunked"


class TestHost:
    """RFC 9112 section 3.2."""

    def test_reject_two(self):
        error = refuse(b"GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n")
        assert error.http_status == 400
        assert str(error) == "HTTP request with more than one Host field"

    def test_reject_two_in_http_1_0(self):
        assert (
            refuse(b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n").http_status == 400
        )

    def test_reject_none(self):
        error = refuse(b"GET / HTTP/1.1\r\n\r\n")
        assert error.http_status == 400
        assert str(error) == "HTTP/1.1 request without a Host field"

    def test_accept_none_in_http_1_0(self):
        assert read_request(b"OPTIONS * HTTP/1.0\r\n\r\n").version == "1.0"

    @pytest.mark.parametrize(
        "host", ["a", "a.example:80", "[::1]", "[::1]:80", "", "127.0.0.1:", "a_b"]
    )
    def test_accept(self, host):
        data = f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
        assert read_request(data).get("Host") == host

    @pytest.mark.parametrize(
        "host", ["a b", "a/b", "u@a", "a, b", "a:b", "::1", "a?b", "[a", "a#b", "a\\b"]
    )
    def test_reject(self, host):
        data = f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
        assert refuse(data).http_status == 400


class TestSmuggling:
    """RFC 9112 sections 6.1 and 11.2."""

    def test_reject_transfer_encoding_in_http_1_0(self):
        error = refuse(
            b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        assert error.http_status == 400
        assert str(error) == "Transfer-Encoding in an HTTP/1.0 request"

    @pytest.mark.parametrize("length", [b"0", b"5"])
    def test_reject_content_length_on_upgrade(self, length):
        error = refuse(UPGRADE + b"Content-Length: " + length + b"\r\n\r\nhello")
        assert error.http_status == 400
        assert str(error) == "Content-Length on a WebSocket upgrade"

    def test_reject_transfer_encoding_on_upgrade(self):
        error = refuse(UPGRADE + b"Transfer-Encoding: chunked\r\n\r\n")
        assert error.http_status == 400
        assert str(error) == "Transfer-Encoding on a WebSocket upgrade"

    def test_accept_content_length_beside_another_upgrade(self):
        head = read_request(
            b"POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"
            b"Content-Length: 2\r\n\r\nhi"
        )
        assert head.get("upgrade") == "h2c"

    def test_accept_connect(self):
        reader = HeadReader(Side.SERVER)
        head = reader.receive_data(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n\x16\x03")
        assert head is not None
        assert (head.method, head.target) == ("CONNECT", "a:1")
        assert reader.leftover == b"\x16\x03"

    def test_accept_connect_with_empty_body(self):
        data = b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nContent-Length: 0\r\n\r\n"
        assert read_request(data).method == "CONNECT"

    @pytest.mark.parametrize(
        "field", [b"Content-Length: 1", b"Transfer-Encoding: chunked"]
    )
    def test_reject_connect_with_body(self, field):
        data = b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n" + field + b"\r\n\r\n"
        assert str(refuse(data)) == "CONNECT request with a body"


class TestLimits:
    @staticmethod
    def request_of(size: int) -> bytes:
        start, end = b"GET / HTTP/1.1\r\nHost: a\r\nA: ", b"\r\n\r\n"
        return start + b"x" * (size - len(start) - len(end)) + end

    def test_accept_longest_head(self):
        data = self.request_of(MAX_HEAD)
        assert len(data) == MAX_HEAD
        assert len(read_request(data + b"more").headers) == 2

    def test_reject_longer_head(self):
        error = refuse(self.request_of(MAX_HEAD + 1))
        assert error.http_status == 431
        assert str(error) == f"HTTP head over {MAX_HEAD} bytes"

    def test_reject_longer_head_without_waiting_for_its_end(self):
        reader = HeadReader(Side.SERVER, max_head=100)
        assert reader.receive_data(self.request_of(200)[:100]) is None
        with pytest.raises(RemoteProtocolError) as caught:
            reader.receive_data(b"x")
        assert caught.value.http_status == 431

    def test_accept_most_fields(self):
        data = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * (MAX_FIELDS - 1)
        assert len(read_request(data + b"\r\n").headers) == MAX_FIELDS

    def test_reject_more_fields(self):
        data = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * MAX_FIELDS + b"\r\n"
        error = refuse(data)
        assert error.http_status == 431
        assert str(error) == f"HTTP head with over {MAX_FIELDS} fields"

    def test_limits_are_arguments(self):
        data = b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n\r\n"
        read_request(data, max_head=len(data), max_fields=2)
        assert refuse(data, max_head=len(data) - 1).http_status == 431
        assert refuse(data, max_fields=1).http_status == 431


class TestBuildResponse:
    def test_length_and_close_are_added(self):
        assert build_response(404, [("Server", "x")], b"no\n") == (
            b"HTTP/1.1 404 Not Found\r\nServer: x\r\nContent-Length: 3\r\n"
            b"Connection: close\r\n\r\nno\n"
        )

    def test_empty_body_has_length_zero(self):
        assert b"\r\nContent-Length: 0\r\n" in build_response(503)

    @pytest.mark.parametrize("status", [204, 304])
    def test_no_length_without_body(self, status):
        assert b"Content-Length" not in build_response(status)
        assert build_response(status).endswith(b"\r\nConnection: close\r\n\r\n")

    def test_switching_protocols_has_neither(self):
        assert build_response(101, [("Connection", "Upgrade")]) == (
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\n"
        )

    def test_given_fields_are_kept(self):
        answer = build_response(200, [("content-length", "9"), ("CONNECTION", "x")])
        assert answer == (
            b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\nCONNECTION: x\r\n\r\n"
        )

    def test_upgrade_is_a_connection_option_too(self):
        answer = build_response(426, [("Upgrade", "websocket")])
        assert b"\r\nConnection: close, Upgrade\r\n" in answer

    def test_reason(self):
        assert build_response(299, reason="My Way").startswith(
            b"HTTP/1.1 299 My Way\r\n"
        )
        assert build_response(299).startswith(b"HTTP/1.1 299 \r\n")

    @pytest.mark.parametrize("reason", ["a\r\nb", "a\nb", "a\0", "\u20ac"])
    def test_reject_reason(self, reason):
        with pytest.raises(LocalProtocolError):
            build_response(200, reason=reason)

    @pytest.mark.parametrize("status", [101, 204, 304])
    def test_reject_body(self, status):
        with pytest.raises(LocalProtocolError):
            build_response(status, body=b"x")

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("A\r\nB", "x"),
            ("A\nB", "x"),
            ("A\0", "x"),
            ("A:", "x"),
            ("", "x"),
            ("A\n", "x"),
            ("A", "x\r\nB: y"),
            ("A", "x\ry"),
            ("A", "x\n"),
            ("A", "x\0"),
            ("A", "x\x7f"),
            ("A", "\u20ac"),
        ],
    )
    def test_reject_header_injection(self, name, value):
        with pytest.raises(LocalProtocolError):
            build_response(200, [(name, value)])


def test_interim_answers_are_returned_when_asked_for():
    data = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    reader = HeadReader(Side.CLIENT, interim=True)
    head = reader.receive_data(data + b"HTTP/1.1 200 OK\r\n\r\n")
    assert head is not None
    assert head.status == 100
    reader = HeadReader(Side.CLIENT, interim=True, max_head=len(data))
    assert reader.receive_data(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n") is None
    head = reader.receive_data(b"\r\nHTTP/1.1 200 OK\r\n\r\n")
    assert head is not None
    assert (head.status, head.headers) == (103, [("Link", "x")])
    assert reader.leftover == b"HTTP/1.1 200 OK\r\n\r\n"


def test_build_head_adds_nothing():
    assert build_head(200, [("A", "b")]) == b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n"
    assert build_head(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert build_head(299, reason="So \xe9") == b"HTTP/1.1 299 So \xe9\r\n\r\n"


@pytest.mark.parametrize(
    ("reason", "headers"), [("a\r\nb", []), ("", [("A", "b\r\nc")])]
)
def test_reject_head_that_would_break(reason, headers):
    with pytest.raises(LocalProtocolError):
        build_head(200, headers, reason=reason)


@pytest.mark.parametrize("size", [1, 2, 100])
def test_response_starts_with_its_status_line(size: int) -> None:
    wire = b"\r\nHTTP/1.1 101 Go\r\nUpgrade: websocket\r\n\r\n"
    reader = HeadReader(Side.CLIENT)
    with pytest.raises(RemoteProtocolError, match="not an HTTP/1 response"):
        for at in range(0, len(wire), size):
            reader.receive_data(wire[at : at + size])
