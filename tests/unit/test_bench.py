"""The instruments of ``bench.e2e``: faults are seen, reports are right."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.e2e import report
from bench.e2e.first import ROUND_TRIP, LongPath
from bench.e2e.peers import MODES, earlier
from bench.e2e.proc import Running, count_sockets, free_port, is_listening
from bench.e2e.rows import FIGURES, TARGETS, Target
from bench.e2e.run import Samples
from tests.support.proxies import ConnectProxy, SocksProxy

BENCH = Path(__file__).resolve().parents[2] / "bench"
SECONDS = 5  # a scaled unit: limit of one run of the load generator


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("cc") is None or shutil.which("make") is None:
        pytest.skip("no C compiler or no make")
    copy = tmp_path_factory.mktemp("bench") / "bench"
    shutil.copytree(BENCH, copy, ignore=shutil.ignore_patterns("bin", "results"))
    make = ["make", "-s", "-C", str(copy), "CFLAGS=-O1"]
    subprocess.run(make, check=True, capture_output=True, timeout=100)
    return copy / "bin"


def load(
    programs: Path, workload: str, connect: int, listen: int, *ends: str
) -> dict[str, Any]:
    command = [
        str(programs / "load"),
        workload,
        f"--connect={connect}",
        f"--listen={listen}",
    ]
    command += [f"--timeout={SECONDS}", "--seconds=0.05", "--warm=100000", *ends]
    done = subprocess.run(command, capture_output=True, timeout=4 * SECONDS)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@contextlib.contextmanager
def tcp_relay(
    behind: int,
    change: Callable[[bytes], bytes],
    back: Callable[[bytes], bytes] = bytes,
) -> Iterator[int]:
    """One connection, relayed to the port ``behind``; what goes there is changed."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def copy(
            a: socket.socket, b: socket.socket, edit: Callable[..., bytes]
        ) -> None:
            with contextlib.suppress(OSError):
                while data := a.recv(65536):
                    b.sendall(edit(data))
            for end in (a, b):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

        def serve() -> None:
            near, _ = listener.accept()
            far = socket.create_connection(("127.0.0.1", behind))
            with near, far:
                answers = threading.Thread(target=copy, args=(far, near, back))
                answers.start()
                copy(near, far, change)
                answers.join()

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(4 * SECONDS)


@pytest.mark.parametrize("workload", ["up", "down", "ping", "connect", "idle", "stall"])
@pytest.mark.parametrize(
    ("mode", "ends"),
    [("stw", ("--server=ws", "--closer=server")), ("wts", ("--client=ws",))],
    ids=["stw", "wts"],
)
def test_relay_carries_every_workload(
    programs: Path, mode: str, ends: tuple[str, ...], workload: str
) -> None:
    front, behind = free_port(), free_port()
    command = [str(programs / "relay"), mode, str(front), "127.0.0.1", str(behind)]
    with Running([command], [front]):
        result = load(programs, workload, front, behind, *ends)
    assert result["ok"], result
    if workload in ("up", "down"):
        assert result["bytes"] > 0
        assert result["bytes"] % 65536 == 0
    else:
        assert result["messages"] > 0
    assert result["unclosed"] == 0
    assert result["client"]["not_fin"] == result["server"]["not_fin"] == 0
    assert result["client"]["same_keys"] == result["server"]["same_keys"] == 0


def test_load_sees_a_changed_byte(programs: Path) -> None:
    seen = 0

    def flip_one(data: bytes) -> bytes:
        nonlocal seen
        before, seen = seen, seen + len(data)
        if before <= 50_000 < seen:
            at = 50_000 - before
            return data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]
        return data

    behind = free_port()
    with tcp_relay(behind, flip_one) as front:
        result = load(programs, "up", front, behind)
    assert result["ok"] is False
    assert result["error"].startswith("server 0: wrong bytes between ")


