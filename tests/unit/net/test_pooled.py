"""Streams one after the other in one WebSocket (docs/pool.md), against scripted peers.

What the peers send and expect are the payloads of docs/pool.md, as hex.
"""

import asyncio

import pytest

from fastws._consts import Side
from fastws.exceptions import NoUpstream
from fastws.net.copy import CopyResult
from fastws.net.ends import CopyOptions
from fastws.net.pooled import PooledSocket
from fastws.net.stream import Kind
from fastws.net.websocket import Peer
from fastws.wire.pool import Connect, Status
from tests.support.copying import QUICK, noise
from tests.support.ends import Spec, every_end, open_end
from tests.support.peers import BINARY, PING, PONG, TEXT
from tests.support.pooled import Pooled, pooled
from tests.support.servers import eventually, run_on
from tests.support.timing import SHORT, UNIT

STRANGERS = (Spec(Kind.TCP, Side.CLIENT), Spec(Kind.TLS, Side.CLIENT))
SERVERS = (Spec(Kind.TCP, Side.CLIENT, Peer.FASTWS),)
RUST_CLIENTS = (Spec(Kind.TCP, Side.SERVER), Spec(Kind.TLS, Side.SERVER))
CLIENTS = (
    Spec(Kind.TCP, Side.SERVER, Peer.UNCONFIRMED),
    Spec(Kind.TLS, Side.SERVER, Peer.FASTWS),
)
CONNECT = "01 01 5f 1b 7f 00 00 01"
CONNECT1 = "01 01 00 00 00 01 5f 1b 7f 00 00 01"


async def ended(task: "asyncio.Task[CopyResult]") -> CopyResult:
    return await asyncio.wait_for(task, SHORT)


@every_end(*STRANGERS)
def test_client_of_a_stranger_reuses_one_connection(loop_name: str, spec: Spec) -> None:
    async def main() -> None:
        async with pooled(spec) as pool:
            for _ in range(3):
                far, task = await pool.joins(await pool.connects())
                await far.send(b"12345")
                await far.finish()
                await pool.hears(CONNECT, "02 31 32 33 34 35", "03")
                await pool.says("02 47 4f 54 20 35", "03")
                assert await far.read_end() == (b"GOT 5", "eof")
                assert await ended(task) == (5, 5, "closed", True)
                assert pool.socket.is_idle

    run_on(loop_name, main())


@every_end(*RUST_CLIENTS)
def test_server_of_a_stranger_serves_stream_after_stream(
    loop_name: str, spec: Spec
) -> None:
    async def main() -> None:
        async with pooled(spec) as pool:
            await pool.says("03", "02 00")  # a probe, and what means nothing
            for _ in range(3):
                await pool.says(CONNECT, "02 31 32 33 34 35", "03")
                far, task = await pool.accepts()
                assert await far.read(5) == b"12345"
                assert await far.read_end() == (b"", "eof")
                await far.send(b"GOT 5")
                await far.leave()
                await pool.hears("02 47 4f 54 20 35", "03")
                assert await ended(task) == (5, 5, "closed", True)

    run_on(loop_name, main())


@every_end(*SERVERS)
def test_client_of_a_fastws_server(loop_name: str, spec: Spec) -> None:
    """The conversation of docs/pool.md: served, refused, broken off."""

    async def main() -> None:
        async with pooled(spec) as pool:
            opening = asyncio.create_task(pool.connects())
            await pool.hears(CONNECT1)
            await pool.says("04 01 00 00 00 00")
            far, task = await pool.joins(await opening)
            await far.send(b"12345")
            await far.finish()
            await pool.hears("02 31 32 33 34 35", "03 01 00 00 00")
            await pool.says("02 47 4f 54 20 35", "03 01 00 00 00")
            assert await far.read_end() == (b"GOT 5", "eof")
            assert await ended(task) == (5, 5, "closed", True)

            opening = asyncio.create_task(pool.socket.connect("example.com", 443, 9))
            await pool.hears("01 02 00 00 00 03 bb 01 65 78 61 6d 70 6c 65 2e 63 6f 6d")
            await pool.says("04 02 00 00 00 05")
            assert await opening is Status.REFUSED
            await pool.hears("03 02 00 00 00")

            opening = asyncio.create_task(pool.socket.connect("::1", 7001, 9))
            await pool.hears("01 03 00 00 00 04 59 1b" + " 00" * 15 + " 01")
            opening.cancel()
            await pool.hears("05 03 00 00 00")
            assert not pool.socket.is_idle
            await pool.says("05 03 00 00 00")
            await eventually(lambda: pool.socket.is_idle)

    run_on(loop_name, main())


