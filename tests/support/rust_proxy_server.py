"""A rust-proxy server made of bytes, in a thread, that misbehaves when told to.

It does what its specification says the real program does, dead ends included; no
code of fastws is in it. What clients send it keeps, message by message.
"""

import asyncio
import base64
import contextlib
import hashlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from typing import Any

from tests.support.timing import LONG

CONNECT, DATA, CLOSE = 1, 2, 3
TEXT, BINARY, PING, PONG = 1, 2, 9, 10
MAX_DATA = 2048
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

Decide = Callable[["Conn", int], str]
"""What to do with the n-th Connect of a connection, counted from 1:
``serve``, ``drop`` (close), ``reset``, ``mute`` (take everything, say nothing)."""


class Conn:
    """One WebSocket of a client.

    Attributes:
        number: of this connection, from 1.
        head: the upgrade request.
        packets: the binary messages of the client, in order.
        opcodes: of all its frames.
        longest: length of its longest message.
        is_open: neither side has closed it.
    """

    def __init__(self, number: int, reader: Any, writer: Any) -> None:
        self.number = number
        self.reader = reader
        self.writer = writer
        self.head = b""
        self.packets: list[bytes] = []
        self.opcodes: list[int] = []
        self.longest = 0
        self.is_open = True
        self.up: Any = None  # writer towards the target
        self.said_close = self.heard_close = False
        self.streams = 0
        self.is_mute = False

    def send(self, opcode: int, payload: bytes) -> None:
        """Write one frame."""
        size = len(payload)
        head = bytes((0x80 | opcode, min(size, 126)))
        head += struct.pack(">H", size) if size > 125 else b""
        if not self.writer.is_closing():
            self.writer.write(head + payload)

    def reset(self) -> None:
        """End it by a TCP reset."""
        sock = self.writer.get_extra_info("socket")
        with contextlib.suppress(OSError, AttributeError):
            sock.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
        self.writer.transport.abort()

    async def read_frame(self) -> tuple[int, bytes]:
        """The next frame, unmasked; fragments are not expected."""
        read = self.reader.readexactly
        first, second = await read(2)
        assert second & 0x80, "a client masks"
        size = second & 0x7F
        assert size < 127, "64 KiB and more in a message"
        if size == 126:
            (size,) = struct.unpack(">H", await read(2))
        key = await read(4)
        data = await read(size)
        pad = key * (size // 4 + 1)
        bits = int.from_bytes(data, "big") ^ int.from_bytes(pad[:size], "big")
        return first & 0x0F, bits.to_bytes(size, "big")


class RustProxyServer:
    """The server; a context manager.

    Args:
        token: that the Authorization field has to hold.
        tls: server context; without it plain ``ws://``, which the real one has not.
        sock: listens already, on another host; without it 127.0.0.1 is listened on.

    Attributes:
        port: that it listens on.
        conns: every WebSocket so far.
        delays: seconds before the n-th 101 from now on, taken from the front.
        held: handshakes that wait for :meth:`let_go`.
        decide: what becomes of a Connect.
        refused: upgrades that got no answer.
    """

    def __init__(
        self,
        token: str = "tok",
        tls: ssl.SSLContext | None = None,
        sock: socket.socket | None = None,
    ) -> None:
        self.token = token
        self.port = 0
        self.conns: list[Conn] = []
        self.delays: list[float] = []
        self.held = 0
        self._gate = asyncio.Event()
        self._gate.set()
        self.decide: Decide = lambda conn, number: "serve"
        self.refused = 0
        self._tls = tls
        self._sock = sock
        self._loop = asyncio.new_event_loop()
        self._server: Any = None
        self._tasks: set[Any] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> "RustProxyServer":
        self._thread.start()
        self.call(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self.call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(LONG)
        self._loop.close()

    # -- for tests -----------------------------------------------------------------

    def call(self, work: Any) -> Any:
        """Run a coroutine in the server's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(LONG)

    @property
    def has_tls(self) -> bool:
        """It speaks TLS, as the real one does."""
        return self._tls is not None

    @property
    def open(self) -> list[Conn]:
        """Those that neither side has closed."""
        return [conn for conn in self.conns if conn.is_open]

    @property
    def connects(self) -> list[bytes]:
        """Every Connect packet."""
        packets = [packet for conn in self.conns for packet in conn.packets]
        return [packet for packet in packets if packet[:1] == b"\1"]

    def say(self, conn: Conn, payload: bytes, opcode: int = BINARY) -> None:
        """Send a message nobody expects."""
        self._loop.call_soon_threadsafe(conn.send, opcode, payload)

    def end(self, conn: Conn, *, reset: bool = False) -> None:
        """End one connection."""
        how = conn.reset if reset else conn.writer.close
        self._loop.call_soon_threadsafe(how)

    def hold(self) -> None:
        """Answer no upgrade before :meth:`let_go`."""
        self._loop.call_soon_threadsafe(self._gate.clear)

    def let_go(self) -> None:
        """Answer those that wait."""
        self._loop.call_soon_threadsafe(self._gate.set)

    def kill(self, *, reset: bool = False) -> None:
        """Stop listening and end every connection, as a killed process does."""
        self.call(self._kill(reset))

    def restart(self) -> None:
        """Listen again on the same port."""
        self.call(self._listen())

    # -- life ----------------------------------------------------------------------

    async def _listen(self) -> None:
        where: dict[str, Any] = {"host": "127.0.0.1", "port": self.port}
        if self._sock is not None:
            where = {"sock": self._sock}
        self._server = await asyncio.start_server(
            self._serve, **where, ssl=self._tls, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close_listener(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _kill(self, reset: bool) -> None:
        await self._close_listener()
        for conn in self.open:
            conn.reset() if reset else conn.writer.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _stop(self) -> None:
        await self._kill(True)
        await asyncio.sleep(0)

    # -- one client ----------------------------------------------------------------

    async def _serve(self, reader: Any, writer: Any) -> None:
        task = asyncio.current_task()
        self._tasks.add(task)
        writer.get_extra_info("socket").setsockopt(
            socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
        )
        conn = None
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            fields = self._fields(head)
            key = fields.get("sec-websocket-key", "").encode()
            if fields.get("authorization") != self.token or not key:
                self.refused += 1
                return
            if self.delays:
                await asyncio.sleep(self.delays.pop(0))
            self.held += 1
            await self._gate.wait()
            self.held -= 1
            accept = base64.b64encode(hashlib.sha1(key + _GUID).digest()).decode()
            writer.write(
                "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\n"
                f"upgrade: websocket\r\nsec-websocket-accept: {accept}\r\n\r\n".encode()
            )
            conn = Conn(len(self.conns) + 1, reader, writer)
            conn.head = head
            self.conns.append(conn)
            await self._talk(conn)
        except (OSError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        except asyncio.CancelledError:
            pass  # killed
        finally:
            if conn is not None:
                conn.is_open = False
                if conn.up is not None:
                    conn.up.close()
            writer.close()
            self._tasks.discard(task)

    @staticmethod
    def _fields(head: bytes) -> dict[str, str]:
        lines = [line.partition(":") for line in head.decode().split("\r\n")[1:]]
        return {name.lower(): value.strip() for name, _, value in lines}

    async def _talk(self, conn: Conn) -> None:
        """Wait for Connect, relay, wait for the next one."""
        while True:
            opcode, payload = await conn.read_frame()
            conn.opcodes.append(opcode)
            if opcode != BINARY or not payload:
                return  # the real one closes while it waits, and forgets the stream
            conn.packets.append(payload)
            conn.longest = max(conn.longest, len(payload))
            if len(payload) > MAX_DATA + 1:
                return
            if conn.is_mute:
                continue
            if payload[0] == CONNECT:
                if not await self._begin(conn, payload):
                    return
            elif conn.up is None:
                continue  # Data and Close mean nothing while it waits
            elif payload[0] == DATA:
                conn.up.write(payload[1:])
                await conn.up.drain()
            elif payload[0] == CLOSE:
                conn.heard_close = True
                with contextlib.suppress(OSError):
                    conn.up.write_eof()
                self._check_over(conn)
            else:
                return

    async def _begin(self, conn: Conn, payload: bytes) -> bool:
        conn.streams += 1
        what = self.decide(conn, conn.streams)
        if what == "drop":
            return False
        if what == "reset":
            conn.reset()
            return False
        if what == "mute":
            conn.is_mute = True
            return True
        host, port = _address(payload)
        try:
            reader, conn.up = await asyncio.open_connection(host, port)
        except OSError:
            return False  # nothing else tells of it
        conn.said_close = conn.heard_close = False
        task = asyncio.get_running_loop().create_task(self._back(conn, reader))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def _back(self, conn: Conn, reader: Any) -> None:
        """Relay what the target says."""
        up = conn.up
        try:
            while data := await reader.read(MAX_DATA):
                conn.send(BINARY, b"\2" + data)
                await conn.writer.drain()
        except OSError:
            if conn.up is up:
                conn.up = None  # and nobody is told, as in the real one
            return
        conn.send(BINARY, b"\3")
        conn.said_close = True
        self._check_over(conn)

    @staticmethod
    def _check_over(conn: Conn) -> None:
        if conn.said_close and conn.heard_close and conn.up is not None:
            conn.up.close()
            conn.up = None


def _address(packet: bytes) -> tuple[str, int]:
    kind, port, rest = packet[1], int.from_bytes(packet[2:4], "little"), packet[4:]
    if kind == 3:
        return rest.decode(), port
    family = socket.AF_INET if kind == 1 else socket.AF_INET6
    return socket.inet_ntop(family, rest), port
