"""A pooled WebSocket and the scripted peer at its far side (docs/pool.md)."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from fastws.net.copy import CopyResult, copy_bidirectional
from fastws.net.pooled import PooledSocket
from fastws.net.websocket import Peer
from tests.support.copying import QUICK
from tests.support.ends import TCP, Spec, open_end
from tests.support.peers import BINARY, CLOSE, TEXT
from tests.support.servers import eventually
from tests.support.timing import SHORT

TARGET = ("127.0.0.1", 7007)


class Pooled:
    """A pooled WebSocket and the scripted peer at its far side."""

    def __init__(self, socket: PooledSocket, peer: Any) -> None:
        self.socket = socket
        self.peer = peer

    async def says(self, *packets: str) -> None:
        """The peer sends these."""
        for packet in packets:
            await self.peer.send_frame(BINARY, bytes.fromhex(packet))

    async def says_at_once(self, *packets: str) -> None:
        """The peer sends these with one write."""
        frames = [self.peer.encode(BINARY, bytes.fromhex(p)) for p in packets]
        await self.peer.send_raw(b"".join(frames))

    async def hears(self, *packets: str) -> None:
        """These and no others come to the peer."""
        for packet in packets:
            frame = await self.peer.next_frame()
            got = (frame.opcode, frame.payload.hex(" "))
            assert got == (BINARY, bytes.fromhex(packet).hex(" "))

    async def hears_close(self, code: int) -> None:
        frame = await self.peer.next_frame()
        assert (frame.opcode, frame.code) == (CLOSE, code)

    async def joins(self, stream: Any) -> tuple[Any, "asyncio.Task[CopyResult]"]:
        """Copy between the stream and a raw end; its far side, and the copy."""
        raw, far = await open_end(TCP, linger=QUICK.linger)
        task = asyncio.create_task(copy_bidirectional(stream, raw, QUICK))
        return far, task

    async def accepts(self) -> tuple[Any, "asyncio.Task[CopyResult]"]:
        """The server takes the next request, and copies."""
        raw, far = await open_end(TCP, linger=QUICK.linger)
        request = await self.requested()
        stream = self.socket.accept(request)
        assert stream is not None, (self.socket, request)
        return far, asyncio.create_task(copy_bidirectional(stream, raw, QUICK))

    async def requested(self) -> Any:
        return await asyncio.wait_for(self.socket.next_request(), SHORT)

    async def connects(self) -> Any:
        return await self.socket.connect(*TARGET, SHORT)


@contextlib.asynccontextmanager
async def pooled(spec: Spec) -> AsyncIterator[Pooled]:
    """A pooled WebSocket; both of its ends are gone afterwards."""
    stream, peer = await open_end(spec, linger=QUICK.linger)
    assert hasattr(stream, "side")
    socket = PooledSocket(stream, QUICK)  # type: ignore[arg-type]
    pool = Pooled(socket, peer)
    try:
        if spec.peer is Peer.UNCONFIRMED:
            await peer.send_frame(TEXT, b"C")
        yield pool
    finally:
        socket.abort()
        peer.wire.reset()
        await eventually(lambda: socket.end.lost)
