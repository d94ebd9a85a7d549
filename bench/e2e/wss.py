"""The rows over TLS: handshakes, idle and stalled connections.

Only the process under test is measured, so clients and servers may be slow here; they
are written in Python, because the compiled load generator speaks no TLS.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from bench.e2e.peers import FASTWS, HERE, PY, QUIET, Peer
from bench.e2e.proc import BenchError, Running, free_port
from bench.e2e.run import Bench
from bench.e2e.threads import LIMIT, ServerThread

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
ECHO = bytes(range(16))
BLOCK = bytes(1 << 16)
QUIET_FOR = 0.3  # seconds without progress until a connection counts as stalled
BINARY, CLOSE = 0x82, 0x88
ENDLESS = 1 << 40  # length of the frame that a stalled writer never finishes

Conn = socket.socket | ssl.SSLSocket
Env = Mapping[str, str]


def frame(
    opcode: int, payload: bytes, *, mask: bool, length: int | None = None
) -> bytes:
    """Return a frame, or the beginning of one whose length is given."""
    size = len(payload) if length is None else length
    bit = 0x80 if mask else 0
    if size < 126:
        head = bytes((opcode, bit | size))
    else:
        head = bytes((opcode, bit | 127)) + size.to_bytes(8)
    if not mask:
        return head + payload
    key = os.urandom(4)
    return head + key + bytes(b ^ key[i & 3] for i, b in enumerate(payload))


class Behind(ServerThread):
    """The server behind the process under test: echoes once, then holds.

    Attributes:
        stalls: Never read after the echo and write for ever instead.
        progress: ``time.monotonic()`` of the last write that went through.
    """

    def __init__(self, *, ws: bool, context: ssl.SSLContext | None) -> None:
        self.stalls = False
        self.progress = 0.0
        self._ws = ws
        self._pushing = asyncio.Event()
        super().__init__(context)

    def push(self, *, go: bool) -> None:
        """Say whether connections that stall may begin to write after their echo."""
        change = self._pushing.set if go else self._pushing.clear
        self.loop.call_soon_threadsafe(change)

    async def serve(self, r: asyncio.StreamReader, w: asyncio.StreamWriter) -> None:
        try:
            await (self._echo_ws(r, w) if self._ws else self._echo(r, w))
            if self.stalls:
                await self._push(r, w)
            await r.read()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            w.transport.abort() if self.stalls else w.close()

    async def _echo(self, r: asyncio.StreamReader, w: asyncio.StreamWriter) -> None:
        w.write(await r.readexactly(len(ECHO)))

    async def _echo_ws(self, r: asyncio.StreamReader, w: asyncio.StreamWriter) -> None:
        head = await r.readuntil(b"\r\n\r\n")
        key = next(
            line.partition(b":")[2].strip()
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"sec-websocket-key:")
        )
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
        w.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        got = await r.readexactly(6 + len(ECHO))
        payload = bytes(b ^ got[2 + (i & 3)] for i, b in enumerate(got[6:]))
        w.write(frame(BINARY, payload, mask=False))

    async def _push(self, r: asyncio.StreamReader, w: asyncio.StreamWriter) -> None:
        await self._pushing.wait()  # not yet: it would follow the echo too closely
        if self._ws:
            w.write(frame(BINARY, b"", mask=False, length=ENDLESS))
        while not r.at_eof() and r.exception() is None:  # until the connection is lost
            w.write(BLOCK)
            await w.drain()
            self.progress = time.monotonic()
            await asyncio.sleep(0)  # drain alone lets nobody else run


def receive(conn: Conn, size: int) -> bytes:
    """Return exactly that many bytes."""
    got = b""
    while len(got) < size:
        more = conn.recv(size - len(got))
        if not more:
            raise BenchError(f"connection ended after {len(got)} of {size} bytes")
        got += more
    return got


def connect(port: int, context: ssl.SSLContext | None, *, ws: bool) -> Conn:
    """Connect, upgrade where ``ws``, and wait for one echo."""
    conn: Conn = socket.create_connection((HERE, port), LIMIT)
    conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if context is not None:
        conn = context.wrap_socket(conn, server_hostname=HERE)
    if ws:
        key = base64.b64encode(os.urandom(16)).decode()
        conn.sendall(
            f"GET / HTTP/1.1\r\nHost: {HERE}:{port}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += receive(conn, 1)
        if not head.startswith(b"HTTP/1.1 101 "):
            raise BenchError(f"upgrade refused: {head[:60]!r}")
    conn.sendall(frame(BINARY, ECHO, mask=True) if ws else ECHO)
    want = frame(BINARY, ECHO, mask=False) if ws else ECHO
    got = receive(conn, len(want))
    if got != want:
        raise BenchError(f"wrong echo: {got!r}")
    return conn


def close(conn: Conn, *, ws: bool) -> None:
    """End one connection in order and wait for the other side's end."""
    if ws:
        conn.sendall(frame(CLOSE, b"\x03\xe8", mask=True))
        while conn.recv(4096):
            pass
    elif isinstance(conn, ssl.SSLSocket):
        conn = conn.unwrap()  # sends close_notify, waits for the other one
    conn.close()


def push_until_stalled(conns: list[Conn], behind: Behind, *, ws: bool) -> None:
    """Write into all connections until nobody gets anything through for a while."""
    for conn in conns:
        if ws:
            conn.sendall(frame(BINARY, b"", mask=True, length=ENDLESS))
        conn.setblocking(False)
    behind.push(go=True)
    last = time.monotonic()
    while time.monotonic() - max(last, behind.progress) < QUIET_FOR:
        for conn in conns:
            with contextlib.suppress(BlockingIOError, ssl.SSLWantWriteError):
                conn.send(BLOCK)
                last = time.monotonic()
        time.sleep(0.001)  # lets the other threads run


