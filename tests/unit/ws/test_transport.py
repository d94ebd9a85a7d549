"""A WebSocket as an asyncio transport: the whole contract, on every kind of end."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from fastws.exceptions import StreamReset
from fastws.net.websocket import Peer
from fastws.ws.transport import WebSocketTransport, stream_options
from tests.support.copying import QUICK, give_up, noise, odd_pieces, send_all
from tests.support.ends import (
    STW,
    STW_FASTWS,
    WTS,
    WTS_FASTWS,
    Spec,
    at_once,
    every_end,
    open_end,
)
from tests.support.peers import BINARY, CLOSE, PING, PONG, TEXT
from tests.support.servers import both_loops, eventually, run_on
from tests.support.streams import (
    WEBSOCKETS,
    BufferedRecorder,
    Recorder,
    transport_on,
)
from tests.support.timing import UNIT

every_websocket = every_end(*WEBSOCKETS)


@every_websocket
def test_bytes_both_ways(loop_name: str, spec: Spec) -> None:
    async def main() -> None:
        there, back = noise(300_000), noise(300_000, 2)
        async with transport_on(spec) as (transport, protocol, peer):
            sending = asyncio.create_task(send_all(peer, odd_pieces(back)))
            for piece in odd_pieces(there, 3):
                transport.write(piece)
            assert await peer.read(len(there)) == there
            await eventually(lambda: len(protocol.data) == len(back))
            assert protocol.data == back
            await sending

    run_on(loop_name, main())


@at_once(*WEBSOCKETS)
async def test_eof_of_the_peer_comes_behind_its_bytes(spec: Spec) -> None:
    async with transport_on(spec) as (transport, protocol, peer):
        await peer.send(b"last")
        await peer.finish()
        await eventually(lambda: "eof" in protocol.calls)
        assert protocol.calls == ["made", "data", "eof"]
        assert protocol.data == b"last"
        if spec.half_closes:
            transport.write(b"answer")
            assert await peer.read(6) == b"answer"
        transport.write_eof()
        assert await peer.read_end() == (b"", "eof")
        await peer.leave()
        assert await protocol.end() is None


@at_once(*WEBSOCKETS)
async def test_write_eof_ends_one_direction(spec: Spec) -> None:
    async with transport_on(spec) as (transport, protocol, peer):
        transport.write(b"question")
        transport.write_eof()
        assert await peer.read(8) == b"question"
        if spec.half_closes:
            assert await peer.read_end() == (b"", "eof")
        await peer.send(b"answer")
        await eventually(lambda: protocol.data == b"answer")
        if not spec.half_closes:  # a client held its Close for that
            assert await peer.read_end() == (b"", "eof")
        assert "lost" not in protocol.calls
        with pytest.raises(RuntimeError, match="after write_eof"):
            transport.write(b"more")
        await peer.finish()
        if spec.half_closes:
            await peer.leave()
        assert await protocol.end() is None
        assert protocol.calls == ["made", "data", "eof", "lost"]


@every_websocket
def test_reset_by_the_peer(loop_name: str, spec: Spec) -> None:
    async def main() -> None:
        async with transport_on(spec) as (transport, protocol, peer):
            await peer.send(b"before")
            await eventually(lambda: protocol.data == b"before")
            await peer.break_off()
            error = await protocol.end()
            assert isinstance(error, StreamReset)
            assert error.reason == "lost without a Close"
            assert error.close_code is None
            assert transport.is_closing()
            transport.write(b"dropped")

    run_on(loop_name, main())


@every_end(STW, WTS, STW_FASTWS, WTS_FASTWS)
def test_other_close_of_the_peer_is_a_reset(loop_name: str, spec: Spec) -> None:
    async def main() -> None:
        async with transport_on(spec) as (_, protocol, peer):
            await peer.send(b"before")
            await peer.send_close(1013)
            error = await protocol.end()
            assert isinstance(error, StreamReset)
            assert (error.reason, error.close_code) == ("Close 1013", 1013)
            assert protocol.data == b"before"

    run_on(loop_name, main())


@every_end(STW_FASTWS, WTS_FASTWS)
def test_signal_of_a_reset(loop_name: str, spec: Spec) -> None:
    async def main() -> None:
        async with transport_on(spec) as (_, protocol, peer):
            await peer.send_frame(TEXT, b"R")
            error = await protocol.end()
            assert isinstance(error, StreamReset)
            assert error.reason == "reset by peer"

    run_on(loop_name, main())


@at_once(*WEBSOCKETS)
async def test_close_sends_what_is_left_and_waits_for_the_peer(spec: Spec) -> None:
    async with transport_on(spec) as (transport, protocol, peer):
        transport.write(b"last")
        transport.close()
        assert transport.is_closing()
        transport.write(b"dropped")
        await peer.send(b"nobody reads it")
        assert await peer.read_end() == (b"last", "eof")
        assert "lost" not in protocol.calls
        await peer.finish()
        if spec.half_closes:
            await peer.leave()
        assert await protocol.end() is None
        assert protocol.calls == ["made", "lost"]


@every_websocket
def test_abort_is_a_reset(loop_name: str, spec: Spec) -> None:
    async def main() -> None:
        async with transport_on(spec) as (transport, protocol, peer):
            transport.write(b"before")
            assert await peer.read(6) == b"before"
            transport.abort()
            transport.abort()
            assert "lost" not in protocol.calls
            assert await protocol.end() is None
            assert protocol.calls == ["made", "lost"]
            assert (await peer.read_end())[1] == "reset"

    run_on(loop_name, main())


@at_once(STW_FASTWS, WTS)
async def test_close_resets_a_peer_that_goes_on_sending(spec: Spec) -> None:
    async with transport_on(spec) as (transport, protocol, peer):
        transport.close()
        sending = asyncio.create_task(chatter(peer))
        if spec.half_closes:
            assert await peer.read_end() == (b"", "eof")
            assert await peer.read_end() == (b"", "reset")
            error = await protocol.end()
            assert isinstance(error, StreamReset)
            assert error.reason == "data long after close()"
        else:  # Close 1000 was not answered
            error = await protocol.end()
            assert isinstance(error, StreamReset)
            assert error.reason == "no Close in answer"
        await give_up(sending)


async def chatter(peer: Any) -> None:
    while True:
        await peer.send(b"and another thing")
        await asyncio.sleep(UNIT / 2)


@every_end(STW)
def test_close_hurries_a_held_close(loop_name: str, spec: Spec) -> None:
    """After ``write_eof`` a client waits for answers; after ``close`` nobody does."""

    async def main() -> None:
        options = replace(QUICK, linger=1000.0)
        async with transport_on(spec, options=options) as (transport, protocol, peer):
            transport.write_eof()
            await peer.send(b"answer")
            await eventually(lambda: protocol.data == b"answer")
            transport.close()
            assert await peer.read_end() == (b"", "eof")
            await peer.finish()
            peer.wire.close()
            assert await protocol.end() is None

    run_on(loop_name, main())


@at_once(STW, WTS_FASTWS)
async def test_eof_closes_if_the_protocol_says_so(spec: Spec) -> None:
    protocol = Recorder()
    protocol.keep_open = False
    async with transport_on(spec, protocol) as (transport, _, peer):
        transport.write(b"said")
        await peer.finish()
        assert await peer.read_end() == (b"said", "eof")
        await peer.leave()
        assert await protocol.end() is None
        assert protocol.calls == ["made", "eof", "lost"]


@at_once(STW, WTS_FASTWS)
async def test_buffered_protocol(spec: Spec) -> None:
    data = noise(5000)
    async with transport_on(spec, BufferedRecorder()) as (_, protocol, peer):
        await peer.send(data)
        await peer.finish()
        await eventually(lambda: "eof" in protocol.calls)
        assert protocol.data == data


@at_once(STW)
async def test_set_protocol(spec: Spec) -> None:
    first, second = Recorder(), BufferedRecorder()
    async with transport_on(spec, first) as (transport, _, peer):
        await peer.send(b"one")
        await eventually(lambda: first.data == b"one")
        transport.set_protocol(second)
        assert transport.get_protocol() is second
        await peer.send(b"two")
        await eventually(lambda: second.data == b"two")
        transport.abort()
        await second.end()
        assert first.calls == ["made", "data"]
        transport.set_protocol(first)
        first.connection_lost(None)


class Hasty(Recorder):
    """Does something with its transport at once."""

    def __init__(self, call: str) -> None:
        super().__init__()
        self.call = call

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.write(b"at once")
        getattr(self.transport, self.call)()


@at_once(STW_FASTWS, WTS)
async def test_protocol_may_act_in_connection_made(spec: Spec) -> None:
    for call, how in (("write_eof", "eof"), ("close", "eof"), ("abort", "reset")):
        async with transport_on(spec, Hasty(call)) as (_, protocol, peer):
            data = b"" if call == "abort" else b"at once"
            assert await peer.read_end() == (data, how)
            if call == "abort":
                assert await protocol.end() is None


@both_loops
def test_protocol_that_refuses_its_connection_resets_it(loop_name: str) -> None:
    async def main() -> None:
        stream, peer = await open_end(STW, linger=QUICK.linger)
        with pytest.raises(AttributeError):
            WebSocketTransport(stream, Hasty("nonsense"), QUICK, {})  # type: ignore[arg-type]
        await eventually(peer.wire.was_reset)
        peer.wire.close()

    run_on(loop_name, main())


@both_loops
def test_protocol_that_raises_loses_its_connection(loop_name: str) -> None:
    class Failing(Recorder):
        def data_received(self, data: bytes) -> None:
            raise ZeroDivisionError

    async def main() -> None:
        seen: list[dict[str, Any]] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: seen.append(context))
        async with transport_on(STW_FASTWS, Failing()) as (_, protocol, peer):
            await peer.send(b"x")
            assert isinstance(await protocol.end(), ZeroDivisionError)
            assert await peer.read_end() == (b"", "reset")
        assert [context["message"] for context in seen] == [
            "Fatal error: protocol.data_received() call failed."
        ]

    run_on(loop_name, main())


@every_end(STW, WTS)
def test_pings_are_answered_and_sent(loop_name: str, spec: Spec) -> None:
    async def main() -> None:
        options = stream_options(ping_interval=UNIT, ping_timeout=100 * UNIT)
        async with transport_on(spec, options=options) as (_, _, peer):
            await peer.send_frame(PING, b"you?")
            seen = set()
            while seen != {PING, PONG}:
                frame = await peer.read_frame()
                assert frame.payload == {PING: b"", PONG: b"you?"}[frame.opcode]
                seen.add(frame.opcode)

    run_on(loop_name, main())


@every_end(STW)
def test_cancelled_task_resets(loop_name: str, spec: Spec) -> None:
    async def main() -> None:
        async with transport_on(spec) as (transport, protocol, peer):
            transport.task.cancel()
            assert isinstance(await protocol.end(), StreamReset)
            await eventually(peer.wire.was_reset)

    run_on(loop_name, main())


@at_once(STW_FASTWS, WTS)
async def test_extra_info(spec: Spec) -> None:
    async with transport_on(spec) as (transport, _, peer):
        info = transport.get_extra_info
        assert info("peername") == peer.wire.sock.getsockname()
        assert info("socket").getsockname() == peer.wire.sock.getpeername()
        assert info("is_fastws") is (spec.peer is Peer.FASTWS)
        assert info("nonsense", 5) == 5
        assert repr(transport).startswith("<WebSocketTransport open (")


@every_end(*[spec for spec in WEBSOCKETS if spec.kind.value == "tls"][:1])
def test_asyncio_streams_over_tls_keep_their_half_close(
    loop_name: str, spec: Spec
) -> None:
    async def main() -> None:
        async with transport_on(spec) as (transport, _, peer):
            assert transport.get_extra_info("ssl_object") is not None
            assert transport.get_extra_info("sslcontext") is None
            assert (await sent_frame(peer, transport)).opcode == BINARY

    run_on(loop_name, main())


async def sent_frame(peer: Any, transport: Any) -> Any:
    transport.write(b"x")
    return await peer.next_frame()


@both_loops
def test_draining_tells_both_sides(loop_name: str) -> None:
    async def main() -> None:
        async with transport_on(STW) as (transport, protocol, peer):
            transport.go_away(1001, "we leave")
            error = await protocol.end()
            assert isinstance(error, StreamReset)
            assert error.reason == "we leave"
            frame = await peer.next_frame()
            assert (frame.opcode, frame.code) == (CLOSE, 1001)

    run_on(loop_name, main())


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="on_eof"):
        stream_options(on_eof="perhaps")
    options = stream_options(ping_interval=None, ping_timeout=None)
    assert options.ping == 0
    assert options.ping_deadline == float("inf")
