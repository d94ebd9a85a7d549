"""Connections of the coroutine API: messages, pings, closing, cancellation."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fastws.exceptions import (
    ConcurrencyError,
    ConnectionClosedError,
    ConnectionClosedOK,
    LocalProtocolError,
    PayloadTooBig,
)
from fastws.wire.frames import Close
from fastws.ws.connect import connect
from fastws.ws.facts import State
from fastws.ws.serve import serve
from tests.support.coroutines import echo, pair, serving
from tests.support.peers import BINARY, TEXT
from tests.support.servers import both_loops, eventually, run_on

MESSAGES = ["", "text", "ü€𝄞", b"", b"binary", b"\xff" * 70_000]


async def started(work: Any) -> "asyncio.Task[Any]":
    """A task of ``work`` that waits for something."""
    task = asyncio.ensure_future(work)
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()
    return task


async def cancel(task: "asyncio.Task[Any]") -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@both_loops
def test_echo_of_every_kind_of_message(loop_name: str) -> None:
    async def main() -> None:
        async with serving() as (_, url), connect(url) as ws:
            for message in MESSAGES:
                await ws.send(message)
                assert await ws.recv() == message

    run_on(loop_name, main())


@both_loops
def test_decode_chooses_the_type_received(loop_name: str) -> None:
    async def main() -> None:
        async with pair() as (client, server):
            for message in ("ü", "ü", b"\xc3\xbc", b"\xc3\xbc"):
                await client.send(message)
            assert await server.recv(decode=False) == b"\xc3\xbc"
            assert await server.recv(decode=True) == "ü"
            assert await server.recv(decode=True) == "ü"
            assert await server.recv(decode=False) == b"\xc3\xbc"

    run_on(loop_name, main())


@both_loops
def test_text_chooses_the_type_sent(loop_name: str) -> None:
    async def main() -> None:
        async with pair() as (client, server):
            await client.send(b"a", text=True)
            await client.send("b", text=False)
            await client.send([bytearray(b"c"), b"d"], text=True)
            got = [await server.recv() for _ in range(3)]
        assert got == ["a", b"b", "cd"]

    run_on(loop_name, main())


@both_loops
def test_iteration_ends_with_an_orderly_close(loop_name: str) -> None:
    async def main() -> None:
        async with pair() as (client, server):
            await client.send("a")
            await client.send("b")
            closing = asyncio.create_task(client.close(1001, "gone"))
            assert [message async for message in server] == ["a", "b"]
            await closing
            assert (server.close_code, server.close_reason) == (1001, "gone")

    run_on(loop_name, main())


@both_loops
def test_iteration_raises_after_an_error(loop_name: str) -> None:
    async def main() -> None:
        async with pair() as (client, server):
            closing = asyncio.create_task(client.close(1011, "broken"))
            with pytest.raises(ConnectionClosedError) as caught:
                async for _ in server:
                    pass
            await closing
        assert caught.value.rcvd == Close(1011, "broken")
        assert caught.value.sent == Close(1011)
        assert caught.value.rcvd_then_sent is True
        assert str(caught.value) == (
            "received 1011 (internal error) broken; then sent 1011 (internal error)"
        )

    run_on(loop_name, main())


@both_loops
def test_fragments_of_both_kinds_of_iterator(loop_name: str) -> None:
    async def later(*parts: Any) -> AsyncIterator[Any]:
        for part in parts:
            await asyncio.sleep(0)
            yield part

    async def main() -> None:
        async with pair() as (client, server):
            await client.send(["a", "b", "c"])
            await client.send(later(b"d", b"e"))
            await client.send([])
            await client.send("end")
            assert [await server.recv() for _ in range(3)] == ["abc", b"de", "end"]

    run_on(loop_name, main())


@both_loops
def test_other_messages_wait_for_the_last_fragment(loop_name: str) -> None:
    async def main() -> None:
        go = asyncio.Event()

        async def slow() -> AsyncIterator[str]:
            yield "a"
            await go.wait()
            yield "b"

        async with pair() as (client, server):
            first = await started(client.send(slow()))
            second = await started(client.send("second"))
            third = await started(client.send(["th", "ird"]))
            await cancel(await started(client.send("never")))
            go.set()
            await asyncio.gather(first, second, third)
            got = [await server.recv() for _ in range(3)]
        assert got[0] == "ab"
        assert sorted(got[1:]) == ["second", "third"]

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize("how", ["raises", "cancelled", "mixed"])
def test_unfinished_fragments_end_the_connection(loop_name: str, how: str) -> None:
    async def parts() -> AsyncIterator[Any]:
        yield "a"
        if how == "raises":
            raise KeyError("mine")
        if how == "mixed":
            yield b"b"
        await asyncio.Event().wait()

    async def main() -> None:
        async with pair() as (client, server):
            if how == "cancelled":
                await cancel(await started(client.send(parts())))
            else:
                error = KeyError if how == "raises" else TypeError
                with pytest.raises(error):
                    await client.send(parts())
            with pytest.raises(ConnectionClosedError) as caught:
                await server.recv()
            assert caught.value.rcvd == Close(1011, "error in fragmented message")

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize("wrong", [{"a": 1}, 5, None, [1]], ids=str)
def test_reject_what_is_no_message(loop_name: str, wrong: Any) -> None:
    async def main() -> None:
        async with pair() as (client, server):
            with pytest.raises(TypeError):
                await client.send(wrong)
            await client.send("still open")
            assert await server.recv() == "still open"

    run_on(loop_name, main())


@both_loops
def test_a_cancelled_recv_loses_no_message(loop_name: str) -> None:
    async def main() -> None:
        async with pair() as (client, server):
            await cancel(await started(server.recv()))
            task = await started(server.recv())
            server.on_message("a", TEXT, True)  # it is woken, and cancelled then
            await cancel(task)
            await client.send("b")
            assert [await server.recv(), await server.recv()] == ["a", "b"]

    run_on(loop_name, main())


@both_loops
def test_reject_a_second_recv(loop_name: str) -> None:
    async def main() -> None:
        async with pair() as (client, server):
            task = await started(server.recv())
            with pytest.raises(ConcurrencyError):
                await server.recv()
            with pytest.raises(ConcurrencyError):
                await anext(server)
            await client.send("one")
            assert await task == "one"

    run_on(loop_name, main())


@both_loops
def test_ping_tells_the_round_trip_time(loop_name: str) -> None:
    async def main() -> None:
        async with pair() as (client, _):
            first, second = await client.ping(), await client.ping("mine")
            with pytest.raises(ConcurrencyError):
                await client.ping(b"mine")
            assert await second >= 0
            assert first.done()
            assert await first >= 0
            with pytest.raises(LocalProtocolError):
                await client.ping(bytes(126))
            with pytest.raises(LocalProtocolError):
                await client.pong(bytes(126))

    run_on(loop_name, main())


@both_loops
def test_an_unsolicited_pong_answers_its_ping_only(loop_name: str) -> None:
    async def main() -> None:
        async with pair() as (client, server):
            server._ws.on_ping = None
            waiter = await client.ping("mine")
            await server.pong("other")
            assert await waiter >= 0

    run_on(loop_name, main())


@both_loops
def test_a_full_queue_stops_the_socket(loop_name: str) -> None:
    async def main() -> None:
        block = bytes(100_000)
        async with pair(server={"max_queue": (4, 1)}, write_limit=1) as (client, ws):

            async def flood() -> None:
                for _ in range(200):
                    await client.send(block)

            task = asyncio.create_task(flood())
            await eventually(lambda: ws._is_held and client._drain is not None)
            assert 4 < len(ws._queue) <= 8  # what one read may hold
            while len(ws._queue) > 2:
                await ws.recv()
            assert ws._is_held
            await ws.recv()
            assert not ws._is_held
            for _ in range(200 - 8):
                assert len(await ws.recv()) == 100_000
            while ws._queue or not task.done():
                await ws.recv()

    run_on(loop_name, main())


@both_loops
def test_send_waits_for_a_peer_that_does_not_read(loop_name: str) -> None:
    async def main() -> None:
        async with pair(server={"max_queue": 1}, write_limit=1000) as (client, ws):
            for message in ("a", "b"):
                await client.send(message)
            await eventually(lambda: ws._is_held)
            big = await started(client.send(bytes(15 << 20)))  # no kernel takes it
            waiting = await started(client.send("never"))
            await cancel(waiting)  # not sent at all
            await cancel(big)  # sent as a whole
            end = await started(client.send("end"))
            got = [await ws.recv() for _ in range(4)]
            assert got == ["a", "b", bytes(15 << 20), "end"]
            await end

    run_on(loop_name, main())


@both_loops
def test_a_lost_connection_wakes_everybody(loop_name: str) -> None:
    async def main() -> None:
        async with pair(server={"max_queue": 1}, write_limit=1000) as (client, ws):
            receiving = await started(client.recv())
            ws._ws.pause_reading()
            pinged = await client.ping()

            async def flood() -> None:
                while True:
                    await client.send(bytes(500_000))

            sending = asyncio.create_task(flood())
            await eventually(lambda: client._drain is not None)
            waiting = await started(client.wait_closed())
            ws.abort()
            for task in (receiving, pinged, sending):
                with pytest.raises(ConnectionClosedError) as caught:
                    await task
                assert caught.value.rcvd is None
            await waiting
            assert client.close_code == 1006
            assert str(caught.value) == "no close frame received or sent"

    run_on(loop_name, main())


@both_loops
def test_states_and_codes_of_a_close(loop_name: str) -> None:
    async def main() -> None:
        async with pair() as (client, server):
            assert client.state is State.OPEN
            assert client.close_code is None
            assert client.close_reason is None
            await server.send("before")
            client._ws.close(4000, "mine")
            assert client.state is State.CLOSING
            await client.close()
            assert client.state is State.CLOSED
            assert (client.close_code, client.close_reason) == (4000, "")
            assert await client.recv() == "before"
            for call in (client.recv, client.ping, client.pong):
                with pytest.raises(ConnectionClosedError) as caught:
                    await call()
            with pytest.raises(ConnectionClosedError):
                await client.send("after")
            assert caught.value.sent == Close(4000, "mine")
            assert caught.value.rcvd_then_sent is False
            await client.close()
            await client.wait_closed()

    run_on(loop_name, main())


@both_loops
def test_a_cancelled_close_goes_on(loop_name: str) -> None:
    async def main() -> None:
        async with pair() as (client, server):
            await cancel(await started(client.close()))
            with pytest.raises(ConnectionClosedOK):
                await server.recv()
            await client.wait_closed()
            assert client.close_code == 1000

    run_on(loop_name, main())


@both_loops
def test_reject_a_code_that_must_not_be_sent(loop_name: str) -> None:
    async def main() -> None:
        async with pair() as (client, _):
            with pytest.raises(LocalProtocolError):
                await client.close(1006)
            assert client.state is State.OPEN

    run_on(loop_name, main())


@both_loops
def test_a_message_over_the_limit_says_so(loop_name: str) -> None:
    async def main() -> None:
        async with pair(server={"max_size": 100}) as (client, server):
            await client.send(bytes(100))
            await client.send(bytes(101))
            assert await server.recv() == bytes(100)
            with pytest.raises(ConnectionClosedError) as caught:
                await server.recv()
            assert isinstance(caught.value.__cause__, PayloadTooBig)
            assert caught.value.sent is not None
            assert caught.value.sent.code == 1009
            with pytest.raises(ConnectionClosedError) as caught:
                await client.recv()
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1009

    run_on(loop_name, main())


@both_loops
def test_a_full_queue_is_no_reason_to_grow_while_closing(loop_name: str) -> None:
    async def main() -> None:
        async with pair(server={"max_queue": 2}) as (client, server):
            for number in range(50):
                server.on_message(str(number), BINARY, True)
            await server.close()
            assert [await server.recv() for _ in range(50)][-1] == "49"
            with pytest.raises(ConnectionClosedOK):
                await server.recv()
            await client.wait_closed()

    run_on(loop_name, main())


@pytest.mark.parametrize("wrong", [-1, (1, 2), (4, -1)], ids=str)
def test_reject_wrong_water_marks(wrong: Any) -> None:
    with pytest.raises(ValueError, match="max_queue: need 0 <= low <= high"):
        connect("ws://127.0.0.1:1/", max_queue=wrong)
    with pytest.raises(ValueError, match="max_queue: need 0 <= low <= high"):
        serve(echo, "127.0.0.1", 0, max_queue=wrong)
