"""Clients of wts, and its targets, that break every rule; others are not disturbed.

One wts serves most tests of this file. After each a bystander, connected since
before, still gets its echo, and nothing like a traceback was logged.
"""

import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from tests.support import rawws
from tests.support.chain import Chain, lone_wts
from tests.support.cli import Fastws, eventually, wts
from tests.support.rawws import BINARY, CLOSE, CONT, PING, TEXT, frame, upgraded
from tests.support.servers import black_hole, closing, free_port
from tests.support.services import (
    Bystander,
    Service,
    connect,
    ends_with_reset,
    read_exactly,
    reset,
)
from tests.support.timing import SHORT, UNIT, units

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[Chain, Bystander]]:
    options = ("--handshake-timeout", units(20), "--log-level", "debug")
    with lone_wts(*options) as chain, upgraded(chain.far.port) as peer:

        def say(message: bytes) -> bytes:
            peer.send(BINARY, message)
            return peer.answered(len(message))

        bystander = Bystander(say)
        bystander.check()
        chain.files = [chain.far.files()]
        yield chain, bystander


@pytest.fixture
def server(shared: tuple[Chain, Bystander]) -> Iterator[Fastws]:
    """wts; the bystander is asked afterwards."""
    chain, bystander = shared
    chain.renew()
    yield chain.far
    bystander.check()
    chain.check()


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
    line = server.wait_for(r"(WARNING|INFO) +wts ")
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
    server.wait_for("no whole HTTP head within")


def test_silent_client_gets_408(server: Fastws) -> None:
    with connect(server.port) as sock:
        assert rawws.Reader(sock).head().status == 408


def test_client_that_leaves_within_the_head(server: Fastws) -> None:
    with connect(server.port) as sock:
        sock.sendall(b"GET / HT")
    server.wait_for("DEBUG.*closed before a whole HTTP head")


def test_client_that_resets_within_the_head(server: Fastws) -> None:
    sock = connect(server.port)
    sock.sendall(b"GET / HT")
    reset(sock)
    server.wait_for("DEBUG.*closed before a whole HTTP head")


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
def test_bad_frame(server: Fastws, data: bytes, code: int) -> None:
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
    line = server.wait_for(r"INFO +wts .* in=")
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
    server.wait_for("client: (lost without a Close|reset)$")


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
        listener.settimeout(20 * UNIT)
        for _ in range(4):  # make room: the kernel retries its SYN within seconds
            try:
                listener.accept()[0].close()
            except TimeoutError:
                break
        line = process.wait_for(r"INFO +wts ", 10 * SHORT, start=1)
        assert "left before the target was connected" in line or "in=0 out=0" in line
        assert process.count("ERROR") == 0
