"""The far ends that tests speak through: raw sockets, TLS and WebSocket by hand.

Nothing of fastws is used here, so that a mistake there cannot hide itself. A peer says
exactly what a test wants said (a cut without close_notify, a Close of any code) and
reports exactly what came, an RST apart from an EOF.
"""

import asyncio
import errno
import os
import socket
import ssl
import struct
from typing import Any, NamedTuple

from tests.support.timing import LONG, SHORT

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
CHUNK = 65536
ABORT = struct.pack("ii", 1, 0)


class Frame(NamedTuple):
    """A frame as it came, unmasked."""

    fin: bool
    opcode: int
    payload: bytes

    @property
    def code(self) -> int:
        """The code of a Close, 1005 without one."""
        return int.from_bytes(self.payload[:2]) if self.payload else 1005


class Wire:
    """One side of a connection, as the kernel shows it."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.loop = asyncio.get_running_loop()
        self.lock = asyncio.Lock()  # one task may send while another one answers pings

    async def send(self, data: bytes) -> None:
        await self.loop.sock_sendall(self.sock, data)

    async def recv(self, size: int = CHUNK) -> bytes:
        """What is there; ``b""`` at EOF.

        Raises:
            OSError: the peer reset, or TLS was cut.
        """
        return await self.loop.sock_recv(self.sock, size)

    async def finish(self) -> None:
        """No more data from here: FIN, over TLS a close_notify."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """An RST, where the kind of socket has one."""
        if self.sock.fileno() != -1 and self.sock.family != socket.AF_UNIX:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
        self.sock.close()

    def close(self) -> None:
        self.sock.close()

    def was_reset(self) -> bool:
        """An RST has come, also after a FIN; says so once."""
        error = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return error in (errno.ECONNRESET, errno.EPIPE)

    def is_quiet(self) -> bool:
        """Nothing has arrived: no byte, no end."""
        try:
            self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False


class TlsWire(Wire):
    """The same through TLS, one record at a time."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        super().__init__(sock)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        is_server = context.protocol == ssl.PROTOCOL_TLS_SERVER
        self.tls = context.wrap_bio(
            self.incoming,
            self.outgoing,
            server_side=is_server,
            server_hostname=None if is_server else "localhost",
        )
        # uvloop's client keeps its last flight back until it is read from.
        self.handshake = self.loop.create_task(self._do(self.tls.do_handshake))

    async def _do(self, call: Any, *args: Any) -> Any:
        """Call until TLS has what it wants from the socket."""
        while True:
            try:
                result = call(*args)
            except ssl.SSLWantReadError:
                await self._flush()
                data = await super().recv()
                if data:
                    self.incoming.write(data)
                else:
                    self.incoming.write_eof()
                continue
            await self._flush()
            return result

    async def _flush(self) -> None:
        async with self.lock:
            data = self.outgoing.read()
            if data:
                await super().send(data)

    async def send(self, data: bytes) -> None:
        await self.handshake
        for start in range(0, len(data), CHUNK):
            await self._do(self.tls.write, data[start : start + CHUNK])

    async def recv(self, size: int = CHUNK) -> bytes:
        await asyncio.shield(self.handshake)
        try:
            data: bytes = await self._do(self.tls.read, size)
        except ssl.SSLZeroReturnError:
            return b""
        return data

    async def finish(self) -> None:
        await self.handshake
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        await self._flush()

    def reset(self) -> None:
        self.handshake.cancel()
        super().reset()

    def close(self) -> None:
        self.handshake.cancel()
        super().close()


