"""fastws proxy-server and fastws clients, byte by byte as docs/pool.md has it."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import rawws
from tests.support.cli import Fastws, eventually
from tests.support.pool_client import (
    CONNECTED,
    DENIED,
    IDENT,
    REFUSED,
    TIMED_OUT,
    UNKNOWN,
    pooled,
)
from tests.support.rust_proxy import plain_server
from tests.support.servers import black_hole, closing, free_port
from tests.support.services import (
    Service,
    Switch,
    connect,
    echo,
    ends_with_reset,
    odd_chunks,
    read_exactly,
    read_to_end,
    reset,
)
from tests.support.timing import LONG, SHORT, units

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def server() -> Iterator[Fastws]:
    with plain_server() as process:
        yield process


# -- streams -----------------------------------------------------------------------


def test_conversation_of_the_documentation(server: Fastws) -> None:
    """Served, refused, broken off: the packets of docs/pool.md."""

    def answer(sock: Any) -> None:
        sock.sendall(b"GOT %d" % len(read_to_end(sock)))

    server.mark = len(server.lines)
    with Service(answer) as service, pooled(server.port) as client:
        port = service.port.to_bytes(2, "little")
        client.say(bytes.fromhex("01 01 00 00 00 01") + port + b"\x7f\0\0\1")
        client.say(b"\x0212345", bytes.fromhex("03 01 00 00 00"))
        assert client.packet() == bytes.fromhex("04 01 00 00 00 00")
        assert client.packet() == b"\2GOT 5"
        assert client.packet() == bytes.fromhex("03 01 00 00 00")

        port = free_port().to_bytes(2, "little")
        client.say(bytes.fromhex("01 02 00 00 00 01") + port + b"\x7f\0\0\1")
        assert client.packet() == bytes.fromhex("04 02 00 00 00 05")
        client.say(bytes.fromhex("03 02 00 00 00"))

        hole, socks = black_hole()
        with closing(*socks):
            port = hole.to_bytes(2, "little")
            client.say(bytes.fromhex("01 03 00 00 00 01") + port + b"\x7f\0\0\1")
            client.say(bytes.fromhex("05 03 00 00 00"))
            assert client.packet() == bytes.fromhex("05 03 00 00 00")
        client.stream = 3
        assert client.ask(service.port, b"GOT 5") == b"GOT 5"
    server.wait_for(
        rf"proxy-server \S+ 127.0.0.1:\d+ id={IDENT}/1 in=5 out=5 .* closed"
    )
    server.wait_for(rf"INFO .* id={IDENT}/2: 127.0.0.1:\d+: connection refused")
    server.wait_for(rf"id={IDENT}: WebSocket ended after [34] streams: closed by peer")


def test_each_failure_has_its_status(service: Service) -> None:
    hole, socks = black_hole()
    limit = ("--connect-timeout", units(15), "--deny", "127.0.0.3")
    with closing(*socks), plain_server(*limit) as server, pooled(server.port) as client:
        for host, port, status in (
            ("127.0.0.1", free_port(), REFUSED),
            ("-no.such.name.invalid", 80, UNKNOWN),
            ("10.0.0.1", 80, DENIED),
            ("127.0.0.3", service.port, DENIED),
            ("127.0.0.1", hole, TIMED_OUT),
        ):
            assert client.dialled(host, port) == status, host
            client.give(b"still on its way")
            client.finish()
        assert client.ask(service.port, b"hello") == b"hello"


def test_many_bytes_arrive_in_short_frames(server: Fastws, service: Service) -> None:
    size = 4 << 20
    with pooled(server.port) as client:
        assert client.dialled("127.0.0.1", service.port) == CONNECTED
        data = b"".join(odd_chunks(size, 5))

        def send() -> None:
            for chunk in odd_chunks(size, 5):
                client.give(bytes(chunk))
            client.finish()

        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        got = bytearray()
        while len(got) < size:
            packet = client.packet()
            assert packet[0] == 2
            assert len(packet) + 4 <= 32 * 1024  # header and all
            got += packet[1:]
        assert got == data
        assert client.hears_finish()
        sender.join(SHORT)


def test_reset_of_the_user_is_a_reset_for_the_target(server: Fastws) -> None:
    ended: list[bool] = []

    def hold(sock: Any) -> None:
        sock.sendall(b"!")
        ended.append(ends_with_reset(sock))

    with Switch(hold) as service, pooled(server.port) as client:
        for count in (1, 2, 3):
            service.next = hold
            assert client.dialled("127.0.0.1", service.port) == CONNECTED
            assert client.take_data(1) == b"!"
            client.break_off()
            assert client.hears_reset()
            eventually(lambda count=count: ended == [True] * count)
            service.next = echo
            assert client.ask(service.port, b"hello") == b"hello"


def test_reset_of_the_target_is_a_reset_for_the_user(server: Fastws) -> None:
    def hang_up(sock: Any) -> None:
        read_exactly(sock, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    with Switch(hang_up) as service, pooled(server.port) as client:
        for _ in range(3):
            service.next = hang_up
            assert client.dialled("127.0.0.1", service.port) == CONNECTED
            client.give(b"x")
            assert client.hears_reset()
            client.give(b"nobody reads this")
            client.break_off()
            service.next = echo
            assert client.ask(service.port, b"hello") == b"hello"


def test_lost_client_is_a_reset_for_the_target() -> None:
    ended: list[bool] = []

    def hold(sock: Any) -> None:
        sock.sendall(b"!")
        ended.append(ends_with_reset(sock))

    with Service(hold) as service, plain_server() as server:
        before = server.sockets()
        for leave in (socket.socket.close, reset):
            with pooled(server.port) as client:
                assert client.dialled("127.0.0.1", service.port) == CONNECTED
                assert client.take_data(1) == b"!"
                leave(client.sock)
        eventually(lambda: ended == [True, True])
        eventually(lambda: server.sockets() == before)


@pytest.mark.parametrize("leave", [reset, socket.socket.close], ids=["reset", "close"])
def test_client_that_leaves_while_its_target_is_dialled(leave: Any) -> None:
    hole, socks = black_hole()
    with closing(*socks), plain_server("--connect-timeout", "60s") as server:
        before = server.sockets()
        with pooled(server.port) as client:
            client.dial("127.0.0.1", hole)
            eventually(lambda: server.sockets() == before + 2)
            leave(client.sock)
        line = server.wait_for(": left before the target was connected", LONG)
        assert f" id={IDENT}/1: 127.0.0.1:{hole}: " in line
        eventually(lambda: server.sockets() == before)


def test_client_is_heard_while_its_target_is_dialled(service: Service) -> None:
    hole, socks = black_hole()
    with closing(*socks), plain_server("--connect-timeout", "60s") as server:
        before = server.sockets()
        with pooled(server.port) as client:
            for _ in range(3):
                client.dial("127.0.0.1", hole)
                eventually(lambda: server.sockets() == before + 2)
                client.send(rawws.PING, b"there?")
                assert client.frame() == rawws.Frame(rawws.PONG, b"there?")
                client.break_off()
                assert client.hears_reset()
                eventually(lambda: server.sockets() == before + 1)
                assert client.ask(service.port, b"hello") == b"hello"
                eventually(lambda: server.sockets() == before + 1)


def test_clients_that_do_not_confirm_hear_nothing(
    server: Fastws, service: Service
) -> None:
    """A front end may have dropped the answer's field: then it is a stranger."""
    with pooled(server.port, confirm=False) as client:
        client.say(b"\1\1" + service.port.to_bytes(2, "little") + b"\x7f\0\0\1")
        client.say(b"\2hello", b"\3")
        assert client.packet() == b"\2hello"
        assert client.packet() == b"\3"


