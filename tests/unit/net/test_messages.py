"""A WebSocket as messages: who the peer is, what is whole, how it ends."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fastws._consts import Side
from fastws.net.ends import CopyOptions
from fastws.net.messages import MessageLink
from fastws.net.stream import Hold, Kind
from fastws.net.websocket import Peer, WebSocketStream
from tests.support.rawws import BINARY, CLOSE, CONT, PING, PONG, TEXT, close, frame
from tests.support.servers import both_loops, eventually, run_on
from tests.support.timing import SHORT, UNIT

OPTIONS = CopyOptions(linger=2 * UNIT, ping=0, max_message=1024)
MAX = 100


class Owner:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.messages: list[tuple[bytes, bool]] = []
        self.dropped = 0
        self.closing = 0
        self.ended: list[str] = []
        self.writable: list[bool] = []
        self.ticks = 0

    def message_received(self, payload: memoryview, is_text: bool) -> None:
        self.messages.append((bytes(payload), is_text))

    def message_dropped(self) -> None:
        self.dropped += 1

    def link_closing(self) -> None:
        self.closing += 1

    def link_ended(self, reason: str) -> None:
        self.ended.append(reason)

    def link_writable(self, is_writable: bool) -> None:
        self.writable.append(is_writable)

    def link_tick(self, now: float) -> float:
        self.ticks += 1
        return float("inf")


class Wire:
    """The far side: raw bytes both ways."""

    def __init__(self, sock: socket.socket, side: Side) -> None:
        sock.setblocking(False)
        self.sock = sock
        self._key = None if side is Side.CLIENT else b"\x37\xfa\x21\x3d"
        self._kept = b""

    async def send(self, opcode: int, payload: bytes = b"", **how: Any) -> None:
        await self.raw(frame(opcode, payload, key=self._key, **how))

    async def close(self, code: int) -> None:
        await self.raw(close(code, key=self._key))

    async def raw(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def read(self, count: int) -> bytes:
        loop = asyncio.get_running_loop()
        while len(self._kept) < count:
            got = await asyncio.wait_for(loop.sock_recv(self.sock, 65536), SHORT)
            assert got, f"ended after {self._kept!r}"
            self._kept += got
        data, self._kept = self._kept[:count], self._kept[count:]
        return data

    async def frame(self) -> tuple[int, bytes]:
        """First byte and payload of the next frame; of at most 64 KiB."""
        first, second = await self.read(2)
        size = second & 127
        if size == 126:
            size = int.from_bytes(await self.read(2), "big")
        key = await self.read(4) if second & 128 else bytes(4)
        payload = await self.read(size)
        return first, bytes(b ^ key[i & 3] for i, b in enumerate(payload))

    async def at_end(self) -> bool:
        loop = asyncio.get_running_loop()
        assert not self._kept
        return not await asyncio.wait_for(loop.sock_recv(self.sock, 1), SHORT)


@contextlib.asynccontextmanager
async def linked(
    side: Side = Side.SERVER,
    peer: Peer = Peer.STRANGER,
    options: CopyOptions = OPTIONS,
    leftover: bytes = b"",
) -> AsyncIterator[tuple[MessageLink, Owner, Wire]]:
    """A link over TCP and its far side; it has to end by itself after that."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname(), SHORT)
        ours, _ = listener.accept()
    loop = asyncio.get_running_loop()
    transport, hold = await loop.connect_accepted_socket(Hold, ours)
    transport.pause_reading()
    hold.leftover = leftover
    stream = WebSocketStream(transport, Kind.TCP, hold, side=side, peer=peer)
    owner = Owner()
    link = MessageLink(stream, owner, options, MAX)
    with theirs:
        yield link, owner, Wire(theirs, side)
    await eventually(lambda: owner.ended)
    assert (owner.closing, len(owner.ended)) == (1, 1)
    assert link.lost
    assert not link.is_open


# Messages


@both_loops
@pytest.mark.parametrize("side", list(Side))
def test_messages_are_whole(loop_name: str, side: Side) -> None:
    async def main() -> None:
        async with linked(side) as (_, owner, wire):
            await wire.send(BINARY, b"one")
            await wire.send(BINARY, b"")
            await wire.send(TEXT, b"te", fin=False)
            await wire.send(PING, b"!")
            await wire.send(CONT, b"xt")
            assert await wire.frame() == (0x80 | PONG, b"!")
            expected = [(b"one", False), (b"", False), (b"text", True)]
            await eventually(lambda: owner.messages == expected)

    run_on(loop_name, main())