class RawPeer:
    """A program that speaks plain bytes."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire

    async def send(self, data: bytes) -> None:
        await self.wire.send(data)  # as long as the sink takes

    async def read(self, size: int) -> bytes:
        """Exactly ``size`` bytes, or fewer at the end."""
        data = bytearray()
        while len(data) < size:
            left = min(CHUNK, size - len(data))
            async with asyncio.timeout(LONG):
                chunk = await self.wire.recv(left)
            if not chunk:
                break
            data += chunk
        return bytes(data)

    async def read_end(self, timeout: float = SHORT) -> tuple[bytes, str]:
        """Everything that still comes, and how it ended: eof, reset or cut."""
        data = bytearray()
        while True:
            try:
                async with asyncio.timeout(timeout):
                    chunk = await self.wire.recv()
            except ConnectionResetError:
                return bytes(data), "reset"
            except ssl.SSLEOFError:
                return bytes(data), "cut"
            if not chunk:
                return bytes(data), "eof"
            data += chunk

    async def finish(self) -> None:
        """The end of what this peer sends."""
        await self.wire.finish()

    async def break_off(self) -> None:
        """An end that is no EOF."""
        self.wire.reset()

    async def leave(self) -> None:
        """What a peer does once everything was said: close."""
        self.wire.close()

    def is_quiet(self) -> bool:
        return self.wire.is_quiet()


class WsPeer:
    """A program that speaks RFC 6455 after the opening handshake.

    Args:
        wire: below it.
        is_client: masks, and expects unmasked frames.
        is_fastws: speaks and expects signals.
        max_message: no frame may be longer, its header included.
    """

    def __init__(
        self, wire: Wire, *, is_client: bool, is_fastws: bool, max_message: int = 32768
    ) -> None:
        self.wire = wire
        self.is_client = is_client
        self.is_fastws = is_fastws
        self.max_message = max_message
        self.max_frame = 0
        self.buffer = bytearray()
        self.rest = b""
        self.pings = 0
        self.lock = asyncio.Lock()
        self.answers_pings = True

    # -- frames --------------------------------------------------------------------

    def encode(self, opcode: int, payload: bytes, fin: bool = True) -> bytes:
        """One frame, masked if this is a client."""
        mask = 0x80 if self.is_client else 0
        head = bytes([opcode | (0x80 if fin else 0)])
        if len(payload) < 126:
            head += bytes([mask | len(payload)])
        elif len(payload) < 65536:
            head += bytes([mask | 126]) + struct.pack(">H", len(payload))
        else:
            head += bytes([mask | 127]) + struct.pack(">Q", len(payload))
        if self.is_client:
            key = os.urandom(4)
            return head + key + xor(payload, key)
        return head + payload

    async def send_frame(
        self, opcode: int, payload: bytes = b"", fin: bool = True
    ) -> None:
        await self.send_raw(self.encode(opcode, payload, fin))

    async def send_raw(self, data: bytes) -> None:
        async with self.lock:
            await self.wire.send(data)

    async def send_close(self, code: int | None = 1000) -> None:
        await self.send_frame(CLOSE, b"" if code is None else struct.pack(">H", code))

    async def _need(self, size: int, timeout: float) -> None:
        while len(self.buffer) < size:
            async with asyncio.timeout(timeout):
                chunk = await self.wire.recv()
            if not chunk:
                raise EOFError
            self.buffer += chunk

    async def read_frame(self, timeout: float = SHORT) -> Frame:
        """The next frame; checks what RFC 6455 and max_message ask of it.

        Raises:
            EOFError: TCP ended between frames or within one.
            OSError: it was reset.
        """
        await self._need(2, timeout)
        first, second = self.buffer[:2]
        assert first & 0x70 == 0, "reserved bits"
        assert (second & 0x80 != 0) is not self.is_client, "masked by the wrong side"
        length, head = second & 0x7F, 2
        if length >= 126:
            head = 4 if length == 126 else 10
            await self._need(head, timeout)
            length = int.from_bytes(self.buffer[2:head])
            assert length > (125 if head == 4 else 65535), "length not minimal"
        head += 0 if self.is_client else 4
        await self._need(head + length, timeout)
        payload = bytes(self.buffer[head : head + length])
        if not self.is_client:
            payload = xor(payload, bytes(self.buffer[head - 4 : head]))
        del self.buffer[: head + length]
        assert head + length <= self.max_message
        self.max_frame = max(self.max_frame, head + length)
        return Frame(first & 0x80 != 0, first & 15, payload)

    async def next_frame(self, timeout: float = SHORT) -> Frame:
        """The next frame that is neither ping nor pong; pings are answered."""
        while True:
            frame = await self.read_frame(timeout)
            if frame.opcode == PING:
                self.pings += 1
                if self.answers_pings:
                    await self.send_frame(PONG, frame.payload)
            elif frame.opcode != PONG:
                return frame

    # -- the same words as RawPeer -----------------------------------------------------

    async def send(self, data: bytes) -> None:
        await self.send_frame(BINARY, data)

    async def read(self, size: int) -> bytes:
        data = bytearray(self.rest)
        while len(data) < size:
            frame = await self.next_frame(LONG)
            assert (frame.fin, frame.opcode) == (True, BINARY), frame
            data += frame.payload
        self.rest = bytes(data[size:])
        return bytes(data[:size])

    async def read_end(self, timeout: float = SHORT) -> tuple[bytes, str]:
        """Payload, then ``eof`` (F, or Close 1000 to a stranger) or ``reset``."""
        data = bytearray(self.rest)
        self.rest = b""
        while True:
            frame = await self.next_frame(timeout)
            if frame.opcode == BINARY:
                assert frame.fin
                data += frame.payload
            elif frame.opcode == TEXT:
                assert self.is_fastws, f"a stranger was told {frame.payload!r}"
                if frame.payload == b"F":
                    return bytes(data), "eof"
                assert frame.payload == b"R"
                close = await self.next_frame()
                assert (close.opcode, close.code) == (CLOSE, 1011)
                return bytes(data), "reset"
            else:
                assert frame.opcode == CLOSE
                assert not self.is_fastws, f"Close {frame.code} without a signal"
                return bytes(data), "eof" if frame.code == 1000 else "reset"

    async def finish(self) -> None:
        if self.is_fastws:
            await self.send_frame(TEXT, b"F")
        else:
            await self.send_close(1000)

    async def break_off(self) -> None:
        self.wire.reset()

    async def leave(self) -> None:
        """The closing handshake as far as it is this peer's turn, then TCP's end."""
        if self.is_fastws:
            if not self.is_client:
                await self.send_close(1000)
            frame = await self.next_frame()
            assert (frame.opcode, frame.code) == (CLOSE, 1000)
            if self.is_client:
                await self.send_close(1000)
        if self.is_client:
            assert await self.end_of_tcp() == "eof"
        self.wire.close()

    async def end_of_tcp(self, timeout: float = SHORT) -> str:
        """How TCP ends after everything: ``eof``, ``reset`` or ``cut``."""
        raw = RawPeer(self.wire)
        data, how = await raw.read_end(timeout)
        assert (bytes(self.buffer), data) == (b"", b"")
        return how

    def is_quiet(self) -> bool:
        return not self.buffer and self.wire.is_quiet()


def xor(data: bytes, key: bytes) -> bytes:
    """Mask or unmask (RFC 6455 section 5.3)."""
    if not data:
        return data
    stream = (key * (len(data) // 4 + 1))[: len(data)]
    value = int.from_bytes(data) ^ int.from_bytes(stream)
    return value.to_bytes(len(data))
