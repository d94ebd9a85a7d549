"""Socket options, and what the kernel says about a socket."""

import asyncio
import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from fastws._consts import KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_PROBES
from fastws.net import sockopt
from fastws.net.stream import Hold
from tests.support.servers import both_loops, run_on
from tests.support.timing import LONG, SHORT, UNIT

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="Linux tells this")
unix_only = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="unix sockets")
Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def tcp() -> Iterator[Pair]:
    """Two ends of a TCP connection on loopback, ours first."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    with ours, theirs:
        yield ours, theirs


def until(check: Callable[[], object]) -> None:
    deadline = time.monotonic() + SHORT
    while not check():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(UNIT / 100)


def fill(sock: socket.socket) -> int:
    """Send until the kernel takes no more; the bytes sent."""
    sent = 0
    sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            sent += sock.send(bytes(65536))
    return sent


def reset_by(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()


def test_tune_sets_nodelay_and_keepalive(tcp: Pair) -> None:
    ours, _ = tcp
    sockopt.tune(ours)
    assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    if sys.platform == "linux":
        level = socket.IPPROTO_TCP
        assert ours.getsockopt(level, socket.TCP_KEEPIDLE) == KEEPALIVE_IDLE
        assert ours.getsockopt(level, socket.TCP_KEEPINTVL) == KEEPALIVE_INTERVAL
        assert ours.getsockopt(level, socket.TCP_KEEPCNT) == KEEPALIVE_PROBES
        assert ours.getsockopt(level, socket.TCP_USER_TIMEOUT) == 0


@linux_only
def test_tune_sets_user_timeout_in_milliseconds(tcp: Pair) -> None:
    ours, _ = tcp
    sockopt.tune(ours, tcp_user_timeout=2.5)
    assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 2500


@unix_only
def test_tune_leaves_unix_alone() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sockopt.tune(ours, tcp_user_timeout=1.0)
        assert not ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


@linux_only
def test_unacked_counts_what_the_peer_has_no_room_for(tcp: Pair) -> None:
    ours, theirs = tcp
    assert sockopt.unacked(ours) == 0
    sent = fill(ours)
    held = sockopt.unacked(ours)
    assert 0 < held <= sent
    while sent:
        sent -= len(theirs.recv(1 << 20))
    until(lambda: sockopt.unacked(ours) == 0)


def test_counters_of_closed_socket_are_zero(tcp: Pair) -> None:
    ours, _ = tcp
    ours.close()
    assert sockopt.unacked(ours) == 0
    assert sockopt.tcp_info(ours) is None


def test_poll_living_connection_with_data(tcp: Pair) -> None:
    ours, theirs = tcp
    theirs.sendall(b"waiting")
    until(lambda: ours.recv(7, socket.MSG_PEEK) == b"waiting")
    assert sockopt.poll_dead(ours.fileno()) is None


@linux_only
def test_poll_half_closed_connection_lives(tcp: Pair) -> None:
    ours, theirs = tcp
    theirs.shutdown(socket.SHUT_WR)
    until(lambda: ours.recv(1, socket.MSG_PEEK) == b"")
    assert sockopt.poll_dead(ours.fileno()) is None
    ours.shutdown(socket.SHUT_WR)
    until(lambda: sockopt.poll_dead(ours.fileno()))
    assert sockopt.poll_dead(ours.fileno()) == "end"


@linux_only
def test_poll_reset_connection(tcp: Pair) -> None:
    ours, theirs = tcp
    reset_by(theirs)
    until(lambda: sockopt.poll_dead(ours.fileno()))
    assert sockopt.poll_dead(ours.fileno()) == "reset"


@linux_only
def test_poll_reset_after_both_eofs_is_reset(tcp: Pair) -> None:
    ours, theirs = tcp
    ours.shutdown(socket.SHUT_WR)
    reset_by(theirs)
    until(lambda: sockopt.poll_dead(ours.fileno()))
    assert sockopt.poll_dead(ours.fileno()) == "reset"


@linux_only
def test_poll_many_names_the_dead_only(tcp: Pair) -> None:
    ours, theirs = tcp
    alive, far = socket.socketpair()
    with alive, far:
        reset_by(theirs)
        until(lambda: sockopt.poll_dead(ours.fileno()))
        fds = [alive.fileno(), ours.fileno()]
        assert sockopt.poll_dead_all(fds) == [(ours.fileno(), "reset")]


@linux_only
def test_tcp_info_of_established_connection(tcp: Pair) -> None:
    ours, theirs = tcp
    ours.sendall(b"x")
    assert theirs.recv(1) == b"x"
    info = sockopt.tcp_info(ours)
    assert info is not None
    assert info[:3] == (1, 0, 0)  # TCP_ESTABLISHED
    assert 0 <= info.last_ack_recv < LONG
    theirs.close()
    until(lambda: (sockopt.tcp_info(ours) or info).state == 8)  # TCP_CLOSE_WAIT


@linux_only
def test_tcp_info_of_a_stalled_reader_is_no_dead_path(tcp: Pair) -> None:
    """Its closed window is probed, and it answers each probe: nothing is repeated."""
    ours, _ = tcp
    fill(ours)
    answers = 0
    last = 0.0

    def answered() -> bool:
        nonlocal answers, last
        info = sockopt.tcp_info(ours)
        assert info is not None
        assert info.retransmits == 0
        answers += info.last_ack_recv < last
        last = info.last_ack_recv
        return answers == 2

    until(answered)


@unix_only
def test_tcp_info_of_unix_socket_is_none() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert sockopt.tcp_info(ours) is None


def tcp_or_unix(family: str) -> Pair:
    if family == "unix":
        return socket.socketpair()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        ours = socket.create_connection(listener.getsockname())
        return ours, listener.accept()[0]


@unix_only
@both_loops
@pytest.mark.parametrize(
    ("family", "end", "seen"),
    [
        ("tcp", "reset", ConnectionResetError),
        ("tcp", "abort", b""),
        ("unix", "reset", b""),
    ],
    ids=["tcp-reset", "tcp-abort-looks-clean", "unix-only-closes"],
)
def test_reset_reaches_the_peer(
    loop_name: str, family: str, end: str, seen: object
) -> None:
    async def main() -> None:
        ours, theirs = tcp_or_unix(family)
        with theirs:
            theirs.settimeout(SHORT)
            loop = asyncio.get_running_loop()
            create = loop.create_connection
            if family == "unix":
                create = loop.create_unix_connection  # type: ignore[assignment]
            transport, _ = await create(Hold, sock=ours)
            if end == "reset":
                sockopt.reset(transport)
                sockopt.reset(transport)  # a second time does no harm
            else:
                transport.abort()
            for _ in range(5):
                await asyncio.sleep(0)
            sockopt.reset(transport)  # nor when its socket is closed
            if seen == b"":
                assert theirs.recv(1) == b""
            else:
                with pytest.raises(ConnectionResetError):
                    theirs.recv(1)

    run_on(loop_name, main())


@both_loops
def test_tune_transport(loop_name: str) -> None:
    async def main() -> None:
        ours, theirs = tcp_or_unix("tcp")
        with theirs:
            loop = asyncio.get_running_loop()
            transport, _ = await loop.create_connection(Hold, sock=ours)
            sockopt.tune_transport(transport, tcp_user_timeout=1.0)
            sock = transport.get_extra_info("socket")
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            if sys.platform == "linux":
                option = socket.TCP_USER_TIMEOUT
                assert sock.getsockopt(socket.IPPROTO_TCP, option) == 1000
            transport.write(b"still open")
            theirs.settimeout(SHORT)
            assert theirs.recv(10) == b"still open"
            transport.abort()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            sockopt.tune_transport(transport)  # gone: nothing happens

    run_on(loop_name, main())


@pytest.mark.skipif(sys.platform == "win32", reason="no limit there")
def test_raise_nofile_limit() -> None:
    script = """
import resource
from fastws.net.sockopt import raise_nofile_limit
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 128))
print(raise_nofile_limit(), *resource.getrlimit(resource.RLIMIT_NOFILE))
print(raise_nofile_limit())
"""
    out = subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        capture_output=True,
        text=True,
        timeout=LONG,
    )
    assert out.stdout.split() == ["128", "128", "128", "128"]


@pytest.mark.parametrize("disarms", [False, True])
def test_armed_socket_resets_until_it_is_disarmed(tcp: Pair, disarms: bool) -> None:
    ours, theirs = tcp
    theirs.settimeout(SHORT)
    disarm = sockopt.arm_reset(ours)
    if disarms:
        disarm()
        ours.close()
        assert theirs.recv(1) == b""
    else:
        ours.close()
        with pytest.raises(ConnectionResetError):
            theirs.recv(1)


@unix_only
def test_arming_a_unix_socket_does_nothing() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sockopt.arm_reset(ours)()
        ours.close()
        assert theirs.recv(1) == b""
