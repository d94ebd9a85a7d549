"""``fastws.testing``: pairs without a network, handlers under test, faults."""

import asyncio
from itertools import repeat
from typing import Any

import pytest

import fastws
from fastws.exceptions import (
    ConnectionClosedError,
    ConnectionClosedOK,
    InvalidStatus,
    PayloadTooBig,
)
from fastws.testing import MemoryServer, link_of, pair, serving, serving_stream
from fastws.wire.frames import Close
from fastws.ws.facts import State
from fastws.ws.serve import ServerConnection
from tests.support.coroutines import echo
from tests.support.servers import both_loops, open_sockets, run_on
from tests.support.timing import SHORT, UNIT

MESSAGES = ["", "text", "ü€𝄞", b"", b"\xff" * 300_000]


@both_loops
@pytest.mark.parametrize("compression", [None, "deflate"])
def test_pair_carries_messages_both_ways(
    loop_name: str, compression: str | None
) -> None:
    async def main() -> None:
        async with pair(compression=compression) as (client, server):
            for sender, receiver in ((client, server), (server, client)):
                for message in MESSAGES:
                    await sender.send(message)
                    assert await receiver.recv() == message
            agreed = server.response.headers.get("Sec-WebSocket-Extensions", "")
            assert agreed.startswith("permessage-deflate") is (compression is not None)
            assert await (await client.ping()) < SHORT
        assert (client.state, server.state) == (State.CLOSED, State.CLOSED)

    run_on(loop_name, main())


@both_loops
def test_pair_opens_no_socket(loop_name: str) -> None:
    async def main() -> None:
        before = open_sockets()
        async with pair() as (client, server):
            await client.send("x")
            assert await server.recv() == "x"
            assert open_sockets() == before

    run_on(loop_name, main())


@both_loops
def test_pair_takes_the_options_of_each_side(loop_name: str) -> None:
    async def main() -> None:
        options: dict[str, Any] = {
            "subprotocols": ["b", "a"],
            "client": {"origin": "https://a.example", "max_size": 10},
            "server": {"additional_headers": {"X-Here": "1"}, "max_size": 20},
        }
        async with pair("/path?q", **options) as (client, server):
            assert client.subprotocol == server.subprotocol == "b"
            assert server.request.path == "/path?q"
            assert server.request.headers["Origin"] == "https://a.example"
            assert client.response is not None
            assert client.response.headers["X-Here"] == "1"
            await client.send("x" * 20)
            assert await server.recv() == "x" * 20
            await server.send("x" * 11)
            with pytest.raises(ConnectionClosedError) as caught:
                await client.recv()
            assert isinstance(caught.value.__cause__, PayloadTooBig)

    run_on(loop_name, main())


@both_loops
def test_pair_ends_with_the_closing_handshake(loop_name: str) -> None:
    async def main() -> None:
        async with pair() as (client, server):
            await server.close(1001, "bye")
            with pytest.raises(ConnectionClosedOK) as caught:
                await client.recv()
            assert (caught.value.rcvd, caught.value.rcvd_then_sent) == (
                Close(1001, "bye"),
                True,
            )

    run_on(loop_name, main())


@both_loops
def test_slow_reader_stops_the_sender_and_the_end_does_not_wait(loop_name: str) -> None:
    async def main() -> None:
        limits = {"max_queue": 2, "write_limit": 1000}
        async with pair(**limits, close_timeout=100 * SHORT) as (client, server):
            sent = 0
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(UNIT):
                    while True:
                        await client.send(b"x" * 600)
                        sent += 1
            assert 100 < sent < 120  # 64 KiB under way, and what both ends keep
            assert await server.recv() == b"x" * 600

    run_on(loop_name, main())


@both_loops
def test_serving_runs_a_handler_and_waits_for_it(loop_name: str) -> None:
    async def main() -> None:
        ended = []

        async def handler(ws: ServerConnection) -> None:
            await echo(ws)
            ended.append(ws.close_code)

        async with serving(handler, "/chat") as ws:
            await ws.send("hello")
            assert await ws.recv() == "hello"
            assert ended == []
        assert ended == [1000]

    run_on(loop_name, main())


@both_loops
def test_exception_of_the_handler_fails_the_test(loop_name: str) -> None:
    async def fail(ws: ServerConnection) -> None:
        await ws.recv()
        raise LookupError("of the handler")

    async def main() -> None:
        with pytest.raises(LookupError, match="of the handler"):
            async with serving(fail) as ws:
                await ws.send("go")
                with pytest.raises(ConnectionClosedError) as caught:
                    await ws.recv()
                assert caught.value.rcvd is not None
                assert caught.value.rcvd.code == 1011
        with pytest.raises(LookupError) as raised:
            async with serving(fail) as ws:
                await ws.send("go")
                await ws.recv()
        assert isinstance(raised.value.__context__, ConnectionClosedError)

    run_on(loop_name, main())


@both_loops
def test_handler_whose_client_left_has_not_failed(loop_name: str) -> None:
    async def recv(ws: ServerConnection) -> None:
        await ws.recv()

    async def main() -> None:
        async with serving(recv) as ws:
            link_of(ws).drop()
            await ws.wait_closed()

    run_on(loop_name, main())


