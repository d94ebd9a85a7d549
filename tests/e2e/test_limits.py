"""Time-outs and sizes on both sides of their limit, where other files have one side.

Most of this is waiting, so the checks marked for it run at the same time.
"""

import contextlib
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from tests.support import rawws
from tests.support.cli import Fastws, eventually, run_fastws, stw, wts
from tests.support.datagrams import UdpService
from tests.support.proxies import ConnectProxy
from tests.support.rawws import BINARY, CLOSE, PING, Peer, Reader, accept, frame
from tests.support.rawws import upgraded as upgrade
from tests.support.servers import black_hole, closing
from tests.support.services import (
    Service,
    ask,
    connect,
    echo,
    ends_with_reset,
    is_silent,
    read_exactly,
    read_to_end,
    reset,
)
from tests.support.timing import LONG, UNIT, units

pytestmark = pytest.mark.e2e

Check = Callable[[], None]
CHECKS: list[Check] = []
AT_ONCE = 5


def waits(check: Check) -> Check:
    """One of those that run at the same time; ``test_limit`` says what came of it."""
    CHECKS.append(check)
    return check


def ws_echo(sock: Any) -> None:
    """A WebSocket server that is no fastws: payload comes back, a Close is answered."""
    reader, _ = accept(sock)
    while (got := reader.frame()).opcode != CLOSE:
        if got.opcode == BINARY:
            sock.sendall(frame(BINARY, got.payload, key=None))
    sock.sendall(frame(CLOSE, got.payload, key=None))


@contextlib.contextmanager
def stw_echo(*options: str) -> Iterator[Fastws]:
    """stw in front of such a server."""
    with Service(ws_echo) as server:
        with stw(f"ws://127.0.0.1:{server.port}/", *options) as process:
            yield process


@contextlib.contextmanager
def wts_echo(*options: str) -> Iterator[Fastws]:
    """wts in front of an echo."""
    with Service(echo) as service, wts(service.port, *options) as process:
        yield process


# --ping and --ping-deadline of stw; those of wts: test_options


class Pinged(Service):
    """Notes when pings came after the 101; says something now and then, if told to."""

    def __init__(self, words: int = 0, pause: float = 0.0) -> None:
        self.words, self.pause = words, pause
        super().__init__(self._talk)
        self.url = f"ws://127.0.0.1:{self.port}/"

    def _talk(self, sock: Any) -> None:
        started = time.monotonic()
        reader, _ = accept(sock)
        for _ in range(self.words):
            sock.sendall(frame(BINARY, b".", key=None))
            time.sleep(self.pause)
        while True:
            got = reader.frame()
            self.seen.append((got.opcode, time.monotonic() - started))


@waits
def ping_of_stw() -> None:
    """The first comes after the time between pings, less its 10 %; 0 means none."""
    with Pinged() as often, Pinged() as never, contextlib.ExitStack() as stack:
        for server, ping in ((often, units(4)), (never, "0")):
            near = stack.enter_context(stw(server.url, "--ping", ping))
            stack.enter_context(connect(near.port))
        opcode, took = eventually(lambda: often.seen)[0]
        assert opcode == PING
        assert took >= 3.5 * UNIT
        time.sleep(5 * UNIT)
        assert never.seen == []


@waits
def ping_deadline_of_stw_spares_who_says_anything() -> None:
    """A server that never answers a ping lives as long as it sends payload."""
    options = ("--ping", units(1), "--ping-deadline", units(20))
    with Pinged(words=6, pause=4 * UNIT) as server:
        with stw(server.url, *options) as near, connect(near.port) as sock:
            assert read_exactly(sock, 6) == b"." * 6
            assert ends_with_reset(sock)
            near.wait_for("server: ping timeout$")


# --connect-timeout and --handshake-timeout: those who are slow, and in time


class SlowProxy(ConnectProxy):
    """Takes its time to answer."""

    def _agree(self, sock: Any) -> bytes | None:
        granted = super()._agree(sock)
        time.sleep(3 * UNIT)
        return granted


@waits
def slow_proxy_within_the_connect_timeout() -> None:
    with wts_echo() as far, SlowProxy(far.port) as proxy:
        options = ("--proxy", f"127.0.0.1:{proxy.port}")
        options += ("--connect-timeout", units(100))
        with stw("ws://edge.example/", *options) as near:
            with connect(near.port) as sock:
                assert ask(sock, b"hello") == b"hello"


