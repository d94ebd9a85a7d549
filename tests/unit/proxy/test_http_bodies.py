"""Bodies of proxied requests and answers, as they arrive."""

import asyncio

import pytest

from tests.support.http import GET, OK, Script, Talk, before, proxy
from tests.support.servers import both_loops, eventually, run_on
from tests.support.timing import LONG


@both_loops
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_answer_until_close(loop_name, version):
    async def origin(talk: Talk) -> None:
        await talk.head()
        await talk.send(b"HTTP/1.0 200 OK\r\n\r\nsome")
        await arrived.wait()
        await talk.send(b"more")

    async def main():
        arrived.clear()
        async with before(origin) as (_, client):
            await client.send(GET.replace(b"HTTP/1.1", b"HTTP/" + version))
            if version == b"1.0":
                await client.expect(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nsome")
                arrived.set()
                assert await client.rest() == b"more"
                return
            head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            await client.expect(head + b"4\r\nsome\r\n")
            arrived.set()
            await client.expect(b"4\r\nmore\r\n0\r\n\r\n")

    arrived = asyncio.Event()
    run_on(loop_name, main())


@both_loops
def test_both_bodies_flow_at_once(loop_name):
    """The answer begins before the request has ended, and each waits for the other."""
    start = b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n"

    async def origin(talk: Talk) -> None:
        await talk.expect(start + b"1\r\na\r\n")
        await talk.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n1")
        await talk.expect(b"1\r\nb\r\n0\r\n\r\n")
        await talk.send(b"2")
        await talk.rest()

    async def main():
        async with before(origin) as (_, client):
            await client.send(start.replace(b"/", b"http://a.test/", 1) + b"1\r\na\r\n")
            await client.expect(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n1")
            await client.send(b"1\r\nb\r\n0\r\n\r\n")
            await client.expect(b"2")

    run_on(loop_name, main())


@both_loops
def test_answer_before_the_body_has_come(loop_name):
    """The client hears it; what it still sends is not taken for a request."""
    start = b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000000\r\n\r\n"
    full = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n"

    async def origin(talk: Talk) -> None:
        await talk.expect(start)
        await talk.send(full)
        assert await talk.is_reset()

    async def main():
        async with before(origin) as (_, client):
            await client.send(start.replace(b"/", b"http://a.test/", 1))
            await client.expect(full)
            await client.send(GET)
            assert await client.rest() == b""

    run_on(loop_name, main())


SIZE = 24 * 1024 * 1024
BLOCK = bytes(range(256)) * 256


def bulk(*, chunked: bool) -> Script:
    """An origin that sends ``SIZE`` bytes as fast as it can."""
    head = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % SIZE

    async def origin(talk: Talk) -> None:
        await talk.head()
        await talk.send(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n")
        for _ in range(SIZE // len(BLOCK)):
            talk.writer.write(b"10000\r\n" + BLOCK + b"\r\n" if chunked else BLOCK)
            await talk.writer.drain()
        talk.writer.write(b"0\r\n\r\n" if chunked else b"")
        await talk.rest()

    return origin


async def read_bulk(talk: Talk, *, chunked: bool) -> None:
    """Read and check what ``bulk`` sends."""
    head = await talk.head()
    assert (b"\r\nTransfer-Encoding: chunked\r\n" in head) is chunked
    total = 0
    while total < SIZE:
        if chunked:
            size = int(await talk.reader.readuntil(b"\r\n"), 16)
            data = (await talk.reader.readexactly(size + 2))[:-2]
        else:
            data = await talk.reader.read(1 << 18)
        start = total % 256
        times = len(data) // len(BLOCK) + 2
        assert data == (BLOCK * times)[start : start + len(data)]
        total += len(data)


@both_loops
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_slow_reader_stops_the_origin(loop_name, chunked):
    """Memory: what is read and not passed on is bounded; all of it arrives."""

    async def main():
        async with proxy() as serving:
            await serving.origins.add("a.test", bulk(chunked=chunked))
            client = await serving.client()
            client.writer.transport.pause_reading()
            await client.send(GET)
            (running,) = await eventually(lambda: serving.running)
            up = await eventually(lambda: running._up)
            down = running._server.channel
            await eventually(lambda: down.is_full and not up.channel._is_reading)
            assert up.channel.leftover == b""
            assert 0 < down.transport.get_write_buffer_size() < 320 * 1024
            client.writer.transport.resume_reading()
            await read_bulk(client, chunked=chunked)

    run_on(loop_name, main())


@both_loops
def test_slow_origin_stops_the_client(loop_name):
    start = b"PUT http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: %d\r\n\r\n"
    data = BLOCK * (SIZE // len(BLOCK))
    reading = asyncio.Event()

    async def origin(talk: Talk) -> None:
        talk.writer.transport.pause_reading()
        await asyncio.wait_for(reading.wait(), LONG)
        talk.writer.transport.resume_reading()
        await talk.head()
        assert await asyncio.wait_for(talk.reader.readexactly(SIZE), LONG) == data
        await talk.send(OK)
        await talk.rest()

    async def main():
        async with before(origin) as (serving, client):
            client.writer.write(start % SIZE + data)
            (running,) = await eventually(lambda: serving.running)
            up = await eventually(lambda: running._up)
            down = running._server.channel
            await eventually(lambda: up.channel.is_full and not down._is_reading)
            assert down.leftover == b""
            assert 0 < up.channel.transport.get_write_buffer_size() < 320 * 1024
            reading.set()
            await client.expect(OK)

    run_on(loop_name, main())