def make_certificate(cert: str, key: str) -> bool:
    """Make a certificate of our own for this machine; false without openssl."""
    if shutil.which("openssl") is None:
        return False
    options = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
    subject = ("-subj", f"/CN={HERE}", "-addext", f"subjectAltName=IP:{HERE}")
    command = ["openssl", *options.split(), *subject, "-keyout", key, "-out", cert]
    subprocess.run(command, check=True, capture_output=True)
    return True


class Wss:
    """Measures the TLS rows of one mode, one sample of each a round."""

    def __init__(self, bench: Bench, mode: str, peers: Sequence[Peer]) -> None:
        self._bench = bench
        self._ours = [peer for peer in peers if peer.name in ("fastws", "before")]
        self._mode = mode
        self._dir = tempfile.TemporaryDirectory(prefix="bench-")
        self._cert = str(Path(self._dir.name) / "cert.pem")
        self._key = str(Path(self._dir.name) / "key.pem")

    def __enter__(self) -> Wss:
        if self._mode != "tunnel" and make_certificate(self._cert, self._key):
            self._trust = ssl.create_default_context(cafile=self._cert)
        return self

    def __exit__(self, *_: object) -> None:
        self._dir.cleanup()

    def round(self, round_: int) -> None:
        """Take one sample of each row."""
        if not Path(self._cert).exists():
            return
        cpu, allowed = self._bench.cpus.load, os.sched_getaffinity(0)
        os.sched_setaffinity(0, allowed if cpu is None else {cpu})
        try:
            self._rows(round_)
        finally:
            os.sched_setaffinity(0, allowed)

    def _rows(self, round_: int) -> None:
        rows = {"idle": self._idle, "stall": self._stalled}
        if self._mode == "wts":
            rows["handshake"] = self._handshake
        for name, measure in rows.items():
            for peer in self._ours:
                take = partial(measure, peer.env)
                self._take(peer.name, f"wss.{name}", take, round_)
        if self._mode == "wts" and self._ours:
            self._take("uvloop TLS", "wss.handshake", self._bare_handshake, round_)

    def _take(
        self, column: str, row: str, measure: Callable[[], float], round_: int
    ) -> None:
        samples = self._bench.samples
        if samples.gave_up(column, row):
            return
        try:
            value = measure()
        except (BenchError, OSError) as error:
            samples.fail(column, row, f"{type(error).__name__}: {error}")
        else:
            samples.add(column, {row: value}, round_)

    @contextlib.contextmanager
    def _fastws(self, env: Env) -> Iterator[tuple[Running, int, Behind]]:
        """Start fastws with TLS on its WebSocket side and a server behind it."""
        front, at_wts = free_port(), self._mode == "wts"
        context = None
        if not at_wts:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(self._cert, self._key)
        behind = Behind(ws=not at_wts, context=context)
        command = [*FASTWS, self._mode, f"{HERE}:{front}"]
        if at_wts:
            command += [
                f"{HERE}:{behind.port}",
                "--cert",
                self._cert,
                "--key",
                self._key,
            ]
        else:
            command += [f"wss://{HERE}:{behind.port}/", "--ca", self._cert]
        try:
            with Running(
                [[*command, *QUIET]], [front], env, self._bench.cpus.under_test
            ) as running:
                yield running, front, behind
        finally:
            behind.close()

    def _open(self, front: int, count: int) -> list[Conn]:
        at_wts = self._mode == "wts"
        context = self._trust if at_wts else None
        return [connect(front, context, ws=at_wts) for _ in range(count)]

    def _idle(self, env: Env) -> float:
        with self._fastws(env) as (running, front, _), contextlib.ExitStack() as held:
            for conn in self._open(front, 1):
                held.enter_context(conn)
            before, count = running.resident(), self._bench.effort.tls_idle
            for conn in self._open(front, count):
                held.enter_context(conn)
            return (running.resident() - before) / count

    def _stalled(self, env: Env) -> float:
        with (
            self._fastws(env) as (running, front, behind),
            contextlib.ExitStack() as held,
        ):
            at_wts, count = self._mode == "wts", self._bench.effort.tls_stalled
            behind.stalls = True
            before = 0
            for more in (1, count):  # the first one pays for what all share
                behind.push(go=False)
                before = running.resident()
                conns = self._open(front, more)
                for conn in conns:
                    held.enter_context(conn)
                push_until_stalled(conns, behind, ws=at_wts)
            return (running.resident() - before) / count

    def _handshake(self, env: Env) -> float:
        with self._fastws(env) as (running, front, _):
            return self._repeat(running, front, ws=True)

    def _bare_handshake(self) -> float:
        front = free_port()
        command = [PY, "-m", "bench.e2e.tls_echo", str(front), self._cert, self._key]
        with Running([command], [front], cpu=self._bench.cpus.under_test) as running:
            return self._repeat(running, front, ws=False)

    def _repeat(self, running: Running, front: int, *, ws: bool) -> float:
        """Return CPU µs of a connection that is opened, echoes once and is closed."""
        count = self._bench.effort.tls
        for warm in (True, False):
            before = running.spent()
            for _ in range(max(count // 10, 1) if warm else count):
                close(connect(front, self._trust, ws=ws), ws=ws)
        return (running.spent() - before) * 1e6 / count
