"""Datagrams through the command line: udp/1 and strangers, limits, losses, ends."""

import contextlib
import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.support.certs import certs
from tests.support.cli import Fastws, eventually, wts
from tests.support.datagrams import UdpService, ask, free_udp_port
from tests.support.datagrams import udp_client as connect
from tests.support.machine import needs_ipv6
from tests.support.rawws import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    TEXT,
    Peer,
    Reader,
    accept,
    close,
    frame,
    upgraded,
)
from tests.support.servers import free_port
from tests.support.services import Service, is_silent
from tests.support.timing import LONG, SHORT, UNIT, units

pytestmark = pytest.mark.e2e

IDENT = "0123456789abcdef"
PROOF = hashlib.sha256(f"{IDENT}udp/1".encode()).hexdigest()[:16]
ANNOUNCED = {"X_Fastws": f"udp/1; id={IDENT}"}
SIZES = (1, 0, 1400, 125, 126, 32_760, 32_768, 65_507)


@contextlib.contextmanager
def stw_udp(url: str, *options: str) -> Iterator[Fastws]:
    """``fastws stw udp:…`` in front of ``url``."""
    with Fastws("stw", "udp:127.0.0.1:0", url, *options) as process:
        yield process


class Far(Service):
    """A raw WebSocket server: every connection waits in ``peers`` for the test."""

    def __init__(self) -> None:
        self.peers: list[Reader] = []
        self.head: dict[str, str] = {}
        self._done = threading.Event()
        super().__init__(self._serve)

    def _serve(self, sock: socket.socket) -> None:
        reader, head = accept(sock)
        self.head = head.fields
        self.peers.append(reader)
        self._done.wait(LONG)

    def next(self) -> Reader:
        """The next connection, once it is there."""
        eventually(lambda: self.peers)
        return self.peers.pop(0)

    def __exit__(self, *args: object) -> None:
        self._done.set()
        super().__exit__(*args)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/"


def leave(reader: Reader, code: int) -> None:
    """Send a Close and end the connection."""
    how = {} if isinstance(reader, Peer) else {"key": None}
    reader.sock.sendall(close(code, **how))
    reader.sock.shutdown(socket.SHUT_WR)


# Both ends


@pytest.mark.parametrize("options", [(), ("--no-fastws",), ("--max-message", "1KiB")])
def test_datagrams_of_every_size_pass_both_ways(options: tuple[str, ...]) -> None:
    with (
        UdpService() as service,
        wts(f"udp:127.0.0.1:{service.port}", *options) as far,
        stw_udp(far.url, "--drain-timeout", "0", *options) as near,
        connect(near.port) as sock,
    ):
        for size in SIZES:
            data = os.urandom(size)
            assert ask(sock, data) == data
        assert [len(data) for data, _ in service.seen] == list(SIZES)
        near.signal(15)
        assert near.wait() == 0
        line = near.wait_for(" draining; ")
        assert "8 datagrams received, 8 sent, 0 dropped, 0 errors" in line
        assert f"in={sum(SIZES)} out={sum(SIZES)}" in line


def test_answers_leave_from_the_address_that_was_asked() -> None:
    with (
        UdpService() as service,
        wts(f"udp:127.0.0.1:{service.port}") as far,
        Fastws("stw", "udp:0.0.0.0:0", far.url) as near,
    ):
        for host in ("127.0.0.1", "127.0.0.2"):
            with connect(near.port, host) as sock:  # hears nobody else
                assert ask(sock, b"one") == b"one"
                assert ask(sock, b"two") == b"two"


def test_each_source_has_its_websocket_and_its_own_target_socket() -> None:
    with (
        UdpService() as service,
        wts(f"udp:127.0.0.1:{service.port}") as far,
        stw_udp(far.url) as near,
        connect(near.port) as one,
        connect(near.port) as other,
    ):
        assert ask(one, b"one") == b"one"
        assert ask(other, b"other") == b"other"
        (_, first), (_, second) = service.seen
        assert first != second
        service.send(b"for one", first)
        service.send(b"for other", second)
        assert (one.recv(100), other.recv(100)) == (b"for one", b"for other")


