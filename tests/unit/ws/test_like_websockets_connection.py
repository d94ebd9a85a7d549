"""Connections behave as those of ``websockets``: closing, pings, wrong calls."""

import asyncio
import gc
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fastws.exceptions import (
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
    LocalProtocolError,
)
from fastws.wire.frames import Close
from fastws.ws.connect import connect
from fastws.ws.facts import State
from fastws.ws.serve import ServerConnection
from tests.support.coroutines import pair, peer_of, serving, stay
from tests.support.handlers import raw_client
from tests.support.peers import BINARY, CLOSE, PING, PONG, TEXT, Frame, WsPeer
from tests.support.servers import both_loops, eventually, run_on
from tests.support.timing import LONG, UNIT


async def answer_of(peer: WsPeer) -> Frame:
    """The Close that the server sends; the peer ends TCP after it."""
    frame = await peer.next_frame()
    assert frame.opcode == CLOSE
    await peer.wire.finish()
    return frame


# -- closing -----------------------------------------------------------------------


@both_loops
@pytest.mark.parametrize("code", [1000, 1001, None], ids=str)
def test_iteration_ends_with_codes_of_order(loop_name: str, code: int | None) -> None:
    async def main() -> None:
        async with peer_of() as (peer, ws):
            await peer.send_frame(TEXT, b"a")
            await peer.send_close(code)
            assert (await answer_of(peer)).code == (code or 1005)
            assert [message async for message in ws] == ["a"]
            assert ws.close_code == (code or 1005)
            assert ws.close_reason == ""
            with pytest.raises(ConnectionClosedOK):
                await ws.recv()

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize("code", [1002, 1003, 1008, 1011, 1012, 1013, 3000, 4999])
def test_iteration_raises_with_other_codes(loop_name: str, code: int) -> None:
    async def main() -> None:
        async with peer_of() as (peer, ws):
            await peer.send_frame(CLOSE, struct.pack(">H", code) + b"why")
            assert (await answer_of(peer)).code == code
            with pytest.raises(ConnectionClosedError) as caught:
                async for _ in ws:
                    pytest.fail("a message")
            error = caught.value
            assert error.rcvd == Close(code, "why")
            assert error.sent == Close(code)  # RFC 6455 section 5.5.1
            assert error.rcvd_then_sent is True
            assert (error.code, error.reason) == (code, "why")

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize("how", ["eof", "reset"])
def test_a_connection_lost_without_a_close_is_an_error(
    loop_name: str, how: str
) -> None:
    async def main() -> None:
        async with peer_of() as (peer, ws):
            await (peer.wire.finish() if how == "eof" else peer.break_off())
            with pytest.raises(ConnectionClosedError) as caught:
                await anext(ws)
            error = caught.value
            assert (error.rcvd, error.sent, error.rcvd_then_sent) == (None, None, None)
            assert (error.code, error.reason) == (1006, "")
            assert str(error) == "no close frame received or sent"
            assert (ws.close_code, ws.close_reason) == (1006, "")
            assert ws.state is State.CLOSED

    run_on(loop_name, main())


@both_loops
def test_messages_before_the_close_are_received(loop_name: str) -> None:
    async def main() -> None:
        async with peer_of(max_queue=1) as (peer, ws):
            for number in range(20):
                await peer.send_frame(TEXT, str(number).encode())
            await peer.send_close(1000)
            leaving = asyncio.create_task(answer_of(peer))
            got = [message async for message in ws]
            assert got == [str(number) for number in range(20)]
            await leaving
            for _ in range(2):
                with pytest.raises(ConnectionClosedOK):
                    await ws.recv()

    run_on(loop_name, main())


@both_loops
def test_a_peer_that_never_answers_a_close_is_cut(loop_name: str) -> None:
    async def main() -> None:
        async with peer_of(close_timeout=UNIT) as (peer, ws):
            await ws.close(1000, "bye")
            assert ws.close_code == 1006
            with pytest.raises(ConnectionClosedError) as caught:
                await ws.recv()
            assert caught.value.sent == Close(1000, "bye")
            assert caught.value.rcvd is None
            assert str(caught.value) == ("sent 1000 (OK) bye; no close frame received")
            assert (await peer.next_frame()).payload == b"\x03\xe8bye"

    run_on(loop_name, main())


@both_loops
def test_closing_again_changes_nothing(loop_name: str) -> None:
    async def main() -> None:
        async with pair() as (client, server):
            await asyncio.gather(client.close(3000, "a"), client.close(3001, "b"))
            await client.close(3002, "c")
            await server.wait_closed()
            assert (server.close_code, server.close_reason) == (3000, "a")
            await server.close()
            for ws in (client, server):
                async with ws:
                    pass

    run_on(loop_name, main())


@both_loops
def test_reject_closes_that_cannot_be_sent(loop_name: str) -> None:
    async def main() -> None:
        async with pair() as (client, _):
            for code, reason in ((999, ""), (1005, "a"), (1015, ""), (1000, "ü" * 62)):
                with pytest.raises(LocalProtocolError):
                    await client.close(code, reason)
            assert client.state is State.OPEN
            await client.close(1000, "ü" * 61)

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize("who", ["client", "server"])
def test_closing_ends_a_message_that_is_sent_in_parts(loop_name: str, who: str) -> None:
    async def main() -> None:
        async with pair() as (client, server):

            async def endless() -> AsyncIterator[str]:
                while True:
                    yield "a"
                    await asyncio.sleep(0)

            sending = asyncio.create_task(client.send(endless()))
            await eventually(lambda: client.is_sending_fragments)
            if who == "client":
                await client.close()
            else:
                await server.close()
            with pytest.raises(ConnectionClosed):
                await sending
            assert not client.is_sending_fragments
            with pytest.raises(ConnectionClosed) as caught:
                await server.recv()
            # The message will have no end: whoever began it says that this is an error.
            rcvd = caught.value.rcvd
            assert rcvd is not None
            assert rcvd.code == (1011 if who == "client" else 1000)

    run_on(loop_name, main())


