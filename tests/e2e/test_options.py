"""Every option that is not TLS, on both sides of its effect, through the command line.

The options that name addresses, certificates or the end of a process have files of
their own: test_addresses, test_tls, test_drain.
"""

import contextlib
import errno
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.support import rawws
from tests.support.cli import Fastws, eventually, stw, tunnel, wts
from tests.support.rawws import BINARY, CLOSE, PING, PONG, accept, upgraded
from tests.support.servers import black_hole, closing
from tests.support.services import (
    Service,
    ask,
    connect,
    ends_with_reset,
    is_reset_by,
    read_exactly,
    read_to_end,
)
from tests.support.timing import LONG, SHORT, UNIT, units

pytestmark = pytest.mark.e2e

OTHER_PAGE = "https://evil.example"


@contextlib.contextmanager
def recorder(*answer: str) -> Iterator[Service]:
    """A WebSocket server that keeps each request in ``seen``, then reads to the end."""

    def handle(sock: socket.socket) -> None:
        _, asked = accept(sock, *answer)
        running.seen.append(asked)
        read_to_end(sock)

    with Service(handle) as running:
        yield running


def request_of(*options: str, url: str = "ws://127.0.0.1:{}/") -> rawws.Answer:
    """The request that stw sends with these options."""
    with recorder() as server:
        with stw(url.format(server.port), *options) as process, connect(process.port):
            return eventually(lambda: server.seen)[0]  # type: ignore[no-any-return]


def status(process: Fastws, path: str = "/", **fields: str | None) -> int:
    """What wts answers: 101 or a refusal."""
    with connect(process.port) as sock:
        sock.sendall(rawws.request(path, **fields))
        return rawws.Reader(sock).head().status


# Handshake, stw


def test_request_without_options() -> None:
    asked = request_of()
    assert asked.line == "GET / HTTP/1.1"
    assert set(asked.fields) == {
        "host",
        "upgrade",
        "connection",
        "sec-websocket-key",
        "sec-websocket-version",
        "x-fastws",
    }
    assert asked.fields["host"].startswith("127.0.0.1:")
    assert asked.fields["x-fastws"].startswith("tcp/1; id=")


def test_no_fastws_sends_no_announcement() -> None:
    assert "x-fastws" not in request_of("--no-fastws")


def test_zeros_of_the_user_stay_zeros() -> None:
    """Path and fields may look like what is filled in for each connection."""
    zeros, key = "0" * 16, "A" * 22 + "=="
    options = ("-H", f"X-Trace: {zeros}", "-H", f"X-Key: {key}")
    asked = request_of(*options, url=f"ws://127.0.0.1:{{}}/{key}?id={zeros}")
    assert asked.line == f"GET /{key}?id={zeros} HTTP/1.1"
    assert asked.fields["x-trace"] == zeros
    assert asked.fields["x-key"] == key
    assert zeros not in asked.fields["x-fastws"]
    assert asked.fields["sec-websocket-key"] != key


def test_connect_to_keeps_the_host() -> None:
    with recorder() as server:
        where = f"127.0.0.1:{server.port}"
        with stw("ws://edge.example/t", "--connect-to", where) as process:
            with connect(process.port):
                (asked,) = eventually(lambda: server.seen)
    assert asked.fields["host"] == "edge.example"
    assert asked.line == "GET /t HTTP/1.1"


@pytest.mark.parametrize(
    ("answer", "works"),
    [("Sec-WebSocket-Protocol: b", True), ("Sec-WebSocket-Protocol: c", False)],
)
def test_stw_subprotocol_has_to_be_one_of_those_offered(
    answer: str, works: bool
) -> None:
    with recorder(answer) as server:
        url = f"ws://127.0.0.1:{server.port}/"
        with stw(url, "--subprotocol", "a", "--subprotocol", "b") as process:
            with connect(process.port) as sock:
                if works:
                    eventually(lambda: server.seen)
                else:
                    assert ends_with_reset(sock)
                    process.wait_for("WARNING.*subprotocol was not offered: 'c'")
        assert server.seen[0].fields["sec-websocket-protocol"] == "a, b"


# Handshake, wts


