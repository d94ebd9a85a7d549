"""``fastws proxy-server`` and rust-proxy's clients: its features R1 to R25, by number.

The client is scripted (tests/support/rust_proxy.py): it sends what was captured from
the real one, and fails at whatever would have killed that.
"""

import contextlib
import hashlib
import random
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.cli import Fastws, eventually
from tests.support.machine import needs_ipv6
from tests.support.origin import Origin, read_answer
from tests.support.rawws import PING, PONG, TEXT, frame
from tests.support.rust_proxy import (
    CLOSE,
    RustProxyClient,
    client_tls,
    connect_packet,
    opened,
    plain_server,
    proxy_server,
)
from tests.support.servers import black_hole, closing, free_port
from tests.support.services import (
    Service,
    Switch,
    connect,
    digest_of,
    echo,
    read_exactly,
    read_to_end,
)
from tests.support.timing import UNIT, never_waits_for_an_ack, units

pytestmark = [pytest.mark.e2e, pytest.mark.interop]

MIB = 1 << 20


@pytest.fixture(scope="module")
def server() -> Iterator[Fastws]:
    with proxy_server() as process:
        yield process


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


# -- the packets -------------------------------------------------------------------

EXAMPLES = [
    ("127.0.0.1", 7001, "01 01 59 1b 7f 00 00 01"),
    ("localhost", 7001, "01 03 59 1b 6c 6f 63 61 6c 68 6f 73 74"),
    ("::1", 7001, "01 04 59 1b" + " 00" * 15 + " 01"),
    ("example.com", 443, "01 03 bb 01 65 78 61 6d 70 6c 65 2e 63 6f 6d"),
    ("192.168.1.100", 22, "01 01 16 00 c0 a8 01 64"),
]