@both_loops
def test_server_takes_many_clients_and_refuses_some(loop_name: str) -> None:
    async def main() -> None:
        members: set[ServerConnection] = set()

        async def join(ws: ServerConnection) -> None:
            members.add(ws)
            async for message in ws:
                for member in members:
                    await member.send(message)

        def check(ws: ServerConnection, request: fastws.Request) -> Any:
            return None if request.path == "/room" else ws.respond(404, "no room")

        async with (
            MemoryServer(join, process_request=check) as server,
            server.connect("/room") as one,
            server.connect("/room") as two,
        ):
            assert len(server.server.connections) == 2
            with pytest.raises(InvalidStatus) as caught:
                await server.connect("/elsewhere")
            assert caught.value.response.body == b"no room"
            await one.send("hello")
            assert [await one.recv(), await two.recv()] == ["hello", "hello"]

    run_on(loop_name, main())


@both_loops
def test_stalled_link_delivers_later_and_in_order(loop_name: str) -> None:
    async def main() -> None:
        async with pair() as (client, server):
            link = link_of(client)
            link.stall()
            for number in range(3):
                await client.send(str(number))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(server.recv(), UNIT)
            link.resume()
            assert [await server.recv() for _ in range(3)] == ["0", "1", "2"]

    run_on(loop_name, main())


@both_loops
def test_stalled_link_is_found_by_pings(loop_name: str) -> None:
    async def main() -> None:
        times = {"ping_interval": UNIT, "ping_timeout": UNIT}
        async with pair(client=times) as (client, _):
            link_of(client).stall()
            with pytest.raises(ConnectionClosedError) as caught:
                await client.recv()
            assert caught.value.sent is not None
            assert caught.value.sent.reason == "keepalive ping timeout"

    run_on(loop_name, main())


@both_loops
def test_clock_looks_at_a_connection_that_is_not_read(loop_name: str) -> None:
    """There is no socket to ask whether the peer has gone."""

    async def main() -> None:
        times = {"ping_interval": UNIT, "ping_timeout": 100 * SHORT}
        async with pair(server=times, max_queue=0) as (client, server):
            await client.send("unread")
            await asyncio.sleep(4 * UNIT)
            assert server.state is State.OPEN
            assert await server.recv() == "unread"

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize("fault", ["drop", "reset"])
def test_lost_connection_is_1006_for_both(loop_name: str, fault: str) -> None:
    async def main() -> None:
        async with pair() as (client, server):
            link = link_of(server)
            getattr(link, fault)()
            for end in (client, server):
                with pytest.raises(ConnectionClosedError) as caught:
                    await end.recv()
                assert end.close_code == 1006
                cause = caught.value.__cause__
                assert isinstance(cause, ConnectionResetError) is (fault == "reset")
            with pytest.raises(ValueError, match="no open WebSocket"):
                link_of(server)

    run_on(loop_name, main())


@both_loops
def test_reconnecting_client_comes_back_after_a_drop(loop_name: str) -> None:
    async def main() -> None:
        async with MemoryServer(echo) as server:
            times = 0
            async for ws in server.connect(reconnect_delays=lambda: repeat(0.0)):
                await ws.send("x")
                assert await ws.recv() == "x"
                times += 1
                if times == 3:
                    break
                link_of(ws).drop()
                with pytest.raises(ConnectionClosedError):
                    await ws.recv()

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize("announce", [True, False])
def test_stream_handler_runs_in_memory(loop_name: str, announce: bool) -> None:
    async def count(stream: fastws.Stream) -> None:
        data = await stream.read()
        stream.write(b"%d" % len(data))

    async def main() -> None:
        options = {"client": {"announce": announce, "linger": SHORT}}
        async with serving_stream(count, **options) as stream:
            stream.write(bytes(3_000_000))
            if announce:
                stream.write_eof()
                assert await stream.read() == b"3000000"

    run_on(loop_name, main())


@both_loops
def test_exception_of_a_stream_handler_fails_the_test(loop_name: str) -> None:
    async def fail(stream: fastws.Stream) -> None:
        await stream.readexactly(2)
        raise LookupError("of the handler")

    async def main() -> None:
        with pytest.raises(LookupError, match="of the handler"):
            async with serving_stream(fail) as stream:
                stream.write(b"go")
                with pytest.raises(fastws.StreamReset):
                    await stream.read()
        with pytest.raises(LookupError) as raised:
            async with serving_stream(fail) as stream:
                stream.write(b"go")
                await stream.read()
        assert isinstance(raised.value.__context__, fastws.StreamReset)

    run_on(loop_name, main())


@both_loops
def test_stream_handler_whose_client_broke_off_has_not_failed(loop_name: str) -> None:
    async def read(stream: fastws.Stream) -> None:
        await stream.read()

    async def main() -> None:
        async with serving_stream(read) as stream:
            stream.abort()

    run_on(loop_name, main())


def test_module_is_reached_by_its_name() -> None:
    assert fastws.testing.pair is pair