def test_path(service: Service) -> None:
    with wts(service.port, "--path", "/ssh") as process:
        assert status(process, "/ssh") == 101
        assert status(process, "/ssh?token=1") == 101
        assert status(process, "/ssh/") == 404
        assert status(process, "/") == 404
        assert status(process, "/ssh", Upgrade=None, Connection=None) == 426
        assert status(process, "/x", Upgrade=None, Connection=None) == 404
        assert status(process, "/healthz", Upgrade=None, Connection=None) == 200


def test_every_path_without_path(service: Service) -> None:
    with wts(service.port) as process:
        assert status(process, "/any/path?at=all") == 101
        assert status(process, "/x", Upgrade=None, Connection=None) == 426


def test_allow_host(service: Service) -> None:
    options = ("--allow-host", "edge.example", "--allow-host", "b.example:8443")
    with wts(service.port, *options) as process:
        assert status(process, Host="EDGE.example") == 101
        assert status(process, Host="edge.example:1234") == 101
        assert status(process, Host="b.example:8443") == 101
        assert status(process, Host="b.example") == 400
        assert status(process) == 400


def test_origin_without_allow_origin(service: Service) -> None:
    with wts(service.port) as process:
        own = f"localhost:{process.port}"
        assert status(process, Host=own, Origin=f"http://{own}") == 101
        assert status(process, Host=own, Origin=OTHER_PAGE) == 403
        process.wait_for(f"Origin '{OTHER_PAGE}' .*--allow-origin")
        # A page whose name was rebound to this machine: loopback names only.
        rebound = "rebound.example"
        assert status(process, Host=rebound, Origin=f"http://{rebound}") == 403
        process.wait_for("--allow-host")
        assert status(process, Host=rebound) == 101
        forwarded = {"X_Forwarded_For": "203.0.113.9", "Origin": f"http://{rebound}"}
        assert status(process, Host=rebound, **forwarded) == 101


def test_allow_origin(service: Service) -> None:
    with wts(service.port, "--allow-origin", OTHER_PAGE) as process:
        own = f"localhost:{process.port}"
        assert status(process, Host=own, Origin=OTHER_PAGE) == 101
        assert status(process, Host=own, Origin="https://worse.example") == 403


def test_header_of_the_101(service: Service) -> None:
    with wts(service.port, "-H", "X-One: 1", "--header", "X-Two: 2") as process:
        with upgraded(process.port) as peer:
            assert peer.answer.fields["x-one"] == "1"
            assert peer.answer.fields["x-two"] == "2"


@pytest.mark.parametrize(
    ("options", "offered", "chosen"),
    [
        ((), None, None),
        ((), "chat", "chat"),
        ((), "chat, binary", "binary"),
        ((), "base64", None),
        ((), "base64, chat", "chat"),
        (("b", "a"), "x, a, b", "a"),
        (("b",), "x", None),
    ],
)
def test_wts_subprotocol(
    service: Service, options: tuple[str, ...], offered: str | None, chosen: str | None
) -> None:
    flags = [word for name in options for word in ("--subprotocol", name)]
    with wts(service.port, *flags) as process:
        with upgraded(process.port, Sec_WebSocket_Protocol=offered) as peer:
            assert peer.answer.fields.get("sec-websocket-protocol") == chosen


def test_announcement_is_answered_with_a_proof(service: Service) -> None:
    offer = "tcp/1; id=0123456789abcdef"
    with wts(service.port) as process:
        with upgraded(process.port, X_Fastws=offer) as peer:
            assert peer.answer.fields["x-fastws"] == "tcp/1; proof=d91c3ae3e564a089"
        with upgraded(process.port) as peer:
            assert "x-fastws" not in peer.answer.fields


def test_no_fastws_answers_no_announcement(service: Service) -> None:
    with wts(service.port, "--no-fastws") as process:
        offer = "tcp/1; id=0123456789abcdef"
        with upgraded(process.port, X_Fastws=offer) as peer:
            assert "x-fastws" not in peer.answer.fields


def test_tunnel_without_announcement_still_carries_bytes(service: Service) -> None:
    with tunnel(service.port, "--no-fastws", "--linger", units(3)) as (near, far):
        with connect(near.port) as sock:
            assert ask(sock, b"hello") == b"hello"
            sock.shutdown(socket.SHUT_WR)
        far.wait_for("closed$", LONG)


# Keep-alive and time-outs