@needs_ipv6
def test_over_tls_and_ipv6() -> None:
    ca = certs()
    with (
        UdpService() as service,
        wts(f"udp:127.0.0.1:{service.port}", "--cert", ca.server) as far,
        Fastws(
            *("stw", "udp:[::1]:0", f"wss://localhost:{far.port}/", "--ca", ca.ca),
            *("--connect-to", f"127.0.0.1:{far.port}"),
        ) as near,
        connect(near.port, "::1") as sock,
    ):
        for size in (0, 1, 1400, 65_507):
            data = os.urandom(size)
            assert ask(sock, data) == data


# stw, with strangers


Flow = tuple[Far, Fastws, socket.socket]


@pytest.fixture(scope="module")
def stranger() -> Iterator[tuple[Far, Fastws]]:
    """A raw server and stw in front of it."""
    with Far() as far, stw_udp(far.url, "--drain-timeout", "0") as near:
        yield far, near


@pytest.fixture
def flow(stranger: tuple[Far, Fastws]) -> Iterator[Flow]:
    """Those, and a source of datagrams that nobody has used."""
    far, near = stranger
    near.mark = len(near.lines)
    far.peers.clear()
    with connect(near.port) as sock:
        yield far, near, sock


def test_what_comes_while_the_websocket_opens_is_kept_in_order(flow: Flow) -> None:
    far, _, sock = flow
    for number in range(20):
        sock.send(b"%d" % number)
    reader = far.next()
    assert [reader.frame().payload for _ in range(20)] == [
        b"%d" % number for number in range(20)
    ]


def test_stranger_gets_one_binary_message_a_datagram(flow: Flow) -> None:
    far, _, sock = flow
    sock.send(b"first")
    reader = far.next()
    assert far.head["x-fastws"].startswith("udp/1; id=")
    got = reader.frame()
    assert (got.opcode, got.payload, got.fin, got.masked) == (
        *(BINARY, b"first", True, True),
    )
    sock.send(b"")
    assert reader.frame()[:4] == (BINARY, b"", True, True)


def test_long_datagram_is_one_message_in_frames() -> None:
    """Frames of at most --max-message with their headers of 8 bytes."""
    with (
        Far() as far,
        stw_udp(far.url, "--max-message", "1KiB") as near,
        connect(near.port) as sock,
    ):
        data = os.urandom(2500)
        sock.send(data)
        reader = far.next()
        frames = [reader.frame() for _ in range(3)]
        assert [(f.opcode, len(f.payload), f.fin) for f in frames] == [
            (BINARY, 1016, False),
            (CONT, 1016, False),
            (CONT, 468, True),
        ]
        assert b"".join(f.payload for f in frames) == data


def test_messages_of_every_kind_become_datagrams(flow: Flow) -> None:
    far, _, sock = flow
    sock.send(b"hello")
    reader = far.next()
    reader.frame()
    reader.sock.sendall(
        frame(TEXT, "wörd".encode(), key=None)
        + frame(BINARY, b"", key=None)
        + frame(BINARY, b"in ", fin=False, key=None)
        + frame(PING, b"p", key=None)
        + frame(CONT, b"two", key=None)
    )
    assert sock.recv(100) == "wörd".encode()
    assert sock.recv(100) == b""
    assert sock.recv(100) == b"in two"
    assert reader.frame()[:4] == (PONG, b"p", True, True)


def test_message_that_is_no_datagram_is_dropped_and_counted(flow: Flow) -> None:
    """65507 bytes are what IPv4 carries; the next message is none the worse."""
    far, near, sock = flow
    sock.send(b"hello")
    reader = far.next()
    reader.frame()
    for size in (65_508, 70_000, 200_000):
        reader.sock.sendall(frame(BINARY, bytes(size), key=None))
    reader.sock.sendall(frame(BINARY, b"fits", key=None))
    assert sock.recv(70_000) == b"fits"
    leave(reader, 1000)
    assert near.wait_for("closed; 1 datagrams received, 1 sent, 3 dropped")


def test_text_that_is_not_utf8_is_1007(flow: Flow) -> None:
    far, near, sock = flow
    sock.send(b"hello")
    reader = far.next()
    reader.frame()
    reader.sock.sendall(frame(TEXT, b"\xff", key=None))
    got = reader.frame()
    assert (got.opcode, got.code) == (CLOSE, 1007)
    leave(reader, 1007)
    near.wait_for("protocol error: text is not valid UTF-8")


