"""PROXY headers byte by byte; the examples are those of HAProxy's text."""

import contextlib
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastws.exceptions import RemoteProtocolError
from fastws.wire.proxy_protocol import (
    MAX_V1,
    MAX_V2,
    ProxyHeader,
    Version,
    decode_header,
    encode_header,
    may_start,
)

SIGNATURE = b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a"
A, B = ("192.168.0.1", 56324), ("192.168.0.11", 443)
A6, B6 = ("2001:db8::1", 65535), ("2001:db8::2", 0)
V1 = b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n"
V2 = SIGNATURE + b"\x21\x11\x00\x0c\xc0\xa8\x00\x01\xc0\xa8\x00\x0b\xdc\x04\x01\xbb"


def v2(command: int, family: int, body: bytes, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return SIGNATURE + bytes((command, family)) + size.to_bytes(2, "big") + body


@pytest.mark.parametrize(
    ("version", "source", "destination", "data"),
    [
        ("v1", A, B, V1),
        ("v1", A6, B6, b"PROXY TCP6 2001:db8::1 2001:db8::2 65535 0\r\n"),
        ("v1", None, None, b"PROXY UNKNOWN\r\n"),
        ("v1", None, B, b"PROXY UNKNOWN\r\n"),
        ("v1", A, None, b"PROXY TCP4 192.168.0.1 0.0.0.0 56324 0\r\n"),
        ("v1", A, B6, b"PROXY TCP6 ::ffff:192.168.0.1 2001:db8::2 56324 0\r\n"),
        ("v2", A, B, V2),
        ("v2", None, None, SIGNATURE + b"\x21\x00\x00\x00"),
        (
            "v2",
            A6,
            B6,
            SIGNATURE
            + b"\x21\x21\x00\x24"
            + bytes.fromhex("20010db8000000000000000000000001")
            + bytes.fromhex("20010db8000000000000000000000002")
            + b"\xff\xff\x00\x00",
        ),
    ],
)
def test_encode(
    version: Version,
    source: tuple[str, int] | None,
    destination: tuple[str, int] | None,
    data: bytes,
) -> None:
    assert encode_header(version, source, destination) == data


@pytest.mark.parametrize(
    ("data", "header"),
    [
        (V1, (A, B)),
        (b"PROXY TCP6 2001:DB8:0::1 2001:db8::2 65535 0\r\n", (A6, B6)),
        (b"PROXY TCP6 ::ffff:192.168.0.1 ::ffff:192.168.0.11 56324 443\r\n", (A, B)),
        (b"PROXY UNKNOWN\r\n", (None, None)),
        (b"PROXY UNKNOWN ffff:f...f:ffff 65535 65535\r\n", (None, None)),
        (V2, (A, B)),
        (v2(0x21, 0x11, V2[16:] + b"\x04\x00\x01\x00"), (A, B)),  # a TLV behind
        (v2(0x20, 0x00, b""), (None, None)),
        (v2(0x20, 0x11, V2[16:]), (None, None)),
        (v2(0x20, 0x99, b"?"), (None, None)),
        (v2(0x21, 0x00, b"tlv"), (None, None)),
        (v2(0x21, 0x31, bytes(216)), (None, None)),
        (
            v2(0x21, 0x21, (bytes(10) + b"\xff\xff\x01\x02\x03\x04") * 2 + bytes(4)),
            (("1.2.3.4", 0), ("1.2.3.4", 0)),
        ),
        (v2(0x20, 0x00, bytes(MAX_V2 - 16)), (None, None)),
    ],
)
def test_decode(data: bytes, header: tuple[object, object]) -> None:
    assert decode_header(data) == ProxyHeader(*header, len(data))  # type: ignore[arg-type]
    assert decode_header(data + b"GET /") == decode_header(data)
    for cut in range(len(data)):
        assert decode_header(data[:cut]) is None


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/1.1\r\n", "no PROXY header"),
        (b"PROXX ", "no PROXY header"),
        (b"PROXY\r\n", "no PROXY header"),
        (b"\r\n\r\n\x00\r\nQUIX\n", "no PROXY header"),
        (b"PROXY TCP4 1.2.3.4\n", "bare LF"),
        (b"PROXY " + b"x" * (MAX_V1 - 6), "over 107 bytes"),
        (b"PROXY UNKNOWN " + b"x" * (MAX_V1 - 15) + b"\r\n", "over 107 bytes"),
        (b"PROXY UDP4 1.2.3.4 1.2.3.5 1 2\r\n", "malformed PROXY header"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.5 1\r\n", "malformed PROXY header"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.5 1 2 3\r\n", "malformed PROXY header"),
        (b"PROXY TCP4  1.2.3.4 1.2.3.5 1 2\r\n", "malformed PROXY header"),
        (b"PROXY TCP4 1.2.3.\xff 1.2.3.5 1 2\r\n", "malformed PROXY header"),
        (b"PROXY TCP4 1.2.3 1.2.3.5 1 2\r\n", "address"),
        (b"PROXY TCP4 ::1 ::1 1 2\r\n", "address"),
        (b"PROXY TCP6 1.2.3.4 1.2.3.5 1 2\r\n", "address"),
        (b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", "address"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.5 65536 2\r\n", "port"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.5 1 02\r\n", "port"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.5 -1 2\r\n", "port"),
        (v2(0x11, 0x11, V2[16:]), "version or command 0x11"),
        (v2(0x22, 0x11, V2[16:]), "version or command 0x22"),
        (v2(0x21, 0x12, V2[16:]), "unknown address family 0x12"),
        (v2(0x21, 0x11, V2[16:-1]), "11 bytes for address family 0x11"),
        (v2(0x21, 0x21, bytes(35)), "35 bytes for address family 0x21"),
        (v2(0x21, 0x11, b"", MAX_V2 - 15), "4097 bytes, over 4096"),
        (v2(0x20, 0x00, b"", 65535), "over 4096"),
    ],
)
def test_reject(data: bytes, reason: str) -> None:
    with pytest.raises(RemoteProtocolError, match=reason) as caught:
        decode_header(data)
    assert caught.value.http_status == 400


