"""LISTEN ``-`` and ``--text`` as a user runs them."""

import contextlib
import hashlib
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from tests.support.cli import Fastws, clean_environment, start_fastws, wts
from tests.support.rawws import (
    BINARY,
    CLOSE,
    TEXT,
    Reader,
    accept,
    close,
    frame,
)
from tests.support.services import (
    Service,
    answer_late,
    ask,
    digest_of,
    read_exactly,
    read_to_end,
    reset,
)
from tests.support.timing import LONG, SHORT, units

pytestmark = pytest.mark.e2e

PIPE = subprocess.PIPE
DATA = os.urandom(3_000_000)


def run(*arguments: str, data: bytes = b"", **how: Any) -> tuple[int, bytes, str]:
    """Status, output and error lines of a command that is given all its input."""
    with start_fastws(*arguments, **how) as process:
        out, err = process.communicate(data or None, LONG)
    return process.returncode, out, (err or b"").decode()


@pytest.fixture(scope="module")
def late() -> Iterator[Fastws]:
    """wts in front of a service that answers after the end of input."""
    with Service(answer_late) as service, wts(service.port) as process:
        yield process


def streams(process: "subprocess.Popen[bytes]") -> tuple[IO[bytes], IO[bytes]]:
    """Its input and output."""
    assert process.stdin
    assert process.stdout
    return process.stdin, process.stdout


# Bytes and ends


def test_bytes_and_half_close_and_not_a_word_more(late: Fastws) -> None:
    status, out, err = run("stw", "-", late.url, data=DATA)
    assert (status, err) == (0, "")
    count, _, digest = out.strip().partition(b" ")
    assert int(count) == len(DATA)
    assert digest == hashlib.sha256(DATA).hexdigest().encode()


def test_echo_while_input_goes_on(far: Fastws) -> None:
    assert run("stw", "-", far.url, data=DATA) == (0, DATA, "")


def test_end_of_output_comes_while_input_is_open() -> None:
    """The service ends first; what is typed then still arrives, as over TCP."""
    got = []

    def handle(sock: Any) -> None:
        sock.sendall(b"all I have")
        sock.shutdown(socket.SHUT_WR)
        got.append(digest_of(sock)[1])

    with Service(handle) as service, wts(service.port) as process:
        with start_fastws("stw", "-", process.url) as shell:
            stdin, stdout = streams(shell)
            assert stdout.read() == b"all I have"
            stdin.write(b"x" * 1000)
            stdin.close()
            assert shell.wait(LONG) == 0
        assert got == [1000]


def test_stranger_that_closes_in_order_ends_it_at_once() -> None:
    """Nobody has to press Ctrl-D: what could be typed has nowhere to go."""

    def handle(sock: Any) -> None:
        reader, _ = accept(sock)
        sock.sendall(frame(BINARY, b"bye", key=None) + close(1000, key=None))
        assert reader.frame().code == 1000

    with Service(handle) as service:
        with start_fastws("stw", "-", f"ws://127.0.0.1:{service.port}/") as shell:
            assert shell.stdout
            assert shell.stdout.read() == b"bye"
            assert shell.wait(SHORT) == 0


def test_input_that_a_closing_stranger_did_not_take_is_an_error() -> None:
    def handle(sock: Any) -> None:
        reader, _ = accept(sock)
        reader.frame()
        sock.sendall(close(1000, key=None))
        while reader.frame().opcode != CLOSE:
            pass

    with Service(handle) as service, open("/dev/zero", "rb") as endless:
        url = f"ws://127.0.0.1:{service.port}/"
        status, _, _ = run("stw", "-", url, stdin=endless)
    assert status == 1


def test_reset_of_the_target_is_one_line_and_status_1() -> None:
    def handle(sock: Any) -> None:
        sock.sendall(b"some")
        read_exactly(sock, 1)
        reset(sock)

    with Service(handle) as service, wts(service.port) as process:
        with start_fastws("stw", "-", process.url) as shell:
            stdin, stdout = streams(shell)
            assert stdout.read(4) == b"some"
            stdin.write(b"x")
            stdin.flush()
            assert shell.wait(SHORT) == 1
            assert shell.stderr
            (line,) = shell.stderr.read().decode().splitlines()
    assert re.search(r" WARNING stw stdio id=[0-9a-f]{16} in=1 out=4 .* server: ", line)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("ws://127.0.0.1:1/", "127.0.0.1:1: connection refused"),
        ("ws://nobody.invalid/", "nobody.invalid"),
    ],
)
def test_server_out_of_reach_is_one_line_and_status_1(url: str, text: str) -> None:
    status, out, err = run("stw", "-", url)
    assert (status, out) == (1, b"")
    (line,) = err.splitlines()
    assert re.search(f"WARNING stw stdio id=[0-9a-f]{{16}}: .*{text}", line)


def test_refusing_server_is_quoted() -> None:
    with wts(1) as process:
        status, _, err = run("stw", "-", process.url)
    assert status == 1
    assert "the server answered HTTP 502" in err


