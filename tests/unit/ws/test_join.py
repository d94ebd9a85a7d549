"""Any two byte streams are joined: WebSockets, asyncio's pairs, sockets, transports."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fastws.exceptions import ConcurrencyError
from fastws.net.ends import End
from fastws.ws.join import copy_bidirectional
from fastws.ws.pipe import PumpSide
from tests.support.certs import certs, plain_client_context, plain_server_context
from tests.support.copying import LINGER, give_up, noise, odd_pieces, send_all
from tests.support.ends import STW, STW_FASTWS, UNIX, WTS_FASTWS, at_once, socket_pair
from tests.support.peers import RawPeer, TlsWire, Wire
from tests.support.servers import both_loops, eventually, run_on
from tests.support.streams import Recorder, stream_on
from tests.support.timing import SHORT

Far = tuple[Any, Any]  # what is joined, and the peer at its far side

FAST = {"linger": LINGER, "ping_interval": None}


@contextlib.asynccontextmanager
async def a_stream() -> AsyncIterator[Far]:
    async with stream_on(WTS_FASTWS) as (stream, peer):
        yield stream, peer


@contextlib.asynccontextmanager
async def a_used_stream() -> AsyncIterator[Far]:
    async with stream_on(STW_FASTWS) as (stream, peer):
        await peer.send(b"used;")
        assert await stream.readexactly(5) == b"used;"
        stream.write(b"used")
        assert await peer.read(4) == b"used"
        yield stream, peer


@contextlib.asynccontextmanager
async def a_pair(tls: bool = False) -> AsyncIterator[Far]:
    near, far = socket_pair(STW.kind)
    options: dict[str, Any] = {}
    if tls:
        options = {"ssl": plain_client_context(), "server_hostname": "localhost"}
        wire: Wire = TlsWire(far, plain_server_context(certs().server))
    else:
        wire = Wire(far)
    reader, writer = await asyncio.open_connection(sock=near, **options)
    try:
        yield (reader, writer), RawPeer(wire)
    finally:
        wire.close()
        with contextlib.suppress(OSError):
            async with asyncio.timeout(SHORT):
                await writer.wait_closed()


def a_tls_pair() -> Any:
    return a_pair(tls=True)


@contextlib.asynccontextmanager
async def a_socket(kind: Any = STW.kind) -> AsyncIterator[Far]:
    near, far = socket_pair(kind)
    wire = Wire(far)
    try:
        yield near, RawPeer(wire)
    finally:
        wire.close()


def a_unix_socket() -> Any:
    return a_socket(UNIX.kind)


@contextlib.asynccontextmanager
async def a_transport() -> AsyncIterator[Far]:
    near, far = socket_pair(STW.kind)
    protocol, wire = Recorder(), Wire(far)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(lambda: protocol, sock=near)
    transport.pause_reading()  # what comes is not for this protocol
    try:
        yield transport, RawPeer(wire)
    finally:
        wire.close()
        assert await protocol.end() is None
        assert protocol.calls == ["made", "lost"]


KINDS: dict[str, Any] = {
    "stream": a_stream,
    "used-stream": a_used_stream,
    "pair": a_pair,
    "tls-pair": a_tls_pair,
    "socket": a_socket,
    "unix-socket": a_unix_socket,
    "transport": a_transport,
}
any_kind = pytest.mark.parametrize("kind", list(KINDS))


@both_loops
@pytest.mark.parametrize("other", ["stream", "pair"])
@any_kind
def test_bytes_and_ends_both_ways(loop_name: str, kind: str, other: str) -> None:
    async def main() -> None:
        there, back = noise(400_000), noise(400_000, 2)
        async with KINDS[kind]() as (a, x), KINDS[other]() as (b, y):
            copying = asyncio.create_task(copy_bidirectional(a, b, **FAST))
            async with asyncio.TaskGroup() as group:
                group.create_task(send_all(x, odd_pieces(there)))
                group.create_task(send_all(y, odd_pieces(back, 2)))
                at_y = group.create_task(y.read(len(there)))
                at_x = group.create_task(x.read(len(back)))
            assert at_y.result() == there
            assert at_x.result() == back
            for peer, far in ((y, x), (x, y)):
                await peer.finish()
                if kind == "tls-pair" and far is x:
                    continue  # it hears of it at the end
                assert await far.read_end() == (b"", "eof")
            for peer in (x, y):
                await peer.leave()
            async with asyncio.timeout(SHORT):
                result = await copying
            assert result == (len(there), len(back), "closed", True)

    run_on(loop_name, main())


@both_loops
@any_kind
def test_break_becomes_a_reset(loop_name: str, kind: str) -> None:
    async def main() -> None:
        async with KINDS[kind]() as (a, x), a_pair() as (b, y):
            copying = asyncio.create_task(copy_bidirectional(a, b, **FAST))
            await x.send(b"before")
            assert await y.read(6) == b"before"
            await y.break_off()
            result = await copying
            assert result.a_to_b == 6
            assert not result.is_clean
            assert result.reason == "b: reset"
            data, how = await x.read_end()
            assert (data, how) == (b"", "eof" if kind.startswith("unix") else "reset")

    run_on(loop_name, main())


@both_loops
@any_kind
def test_cancelled_copy_resets_both(loop_name: str, kind: str) -> None:
    async def main() -> None:
        async with KINDS[kind]() as (a, x), a_pair() as (b, y):
            copying = asyncio.create_task(copy_bidirectional(a, b, **FAST))
            await y.send(b"before")
            assert await x.read(6) == b"before"
            await give_up(copying)
            assert copying.cancelled()
            assert (await y.read_end())[1] == "reset"
            if kind.startswith("unix"):
                assert (await x.read_end())[1] == "eof"
            elif "stream" in kind:
                await eventually(x.wire.was_reset)
            else:
                assert (await x.read_end())[1] in ("reset", "cut")

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize("kind", ["stream", "pair", "tls-pair"])
def test_bytes_that_a_reader_holds_go_first(loop_name: str, kind: str) -> None:
    async def main() -> None:
        async with KINDS[kind]() as (a, x), a_pair() as (b, y):
            reader = a[0] if isinstance(a, tuple) else a.reader_and_writer[0]
            await x.send(b"one\ntwo\nth")
            assert await reader.readline() == b"one\n"
            await eventually(lambda: reader._buffer == b"two\nth")
            await x.send(b"ree")
            copying = asyncio.create_task(copy_bidirectional(a, b, **FAST))
            assert await y.read(9) == b"two\nthree"
            await give_up(copying)

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize("kind", ["stream", "pair", "tls-pair"])
def test_end_that_a_reader_holds_comes_behind_its_bytes(
    loop_name: str, kind: str
) -> None:
    async def main() -> None:
        async with KINDS[kind]() as (a, x), a_pair() as (b, y):
            reader = a[0] if isinstance(a, tuple) else a.reader_and_writer[0]
            await x.send(b"all")
            await x.finish()
            await eventually(lambda: reader._eof)
            copying = asyncio.create_task(copy_bidirectional(a, b, **FAST))
            assert await y.read_end() == (b"all", "eof")
            await y.finish()
            if kind == "stream":
                assert await x.read_end() == (b"", "eof")
                await x.leave()
            async with asyncio.timeout(SHORT):
                result = await copying
            assert result == (3, 0, "closed", True)

    run_on(loop_name, main())


@at_once(STW_FASTWS)
async def test_what_was_written_before_goes_first(spec: Any) -> None:
    """Also when it waits for room: the WebSocket keeps its transport then."""
    early = noise(2 << 20)
    async with stream_on(spec, buffers=65536) as (stream, x), a_pair() as (b, y):
        stream.write(early)
        assert stream.transport.get_write_buffer_size()
        copying = asyncio.create_task(copy_bidirectional(stream, b, **FAST))
        await y.send(b"late")
        await x.send(b"back")
        assert await x.read(len(early) + 4) == early + b"late"
        assert await y.read(4) == b"back"
        late = noise(2 << 20, 3)
        sending = asyncio.create_task(send_all(y, odd_pieces(late)))
        assert await x.read(len(late)) == late
        await sending
        await y.finish()
        assert await x.read_end() == (b"", "eof")
        await x.finish()
        await x.leave()
        assert await y.read_end() == (b"", "eof")
        assert await copying == (4, len(late) + 4, "closed", True)


@at_once(STW_FASTWS, WTS_FASTWS)
async def test_half_closed_stream_can_be_joined(spec: Any) -> None:
    async with stream_on(spec) as (stream, x), a_pair() as (b, y):
        stream.write_eof()
        assert await x.read_end() == (b"", "eof")
        copying = asyncio.create_task(copy_bidirectional(stream, b, **FAST))
        await x.send(b"answer")
        assert await y.read(6) == b"answer"
        await x.break_off()
        assert (await y.read_end())[1] == "reset"
        result = await copying
        assert result.reason.startswith("a: ")


@at_once(STW_FASTWS, WTS_FASTWS)
async def test_bytes_for_a_half_closed_stream_break_it(spec: Any) -> None:
    """As for TCP: nobody takes them, and both sides have to know."""
    async with stream_on(spec) as (stream, x), a_pair() as (b, y):
        stream.write_eof()
        assert await x.read_end() == (b"", "eof")
        copying = asyncio.create_task(copy_bidirectional(stream, b, **FAST))
        await y.send(b"too late")
        assert (await y.read_end())[1] == "reset"
        assert await x.read_end() == (b"", "reset")
        result = await copying
        assert result[2:] == ("a: written after write_eof()", False)


@both_loops
@any_kind
def test_cancelled_at_every_turn(loop_name: str, kind: str) -> None:
    """While ends are taken too: nothing stays open."""

    async def main() -> None:
        for turns in range(6):
            async with KINDS[kind]() as (a, x), a_socket() as (b, y):
                copying = asyncio.create_task(copy_bidirectional(a, b, **FAST))
                for _turn in range(turns):
                    await asyncio.sleep(0)
                await give_up(copying)
                assert copying.cancelled()
                if turns == 0:  # it never began: both are the caller's
                    b.close()
                    taken = a if isinstance(a, tuple) else (a,)
                    getattr(taken[-1], "abort", taken[-1].close)()
                    continue
                assert await y.read_end() == (b"", "reset")
                with contextlib.suppress(ConnectionError, EOFError):
                    assert (await x.read_end())[1] in ("reset", "cut", "eof")

    run_on(loop_name, main())


@at_once(STW_FASTWS)
async def test_two_streams_need_no_pipe(spec: Any) -> None:
    """The pump moves the bytes of both WebSockets itself."""
    async with a_used_stream() as (a, x), a_stream() as (b, y):
        copying = asyncio.create_task(copy_bidirectional(a, b, **FAST))
        await eventually(lambda: a.transport.has_moved)
        assert a.transport.end.peer is b.transport.end
        assert isinstance(a.transport.end, End)
        await x.send(b"through")
        assert await y.read(7) == b"through"
        assert isinstance(a.transport.pump_side, PumpSide)
        await x.break_off()
        result = await copying
        assert result[:3] == (7, 0, "a: lost without a Close")
        assert await y.read_end() == (b"", "reset")
        for stream in (a, b):
            assert stream.is_closing()
            await stream.wait_closed()
            assert await stream.read() == b""


@at_once(STW_FASTWS)
async def test_backpressure_passes_through(spec: Any) -> None:
    async with stream_on(spec, buffers=65536) as (stream, x), a_pair() as (b, y):
        stream.write_eof()  # so that the pipe stays between them
        assert await x.read_end() == (b"", "eof")
        copying = asyncio.create_task(copy_bidirectional(stream, b, **FAST))
        data = noise(8 << 20)
        sending = asyncio.create_task(send_all(x, odd_pieces(data)))
        await eventually(lambda: not stream.transport.end.is_reading)
        assert stream.transport.held < 512 * 1024
        assert await y.read(len(data)) == data
        await sending
        await give_up(copying)


@both_loops
def test_reject_what_is_no_stream(loop_name: str) -> None:
    async def main() -> None:
        near, far = socket_pair(STW.kind)
        async with a_pair() as (pair, peer):
            reader, writer = pair
            udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            context = ssl.create_default_context()
            wrapped = context.wrap_socket(
                socket.socket(), server_hostname="h", do_handshake_on_connect=False
            )
            for wrong in (5, None, "tcp", (1, writer), udp, wrapped):
                with pytest.raises(TypeError):
                    await copy_bidirectional(near, wrong)  # type: ignore[arg-type]
            reading = asyncio.create_task(reader.read(1))
            await asyncio.sleep(0)
            with pytest.raises(ConcurrencyError):
                await copy_bidirectional(near, pair)
            with pytest.raises(ValueError, match="with itself"):
                await copy_bidirectional(near, near)
            await peer.send(b"x")
            assert await reading == b"x"
            far.send(b"y")
            assert near.recv(1) == b"y"  # nothing was touched
            for sock in (udp, wrapped, near, far):
                sock.close()
            writer.close()

    run_on(loop_name, main())


@both_loops
def test_writer_hears_of_the_end(loop_name: str) -> None:
    async def main() -> None:
        async with a_pair() as (a, x), a_pair() as (b, y):
            copying = asyncio.create_task(copy_bidirectional(a, b, **FAST))
            waiting = asyncio.create_task(a[1].wait_closed())
            for peer in (x, y):
                await peer.finish()
            assert (await copying).is_clean
            await waiting
            assert await a[0].read() == b""

    run_on(loop_name, main())
