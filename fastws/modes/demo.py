"""``fastws demo``: the whole chain on this machine, with real processes and bytes.

client → ``fastws stw`` → WebSocket → ``fastws wts`` → echo service, and back. The
client checks every byte, measures throughput and latency, and ends by half-close.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from fastws.config.units import format_size

_HOST = "127.0.0.1"
_BLOCK = 256 * 1024
_PINGS = 2000
_START = 10.0  # seconds for a process to listen
_STALL = 20.0  # seconds without a byte
_STOP = 10.0  # seconds for a process to end after SIGTERM
_BAR = 32


class DemoError(Exception):
    """One line: what did not work."""


class Echo:
    """An echo service on a free loopback port: one thread per connection.

    It answers until the client's end of stream, then ends its own: a service that
    only half-close can serve completely.
    """

    def __init__(self) -> None:
        self._listener = socket.create_server((_HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):  # close() ends the loop
            while True:
                sock, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        block = bytearray(_BLOCK)
        view = memoryview(block)
        with suppress(OSError), sock:  # the client reports what is missing
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while count := sock.recv_into(block):
                sock.sendall(view[:count])

    def close(self) -> None:
        """Stop accepting."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


class Bar:
    """Progress on one line of a terminal; silent elsewhere."""

    def __init__(self, total: int) -> None:
        self._total = max(total, 1)
        self._shown = 0.0
        self._begin = time.perf_counter()
        self._live = sys.stdout.isatty()

    def show(self, done: int) -> None:
        """Redraw at most 20 times a second, and at the end."""
        now = time.perf_counter()
        if not self._live or (now - self._shown < 0.05 and done < self._total):
            return
        self._shown = now
        share = done / self._total
        filled = "#" * round(share * _BAR)
        rate = done / max(now - self._begin, 1e-6) / 2**20
        print(
            f"\r  {filled:-<{_BAR}} {share:4.0%}  {rate:6.0f} MiB/s", end="", flush=True
        )

    def clear(self) -> None:
        """Leave the line empty."""
        if self._live:
            print("\r\x1b[K", end="", flush=True)


def free_port() -> int:
    """A loopback port that nobody used a moment ago."""
    with socket.create_server((_HOST, 0)) as sock:
        port: int = sock.getsockname()[1]
    return port


def fill(block: bytearray, index: int) -> bytearray:
    """Number a block, so that no lost or swapped block goes unnoticed."""
    block[:8] = index.to_bytes(8, "big")
    return block


@contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``fastws ARGUMENTS`` as a process of its own, printed as a command.

    Raises:
        DemoError: it was still running after SIGTERM, or ended with a status.
    """
    print("  $ fastws", *arguments, flush=True)
    command = [sys.executable, "-m", "fastws", *arguments, "--log-level", "warning"]
    clean = {k: v for k, v in os.environ.items() if not _is_option(k)}
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, env=clean) as child:
        try:
            yield child
        except BaseException:
            child.kill()
            raise
        child.send_signal(signal.SIGTERM)
        try:
            status = child.wait(_STOP)
        except subprocess.TimeoutExpired:
            child.kill()
            raise DemoError(
                f"fastws {arguments[0]} did not end after SIGTERM"
            ) from None
        if status and os.name != "nt":
            raise DemoError(f"fastws {arguments[0]} ended with status {status}")


def _is_option(variable: str) -> bool:
    """Whether a variable would change the chain (the loop may be chosen)."""
    return variable.startswith("FASTWS_") and variable not in (
        "FASTWS_LOOP",
        "FASTWS_PURE",
    )


def wait_until_listening(child: subprocess.Popen[bytes], name: str, port: int) -> None:
    """Connect until somebody accepts.

    Raises:
        DemoError: the process ended, or nobody accepted in time.
    """
    deadline = time.monotonic() + _START
    while True:
        with suppress(OSError):
            socket.create_connection((_HOST, port), _START).close()
            return
        if child.poll() is not None:
            raise DemoError(f"fastws {name} ended with status {child.returncode}")
        if time.monotonic() > deadline:
            raise DemoError(f"fastws {name} does not listen on port {port}")
        time.sleep(0.01)


def connect(port: int) -> socket.socket:
    """Open a client connection; no call on it waits longer than 20 s."""
    sock = socket.create_connection((_HOST, port), _STALL)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def receive(sock: socket.socket, view: memoryview) -> None:
    """Fill ``view``.

    Raises:
        DemoError: the stream ended before.
    """
    done = 0
    while done < len(view):
        count = sock.recv_into(view[done:])
        if not count:
            raise DemoError("the connection ended before all bytes came back")
        done += count


def push(sock: socket.socket, total: int) -> float:
    """Send ``total`` bytes, end the stream, and check every byte that comes back.

    Returns:
        Seconds from the first byte sent to the end of the echo.

    Raises:
        DemoError: a byte is wrong, missing, or too many.
    """
    blocks, rest = divmod(total, _BLOCK)
    sizes = [_BLOCK] * blocks + ([rest] if rest else [])
    noise = os.urandom(_BLOCK)

    def send() -> None:
        block = bytearray(noise)
        with suppress(OSError):  # the reading side reports it
            for index, size in enumerate(sizes):
                sock.sendall(memoryview(fill(block, index))[:size])
            sock.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send, daemon=True)
    wanted, got = bytearray(noise), bytearray(_BLOCK)
    bar, done, begin = Bar(total), 0, time.perf_counter()
    sender.start()
    try:
        for index, size in enumerate(sizes):
            receive(sock, memoryview(got)[:size])
            if got[:size] != fill(wanted, index)[:size]:
                raise DemoError(f"wrong bytes between {done} and {done + size}")
            done += size
            bar.show(done)
        if sock.recv(1):
            raise DemoError("more bytes came back than were sent")
    finally:
        bar.clear()
    sender.join(_STALL)
    return time.perf_counter() - begin


def ping_pong(sock: socket.socket, count: int) -> list[float]:
    """Send 64 bytes and wait for them, ``count`` times; returns sorted seconds."""
    times = []
    answer = bytearray(64)
    for index in range(count):
        message = os.urandom(56) + index.to_bytes(8, "big")
        begin = time.perf_counter()
        sock.sendall(message)
        receive(sock, memoryview(answer))
        times.append(time.perf_counter() - begin)
        if answer != message:
            raise DemoError(f"message {index} came back changed")
    return sorted(times)


def run_demo(size: int) -> None:
    """Start the chain, push ``size`` bytes through it, print what was measured.

    Raises:
        DemoError: a process or a byte is wrong; everything is stopped by then.
    """
    wts_port, stw_port = free_port(), free_port()
    try:
        with ExitStack() as stack:
            echo = Echo()
            stack.callback(echo.close)
            print(f"An echo service listens on {_HOST}:{echo.port}. Started:")
            wts = (f"{_HOST}:{wts_port}", f"{_HOST}:{echo.port}")
            child = stack.enter_context(running("wts", *wts))
            wait_until_listening(child, "wts", wts_port)
            stw = (f"{_HOST}:{stw_port}", f"ws://{_HOST}:{wts_port}/")
            child = stack.enter_context(running("stw", *stw))
            wait_until_listening(child, "stw", stw_port)
            measure(stw_port, size)
    except TimeoutError:
        raise DemoError(f"nothing came back for {_STALL:.0f} s") from None
    except OSError as error:
        raise DemoError(error.strerror or str(error)) from None
    print("Every byte came back unchanged, and both processes ended cleanly.")


def measure(port: int, size: int) -> None:
    """Ping-pong first, then bulk; prints one line for each."""
    print("client -> stw -> WebSocket -> wts -> echo service, and back:", flush=True)
    with connect(port) as sock:
        times = ping_pong(sock, _PINGS)
    p50, p99 = (times[int(len(times) * share)] * 1e6 for share in (0.5, 0.99))
    print(
        f"  latency     {p50:.0f} us p50, {p99:.0f} us p99"
        f" ({len(times)} round trips of 64 bytes)",
        flush=True,
    )
    with connect(port) as sock:
        seconds = push(sock, size)
    rate = size / seconds / 2**20
    print(
        f"  throughput  {rate:.0f} MiB/s each way"
        f" ({format_size(size)} there and back in {seconds:.2f} s, then half-close)",
        flush=True,
    )
