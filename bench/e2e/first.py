"""The first byte of a new proxied connection, through a pool that is cold or warm.

Between the two ends stands a relay that holds everything back, as a long path does;
what is measured is time, not CPU. The path has no distance for TCP itself: its
handshake, which a cold pool pays for as well, would cost one more round trip.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.e2e.peers import FASTWS, HERE, QUIET
from bench.e2e.proc import BenchError, Running, free_port
from bench.e2e.run import Bench
from bench.e2e.threads import LIMIT, ServerThread
from bench.e2e.wss import make_certificate

COLUMN = "via CONNECT"
ROUND_TRIP = 0.05  # seconds
WARM = 4  # idle WebSockets to wait for


class LongPath(ServerThread):
    """A relay that gives each byte on half a round trip later.

    Attributes:
        answers: Connections through which the server has said something.
    """

    def __init__(self, behind: int) -> None:
        self.answers = 0
        self._behind = behind
        super().__init__()

    async def serve(self, r: asyncio.StreamReader, w: asyncio.StreamWriter) -> None:
        try:
            far_r, far_w = await asyncio.open_connection(HERE, self._behind)
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._copy(r, far_w))
                ways.create_task(self._copy(far_r, w, self._count))
        except* OSError:
            pass
        finally:
            w.transport.abort()

    def _count(self) -> None:
        self.answers += 1

    async def _copy(
        self,
        r: asyncio.StreamReader,
        w: asyncio.StreamWriter,
        begun: Callable[[], None] = lambda: None,
    ) -> None:
        held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        async with asyncio.TaskGroup() as both:
            both.create_task(self._give(held, w, begun))
            data = b"-"
            while data:
                data = await r.read(65536)
                held.put_nowait((self.loop.time() + ROUND_TRIP / 2, data))

    async def _give(
        self,
        held: asyncio.Queue[tuple[float, bytes]],
        w: asyncio.StreamWriter,
        begun: Callable[[], None],
    ) -> None:
        while True:
            due, data = await held.get()
            await asyncio.sleep(due - self.loop.time())
            if not data:
                with contextlib.suppress(OSError):
                    w.write_eof()
                return
            begun()
            begun = _nothing
            w.write(data)


def _nothing() -> None:
    pass


class Greeter:
    """A target in a thread that says one byte to whoever connects, and closes."""

    def __init__(self) -> None:
        self._listener = socket.create_server((HERE, 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                with sock:
                    sock.sendall(b"!")

    def close(self) -> None:
        """End the thread."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(LIMIT)


def first_byte(front: int, target: int) -> float:
    """Return milliseconds from the dial to the first byte of the target."""
    begun = time.perf_counter()
    with socket.create_connection((HERE, front), LIMIT) as sock:
        head = f"CONNECT {HERE}:{target} HTTP/1.1\r\nHost: {HERE}:{target}\r\n\r\n"
        sock.sendall(head.encode())
        got = b""
        while not got.partition(b"\r\n\r\n")[2]:
            more = sock.recv(4096)
            if not more:
                raise BenchError(f"no first byte, but {got[:60]!r}")
            got += more
        took = time.perf_counter() - begun
        if not got.startswith(b"HTTP/1.1 200 ") or not got.endswith(b"\r\n\r\n!"):
            raise BenchError(f"not the target's byte: {got[:60]!r}")
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(4096):
            pass
    return took * 1e3


class First:
    """Measures the first-byte rows, one sample of each a round."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._dir = tempfile.TemporaryDirectory(prefix="bench-")
        self._cert = str(Path(self._dir.name) / "cert.pem")
        self._key = str(Path(self._dir.name) / "key.pem")

    def __enter__(self) -> First:
        self._has_tls = make_certificate(self._cert, self._key)
        return self

    def __exit__(self, *_: object) -> None:
        self._dir.cleanup()

    def round(self, round_: int) -> None:
        """Take one sample of each row: the median of a few connections."""
        samples = self._bench.samples
        for tls in (False, True) if self._has_tls else (False,):
            for name, is_warm in (("cold", False), ("warm", True)):
                row = f"first.{name}{'-wss' if tls else ''}"
                if samples.gave_up(COLUMN, row):
                    continue
                try:
                    value = self._measure(tls=tls, is_warm=is_warm)
                except (BenchError, OSError) as error:
                    samples.fail(COLUMN, row, f"{type(error).__name__}: {error}")
                else:
                    samples.add(COLUMN, {row: value}, round_)

    def _measure(self, *, tls: bool, is_warm: bool) -> float:
        keep = (f"--pool-warm={WARM}",) if is_warm else ("--pool-keep=0",)
        with contextlib.ExitStack() as stack:
            target = Greeter()
            stack.callback(target.close)
            front, path = stack.enter_context(self._ends(keep, tls=tls))
            if is_warm:
                wait_until(lambda: path.answers >= WARM)
                time.sleep(2 * ROUND_TRIP)  # the last answer arrives, and is read
            count = self._bench.effort.firsts
            return statistics.median(
                first_byte(front, target.port) for _ in range(count)
            )

    @contextlib.contextmanager
    def _ends(
        self, options: tuple[str, ...], *, tls: bool
    ) -> Iterator[tuple[int, LongPath]]:
        """Start both ends and the path between them."""
        front, far = free_port(), free_port()
        server = [*FASTWS, "proxy-server", f"{HERE}:{far}", "--no-auth", *QUIET]
        server.append("--allow=127.0.0.0/8")
        if tls:
            server += ["--cert", self._cert, "--key", self._key]
            options += ("--ca", self._cert)
        path = LongPath(far)
        via = f"--via={'wss' if tls else 'ws'}://{HERE}:{path.port}/"
        client = [*FASTWS, "proxy", f"{HERE}:{front}", via, *options, *QUIET]
        try:
            with Running([server, client], [far, front]):
                yield front, path
        finally:
            path.close()


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait for something that a thread brings about.

    Raises:
        BenchError: It did not within the limit.
    """
    deadline = time.monotonic() + LIMIT
    while not holds():
        if time.monotonic() > deadline:
            raise BenchError("the pool does not get warm")
        time.sleep(0.005)