@both_loops
def test_an_exception_in_the_block_closes_with_1011(loop_name: str) -> None:
    async def main() -> None:
        async with serving(stay) as (server, url):
            with pytest.raises(KeyError):
                async with connect(url):
                    await eventually(lambda: server.connections)
                    (other,) = server.connections
                    raise KeyError
            await other.wait_closed()
            assert other.close_code == 1011

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ((TEXT, b"\xff"), 1007),
        ((3, b""), 1002),
        ((0, b""), 1002),
        ((PING, b"", False), 1002),
        ((CLOSE, b"\x03"), 1002),
        ((CLOSE, b"\x03\xed"), 1002),
        ((BINARY, bytes(101)), 1009),
    ],
    ids=["text", "opcode", "continuation", "ping", "close", "code", "size"],
)
def test_mistakes_of_the_peer_close(
    loop_name: str, frame: tuple[Any, ...], code: int
) -> None:
    async def main() -> None:
        async with peer_of(max_size=(100, 50)) as (peer, ws):
            await peer.send_frame(*frame)
            assert (await answer_of(peer)).code == code
            with pytest.raises(ConnectionClosedError) as caught:
                await ws.recv()
            assert caught.value.sent is not None
            assert caught.value.sent.code == code
            assert caught.value.__cause__ is not None

    run_on(loop_name, main())


# -- pings -------------------------------------------------------------------------


@both_loops
def test_pings_that_are_open_at_the_end_raise(loop_name: str) -> None:
    async def main() -> None:
        async with peer_of() as (peer, ws):
            first, _forgotten = await ws.ping(), await ws.ping()
            await peer.send_close(1000)
            await answer_of(peer)
            with pytest.raises(ConnectionClosedOK):
                await first
            del first, _forgotten
            gc.collect()  # nobody is told of an exception that was never looked at

    run_on(loop_name, main())


@both_loops
def test_a_pong_answers_all_pings_before_it(loop_name: str) -> None:
    async def main() -> None:
        async with peer_of() as (peer, ws):
            waits = [await ws.ping(name) for name in ("one", b"two", bytearray(b"x"))]
            assert ws.latency == 0
            await peer.send_frame(PONG, b"unknown")
            await peer.send_frame(PONG, b"two")
            async with asyncio.timeout(LONG):
                await waits[1]
            assert [wait.done() for wait in waits] == [True, True, False]
            assert ws.latency == waits[1].result() > 0
            assert waits[0].result() >= waits[1].result()
            (await ws.ping("one")).cancel()  # its payload is free again

    run_on(loop_name, main())


@both_loops
def test_the_keepalive_measures_latency(loop_name: str) -> None:
    async def main() -> None:
        async with pair(ping_interval=UNIT / 2) as (client, server):
            await eventually(lambda: client.latency)
            assert 0 < client.latency < LONG
            assert server.latency == 0  # it pings every 20 s

    run_on(loop_name, main())


@both_loops
def test_a_peer_that_does_not_answer_pings_is_cut(loop_name: str) -> None:
    async def main() -> None:
        errors: list[ConnectionClosedError] = []

        async def handler(ws: ServerConnection) -> None:
            with pytest.raises(ConnectionClosedError) as caught:
                await ws.recv()
            errors.append(caught.value)

        limits = {"ping_interval": UNIT / 2, "ping_timeout": UNIT / 2}
        async with serving(handler, **limits) as (server, _):
            peer = await raw_client(server.sockets[0].getsockname()[1])
            await eventually(lambda: errors)
            assert errors[0].sent == Close(1011, "keepalive ping timeout")
            assert (await peer.read_frame()).opcode == PING
            peer.wire.close()

    run_on(loop_name, main())


@both_loops
def test_pings_are_answered_and_not_received(loop_name: str) -> None:
    async def main() -> None:
        async with peer_of() as (peer, ws):
            await peer.send_frame(TEXT, b"a", fin=False)
            await peer.send_frame(PING, b"between")
            assert await peer.read_frame() == (True, PONG, b"between")
            await peer.send_frame(0, b"b")
            assert await ws.recv() == "ab"

    run_on(loop_name, main())


@both_loops
def test_reject_what_no_control_frame_carries(loop_name: str) -> None:
    async def main() -> None:
        async with pair() as (client, _):
            for wrong in (5, ["a"], object()):
                with pytest.raises(TypeError):
                    await client.ping(wrong)  # type: ignore[arg-type]
                with pytest.raises(TypeError):
                    await client.pong(wrong)  # type: ignore[arg-type]
            assert client.state is State.OPEN

    run_on(loop_name, main())


# -- facts -------------------------------------------------------------------------


@both_loops
def test_facts_of_a_connection(loop_name: str) -> None:
    async def main() -> None:
        async with pair() as (client, server):
            assert client.id != server.id
            assert client.transport.get_extra_info("peername") == client.remote_address
            adapter = server.logger
            assert adapter.extra == {"websocket": server}
            assert repr(client) == "<ClientConnection open>"
            address = client.remote_address
            await client.close()
            assert client.transport is None
            assert client.remote_address == address
            assert repr(client) == "<ClientConnection closed>"

    run_on(loop_name, main())
