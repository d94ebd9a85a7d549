"""Datagrams in a pooled WebSocket (docs/pool.md), against scripted peers.

What the peers send and expect are the payloads of docs/pool.md, as hex.
"""

import asyncio

import pytest

from fastws._consts import Side
from fastws.exceptions import LocalProtocolError, NoUpstream
from fastws.net.pool_udp import MAX_EARLY, MAX_PAYLOAD, QUEUE, PooledDatagrams
from fastws.net.stream import Kind
from fastws.net.websocket import Peer
from fastws.wire.pool import Associate, Status
from tests.support.ends import Spec, every_end
from tests.support.peers import BINARY
from tests.support.pooled import Pooled, pooled
from tests.support.servers import eventually, run_on
from tests.support.timing import SHORT

CLIENTS = (
    Spec(Kind.TCP, Side.CLIENT, Peer.FASTWS),
    Spec(Kind.TLS, Side.CLIENT, Peer.FASTWS),
)
SERVERS = (
    Spec(Kind.TCP, Side.SERVER, Peer.UNCONFIRMED),
    Spec(Kind.TLS, Side.SERVER, Peer.FASTWS),
)
CONT = 0
PING = "07 03 35 00 0b 65 78 61 6d 70 6c 65 2e 63 6f 6d 70 69 6e 67"
PONG = "07 01 35 00 c0 00 02 01 70 6f 6e 67"


class Inbox:
    """Keeps what comes: host, port, payload."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int, bytes]] = []

    def __call__(self, host: str, port: int, payload: memoryview) -> None:
        self.seen.append((host, port, bytes(payload)))


async def associated(pool: Pooled, stream: int, inbox: Inbox) -> PooledDatagrams:
    """The client's datagrams of a stream that the peer grants."""
    number = stream.to_bytes(4, "little").hex(" ")
    opening = asyncio.create_task(pool.socket.associate(inbox, SHORT))
    await pool.hears(f"06 {number}")
    await pool.says(f"04 {number} 00")
    way = await opening
    assert isinstance(way, PooledDatagrams)
    return way


async def granted(pool: Pooled, inbox: Inbox) -> PooledDatagrams:
    """The server's datagrams of what the peer has asked for."""
    request = await pool.requested()
    assert isinstance(request.packet, Associate)
    way = pool.socket.accept_datagrams(request, inbox)
    assert way is not None
    return way


async def why(way: PooledDatagrams) -> str:
    return await asyncio.wait_for(asyncio.shield(way.done), SHORT)


@every_end(*CLIENTS)
def test_client_exchanges_datagrams_and_goes_on_to_the_next_stream(
    loop_name: str, spec: Spec
) -> None:
    async def main() -> None:
        async with pooled(spec) as pool:
            for stream in (1, 2):
                inbox = Inbox()
                way = await associated(pool, stream, inbox)
                way.send("example.com", 53, memoryview(b"ping"))
                way.send("192.0.2.1", 53, memoryview(b""))
                await pool.hears(PING, "07 01 35 00 c0 00 02 01")
                await pool.says(PONG, "07 01 35 00 c0 00 02 01")
                await eventually(lambda got=inbox: len(got.seen) == 2)
                assert inbox.seen == [
                    ("192.0.2.1", 53, b"pong"),
                    ("192.0.2.1", 53, b""),
                ]
                way.close()
                way.close()
                await pool.hears(f"03 0{stream} 00 00 00")
                assert not pool.socket.is_idle
                way.send("192.0.2.1", 53, memoryview(b"late"))
                await pool.says(PONG, f"03 0{stream} 00 00 00")
                await eventually(lambda: pool.socket.is_idle)
                assert (way.sent, way.received, way.dropped) == (2, 2, 1)
                assert (way.bytes_out, way.bytes_in) == (4, 4)
                assert await why(way) == ""
            far_opening = asyncio.create_task(pool.connects())
            await pool.hears("01 03 00 00 00 01 5f 1b 7f 00 00 01")
            await pool.says("04 03 00 00 00 05")
            assert await far_opening is Status.REFUSED

    run_on(loop_name, main())


