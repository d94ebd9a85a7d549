"""``--oneshot`` and LISTEN ``inetd:`` as a user runs them."""

import signal
import socket
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.cli import Fastws, run_fastws, start_fastws, stw, wts
from tests.support.rawws import (
    BINARY,
    Reader,
    close,
    exchange,
    frame,
    request,
    upgraded,
)
from tests.support.services import (
    Service,
    ask,
    connect,
    echo,
    is_reset_by,
    read_to_end,
    reset,
)
from tests.support.timing import LONG

pytestmark = pytest.mark.e2e


# --oneshot


def test_oneshot_stw_serves_one_and_returns_its_result(far: Fastws) -> None:
    with stw(far.url, "--oneshot") as near:
        with connect(near.port) as sock:
            assert ask(sock, b"mine") == b"mine"
            with pytest.raises(ConnectionRefusedError):
                connect(near.port).close()
        assert near.wait() == 0
        assert near.count("draining") == 0


def test_oneshot_stw_that_ends_badly_is_status_1(far: Fastws) -> None:
    with stw(far.url, "--oneshot") as near:
        with connect(near.port) as sock:
            assert ask(sock, b"mine") == b"mine"
            reset(sock)
        assert near.wait() == 1
    with stw("ws://127.0.0.1:1/", "--oneshot") as near:
        assert is_reset_by(near.port)
        assert near.wait() == 1


def test_oneshot_wts_waits_for_a_websocket() -> None:
    """Health checks and strangers at the door are not what it serves."""
    health = b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"
    with Service(echo) as service, wts(service.port, "--oneshot") as far:
        assert exchange(far.port, health)[0].status == 200
        early = connect(far.port)  # accepted before, asks after
        with early, upgraded(far.port) as peer:
            peer.send(BINARY, b"x")
            assert peer.frame().payload == b"x"
            early.sendall(request())
            assert Reader(early).head().status == 503
            peer.sock.sendall(close(1000))
            assert peer.frame().code == 1000
            assert peer.at_end()
        assert far.wait() == 0
        far.wait_for("one is being served")


def test_oneshot_wts_without_a_target_is_status_1() -> None:
    with wts(1, "--oneshot") as far:
        with connect(far.port) as sock:
            sock.sendall(request())
            assert Reader(sock).head().status == 502
        assert far.wait() == 1


def test_oneshot_that_nobody_wanted_ends_with_0(far: Fastws) -> None:
    with stw(far.url, "--oneshot") as near:
        near.signal(signal.SIGTERM)
        assert near.wait() == 0


# inetd:


def inetd(*arguments: str, sock: socket.socket) -> "subprocess.Popen[bytes]":
    """A command as inetd starts it: the connection is all three."""
    return start_fastws(*arguments, stdin=sock, stdout=sock, stderr=sock)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A TCP connection: ours, and the one to hand over."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = connect(listener.getsockname()[1])
        theirs, _ = listener.accept()
    with ours, theirs:
        yield ours, theirs


def test_inetd_stw(far: Fastws, pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    with inetd("stw", "inetd:", far.url, sock=theirs) as process:
        theirs.close()
        assert ask(ours, b"to and fro") == b"to and fro"
        ours.shutdown(socket.SHUT_WR)
        assert read_to_end(ours) == b""
        assert process.wait(LONG) == 0


def test_inetd_wts(pair: tuple[socket.socket, socket.socket]) -> None:
    """Not a log line reaches the client."""
    ours, theirs = pair
    with Service(echo) as service:
        target = f"127.0.0.1:{service.port}"
        options = ("--log-level", "debug", "--ping", "0")
        with inetd("wts", "inetd:", target, *options, sock=theirs) as process:
            theirs.close()
            ours.sendall(request() + frame(BINARY, b"x"))
            reader = Reader(ours)
            assert reader.head().status == 101
            assert reader.frame().payload == b"x"
            ours.sendall(close(1000))
            assert reader.frame().code == 1000
            assert reader.at_end()
            ours.close()
            assert process.wait(LONG) == 0


def test_inetd_wts_that_refuses(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    with inetd("wts", "inetd:", "127.0.0.1:1", sock=theirs) as process:
        theirs.close()
        ours.sendall(request())
        assert Reader(ours).head().status == 502
        ours.close()
        assert process.wait(LONG) == 1


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (("stw", "inetd:", "ws://h/"), 1, "inetd: descriptor 0 is no socket"),
        (("wts", "inetd:", "h:1"), 1, "is no socket; stw - takes a pipe or terminal"),
        (("stw", "8080", "ws://h/", "--text"), 78, "--text: needs - as LISTEN"),
        (("wts", "-", "h:1"), 78, "LISTEN: - is for stw"),
        (("stw", "-", "ws://h/", "--workers", "2"), 78, "TCP and unix sockets only"),
    ],
)
def test_mistakes_are_named(arguments: tuple[str, ...], status: int, text: str) -> None:
    done = run_fastws(*arguments)
    assert (done.returncode, text in done.stderr) == (status, True), done.stderr