def test_ping_0_sends_none(service: Service) -> None:
    with wts(service.port, "--ping", "0") as process:
        assert ", ping off, " in process.lines[0]
        with upgraded(process.port) as peer:
            peer.sock.settimeout(5 * UNIT)
            with pytest.raises(TimeoutError):
                peer.frame()
            peer.sock.settimeout(LONG)
            peer.send(PING, b"still here")
            assert peer.frame() == rawws.Frame(PONG, b"still here")


def test_ping_deadline_spares_who_says_anything(service: Service) -> None:
    """Any byte counts as life, also without a pong."""
    options = ("--ping", units(1), "--ping-deadline", units(15))
    with wts(service.port, *options) as process:
        with upgraded(process.port) as peer:
            started = time.monotonic()
            while time.monotonic() - started < 30 * UNIT:
                if peer.frame().opcode == PING:
                    peer.send(PONG, b"unasked")
            peer.send(BINARY, b"alive")
            while (got := peer.frame()).opcode == PING:
                pass
            assert got.payload == b"alive"


def test_linger_is_how_long_stw_waits_for_a_late_answer() -> None:
    def deaf(sock: socket.socket) -> None:
        reader, _ = accept(sock)
        started = time.monotonic()
        reader.message(1)
        got = reader.frame()
        server.seen.append((got.opcode, got.code, time.monotonic() - started))

    with Service(deaf) as server:
        url = f"ws://127.0.0.1:{server.port}/"
        with stw(url, "--linger", units(4)) as process:
            with connect(process.port) as sock:
                sock.sendall(b"x")
                sock.shutdown(socket.SHUT_WR)
                ((opcode, code, took),) = eventually(lambda: server.seen)
    assert (opcode, code) == (CLOSE, 1000)
    assert 3.9 * UNIT <= took < SHORT