@every_end(*SERVERS)
def test_server_hands_over_what_came_before_its_answer(
    loop_name: str, spec: Spec
) -> None:
    """The conversation of docs/pool.md, sent in one go, twice."""

    async def main() -> None:
        async with pooled(spec) as pool:
            for stream in (1, 2):
                inbox = Inbox()
                number = f"0{stream} 00 00 00"
                await pool.says_at_once(f"06 {number}", PING)
                way = await granted(pool, inbox)
                await pool.hears(f"04 {number} 00")
                await eventually(lambda got=inbox: bool(got.seen))
                assert inbox.seen == [("example.com", 53, b"ping")]
                way.send("192.0.2.1", 53, memoryview(b"pong"))
                await pool.hears(PONG)
                await pool.says(f"03 {number}")
                await pool.hears(f"03 {number}")
                assert await why(way) == ""
                assert pool.socket.is_idle

    run_on(loop_name, main())


@every_end(SERVERS[0])
def test_close_before_the_answer_ends_it_after_the_answer(
    loop_name: str, spec: Spec
) -> None:
    async def main() -> None:
        async with pooled(spec) as pool:
            inbox = Inbox()
            early = [PING] * (MAX_EARLY + 2)
            await pool.says_at_once("06 01 00 00 00", *early, "03 01 00 00 00")
            await eventually(lambda: pool.socket.end.eof_in)
            way = await granted(pool, inbox)
            await pool.hears("04 01 00 00 00 00", "03 01 00 00 00")
            assert inbox.seen == [("example.com", 53, b"ping")] * MAX_EARLY
            assert (way.received, way.dropped) == (MAX_EARLY, 2)
            assert await why(way) == ""
            assert pool.socket.is_idle

    run_on(loop_name, main())


@every_end(*CLIENTS)
def test_the_server_ends_it(loop_name: str, spec: Spec) -> None:
    async def main() -> None:
        async with pooled(spec) as pool:
            way = await associated(pool, 1, Inbox())
            await pool.says("03 01 00 00 00")
            assert await why(way) == ""
            await pool.hears("03 01 00 00 00")
            way = await associated(pool, 2, Inbox())
            await pool.says("05 02 00 00 00")
            assert await why(way) == "reset by peer"
            await pool.hears("05 02 00 00 00")
            way.close()
            assert pool.socket.is_idle

    run_on(loop_name, main())


@every_end(*SERVERS)
def test_the_client_breaks_it_off(loop_name: str, spec: Spec) -> None:
    async def main() -> None:
        async with pooled(spec) as pool:
            await pool.says("06 01 00 00 00")
            way = await granted(pool, Inbox())
            await pool.hears("04 01 00 00 00 00")
            await pool.says("05 01 00 00 00")
            await pool.hears("05 01 00 00 00")
            assert await why(way) == "reset by peer"
            way.send("192.0.2.1", 53, memoryview(b"pong"))
            assert (way.sent, way.dropped) == (0, 1)
            await pool.says("06 02 00 00 00")
            pool.socket.refuse(await pool.requested(), Status.NOT_SUPPORTED)
            await pool.hears("04 02 00 00 00 07")
            await pool.says("03 02 00 00 00")
            await eventually(lambda: pool.socket.is_idle)

    run_on(loop_name, main())


@every_end(*CLIENTS)
def test_client_hears_why_there_are_none(loop_name: str, spec: Spec) -> None:
    async def main() -> None:
        async with pooled(spec) as pool:
            opening = asyncio.create_task(pool.socket.associate(Inbox(), SHORT))
            await pool.hears("06 01 00 00 00")
            await pool.says("04 01 00 00 00 07")
            assert await opening is Status.NOT_SUPPORTED
            await pool.hears("03 01 00 00 00")
            assert pool.socket.is_idle
            opening = asyncio.create_task(pool.socket.associate(Inbox(), SHORT))
            await pool.hears("06 02 00 00 00")
            with pytest.raises(LocalProtocolError):
                await pool.socket.associate(Inbox(), SHORT)
            opening.cancel()
            await pool.hears("05 02 00 00 00")
            await pool.says("05 02 00 00 00")
            await eventually(lambda: pool.socket.is_idle)
            opening = asyncio.create_task(pool.socket.associate(Inbox(), SHORT))
            await pool.hears("06 03 00 00 00")
            pool.peer.wire.reset()
            with pytest.raises(NoUpstream):
                await opening

    run_on(loop_name, main())


@every_end(Spec(Kind.TCP, Side.CLIENT))
def test_a_stranger_is_not_even_asked(loop_name: str, spec: Spec) -> None:
    async def main() -> None:
        async with pooled(spec) as pool:
            said = await pool.socket.associate(Inbox(), SHORT)
            assert said is Status.NOT_SUPPORTED
            assert pool.socket.is_idle

    run_on(loop_name, main())