def test_no_fastws_serves_it_as_a_stranger(service: Service) -> None:
    with plain_server("--no-fastws") as server:
        with pooled(server.port, confirm=False) as client:
            assert "x-fastws" not in client.answer.fields
            client.say(b"\1\1" + service.port.to_bytes(2, "little") + b"\x7f\0\0\1")
            client.say(b"\2hello", b"\3")
            assert client.packet() == b"\2hello"


# -- bad input ---------------------------------------------------------------------

BAD = {
    "empty message": b"",
    "empty data": b"\2",
    "unknown kind": b"\x08\1\0\0\0",
    "plain connect": b"\1\1\x59\x1b\x7f\0\0\1",
    "stream that is not due": b"\1\2\0\0\0\1\x59\x1b\x7f\0\0\1",
    "stream zero": b"\1\0\0\0\0\1\x59\x1b\x7f\0\0\1",
    "data without a stream": b"\2hello",
    "close without a stream": b"\3\1\0\0\0",
    "answer of a client": b"\4\1\0\0\0\0",
    "oversized connect": b"\1\1\0\0\0\3\x59\x1b" + b"a" * 70_000,
    "name too long": b"\1\1\0\0\0\3\x59\x1b" + b"a" * 256,
    "name with a newline": b"\1\1\0\0\0\3\x59\x1ba\nb",
    "short address": b"\1\1\0\0\0\1\x59\x1b\x7f\0\0",
}


