"""CPU a datagram: stw and wts beside socat's plain UDP relay.

``python -m bench.udp`` sends datagrams through each to an echo and back, with one or
more in flight. The two ends of fastws are measured one by one: what counts is the
system and user time of that process, from ``/proc/PID/schedstat``, divided by the
datagrams it passed on, both ways. Needs Linux and socat.
"""

import argparse
import contextlib
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

ROWS = ((200, 1), (1200, 1), (200, 16), (1200, 16), (1200, 64))
TARGET = 2.0  # times socat
WAIT = 10.0  # seconds


def echo(sock: socket.socket) -> None:
    """Send back what comes, for ever."""
    memory = bytearray(65536)
    view = memoryview(memory)
    with contextlib.suppress(OSError):
        while True:
            size, source = sock.recvfrom_into(memory)
            sock.sendto(view[:size], source)


def load(port: int, size: int, window: int, count: int) -> int:
    """Pass ``count`` datagrams, ``window`` of them in flight; returns how many came."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.5)
        sock.connect(("127.0.0.1", port))
        data, memory = bytes(size), bytearray(65536)
        sent = got = lost = 0
        while got + lost < count:
            while sent - got - lost < window and sent < count:
                sock.send(data)
                sent += 1
            try:
                sock.recv_into(memory)
                got += 1
            except TimeoutError:
                lost = sent - got
    return got


def children(pid: int) -> list[int]:
    """Process ids: socat has one for each source, and none of them ends."""
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(child) for child in file.read().split()]


def cpu(pid: int) -> float:
    """Microseconds of a process with its children."""
    with open(f"/proc/{pid}/schedstat", encoding="ascii") as file:
        used = int(file.read().split()[0]) / 1000
    return used + sum(map(cpu, children(pid)))


@contextlib.contextmanager
def fastws(*arguments: str) -> Iterator[tuple[int, int]]:
    """Process id and port of a fastws command."""
    command = [sys.executable, "-m", "fastws", *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr
            line = process.stderr.readline()
            found = re.search(r" on \S*?:(\d+)(?:,| to)", line)
            assert found, line
            threading.Thread(target=process.stderr.read, daemon=True).start()
            yield process.pid, int(found[1])
        finally:
            process.kill()


@contextlib.contextmanager
def socat(target: int) -> Iterator[tuple[int, int]]:
    """Process id and port of socat's relay; it forks for each source."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    ends = (f"UDP-LISTEN:{port},bind=127.0.0.1,fork", f"UDP:127.0.0.1:{target}")
    with subprocess.Popen(["socat", *ends]) as process:
        try:
            wait_for(lambda: load(port, 1, 1, 1) == 1)
            yield process.pid, port
        finally:
            for pid in children(process.pid):
                os.kill(pid, signal.SIGTERM)
            process.terminate()


def wait_for(check: Callable[[], bool]) -> None:
    """Wait until ``check()`` is true."""
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if check():
                return
    raise TimeoutError("a relay does not pass datagrams on")


def measure(
    pids: list[int], port: int, size: int, window: int, count: int
) -> list[float]:
    """Microseconds a datagram of each process."""
    before = [cpu(pid) for pid in pids]
    got = load(port, size, window, count)
    if got < count * 0.99:
        raise RuntimeError(f"{count - got} of {count} datagrams were lost")
    return [(cpu(pid) - was) / (2 * got) for pid, was in zip(pids, before, strict=True)]


def show(size: int, window: int, samples: list[list[float]]) -> bool:
    """Print a row: medians, and the ratios round by round; whether all is in target."""
    names = ("socat", "stw", "wts")
    columns = list(zip(*samples, strict=True))
    cells = [f"{statistics.median(c):6.2f}" for c in columns]
    worst = 0.0
    for name, column in zip(names[1:], columns[1:], strict=True):
        ratios = sorted(
            own / base for own, base in zip(column, columns[0], strict=True)
        )
        middle = statistics.median(ratios)
        worst = max(worst, middle)
        cells.append(f"{name} {middle:.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})")
    print(f"{size:5d} {window:6d}  " + "  ".join(cells), flush=True)
    return worst <= TARGET


def main() -> int:
    """Measure all rows; status 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--count", type=int, default=5000)
    options = parser.parse_args()
    if shutil.which("socat") is None:
        parser.error("socat is not installed")
    with contextlib.ExitStack() as stack:
        service = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        stack.enter_context(service)
        service.bind(("127.0.0.1", 0))
        target = service.getsockname()[1]
        service_pid = os.fork()  # a process of its own: it takes nobody's turn
        if service_pid == 0:
            echo(service)
            os._exit(0)
        stack.callback(os.kill, service_pid, signal.SIGKILL)
        print("bytes window  socat    stw    wts  us a datagram; times socat (spread)")
        with (
            socat(target) as (base, plain),
            fastws("wts", "127.0.0.1:0", f"udp:127.0.0.1:{target}") as (wts, behind),
            fastws("stw", "udp:127.0.0.1:0", f"ws://127.0.0.1:{behind}/") as (
                stw,
                port,
            ),
        ):
            good = True
            for size, window in ROWS:
                samples = []
                for _ in range(options.runs):
                    row = measure([base], plain, size, window, options.count)
                    row += measure([stw, wts], port, size, window, options.count)
                    samples.append(row)
                good = show(size, window, samples) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
