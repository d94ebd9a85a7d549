"""HTTP bodies: RFC 9112 sections 6 and 7."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastws._consts import MAX_FIELDS, MAX_HEAD
from fastws.exceptions import LocalProtocolError, RemoteProtocolError
from fastws.wire.body import (
    MAX_CHUNK_LINE,
    MAX_EXTENSIONS,
    NO_BODY,
    BodyReader,
    BodyWriter,
    Extent,
    Framing,
    encode_chunk,
    encode_end,
    request_extent,
    response_extent,
)
from fastws.wire.head import Head

CHUNKED = Extent(Framing.CHUNKED)
CLOSE = Extent(Framing.CLOSE)
BODY = (
    b"4\r\nWiki\r\n"
    b'5;a="1;2"; b\r\npedia\r\n'
    b"0E \t;\r\n in\r\n\r\nchunks.\r\n"
    b"0\r\nExpires: Wed, 21 Oct 2026\r\nX: \t y \r\n\r\n"
)
TRAILERS = [("Expires", "Wed, 21 Oct 2026"), ("X", "y")]


def fields(*headers: tuple[str, str], version: str = "1.1") -> Head:
    return Head("POST", "/", version, None, "", list(headers))


def answer(status: int, *headers: tuple[str, str], version: str = "1.1") -> Head:
    return Head(None, "", version, status, "", list(headers))


def length(value: str) -> tuple[str, str]:
    return ("Content-Length", value)


def coding(value: str) -> tuple[str, str]:
    return ("Transfer-Encoding", value)


# -- where a body ends -------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "extent"),
    [
        (fields(), NO_BODY),
        (fields(length("0")), NO_BODY),
        (fields(length("007")), Extent(Framing.LENGTH, 7)),
        (fields(length("9" * 18)), Extent(Framing.LENGTH, 10**18 - 1)),
        (fields(coding("chunked")), CHUNKED),
        (fields(coding("Chunked")), CHUNKED),
    ],
    ids=["none", "zero", "length", "long", "chunked", "case"],
)
def test_extent_of_request(head, extent):
    assert request_extent(head) == extent


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (fields(coding("chunked"), length("3")), 400),
        (fields(length("3"), length("3")), 400),
        (fields(length("3, 3")), 400),
        (fields(length("+3")), 400),
        (fields(length("0x3")), 400),
        (fields(length("")), 400),
        (fields(length("³")), 400),
        (fields(length("9" * 19)), 400),
        (fields(coding("chunked"), version="1.0"), 400),
        (fields(coding("gzip, chunked")), 501),
        (fields(coding("chunked"), coding("chunked")), 501),
        (fields(coding("")), 501),
        (fields(coding("identity")), 501),
    ],
    ids=[
        *("both", "twice", "list", "sign", "hex", "empty", "superscript", "too-long"),
        *("http10", "gzip", "chunked-twice", "no-coding", "identity"),
    ],
)
def test_reject_extent_of_request(head, status):
    with pytest.raises(RemoteProtocolError) as caught:
        request_extent(head)
    assert caught.value.http_status == status


@pytest.mark.parametrize(
    ("head", "method", "extent"),
    [
        (answer(200, length("3")), "GET", Extent(Framing.LENGTH, 3)),
        (answer(200, coding("chunked")), "GET", CHUNKED),
        (answer(200), "GET", CLOSE),
        (answer(200, length("3")), "HEAD", NO_BODY),
        (answer(200, coding("gzip")), "HEAD", NO_BODY),
        (answer(103, length("3")), "GET", NO_BODY),
        (answer(101), "GET", NO_BODY),
        (answer(204, length("3")), "GET", NO_BODY),
        (answer(304, length("3")), "GET", NO_BODY),
        (answer(200, coding("chunked")), "CONNECT", NO_BODY),
        (answer(407, length("3")), "CONNECT", Extent(Framing.LENGTH, 3)),
    ],
)
def test_extent_of_response(head, method, extent):
    assert response_extent(head, method) == extent


@pytest.mark.parametrize(
    "head",
    [
        answer(200, coding("chunked"), length("3")),
        answer(200, length("3"), length("4")),
        answer(200, coding("chunked"), version="1.0"),
        answer(200, coding("gzip, chunked")),
    ],
    ids=["both", "two-lengths", "http10", "gzip"],
)
def test_reject_extent_of_response(head):
    with pytest.raises(RemoteProtocolError) as caught:
        response_extent(head, "GET")
    assert caught.value.http_status is None


# -- reading -----------------------------------------------------------------------


def read(extent: Extent, data: bytes, cuts: list[int]) -> tuple[bytes, BodyReader]:
    """Feed ``data``, cut at these offsets, up to the body's end."""
    reader = BodyReader(extent)
    payload, start = b"", 0
    for end in [*sorted({cut for cut in cuts if 0 < cut < len(data)}), len(data)]:
        if reader.is_complete:
            reader.leftover += data[start:end]
        elif end > start:
            assert reader.leftover == b""
            payload += b"".join(reader.receive_data(data[start:end]))
        start = end
    return payload, reader