def test_output_that_nobody_reads_is_status_1(far: Fastws) -> None:
    with start_fastws("stw", "-", far.url) as shell:
        stdin, stdout = streams(shell)
        stdin.write(b"x")
        stdin.flush()
        assert stdout.read(1) == b"x"
        stdout.close()
        stdin.write(b"y")
        stdin.flush()
        _, err = shell.communicate(timeout=SHORT)
    assert shell.returncode == 1
    assert re.search(
        r" WARNING stw stdio id=[0-9a-f]{16} in=2 .* client: ", err.decode()
    )


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_signal_ends_it_soon(far: Fastws, number: int) -> None:
    """ssh sends SIGHUP and waits; nobody waits for the drain of a long session."""
    with start_fastws("stw", "-", far.url) as shell:
        stdin, stdout = streams(shell)
        stdin.write(b"x")
        stdin.flush()
        assert stdout.read(1) == b"x"
        shell.send_signal(number)
        assert shell.wait(2 * SHORT) == 1
        assert stdout.read() == b""
        assert shell.stderr
        assert shell.stderr.read() == b""


def test_log_level_is_heard(far: Fastws) -> None:
    _, _, err = run("stw", "-", far.url, "--log-level", "info")
    assert " stw on stdio to ws://127.0.0.1" in err
    assert re.search(r"stw stdio id=[0-9a-f]{16} in=0 out=0 .* closed", err)


# What input and output can be


@pytest.mark.parametrize(
    ("source", "sink"),
    [
        ("terminal", "terminal"),
        ("socket", "pipe"),
        ("pipe", "file"),
        ("file", "socket"),
        ("null", "null"),
        ("file", "terminal"),
        ("terminal", "file"),
    ],
)
def test_every_kind_of_input_and_output(
    far: Fastws, source: str, sink: str, tmp_path: Path
) -> None:
    """The blocking modes of what we share are as before."""
    data = b"" if source == "null" else b"one line\n" * 20
    with contextlib.ExitStack() as stack:
        stdin, feed = open_input(stack, source, data, tmp_path)
        stdout, read = open_output(stack, sink, tmp_path)
        shell = start_fastws("stw", "-", far.url, stdin=stdin, stdout=stdout)
        stack.enter_context(shell)
        feed()
        assert shell.wait(LONG) == 0, shell.communicate()[1]
        assert os.get_blocking(stdin)
        assert os.get_blocking(stdout)
        os.close(stdout)
        assert read() == (None if sink == "null" else data)


def open_input(
    stack: contextlib.ExitStack, kind: str, data: bytes, path: Path
) -> tuple[int, Any]:
    """A descriptor to read from, and what feeds it."""
    if kind == "pipe":
        ours, theirs = os.pipe()
    elif kind == "socket":
        ours, theirs = (sock.detach() for sock in socket.socketpair())
    elif kind == "terminal":
        theirs, ours = pty.openpty()
    else:
        (path / "in").write_bytes(data)
        name = os.devnull if kind == "null" else path / "in"
        fd = os.open(name, os.O_RDONLY)
        stack.callback(os.close, fd)
        return fd, lambda: None
    stack.callback(os.close, ours)
    end = b"\x04" if kind == "terminal" else b""

    def feed() -> None:
        os.write(theirs, data + end)
        if kind != "terminal":
            os.close(theirs)

    return ours, feed


def open_output(stack: contextlib.ExitStack, kind: str, path: Path) -> tuple[int, Any]:
    """A descriptor to write to, and what tells all that was written."""
    if kind in ("file", "null"):
        name = os.devnull if kind == "null" else path / "out"
        fd = os.open(name, os.O_WRONLY | os.O_CREAT)
        return fd, lambda: None if kind == "null" else (path / "out").read_bytes()
    if kind == "terminal":
        master, fd = pty.openpty()
    elif kind == "pipe":
        master, fd = os.pipe()
    else:
        master, fd = (sock.detach() for sock in socket.socketpair())
    got = bytearray()

    def collect() -> None:
        with contextlib.suppress(OSError):  # EIO: the terminal is gone
            while chunk := os.read(master, 65536):
                got.extend(chunk)

    thread = threading.Thread(target=collect, daemon=True)
    thread.start()
    stack.callback(os.close, master)

    def read() -> bytes:
        thread.join(SHORT)
        return bytes(got).replace(b"\r\n", b"\n")

    return fd, read


def test_one_socket_for_both(far: Fastws) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(LONG)
        with start_fastws("stw", "-", far.url, stdin=theirs, stdout=theirs) as shell:
            theirs.close()
            assert ask(ours, b"to and fro") == b"to and fro"
            ours.shutdown(socket.SHUT_WR)
            assert read_to_end(ours) == b""
            assert shell.wait(LONG) == 0


