"""Peers that break every rule, while another connection goes on undisturbed.

One wts and one stw serve all tests of this file. After each test a bystander, open
since before, still gets its echo, and nothing like a traceback was logged.
"""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support import rawws
from tests.support.cli import Fastws, eventually, stw, wts
from tests.support.rawws import BINARY, CLOSE, CONT, PING, TEXT, accept, frame, upgraded
from tests.support.servers import black_hole, closing, free_port
from tests.support.services import (
    Service,
    ask,
    connect,
    echo,
    ends_with_reset,
    is_reset_by,
    read_exactly,
    read_to_end,
    reset,
)
from tests.support.timing import SHORT, UNIT, units

pytestmark = pytest.mark.e2e

HANDSHAKE = 3 * UNIT


class Bystander:
    """A connection that must not notice anything."""

    def __init__(self, say: Callable[[bytes], bytes]) -> None:
        self.say = say
        self.number = 0

    def check(self) -> None:
        self.number += 1
        message = b"still here %d" % self.number
        assert self.say(message) == message


@pytest.fixture(scope="module")
def far() -> Iterator[tuple[Fastws, Service, Bystander]]:
    options = ("--handshake-timeout", units(3), "--log-level", "debug")
    with Service(resettable_echo) as service, wts(service.port, *options) as process:
        with upgraded(process.port) as peer:

            def say(message: bytes) -> bytes:
                peer.send(BINARY, message)
                return peer.message(len(message))

            yield process, service, Bystander(say)


def resettable_echo(sock: socket.socket) -> None:
    echo(sock)


@pytest.fixture
def server(far: tuple[Fastws, Service, Bystander]) -> Iterator[Fastws]:
    """wts; the bystander is asked afterwards."""
    process, _, bystander = far
    process.mark = len(process.lines)
    yield process
    bystander.check()
    assert "Traceback" not in process.text
    assert " ERROR " not in process.text


# HTTP that is none, to wts