@given(st.lists(st.integers(1, len(BODY) + 8)))
def test_chunks_in_any_pieces(cuts):
    payload, reader = read(CHUNKED, BODY + b"GET / HT", cuts)
    assert payload == b"Wikipedia in\r\n\r\nchunks."
    assert reader.is_complete
    assert reader.trailers == TRAILERS
    assert reader.leftover == b"GET / HT"


def test_chunks_byte_by_byte():
    payload, reader = read(CHUNKED, BODY + b"GET", list(range(len(BODY) + 3)))
    assert payload == b"Wikipedia in\r\n\r\nchunks."
    assert (reader.trailers, reader.leftover) == (TRAILERS, b"GET")


def test_payload_is_handed_out_before_its_chunk_ends():
    reader = BodyReader(CHUNKED)
    assert reader.receive_data(b"a\r\n123") == [b"123"]
    assert reader.receive_data(b"456789") == [b"456789"]
    assert not reader.is_complete


@given(st.lists(st.integers(1, 8)))
def test_length_in_any_pieces(cuts):
    payload, reader = read(Extent(Framing.LENGTH, 5), b"12345GET", cuts)
    assert (payload, reader.leftover) == (b"12345", b"GET")
    assert reader.is_complete
    reader.receive_eof()


def test_no_body_is_complete():
    assert BodyReader(NO_BODY).is_complete


def test_body_until_close():
    reader = BodyReader(CLOSE)
    assert reader.receive_data(b"0\r\n\r\n") == [b"0\r\n\r\n"]
    assert not reader.is_complete
    reader.receive_eof()
    assert reader.is_complete


@pytest.mark.parametrize(
    ("extent", "data"),
    [
        (Extent(Framing.LENGTH, 5), b"1234"),
        (CHUNKED, b"3\r\nabc\r\n"),
        (CHUNKED, b"3\r\nabc\r\n0\r\n"),
        (CHUNKED, b"3\r\nab"),
    ],
    ids=["length", "no-last-chunk", "no-trailers", "in-chunk"],
)
def test_reject_body_cut_off(extent, data):
    reader = BodyReader(extent)
    reader.receive_data(data)
    with pytest.raises(RemoteProtocolError, match="cut off") as caught:
        reader.receive_eof()
    assert caught.value.http_status == 400
    assert not reader.is_complete


BAD_CHUNKS = {
    "no-size": b"\r\nabc",
    "sign": b"-1\r\n",
    "plus": b"+3\r\nabc\r\n",
    "prefix": b"0x3\r\nabc\r\n",
    "underscore": b"1_0\r\n",
    "space-before": b" 3\r\nabc\r\n",
    "space-after": b"3 \r\nabc\r\n",
    "word": b"xyz\r\n",
    "bare-lf": b"3\nabc\n",
    "bare-lf-in-extension": b"3;a\nb\r\nabc\r\n",
    "bare-cr-in-extension": b"3;a\rb\r\nabc\r\n",
    "nul-in-extension": b"3;a\0\r\nabc\r\n",
    "sixteen-digits": b"1000000000000000\r\n",
    "leading-zeros": b"0000000000000003\r\n",
    "too-much": b"3\r\nabcd\r\n",
    "no-crlf": b"3\r\nabc0\r\n\r\n",
    "lf-after-data": b"3\r\nabc\n0\r\n\r\n",
    "trailer-no-colon": b"0\r\nabc\r\n\r\n",
    "trailer-space-before-colon": b"0\r\na : b\r\n\r\n",
    "trailer-fold": b"0\r\na: b\r\n c\r\n\r\n",
    "trailer-nul": b"0\r\na: \0\r\n\r\n",
    "trailer-bare-lf": b"0\r\na: b\nc: d\r\n\r\n",
    "trailer-no-name": b"0\r\n: b\r\n\r\n",
}


