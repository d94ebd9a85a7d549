"""A copy between two ends of a test's choice, with the peers at both far sides."""

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator
from typing import Any

from fastws.net.copy import Copy, CopyResult, copy_bidirectional
from fastws.net.ends import CopyOptions
from tests.support.ends import TCP, Spec, open_end
from tests.support.servers import eventually
from tests.support.timing import SHORT, UNIT

LINGER = 10 * UNIT
QUICK = CopyOptions(linger=LINGER, half_close_timeout=0, ping=0)
"""A linger that tests can wait for; nothing else happens by the clock."""


class Relay:
    """A running copy.

    Attributes:
        x: peer at the far side of the end under test, the copy's ``a``.
        y: peer at the far side of ``b``.
        copy: the copy itself, for a look at its state.
    """

    def __init__(self, x: Any, y: Any, copy: Copy, task: Any) -> None:
        self.x = x
        self.y = y
        self.copy = copy
        self.task: asyncio.Task[CopyResult] = task

    async def result(self, timeout: float = SHORT) -> CopyResult:
        """How the copy ended; fails when it does not."""
        return await asyncio.wait_for(asyncio.shield(self.task), timeout)


@contextlib.asynccontextmanager
async def relay(
    a: Spec,
    b: Spec = TCP,
    options: CopyOptions = QUICK,
    *,
    buffers: int = 0,
    unread: tuple[bytes, bytes] = (b"", b""),
    pair: tuple[socket.socket, socket.socket] | None = None,
) -> AsyncIterator[Relay]:
    """Copy between an end of kind ``a`` and one of kind ``b``.

    At the end both peers are closed, and the copy has to end by itself.

    Args:
        a: the end under test.
        b: the other one.
        options: of the copy.
        buffers: size of the kernel's buffers, 0 as they are.
        unread: what was read from each stream before the copy began.
        pair: sockets below ``a``, ours first.
    """
    linger = options.linger
    stream_a, x = await open_end(a, linger=linger, buffers=buffers, pair=pair)
    stream_b, y = await open_end(b, linger=options.linger, buffers=buffers)
    for stream, data in zip((stream_a, stream_b), unread, strict=True):
        if data:
            stream.unread(data)
    group: set[Copy] = set()
    main = copy_bidirectional(stream_a, stream_b, options, group=group)
    task = asyncio.create_task(main)
    await eventually(lambda: group or task.done())
    if not group:
        task.result()
    try:
        yield Relay(x, y, next(iter(group)), task)
    except BaseException:
        task.cancel()
        raise
    finally:
        x.wire.reset()
        y.wire.reset()
        await asyncio.wait([task], timeout=SHORT)
        ended = task.done()
        task.cancel()
    assert ended, "the copy goes on without its peers"


def noise(size: int, seed: int = 1) -> bytes:
    """Bytes in which every offset differs."""
    return random.Random(seed).randbytes(size)


def odd_pieces(data: bytes, seed: int = 1) -> list[bytes]:
    """``data`` cut into pieces of 1 to 40 000 bytes, small ones more often."""
    rng = random.Random(seed)
    pieces, start = [], 0
    while start < len(data):
        end = start + int(40000 ** rng.random())
        pieces.append(data[start:end])
        start = end
    return pieces


async def send_all(peer: Any, pieces: list[bytes]) -> None:
    """Send all of them, each by a call of its own."""
    for piece in pieces:
        await peer.send(piece)


async def give_up(task: asyncio.Task[None]) -> None:
    """Stop sending, before the socket is closed."""
    task.cancel()
    await asyncio.wait([task])


async def stalled(copy: Copy) -> None:
    """Wait until one side is not read any more and nothing moves for a while."""
    seen = -1
    while True:
        count = copy.a.payload_in + copy.b.payload_in
        if count == seen and not (copy.a.is_reading and copy.b.is_reading):
            return
        seen = count
        await asyncio.sleep(UNIT / 4)
