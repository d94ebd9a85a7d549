"""Messages of the coroutine API that are received in parts."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fastws.exceptions import (
    ConcurrencyError,
    ConnectionClosedError,
    ConnectionClosedOK,
)
from tests.support.coroutines import pair, peer_of
from tests.support.peers import BINARY, TEXT
from tests.support.servers import both_loops, eventually, run_on
from tests.support.timing import LONG, SHORT


async def joined(parts: AsyncIterator[Any], empty: Any) -> Any:
    return empty.__class__().join([part async for part in parts])


@both_loops
def test_parts_come_before_the_message_ends(loop_name: str) -> None:
    async def main() -> None:
        async with peer_of() as (peer, ws):
            parts = ws.recv_streaming()
            await peer.send_frame(TEXT, b"one", fin=False)
            assert await anext(parts) == "one"
            await peer.send_frame(0, b"two", fin=False)
            assert await anext(parts) == "two"
            await peer.send_frame(0, b"", fin=True)
            with pytest.raises(StopAsyncIteration):
                await anext(parts)
            await peer.send_frame(BINARY, b"next")
            assert await ws.recv() == b"next"

    run_on(loop_name, main())


@both_loops
def test_what_came_before_the_call_is_received_too(loop_name: str) -> None:
    async def main() -> None:
        async with peer_of() as (peer, ws):
            await peer.send_frame(TEXT, b"whole")
            await peer.send_frame(TEXT, b"beg", fin=False)
            await eventually(lambda: ws._queue)
            assert [part async for part in ws.recv_streaming()] == ["whole"]
            parts = ws.recv_streaming()
            first = await anext(parts)
            await peer.send_frame(0, b"un", fin=True)
            assert first + await joined(parts, "") == "begun"

    run_on(loop_name, main())


@both_loops
def test_characters_and_types_of_parts(loop_name: str) -> None:
    async def main() -> None:
        async with peer_of() as (peer, ws):
            for decode, opcode, sent, empty in (
                (None, TEXT, "grün€", ""),
                (False, TEXT, "grün€", b""),
                (True, BINARY, "grün€", ""),
                (None, BINARY, "grün€", b""),
            ):
                task = asyncio.create_task(joined(ws.recv_streaming(decode), empty))
                data = sent.encode()
                for i in range(len(data)):
                    await peer.send_frame(0 if i else opcode, data[i : i + 1], False)
                await peer.send_frame(0, b"", fin=True)
                assert await task == (sent if empty == "" else data)
            for empty in ("", b""):
                await peer.send_frame(TEXT if empty == "" else BINARY)
                assert [part async for part in ws.recv_streaming()] == [empty]

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize("streaming", [False, True], ids=["recv", "recv_streaming"])
def test_binary_that_is_no_text_closes(loop_name: str, streaming: bool) -> None:
    async def main() -> None:
        async with pair() as (client, server):
            await client.send(b"a\xff")
            with pytest.raises(ConnectionClosedError) as caught:
                if streaming:
                    await joined(server.recv_streaming(decode=True), "")
                else:
                    await server.recv(decode=True)
            assert isinstance(caught.value.__cause__, UnicodeDecodeError)
            assert caught.value.sent is not None
            assert caught.value.sent.code == 1007
            assert caught.value.sent.reason == "invalid start byte at position 1"

    run_on(loop_name, main())


@both_loops
def test_cancelled_before_the_first_part_it_leaves_nothing(loop_name: str) -> None:
    async def main() -> None:
        async with peer_of() as (peer, ws):
            task = asyncio.ensure_future(anext(ws.recv_streaming()))
            await eventually(lambda: ws._getter)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await peer.send_frame(TEXT, b"a", fin=False)
            await peer.send_frame(0, b"b")
            assert await ws.recv() == "ab"

    run_on(loop_name, main())


@both_loops
def test_the_next_call_goes_on_where_one_was_left(loop_name: str) -> None:
    async def main() -> None:
        async with peer_of() as (peer, ws):
            await peer.send_frame(TEXT, b"a", fin=False)
            async for part in ws.recv_streaming():
                assert part == "a"
                break
            with pytest.raises(ConcurrencyError, match="goes on with recv_streaming"):
                await ws.recv()
            task = asyncio.ensure_future(anext(ws.recv_streaming()))
            await eventually(lambda: not ws._getter.done())
            with pytest.raises(ConcurrencyError, match="another task"):
                await ws.recv()
            with pytest.raises(ConcurrencyError, match="another task"):
                await anext(ws.recv_streaming())
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await peer.send_frame(0, b"b", fin=False)
            await peer.send_frame(0, b"c")
            assert await joined(ws.recv_streaming(), "") == "bc"
            await peer.send_frame(TEXT, b"next")
            assert await anext(ws) == "next"

    run_on(loop_name, main())


@both_loops
def test_reject_parts_while_a_message_is_awaited(loop_name: str) -> None:
    async def main() -> None:
        async with peer_of() as (peer, ws):
            task = asyncio.ensure_future(ws.recv())
            await eventually(lambda: ws._getter)
            with pytest.raises(ConcurrencyError, match="another task"):
                await anext(ws.recv_streaming())
            await peer.send_frame(TEXT, b"a")
            assert await task == "a"

    run_on(loop_name, main())


@both_loops
def test_parts_of_a_lost_connection_raise(loop_name: str) -> None:
    async def main() -> None:
        async with peer_of() as (peer, ws):
            await peer.send_frame(TEXT, b"a", fin=False)
            parts = ws.recv_streaming()
            assert await anext(parts) == "a"
            task = asyncio.ensure_future(anext(parts))
            await eventually(lambda: not ws._getter.done())
            peer.wire.reset()
            for call in (lambda: task, lambda: anext(ws.recv_streaming()), ws.recv):
                with pytest.raises(ConnectionClosedError):
                    await call()

    run_on(loop_name, main())


@both_loops
def test_what_came_before_the_close_is_received(loop_name: str) -> None:
    async def main() -> None:
        async with peer_of() as (peer, ws):
            parts = ws.recv_streaming()
            for payload in (b"a", b"b", b"c"):
                await peer.send_frame(0 if payload != b"a" else TEXT, payload, False)
                if payload == b"a":
                    assert await anext(parts) == "a"
            await peer.send_frame(0, b"d")
            await peer.send_close()
            await peer.next_frame()
            await peer.wire.finish()
            await ws.wait_closed()
            assert await anext(parts) == "b"  # and left here
            with pytest.raises(ConcurrencyError):
                await ws.recv()
            rest = await joined(ws.recv_streaming(), "")
            assert rest == "cd"
            for call in (ws.recv, lambda: anext(ws.recv_streaming())):
                with pytest.raises(ConnectionClosedOK):
                    await call()

    run_on(loop_name, main())


@both_loops
def test_a_mistake_of_the_peer_ends_the_wait_for_parts(loop_name: str) -> None:
    async def main() -> None:
        async with peer_of() as (peer, ws):
            await peer.send_raw(peer.encode(TEXT, b"a") + peer.encode(3, b""))
            async with asyncio.timeout(SHORT):  # less than the Close would wait
                assert [part async for part in ws.recv_streaming()] == ["a"]
                task = asyncio.ensure_future(anext(ws.recv_streaming()))
                assert (await peer.next_frame()).code == 1002
                await peer.wire.finish()
                with pytest.raises(ConnectionClosedError):
                    await task

    run_on(loop_name, main())


@both_loops
def test_parts_that_nobody_takes_stop_the_socket(loop_name: str) -> None:
    async def main() -> None:
        async with peer_of(max_queue=4, max_size=None) as (peer, ws):
            parts = ws.recv_streaming()
            await peer.send_frame(BINARY, bytes(1), fin=False)
            assert await anext(parts) == bytes(1)

            async def flood() -> None:
                for _ in range(100):
                    await peer.send_frame(0, bytes(200_000), fin=False)
                await peer.send_frame(0, b"end")

            task = asyncio.create_task(flood())
            await eventually(lambda: not ws._ws.is_reading)
            assert len(ws._getter._parts) <= 8  # what one read may hold
            assert not task.done()
            async with asyncio.timeout(LONG):
                whole = await joined(parts, b"")
            assert len(whole) == 100 * 200_000 + 3
            await task
            await peer.send_frame(TEXT, b"next")
            assert await ws.recv() == "next"

    run_on(loop_name, main())