@waits
def slow_target_within_the_connect_timeout() -> None:
    """Its backlog is full at first; the kernel tries again after a second."""
    port, socks = black_hole()
    listener = socks[0]

    def answer(sock: socket.socket) -> None:
        with contextlib.suppress(OSError), sock:
            echo(sock)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = listener.accept()
                threading.Thread(target=answer, args=(sock,), daemon=True).start()

    with closing(*socks), wts(port, "--connect-timeout", units(200)) as process:
        with connect(process.port) as sock:
            sock.sendall(rawws.request())
            assert is_silent(sock, 2 * UNIT)
            threading.Thread(target=serve, daemon=True).start()
            peer = Peer(sock, Reader(sock).head())
            assert peer.answer.status == 101
            peer.send(BINARY, b"hello")
            assert peer.message(5) == b"hello"
        listener.shutdown(socket.SHUT_RDWR)


@waits
def slow_answer_within_the_handshake_timeout() -> None:
    def slow(sock: Any) -> None:
        reader = Reader(sock)
        answer = rawws.answer_101(reader.head().fields["sec-websocket-key"])
        sock.sendall(answer[:20])
        time.sleep(3 * UNIT)
        sock.sendall(answer[20:] + frame(BINARY, b"at last", key=None))
        read_to_end(sock)

    with Service(slow) as server:
        url = f"ws://127.0.0.1:{server.port}/"
        with stw(url, "--handshake-timeout", units(100)) as near:
            with connect(near.port) as sock:
                assert read_exactly(sock, 7) == b"at last"


# --idle-timeout of stw, --udp-idle of wts


@waits
def idle_timeout_of_stw() -> None:
    """Who says something lives on; who does not is told, and the client is reset."""
    with stw_echo("--idle-timeout", units(20)) as near:
        started = time.monotonic()
        with connect(near.port) as idle, connect(near.port) as busy:
            for _ in range(7):
                assert ask(busy, b"x") == b"x"
                time.sleep(4 * UNIT)
            assert ends_with_reset(idle)
            assert time.monotonic() - started >= 20 * UNIT
            near.wait_for("in=0 out=0 .* idle time-out$")
            assert near.count("idle time-out$") == 1
            assert ask(busy, b"x") == b"x"
            assert ends_with_reset(busy)
        near.wait_for("in=8 out=8 .* idle time-out$")


@waits
def busy_flow_of_wts_outlives_udp_idle() -> None:
    with UdpService() as service:
        target = f"udp:127.0.0.1:{service.port}"
        with wts(target, "--udp-idle", units(20)) as far, upgrade(far.port) as peer:
            for _ in range(6):
                peer.send(BINARY, b"x")
                assert peer.frame().payload == b"x"
                time.sleep(4 * UNIT)
            assert peer.frame().code == 1000


# --max-connection-age


def live(connects: Callable[[int], Any], port: int, is_busy: bool) -> float:
    """Connect, exchange payload, or none, until the other side ends; the seconds."""
    started = time.monotonic()
    with connects(port) as link, contextlib.suppress(ConnectionResetError):
        while True:
            if isinstance(link, Peer):
                if is_busy:
                    link.send(BINARY, b"x")
                got = link.frame()
                if got.opcode == CLOSE:
                    assert got.code == 1001
                    break
            elif is_busy:
                assert ask(link, b"x") == b"x"
            else:
                assert link.recv(1)
            time.sleep(UNIT / 2)
    return time.monotonic() - started


@waits
def age_waits_for_a_pause_but_not_for_long() -> None:
    """13 units for who is quiet, a tenth more for who is busy."""
    options = ("--max-connection-age", units(13))
    with stw_echo(*options) as near, wts_echo(*options) as far:
        with ThreadPoolExecutor(4) as pool:
            ends = {
                pool.submit(live, link, process.port, is_busy): is_busy
                for process, link in ((near, connect), (far, upgrade))
                for is_busy in (False, True)
            }
            for end, is_busy in ends.items():
                assert end.result(LONG) >= (13.7 if is_busy else 12.9) * UNIT
        for process in (near, far):
            process.wait_for(r"in=0 out=0 .* connection age \(--max-connection-age\)$")
            process.wait_for(r"in=[1-9]\d* .* connection age")


# --linger of wts; that of stw: test_options


@waits
def linger_of_wts() -> None:
    """How long a stranger may keep its answer to our Close."""
    with Service(lambda sock: sock.sendall(b"bye")) as target:
        with wts(target.port, "--linger", units(12)) as far:
            started = time.monotonic()
            with upgrade(far.port) as slow, upgrade(far.port) as deaf:
                for peer in (slow, deaf):
                    assert peer.message(3) == b"bye"
                    assert peer.frame().code == 1000
                time.sleep(2 * UNIT)
                slow.close()
                assert slow.at_end()
                slow.sock.close()
                far.wait_for(" in=0 out=3 .* closed$")
                assert far.count(" in=0 out=3 ") == 1
                with contextlib.suppress(ConnectionResetError):
                    assert read_to_end(deaf.sock) == b""
                assert time.monotonic() - started >= 11.9 * UNIT
            eventually(lambda: far.count(" in=0 out=3 ") == 2)


# --tcp-user-timeout


