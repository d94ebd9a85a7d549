"""Requests of one connection, with handlers that know nothing of proxies."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from fastws.exceptions import RemoteProtocolError
from fastws.http.answers import Refusal
from fastws.http.channel import HIGH
from fastws.http.server import Handler, Request, ServerConnection, ServerOptions
from fastws.net.stream import ByteStream, Hold, Kind
from tests.support.http import Talk
from tests.support.servers import both_loops, eventually, run_on
from tests.support.timing import SHORT, UNIT

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


class Serving:
    """One client, its connection, and how that ended."""

    def __init__(self, client: Talk, connection: ServerConnection) -> None:
        self.client = client
        self.connection = connection
        self.refused: list[str] = []
        connection.on_refused = lambda error: self.refused.append(error.reason)
        self.task = asyncio.create_task(connection.run())


@contextlib.asynccontextmanager
async def serving(
    handler: Handler, options: ServerOptions | None = None
) -> AsyncIterator[Serving]:
    """A client that is served by ``handler``; the connection ends with the block."""
    loop = asyncio.get_running_loop()
    holds: asyncio.Queue[Hold] = asyncio.Queue()

    class Arrived(Hold):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            holds.put_nowait(self)

    server = await loop.create_server(Arrived, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    client = Talk(*await asyncio.open_connection(*address))
    hold = await holds.get()
    server.close()
    assert hold.transport is not None
    hold.transport.pause_reading()  # as whoever accepts it does
    stream = ByteStream(hold.transport, Kind.TCP, hold)
    connection = ServerConnection(stream, handler, options or ServerOptions())
    running = Serving(client, connection)
    try:
        yield running
    finally:
        client.writer.transport.abort()
        await asyncio.wait([running.task], timeout=SHORT)
        assert running.task.done()
        hold.transport.abort()
        await eventually(lambda: connection.channel.lost)


async def say_hi(request: Request) -> None:
    await request.respond(200, body=b"hi")


def post(size: int) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size


@both_loops
@pytest.mark.parametrize(
    ("request_", "answer", "goes_on"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"", True),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n", b"close", False),
        (b"GET / HTTP/1.0\r\n\r\n", b"close", False),
        (b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", b"keep-alive", True),
        (
            b"GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n",
            b"close",
            False,
        ),
    ],
    ids=["1.1", "1.1-close", "1.0", "1.0-keep-alive", "1.0-both"],
)
def test_whether_a_connection_goes_on(loop_name, request_, answer, goes_on):
    field = b"Connection: " + answer + b"\r\n" if answer else b""

    async def main():
        async with serving(say_hi) as running:
            await running.client.send(request_ + GET)
            head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + field
            await running.client.expect(head + b"\r\nhi")
            if goes_on:
                await running.client.expect(OK)
            else:
                assert await running.client.rest() == b""

    run_on(loop_name, main())


@both_loops
def test_body_that_nobody_read_is_skipped(loop_name):
    async def main():
        async with serving(say_hi) as running:
            size = 64 * 1024
            await running.client.send(post(size))
            await running.client.expect(OK)
            await running.client.send(bytes(size) + GET)
            await running.client.expect(OK)
            assert running.connection.requests == 2

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize("how", ["too-much", "too-late", "broken"])
def test_body_that_nobody_read_ends_the_connection(loop_name, how):
    chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    start = {"too-much": post(64 * 1024 + 1), "too-late": post(9), "broken": chunked}

    async def main():
        async with serving(say_hi, ServerOptions(linger=UNIT)) as running:
            await running.client.send(start[how])
            await running.client.expect(OK)
            await running.client.send(b"xyz" if how == "broken" else b"")
            assert await running.client.rest() == b""
            assert running.connection.requests == 1

    run_on(loop_name, main())


@both_loops
def test_answer_to_head_has_no_body(loop_name):
    async def main():
        async with serving(say_hi) as running:
            await running.client.send(GET.replace(b"GET", b"HEAD") + GET)
            await running.client.expect(OK.removesuffix(b"hi") + OK)

    run_on(loop_name, main())


@both_loops
def test_error_of_a_handler_is_answered(loop_name):
    """A refusal keeps its reason to the log."""
    errors = [
        RemoteProtocolError("too bad", http_status=403),
        Refusal("secret", http_status=404, headers=(("X", "y"),)),
    ]

    async def fail(request: Request) -> None:
        raise errors[running.connection.requests - 1]

    async def main():
        nonlocal running
        async with serving(fail) as running:
            await running.client.send(GET + GET)
            await running.client.expect(
                b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\n"
                b"Content-Length: 12\r\n\r\n403 too bad\n"
                b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nX: y\r\n"
                b"Content-Length: 4\r\n\r\n404\n"
            )
            assert running.refused == ["too bad", "secret"]

    running: Serving
    run_on(loop_name, main())


@both_loops
def test_fault_of_a_handler_resets(loop_name):
    async def fail(request: Request) -> None:
        raise ZeroDivisionError

    async def main():
        async with serving(fail) as running:
            await running.client.send(GET)
            assert await running.client.is_reset()
            with pytest.raises(ZeroDivisionError):
                await running.task

    run_on(loop_name, main())


@both_loops
def test_request_without_an_answer_resets(loop_name):
    async def ignore(request: Request) -> None:
        pass

    async def main():
        async with serving(ignore) as running:
            await running.client.send(GET)
            assert await running.client.is_reset()

    run_on(loop_name, main())


@both_loops
def test_stream_that_was_taken_keeps_what_came(loop_name):
    async def take(request: Request) -> None:
        streams.append(request.take())

    async def main():
        async with serving(take) as running:
            await running.client.send(GET + b"more")
            request = await asyncio.wait_for(running.task, SHORT)
            assert request.is_taken
            (stream,) = streams
            assert stream.hold.leftover == b"more"
            assert not stream.transport.is_closing()

    streams: list[ByteStream] = []
    run_on(loop_name, main())


@both_loops
def test_drain_while_idle_and_while_busy(loop_name):
    async def drain(request: Request) -> None:
        running.connection.drain()
        await request.respond(200, body=b"hi")

    async def main():
        nonlocal running
        async with serving(drain) as running:
            await running.client.send(GET + GET)
            assert await running.client.rest() == OK
        async with serving(say_hi) as running:
            await running.client.send(GET)
            await running.client.expect(OK)
            await eventually(lambda: running.connection._is_idle)
            running.connection.drain()
            assert await running.client.rest() == b""

    running: Serving
    run_on(loop_name, main())


@both_loops
def test_time_for_a_head_begins_again_with_each(loop_name):
    """The second one has its own limit, and what is sent too late is no request."""
    options = ServerOptions(head_timeout=UNIT)

    async def main():
        async with serving(say_hi, options) as running:
            await running.client.send(GET)
            await running.client.expect(OK)
            await running.client.send(b"GET / HT")
            answer = await running.client.rest()
            assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
            (reason,) = running.refused
            assert (
                reason == f"no whole HTTP head within {UNIT:g} s (--handshake-timeout)"
            )

    run_on(loop_name, main())


@both_loops
def test_requests_ahead_wait_in_the_kernel(loop_name: str) -> None:
    """Each one looks whether its client is still there, which reads a little more."""
    count, most = 100, 0

    async def look(request: Request) -> None:
        nonlocal count, most
        request.channel.resume()
        for _ in range(3):
            await asyncio.sleep(0)
        count -= 1
        most = max(most, len(request.channel.leftover))
        await request.respond(204)

    async def main() -> None:
        async with serving(look) as running:
            running.client.writer.write(GET * ((8 << 20) // len(GET)))
            await eventually(lambda: count <= 0)

    run_on(loop_name, main())
    assert HIGH <= most < HIGH + (1 << 20)