def test_load_sees_a_lost_byte(programs: Path) -> None:
    seen = 0

    def drop_one(data: bytes) -> bytes:
        nonlocal seen
        before, seen = seen, seen + len(data)
        return data[1:] if before <= 50_000 < seen else data

    behind = free_port()
    with tcp_relay(behind, drop_one) as front:
        result = load(programs, "up", front, behind)
    assert result["ok"] is False
    assert result["error"].startswith("server 0: wrong bytes between ")


def test_load_rejects_an_unmasked_client(programs: Path) -> None:
    """A relay that forgets to mask: TCP clients, a WebSocket server behind it."""
    request = (
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    started = False

    def frame_unmasked(data: bytes) -> bytes:
        nonlocal started
        head = b"" if started else request
        started = True
        assert len(data) < 126
        return head + bytes((0x82, len(data))) + data

    behind = free_port()
    with tcp_relay(behind, frame_unmasked, lambda _: b"") as front:
        result = load(programs, "idle", front, behind, "--server=ws")
    assert result == {
        "ok": False,
        "workload": "idle",
        "error": "server got an unmasked frame",
    }


# What wts --send-proxy-protocol=v2 writes for the client that load --features claims.
PROXY = bytes.fromhex("0d0a0d0a000d0a515549540a 21 11 000c c0000201 c0000202 9c40 01bb")


@pytest.mark.parametrize(
    ("header", "error"),
    [
        (PROXY, None),
        (b"", "wrong PROXY header"),
        (PROXY[:-1] + b"\0", "wrong PROXY header"),
    ],
    ids=["right", "none", "other port"],
)
def test_load_wants_a_proxy_header(
    programs: Path, header: bytes, error: str | None
) -> None:
    pending = [header]

    def put_in_front(data: bytes) -> bytes:
        return (pending.pop() if pending else b"") + data

    behind = free_port()
    with tcp_relay(behind, put_in_front) as front:
        result = load(programs, "ping", front, behind, "--features")
    assert result.get("error") == error


class Socks4Bytes(SocksProxy):
    """Says an IPv4 address in its reply, as programs do."""

    def _agree(self, sock: Any) -> bytes | None:
        granted = super()._agree(sock)
        return b"\5\0\0\1\x7f\0\0\1\0\x50" if granted else None


@pytest.mark.parametrize("workload", ["up", "down", "ping", "connect", "idle"])
@pytest.mark.parametrize("client", ["connect", "connect in pieces", "socks5"])
def test_load_goes_through_a_proxy(programs: Path, client: str, workload: str) -> None:
    behind = free_port()
    kind, _, pieces = client.partition(" ")
    with Socks4Bytes(behind) if kind == "socks5" else ConnectProxy(behind) as proxy:
        proxy.pieces = bool(pieces)
        result = load(programs, workload, proxy.port, behind, f"--client={kind}")
        assert result["ok"], result
        assert set(proxy.seen) == {f"127.0.0.1:{behind}"}


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("connect", "CONNECT refused: HTTP/1.1 407"),
        ("socks5", "SOCKS5 wants a login"),
        ("socks5 reply", "SOCKS5 reply 5, address type 1"),
    ],
)
def test_load_says_why_a_proxy_refused(programs: Path, kind: str, error: str) -> None:
    behind = free_port()
    client, _, reply = kind.partition(" ")
    user = "" if reply else "user:password"
    make = ConnectProxy if client == "connect" else SocksProxy
    with make(behind, user) as proxy:
        proxy.reply = 5
        result = load(programs, "ping", proxy.port, behind, f"--client={client}")
    assert (result["ok"], result["error"]) == (False, error)


def test_a_long_path_holds_everything_back() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        path = LongPath(listener.getsockname()[1])
        try:
            with socket.create_connection(("127.0.0.1", path.port)) as near:
                near.settimeout(4 * SECONDS)
                far, _ = listener.accept()
                with far:
                    far.settimeout(4 * SECONDS)
                    begun = time.monotonic()
                    near.sendall(b"there")
                    assert far.recv(100) == b"there"
                    assert path.answers == 0
                    far.sendall(b"back")
                    assert near.recv(100) == b"back"
                    assert time.monotonic() - begun >= ROUND_TRIP
                    assert path.answers == 1
                    near.shutdown(socket.SHUT_WR)
                    assert far.recv(100) == b""
        finally:
            path.close()