def push_until_stalled(peer: Peer) -> None:
    """Send to a target that reads nothing, until nobody takes any more."""
    peer.sock.settimeout(2 * UNIT)
    block = frame(BINARY, bytes(1 << 20))
    with contextlib.suppress(TimeoutError):
        while True:
            peer.sock.sendall(block)
    peer.sock.settimeout(LONG)


@waits
def tcp_user_timeout_ends_who_takes_nothing() -> None:
    """Linux counts a closed window as no answer; without the option it may be so."""
    asleep = threading.Event()
    with Service(lambda sock: asleep.wait(LONG)) as target:
        with (
            wts(target.port, "--tcp-user-timeout", units(10)) as short,
            wts(target.port) as unlimited,
            upgrade(short.port) as cut,
            upgrade(unlimited.port) as kept,
        ):
            push_until_stalled(kept)
            push_until_stalled(cut)
            got = cut.frame()
            assert (got.opcode, got.code) == (CLOSE, 1011)
            assert is_silent(kept.sock)
            reset(cut.sock)
            short.wait_for("target: keepalive failed$")
            asleep.set()


# --drain-delay and --drain-timeout of stw; those of wts: test_drain


@waits
def drain_delay_of_stw_still_serves() -> None:
    with stw_echo("--drain-delay", units(25), "--on-eof", "close") as near:
        near.signal(signal.SIGTERM)
        started = time.monotonic()
        near.wait_for("draining")
        with connect(near.port) as sock:
            assert ask(sock, b"hello") == b"hello"
        assert near.wait() == 0
        assert time.monotonic() - started >= 24.5 * UNIT


def listens(process: Fastws) -> bool:
    """Whether a connection gets through to it."""
    try:
        with connect(process.port) as sock:
            return ask(sock, b"?") == b"?"
    except (ConnectionRefusedError, ConnectionResetError):
        return False


@waits
def drain_timeout_of_stw() -> None:
    """What goes on is served up to the time-out and then reset; nobody else is."""
    with stw_echo("--drain-timeout", units(25)) as near:
        with connect(near.port) as sock:
            assert ask(sock, b"before") == b"before"
            near.signal(signal.SIGTERM)
            started = time.monotonic()
            near.wait_for("draining")
            eventually(lambda: not listens(near))
            assert ask(sock, b"during") == b"during"
            assert ends_with_reset(sock)
            assert time.monotonic() - started >= 24.9 * UNIT
        assert near.wait() == 0


@waits
def drain_ends_with_the_last_connection() -> None:
    with stw_echo("--drain-timeout", "1h", "--on-eof", "close") as near:
        with connect(near.port) as sock:
            assert ask(sock, b"before") == b"before"
            near.signal(signal.SIGTERM)
            near.wait_for("draining")
            assert ask(sock, b"during") == b"during"
        assert near.wait() == 0
        near.wait_for("in=12 out=12 .* closed$")


# All of them


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest) -> Iterator[dict[Check, Future[None]]]:
    """Every check that this run selects, running."""
    chosen = {
        item.callspec.params["check"]: None
        for item in request.session.items
        if item.path == request.path and "check" in getattr(item, "fixturenames", ())
    }
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {check: pool.submit(check) for check in chosen}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_limit(check: Check, outcomes: dict[Check, Future[None]]) -> None:
    outcomes[check].result()


# --max-message of stw; that of wts: test_options


@pytest.mark.parametrize("limit", [1 << 10, 1 << 15, 1 << 24])
def test_max_message_of_stw(limit: int) -> None:
    """Frames of at most so many bytes with their heads of 6, 8 or 14."""
    total = 200_000

    def measure(sock: Any) -> None:
        reader, _ = accept(sock)
        left = total
        while left:
            got = reader.frame()
            assert got.masked
            assert got.fin
            size = len(got.payload)
            target.seen.append(size + (14 if size > 65535 else 8 if size > 125 else 6))
            left -= size

    with Service(measure) as target:
        url = f"ws://127.0.0.1:{target.port}/"
        with stw(url, "--max-message", str(limit)) as near:
            with connect(near.port) as sock:
                sock.sendall(bytes(total))
                eventually(lambda: sum(target.seen) >= total)
    assert max(target.seen) <= limit
    if limit <= 1 << 15:
        assert max(target.seen) == limit
    else:
        assert max(target.seen) > 1 << 16, "as much as was there at once"


@pytest.mark.parametrize("size", [(1 << 10) - 1, (1 << 24) + 1])
@pytest.mark.parametrize("mode", [("stw", "ws://h/"), ("wts", "127.0.0.1:9")])
def test_max_message_beyond_its_range(mode: tuple[str, str], size: int) -> None:
    command, other = mode
    done = run_fastws(command, "127.0.0.1:0", other, "--max-message", str(size))
    assert done.returncode == 78
    assert "--max-message: must be from 1KiB to 16MiB" in done.stderr
