"""Several processes on one port: sharing, restarts, signals, limits."""

import contextlib
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from fastws import app
from fastws.config.schema import WsToTcp
from tests.support import rawws
from tests.support.cli import Fastws, eventually, run_fastws, stw, wts
from tests.support.processes import children, is_running
from tests.support.rawws import BINARY, CLOSE, Peer, upgraded
from tests.support.services import Service, ask, connect
from tests.support.timing import LONG, units

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
]


def sockets(pid: int) -> int:
    """How many sockets a process holds."""
    count = 0
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            count += os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:")
    return count


def crew(process: Fastws, count: int = 2) -> list[int]:
    """The workers, once they have been forked and listen to signals."""
    eventually(lambda: len(children(process.pid)) == count)
    done = process.count("keys reloaded")
    process.signal(signal.SIGHUP)
    eventually(lambda: process.count("keys reloaded") == done + count)
    return sorted(children(process.pid))


def works(peer: Peer) -> bool:
    peer.send(BINARY, b"hello")
    return peer.message(5) == b"hello"


def status(port: int) -> int:
    with connect(port) as sock:
        sock.sendall(rawws.request())
        return rawws.Reader(sock).head().status


def test_workers_share_the_connections(service: Service) -> None:
    with wts(service.port, "--workers", "2") as process:
        assert ", 2 workers" in process.lines[0]
        workers = crew(process)
        before = {pid: sockets(pid) for pid in workers}
        with contextlib.ExitStack() as stack:
            for _ in range(60):
                assert works(stack.enter_context(upgraded(process.port)))
            mine = [(sockets(pid) - before[pid]) // 2 for pid in workers]
            assert abs(sum(mine) - 60) <= 2  # a loop makes some of its own
            assert min(mine) > 10


@pytest.mark.parametrize("kind", ["unix", "fd"])
def test_workers_share_an_inherited_socket(
    service: Service, kind: str, tmp_path: Path
) -> None:
    path = str(tmp_path / "s")
    with contextlib.ExitStack() as stack:
        listen, fds = f"unix:{path}", ()
        if kind == "fd":
            sock = stack.enter_context(socket.socket(socket.AF_UNIX))
            sock.bind(path)
            sock.listen(64)
            listen, fds = f"fd:{sock.fileno()}", (sock.fileno(),)
        target = f"127.0.0.1:{service.port}"
        command = ("wts", listen, target, "--workers", "2")
        stack.enter_context(Fastws(*command, fds=fds))
        for _ in range(10):
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(LONG)
                client.connect(path)
                client.sendall(rawws.request())
                peer = Peer(client, rawws.Reader(client).head())
                assert peer.answer.status == 101
                assert works(peer)
    assert os.path.exists(path) is (kind == "fd")


def test_dead_worker_is_replaced(service: Service) -> None:
    with wts(service.port, "--workers", "2") as process:
        victim, other = crew(process)
        os.kill(victim, signal.SIGKILL)
        process.wait_for(
            rf"WARNING worker \d \(process {victim}\) was killed by SIGKILL"
        )
        eventually(lambda: len(children(process.pid) - {victim}) == 2)
        assert other in children(process.pid)
        for _ in range(20):
            with upgraded(process.port) as peer:
                assert works(peer)


def test_replacement_has_the_newest_files(service: Service, tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text("# nobody\n")
    command = ("wts", "127.0.0.1:0", "--token-file", str(file), "--workers", "2")
    with Fastws(*command) as process:
        file.write_text(f"a: 127.0.0.1:{service.port}\n")
        eventually(lambda: process.count("tokens reloaded") == 2)
        victim, _ = crew(process)
        done = process.count("tokens reloaded")
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: len(children(process.pid) - {victim}) == 2)
        eventually(lambda: process.count("tokens reloaded") == done + 1)
        for _ in range(20):
            with upgraded(process.port, "/?token=a") as peer:
                assert works(peer)


def test_worker_told_to_end_drains_and_is_replaced(service: Service) -> None:
    with wts(service.port, "--workers", "2", "--drain-timeout", "60s") as process:
        first, second = crew(process)
        for pid in (first, second):
            os.kill(pid, signal.SIGTERM)
        process.wait_for(rf"process {first}\) ended with status 0")
        process.wait_for(rf"process {second}\) ended with status 0")
        eventually(lambda: len(children(process.pid)) == 2)
        with upgraded(process.port) as peer:
            assert works(peer)


def test_signal_drains_all(service: Service) -> None:
    options = ("--workers", "2", "--drain-timeout", units(2))
    with wts(service.port, *options) as process:
        workers = crew(process)
        with upgraded(process.port) as peer:
            assert works(peer)
            for pid in workers:  # as a terminal or systemd does
                os.kill(pid, signal.SIGTERM)
            process.signal(signal.SIGTERM)
            frame = peer.frame()
            assert (frame.opcode, frame.code) == (CLOSE, 1001)
            peer.close()
        assert process.wait() == 0
        assert not any(is_running(pid) for pid in workers)
        assert process.count("was killed|ended with status") == 0
        with pytest.raises(ConnectionRefusedError):
            connect(process.port)


def test_second_signal_resets_all(service: Service) -> None:
    with wts(service.port, "--workers", "2", "--drain-timeout", "60s") as process:
        with upgraded(process.port) as peer:
            assert works(peer)
            process.signal(signal.SIGTERM)
            eventually(lambda: process.count("draining: a second signal") == 2)
            process.signal(signal.SIGINT)
            assert process.wait() == 0


def test_unix_file_stays_through_the_drain_delay(
    service: Service, tmp_path: Path
) -> None:
    path = str(tmp_path / "s")
    options = ("--workers", "2", "--drain-delay", units(25))
    target = f"127.0.0.1:{service.port}"
    with Fastws("wts", f"unix:{path}", target, *options) as process:
        process.signal(signal.SIGTERM)
        eventually(lambda: process.count("draining") == 2)
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(LONG)
            client.connect(path)
            client.sendall(rawws.request())
            assert rawws.Reader(client).head().status == 101
        assert process.wait() == 0
    assert not os.path.exists(path)


def test_workers_drain_when_the_parent_is_gone(service: Service) -> None:
    process = Fastws(
        "wts", "127.0.0.1:0", f"127.0.0.1:{service.port}", "--workers", "2"
    )
    process.wait_for("2 workers", LONG)
    workers = crew(process)
    process.signal(signal.SIGKILL)
    eventually(lambda: not any(is_running(pid) for pid in workers))
    assert process.wait() == -signal.SIGKILL


def test_reload_reaches_every_worker(service: Service) -> None:
    with wts(service.port, "--workers", "3") as process:
        process.signal(signal.SIGHUP)
        eventually(lambda: process.count("certificates and keys reloaded") == 3)


def test_limits_are_divided(service: Service) -> None:
    options = ("--workers", "2", "--max-connections", "4")
    with wts(service.port, *options) as process, contextlib.ExitStack() as stack:
        admitted = 0
        for _ in range(60):
            sock = stack.enter_context(connect(process.port))
            sock.sendall(rawws.request())
            admitted += rawws.Reader(sock).head().status == 101
        assert admitted == 4
        process.wait_for(r"full: --max-connections 2")


def test_port_in_use_is_noticed(service: Service) -> None:
    with wts(service.port, "--workers", "2") as process:
        for workers in ("1", "2"):
            where = f"127.0.0.1:{process.port}"
            done = run_fastws("wts", where, "127.0.0.1:9", "--workers", workers)
            assert done.returncode == 1
            assert f"{where}: address already in use" in done.stderr


def test_stw_has_workers_too(service: Service) -> None:
    with wts(service.port) as far, stw(far.url, "--workers", "2") as near:
        for _ in range(10):
            with connect(near.port) as sock:
                assert ask(sock, b"hello") == b"hello"


@pytest.mark.parametrize(
    ("count", "options", "message"),
    [
        (0, {}, "--workers: must be a whole number from 1"),
        (
            3,
            {"max_connections": 2},
            "--workers: --max-connections 2 is less than one each",
        ),
        (2, {"oneshot": True}, "--workers: contradicts --oneshot"),
    ],
)
def test_reject(
    count: int, options: dict[str, Any], message: str, caplog: pytest.LogCaptureFixture
) -> None:
    spec = WsToTcp(listen="127.0.0.1:0", target="127.0.0.1:9", **options)
    assert app.run([spec], workers=count) == 78
    assert caplog.messages[0].startswith(message)


def test_reject_what_is_no_count() -> None:
    done = run_fastws("wts", "127.0.0.1:0", "127.0.0.1:9", "--workers", "x")
    assert done.returncode == 2
    assert "'x' is not a whole number" in done.stderr
