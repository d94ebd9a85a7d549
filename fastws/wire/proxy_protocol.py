"""The PROXY protocol, versions 1 and 2, both directions.

Source: HAProxy, doc/proxy-protocol.txt (2020/03/05). A front end that relays bytes
says in one header, before anything else, who connected to it and where. Only streams
over IP carry addresses here: whatever else a header describes (LOCAL, UNKNOWN, unix
sockets) means that the connection's own addresses count, as the text asks for.
"""

import re
from functools import lru_cache
from ipaddress import AddressValueError, IPv6Address
from typing import Literal, NamedTuple, TypeAlias

from fastws.exceptions import RemoteProtocolError

Version: TypeAlias = Literal["v1", "v2"]
HostPort: TypeAlias = tuple[str, int]

MAX_V1 = 107
"""Bytes of a version 1 header with its CRLF (section 2.1)."""

MAX_V2 = 4096
"""Bytes of a version 2 header that we read: addresses, and TLVs that are skipped."""

_V1 = b"PROXY "
_V2 = b"\r\n\r\n\0\r\nQUIT\n"
_V2_HEAD = 16
_LOCAL, _PROXY = 0x20, 0x21
_UNSPEC, _TCP4, _TCP6, _UNIX = 0x00, 0x11, 0x21, 0x31
_SIZES = {_UNSPEC: 0, _TCP4: 12, _TCP6: 36, _UNIX: 216}
_MAPPED = bytes(10) + b"\xff\xff"
_MAPPED_TEXT = "::ffff:"

_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = rf"{_OCTET}(?:\.{_OCTET}){{3}}"
_is_ipv4 = re.compile(_IPV4).fullmatch
_PORT = "(0|[1-9][0-9]{0,4})"
_is_port = re.compile(_PORT).fullmatch
# What most front ends send, in one look.
_tcp4 = re.compile(
    rf"PROXY TCP4 ({_IPV4}) ({_IPV4}) {_PORT} {_PORT}\r\n".encode()
).match


class ProxyHeader(NamedTuple):
    """What a front end said about one connection.

    Attributes:
        source: who connected to it; ``None``: it does not say, or asks by itself.
        destination: the address that was connected to, present with ``source``.
        size: bytes of the header, its end included.
    """

    source: HostPort | None
    destination: HostPort | None
    size: int


def may_start(data: bytes) -> bool | None:
    """Tell whether ``data`` starts with a header; ``None``: too short to tell."""
    for mark in (_V1, _V2):
        if data.startswith(mark):
            return True
        if mark.startswith(data):
            return None
    return False


def decode_header(data: bytes) -> ProxyHeader | None:
    """Read the header at the start of ``data``.

    Args:
        data: all bytes of the connection so far; more may follow the header.

    Returns:
        The header, or ``None`` while it is incomplete.

    Raises:
        RemoteProtocolError: there is none, or it is malformed or over-long;
            ``http_status`` is 400.
    """
    if data.startswith(_V1):
        return _decode_v1(data)
    if data.startswith(_V2):
        return _decode_v2(data)
    if may_start(data) is None:
        return None
    raise _error(f"no PROXY header: {data[:16]!r}")


def encode_header(
    version: Version, source: HostPort | None, destination: HostPort | None
) -> bytes:
    """Write a header.

    Args:
        version: ``v1`` is text, ``v2`` binary.
        source: who connected, an IP literal without scope; ``None``: unknown.
        destination: where to; ``None`` is written as the unspecified address.
            IPv4 beside IPv6 is written as a mapped address.
    """
    if source is None:
        if version == "v1":
            return b"PROXY UNKNOWN\r\n"
        return _V2 + bytes((_PROXY, _UNSPEC, 0, 0))
    if destination is None:
        destination = ("::" if ":" in source[0] else "0.0.0.0", 0)
    pair = source[0], destination[0]
    if ":" in pair[0] + pair[1]:
        family, pair = _TCP6, (_as_v6(pair[0]), _as_v6(pair[1]))
    else:
        family = _TCP4
    if version == "v1":
        name = "TCP6" if family == _TCP6 else "TCP4"
        text = f"PROXY {name} {pair[0]} {pair[1]} {source[1]} {destination[1]}\r\n"
        return text.encode("ascii")
    addresses = _pack(pair[0]) + _pack(pair[1])
    ports = source[1].to_bytes(2, "big") + destination[1].to_bytes(2, "big")
    size = _SIZES[family].to_bytes(2, "big")
    return _V2 + bytes((_PROXY, family)) + size + addresses + ports