@both_loops
def test_limit_of_a_message(loop_name: str) -> None:
    """Whole or in pieces; what follows is none the worse."""

    async def main() -> None:
        async with linked() as (_, owner, wire):
            await wire.send(BINARY, bytes(MAX), fin=False)
            await wire.send(CONT, b"")
            await wire.send(BINARY, bytes(MAX), fin=False)
            await wire.send(CONT, b"x")
            await wire.send(BINARY, b"next")
            await eventually(lambda: len(owner.messages) == 2)
            assert owner.messages == [(bytes(MAX), False), (b"next", False)]
            assert owner.dropped == 1

    run_on(loop_name, main())


@both_loops
def test_what_came_with_the_handshake_is_first(loop_name: str) -> None:
    async def main() -> None:
        early = frame(BINARY, b"early") + frame(BINARY, b"ha", fin=False)
        async with linked(leftover=early) as (_, owner, wire):
            await wire.send(CONT, b"lf")
            expected = [(b"early", False), (b"half", False)]
            await eventually(lambda: owner.messages == expected)

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize(("side", "room"), [(Side.SERVER, 1020), (Side.CLIENT, 1016)])
def test_frames_have_their_limit(loop_name: str, side: Side, room: int) -> None:
    async def main() -> None:
        async with linked(side) as (link, _, wire):
            link.write(link.encode(b"a" * room))
            link.write(link.encode(b"b" * (room + 1)))
            link.write(link.encode(b"text", TEXT))
            assert await wire.frame() == (0x80 | BINARY, b"a" * room)
            assert await wire.frame() == (BINARY, b"b" * room)
            assert await wire.frame() == (0x80 | CONT, b"b")
            assert await wire.frame() == (0x80 | TEXT, b"text")

    run_on(loop_name, main())


# Who the peer is


@both_loops
@pytest.mark.parametrize(
    ("pieces", "who", "messages"),
    [
        ([(TEXT, b"C", True)], Peer.FASTWS, []),
        ([(TEXT, b"", False), (CONT, b"C", True)], Peer.FASTWS, []),
        ([(PING, b"", True), (TEXT, b"C", True)], Peer.FASTWS, []),
        ([(TEXT, b"CC", True)], Peer.STRANGER, [(b"CC", True)]),
        ([(BINARY, b"C", True)], Peer.STRANGER, [(b"C", False)]),
        ([(TEXT, b"", True)], Peer.STRANGER, [(b"", True)]),
    ],
)
def test_first_message_tells(
    loop_name: str,
    pieces: list[tuple[int, bytes, bool]],
    who: Peer,
    messages: list[tuple[bytes, bool]],
) -> None:
    async def main() -> None:
        async with linked(peer=Peer.UNCONFIRMED) as (link, owner, wire):
            for opcode, payload, fin in pieces:
                await wire.send(opcode, payload, fin=fin)
            await eventually(lambda: link.who is who)
            assert owner.messages == messages
            await wire.send(BINARY, b"data")
            await eventually(lambda: owner.messages == [*messages, (b"data", False)])

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize(
    ("peer", "data", "code"),
    [
        (Peer.FASTWS, frame(TEXT, b"x"), 1002),
        (Peer.FASTWS, frame(TEXT, b"", fin=False), 1002),
        (Peer.STRANGER, frame(TEXT, b"\xc3"), 1007),
        (Peer.STRANGER, frame(TEXT, b"\xff", fin=False), 1007),
        (Peer.STRANGER, frame(BINARY, b"x", rsv=4), 1002),
        (Peer.STRANGER, close(1005), 1002),
    ],
)
def test_mistakes_of_the_peer(
    loop_name: str, peer: Peer, data: bytes, code: int
) -> None:
    async def main() -> None:
        async with linked(peer=peer) as (_, owner, wire):
            await wire.raw(data)
            first, payload = await wire.frame()
            assert first == 0x80 | CLOSE
            assert int.from_bytes(payload[:2], "big") == code
            assert await wire.at_end()  # a server shuts down first
            await wire.raw(frame(BINARY, b"dropped"))
            wire.sock.close()
            await eventually(lambda: owner.ended)
            assert owner.ended[0].startswith("protocol error: ")
            assert owner.messages == []

    run_on(loop_name, main())


# The end


@both_loops
@pytest.mark.parametrize(
    ("side", "code", "reason"),
    [
        (Side.SERVER, 1000, ""),
        (Side.SERVER, 1001, ""),
        (Side.SERVER, 1011, "Close 1011"),
        (Side.CLIENT, 1000, ""),
        (Side.CLIENT, 1001, "Close 1001"),
    ],
)
def test_peer_closes(loop_name: str, side: Side, code: int, reason: str) -> None:
    async def main() -> None:
        async with linked(side) as (link, owner, wire):
            await wire.close(code)
            first, payload = await wire.frame()
            assert (first, payload) == (0x80 | CLOSE, code.to_bytes(2, "big"))
            assert not link.is_open
            link.write(link.encode(b"too late"))
            if side is Side.SERVER:
                assert await wire.at_end()
            wire.sock.shutdown(socket.SHUT_WR)
            await eventually(lambda: owner.ended == [reason])

    run_on(loop_name, main())