def test_idle_flow_is_closed_and_the_next_datagram_opens_another() -> None:
    with (
        Far() as far,
        stw_udp(far.url, "--udp-idle", units(4)) as near,
        connect(near.port) as sock,
    ):
        sock.send(b"first")
        reader = far.next()
        assert reader.frame().payload == b"first"
        got = reader.frame()
        assert (got.opcode, got.code) == (CLOSE, 1000)
        sock.send(b"second")  # before the old one has answered
        assert far.next().frame().payload == b"second"
        leave(reader, 1000)
        near.wait_for("in=5 out=0 .* idle; 1 datagrams received, 0 sent")


def test_busy_flow_stays() -> None:
    with (
        Far() as far,
        stw_udp(far.url, "--udp-idle", units(16)) as near,
        connect(near.port) as sock,
    ):
        sock.send(b"0")
        reader = far.next()
        for _ in range(16):  # two idle times, either direction counts
            reader.sock.sendall(frame(BINARY, b"x", key=None))
            assert sock.recv(10) == b"x"
            assert is_silent(sock, 2 * UNIT)
        assert far.peers == []


def test_server_that_closes_ends_the_flow_and_not_the_source(flow: Flow) -> None:
    far, near, sock = flow
    sock.send(b"1")
    reader = far.next()
    reader.frame()
    reader.sock.sendall(close(1001, b"gone", key=None))
    assert reader.frame().code == 1001
    reader.sock.shutdown(socket.SHUT_WR)
    near.wait_for("Close 1001 'gone'")
    sock.send(b"2")
    assert far.next().frame().payload == b"2"


def test_sources_over_the_limit_are_dropped_with_one_warning() -> None:
    with (
        Far() as far,
        stw_udp(far.url, "--max-connections", "1") as near,
        connect(near.port) as one,
        connect(near.port) as other,
    ):
        one.send(b"in")
        reader = far.next()
        assert reader.frame().payload == b"in"
        for _ in range(3):
            other.send(b"out")
        near.wait_for("new sources are dropped: all 1 flows are in use")
        one.send(b"still in")
        assert reader.frame().payload == b"still in"
        assert near.count("are dropped") == 1
        assert far.peers == []


def test_server_that_is_down_is_tried_once_a_second() -> None:
    with stw_udp(f"ws://127.0.0.1:{free_port()}/") as near:
        with connect(near.port) as sock:
            started = time.monotonic()
            eventually(
                lambda: sock.send(b"x") and near.count("connection refused") >= 2
            )
            assert time.monotonic() - started >= 0.9
            assert is_silent(sock)


def test_slow_websocket_drops_the_newest(flow: Flow) -> None:
    """A peer that does not read bounds what waits for it; then it all goes on."""
    far, near, sock = flow
    sock.send(b"first")
    reader = far.next()
    before = near.rss()
    for number in range(20_000):
        sock.send(b"%06d" % number + bytes(1200))
        if number % 50 == 0:  # as fast as it can read
            eventually(lambda: True)
    assert near.rss() - before < 8 << 20
    assert reader.frame().payload == b"first"
    numbers = []
    reader.sock.settimeout(5 * UNIT)
    with contextlib.suppress(TimeoutError):
        while True:
            numbers.append(int(reader.frame().payload[:6]))
    assert numbers == sorted(numbers)
    assert numbers[:50] == list(range(50))
    reader.sock.settimeout(SHORT)
    sock.send(b"later")
    assert reader.frame().payload == b"later"


@pytest.mark.parametrize("timeout", ["0", "1h"], ids=["over", "quiet"])
def test_drain_closes_with_1001(timeout: str) -> None:
    with Far() as far, stw_udp(far.url, "--drain-timeout", timeout) as near:
        with connect(near.port) as sock:
            sock.send(b"x")
            reader = far.next()
            reader.frame()
            near.signal(15)
            got = reader.frame()
            assert (got.opcode, got.code) == (CLOSE, 1001)
            leave(reader, 1001)
            assert near.wait() == 0
            near.wait_for("draining; 1 datagrams received")


# wts


@pytest.fixture(scope="module")
def echoing() -> Iterator[Fastws]:
    """wts in front of a UDP echo."""
    with UdpService() as service, wts(f"udp:127.0.0.1:{service.port}") as process:
        yield process


