"""What a converter of TCP and WebSocket has to do, one test for each row A1 to A13.

Every test drives ``python -m fastws`` from outside. The other end is a raw socket or
the ``websockets`` library, never code of fastws.
"""

import hashlib
import random
import socket
import threading
import time

import pytest
from websockets.sync.client import connect as ws_connect
from websockets.sync.server import ServerConnection
from websockets.sync.server import serve as ws_serve

from tests.support import rawws
from tests.support.certs import certs, plain_server_context
from tests.support.cli import eventually, stw, tunnel, wts
from tests.support.rawws import BINARY, CLOSE, CONT, PING, PONG, TEXT, upgraded
from tests.support.servers import free_port
from tests.support.services import (
    Service,
    answer_late,
    connect,
    digest_of,
    echo,
    is_reset_by,
    odd_chunks,
    pump_through,
    read_exactly,
    read_to_end,
)
from tests.support.timing import LONG, SHORT, UNIT

pytestmark = pytest.mark.e2e

SMALL = 16 << 20
LARGE = 100_000_000


class WebSocketServer:
    """A ``websockets`` server on a free port; ``handle`` gets each connection."""

    def __init__(self, handle, **options) -> None:  # type: ignore[no-untyped-def]
        options = {"compression": None, "max_size": None, **options}
        self._server = ws_serve(handle, "127.0.0.1", 0, **options)
        self.port = self._server.socket.getsockname()[1]
        self.url = f"ws://127.0.0.1:{self.port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> "WebSocketServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()


def ws_echo(ws: ServerConnection) -> None:
    for message in ws:
        ws.send(message)


# A1, A2: stw


def test_a01_tcp_to_ws() -> None:
    with WebSocketServer(ws_echo) as server, stw(server.url) as process:
        with connect(process.port) as sock:
            pump_through(sock, 10_000_000, seed=1, end=False)


def test_a02_tcp_to_wss() -> None:
    context = plain_server_context(certs().server)
    with WebSocketServer(ws_echo, ssl=context) as server:
        url = f"wss://localhost:{server.port}/"
        with stw(url, "--ca", certs().ca) as process, connect(process.port) as sock:
            pump_through(sock, 10_000_000, seed=2, end=False)


def test_a02_wrong_name_fails() -> None:
    context = plain_server_context(certs().elsewhere)
    with WebSocketServer(ws_echo, ssl=context) as server:
        url = f"wss://localhost:{server.port}/"
        with stw(url, "--ca", certs().ca) as process:
            assert is_reset_by(process.port)
            line = process.wait_for("WARNING")
    assert "not for localhost" in line or "localhost" in line
    assert "name" in line


# A3: wts


def test_a03_ws_to_tcp() -> None:
    with Service(echo) as service, wts(service.port) as process:
        with ws_connect(process.url, compression=None) as ws:
            ws.send("text, ünïcode")
            ws.send(b"\x00binary\xff")
            wanted = "text, ünïcode".encode() + b"\x00binary\xff"
            got = b""
            while len(got) < len(wanted):
                message = ws.recv(SHORT)
                assert isinstance(message, bytes), "text is answered in binary"
                got += message
            assert got == wanted
            assert ws.subprotocol is None


# A4: both


def test_a04_chain_is_transparent() -> None:
    with Service(echo) as service, tunnel(service.port) as (near, _):
        with connect(near.port) as sock:
            pump_through(sock, SMALL, seed=4)


@pytest.mark.slow
def test_a04_chain_is_transparent_for_100_mb() -> None:
    with Service(echo) as service, tunnel(service.port) as (near, _):
        with connect(near.port) as sock:
            pump_through(sock, LARGE, seed=40)


# A5: 200 at once


def test_a05_two_hundred_clients_at_once() -> None:
    count, times = 200, []
    with Service(echo) as service, tunnel(service.port) as (near, far):
        for again in range(1, 4):  # the best of three: the machine is shared
            started = time.monotonic()
            socks = [connect(near.port) for _ in range(count)]
            for number, sock in enumerate(socks):
                sock.sendall(b"hello %d" % number)
            for number, sock in enumerate(socks):
                wanted = b"hello %d" % number
                assert read_exactly(sock, len(wanted)) == wanted
            times.append(time.monotonic() - started)
            for sock in socks:
                sock.close()
            for process in (near, far):
                eventually(lambda: process.count("closed$") == again * count)  # noqa: B023
    assert min(times) < LONG


# A6: ping and Close


def test_a06_ping_is_answered_with_its_payload() -> None:
    with Service(echo) as service, wts(service.port) as process:
        with upgraded(process.port) as peer:
            peer.send(PING, b"are you there")
            assert peer.frame() == rawws.Frame(PONG, b"are you there")