@both_loops
def test_we_close_and_hear_the_rest(loop_name: str) -> None:
    async def main() -> None:
        async with linked() as (link, owner, wire):
            link.close(1000)
            link.close(1011)  # once is enough
            assert await wire.frame() == (0x80 | CLOSE, b"\x03\xe8")
            await wire.send(BINARY, b"on its way")
            await wire.close(1000)
            assert await wire.at_end()
            wire.sock.close()
            await eventually(lambda: owner.ended == [""])
            assert owner.messages == [(b"on its way", False)]

    run_on(loop_name, main())


@both_loops
def test_close_without_answer_is_a_reset(loop_name: str) -> None:
    async def main() -> None:
        async with linked() as (link, owner, wire):
            link.go_away("draining")
            first, payload = await wire.frame()
            assert (first, payload) == (0x80 | CLOSE, b"\x03\xe9draining")
            await eventually(lambda: owner.ended == ["draining"])
            with pytest.raises(ConnectionResetError):
                await wire.at_end()

    run_on(loop_name, main())


@both_loops
def test_lost_without_a_close(loop_name: str) -> None:
    async def main() -> None:
        async with linked() as (_, owner, wire):
            wire.sock.close()
            await eventually(lambda: owner.ended == ["lost without a Close"])
        async with linked() as (link, owner, _):
            link.abort("stopped")
            await eventually(lambda: owner.ended == ["stopped"])

    run_on(loop_name, main())


@both_loops
def test_stalled_peer_gets_the_newest_pong_only(loop_name: str) -> None:
    """Unsent bytes are told, and when they are gone."""

    async def main() -> None:
        async with linked() as (link, owner, wire):
            block = link.encode(bytes(1000), BINARY) * 1000
            while not link.unsent():
                link.write(block)
            assert owner.writable == [False]
            unsent = link.unsent()
            for number in range(5):
                await wire.send(PING, b"%d" % number)
            await eventually(lambda: link.reads)
            await asyncio.sleep(UNIT / 4)
            assert link.unsent() == unsent
            pongs = []
            while not pongs:
                first, payload = await wire.frame()
                if first == 0x80 | PONG:
                    pongs.append(payload)
            assert pongs == [b"4"]
            assert owner.writable == [False, True]

    run_on(loop_name, main())


@both_loops
def test_reading_can_pause(loop_name: str) -> None:
    async def main() -> None:
        async with linked() as (link, owner, wire):
            link.pause_reading()
            await wire.send(BINARY, b"waits")
            await asyncio.sleep(UNIT / 4)
            assert owner.messages == []
            link.resume_reading()
            await eventually(lambda: owner.messages == [(b"waits", False)])

    run_on(loop_name, main())


@both_loops
def test_pings_go_out_and_silence_kills(loop_name: str) -> None:
    async def main() -> None:
        options = CopyOptions(ping=UNIT, ping_deadline=6 * UNIT, linger=UNIT)
        async with linked(options=options) as (_, owner, wire):
            assert await wire.frame() == (0x80 | PING, b"")
            await wire.send(PONG)
            assert await wire.frame() == (0x80 | PING, b"")
            await eventually(lambda: owner.ended == ["ping timeout"])
            assert owner.ticks

    run_on(loop_name, main())


@both_loops
def test_peer_that_takes_nothing_cannot_stay_behind_our_close(loop_name: str) -> None:
    async def main() -> None:
        options = CopyOptions(half_close_timeout=4 * UNIT, linger=60.0, ping=0)
        async with linked(options=options) as (link, owner, _):
            while not link.unsent():
                link.write(link.encode(bytes(30_000)))
            link.close(1000)
            await eventually(lambda: owner.ended == ["no progress"])

    run_on(loop_name, main())


# -- memory ----------------------------------------------------------------------------


def test_slices_of_the_read_buffer_are_its_memory() -> None:
    """The stock loop's TLS reads a second record of a turn into a slice."""

    async def main() -> None:
        async with linked() as (link, owner, wire):
            behind = link.get_buffer(-1)[6:]
            data = frame(BINARY, b"one", key=bytes(4)) + frame(BINARY, key=bytes(4))
            link.get_buffer(-1)[:6] = data[:6]
            behind[: len(data) - 6] = data[6:]
            link.buffer_updated(len(data))
            assert owner.messages == [(b"one", False), (b"", False)]
            await wire.close(1000)

    run_on("asyncio", main())