@pytest.fixture
def far(echoing: Fastws) -> Fastws:
    """The same, whose log begins here."""
    echoing.mark = len(echoing.lines)
    return echoing


def test_answer_proves_udp_1_and_text_after_c_is_refused(far: Fastws) -> None:
    with upgraded(far.port, **ANNOUNCED) as peer:
        assert peer.answer.fields["x-fastws"] == f"udp/1; proof={PROOF}"
        peer.send(TEXT, b"C")
        peer.send(BINARY, b"data")
        assert peer.frame()[:4] == (BINARY, b"data", True, False)
        peer.send(TEXT, b"F")
        assert peer.frame().code == 1002
        leave(peer, 1002)
        far.wait_for(f"id={IDENT} .* protocol error: text from a fastws end")


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_announced_client_without_c_is_a_stranger(far: Fastws, opcode: int) -> None:
    with upgraded(far.port, **ANNOUNCED) as peer:
        peer.send(opcode, b"c")
        assert peer.frame().payload == b"c"
        peer.send(TEXT, b"C")
        assert peer.frame().payload == b"C"


def test_tcp_1_is_not_what_a_udp_target_answers(far: Fastws) -> None:
    with upgraded(far.port, X_Fastws=f"tcp/1; id={IDENT}") as peer:
        assert "x-fastws" not in peer.answer.fields


def test_udp_1_is_not_what_a_tcp_target_answers() -> None:
    with Service(lambda sock: None) as service, wts(service.port) as far:
        with upgraded(far.port, **ANNOUNCED) as peer:
            assert "x-fastws" not in peer.answer.fields


def test_nobody_at_the_target_is_counted_and_ends_nothing() -> None:
    with free_udp_port() as port, wts(f"udp:127.0.0.1:{port}") as far:
        with upgraded(far.port) as peer:
            for _ in range(3):
                peer.send(BINARY, b"anybody?")
                peer.send(PING)
                assert peer.frame().opcode == PONG  # it was sent by then
            with UdpService(port=port):
                for data in (b"now", b"and ever"):
                    peer.send(BINARY, data)
                    assert peer.frame().payload == data
            leave(peer, 1000)
            far.wait_for("closed; 2 datagrams received, 5 sent, 0 dropped, 3 errors")


def test_idle_flow_of_wts_ends_with_1000() -> None:
    with (
        UdpService() as service,
        wts(f"udp:127.0.0.1:{service.port}", "--udp-idle", units(4)) as far,
        upgraded(far.port) as peer,
    ):
        peer.send(BINARY, b"x")
        assert peer.frame().payload == b"x"
        got = peer.frame()
        assert (got.opcode, got.code) == (CLOSE, 1000)
        peer.close()
        assert peer.at_end()
        peer.sock.shutdown(socket.SHUT_WR)
        far.wait_for("idle; 1 datagrams received, 1 sent, 0 dropped, 0 errors")


def test_pings_are_sent_and_a_dead_peer_is_left() -> None:
    ping = ("--ping", units(2), "--ping-deadline", units(15))
    with UdpService() as service:
        with wts(f"udp:127.0.0.1:{service.port}", *ping) as far:
            with upgraded(far.port) as peer:
                assert (peer.frame().opcode) == PING
                peer.send(PONG, b"")
                assert (peer.frame().opcode) == PING
                far.wait_for("ping timeout; 0 datagrams")


def test_unknown_name_of_the_target_is_502() -> None:
    with wts("udp:nobody.invalid:53", "--connect-timeout", "5s") as far:
        with pytest.raises(AssertionError, match=r"status=50[24]"):
            with upgraded(far.port):
                pass


def test_bad_frames_end_one_flow_only(far: Fastws) -> None:
    with upgraded(far.port) as good:
        for bad in (
            frame(BINARY, b"x", rsv=4),
            frame(3, b"x"),
            frame(BINARY, b"x", key=None),
            frame(CONT, b"x"),
            frame(CLOSE, b"x"),
        ):
            with upgraded(far.port) as peer:
                peer.sock.sendall(bad)
                assert peer.frame().code == 1002
        good.send(BINARY, b"unmoved")
        assert good.frame().payload == b"unmoved"
        with upgraded(far.port) as peer:
            peer.sock.close()
        far.wait_for("lost without a Close; 0 datagrams")
