"""The demo finds every wrong byte and every process that fails."""

import io
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest
from click.testing import CliRunner

from fastws.cli.main import cli
from fastws.modes import demo
from tests.support.timing import LONG, SHORT

SIZE = 2 * 256 * 1024 + 5  # two whole blocks and a part


@contextmanager
def service(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A service for one connection; yields its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        sock, _ = listener.accept()
        with sock:
            answer(sock)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with listener:
        yield listener.getsockname()[1]
        thread.join(SHORT)
    assert not thread.is_alive()


def everything(sock: socket.socket) -> bytearray:
    data = bytearray()
    while block := sock.recv(65536):
        data += block
    return data


def push_through(change: Callable[[bytearray], bytearray]) -> None:
    def answer(sock: socket.socket) -> None:
        sock.sendall(change(everything(sock)))

    with service(answer) as port, demo.connect(port) as sock:
        demo.push(sock, SIZE)


def test_echo_service_returns_everything_after_the_end_of_stream() -> None:
    with closing(demo.Echo()) as echo, demo.connect(echo.port) as sock:
        assert demo.push(sock, SIZE) > 0


def test_echo_service_ends() -> None:
    echo = demo.Echo()
    echo.close()
    with pytest.raises(ConnectionRefusedError):
        demo.connect(echo.port)


@pytest.mark.parametrize("size", [0, 1, 256 * 1024])
def test_accept_any_size(size: int) -> None:
    with closing(demo.Echo()) as echo, demo.connect(echo.port) as sock:
        demo.push(sock, size)


def test_accept_unchanged_bytes() -> None:
    push_through(lambda data: data)


@pytest.mark.parametrize("place", [0, 300_000, SIZE - 1])
def test_reject_changed_byte(place: int) -> None:
    def change(data: bytearray) -> bytearray:
        data[place] ^= 1
        return data

    start = place // (256 * 1024) * 256 * 1024
    with pytest.raises(demo.DemoError, match=f"wrong bytes between {start} and"):
        push_through(change)


def test_reject_swapped_blocks() -> None:
    block = 256 * 1024
    with pytest.raises(demo.DemoError, match="wrong bytes between 0 and 262144"):
        push_through(lambda data: data[block : 2 * block] + data[:block] + data[-5:])


def test_reject_missing_byte() -> None:
    with pytest.raises(demo.DemoError, match="ended before all bytes came back"):
        push_through(lambda data: data[:-1])


def test_reject_byte_too_many() -> None:
    with pytest.raises(demo.DemoError, match="more bytes came back than were sent"):
        push_through(lambda data: data + b"x")


def test_ping_pong_is_sorted_and_checked() -> None:
    with closing(demo.Echo()) as echo, demo.connect(echo.port) as sock:
        times = demo.ping_pong(sock, 5)
    assert len(times) == 5
    assert times == sorted(times)

    def spoil(sock: socket.socket) -> None:
        data = bytearray(sock.recv(64))
        data[0] ^= 1
        sock.sendall(data)

    with (
        service(spoil) as port,
        demo.connect(port) as sock,
        pytest.raises(demo.DemoError, match="message 0 came back changed"),
    ):
        demo.ping_pong(sock, 1)


def test_process_that_cannot_start_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    port = demo.free_port()
    with (
        pytest.raises(demo.DemoError, match="fastws wts ended with status 2"),
        demo.running("wts", "nonsense", "h:1") as child,
    ):
        demo.wait_until_listening(child, "wts", port)
    captured = capfd.readouterr()
    assert captured.out == "  $ fastws wts nonsense h:1\n"
    assert "'nonsense' is not an address" in captured.err
    assert child.poll() is not None


def test_bar_draws_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    monkeypatch.setattr(sys, "stdout", file)
    demo.Bar(100).show(100)
    assert file.getvalue() == ""
    monkeypatch.setattr(file, "isatty", lambda: True)
    bar = demo.Bar(100)
    bar.show(50)
    bar.clear()
    half = "#" * 16 + "-" * 16
    assert re.fullmatch(rf"\r  {half}  50%  +\d+ MiB/s\r\x1b\[K", file.getvalue())


def test_demo_runs_the_whole_chain() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fastws", "demo", "--size", "4MiB"],
        env={**os.environ, "FASTWS_PING": "nonsense", "PYTHONIOENCODING": "utf-8"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=LONG,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert re.fullmatch(r"  \$ fastws wts 127\.0\.0\.1:\d+ 127\.0\.0\.1:\d+", lines[1])
    url = r"ws://127\.0\.0\.1:\d+/"
    assert re.fullmatch(rf"  \$ fastws stw 127\.0\.0\.1:\d+ {url}", lines[2])
    assert re.match(r"  latency +\d+ us p50, \d+ us p99 \(2000 round trips", lines[4])
    assert re.match(r"  throughput +\d+ MiB/s each way \(4MiB there and", lines[5])
    assert lines[6].startswith("Every byte came back unchanged")


def test_demo_that_fails_says_so_and_exits_with_1(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(size: int) -> None:
        raise demo.DemoError(f"{size} bytes were wrong")

    monkeypatch.setattr("fastws.cli.demo.run_demo", fail)
    result = CliRunner().invoke(cli, ["demo", "--size", "1KiB"])
    expected = "Error: the demo failed: 1024 bytes were wrong\n"
    assert (result.exit_code, result.output) == (1, expected)