def test_half_close_timeout_resets_a_silent_half() -> None:
    over = threading.Event()

    def half(sock: socket.socket) -> None:
        assert read_to_end(sock) == b"question"
        server.seen.append("asked")
        over.wait(LONG)
        server.seen.append(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    with Service(half) as server:
        with tunnel(server.port, "--half-close-timeout", units(5)) as (near, far):
            with connect(near.port) as sock:
                sock.sendall(b"question")
                started = time.monotonic()
                sock.shutdown(socket.SHUT_WR)
                eventually(lambda: server.seen)
                assert ends_with_reset(sock)
                assert 3 * UNIT <= time.monotonic() - started < SHORT
            lines = [process.wait_for("stw |wts ", start=1) for process in (near, far)]
            assert any("half-close time-out" in line for line in lines)
            over.set()
            eventually(lambda: len(server.seen) == 2)
    assert server.seen[1] in (errno.ECONNRESET, errno.EPIPE)  # Linux: after our EOF


def test_half_close_timeout_spares_who_speaks() -> None:
    def half(sock: socket.socket) -> None:
        assert read_to_end(sock) == b"question"
        for _ in range(20):
            time.sleep(UNIT)
            sock.sendall(b".")

    with Service(half) as server:
        with tunnel(server.port, "--half-close-timeout", units(16)) as (near, _):
            with connect(near.port) as sock:
                sock.sendall(b"question")
                sock.shutdown(socket.SHUT_WR)
                assert read_to_end(sock) == b"." * 20


def test_idle_timeout_counts_payload_only(service: Service) -> None:
    options = ("--idle-timeout", units(15), "--ping", units(1))
    with wts(service.port, *options) as process:
        with upgraded(process.port) as peer:
            started = time.monotonic()
            busy = 0
            while True:
                got = peer.frame()
                if got.opcode == PING:
                    peer.send(PONG, got.payload)
                elif got.opcode == CLOSE:
                    break
                if busy < 3 and time.monotonic() - started > (busy + 1) * 6 * UNIT:
                    busy += 1
                    peer.send(BINARY, b"x")
            took = time.monotonic() - started
            assert (got.code, got.payload[2:]) == (1001, b"idle time-out")
            assert busy == 3
            assert 32 * UNIT <= took < LONG
            peer.close()
        process.wait_for("idle time-out$")


def test_connect_timeout_of_wts_is_a_504() -> None:
    port, socks = black_hole()
    with closing(*socks), wts(port, "--connect-timeout", units(3)) as process:
        started = time.monotonic()
        answer, _ = rawws.exchange(process.port, rawws.request())
        assert answer.status == 504
        assert 2.9 * UNIT <= time.monotonic() - started < SHORT
        process.wait_for(f"WARNING.*127.0.0.1:{port}: not connected within 0?.* s")


def test_connect_timeout_of_stw_is_a_reset() -> None:
    port, socks = black_hole()
    url = f"ws://127.0.0.1:{port}/"
    with closing(*socks), stw(url, "--connect-timeout", units(3)) as process:
        assert is_reset_by(process.port)
        process.wait_for("WARNING.*not connected within")


def test_handshake_timeout_of_wts_is_a_408(service: Service) -> None:
    with wts(service.port, "--handshake-timeout", units(15)) as process:
        started = time.monotonic()
        with connect(process.port) as sock:
            sock.sendall(rawws.request()[:-2])  # all but the last line
            reader = rawws.Reader(sock)
            answer = reader.head()
            assert answer.status == 408
            assert b"--handshake-timeout" in reader.body(answer)
            assert 14 * UNIT <= time.monotonic() - started < SHORT
        with connect(process.port) as sock:
            data = rawws.request()
            sock.sendall(data[:-2])
            time.sleep(UNIT)
            sock.sendall(data[-2:])
            assert rawws.Reader(sock).head().status == 101


def test_handshake_timeout_of_stw_is_a_reset() -> None:
    with Service(lambda sock: read_to_end(sock)) as server:
        url = f"ws://127.0.0.1:{server.port}/"
        with stw(url, "--handshake-timeout", units(8)) as process:
            assert is_reset_by(process.port)
            process.wait_for("WARNING.*no answer to the upgrade within")


def test_tcp_user_timeout_is_accepted(service: Service) -> None:
    with tunnel(service.port, "--tcp-user-timeout", "30s") as (near, _):
        with connect(near.port) as sock:
            assert ask(sock, b"hello") == b"hello"


# Limits


def test_max_connections_of_stw_lets_others_wait(service: Service) -> None:
    with wts(service.port) as far:
        with stw(far.url, "--max-connections", "1") as near:
            with connect(near.port) as first, connect(near.port) as second:
                assert ask(first, b"one") == b"one"
                second.sendall(b"two")
                second.settimeout(3 * UNIT)
                with pytest.raises(TimeoutError):
                    second.recv(1)
                near.wait_for("WARNING.*all 1 connections are in use")
                first.close()
                second.settimeout(LONG)
                assert read_exactly(second, 3) == b"two"


def frame_sizes(*options: str) -> list[int]:
    """Sizes of the frames, headers included, in which wts sends 200 KB."""

    def burst(sock: socket.socket) -> None:
        sock.sendall(b"x" * 200_000)

    with Service(burst) as server, wts(server.port, *options) as process:
        with upgraded(process.port) as peer:
            sizes, left = [], 200_000
            while left:
                got = peer.frame()
                assert got.fin
                head = 2 if len(got.payload) < 126 else 4
                head = head if len(got.payload) < 65536 else 10
                sizes.append(len(got.payload) + head)
                left -= len(got.payload)
    return sizes


@pytest.mark.parametrize(
    ("options", "limit"),
    [
        ((), 32768),
        (("--max-message", "1KiB"), 1024),
        (("--max-message", "1MiB"), 1 << 20),
    ],
)
def test_max_message(options: tuple[str, ...], limit: int) -> None:
    sizes = frame_sizes(*options)
    assert max(sizes) <= limit
    if limit <= 32768:
        assert max(sizes) == limit


# Variables


def test_variables_reach_a_running_mode(service: Service) -> None:
    variables = {
        "FASTWS_PATH": "/from-variable",
        "FASTWS_PING": "0",
        "FASTWS_HEADER": "X-One: 1\nX-Two: 2",
        "FASTWS_UNKNOWN": "ignored",
    }
    with wts(service.port, **variables) as process:
        assert ", ping off, " in process.lines[0]
        assert status(process, "/") == 404
        with upgraded(process.port, "/from-variable") as peer:
            assert peer.answer.fields["x-one"] == "1"
            assert peer.answer.fields["x-two"] == "2"


def test_argument_wins_over_variable(service: Service) -> None:
    with wts(service.port, "--path", "/argument", FASTWS_PATH="/variable") as process:
        assert status(process, "/argument") == 101
        assert status(process, "/variable") == 404
