"""What a client speaks, told from the first bytes it sends."""

from enum import Enum


class Sniffed(Enum):
    """What the first bytes look like."""

    TLS = "tls"
    HTTP = "http"
    SOCKS5 = "socks5"
    UNKNOWN = "unknown"


_TLS_HANDSHAKE = 0x16  # RFC 8446 section 5.1
_SOCKS5 = 5  # RFC 1928 section 3


def sniff(data: bytes) -> Sniffed | None:
    """Tell what ``data`` starts; ``None`` while it is empty.

    One byte is enough: a TLS handshake record, a SOCKS version and a method name
    have none in common. A second byte that cannot follow makes it unknown.
    """
    if not data:
        return None
    first = data[0]
    if first == _TLS_HANDSHAKE:
        return Sniffed.TLS if data[1:2] in (b"", b"\x03") else Sniffed.UNKNOWN
    if first == _SOCKS5:
        return Sniffed.SOCKS5
    # RFC 9110 section 9.1: a method is a token, by custom of capital letters;
    # RFC 9112 section 2.2: an empty line may come before it.
    if data[:1].isalpha() or data[:2] in (b"\r", b"\r\n"):
        return Sniffed.HTTP
    return Sniffed.UNKNOWN