@lru_cache(maxsize=1024)
def _pack(host: str) -> bytes:
    return IPv6Address(host).packed if ":" in host else bytes(map(int, host.split(".")))


def _as_v6(host: str) -> str:
    return host if ":" in host else _MAPPED_TEXT + host


def _decode_v1(data: bytes) -> ProxyHeader | None:
    if found := _tcp4(data):
        source, destination, *ports = found.groups()
        first, second = int(ports[0]), int(ports[1])
        if first < 65536 and second < 65536:
            hosts = source.decode("ascii"), destination.decode("ascii")
            return ProxyHeader((hosts[0], first), (hosts[1], second), found.end())
    end = data.find(b"\r\n", 0, MAX_V1)
    if end < 0:
        if len(data) >= MAX_V1:
            raise _error(f"PROXY header over {MAX_V1} bytes")
        if b"\n" in data:
            raise _error("PROXY header with a bare LF")
        return None
    line = data[:end]
    words = line.split(b" ")
    size = end + 2
    if words[1] == b"UNKNOWN":
        return ProxyHeader(None, None, size)
    if len(words) != 6 or words[1] not in (b"TCP4", b"TCP6") or not line.isascii():
        raise _error(f"malformed PROXY header: {line[:48]!r}")
    texts = [word.decode("ascii") for word in words[2:]]
    is_v6 = words[1] == b"TCP6"
    source = _host(texts[0], is_v6), _port(texts[2])
    destination = _host(texts[1], is_v6), _port(texts[3])
    return ProxyHeader(source, destination, size)


def _host(text: str, is_v6: bool) -> str:
    """The address as we write it; mapped IPv4 comes back as IPv4."""
    if not is_v6 and _is_ipv4(text):
        return text  # as it would be written: leading zeros are refused
    try:
        if not is_v6 or "%" in text:
            raise AddressValueError(text)
        address = IPv6Address(text)
    except AddressValueError:
        raise _error(f"malformed address in a PROXY header: {text!r}") from None
    return str(address.ipv4_mapped or address)


def _port(text: str) -> int:
    if not _is_port(text) or int(text) > 65535:
        raise _error(f"malformed port in a PROXY header: {text!r}")
    return int(text)


def _decode_v2(data: bytes) -> ProxyHeader | None:
    if len(data) < _V2_HEAD:
        return None
    command, family = data[12], data[13]
    length = int.from_bytes(data[14:16], "big")
    size = _V2_HEAD + length
    if command not in (_LOCAL, _PROXY):
        raise _error(f"PROXY header of unknown version or command 0x{command:02x}")
    if size > MAX_V2:
        raise _error(f"PROXY header of {size} bytes, over {MAX_V2}")
    if command == _PROXY and length < _SIZES.get(family, 1 << 16):
        known = family in _SIZES
        what = f"{length} bytes for" if known else "unknown"
        raise _error(f"malformed PROXY header: {what} address family 0x{family:02x}")
    if len(data) < size:
        return None
    if command == _LOCAL or family not in (_TCP4, _TCP6):
        return ProxyHeader(None, None, size)
    width = 4 if family == _TCP4 else 16
    ports = _V2_HEAD + 2 * width
    hosts = data[_V2_HEAD : _V2_HEAD + width], data[_V2_HEAD + width : ports]
    return ProxyHeader(
        (_text(hosts[0]), int.from_bytes(data[ports : ports + 2], "big")),
        (_text(hosts[1]), int.from_bytes(data[ports + 2 : ports + 4], "big")),
        size,
    )


def _text(packed: bytes) -> str:
    """A packed address as text; mapped IPv4 comes back as IPv4."""
    if len(packed) == 16:
        if not packed.startswith(_MAPPED):
            return str(IPv6Address(packed))
        packed = packed[12:]
    return "%d.%d.%d.%d" % tuple(packed)  # noqa: UP031 (twice as fast)


def _error(reason: str) -> RemoteProtocolError:
    return RemoteProtocolError(reason, http_status=400)
