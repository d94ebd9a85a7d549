"""fastws as a user runs it: a process of its own, its addresses read from its log."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

from tests.support.services import ask, connect, is_reset_by
from tests.support.timing import LONG, SHORT, UNIT

_START = re.compile(r"fastws \S+ (?:stw|wts|proxy|proxy-server) on (.+?) to ")
_PORT = re.compile(r":(\d+)$")
_OPTION = re.compile(r"FASTWS_|(?i:https?_proxy|no_proxy)$")
_KEPT = ("FASTWS_PURE", "FASTWS_LOOP", "FASTWS_REQUIRE_SPEEDUPS")


def clean_environment(**variables: str) -> dict[str, str]:
    """Our environment without options and proxies, and with ``variables``."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT or not _OPTION.match(name)
    }
    return {**environment, "PYTHONIOENCODING": "utf-8", **variables}


def run_fastws(
    *arguments: str, timeout: float = LONG, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a command that is expected to end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "fastws", *arguments],
        env=clean_environment(**variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=timeout,
        check=False,
    )


def start_fastws(*arguments: str, **how: Any) -> "subprocess.Popen[bytes]":
    """A command with pipes where ``how``, as for Popen, says nothing else."""
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE) | how
    command = [sys.executable, "-m", "fastws", *arguments]
    return subprocess.Popen(command, env=clean_environment(), **streams)


class Fastws:
    """``fastws stw`` or ``fastws wts``, running.

    A context manager: entered when the start line has come, left when the process has
    ended. Leaving asks for a drain and at once for its end, and fails when the exit
    status is not 0, or when a traceback was logged.

    Args:
        arguments: of the command line.
        fds: descriptors that the process inherits.
        variables: environment variables.

    Attributes:
        lines: what it wrote to stderr so far.
        mark: number of the line from which on a test looks at them.
    """

    def __init__(
        self, *arguments: str, fds: tuple[int, ...] = (), **variables: str
    ) -> None:
        self.lines: list[str] = []
        self.mark = 0
        self.arguments = arguments
        self._news = threading.Condition()
        self._ended = False
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fastws", *arguments],
            env=clean_environment(**variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=fds,
            encoding="utf-8",
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            with self._news:
                self.lines.append(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def __enter__(self) -> Self:
        try:
            start = self.wait_for(_START.pattern, LONG)
        except BaseException:
            self.kill()
            raise
        found = _START.search(start)
        assert found
        self.endpoints = found[1].split(", ")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self.signal(signal.SIGTERM)
            self.signal(signal.SIGINT)
            status: int | None = self.wait()
        else:
            status = None  # the test ended it, and looked at the status
            self._finish()
        if kind is None:
            assert status in (None, 0), self.text
            assert "Traceback" not in self.text, self.text
            assert "exception" not in self.text.lower(), self.text

    def _finish(self) -> None:
        self._reader.join(LONG)
        assert self._process.stderr is not None
        self._process.stderr.close()

    @property
    def text(self) -> str:
        """Everything it wrote to stderr."""
        return "\n".join(self.lines)

    @property
    def port(self) -> int:
        """The port of its first address."""
        found = _PORT.search(self.endpoints[0])
        assert found, self.endpoints
        return int(found[1])

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def url(self) -> str:
        """The WebSocket URL of its first address."""
        return f"ws://127.0.0.1:{self.port}/"

    def rss(self) -> int:
        """Resident memory in bytes (Linux)."""
        with open(f"/proc/{self.pid}/status", encoding="ascii") as file:
            for line in file:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")

    def cpu(self) -> float:
        """Seconds of CPU used so far (Linux)."""
        with open(f"/proc/{self.pid}/stat", encoding="ascii") as file:
            fields = file.read().rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def wait_for(
        self, pattern: str, timeout: float = SHORT, start: int | None = None
    ) -> str:
        """The first line that matches, from ``start`` or the mark on.

        Fails when there is none within ``timeout`` seconds.
        """
        start = self.mark if start is None else start
        find = re.compile(pattern).search
        deadline = time.monotonic() + timeout
        with self._news:
            while True:
                for line in self.lines[start:]:
                    if find(line):
                        return line
                start = max(start, len(self.lines))
                left = deadline - time.monotonic()
                waits = left > 0 and not self._ended
                assert waits, f"no {pattern!r} in:\n{self.text}"
                self._news.wait(left)

    def count(self, pattern: str) -> int:
        """How many lines match, from the mark on."""
        find = re.compile(pattern).search
        return sum(1 for line in self.lines[self.mark :] if find(line))

    def mark_when_quiet(self, files: int) -> None:
        """Mark here, once it holds no more than ``files`` descriptors (Linux).

        Lines that follow a descriptor's end have come by then: the loop has been
        around twice, which SIGHUP shows.
        """
        eventually(lambda: self.files() <= files, LONG)
        for _ in range(2):
            start = len(self.lines)
            self.signal(signal.SIGHUP)
            self.wait_for(" keys reloaded", LONG, start)
        self.mark = len(self.lines)

    def files(self) -> int:
        """How many descriptors it holds (Linux)."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def sockets(self) -> int:
        """How many sockets it holds (Linux)."""
        place = f"/proc/{self.pid}/fd"
        count = 0
        for name in os.listdir(place):
            with contextlib.suppress(OSError):  # closed meanwhile
                count += os.readlink(f"{place}/{name}").startswith("socket:")
        return count

    def signal(self, number: int) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def wait(self, timeout: float = LONG) -> int:
        """Its exit status; fails when it goes on for longer than ``timeout``."""
        try:
            status = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"still running:\n{self.text}") from None
        self._finish()
        return status

    def kill(self) -> None:
        """End it as a crash would."""
        self._process.kill()
        self._process.wait(LONG)
        self._finish()


@contextlib.contextmanager
def stw(url: str, *options: str, **variables: str) -> Iterator[Fastws]:
    """``fastws stw`` on a free port of 127.0.0.1 in front of ``url``."""
    with Fastws("stw", "127.0.0.1:0", url, *options, **variables) as process:
        yield process


@contextlib.contextmanager
def wts(target: str | int, *options: str, **variables: str) -> Iterator[Fastws]:
    """``fastws wts`` on a free port of 127.0.0.1 in front of a target or port."""
    where = f"127.0.0.1:{target}" if isinstance(target, int) else target
    with Fastws("wts", "127.0.0.1:0", where, *options, **variables) as process:
        yield process


@contextlib.contextmanager
def tunnel(
    target: str | int, *options: str, **variables: str
) -> Iterator[tuple[Fastws, Fastws]]:
    """stw in front of wts in front of ``target``; both with the same options."""
    with (
        wts(target, *options, **variables) as far,
        stw(far.url, *options, **variables) as near,
    ):
        yield near, far


def works(near: Fastws) -> bool:
    """Whether a client of stw reaches the echo behind it."""
    with connect(near.port) as sock:
        return ask(sock, b"hello") == b"hello"


def fails(near: Fastws) -> str:
    """What stw logs when it resets a client."""
    assert is_reset_by(near.port)
    return near.wait_for("WARNING stw ")


def eventually(check, timeout: float = SHORT):  # type: ignore[no-untyped-def]
    """Wait until ``check()`` is true and return its value; fail after ``timeout``."""
    deadline = time.monotonic() + timeout
    while not (value := check()):
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(UNIT / 20)
    return value
