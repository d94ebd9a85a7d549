"""A peer's mistake behind good messages: these are answered before we close."""

import asyncio
from typing import Any

import pytest

from fastws.exceptions import ConnectionClosedError
from tests.support.coroutines import serving
from tests.support.handlers import raw_client
from tests.support.peers import BINARY, CLOSE
from tests.support.servers import both_loops, eventually, run_on
from tests.support.timing import SHORT, UNIT

GOOD = b"\x82\x84\0\0\0\0good"
BAD = b"\x83\x80\0\0\0\0"


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2].rstrip("/"))


@both_loops
def test_good_messages_are_answered_before_the_close(loop_name: str) -> None:
    async def main() -> None:
        async with serving() as (_, url):
            peer = await raw_client(port_of(url))
            await peer.send_raw(GOOD * 3 + BAD + GOOD)
            for _ in range(3):
                assert (await peer.read_frame()).payload == b"good"
            frame = await peer.read_frame()
            assert (frame.opcode, frame.code) == (CLOSE, 1002)
            assert await peer.end_of_tcp() == "eof"
            peer.wire.close()

    run_on(loop_name, main())


@both_loops
def test_handler_that_does_not_receive_holds_the_close_half_its_time(
    loop_name: str,
) -> None:
    """It hears of both, whenever it looks."""
    seen: list[Any] = []

    async def busy(ws: Any) -> None:
        await ws.wait_closed()
        seen.append(await ws.recv())
        with pytest.raises(ConnectionClosedError) as caught:
            await ws.recv()
        seen.append(caught.value.sent.code)

    async def main() -> None:
        async with serving(busy, close_timeout=8 * UNIT) as (_, url):
            peer = await raw_client(port_of(url))
            since = asyncio.get_running_loop().time()
            await peer.send_raw(GOOD + BAD)
            frame = await peer.read_frame(SHORT)
            assert (frame.opcode, frame.code) == (CLOSE, 1002)
            assert asyncio.get_running_loop().time() - since >= 3.9 * UNIT
            assert await peer.end_of_tcp() == "eof"
            peer.wire.close()

    run_on(loop_name, main())
    assert seen == [b"good", 1002]


@both_loops
@pytest.mark.parametrize("how", ["close", "return", "raise"])
def test_close_of_the_handler_says_what_was_wrong(loop_name: str, how: str) -> None:
    async def handler(ws: Any) -> None:
        await eventually(lambda: ws._ws.failure)
        if how == "raise":
            raise KeyError("mine")
        if how == "close":
            await ws.close(1000, "fine")

    async def main() -> None:
        async with serving(handler, close_timeout=SHORT) as (_, url):
            peer = await raw_client(port_of(url))
            await peer.send_raw(GOOD + BAD)
            frame = await peer.read_frame(SHORT)
            assert (frame.opcode, frame.code) == (CLOSE, 1002)
            peer.wire.close()

    run_on(loop_name, main())


@both_loops
def test_peer_may_leave_meanwhile(loop_name: str) -> None:
    async def main() -> None:
        ended = asyncio.Event()

        async def handler(ws: Any) -> None:
            await ws.wait_closed()
            assert (await ws.recv(), ws.close_code) == (b"good", 1006)
            ended.set()

        async with serving(handler, close_timeout=None) as (_, url):
            peer = await raw_client(port_of(url))
            await peer.send_raw(GOOD + BAD)
            peer.wire.reset()
            await asyncio.wait_for(ended.wait(), SHORT)

    run_on(loop_name, main())


@both_loops
def test_nothing_waits_without_messages(loop_name: str) -> None:
    async def main() -> None:
        async with serving(close_timeout=None) as (_, url):
            peer = await raw_client(port_of(url))
            await peer.send_raw(GOOD)
            assert (await peer.read_frame())[1:] == (BINARY, b"good")
            await peer.send_raw(BAD)
            assert (await peer.read_frame()).code == 1002
            peer.wire.close()

    run_on(loop_name, main())