@pytest.mark.parametrize(("host", "port", "packet"), EXAMPLES)
def test_r1_packets_of_the_client_are_the_captured_ones(
    host: str, port: int, packet: str
) -> None:
    assert connect_packet(host, port) == bytes.fromhex(packet)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", pytest.param("::1", marks=needs_ipv6)]
)
def test_r1_each_kind_of_address(server: Fastws, host: str) -> None:
    bound = "::1" if host == "::1" else "127.0.0.1"
    with Origin(bound) as origin, opened(server.port) as client:
        client.dial(host, origin.port)
        client.give(b"GET /r1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        client.say(CLOSE)
        answer = client.take_until_close()
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b'"path": "/r1"' in answer


def test_r2_example_8_whole_frames(server: Fastws, service: Service) -> None:
    """Connect with the masking key of the examples, all in one write."""
    packet = connect_packet("127.0.0.1", service.port)
    start = frame(2, packet) + frame(2, b"\x02ping-data")
    with opened(server.port, glued=start) as client:
        assert client.take_data(9) == b"ping-data"
        client.sock.sendall(bytes.fromhex("82 81 37 fa 21 3d 34"))
        assert client.sock.recv(3) == bytes.fromhex("82 01 03")


def test_r2_example_11_half_close(server: Fastws) -> None:
    def answer(sock: Any) -> None:
        _, count = digest_of(sock)
        sock.sendall(b"GOT %d" % count)

    with Service(answer) as service, opened(server.port) as client:
        client.dial("127.0.0.1", service.port)
        client.say(bytes.fromhex("02 31 32 33 34 35"), CLOSE)
        assert client.packet() == bytes.fromhex("02 47 4f 54 20 35")
        assert client.packet() == CLOSE


def test_r2_garbage_only_ever_ends_its_own_connection(service: Service) -> None:
    rng = random.Random(2)
    with plain_server("--log-limit", "0") as server:
        with opened(server.port, plain=True) as bystander:
            bystander.dial("127.0.0.1", service.port)
            for number in range(60):
                with opened(server.port, plain=True) as client:
                    client.say(bytes((rng.choice((0, 4, 9, 255)),)) + rng.randbytes(40))
                    assert client.is_closed()
                bystander.give(b"%03d" % number)
                assert bystander.take_data(3) == b"%03d" % number
        server.wait_for("WARNING .* protocol error: unknown packet kind")
        eventually(lambda: server.count("WARNING .* protocol error: ") == 60)
        assert server.count("Traceback|ERROR") == 0


def test_r6_names_are_resolved_by_the_server(server: Fastws, service: Service) -> None:
    with opened(server.port) as client:
        assert client.ask(service.port, b"hello", "localhost") == b"hello"
        assert client.ask(service.port, b"again", "LOCALHOST") == b"again"
        client.dial("-no.such.name.invalid", 80)
        assert client.packet() == CLOSE
        client.say(CLOSE)
        # A literal as a name, which the real one takes as well.
        client.say(b"\1\3" + service.port.to_bytes(2, "little") + b"127.0.0.1", CLOSE)
        assert client.packet() == CLOSE


# -- streams -----------------------------------------------------------------------


def test_r7_streams_share_a_connection(server: Fastws, service: Service) -> None:
    before, server.mark = service.accepted, len(server.lines)
    with opened(server.port) as client:
        for number in range(20):
            data = noise(1 + 997 * number, number)
            assert client.ask(service.port, data) == data
        assert client.sent == 20
    assert service.accepted == before + 20
    line = server.wait_for("WebSocket ended after 20 streams: (lost|closed by peer)")
    ident = line.partition("id=")[2].partition(":")[0]
    numbers = [f"id={ident}/{number} in=" for number in range(1, 21)]
    eventually(lambda: [server.count(number) for number in numbers] == [1] * 20)


def test_r8_half_close_of_the_user(server: Fastws) -> None:
    """The answer comes after the end of input; one Close each way."""

    def answer(sock: Any) -> None:
        digest, _ = digest_of(sock)
        sock.sendall(digest.encode())

    data = noise(300_000)
    with Service(answer) as service, opened(server.port) as client:
        for _ in range(3):
            assert client.ask(service.port, data) == (
                hashlib.sha256(data).hexdigest().encode()
            )
        assert client.is_quiet(UNIT)


def test_r8_half_close_of_the_target(server: Fastws) -> None:
    """What the user still sends arrives."""
    got: list[bytes] = []

    def greet(sock: Any) -> None:
        sock.sendall(b"hello")
        sock.shutdown(socket.SHUT_WR)
        got.append(read_to_end(sock))

    with Service(greet) as service, opened(server.port) as client:
        for number in range(3):
            client.dial("127.0.0.1", service.port)
            assert client.take_until_close() == b"hello"
            data = noise(100_000, number)
            client.give(data)
            client.say(CLOSE)
            # The next stream does not wait for this target to have read.
            client.dial("127.0.0.1", service.port)
            assert client.take_until_close() == b"hello"
            client.say(CLOSE)
    eventually(lambda: len(got) == 6)
    assert sorted(map(len, got)) == [0, 0, 0, 100_000, 100_000, 100_000]


def download(server: Fastws, times: int) -> None:
    data = noise(MIB)

    def send(sock: Any) -> None:
        sock.sendall(data)

    with Service(send) as service, opened(server.port) as client:
        for number in range(times):
            client.dial("127.0.0.1", service.port)
            if number % 2:
                client.say(CLOSE)
            assert client.take_until_close() == data
            if not number % 2:
                client.say(CLOSE)


def test_r9_either_side_ends_first(server: Fastws) -> None:
    download(server, 6)


@pytest.mark.slow
def test_r9_a_hundred_times(server: Fastws) -> None:
    download(server, 100)


@pytest.mark.parametrize(
    ("options", "most"), [((), 2049), (("--max-data", "100"), 101)]
)
def test_r17_data_are_small(
    service: Service, options: tuple[str, ...], most: int
) -> None:
    data = noise(200_000)
    with proxy_server(*options) as server, opened(server.port) as client:
        assert client.ask(service.port, data) == data
        assert client.longest == most


def test_r17_data_of_any_length_are_taken(server: Fastws, service: Service) -> None:
    with opened(server.port) as client:
        client.dial("127.0.0.1", service.port)
        for size in (1, 2048, 2049, 65_535, 200_000):
            data = noise(size)
            client.say(b"\2" + data)
            assert client.take_data(size) == data
        client.send(2, b"\2ab", fin=False)
        client.send(0, b"", fin=False)
        client.send(0, b"cd")
        assert client.take_data(4) == b"abcd"


def test_r18_no_control_frames(service: Service) -> None:
    """A fastws client beside it hears pings; the real one hears nothing."""
    with proxy_server("--ping", units(2)) as server:
        with opened(server.port) as idle, opened(server.port) as busy:
            busy.dial("127.0.0.1", service.port)
            with opened(server.port) as silent:
                silent.dial("127.0.0.1", service.port)
                hear_pings(server, 4)
                assert silent.is_quiet(UNIT)
            busy.give(b"ping-data")
            assert busy.take_data(9) == b"ping-data"
            busy.say(CLOSE)
            assert busy.packet() == CLOSE
            assert idle.is_quiet(UNIT)
            assert idle.ask(service.port, b"hello") == b"hello"


def hear_pings(server: Fastws, count: int) -> None:
    """Be a fastws client for as long as so many pings take."""
    offer = "tok\r\nX-Fastws: pool/1; id=0123456789abcdef"
    with opened(server.port, token=offer) as client:
        assert client.answer.fields["x-fastws"] == "pool/1; proof=51246205ea3fb10f"
        client.send(TEXT, b"C")
        for _ in range(count):
            ping = client.frame()
            assert ping.opcode == PING
            client.send(PONG, ping.payload)


def test_r19_rule_13_3_2_target_that_refuses(server: Fastws, service: Service) -> None:
    port = free_port()
    server.mark = len(server.lines)
    with opened(server.port) as client:
        for _ in range(3):
            client.dial("127.0.0.1", port)
            client.give(b"dropped")
            assert client.packet() == CLOSE
            client.give(b"this too")
            client.say(CLOSE)
            assert client.ask(service.port, b"hello") == b"hello"
        assert client.is_quiet(UNIT)
    line = rf"INFO    proxy-server \S+ id=\S+/\d: 127.0.0.1:{port}: connection refused"
    eventually(lambda: server.count(line) == 3)


def test_r20_rule_13_3_3_target_that_resets() -> None:
    def hang_up(sock: Any) -> None:
        read_exactly(sock, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    with (
        Switch(hang_up) as service,
        proxy_server() as server,
        opened(server.port) as client,
    ):
        before = server.sockets()
        for _ in range(5):
            service.next = hang_up
            client.dial("127.0.0.1", service.port)
            client.give(b"x")
            assert client.packet() == CLOSE
            client.give(b"nobody reads this")
            client.say(CLOSE)
            service.next = echo
            assert client.ask(service.port, b"hello") == b"hello"
        assert client.is_quiet(UNIT)
        eventually(lambda: server.sockets() == before)


# -- time and number ---------------------------------------------------------------


def test_r23_silent_clients_end_at_the_handshake_time() -> None:
    limit = ("--handshake-timeout", units(15))
    with proxy_server(*limit) as server:
        with connect(server.port) as sock:
            assert read_to_end(sock) == b""  # no TLS came
        context = client_tls()
        with connect(server.port) as raw:
            with context.wrap_socket(raw, server_hostname="localhost") as sock:
                sock.sendall(b"GET / HTTP/1.1\r\n")  # no whole head came
                assert read_to_end(sock).startswith(b"HTTP/1.1 408 ")


def test_r23_target_that_does_not_answer(service: Service) -> None:
    port, socks = black_hole()
    with closing(*socks), proxy_server("--connect-timeout", units(15)) as server:
        with opened(server.port) as client:
            client.dial("127.0.0.1", port)
            assert client.packet() == CLOSE
            client.say(CLOSE)
            assert client.ask(service.port, b"hello") == b"hello"
        server.wait_for(f"127.0.0.1:{port}: not connected within")


def test_r23_client_that_owes_its_close() -> None:
    """Both ends of TCP live; the second Close comes 2 x --linger after the first."""

    def leave(sock: Any) -> None:
        read_exactly(sock, 1)
        sock.shutdown(socket.SHUT_WR)
        sock.recv(1)

    with Service(leave) as service, proxy_server("--linger", units(3)) as server:
        with opened(server.port) as client:
            client.dial("127.0.0.1", service.port)
            started = time.monotonic()
            client.give(b"x")
            assert client.packet() == CLOSE
            with contextlib.suppress(ssl.SSLError):
                assert client.is_closed()
            assert time.monotonic() - started > 4 * UNIT
        server.wait_for("WebSocket ended after 1 stream: no last packet")


def test_r24_a_new_stream_on_a_pooled_connection_does_not_wait(
    server: Fastws, service: Service
) -> None:
    """With Nagle's algorithm each takes the 40 ms of a delayed acknowledgement."""

    def one() -> float:
        started = time.perf_counter()
        client.dial("127.0.0.1", service.port)
        client.give(b"x")
        assert client.take_data(1) == b"x"
        spent = time.perf_counter() - started
        client.say(CLOSE)
        assert client.packet() == CLOSE
        return spent

    with opened(server.port) as client:
        for _ in range(40):  # at first Linux delays no acknowledgement
            one()
        assert never_waits_for_an_ack(one)


STREAMS = 500


def small_echo(sock: Any) -> None:
    while data := sock.recv(4096):
        sock.sendall(data)


def test_r25_five_hundred_streams_at_once() -> None:
    """500 WebSockets with a stream each, all open at the same time."""
    hashes: list[bool] = []
    with (
        Service(small_echo) as service,
        plain_server() as server,
        contextlib.ExitStack() as stack,
    ):
        clients = []
        for number in range(STREAMS):
            client = stack.enter_context(opened(server.port, plain=True))
            client.dial("127.0.0.1", service.port)
            client.give(noise(6000, number))
            clients.append(client)
        eventually(lambda: service.accepted == STREAMS)
        for number, client in enumerate(clients):
            hashes.append(client.take_data(6000) == noise(6000, number))
            client.say(CLOSE)
            assert client.packet() == CLOSE
        assert hashes == [True] * STREAMS


def test_http_through_the_pool_with_a_real_origin(server: Fastws) -> None:
    with Origin() as origin, opened(server.port) as client:
        client.dial("127.0.0.1", origin.port)
        for number in range(3):
            client.give(f"GET /{number} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            status, seen = read_answer(Stream(client))
            assert (status, seen["path"]) == (200, f"/{number}")


class Stream:
    """The stream of a client as a socket to read from."""

    def __init__(self, client: RustProxyClient) -> None:
        self._client = client
        self._kept = b""

    def recv(self, count: int) -> bytes:
        if not self._kept:
            packet = self._client.packet()
            self._kept = b"" if packet == CLOSE else packet[1:]
        data, self._kept = self._kept[:count], self._kept[count:]
        return data