def test_big_files_both_ways(far: Fastws, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(DATA)
    with open(tmp_path / "in", "rb") as source, open(tmp_path / "out", "wb") as sink:
        status, _, err = run("stw", "-", far.url, stdin=source, stdout=sink)
    assert (status, err) == (0, "")
    assert (tmp_path / "out").read_bytes() == DATA


@pytest.mark.parametrize(
    ("redirect", "text"),
    [
        ("<&-", "standard input: is closed"),
        (">&-", "standard output: is closed"),
        ("</dev/zero >/dev/full", "client: No space left on device"),
    ],
)
def test_unusable_input_or_output(far: Fastws, redirect: str, text: str) -> None:
    command = f'"$0" -m fastws stw - {far.url} --log-level info {redirect}'
    done = subprocess.run(
        ["sh", "-c", command, sys.executable],
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=LONG,
        check=False,
    )
    assert done.returncode == 1
    assert text.lower() in done.stderr.lower()
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["--help", "--version", "stw --help"])
def test_help_that_nobody_takes(command: str) -> None:
    done = subprocess.run(
        ["sh", "-c", f'"$0" -m fastws {command} >/dev/full', sys.executable],
        env=clean_environment(),
        stderr=subprocess.PIPE,
        encoding="utf-8",
        timeout=LONG,
        check=False,
    )
    reason = "Error: standard output: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, reason)


def test_password_of_nobody() -> None:
    done = subprocess.run(
        ["sh", "-c", '"$0" -m fastws hash-password joe <&-', sys.executable],
        env=clean_environment(),
        capture_output=True,
        encoding="utf-8",
        timeout=LONG,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("Error: no password came on standard input\n")


def test_without_an_error_stream(far: Fastws) -> None:
    """Nothing can be said, but all else works; a socket does not get its number."""
    command = f'exec "$0" -m fastws stw - {far.url} 2>&-'
    done = subprocess.run(
        ["sh", "-c", command, sys.executable],
        env=clean_environment(),
        input=DATA,
        stdout=subprocess.PIPE,
        timeout=LONG,
        check=False,
    )
    assert (done.returncode, done.stdout == DATA) == (0, True)


# --text


def talk(reader: Reader, said: list[Any]) -> None:
    """Keep what comes up to the Close, which is answered."""
    while (got := reader.frame()).opcode != CLOSE:
        said.append((got.opcode, got.payload))
    said.append(got.code)
    reader.sock.sendall(close(got.code, key=None))


def test_lines_are_text_messages_and_messages_are_lines() -> None:
    said: list[Any] = []

    def handle(sock: Any) -> None:
        reader, head = accept(sock)
        assert "x-fastws" not in head.fields
        answers = (
            frame(TEXT, "größer\nals eine\r\nZeile".encode(), key=None)
            + frame(TEXT, b"", key=None)
            + frame(BINARY, b"\xff in ", fin=False, key=None)
            + frame(0, b"two", key=None)
        )
        sock.sendall(answers)
        talk(reader, said)

    with Service(handle) as service:
        url = f"ws://127.0.0.1:{service.port}/"
        lines = "eins\n\nzwei ü\r\nlast without newline".encode()
        got = run("stw", "-", url, "--text", "--linger", units(3), data=lines)
    expected = "größer als eine Zeile\n\n".encode() + b"\xff in two\n"
    assert got == (0, expected, "")
    texts = ("eins", "", "zwei ü", "last without newline")
    assert said == [*((TEXT, text.encode()) for text in texts), 1000]


def test_answers_after_the_last_line_are_printed() -> None:
    """The Close waits for a late answer, as --on-eof says."""

    def handle(sock: Any) -> None:
        reader, _ = accept(sock)
        question = reader.frame().payload
        sock.sendall(frame(TEXT, question.upper(), key=None) + close(1000, key=None))
        assert reader.frame().code == 1000

    with Service(handle) as service:
        url = f"ws://127.0.0.1:{service.port}/"
        assert run("stw", "-", url, "--text", data=b"quiet\n") == (0, b"QUIET\n", "")


def test_line_that_is_not_utf8_is_an_error() -> None:
    said: list[Any] = []
    with Service(lambda sock: talk(accept(sock)[0], said)) as service:
        url = f"ws://127.0.0.1:{service.port}/"
        options = ("--text", "--log-level", "info")
        status, _, err = run("stw", "-", url, *options, data=b"good\n\xff\nlost\n")
    assert status == 1
    assert "line 2 of the input is not UTF-8" in err
    assert said == [(TEXT, b"good"), 1011]


def test_slow_output_stops_the_server() -> None:
    """Memory stays bounded, and nothing is lost."""
    line = b"x" * 9_999

    def handle(sock: Any) -> None:
        reader, _ = accept(sock)
        for _ in range(1_000):
            sock.sendall(frame(TEXT, line, key=None))
        sock.sendall(close(1000, key=None))
        assert reader.frame().code == 1000

    with Service(handle) as service:
        url = f"ws://127.0.0.1:{service.port}/"
        with start_fastws("stw", "-", url, "--text") as shell:
            assert shell.stdout
            count = 0
            while got := shell.stdout.readline():
                assert got == line + b"\n"
                count += 1
            assert count == 1_000
            assert shell.wait(LONG) == 0