@every_end(*CLIENTS)
def test_server_of_a_fastws_client(loop_name: str, spec: Spec) -> None:
    """The same conversation from the other side."""

    async def main() -> None:
        async with pooled(spec) as pool:
            await pool.says(CONNECT1, "02 31 32 33 34 35", "03 01 00 00 00")
            far, task = await pool.accepts()
            await pool.hears("04 01 00 00 00 00")
            assert await far.read_end() == (b"12345", "eof")
            await far.send(b"GOT 5")
            await far.leave()
            await pool.hears("02 47 4f 54 20 35", "03 01 00 00 00")
            assert await ended(task) == (5, 5, "closed", True)

            await pool.says("01 02 00 00 00 03 bb 01 61")
            request = await pool.requested()
            assert request.packet == Connect("a", 443, 2)
            pool.socket.refuse(request, Status.REFUSED)
            await pool.hears("04 02 00 00 00 05")
            await pool.says("03 02 00 00 00")

            await pool.says("01 03 00 00 00 03 bb 01 61")
            request = await pool.requested()
            await pool.says("05 03 00 00 00")
            pool.socket.refuse(request, Status.TIMED_OUT)
            await pool.hears("04 03 00 00 00 06")
            await eventually(lambda: pool.socket.is_idle)

            await pool.says("01 04 00 00 00 03 bb 01 61")
            far, task = await pool.accepts()
            await pool.says("02 61", "05 04 00 00 00")
            await pool.hears("04 04 00 00 00 00", "05 04 00 00 00")
            assert (await far.read_end())[1] == "reset"
            far.wire.close()
            assert (await ended(task)).reason == "a: reset by peer"
            assert pool.socket.is_idle

    run_on(loop_name, main())


@every_end(CLIENTS[0])
def test_client_that_confirms_late_is_pinged(loop_name: str, spec: Spec) -> None:
    """Also when the clock was looked at before its first message."""

    async def main() -> None:
        stream, peer = await open_end(spec, linger=QUICK.linger)
        options = CopyOptions(linger=QUICK.linger, ping=2 * UNIT)
        socket = PooledSocket(stream, options)  # type: ignore[arg-type]
        try:
            socket.tick(socket.loop.time())
            assert socket.due == float("inf")
            await peer.send_frame(TEXT, b"C")
            await eventually(lambda: socket.due < float("inf"))
            assert (await peer.read_frame()).opcode == PING
        finally:
            socket.abort()
            peer.wire.reset()
            await eventually(lambda: socket.end.lost)

    run_on(loop_name, main())


@every_end(*CLIENTS)
def test_server_hears_its_client_while_it_dials(loop_name: str, spec: Spec) -> None:
    """Pings are answered, a reset at once too, and data wait for the target."""

    async def main() -> None:
        async with pooled(spec) as pool:
            await pool.says("01 01 00 00 00 03 bb 01 61")
            request = await pool.requested()
            for _ in range(3):
                await pool.peer.send_frame(PING, b"there?")
                frame = await pool.peer.read_frame()
                assert (frame.opcode, frame.payload) == (PONG, b"there?")
            await pool.says("05 01 00 00 00")
            await pool.hears("05 01 00 00 00")
            assert not pool.socket.is_current(request)
            assert pool.socket.is_idle
            assert pool.socket.accept(request) is None

            await pool.says("01 02 00 00 00 03 bb 01 61", "02 31", "03 02 00 00 00")
            await eventually(lambda: pool.socket.end.held == b"1")
            assert not pool.socket.end.is_reading
            far, task = await pool.accepts()
            await pool.hears("04 02 00 00 00 00")
            assert await far.read_end() == (b"1", "eof")
            await far.leave()
            await pool.hears("03 02 00 00 00")
            assert (await ended(task)).is_clean

            await pool.says("01 03 00 00 00 03 bb 01 61")
            request = await pool.requested()
            pool.peer.wire.close()
            await eventually(lambda: pool.socket.reason)
            assert not pool.socket.is_current(request)

    run_on(loop_name, main())


@every_end(*RUST_CLIENTS)
def test_stranger_hears_of_a_failed_dial_by_close(loop_name: str, spec: Spec) -> None:
    async def main() -> None:
        async with pooled(spec) as pool:
            await pool.says(CONNECT)
            pool.socket.refuse(await pool.requested(), Status.REFUSED)
            await pool.hears("03")
            await pool.says("02 30", "03", CONNECT)  # dropped, over, the next one
            far, task = await pool.accepts()
            await far.break_off()
            await pool.hears("03")
            assert (await ended(task)).reason == "b: reset"
            await pool.says("03", CONNECT, "02 6f 6b")
            far, task = await pool.accepts()
            assert await far.read(2) == b"ok"
            await far.leave()
            await pool.says("03")
            await pool.hears("03")
            assert (await ended(task)).is_clean

    run_on(loop_name, main())