@pytest.mark.parametrize("name", BAD)
def test_what_breaks_the_rules_is_answered_with_1002(server: Fastws, name: str) -> None:
    server.mark = len(server.lines)
    with pooled(server.port) as client:
        client.say(BAD[name])
        assert client.hears_close()[0] == 1002
        client.close()
        assert client.at_end()
    server.wait_for(f"WARNING proxy-server .* id={IDENT}: protocol error: ")


@pytest.mark.parametrize("text", [b"C", b"F", b"", b"x" * 1000])
def test_texts_after_the_first_are_answered_with_1002(
    server: Fastws, text: bytes
) -> None:
    with pooled(server.port) as client:
        client.send(rawws.TEXT, text)
        assert client.hears_close()[0] == 1002


def test_bad_packets_reset_the_target(server: Fastws) -> None:
    ended: list[bool] = []

    def hold(sock: Any) -> None:
        sock.sendall(b"!")
        ended.append(ends_with_reset(sock))

    with Service(hold) as service:
        for packet in (b"\x09", b"\1\2\0\0\0\1\x59\x1b\x7f\0\0\1", b"\3\2\0\0\0"):
            with pooled(server.port) as client:
                assert client.dialled("127.0.0.1", service.port) == CONNECTED
                assert client.take_data(1) == b"!"
                client.say(packet)
                assert client.hears_close()[0] == 1002
        eventually(lambda: ended == [True] * 3)


def test_slow_and_broken_upgrades(service: Service) -> None:
    with plain_server("--handshake-timeout", units(15)) as server:
        with pooled(server.port) as bystander:
            assert bystander.dialled("127.0.0.1", service.port) == CONNECTED
            with connect(server.port) as slow:
                slow.sendall(rawws.request()[:-2])
                assert read_to_end(slow).startswith(b"HTTP/1.1 408 ")
            for start, status in (
                (b"\x16\x03\x01garbage", 400),
                (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 5000 + b"\r\n", 431),
                (b"GET / HTTP/1.1\r\na: " + b"b" * 100_000, 431),
                (rawws.request(Upgrade=None), 426),
                (rawws.request(Sec_WebSocket_Version="12"), 426),
                (rawws.request(Sec_WebSocket_Key="short"), 400),
                (rawws.request().replace(b"GET", b"POST"), 405),
            ):
                assert answered(server.port, start) == status, start[:40]
            bystander.give(b"hello")
            assert bystander.take_data(5) == b"hello"


def answered(port: int, data: bytes) -> int:
    """The status of the answer; the server may stop reading before the end."""
    with connect(port) as sock:
        with contextlib.suppress(ConnectionError):
            sock.sendall(data)
        return rawws.Reader(sock).head().status


def test_a_flood_of_wrong_tokens(service: Service) -> None:
    """From one address, at once: all are refused, and nobody else notices."""
    with plain_server("--auth-attempts", "10", "--trust", "127.0.0.1") as server:
        with pooled(server.port, X_Forwarded_For="203.0.113.1") as bystander:
            assert bystander.dialled("127.0.0.1", service.port) == CONNECTED
            statuses = [wrong(server.port, "203.0.113.9") for _ in range(60)]
            assert statuses == [401] * 10 + [429] * 50
            bystander.give(b"hello")
            assert bystander.take_data(5) == b"hello"
        for forwarded, status in (("203.0.113.9", 429), ("203.0.113.8", 101)):
            with pooled(server.port, X_Forwarded_For=forwarded) as client:
                assert client.answer.status == status
        server.wait_for(r"proxy-server 203.0.113.9: wrong token \(--auth-token\)")


def wrong(port: int, forwarded: str) -> int:
    fields = {"Authorization": "Bearer wrong", "X_Forwarded_For": forwarded}
    with connect(port) as sock:
        sock.sendall(rawws.request(**fields))
        return rawws.Reader(sock).head().status


def test_a_flood_of_streams_on_one_connection(server: Fastws, service: Service) -> None:
    """300 whole streams in one write; each is answered, in order."""
    port = service.port.to_bytes(2, "little")
    with pooled(server.port) as client:
        data = bytearray()
        for stream in range(1, 301):
            number = stream.to_bytes(4, "little")
            data += rawws.frame(2, b"\1" + number + b"\1" + port + b"\x7f\0\0\1")
            data += rawws.frame(2, b"\5" + number)
        client.sock.sendall(data)
        heard = 0
        while heard < 300:
            packet = client.packet()
            stream = int.from_bytes(packet[1:5], "little")
            assert packet[0] in (4, 5)
            heard += packet[0] == 5
            assert stream <= 300
        client.stream = 300
        assert client.ask(service.port, b"hello") == b"hello"
        eventually(lambda: server.count("ERROR|Traceback") == 0)