def test_a06_close_is_answered_and_followed_by_eof() -> None:
    with Service(echo) as service, wts(service.port) as process:
        with upgraded(process.port) as peer:
            peer.sock.sendall(rawws.close(1000))
            answer = peer.frame()
            assert (answer.opcode, answer.code) == (CLOSE, 1000)
            assert peer.at_end()


def test_a06_target_eof_gives_close_1000() -> None:
    with Service(lambda sock: sock.sendall(b"bye")) as service:
        with wts(service.port) as process, upgraded(process.port) as peer:
            assert peer.frame() == rawws.Frame(BINARY, b"bye")
            answer = peer.frame()
            assert (answer.opcode, answer.code) == (CLOSE, 1000)
            peer.close()
            assert peer.at_end()


# A7: fragments and sizes


def test_a07_fragmented_message_with_a_ping_between() -> None:
    with Service(echo) as service, wts(service.port) as process:
        with upgraded(process.port) as peer:
            peer.send(TEXT, b"one ", fin=False)
            peer.send(CONT, b"two ", fin=False)
            peer.send(PING, b"p")
            peer.send(CONT, b"three")
            data, pongs = b"", []
            while len(data) < 13 or not pongs:
                got = peer.frame()
                if got.opcode == PONG:
                    pongs.append(got.payload)
                else:
                    assert got.opcode == BINARY
                    data += got.payload
            assert data == b"one two three"
            assert pongs == [b"p"]


@pytest.mark.parametrize("size", [1 << 20, 16 << 20], ids=["1MiB", "16MiB"])
def test_a07_large_message(size: int) -> None:
    message = random.Random(7).randbytes(size)
    with Service(answer_late) as service, wts(service.port) as process:
        with ws_connect(process.url, compression=None, close_timeout=SHORT) as ws:
            ws.send(message)
        eventually(lambda: "closed" in process.text)
        assert f" in={size} " in process.text

    with Service(echo) as service, wts(service.port) as process:
        with ws_connect(process.url, compression=None, max_size=None) as ws:
            threading.Thread(target=ws.send, args=(message,), daemon=True).start()
            received = hashlib.sha256()
            left = size
            while left:
                got = ws.recv(SHORT)
                assert isinstance(got, bytes)
                received.update(got)
                left -= len(got)
            assert received.digest() == hashlib.sha256(message).digest()


# A8: what the request says


def test_a08_request_is_configurable() -> None:
    seen: dict[str, str] = {}

    def look(sock: socket.socket) -> None:
        reader = rawws.Reader(sock)
        asked = reader.head()
        seen.update(asked.fields, line=asked.line)
        key = asked.fields["sec-websocket-key"]
        sock.sendall(rawws.answer_101(key, "Sec-WebSocket-Protocol: second"))
        read_to_end(sock)

    with Service(look) as service:
        url = f"ws://127.0.0.1:{service.port}/a/path?q=1"
        options = ("--host", "edge.example", "--origin", "https://page.example")
        options += ("--subprotocol", "first", "--subprotocol", "second")
        options += ("-H", "Authorization: Bearer abc", "-H", "X-Two: 2")
        with stw(url, *options) as process, connect(process.port):
            eventually(lambda: "line" in seen)
    assert seen["line"] == "GET /a/path?q=1 HTTP/1.1"
    assert seen["host"] == "edge.example"
    assert seen["origin"] == "https://page.example"
    assert seen["sec-websocket-protocol"] == "first, second"
    assert seen["authorization"] == "Bearer abc"
    assert seen["x-two"] == "2"
    assert seen["sec-websocket-version"] == "13"


# A9, A10: what wts refuses


def test_a09_host_check() -> None:
    with Service(echo) as service:
        with wts(service.port, "--allow-host", "edge.example") as process:
            with upgraded(process.port, Host="edge.example"):
                pass
            asked = rawws.request(Host="other.example")
            answer, _ = rawws.exchange(process.port, asked)
            assert answer.status == 400
            line = process.wait_for("other.example")
            assert "--allow-host" in line


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (rawws.request(Sec_WebSocket_Version="12"), 426),
        (rawws.request(Sec_WebSocket_Key="c2hvcnQ="), 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 426),
        (rawws.request(Sec_WebSocket_Key=None), 400),
        (rawws.request().replace(b"GET", b"POST"), 405),
    ],
    ids=["version 12", "short key", "plain GET", "no key", "POST"],
)
def test_a10_handshake_is_refused(asked: bytes, status: int) -> None:
    with wts(free_port()) as process:
        answer, body = rawws.exchange(process.port, asked)
    assert answer.status == status
    assert int(answer.fields["content-length"]) == len(body) > 0
    if status == 426:
        assert answer.fields["sec-websocket-version"] == "13"
        assert answer.fields["upgrade"] == "websocket"