@pytest.mark.parametrize(
    "packet", ["", "02 30", "03", "09", "04 01", "01 01 5f 1b 7f 00 00 01"]
)
@every_end(STRANGERS[0], SERVERS[0])
def test_client_gives_up_a_connection_that_says_something_while_idle(
    loop_name: str, spec: Spec, packet: str
) -> None:
    async def main() -> None:
        async with pooled(spec) as pool:
            await pool.says(packet)
            if spec.peer is Peer.FASTWS:
                await pool.hears_close(1002)
                pool.peer.wire.close()
            else:
                assert await pool.peer.end_of_tcp() in ("eof", "reset")
            await eventually(lambda: pool.socket.end.lost)
            assert pool.socket.reason.startswith("protocol error: ")

    run_on(loop_name, main())


@every_end(*STRANGERS, *RUST_CLIENTS)
def test_a_stranger_is_never_sent_a_ping_and_gets_its_pong(
    loop_name: str, spec: Spec
) -> None:
    async def main() -> None:
        async with pooled(spec) as pool:
            await pool.peer.send_frame(PING, b"x")
            assert await pool.peer.read_frame() == (True, PONG, b"x")
            assert pool.socket.end.next_due() == float("inf")
            pool.socket.close()
            assert await pool.peer.end_of_tcp() == "eof"

    run_on(loop_name, main())


@every_end(*STRANGERS, *SERVERS)
def test_a_lost_connection_is_heard_of_while_idle(loop_name: str, spec: Spec) -> None:
    async def main() -> None:
        async with pooled(spec) as pool:
            pool.peer.wire.reset()
            await eventually(lambda: pool.socket.end.lost)
            assert not pool.socket.is_idle
            assert pool.socket.reason

    run_on(loop_name, main())


@every_end(*SERVERS)
def test_a_connection_lost_before_the_answer_is_an_error(
    loop_name: str, spec: Spec
) -> None:
    async def main() -> None:
        async with pooled(spec) as pool:
            opening = asyncio.create_task(pool.connects())
            await pool.hears(CONNECT1)
            await pool.peer.send_close(1001)
            with pytest.raises(NoUpstream, match="Close 1001"):
                await opening

    run_on(loop_name, main())


@every_end(*STRANGERS, *SERVERS)
def test_a_connection_lost_under_a_stream_resets_it(loop_name: str, spec: Spec) -> None:
    async def main() -> None:
        async with pooled(spec) as pool:
            opening = asyncio.create_task(pool.connects())
            if spec.peer is Peer.FASTWS:
                await pool.hears(CONNECT1)
                await pool.says("04 01 00 00 00 00")
            far, task = await pool.joins(await opening)
            await pool.says("02 61")
            assert await far.read(1) == b"a"
            pool.peer.wire.reset()
            assert (await far.read_end())[1] == "reset"
            far.wire.close()
            assert not (await ended(task)).is_clean

    run_on(loop_name, main())


@every_end(*STRANGERS)
def test_a_client_that_is_reset_drops_a_strangers_connection(
    loop_name: str, spec: Spec
) -> None:
    async def main() -> None:
        async with pooled(spec) as pool:
            far, task = await pool.joins(await pool.connects())
            await pool.hears(CONNECT)
            await far.break_off()
            assert await pool.peer.end_of_tcp() in ("eof", "reset", "cut")
            assert (await ended(task)).reason == "b: reset"
            assert not pool.socket.is_idle

    run_on(loop_name, main())


@every_end(*STRANGERS, *RUST_CLIENTS)
def test_no_packet_to_a_stranger_is_longer_than_it_takes(
    loop_name: str, spec: Spec
) -> None:
    async def main() -> None:
        async with pooled(spec) as pool:
            if spec.side is Side.CLIENT:
                far, task = await pool.joins(await pool.connects())
                await pool.hears(CONNECT)
            else:
                await pool.says(CONNECT)
                far, task = await pool.accepts()
            data = bytes(range(256)) * 40
            await far.send(data)
            got = b""
            while len(got) < len(data):
                frame = await pool.peer.next_frame()
                assert (frame.opcode, frame.payload[0]) == (BINARY, 2)
                assert 1 < len(frame.payload) <= 2049
                got += frame.payload[1:]
            assert got == data
            await far.leave()
            await pool.hears("03")
            await pool.says("03")
            assert (await ended(task)).is_clean

    run_on(loop_name, main())


