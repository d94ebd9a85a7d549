"""SOCKS5 byte by byte, named after the sections of RFC 1928 and RFC 1929."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastws.exceptions import LocalProtocolError, RemoteProtocolError
from fastws.wire.machine import SEND_EOF
from fastws.wire.socks5 import (
    Command,
    Event,
    Login,
    Reply,
    Request,
    Socks5Server,
    decode_datagram,
    encode_address,
    encode_datagram,
    encode_reply,
    pack_host,
    unpack_host,
)

HELLO = bytes.fromhex("05 01 00")
LOGIN_HELLO = bytes.fromhex("05 01 02")
LOGIN = b"\x01\x05alice\x06secret"
V4 = bytes.fromhex("01 7f 00 00 01 1b 59")
V6 = bytes.fromhex("04 00000000000000000000000000000001 01 bb")
NAME = b"\x03\x0bexample.com\x00\x50"
LONG = "n" * 255
DENIED = bytes.fromhex("01 01")
NONE_ACCEPTABLE = bytes.fromhex("05 ff")


def failure(code: int) -> bytes:
    return bytes((5, code, 0, 1, 0, 0, 0, 0, 0, 0))


def run(
    server: Socks5Server, data: bytes, *, step: int = 0, right: str = "secret"
) -> tuple[list[Event], list[bytes]]:
    """Feed ``data`` in pieces of ``step`` bytes; answer logins; what came of it."""
    events: list[Event] = []
    sent: list[bytes] = []
    for start in range(0, len(data), step or len(data)):
        server.receive_data(bytearray(data[start : start + (step or len(data))]))
        while new := server.events_received():
            events += new
            if isinstance(new[-1], Login):
                server.admit() if new[-1].password == right else server.deny()
        sent += [bytes(piece) for piece in server.data_to_send()]
    return events, sent


@pytest.mark.parametrize("step", [0, 1, 3], ids=["whole", "bytes", "threes"])
@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        (V4, "127.0.0.1", 7001),
        (V6, "::1", 443),
        (NAME, "example.com", 80),
        (b"\x03\xff" + LONG.encode() + b"\xff\xff", LONG, 65535),
        (b"\x03\x0910.0.0.99\x00\x00", "10.0.0.99", 0),
        (b"\x03\x08b\xc3\xbccher.\x00\x50", "bücher.", 80),
    ],
    ids=["ipv4", "ipv6", "name", "name-255", "literal-as-name", "utf8-name"],
)
def test_rfc1928_4_request_with_each_address_type(
    step: int, address: bytes, host: str, port: int
) -> None:
    server = Socks5Server()
    events, sent = run(server, HELLO + b"\x05\x01\x00" + address, step=step)
    assert events == [Request(Command.CONNECT, host, port)]
    assert sent == [b"\x05\x00"]
    assert server.error is None
    assert server.leftover == b""


def test_r10_of_the_rust_proxy_specification() -> None:
    server = Socks5Server()
    server.receive_data(bytes.fromhex("05 01 00"))
    assert server.data_to_send() == [bytes.fromhex("05 00")]
    server.receive_data(bytes.fromhex("05 01 00 01 7f 00 00 01 1b 59"))
    assert server.events_received() == [Request(Command.CONNECT, "127.0.0.1", 7001)]
    server.reply(Reply.SUCCEEDED, "127.0.0.1", 7001)
    answer = bytes.fromhex("05 00 00 01 7f 00 00 01 1b 59")
    assert server.data_to_send() == [answer]


@pytest.mark.parametrize("step", [0, 1], ids=["whole", "bytes"])
def test_rfc1928_4_bytes_behind_the_request_are_left_over(step: int) -> None:
    server = Socks5Server()
    tail = b"GET / HTTP/1.1\r\n"
    events, sent = run(server, HELLO + b"\x05\x01\x00" + V4 + tail, step=step)
    assert events == [Request(Command.CONNECT, "127.0.0.1", 7001)]
    assert sent == [b"\x05\x00"]
    assert server.leftover == tail
    server.receive_data(b"more")
    assert server.leftover == tail + b"more"
    server.reply(Reply.SUCCEEDED)
    server.receive_data(b"!")
    assert server.leftover == tail + b"more!"


@pytest.mark.parametrize(
    ("command", "expected"),
    [(1, Command.CONNECT), (2, Command.BIND), (3, Command.UDP_ASSOCIATE)],
)
def test_rfc1928_4_supported_commands(command: int, expected: Command) -> None:
    server = Socks5Server(commands=tuple(Command))
    events, _ = run(server, HELLO + bytes((5, command, 0)) + V4)
    assert events == [Request(expected, "127.0.0.1", 7001)]


@pytest.mark.parametrize("command", [0, 2, 4, 255])
def test_rfc1928_6_other_commands_get_07_after_the_whole_request(command: int) -> None:
    server = Socks5Server()
    data = HELLO + bytes((5, command, 0)) + NAME
    assert run(server, data[:-1]) == ([], [b"\x05\x00"])
    assert run(server, data[-1:]) == ([], [failure(7), SEND_EOF])
    assert server.error is not None
    assert server.error.socks_reply == Reply.COMMAND_NOT_SUPPORTED
    assert str(server.error) == f"SOCKS5 command {command} for 'example.com' port 80"


@pytest.mark.parametrize(
    ("request_bytes", "code", "reason"),
    [
        (b"\x04", 1, "SOCKS version 4 in a request"),
        (b"\x05\x01\x00\x00", 8, "malformed address type 0"),
        (b"\x05\x01\x00\x02", 8, "malformed address type 2"),
        (b"\x05\x01\x00\x05", 8, "malformed address type 5"),
        (b"\x05\x01\x00\xff", 8, "malformed address type 255"),
        (b"\x05\x01\x00\x03\x00\x00\x50", 1, "malformed host name b''"),
        (b"\x05\x01\x00\x03\x03a b\x00\x50", 1, "malformed host name b'a b'"),
        (b"\x05\x01\x00\x03\x02a\x00\x00\x50", 1, r"malformed host name b'a\x00'"),
        (b"\x05\x01\x00\x03\x02a\n\x00\x50", 1, r"malformed host name b'a\n'"),
        (b"\x05\x01\x00\x03\x01\xff\x00\x50", 1, r"malformed host name b'\xff'"),
    ],
)
@pytest.mark.parametrize("step", [0, 1], ids=["whole", "bytes"])
def test_rfc1928_6_malformed_request_gets_its_reply(
    request_bytes: bytes, code: int, reason: str, step: int
) -> None:
    server = Socks5Server()
    events, sent = run(server, HELLO + request_bytes + b"tail", step=step)
    assert events == []
    assert sent == [b"\x05\x00", failure(code), SEND_EOF]
    assert server.error is not None
    assert server.error.socks_reply == code
    assert str(server.error) == reason
    assert server.leftover == b""
    with pytest.raises(LocalProtocolError, match="no SOCKS5 request waits"):
        server.reply(Reply.SUCCEEDED)


@pytest.mark.parametrize("version", [0, 4, 6, ord("G"), 0x16])
def test_rfc1928_3_wrong_version_gets_no_answer(version: int) -> None:
    server = Socks5Server()
    assert run(server, bytes((version,))) == ([], [SEND_EOF])
    assert server.error is not None
    assert server.error.socks_reply is None
    assert str(server.error) == f"SOCKS version {version} in place of 5"


@pytest.mark.parametrize(
    ("needs_login", "greeting"),
    [
        (False, "05 00"),
        (False, "05 01 02"),
        (False, "05 02 01 80"),
        (True, "05 01 00"),
        (True, "05 00"),
        (True, "05 ff" + " 00" * 255),
    ],
)
@pytest.mark.parametrize("step", [0, 1], ids=["whole", "bytes"])
def test_rfc1928_3_no_common_method_gets_ff(
    needs_login: bool, greeting: str, step: int
) -> None:
    server = Socks5Server(needs_login=needs_login)
    events, sent = run(server, bytes.fromhex(greeting), step=step)
    assert (events, sent) == ([], [NONE_ACCEPTABLE, SEND_EOF])
    assert server.error is not None
    assert server.error.socks_reply is None
    what = "offers no password" if needs_login else "wants to log in"
    methods = greeting[6:] or "none"
    assert str(server.error) == f"SOCKS5 client {what} (methods {methods})"


def test_rfc1928_3_method_is_found_among_255() -> None:
    server = Socks5Server()
    methods = bytes(range(255, 0, -1)) + b"\0"
    assert run(server, b"\x05\xff" + methods[-255:]) == ([], [b"\x05\x00"])


@pytest.mark.parametrize("step", [0, 1, 7], ids=["whole", "bytes", "sevens"])
def test_rfc1929_2_right_login_lets_the_request_through(step: int) -> None:
    server = Socks5Server(needs_login=True)
    data = LOGIN_HELLO + LOGIN + b"\x05\x03\x00" + V6 + b"tail"
    events, sent = run(server, data, step=step)
    request = Request(Command.UDP_ASSOCIATE, "::1", 443)
    assert events == [Login("alice", "secret"), request]
    assert sent == [b"\x05\x02", b"\x01\x00"]
    assert server.leftover == b"tail"
    assert server.request == request


@pytest.mark.parametrize("step", [0, 1], ids=["whole", "bytes"])
def test_rfc1929_2_wrong_login_is_told_and_ends(step: int) -> None:
    server = Socks5Server(needs_login=True)
    data = LOGIN_HELLO + LOGIN + b"\x05\x01\x00" + V4
    events, sent = run(server, data, step=step, right="other")
    assert events == [Login("alice", "secret")]
    assert sent == [b"\x05\x02", DENIED, SEND_EOF]
    assert server.error is not None
    assert server.error.socks_reply is None


def test_rfc1929_2_nothing_is_asked_before_the_login_was_admitted() -> None:
    server = Socks5Server(needs_login=True)
    server.receive_data(LOGIN_HELLO + LOGIN + b"\x05\x01\x00" + V4)
    assert server.events_received() == [Login("alice", "secret")]
    assert server.request is None
    server.receive_data(b"tail")
    assert server.events_received() == []
    with pytest.raises(LocalProtocolError, match="no SOCKS5 request waits"):
        server.reply(Reply.SUCCEEDED)
    server.admit()
    assert server.events_received() == [Request(Command.CONNECT, "127.0.0.1", 7001)]
    assert server.leftover == b"tail"
    with pytest.raises(LocalProtocolError, match="no SOCKS5 login waits"):
        server.admit()


@pytest.mark.parametrize(
    ("login", "user", "password"),
    [
        (b"\x01\x00\x00", "", ""),
        (b"\x01\x01a\x00", "a", ""),
        (b"\x01\x01:\x03\xe2\x82\xac", ":", "€"),
        (b"\x01\xff" + b"u" * 255 + b"\xff" + b"p" * 255, "u" * 255, "p" * 255),
    ],
    ids=["empty", "no-password", "utf8", "longest"],
)
def test_rfc1929_2_lengths(login: bytes, user: str, password: str) -> None:
    for step in (0, 1):
        server = Socks5Server(needs_login=True)
        events, sent = run(server, LOGIN_HELLO + login, step=step, right=password)
        assert events == [Login(user, password)]
        assert sent == [b"\x05\x02", b"\x01\x00"]


@pytest.mark.parametrize(
    "login", [b"\x05\x01\x00", b"\x00", b"\x01\x01\xff\x01a", b"\x01\x01a\x01\x80"]
)
def test_rfc1929_2_malformed_login_is_denied(login: bytes) -> None:
    server = Socks5Server(needs_login=True)
    events, sent = run(server, LOGIN_HELLO + login)
    assert (events, sent) == ([], [b"\x05\x02", DENIED, SEND_EOF])
    assert server.error is not None


def test_password_is_not_shown() -> None:
    assert repr(Login("alice", "secret")) == "Login(user='alice', password='***')"


@pytest.mark.parametrize(
    "sent_before", [b"", b"\x05", HELLO, HELLO + b"\x05\x01\x00" + V4[:-1]]
)
def test_eof_before_the_request_ends_everything(sent_before: bytes) -> None:
    server = Socks5Server()
    if sent_before:
        server.receive_data(sent_before)
    server.data_to_send()
    server.receive_eof()
    server.receive_eof()
    assert server.data_to_send() == [SEND_EOF]
    assert str(server.error) == "SOCKS5 client ended before its request"
    assert server.eof_received


def test_eof_while_the_login_is_checked() -> None:
    server = Socks5Server(needs_login=True)
    server.receive_data(LOGIN_HELLO + LOGIN)
    server.receive_eof()
    assert server.error is None
    server.admit()
    assert server.data_to_send() == [b"\x05\x02", b"\x01\x00", SEND_EOF]
    assert str(server.error) == "SOCKS5 client ended before its request"


def test_eof_behind_the_request_is_the_users() -> None:
    server = Socks5Server()
    server.receive_data(HELLO + b"\x05\x01\x00" + V4 + b"tail")
    server.receive_eof()
    assert server.error is None
    server.reply(Reply.SUCCEEDED)
    assert server.data_to_send() == [b"\x05\x00", failure(0)]
    assert (server.leftover, server.eof_received) == (b"tail", True)


@pytest.mark.parametrize("code", [code for code in Reply if code])
def test_rfc1928_6_failure_ends_the_connection(code: Reply) -> None:
    server = Socks5Server()
    run(server, HELLO + b"\x05\x01\x00" + V4)
    server.reply(code)
    assert server.data_to_send() == [failure(code), SEND_EOF]
    with pytest.raises(LocalProtocolError, match="no SOCKS5 request waits"):
        server.reply(code)


def test_reply_with_ipv6() -> None:
    assert encode_reply(0, "::1", 443) == b"\x05\x00\x00" + V6


@pytest.mark.parametrize(
    ("host", "port", "data"),
    [
        ("127.0.0.1", 7001, V4),
        ("::1", 443, V6),
        ("fe80::1%2", 1, b"\x04\xfe\x80" + bytes(13) + b"\x01\x00\x01"),
        ("example.com", 80, NAME),
    ],
)
def test_encode_address(host: str, port: int, data: bytes) -> None:
    assert encode_address(host, port) == data


@pytest.mark.parametrize(
    ("host", "port", "reason"),
    [
        ("a", -1, "port -1"),
        ("a", 65536, "port 65536"),
        ("", 1, "host name of 0 bytes"),
        ("n" * 256, 1, "host name of 256 bytes"),
    ],
)
def test_encode_address_refuses_what_does_not_fit(
    host: str, port: int, reason: str
) -> None:
    with pytest.raises(LocalProtocolError, match=reason):
        encode_address(host, port)


@pytest.mark.parametrize("payload", [b"", b"ping", bytes(65507)])
@pytest.mark.parametrize(
    ("host", "port", "head"),
    [
        ("127.0.0.1", 7001, b"\0\0\0" + V4),
        ("::1", 443, b"\0\0\0" + V6),
        ("example.com", 80, b"\0\0\0" + NAME),
    ],
)
def test_rfc1928_7_datagram(host: str, port: int, head: bytes, payload: bytes) -> None:
    data = encode_datagram(host, port, payload)
    assert data == head + payload
    decoded = decode_datagram(data)
    assert decoded == (host, port, 0, payload)
    assert decoded.payload.obj is data


@pytest.mark.parametrize("fragment", [1, 127, 128, 255])
def test_rfc1928_7_fragment_number_is_told(fragment: int) -> None:
    data = bytes((0, 0, fragment)) + V4 + b"x"
    assert decode_datagram(data) == ("127.0.0.1", 7001, fragment, b"x")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "of 0 bytes is cut short"),
        (b"\0\0\0", "of 3 bytes is cut short"),
        (b"\0\0\0\x03", "of 4 bytes is cut short"),
        (b"\0\0\0" + V4[:-1], "of 9 bytes is cut short"),
        (b"\0\0\0" + V6[:-1], "of 21 bytes is cut short"),
        (b"\0\0\0" + NAME[:-1], "of 17 bytes is cut short"),
        (b"\0\0\0\x02", "address type 2"),
        (b"\0\0\0\x03\x00\x00\x01", "host name b''"),
    ],
)
def test_rfc1928_7_malformed_datagram_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(RemoteProtocolError, match=reason):
        decode_datagram(data)


@pytest.mark.parametrize(
    ("kind", "packed"), [(1, bytes(3)), (1, bytes(5)), (4, bytes(15)), (4, bytes(17))]
)
def test_unpack_host_refuses_wrong_lengths(kind: int, packed: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match=f"of {len(packed)} bytes for type"):
        unpack_host(kind, packed)


@given(st.ip_addresses(v=4) | st.ip_addresses(v=6))
def test_hosts_round_trip(address: object) -> None:
    kind, packed = pack_host(str(address))
    assert unpack_host(kind, packed) == str(address)


@given(st.binary(min_size=1, max_size=600), st.integers(1, 40), st.booleans())
def test_garbage_is_read_alike_in_any_pieces(
    data: bytes, step: int, needs_login: bool
) -> None:
    first = Socks5Server(needs_login=needs_login)
    second = Socks5Server(needs_login=needs_login)
    events, sent = run(first, b"\x05\x01" + data, right="")
    assert run(second, b"\x05\x01" + data, right="", step=step) == (events, sent)
    assert str(first.error) == str(second.error)
    assert first.leftover == second.leftover


@given(st.binary(max_size=300))
def test_garbage_datagrams_only_raise_the_documented_error(data: bytes) -> None:
    with contextlib.suppress(RemoteProtocolError):
        decode_datagram(data)