# A11: half-close and early close


def test_a11_client_that_writes_and_closes_at_once() -> None:
    with Service(lambda sock: service.seen.append(digest_of(sock))) as service:
        with tunnel(service.port) as (near, _):
            for number in range(20):
                with connect(near.port) as sock:
                    sock.sendall(b"x%d" % number)
            eventually(lambda: len(service.seen) == 20)
    wanted = {
        (hashlib.sha256(b"x%d" % n).hexdigest(), len(b"x%d" % n)) for n in range(20)
    }
    assert set(service.seen) == wanted


def test_a11_answer_after_the_end() -> None:
    with Service(answer_late) as service, tunnel(service.port) as (near, _):
        with connect(near.port) as sock:
            sock.sendall(b"question")
            sock.shutdown(socket.SHUT_WR)
            digest = hashlib.sha256(b"question").hexdigest()
            assert read_to_end(sock) == f"8 {digest}\n".encode()


# A12: target down


def test_a12_wts_answers_502_when_the_target_is_down() -> None:
    port = free_port()
    with wts(port) as process:
        answer, _ = rawws.exchange(process.port, rawws.request())
        assert answer.status == 502
        line = process.wait_for("WARNING")
        assert f"127.0.0.1:{port}: connection refused" in line


def test_a12_stw_resets_when_the_server_is_down() -> None:
    port = free_port()
    with stw(f"ws://127.0.0.1:{port}/") as process:
        started = time.monotonic()
        assert is_reset_by(process.port)
        assert time.monotonic() - started < SHORT  # less than time-outs
        line = process.wait_for("WARNING")
        assert f"127.0.0.1:{port}: connection refused" in line


# A13: backpressure


STALLED = 6  # connections at once
# What each may hold: the documented bound.
LIMIT = 512 << 10
SHARED = 4 << 20  # bytes: memory of the loop that comes and goes


MOST = 512 << 20  # bytes; the kernel buffers tens of MB between each two


class Writer:
    """Sends uneven chunks until nobody takes more; keeps their hash and count."""

    def __init__(self, sock: socket.socket, seed: int) -> None:
        self.sock = sock
        self.chunks = odd_chunks(MOST, seed)
        self.hash, self.count = hashlib.sha256(), 0
        self.rest = memoryview(b"")

    def push_until_stalled(self) -> None:
        self.sock.settimeout(3 * UNIT)
        for chunk in self.chunks:
            self.rest = self.take(chunk)
            try:
                while self.rest:
                    self.rest = self.rest[self.sock.send(self.rest) :]
            except TimeoutError:
                return
        raise AssertionError("nothing stopped the writer")

    def take(self, chunk: memoryview) -> memoryview:
        self.hash.update(chunk)
        self.count += len(chunk)
        return chunk

    def finish(self, total: int) -> tuple[str, int]:
        """Send up to ``total`` bytes, at least what is left of a chunk, and the end."""
        self.sock.settimeout(LONG)
        self.sock.sendall(self.rest)
        while self.count < total:
            self.sock.sendall(self.take(next(self.chunks)))
        self.sock.shutdown(socket.SHUT_WR)
        return self.hash.hexdigest(), self.count


def push_while_readers_sleep(total: int) -> None:
    """A service that reads nothing until everybody is stalled, then everything."""
    awake = threading.Event()

    def sleepy(sock: socket.socket) -> None:
        if sock.recv(1) != b"w":  # the first one, which warms the processes up
            awake.wait()
        service.seen.append(digest_of(sock))

    with Service(sleepy) as service, tunnel(service.port) as (near, far):
        with connect(near.port) as sock:
            sock.sendall(b"w" + bytes(16 << 20))
        eventually(lambda: service.seen)
        before = {process: process.rss() for process in (near, far)}
        socks = [connect(near.port) for _ in range(STALLED)]
        writers = [Writer(sock, seed) for seed, sock in enumerate(socks)]
        for writer in writers:
            writer.sock.sendall(b"s")
            writer.push_until_stalled()
        grown = [process.rss() - before[process] for process in (near, far)]
        awake.set()
        wanted = {writer.finish(total) for writer in writers}
        eventually(lambda: wanted <= set(service.seen), 10 * LONG)
        for sock in socks:
            sock.close()
    assert max(grown) <= SHARED + STALLED * LIMIT, grown


def test_a13_stalled_readers_stop_their_writers() -> None:
    push_while_readers_sleep(total=0)


@pytest.mark.slow
def test_a13_stalled_readers_stop_their_writers_of_256_mb() -> None:
    push_while_readers_sleep(total=256 << 20)