@every_end(*CLIENTS, *SERVERS)
def test_a_lost_connection_ends_the_datagrams(loop_name: str, spec: Spec) -> None:
    async def main() -> None:
        async with pooled(spec) as pool:
            if spec.side is Side.CLIENT:
                way = await associated(pool, 1, Inbox())
            else:
                await pool.says("06 01 00 00 00")
                way = await granted(pool, Inbox())
            pool.peer.wire.reset()
            assert await why(way) == pool.socket.reason != ""
            way.send("192.0.2.1", 53, memoryview(b"x"))
            way.close()
            assert (way.sent, way.dropped) == (0, 1)

    run_on(loop_name, main())


@pytest.mark.parametrize("packet", ["02 61", "07 01 35 00 c0", "07 03 35 00 00"])
@every_end(CLIENTS[0])
def test_what_is_no_datagram_is_a_fault(
    loop_name: str, spec: Spec, packet: str
) -> None:
    async def main() -> None:
        async with pooled(spec) as pool:
            way = await associated(pool, 1, Inbox())
            await pool.says(packet)
            await pool.hears_close(1002)
            assert (await why(way)).startswith("protocol error: ")

    run_on(loop_name, main())


@every_end(CLIENTS[0], SERVERS[1])
def test_a_large_datagram_leaves_in_fragments_and_comes_in_any(
    loop_name: str, spec: Spec
) -> None:
    async def main() -> None:
        payload = bytes(range(256)) * 255
        async with pooled(spec) as pool:
            inbox = Inbox()
            if spec.side is Side.CLIENT:
                way = await associated(pool, 1, inbox)
            else:
                await pool.says("06 01 00 00 00")
                way = await granted(pool, inbox)
                await pool.hears("04 01 00 00 00 00")
            way.send("192.0.2.1", 53, memoryview(payload))
            frames = [await pool.peer.next_frame() for _ in range(2)]
            assert [(f.opcode, f.fin) for f in frames] == [
                (BINARY, False),
                (CONT, True),
            ]
            message = b"".join(f.payload for f in frames)
            assert message == bytes.fromhex("07 01 35 00 c0 00 02 01") + payload
            for start in range(0, len(message), 9999):
                piece = message[start : start + 9999]
                is_last = start + 9999 >= len(message)
                opcode = CONT if start else BINARY
                await pool.peer.send_frame(opcode, piece, fin=is_last)
            await eventually(lambda: bool(inbox.seen))
            assert inbox.seen == [("192.0.2.1", 53, payload)]

    run_on(loop_name, main())


@every_end(CLIENTS[0])
def test_what_no_datagram_can_hold_is_dropped(loop_name: str, spec: Spec) -> None:
    async def main() -> None:
        async with pooled(spec) as pool:
            way = await associated(pool, 1, Inbox())
            way.send("192.0.2.1", 53, memoryview(bytes(MAX_PAYLOAD + 1)))
            way.send("n" * 256, 53, memoryview(b"x"))
            way.send("192.0.2.1", 70000, memoryview(b"x"))
            assert (way.sent, way.dropped) == (0, 3)
            way.send("192.0.2.1", 53, memoryview(b"pong"))
            await pool.hears(PONG)

    run_on(loop_name, main())


@every_end(*CLIENTS)
def test_a_peer_that_reads_nothing_costs_a_bounded_queue(
    loop_name: str, spec: Spec
) -> None:
    """The newest are dropped; what was taken comes whole and in order."""

    async def main() -> None:
        async with pooled(spec) as pool:
            way = await associated(pool, 1, Inbox())
            payload = bytes(8000)
            count = 0
            while way.dropped < 100:
                way.send("192.0.2.1", count, memoryview(payload))
                count += 1
                unsent = pool.socket.end.transport.get_write_buffer_size()
                assert unsent <= QUEUE
                await asyncio.sleep(0)
                assert count < 10_000
            assert way.sent + way.dropped == count
            ports = []
            for _ in range(way.sent):
                frame = await pool.peer.next_frame()
                assert frame.payload[8:] == payload
                ports.append(int.from_bytes(frame.payload[2:4], "little"))
            assert ports == sorted(ports)
            assert ports[: way.sent - 100] == [*range(way.sent - 100)]

    run_on(loop_name, main())


@every_end(SERVERS[0])
def test_an_associate_that_was_given_up_is_not_accepted(
    loop_name: str, spec: Spec
) -> None:
    async def main() -> None:
        async with pooled(spec) as pool:
            await pool.says_at_once("06 01 00 00 00", "05 01 00 00 00")
            await pool.hears("05 01 00 00 00")
            assert pool.socket.is_idle

    run_on(loop_name, main())
