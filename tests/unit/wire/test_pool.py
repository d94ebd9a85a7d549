"""Packets of pooled WebSockets, byte by byte.

R1 to R9 are examples of the rust-proxy specification; R10 stands in test_socks5,
R11 in test_pool_track.
"""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastws._consts import MAX_PACKET, Side
from fastws.exceptions import LocalProtocolError, RemoteProtocolError
from fastws.wire.pool import (
    MAX_DATA,
    Answer,
    Associate,
    Close,
    Connect,
    Data,
    Datagram,
    Kind,
    Packet,
    Reset,
    Status,
    decode_packet,
    encode_packet,
)
from fastws.wire.socks5 import Reply
from fastws.wire.websocket import Connection

V6_7001 = "01 04 59 1b 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 01"
PLAIN: list[tuple[str, Packet]] = [
    ("01 01 59 1b 7f 00 00 01", Connect("127.0.0.1", 7001)),
    ("01 03 59 1b 6c 6f 63 61 6c 68 6f 73 74", Connect("localhost", 7001)),
    (V6_7001, Connect("::1", 7001)),
    ("01 03 bb 01 65 78 61 6d 70 6c 65 2e 63 6f 6d", Connect("example.com", 443)),
    ("01 01 16 00 c0 a8 01 64", Connect("192.168.1.100", 22)),
    ("02 70 69 6e 67 2d 64 61 74 61", Data(memoryview(b"ping-data"))),
    ("03", Close()),
]
EXTENDED: list[tuple[str, Packet]] = [
    ("01 01 00 00 00 01 5f 1b 7f 00 00 01", Connect("127.0.0.1", 7007, 1)),
    ("01 04 03 02 01 03 50 00 61", Connect("a", 80, 0x01020304)),
    ("02 00", Data(memoryview(b"\0"))),
    ("03 ff ff ff ff", Close(2**32 - 1)),
    ("04 01 00 00 00 00", Answer(1, Status.CONNECTED)),
    ("04 02 00 00 00 08", Answer(2, Status.UNKNOWN_NAME)),
    ("05 03 00 00 00", Reset(3)),
    ("06 04 00 00 00", Associate(4)),
    ("07 01 35 00 c0 00 02 01", Datagram("192.0.2.1", 53, memoryview(b""))),
    ("07 03 35 00 01 61 70", Datagram("a", 53, memoryview(b"p"))),
    (
        "07 04 35 00 00000000000000000000000000000001 70",
        Datagram("::1", 53, memoryview(b"p")),
    ),
]
IDS = ["R1", "R2", "R3", "R4", "R5", "R6", "R7"]


def kind(value: object) -> str | None:
    """Names a test by the packet that it is about."""
    return type(value).__name__ if isinstance(value, Packet) else None


@pytest.mark.parametrize(("text", "packet"), PLAIN, ids=IDS)
def test_plain_packet_both_ways(text: str, packet: Packet) -> None:
    data = bytes.fromhex(text)
    assert encode_packet(packet, is_extended=False) == data
    assert decode_packet(data, is_extended=False) == packet


@pytest.mark.parametrize(("text", "packet"), EXTENDED, ids=kind)
def test_extended_packet_both_ways(text: str, packet: Packet) -> None:
    data = bytes.fromhex(text)
    assert encode_packet(packet, is_extended=True) == data
    assert decode_packet(data, is_extended=True) == packet


def test_r8_whole_frames() -> None:
    client = Connection(Side.CLIENT, key_source=lambda: bytes.fromhex("37fa213d"))
    server = Connection(Side.SERVER)
    connect = Connect("example.com", 443)
    client.send_binary(encode_packet(connect, is_extended=False))
    client.send_binary(encode_packet(Close(), is_extended=False))
    server.send_binary(encode_packet(Close(), is_extended=False))
    frame = "82 8f 37 fa 21 3d 36 f9 9a 3c 52 82 40 50 47 96 44 13 54 95 4c"
    assert [bytes(data).hex(" ") for data in client.data_to_send()] == [
        frame,
        "82 81 37 fa 21 3d 34",
    ]
    assert [bytes(data).hex(" ") for data in server.data_to_send()] == ["82 01 03"]


