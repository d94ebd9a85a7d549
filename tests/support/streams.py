"""A WebSocket as a transport or a stream, with the peer at its far side."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from fastws.net.ends import CopyOptions
from fastws.ws.stream import Stream
from fastws.ws.transport import WebSocketTransport
from tests.support.copying import QUICK
from tests.support.ends import Spec, every_spec, open_end
from tests.support.servers import eventually
from tests.support.timing import SHORT

WEBSOCKETS = tuple(spec for spec in every_spec() if spec.is_ws)
"""Both sides, both kinds of peer, over TCP, unix sockets and TLS."""


class Recorder(asyncio.Protocol):
    """Writes down what a transport says.

    Attributes:
        calls: names of the calls, in order; data is told once for a run of it.
        data: all that came.
        error: what ``connection_lost`` was told.
        keep_open: the answer of ``eof_received``.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.data = bytearray()
        self.error: Exception | None = None
        self.keep_open = True
        self.lost = asyncio.Event()
        self.transport: Any = None

    def note(self, name: str) -> None:
        if self.calls[-1:] != [name] or name != "data":
            self.calls.append(name)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.note("made")

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.note("data")

    def eof_received(self) -> bool:
        self.note("eof")
        return self.keep_open

    def pause_writing(self) -> None:
        self.note("pause")

    def resume_writing(self) -> None:
        self.note("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.error = exc
        self.note("lost")
        self.lost.set()

    async def end(self) -> Exception | None:
        """Wait for ``connection_lost`` and return what it was told."""
        await asyncio.wait_for(self.lost.wait(), SHORT)
        return self.error


class BufferedRecorder(Recorder, asyncio.BufferedProtocol):
    """The same with 7 bytes of memory."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = bytearray(7)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.memory

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(self.memory[:nbytes]))


@contextlib.asynccontextmanager
async def transport_on(
    spec: Spec,
    protocol: Recorder | None = None,
    options: CopyOptions = QUICK,
    *,
    buffers: int = 0,
) -> AsyncIterator[tuple[Any, Any, Any]]:
    """A transport through a WebSocket, its protocol, and the peer.

    At the end the peer resets, and nothing may be left of the transport.
    """
    protocol = protocol or Recorder()
    stream, peer = await open_end(spec, linger=options.linger, buffers=buffers)
    assert not isinstance(stream, tuple)
    transport = WebSocketTransport(stream, protocol, options, {})  # type: ignore[arg-type]
    try:
        yield transport, protocol, peer
    finally:
        peer.wire.reset()
        await asyncio.wait([transport.task], timeout=SHORT)
        left = not transport.task.done()
        transport.task.cancel()
    assert not left, "the transport goes on without its peer"
    await eventually(protocol.lost.is_set)
    assert protocol.calls.count("lost") == 1
    assert protocol.calls[0] == "made"
    assert protocol.calls[-1] == "lost"


@contextlib.asynccontextmanager
async def stream_on(
    spec: Spec, options: CopyOptions = QUICK, *, buffers: int = 0, **more: Any
) -> AsyncIterator[tuple[Stream, Any]]:
    """A byte stream and the peer; at the end the peer resets."""
    below, peer = await open_end(spec, linger=options.linger, buffers=buffers)
    stream = Stream(below, options, {}, **more)  # type: ignore[arg-type]
    try:
        yield stream, peer
    finally:
        peer.wire.reset()
        await asyncio.wait([stream.transport.task], timeout=SHORT)
        left = not stream.transport.task.done()
        stream.transport.task.cancel()
        with contextlib.suppress(ConnectionError):
            await stream.wait_closed()
    assert not left, "the stream goes on without its peer"