@pytest.mark.parametrize(
    ("data", "status", "words"),
    [
        (b"\x00\x01\x02\x03garbage\r\n\r\n", 400, "not an HTTP/1 request"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", 400, "not an HTTP/1 request"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "TLS on a plain port"),
        (b"GET / HTTP/1.1\nHost: x\n\n", 400, "bare LF"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "without a Host"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "more than one Host"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400, "malformed HTTP head"),
        (b"GET / HTTP/1.1\r\nHo st: a\r\n\r\n", 400, "malformed HTTP head"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "HTTP version 2.0"),
        (b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n", 501, "BREW"),
        (rawws.request(X="y" * 20_000), 431, "over 16384 bytes"),
        (rawws.request(**{f"X{n}": "y" for n in range(100)}), 431, "over 100 fields"),
        (rawws.request(Content_Length="5"), 400, "Content-Length on a WebSocket"),
        (rawws.request(Transfer_Encoding="chunked"), 400, "Transfer-Encoding"),
        (rawws.request(Sec_WebSocket_Version=None), 426, "missing, not 13"),
        (rawws.request(Sec_WebSocket_Key="x" * 24), 400, "Sec-WebSocket-Key"),
        (rawws.request(Upgrade="h2c"), 426, "not a WebSocket upgrade"),
        (rawws.request(Connection="keep-alive"), 426, "not a WebSocket upgrade"),
        (rawws.request().replace(b"HTTP/1.1", b"HTTP/1.0"), 400, "HTTP/1.0"),
    ],
)
def test_bad_request(server: Fastws, data: bytes, status: int, words: str) -> None:
    answer, body = rawws.exchange(server.port, data)
    assert answer.status == status
    assert body.startswith(b"%d " % status)
    line = server.wait_for(r"(WARNING|INFO) +wts ", start=server.mark)
    assert words in line


def test_oversized_head_is_refused_before_it_ends(server: Fastws) -> None:
    answer, _ = rawws.exchange(server.port, b"GET / HTTP/1.1\r\nX: " + b"y" * 17_000)
    assert answer.status == 431


def test_slow_head_gets_408_however_it_trickles(server: Fastws) -> None:
    stop = threading.Event()
    with connect(server.port) as sock:

        def trickle() -> None:
            for byte in rawws.request():
                if stop.wait(UNIT / 2):
                    return
                sock.sendall(bytes([byte]))

        threading.Thread(target=trickle, daemon=True).start()
        try:
            assert rawws.Reader(sock).head().status == 408
        finally:
            stop.set()
    server.wait_for("no whole HTTP head within", start=server.mark)


def test_silent_client_gets_408(server: Fastws) -> None:
    with connect(server.port) as sock:
        assert rawws.Reader(sock).head().status == 408


def test_client_that_leaves_within_the_head(server: Fastws) -> None:
    with connect(server.port) as sock:
        sock.sendall(b"GET / HT")
    server.wait_for("DEBUG.*closed before a whole HTTP head", start=server.mark)


def test_client_that_resets_within_the_head(server: Fastws) -> None:
    sock = connect(server.port)
    sock.sendall(b"GET / HT")
    reset(sock)
    server.wait_for("DEBUG.*closed before a whole HTTP head", start=server.mark)


# Frames that break RFC 6455, to wts


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(BINARY, b"x", key=None), 1002),
        (frame(BINARY, b"x", rsv=4), 1002),
        (frame(BINARY, b"x", rsv=2), 1002),
        (frame(PING, b"x", rsv=1), 1002),
        (frame(3, b"x"), 1002),
        (frame(15, b"x"), 1002),
        (frame(CONT, b"x"), 1002),
        (frame(TEXT, b"x", fin=False) + frame(TEXT, b"y"), 1002),
        (frame(PING, b"x" * 126), 1002),
        (frame(PING, b"x", fin=False), 1002),
        (b"\x82\xfe\x00\x7d" + bytes(4 + 125), 1002),
        (b"\x82\xff" + struct.pack("!Q", 65535) + bytes(4), 1002),
        (b"\x82\xff" + struct.pack("!Q", 1 << 63) + bytes(4), 1002),
        (frame(CLOSE, b"\x03"), 1002),
        (rawws.close(1005), 1002),
        (rawws.close(999), 1002),
        (rawws.close(1000, b"\xff\xfe"), 1007),
        (frame(TEXT, b"\xff"), 1007),
        (frame(TEXT, b"\xe2\x82", fin=False) + frame(CONT, b"\x28"), 1007),
        (frame(TEXT, b"\xe2\x82"), 1007),
    ],
    ids=[
        "unmasked",
        "RSV1",
        "RSV2",
        "RSV3 on a ping",
        "opcode 3",
        "opcode 15",
        "continuation of nothing",
        "text in a text",
        "ping of 126",
        "fragmented ping",
        "16-bit length of 125",
        "64-bit length of 65535",
        "length over 63 bits",
        "close of one byte",
        "close 1005",
        "close 999",
        "close reason not UTF-8",
        "text not UTF-8",
        "text not UTF-8 across frames",
        "text cut within a character",
    ],
)
def test_bad_frame(
    far: tuple[Fastws, Service, Bystander], server: Fastws, data: bytes, code: int
) -> None:
    with upgraded(server.port) as peer:
        peer.send(BINARY, b"before")
        assert peer.message(6) == b"before"
        peer.sock.sendall(data)
        got = peer.frame()
        while got.opcode == BINARY:  # what a text held before its mistake
            got = peer.frame()
        assert (got.opcode, got.code) == (CLOSE, code)
        reason = got.payload[2:].decode()
        assert reason, "the reason says what was wrong"
        peer.close()
        assert peer.at_end()
    line = server.wait_for(r"INFO +wts .* in=", start=server.mark)
    assert line.endswith(f"client: protocol error: {reason}")


def test_bad_frame_resets_the_target() -> None:
    def watch(sock: socket.socket) -> None:
        sock.sendall(read_exactly(sock, 6))
        service.seen.append(ends_with_reset(sock))

    with Service(watch) as service, wts(service.port) as process:
        with upgraded(process.port) as peer:
            peer.send(BINARY, b"before")
            assert peer.message(6) == b"before"
            peer.send(TEXT, b"good \xff")
            assert peer.frame().code == 1007
        assert eventually(lambda: service.seen) == [True]


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_client_vanishes(server: Fastws, how: str) -> None:
    with upgraded(server.port) as peer:
        peer.send(BINARY, b"half a fr"[:4])
        assert peer.message(4) == b"half"
        peer.sock.sendall(frame(BINARY, b"never finished")[:9])
        if how == "rst":
            reset(peer.sock)
    server.wait_for("client: (lost without a Close|reset)$", start=server.mark)


# The target of wts


def test_target_down_refuses_with_502_and_tells_little() -> None:
    port = free_port()
    with wts(port) as process:
        answer, body = rawws.exchange(process.port, rawws.request())
        assert (answer.status, body) == (502, b"502\n"), "no addresses for strangers"
        process.wait_for(f"WARNING wts .*127.0.0.1:{port}: connection refused")