@pytest.mark.parametrize(
    ("data", "starts"),
    [
        (b"", None),
        (b"P", None),
        (b"PROXY", None),
        (b"PROXY ", True),
        (b"POST ", False),
        (b"PRI * HTTP/2.0", False),
        (SIGNATURE[:11], None),
        (SIGNATURE, True),
        (b"\r\nGET", False),
        (b"\x16\x03", False),
    ],
)
def test_may_start(data: bytes, starts: bool | None) -> None:
    assert may_start(data) is starts


HOSTS = st.ip_addresses().filter(lambda ip: not getattr(ip, "ipv4_mapped", None))
PAIRS = st.tuples(HOSTS.map(str), st.integers(0, 65535))


@given(st.sampled_from(["v1", "v2"]), PAIRS, PAIRS, st.binary(max_size=64))
def test_what_is_written_is_read(
    version: Version, source: tuple[str, int], destination: tuple[str, int], rest: bytes
) -> None:
    data = encode_header(version, source, destination)
    assert decode_header(data + rest) == ProxyHeader(source, destination, len(data))


STARTS = st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 1.2.3.4 ", SIGNATURE, V2[:14]])


@given(STARTS, st.binary(max_size=5000))
def test_garbage_is_refused_or_waited_for(start: bytes, noise: bytes) -> None:
    data = start + noise
    with contextlib.suppress(RemoteProtocolError):
        header = decode_header(data)
        if header is None:
            assert len(data) < MAX_V2
        else:
            assert 0 < header.size <= min(len(data), MAX_V2)


OCTETS = st.one_of(
    st.integers(0, 300).map(str),
    st.sampled_from(["", "00", "01", "007", "0x1", "+1", "-0", "1a", "%"]),
)


@given(st.lists(OCTETS, min_size=3, max_size=5))
def test_an_ipv4_address_is_what_the_library_takes_for_one(octets: list[str]) -> None:
    text = ".".join(octets)
    data = f"PROXY TCP4 {text} 1.2.3.4 1 2\r\n".encode()
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        with pytest.raises(RemoteProtocolError, match="malformed"):
            decode_header(data)
    else:
        header = decode_header(data)
        assert header is not None
        assert header.source == (text, 1)
