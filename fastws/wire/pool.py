"""The packets of a pooled WebSocket.

Source: docs/pool.md; the plain form is that of rust-proxy. A packet is one binary
message: a kind, then a body. Which of them may come and go when is for
:mod:`fastws.wire.pool_track`.
"""

from enum import IntEnum
from typing import NamedTuple, TypeAlias

from fastws._consts import CLOSE_PROTOCOL_ERROR, MAX_PACKET
from fastws.exceptions import LocalProtocolError, RemoteProtocolError
from fastws.typing import BytesLike
from fastws.wire.socks5 import Reply, pack_host, unpack_host

MAX_DATA = 2048
"""Payload bytes of one Data packet to a stranger; real ones die of one more."""

_MAX_STREAM = 2**32 - 1
_NAME = 3


class Kind(IntEnum):
    """The first byte of a packet."""

    CONNECT = 1
    DATA = 2
    CLOSE = 3
    ANSWER = 4
    RESET = 5
    ASSOCIATE = 6
    DATAGRAM = 7


class Status(IntEnum):
    """What became of a stream's target (docs/pool.md has the table)."""

    CONNECTED = 0
    FAILED = 1
    DENIED = 2
    NETWORK_UNREACHABLE = 3
    HOST_UNREACHABLE = 4
    REFUSED = 5
    TIMED_OUT = 6
    NOT_SUPPORTED = 7
    UNKNOWN_NAME = 8

    @property
    def socks_reply(self) -> Reply:
        """The same as a SOCKS5 reply."""
        if self is Status.UNKNOWN_NAME:
            return Reply.HOST_UNREACHABLE
        return Reply(self)

    @property
    def http_status(self) -> int:
        """The same as the status that answers a proxy request."""
        return _HTTP.get(self, 502)


_HTTP = {
    Status.CONNECTED: 200,
    Status.DENIED: 403,
    Status.TIMED_OUT: 504,
    Status.NOT_SUPPORTED: 501,
}


class Connect(NamedTuple):
    """The client wants a TCP stream to a target; ``stream`` is 0 from a stranger."""

    host: str
    port: int
    stream: int = 0


class Data(NamedTuple):
    """Bytes of the open stream; a view of what was decoded."""

    payload: memoryview


class Close(NamedTuple):
    """No more data from its sender."""

    stream: int = 0


class Answer(NamedTuple):
    """What became of Connect or Associate."""

    stream: int
    status: Status


class Reset(NamedTuple):
    """The stream is broken off, both ways."""

    stream: int


class Associate(NamedTuple):
    """The client wants to exchange datagrams."""

    stream: int


class Datagram(NamedTuple):
    """One datagram: to host and port, or from there; the payload is a view."""

    host: str
    port: int
    payload: memoryview


Packet: TypeAlias = Connect | Data | Close | Answer | Reset | Associate | Datagram


def encode_packet(packet: Packet, *, is_extended: bool) -> bytes:
    """Return a whole packet, payload copied.

    Args:
        packet: in the plain form only Connect, Data and Close.
        is_extended: the form between fastws ends.

    Raises:
        LocalProtocolError: something does not fit: an empty Data, a host name, a
            port, a stream number, a packet that the plain form has not.
    """
    kind = Kind[type(packet).__name__.upper()]
    if not is_extended and kind > Kind.CLOSE:
        raise LocalProtocolError(f"no {kind.name} packet for a stranger")
    if isinstance(packet, Data):
        if not len(packet.payload):
            raise LocalProtocolError("a Data packet is not empty")
        return b"\x02" + packet.payload
    if isinstance(packet, Datagram):
        host = _encode_host(packet.host, packet.port, with_length=True)
        return b"\x07" + host + packet.payload
    data = bytes((kind,))
    if is_extended:
        if not 0 < packet.stream <= _MAX_STREAM:
            raise LocalProtocolError(f"stream number {packet.stream}")
        data += packet.stream.to_bytes(4, "little")
    if isinstance(packet, Connect):
        data += _encode_host(packet.host, packet.port, with_length=False)
    elif isinstance(packet, Answer):
        data += bytes((packet.status,))
    return data


def decode_packet(data: BytesLike, *, is_extended: bool) -> Packet:
    """Read a whole packet.

    Args:
        data: one message; viewed, and retained by Data and Datagram.
        is_extended: the form between fastws ends.

    Raises:
        RemoteProtocolError: it breaks the grammar; ``close_code`` is 1002.
    """
    view = memoryview(data)
    if not len(view):
        raise fault("empty message")
    return decode_body(view[0], view[1:], is_extended=is_extended)


def decode_body(kind: int, body: BytesLike, *, is_extended: bool) -> Packet:
    """Read a packet whose kind was taken off already; see :func:`decode_packet`."""
    if kind == Kind.DATA:
        if not len(body):
            raise fault("Data packet without data")
        return Data(memoryview(body))
    if not Kind.CONNECT <= kind <= (Kind.DATAGRAM if is_extended else Kind.CLOSE):
        raise fault(f"unknown packet kind {kind}")
    if len(body) > MAX_PACKET - 1:
        raise fault(f"{Kind(kind).name} packet of {len(body) + 1} bytes")
    if kind == Kind.DATAGRAM:
        return _decode_datagram(memoryview(body))
    data = bytes(body)
    stream = 0
    if is_extended:
        stream = int.from_bytes(data[:4], "little")
        if len(data) < 4 or not stream:
            raise fault(f"{Kind(kind).name} packet without a stream number")
        data = data[4:]
    if kind == Kind.CONNECT:
        return Connect(*_decode_address(data), stream)
    if kind == Kind.ANSWER and len(data) == 1:
        known = data[0] <= Status.UNKNOWN_NAME
        return Answer(stream, Status(data[0]) if known else Status.FAILED)
    if data or kind == Kind.ANSWER:
        raise fault(f"{Kind(kind).name} packet of {len(body) + 1} bytes")
    if kind == Kind.CLOSE:
        return Close(stream)
    return Reset(stream) if kind == Kind.RESET else Associate(stream)


def _encode_host(host: str, port: int, *, with_length: bool) -> bytes:
    if not 0 <= port <= 65535:
        raise LocalProtocolError(f"port {port} is not in 0..65535")
    kind, packed = pack_host(host)
    if kind == _NAME and with_length:
        packed = bytes((len(packed),)) + packed
    return bytes((kind,)) + port.to_bytes(2, "little") + packed


def _decode_address(data: bytes) -> tuple[str, int]:
    if len(data) < 3:
        raise fault(f"address of {len(data)} bytes")
    try:
        return unpack_host(data[0], data[3:]), int.from_bytes(data[1:3], "little")
    except RemoteProtocolError as error:
        raise fault(error.reason) from None


def _decode_datagram(view: memoryview) -> Datagram:
    head = bytes(view[:4])
    start = 3
    size = 16 if head[:1] == b"\x04" else 4
    if head[:1] == b"\x03" and len(head) == 4:
        start = 4
        size = head[3]
    if len(view) < start + size:
        raise fault(f"DATAGRAM packet of {len(view) + 1} bytes")
    host, port = _decode_address(head[:3] + view[start : start + size])
    return Datagram(host, port, view[start + size :])


def fault(reason: str) -> RemoteProtocolError:
    """The error for a peer's packet that is malformed or out of turn."""
    return RemoteProtocolError(reason, close_code=CLOSE_PROTOCOL_ERROR)
