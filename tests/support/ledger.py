"""What the two programs at the ends of a chain say to each other, byte by byte.

Each direction of a connection is a stream of its own, known from its number alone: so
a lost, repeated or misplaced byte is found where it is read, and what was read of a
broken connection is known to be a prefix of what was sent.
"""

import asyncio
import random
import re
import socket
import struct
from dataclasses import dataclass, field

BLOCK = 256 * 1024
PIECES = (1, 125, 4093, 65_537, 200_003)  # bytes
ENDLESS = 1 << 60  # bytes: more than a connection lives to send
_UNIT = 1 << 15  # bytes of a stream that lie together in the noise
_SPAN = 1 << 20
_NOISE = random.Random(0).randbytes(_SPAN + _UNIT)


def take(stream: int, start: int, count: int) -> bytes:
    """Bytes ``start`` to ``start + count`` of the stream with this number."""
    parts = []
    end = start + count
    while start < end:
        unit, skip = divmod(start, _UNIT)
        place = (stream * 0x9E3779B1 + unit * 0x85EBCA6B) % _SPAN
        size = min(_UNIT - skip, end - start)
        parts.append(_NOISE[place + skip : place + skip + size])
        start += size
    return b"".join(parts)


class WrongBytes(Exception):
    """Something else came than was sent."""


def describe(stream: int, start: int, data: bytes) -> str:
    """Where ``data``, read after ``start`` bytes, are not what the stream says."""
    right = take(stream, start, len(data))
    pairs = enumerate(zip(data, right, strict=True))
    wrong = [place for place, (got, wanted) in pairs if got != wanted]
    first, last = wrong[0], wrong[-1]
    text = f"stream {stream}, read {len(data)} bytes from {start} on: "
    text += f"{len(wrong)} wrong, from {start + first} to {start + last}"
    sample = data[first : first + 64]
    everything = take(stream, 0, start + len(data) + (1 << 22))
    places = [hit.start() for hit in re.finditer(re.escape(sample), everything)]
    return f"{text}; there is {sample.hex()}, which is at {places} of the stream"


@dataclass(frozen=True, slots=True)
class Part:
    """What one side does in a connection.

    Attributes:
        sends: bytes; ``ENDLESS`` for as many as go.
        ends: and then its end.
        waits: it sends nothing before the other side's end.
        stall_at: bytes received after which it reads nothing for a while.
        stall: seconds.
    """

    sends: int
    ends: bool = True
    waits: bool = False
    stall_at: int = 0
    stall: float = 0.0


@dataclass(slots=True)
class Side:
    """One side of a connection.

    Attributes:
        sock: non-blocking.
        stream: number of what it sends; it receives that number plus or minus 1.
        sent: bytes that it gave to the kernel, or began to.
        received: bytes, each of them right.
        eof: the other side's end came.
        errors: of its calls, in order.
    """

    sock: socket.socket
    stream: int
    sent: int = 0
    received: int = 0
    eof: bool = False
    errors: list[OSError] = field(default_factory=list)

    @property
    def outcome(self) -> str:
        """How it ended here: ``eof``, ``reset``, or nothing of both."""
        if self.errors:
            return "reset"
        return "eof" if self.eof else ""

    async def talk(self, part: Part) -> None:
        """Send and receive until both have ended, or broken."""
        ended = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._receive(part, ended))
            group.create_task(self._send(part, ended))

    async def _send(self, part: Part, ended: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        rng = random.Random(self.stream)
        if part.waits:
            await ended.wait()
        try:
            while self.sent < part.sends:
                size = min(rng.choice(PIECES), part.sends - self.sent)
                data = take(self.stream, self.sent, size)
                self.sent += size
                await loop.sock_sendall(self.sock, data)
                await asyncio.sleep(0)  # others want to send too
            if part.ends:
                self.sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            self.errors.append(error)

    async def _receive(self, part: Part, ended: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        stall = part.stall
        try:
            while data := await loop.sock_recv(self.sock, BLOCK):
                self.check(data)
                if stall and self.received >= part.stall_at:
                    await asyncio.sleep(stall)
                    stall = 0.0
                await asyncio.sleep(0)
            self.eof = True
        except OSError as error:
            self.errors.append(error)
        finally:
            ended.set()

    async def talk_for(self, part: Part, seconds: float) -> None:
        """Talk for so long, if it lasts so long, and then leave it as it is."""
        talk = asyncio.create_task(self.talk(part))
        try:
            await asyncio.wait([talk], timeout=seconds)
        finally:
            talk.cancel()
            await asyncio.wait([talk])
        if not talk.cancelled():
            talk.result()

    def check(self, data: bytes) -> None:
        """Count what came.

        Raises:
            WrongBytes: it is not what was sent.
        """
        if data != take(self.stream ^ 1, self.received, len(data)):
            raise WrongBytes(describe(self.stream ^ 1, self.received, data))
        self.received += len(data)

    def reset(self) -> None:
        """Close so that the other side sees a reset."""
        linger = struct.pack("ii", 1, 0)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.sock.close()