def test_unresolvable_target_is_a_502() -> None:
    with wts("no-such-host.invalid:22") as process:
        answer, _ = rawws.exchange(process.port, rawws.request())
        assert answer.status in (502, 504)
        process.wait_for("WARNING wts .*no-such-host.invalid")


def test_client_that_leaves_while_the_target_is_dialled() -> None:
    port, socks = black_hole()
    options = ("--connect-timeout", units(8))
    with closing(*socks), wts(port, *options) as process:
        with connect(process.port) as sock:
            sock.sendall(rawws.request())
        sock = connect(process.port)
        sock.sendall(rawws.request())
        reset(sock)
        eventually(lambda: process.count("not connected within") == 2)
        assert process.count("ERROR") == 0


def test_client_that_leaves_before_a_slow_target_is_there() -> None:
    """The target connects after the client has gone: nothing is left open."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    port = listener.getsockname()[1]
    fill = [socket.socket() for _ in range(3)]
    for sock in fill:
        sock.setblocking(False)
        sock.connect_ex(("127.0.0.1", port))
    with closing(listener, *fill), wts(port, "--connect-timeout", "10s") as process:
        client = connect(process.port)
        client.sendall(rawws.request())
        client.settimeout(UNIT)
        with pytest.raises(TimeoutError):
            client.recv(1)
        reset(client)
        listener.settimeout(SHORT)
        for _ in range(4):  # make room: the kernel retries its SYN within seconds
            try:
                listener.accept()[0].close()
            except TimeoutError:
                break
        line = process.wait_for(r"INFO +wts ", 10 * SHORT, start=1)
        assert "left before the target was connected" in line or "in=0 out=0" in line
        assert process.count("ERROR") == 0


# Servers that break the rules, to stw

Handler = Callable[[Any], None]


class Servers(Service):
    """A service whose next connections are handled by ``next``."""

    def __init__(self) -> None:
        self.next: Handler = good_server
        super().__init__(lambda sock: self.next(sock))


def good_server(sock: Any) -> None:
    reader, _ = accept(sock)
    while (got := reader.frame()).opcode != CLOSE:
        sock.sendall(frame(BINARY, got.payload, key=None))


@pytest.fixture(scope="module")
def near() -> Iterator[tuple[Fastws, Servers, Bystander]]:
    options = ("--handshake-timeout", units(3), "--log-level", "debug")
    with Servers() as servers:
        url = f"ws://127.0.0.1:{servers.port}/"
        with stw(url, *options) as process, connect(process.port) as sock:
            bystander = Bystander(lambda message: ask(sock, message))
            bystander.check()
            yield process, servers, bystander


@pytest.fixture
def client(near: tuple[Fastws, Servers, Bystander]) -> Iterator[Fastws]:
    """stw; the bystander is asked afterwards."""
    process, _, bystander = near
    process.mark = len(process.lines)
    yield process
    bystander.check()
    assert "Traceback" not in process.text
    assert " ERROR " not in process.text


def raw_answer(data: bytes) -> Handler:
    """A server that reads the request and answers these bytes."""

    def handle(sock: Any) -> None:
        rawws.Reader(sock).head()
        sock.sendall(data)
        read_to_end(sock)

    return handle


GOOD = rawws.answer_101()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", "not an HTTP/1 response: b'SSH-2.0-"),
        (b"\x15\x03\x01\x00\x02\x02F", "TLS on a plain port"),
        (GOOD, "Sec-WebSocket-Accept does not match the key sent"),
        (GOOD.replace(b"websocket", b"h2c"), "Upgrade is 'h2c', not websocket"),
        (GOOD.replace(b"Upgrade: websocket\r\n", b""), "no Upgrade in the answer"),
        (GOOD.replace(b"Connection: Upgrade\r\n", b""), "Connection is None"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "no Upgrade in the answer"),
        (b"HTTP/1.1 101\r\nX: " + b"y" * 20_000, "over 16384 bytes"),
        (
            b"HTTP/1.1 404 Not Found\r\nServer: nginx\r\nContent-Length: 19\r\n\r\n"
            b"<html>nothing\nhere ",
            "HTTP 404 Not Found, Server: nginx, body: '<html>nothing'",
        ),
        (
            b"HTTP/1.1 301 Moved\r\nLocation: https://h/\r\nContent-Length: 0\r\n\r\n",
            "HTTP 301 Moved, Location: https://h/",
        ),
        (
            b"HTTP/1.1 403 \x1b[31mRed\r\nContent-Length: 0\r\n\r\n",
            r"HTTP 403 \x1b[31mRed",
        ),
        (
            b"HTTP/1.1 503 Busy\r\nRetry-After: 5\r\nVia: 1.1 cdn\r\n\r\nwait\x1b[2J\n",
            r"HTTP 503 Busy, Retry-After: 5, Via: 1.1 cdn, body: 'wait\x1b[2J'",
        ),
        (b"HTTP/1.0 200 OK\r\n\r\n", "the server answered HTTP 200 OK"),
    ],
)
def test_bad_answer(
    near: tuple[Fastws, Servers, Bystander], client: Fastws, answer: bytes, words: str
) -> None:
    near[1].next = raw_answer(answer)
    assert is_reset_by(client.port)
    line = client.wait_for("WARNING stw ", start=client.mark)
    assert words in line
    assert f"ws://127.0.0.1:{near[1].port}/" in line


def test_server_that_closes_instead_of_answering(
    near: tuple[Fastws, Servers, Bystander], client: Fastws
) -> None:
    near[1].next = lambda sock: rawws.Reader(sock).head()
    assert is_reset_by(client.port)
    client.wait_for("WARNING stw .*closed before a whole HTTP head", start=client.mark)


def test_server_that_resets_instead_of_answering(
    near: tuple[Fastws, Servers, Bystander], client: Fastws
) -> None:
    near[1].next = reset
    assert is_reset_by(client.port)
    client.wait_for("WARNING stw .*(closed before|reset)", start=client.mark)


def test_server_that_never_answers(
    near: tuple[Fastws, Servers, Bystander], client: Fastws
) -> None:
    near[1].next = lambda sock: read_to_end(sock)
    assert is_reset_by(client.port)
    line = client.wait_for("WARNING stw ", start=client.mark)
    assert "no answer to the upgrade within" in line
    assert "--handshake-timeout" in line


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(BINARY, b"x"), 1002),
        (frame(BINARY, b"x", rsv=4, key=None), 1002),
        (frame(CONT, b"x", key=None), 1002),
        (frame(11, b"", key=None), 1002),
        (frame(PING, b"x" * 126, key=None), 1002),
        (b"\x82\x7f" + struct.pack("!Q", 1 << 63), 1002),
        (b"\x82\x7e\x00\x01x", 1002),
        (rawws.close(1006, key=None), 1002),
        (rawws.close(1000, b"\xff", key=None), 1007),
        (frame(TEXT, b"\xc3\x28", key=None), 1007),
    ],
    ids=[
        "masked",
        "RSV1",
        "continuation of nothing",
        "opcode 11",
        "ping of 126",
        "length over 63 bits",
        "16-bit length of 1",
        "close 1006",
        "close reason not UTF-8",
        "text not UTF-8",
    ],
)
def test_bad_frame_of_a_server(
    near: tuple[Fastws, Servers, Bystander], client: Fastws, data: bytes, code: int
) -> None:
    answers: list[rawws.Frame] = []

    def handle(sock: Any) -> None:
        reader, _ = accept(sock)
        assert reader.message(2) == b"go"
        sock.sendall(frame(BINARY, b"good", key=None) + data)
        answers.append(reader.frame())

    near[1].next = handle
    with connect(client.port) as sock:
        sock.sendall(b"go")
        assert read_exactly(sock, 4) == b"good", "what came before is delivered"
        assert ends_with_reset(sock)
    (answer,) = eventually(lambda: answers)
    assert (answer.opcode, answer.code, answer.masked) == (CLOSE, code, True)
    line = client.wait_for("INFO +stw .* in=", start=client.mark)
    assert line.endswith(f"server: protocol error: {answer.payload[2:].decode()}")


def test_client_of_stw_that_leaves_before_the_server_answers(
    near: tuple[Fastws, Servers, Bystander], client: Fastws
) -> None:
    gate = threading.Event()
    ended: list[bool] = []

    def slow(sock: Any) -> None:
        reader = rawws.Reader(sock)
        asked = reader.head()
        gate.wait()
        sock.sendall(rawws.answer_101(asked.fields["sec-websocket-key"]))
        ended.append(reader.frame().opcode == CLOSE or True)

    near[1].next = slow
    accepted = near[1].accepted
    sock = connect(client.port)
    eventually(lambda: near[1].accepted > accepted)
    reset(sock)
    gate.set()
    client.wait_for("INFO +stw .* client: ", start=client.mark)


def test_unresolvable_server() -> None:
    with stw("ws://no-such-host.invalid/") as process:
        assert is_reset_by(process.port)
        process.wait_for("WARNING stw .*no-such-host.invalid")