@every_end(*RUST_CLIENTS)
def test_a_slow_target_delays_no_later_stream(loop_name: str, spec: Spec) -> None:
    """What a stream leaves behind flows out beside the next one."""

    async def main() -> None:
        async with pooled(spec) as pool:
            await pool.says(CONNECT)
            slow, first = await pool.accepts()
            data = bytes(2048)
            await slow.finish()
            await pool.hears("03")
            for _ in range(8):
                await pool.peer.send_frame(BINARY, b"\x02" + data)
            await pool.says("03", CONNECT, "02 61")
            far, second = await pool.accepts()
            assert await far.read(1) == b"a"
            assert await slow.read_end() == (data * 8, "eof")
            assert await ended(first) == (8 * 2048, 0, "closed", True)
            await far.leave()
            await pool.hears("03")
            await pool.says("03")
            assert await ended(second) == (1, 0, "closed", True)

    run_on(loop_name, main())


@pytest.mark.parametrize("text", [b"F", b"R", b"C", b"hello"])
@every_end(*SERVERS, *CLIENTS)
def test_text_is_answered_with_close_1002(
    loop_name: str, spec: Spec, text: bytes
) -> None:
    async def main() -> None:
        async with pooled(spec) as pool:
            await pool.peer.send_frame(TEXT, text)
            await pool.hears_close(1002)
            await pool.peer.send_close(1002)
            pool.peer.wire.close()
            await eventually(lambda: pool.socket.end.lost)
            assert pool.socket.reason.startswith("protocol error: ")

    run_on(loop_name, main())


@every_end(CLIENTS[0])
def test_announced_client_that_does_not_confirm_is_a_stranger(
    loop_name: str, spec: Spec
) -> None:
    async def main() -> None:
        stream, peer = await open_end(spec, linger=QUICK.linger)
        pool = Pooled(PooledSocket(stream, QUICK), peer)  # type: ignore[arg-type]
        await pool.says(CONNECT, "02 6f 6b", "03")
        far, task = await pool.accepts()
        assert await far.read_end() == (b"ok", "eof")
        await far.leave()
        await pool.hears("03")
        assert (await ended(task)).is_clean
        peer.wire.close()
        await eventually(lambda: pool.socket.end.lost)
        assert pool.socket.reason == "closed by peer"

    run_on(loop_name, main())


@every_end(STRANGERS[0])
def test_a_server_that_never_ends_its_stream_is_dropped(
    loop_name: str, spec: Spec
) -> None:
    """What a real one does when its target was reset: nothing."""

    async def main() -> None:
        async with pooled(spec) as pool:
            far, task = await pool.joins(await pool.connects())
            await far.finish()
            await pool.hears(CONNECT, "03")
            assert await far.read_end() == (b"", "reset")
            far.wire.close()
            assert (await ended(task)).reason == "a: no last packet"
            assert not pool.socket.is_idle

    run_on(loop_name, main())


@every_end(CLIENTS[0], SERVERS[0])
def test_close_1001_ends_an_idle_connection(loop_name: str, spec: Spec) -> None:
    async def main() -> None:
        async with pooled(spec) as pool:
            if spec.side is Side.SERVER:  # C has come when the ping is answered
                await pool.peer.send_frame(PING)
                assert (await pool.peer.read_frame()).opcode == PONG
            pool.socket.close(1001, "draining")
            await pool.hears_close(1001)
            await pool.peer.send_close(1001)
            if spec.side is Side.SERVER:
                assert await pool.peer.end_of_tcp() == "eof"
            pool.peer.wire.close()
            await eventually(lambda: pool.socket.end.lost)
            assert pool.socket.reason == "draining"

    run_on(loop_name, main())


@every_end(*RUST_CLIENTS)
def test_a_whole_mebibyte_goes_both_ways(loop_name: str, spec: Spec) -> None:
    """More than was held at Connect, and more than the kernel takes at once."""
    data = noise(1 << 20)

    async def main() -> None:
        async with pooled(spec) as pool:
            await pool.says(CONNECT)
            frames = [b"\x02" + data[n : n + 2048] for n in range(0, len(data), 2048)]
            raw = b"".join(pool.peer.encode(BINARY, frame) for frame in frames)
            sending = asyncio.create_task(pool.peer.send_raw(raw))
            far, task = await pool.accepts()
            assert await far.read(len(data)) == data
            await sending
            sending = asyncio.create_task(far.send(data))
            got = bytearray()
            while len(got) < len(data):
                got += (await pool.peer.next_frame()).payload[1:]
            assert got == data
            await sending
            await pool.says("03")
            assert await far.read_end() == (b"", "eof")
            await far.leave()
            await pool.hears("03")
            assert await ended(task) == (len(data), len(data), "closed", True)

    run_on(loop_name, main())