def test_streams_beside_a_ping_pong_are_counted(programs: Path) -> None:
    """They run at a low priority: a busy machine may let them wait for long."""
    streamed = 0
    for seconds in (0.3, 1.0, 2.0):
        front, behind = free_port(), free_port()
        command = [str(programs / "relay"), "wts", str(front), "127.0.0.1", str(behind)]
        with Running([command], [front]):
            ends = ("--client=ws", "--streams=2", f"--seconds={seconds}")
            result = load(programs, "mixed", front, behind, *ends, "--timeout=15")
        assert result["ok"], result
        streamed = result["bytes"] - result["messages"] * 128
        if streamed:
            break
    assert streamed > 0


def test_sockets_are_counted() -> None:
    before = count_sockets(os.getpid())
    a, b = socket.socketpair()
    with a, b:
        assert count_sockets(os.getpid()) == before + 2


def test_an_earlier_checkout_is_another_column(tmp_path: Path) -> None:
    """Nothing of this checkout is imported there, wherever it is started."""
    (tmp_path / "fastws").mkdir()
    (tmp_path / "fastws" / "__init__.py").touch()
    peer = earlier(MODES["wts"][0], tmp_path)
    assert peer.name == "before"
    show = "import fastws; print(fastws.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", show],
        cwd=BENCH.parent,
        env=os.environ | peer.env,
        capture_output=True,
        text=True,
        timeout=4 * SECONDS,
    )
    assert done.stdout.strip() == str(tmp_path / "fastws" / "__init__.py")


@pytest.mark.parametrize("mode", list(MODES))
def test_every_target_has_a_row_and_its_columns(mode: str) -> None:
    names = {peer.name for peer in MODES[mode]} | {"uvloop TLS"}
    labels = {key for key, _, _ in FIGURES}
    assert TARGETS[mode]
    for target in TARGETS[mode]:
        assert target.key in labels
        assert {target.peer, *(peer for peer, _ in target.others)} <= names


def test_is_listening_tells_bound_from_listening() -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
        assert not is_listening(port)
        one.listen()
        assert is_listening(port)
    assert not is_listening(port)


def test_ratio_compares_values_of_one_round() -> None:
    samples = Samples()
    for round_, (ours, theirs) in enumerate([(1.0, 2.0), (3.0, 2.0), (9.0, None)]):
        samples.add("fastws", {"up64": ours}, round_)
        if theirs is not None:
            samples.add("C relay", {"up64": theirs}, round_)
    target = Target("up64", 1.15, (("C relay", "up64"),))
    assert report.ratios(samples, target) == [0.5, 1.5]


def test_ratio_of_several_others_takes_their_mean() -> None:
    samples = Samples()
    samples.add("fastws", {"up64": 6.0}, 0)
    samples.add("a", {"up64": 1.0}, 0)
    samples.add("b", {"up64": 3.0}, 0)
    target = Target("up64", 2.3, (("a", "up64"), ("b", "up64")))
    assert report.ratios(samples, target) == [3.0]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (1.0, "met"),
        (1.2, "met"),
        (1.5, "missed by 25 %"),
        (1.203, "missed by less than 1 %"),
    ],
    ids=["below", "at the limit", "above", "hardly above"],
)
def test_verdict(value: float, said: str) -> None:
    assert report.verdict(value, 1.2) == said


def test_spread_shows_median_and_ends() -> None:
    assert report.spread([3.0, 1.0, 200.0]) == "3.00 (1.00–200)"
    assert report.spread([0.0123]) == "0.012"
    assert report.spread([]) == ""
