"""First bytes of real protocols, and of none."""

import pytest

from fastws.wire.sniff import Sniffed, sniff


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", None),
        (b"\x16", Sniffed.TLS),
        (b"\x16\x03\x01\x02\x00\x01", Sniffed.TLS),
        (b"\x16\x02", Sniffed.UNKNOWN),
        (b"G", Sniffed.HTTP),
        (b"GET / HTTP/1.1\r\n", Sniffed.HTTP),
        (b"\r", Sniffed.HTTP),
        (b"\r\nGET /", Sniffed.HTTP),
        (b"\x05\x01\x00", Sniffed.SOCKS5),
        (b"\x04\x01", Sniffed.UNKNOWN),
        (b"\x80\x2e", Sniffed.UNKNOWN),
        (b"\xc4GET", Sniffed.UNKNOWN),
        (b"\n", Sniffed.UNKNOWN),
        (b"\r\r", Sniffed.UNKNOWN),
    ],
)
def test_first_bytes(data: bytes, what: Sniffed | None) -> None:
    assert sniff(data) is what