def test_r9_a_full_data_message() -> None:
    server = Connection(Side.SERVER)
    payload = bytes(range(256)) * 8
    assert len(payload) == MAX_DATA
    server.send_binary(encode_packet(Data(memoryview(payload)), is_extended=False))
    assert b"".join(server.data_to_send()) == b"\x82\x7e\x08\x01\x02" + payload


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty message"),
        ("00", "unknown packet kind 0"),
        ("04 00", "unknown packet kind 4"),
        ("05", "unknown packet kind 5"),
        ("ff", "unknown packet kind 255"),
        ("02", "Data packet without data"),
        ("03 00", "CLOSE packet of 2 bytes"),
        ("01", "address of 0 bytes"),
        ("01 01 59", "address of 2 bytes"),
        ("01 01 59 1b 7f 00 00", "malformed address of 3 bytes for type 1"),
        ("01 01 59 1b 7f 00 00 01 00", "malformed address of 5 bytes for type 1"),
        (V6_7001[:-3], "malformed address of 15 bytes for type 4"),
        (V6_7001 + " 00", "malformed address of 17 bytes for type 4"),
        ("01 02 59 1b 7f 00 00 01", "malformed address type 2"),
        ("01 00 59 1b", "malformed address type 0"),
        ("01 03 59 1b", "malformed host name b''"),
        ("01 03 59 1b 61 20 62", "malformed host name b'a b'"),
        ("01 03 59 1b ff", r"malformed host name b'\xff'"),
        ("01 03 59 1b" + " 6e" * 256, f"malformed host name b'{'n' * 64}'"),
    ],
)
def test_reject_plain(text: str, reason: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        decode_packet(bytes.fromhex(text), is_extended=False)
    assert str(caught.value) == reason
    assert caught.value.close_code == 1002


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty message"),
        ("00", "unknown packet kind 0"),
        ("08 01 00 00 00", "unknown packet kind 8"),
        ("02", "Data packet without data"),
        ("01 00 00 00 00 01 5f 1b 7f 00 00 01", "CONNECT packet without a stream num"),
        ("01 01 00 00 00 01 5f 1b 7f 00 00", "malformed address of 3 bytes for type 1"),
        ("03", "CLOSE packet without a stream number"),
        ("03 01 00 00", "CLOSE packet without a stream number"),
        ("03 00 00 00 00", "CLOSE packet without a stream number"),
        ("03 01 00 00 00 00", "CLOSE packet of 6 bytes"),
        ("04 01 00 00 00", "ANSWER packet of 5 bytes"),
        ("04 01 00 00 00 00 00", "ANSWER packet of 7 bytes"),
        ("05 01 00 00 00 00", "RESET packet of 6 bytes"),
        ("06 01 00 00 00 00", "ASSOCIATE packet of 6 bytes"),
        ("07", "DATAGRAM packet of 1 bytes"),
        ("07 01 35 00 c0 00 02", "DATAGRAM packet of 7 bytes"),
        ("07 03 35 00", "DATAGRAM packet of 4 bytes"),
        ("07 03 35 00 02 61", "DATAGRAM packet of 6 bytes"),
        ("07 03 35 00 00 61", "malformed host name b''"),
        ("07 04 35 00" + " 00" * 15, "DATAGRAM packet of 19 bytes"),
        ("07 02 35 00 c0 00 02 01", "malformed address type 2"),
    ],
)
def test_reject_extended(text: str, reason: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        decode_packet(bytes.fromhex(text), is_extended=True)
    assert str(caught.value).startswith(reason)
    assert caught.value.close_code == 1002


def test_longest_datagram() -> None:
    packet = Datagram("n" * 255, 65535, memoryview(bytes(65507)))
    data = encode_packet(packet, is_extended=True)
    assert len(data) == MAX_PACKET
    assert decode_packet(data, is_extended=True) == packet
    with pytest.raises(RemoteProtocolError, match=f"of {MAX_PACKET + 1} bytes"):
        decode_packet(data + b"\0", is_extended=True)


def test_unknown_status_is_a_failure() -> None:
    data = bytes.fromhex("04 01 00 00 00 09")
    assert decode_packet(data, is_extended=True) == Answer(1, Status.FAILED)


@pytest.mark.parametrize(
    ("packet", "is_extended", "reason"),
    [
        (Data(memoryview(b"")), True, "not empty"),
        (Answer(1, Status.CONNECTED), False, "no ANSWER packet for a stranger"),
        (Reset(1), False, "no RESET packet for a stranger"),
        (Close(0), True, "stream number 0"),
        (Close(2**32), True, "stream number 4294967296"),
        (Connect("", 1), False, "host name of 0 bytes"),
        (Connect("a" * 256, 1), False, "host name of 256 bytes"),
        (Connect("a", 65536), False, "port 65536"),
        (Datagram("a", -1, memoryview(b"")), True, "port -1"),
    ],
    ids=kind,
)
def test_refuse_to_send(packet: Packet, is_extended: bool, reason: str) -> None:
    with pytest.raises(LocalProtocolError, match=reason):
        encode_packet(packet, is_extended=is_extended)


@pytest.mark.parametrize(
    ("status", "reply", "http"),
    [
        (Status.CONNECTED, Reply.SUCCEEDED, 200),
        (Status.FAILED, Reply.GENERAL_FAILURE, 502),
        (Status.DENIED, Reply.NOT_ALLOWED, 403),
        (Status.NETWORK_UNREACHABLE, Reply.NETWORK_UNREACHABLE, 502),
        (Status.HOST_UNREACHABLE, Reply.HOST_UNREACHABLE, 502),
        (Status.REFUSED, Reply.CONNECTION_REFUSED, 502),
        (Status.TIMED_OUT, Reply.TTL_EXPIRED, 504),
        (Status.NOT_SUPPORTED, Reply.COMMAND_NOT_SUPPORTED, 501),
        (Status.UNKNOWN_NAME, Reply.HOST_UNREACHABLE, 502),
    ],
)
def test_status_for_users(status: Status, reply: Reply, http: int) -> None:
    assert (status.socks_reply, status.http_status) == (reply, http)


def test_every_status_and_kind_is_known() -> None:
    assert [int(status) for status in Status] == list(range(9))
    assert [int(kind) for kind in Kind] == list(range(1, 8))


@given(st.binary(max_size=400), st.booleans())
def test_garbage_is_refused_or_read_as_it_was_written(
    data: bytes, is_extended: bool
) -> None:
    with contextlib.suppress(RemoteProtocolError):
        packet = decode_packet(data, is_extended=is_extended)
        written = encode_packet(packet, is_extended=is_extended)
        is_literal = data[1:2] == b"\x03" or data[5:6] == b"\x03"  # a name like 1.2.3.4
        if not is_literal and not isinstance(packet, Answer):
            assert written == data