@pytest.mark.parametrize("data", BAD_CHUNKS.values(), ids=BAD_CHUNKS)
def test_reject_chunk(data):
    for cuts in ([], list(range(len(data)))):
        with pytest.raises(RemoteProtocolError) as caught:
            read(CHUNKED, data, cuts)
        assert caught.value.http_status == 400


def test_reject_bad_size_before_its_line_ends():
    with pytest.raises(RemoteProtocolError, match="chunk size"):
        BodyReader(CHUNKED).receive_data(b"xy")


def test_limit_of_chunk_line():
    line = b"0;" + b"x" * (MAX_CHUNK_LINE - 2)
    read(CHUNKED, line + b"\r\n\r\n", [])
    for data in (line + b"x\r\n\r\n", line + b"xy"):
        with pytest.raises(RemoteProtocolError):
            read(CHUNKED, data, [])


def test_limit_of_chunk_extensions():
    chunk = b"1;" + b"x" * 1023 + b"\r\n.\r\n"
    most = MAX_EXTENSIONS // 1024
    payload, reader = read(CHUNKED, chunk * most + b"0\r\n\r\n", [])
    assert (len(payload), reader.is_complete) == (most, True)
    with pytest.raises(RemoteProtocolError, match="extensions"):
        read(CHUNKED, chunk * most + b"0;\r\n\r\n", [])


def test_limit_of_trailer_fields():
    _, reader = read(CHUNKED, b"0\r\n" + b"a: b\r\n" * MAX_FIELDS + b"\r\n", [])
    assert len(reader.trailers) == MAX_FIELDS
    with pytest.raises(RemoteProtocolError) as caught:
        read(CHUNKED, b"0\r\n" + b"a: b\r\n" * (MAX_FIELDS + 1) + b"\r\n", [])
    assert caught.value.http_status == 431


def test_limit_of_trailer_bytes():
    line = b"a: " + b"x" * (MAX_HEAD - 5) + b"\r\n"
    read(CHUNKED, b"0\r\n" + line + b"\r\n", [])
    with pytest.raises(RemoteProtocolError) as caught:
        read(CHUNKED, b"0\r\nb" + line + b"\r\n", [])
    assert caught.value.http_status == 431
    with pytest.raises(RemoteProtocolError):
        read(CHUNKED, b"0\r\n" + b"x" * (MAX_HEAD + 1), [])


# -- writing -----------------------------------------------------------------------


def test_write_chunks():
    writer = BodyWriter(CHUNKED)
    pieces = writer.encode([b"hello", memoryview(b" world, hi!")])
    assert b"".join(pieces) == b"10\r\nhello world, hi!\r\n"
    assert writer.encode([]) == writer.encode([b""]) == []
    assert writer.finish([("X", "y")]) == b"0\r\nX: y\r\n\r\n"


def test_write_until_close():
    writer = BodyWriter(CLOSE)
    assert writer.encode([b"abc"]) == [b"abc"]
    assert writer.finish([("X", "y")]) == b""


def test_write_length():
    writer = BodyWriter(Extent(Framing.LENGTH, 5))
    assert writer.encode([b"abc"]) == [b"abc"]
    with pytest.raises(LocalProtocolError, match="shorter"):
        writer.finish()
    assert writer.encode([b"d", b"e"]) == [b"d", b"e"]
    assert writer.finish() == b""
    with pytest.raises(LocalProtocolError, match="longer"):
        writer.encode([b"f"])


def test_reject_trailer_that_would_break_the_framing():
    with pytest.raises(LocalProtocolError):
        encode_end([("X", "y\r\n\r\nGET")])


def test_large_payload_is_not_copied():
    data = b"4000\r\n" + bytes(0x4000) + b"\r\n1"
    (piece,) = BodyReader(CHUNKED).receive_data(data)
    assert isinstance(piece, memoryview)
    assert (piece.obj is data, bytes(piece)) == (True, bytes(0x4000))


@given(st.lists(st.binary(max_size=40)), st.lists(st.integers(1, 300)))
def test_what_is_written_is_read(parts, cuts):
    data = b"".join(b"".join(encode_chunk([part])) for part in parts)
    data += encode_end(TRAILERS)
    payload, reader = read(CHUNKED, data, cuts)
    assert payload == b"".join(parts)
    assert (reader.is_complete, reader.trailers) == (True, TRAILERS)
