"""What a proxied request does when one of its two connections goes wrong."""

import asyncio

import pytest

from fastws.net.ends import CopyOptions
from fastws.proxy.http import HttpSettings
from fastws.proxy.visit import ProxyOptions
from tests.support.http import Talk, answering, before, proxy
from tests.support.servers import both_loops, eventually, run_on
from tests.support.timing import SHORT, UNIT

GET = b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"
GET_UP = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"
CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
POST = b"POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: 9\r\n\r\n"
POST_UP = b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 9\r\n\r\n"
CHUNKED = b"POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked"
CHUNKED_UP = CHUNKED.replace(b"http://a.test", b"", 1)


# -- the server --------------------------------------------------------------------


@both_loops
@pytest.mark.parametrize("is_reset", [False, True], ids=["eof", "reset"])
@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        (LENGTH + b"some", LENGTH + b"some"),
        (CHUNKS + b"9\r\nsome", CHUNKS + b"4\r\nsome\r\n"),
        (CHUNKS + b"4\r\nsome\r\n", CHUNKS + b"4\r\nsome\r\n"),
        (CHUNKS + b"4\r\nsome\r\nxyz\r\n", CHUNKS),
    ],
    ids=["length", "in-chunk", "no-last-chunk", "bad-chunk"],
)
def test_answer_cut_off_is_a_reset(loop_name, sent, seen, is_reset):
    """What came is delivered first; never does half an answer look like a whole."""
    passed = asyncio.Event()

    async def origin(talk: Talk) -> None:
        await talk.expect(GET_UP)
        await talk.send(sent)
        await asyncio.wait_for(passed.wait(), SHORT)
        if is_reset:
            talk.reset()

    async def main():
        passed.clear()
        async with before(origin) as (serving, client):
            await client.send(GET)
            if sent.endswith(b"xyz\r\n"):
                # Nothing of the answer was sent when its start proved broken.
                await client.expect(b"HTTP/1.1 502 Bad Gateway\r\n")
                passed.set()
                return
            await client.expect(seen)
            passed.set()
            assert await client.is_reset()
            (reason,) = serving.log.refused
            assert reason.startswith("answer cut off: a.test:80: ")

    run_on(loop_name, main())


@both_loops
def test_answer_until_close_that_is_reset_does_not_end_in_order(loop_name):
    passed = asyncio.Event()

    async def origin(talk: Talk) -> None:
        await talk.expect(GET_UP)
        await talk.send(b"HTTP/1.1 200 OK\r\n\r\nsome")
        await asyncio.wait_for(passed.wait(), SHORT)
        talk.reset()

    async def main():
        async with before(origin) as (_, client):
            await client.send(GET)
            await client.expect(CHUNKS + b"4\r\nsome\r\n")
            passed.set()
            assert await client.is_reset()

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi!",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 101 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 17000,
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 40,
        b"HTTP/1.1 200 OK\r\nX: a\x01b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 099 Low\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=[
        *("nothing", "half-a-head", "not-http", "two-lengths", "two-framings"),
        *("coding", "coding-in-1.0", "fields", "head", "interim", "control", "status"),
    ],
)
def test_reject_answer(loop_name, answer):
    async def origin(talk: Talk) -> None:
        await talk.expect(GET_UP)
        await talk.send(answer)

    async def main():
        async with proxy() as serving:
            await serving.origins.add("a.test", origin, answering((GET_UP, OK)))
            client = await serving.client()
            await client.send(GET)
            while not (head := await client.head()).startswith(b"HTTP/1.1 502 "):
                assert head == b"HTTP/1.1 103 Early Hints\r\n\r\n"
            size = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
            body = await client.reader.readexactly(size)
            assert body.startswith(b"502 a.test:80: ")
            assert len(body) < 120
            await client.send(GET)  # the client's connection has lost nothing
            await client.expect(OK)

    run_on(loop_name, main())


@both_loops
def test_kept_connection_that_closes_is_noticed(loop_name):
    closed = asyncio.Event()

    async def closing(talk: Talk) -> None:
        await talk.expect(GET_UP)
        await talk.send(OK)
        await asyncio.wait_for(closed.wait(), SHORT)

    async def main():
        closed.clear()
        async with proxy() as serving:
            await serving.origins.add("a.test", closing, answering((GET_UP, OK)))
            client = await serving.client()
            await client.send(GET)
            await client.expect(OK)
            (running,) = serving.running
            closed.set()
            await eventually(lambda: not running._up.is_usable)
            await client.send(GET)
            await client.expect(OK)

    run_on(loop_name, main())


# -- the client --------------------------------------------------------------------


@both_loops
@pytest.mark.parametrize("where", ["head", "body", "answer"])
def test_client_that_vanishes_resets_its_server(loop_name, where):
    async def origin(talk: Talk) -> None:
        await talk.expect(POST_UP if where == "body" else GET_UP)
        if where == "answer":
            await talk.send(LENGTH)
        waiting.set()
        assert await talk.is_reset()

    async def main():
        waiting.clear()
        async with before(origin) as (serving, client):
            await client.send(POST if where == "body" else GET)
            await asyncio.wait_for(waiting.wait(), SHORT)
            client.reset()
            await eventually(lambda: not serving.active)

    waiting = asyncio.Event()
    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize(
    ("request_", "up", "status"),
    [
        (POST + b"some", POST_UP + b"some", b"400"),
        (
            CHUNKED + b"\r\n\r\n4\r\nsome\r\n",
            CHUNKED_UP + b"\r\n\r\n4\r\nsome\r\n",
            b"400",
        ),
    ],
    ids=["length", "chunks"],
)
def test_body_cut_off_resets_the_server(loop_name, request_, up, status):
    """A server must not take half a body for a whole one."""

    async def origin(talk: Talk) -> None:
        await talk.expect(up)
        came.set()
        assert await talk.is_reset()

    async def main():
        came.clear()
        async with before(origin) as (_, client):
            await client.send(request_)
            await asyncio.wait_for(came.wait(), SHORT)
            client.finish()
            await client.expect(b"HTTP/1.1 " + status)

    came = asyncio.Event()
    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize("at_once", [True, False])
def test_broken_chunk_resets_the_server(loop_name, at_once):
    async def origin(talk: Talk) -> None:
        if at_once:
            assert await talk.rest() == b""  # nothing was sent
            return
        await talk.expect(CHUNKED_UP + b"\r\n\r\n1\r\na\r\n")
        came.set()
        assert await talk.is_reset()

    async def main():
        came.clear()
        async with before(origin) as (_, client):
            await client.send(CHUNKED + b"\r\n\r\n1\r\na" + (b"x" if at_once else b""))
            if not at_once:
                await asyncio.wait_for(came.wait(), SHORT)
                await client.send(b"x")
            answer = await client.rest()
            assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
            assert b"\r\nConnection: close\r\n" in answer

    came = asyncio.Event()
    run_on(loop_name, main())


@both_loops
def test_client_lost_while_nobody_reads_it_is_found(loop_name):
    """Its upload stands because the server reads nothing."""

    async def origin(talk: Talk) -> None:
        talk.writer.transport.pause_reading()
        await asyncio.wait_for(found.wait(), SHORT)
        talk.writer.transport.abort()

    async def main():
        found.clear()
        options = ProxyOptions(copy=CopyOptions(linger=UNIT))
        async with proxy(options=options) as serving:
            await serving.origins.add("a.test", origin)
            client = await serving.client()
            size = b"Content-Length: 99999999"
            client.writer.write(POST.replace(b"Content-Length: 9", size))
            (running,) = await eventually(lambda: serving.running)
            while not (running._up and running._up.channel.is_full):
                client.writer.write(bytes(1 << 16))
                await asyncio.sleep(0)
            await eventually(lambda: not running._server.channel._is_reading)
            client.reset()
            await eventually(lambda: not serving.active)
            found.set()

    found = asyncio.Event()
    run_on(loop_name, main())


# -- time --------------------------------------------------------------------------


@both_loops
@pytest.mark.parametrize("start", [b"", b"GET http://a.te"], ids=["nothing", "some"])
def test_slow_head_is_answered_with_408(loop_name, start):
    async def main():
        async with proxy(options=ProxyOptions(handshake_timeout=UNIT)) as serving:
            client = await serving.client()
            await client.send(start)
            answer = await client.rest()
            assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
            client.writer.close()
            await eventually(lambda: not serving.active)

    run_on(loop_name, main())


@both_loops
def test_idle_connection_closes_in_order(loop_name):
    async def main():
        async with proxy(settings=HttpSettings(keep_alive=UNIT)) as serving:
            await serving.origins.add("a.test", answering((GET_UP, OK)))
            client = await serving.client()
            await client.send(GET)
            assert await client.rest() == OK
            await eventually(lambda: not serving.active)
            assert serving.log.refused == []

    run_on(loop_name, main())


@both_loops
def test_drain_closes_idle_connections_and_lets_others_finish(loop_name):
    async def origin(talk: Talk) -> None:
        await talk.expect(GET_UP)
        asked.set()
        await asyncio.wait_for(drained.wait(), SHORT)
        await talk.send(OK)
        await talk.rest()

    async def main():
        asked.clear()
        drained.clear()
        async with proxy() as serving:
            await serving.origins.add("a.test", answering((GET_UP, OK)), origin)
            idle, busy = await serving.client(), await serving.client()
            await idle.send(GET)
            await idle.expect(OK)
            await busy.send(GET)
            await asyncio.wait_for(asked.wait(), SHORT)
            await eventually(lambda: any(p._server._is_idle for p in serving.running))
            for running in list(serving.running):
                running.drain()
            assert await idle.rest() == b""
            drained.set()
            assert await busy.rest() == OK
            assert serving.log.refused == []

    asked, drained = asyncio.Event(), asyncio.Event()
    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize("where", ["answer", "upload"])
def test_exchange_that_stands_still_is_answered(loop_name, where):
    async def origin(talk: Talk) -> None:
        assert (await talk.head()).startswith((b"GET / ", b"POST / "))
        assert await talk.is_reset()

    async def main():
        options = ProxyOptions(copy=CopyOptions(idle_timeout=5 * UNIT), linger=UNIT)
        async with proxy(options=options) as serving:
            await serving.origins.add("a.test", origin)
            client = await serving.client()
            post = GET.replace(b"GET", b"POST")[:-2] + b"Content-Length: 9\r\n\r\nab"
            await client.send(GET if where == "answer" else post)
            status = b"HTTP/1.1 504 " if where == "answer" else b"HTTP/1.1 408 "
            assert (await client.head()).startswith(status)
            limit = f"{5 * UNIT:g} s (--idle-timeout)"
            reason = f"a.test:80: no byte in either direction for {limit}"
            assert serving.log.refused == [reason]

    run_on(loop_name, main())


@both_loops
def test_answer_that_stands_still_is_reset(loop_name):
    async def origin(talk: Talk) -> None:
        await talk.expect(GET_UP)
        await talk.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab")
        assert await talk.is_reset()

    async def main():
        options = ProxyOptions(copy=CopyOptions(idle_timeout=5 * UNIT))
        async with proxy(options=options) as serving:
            await serving.origins.add("a.test", origin)
            client = await serving.client()
            await client.send(GET)
            await client.head()
            assert await client.is_reset()
            assert "(--idle-timeout)" in serving.log.refused[0]

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize("where", ["idle", "head", "upload", "answer"])
def test_cancelled_while(loop_name, where):
    """Both connections are reset, and nothing is left."""

    async def origin(talk: Talk) -> None:
        await talk.expect(POST_UP if where == "upload" else GET_UP)
        if where == "idle":
            await talk.send(OK)
        elif where == "answer":
            await talk.send(LENGTH + b"some")
        asked.set()
        assert await talk.is_reset()

    async def main():
        asked.clear()
        async with before(origin) as (serving, client):
            await client.send(POST if where == "upload" else GET)
            await asyncio.wait_for(asked.wait(), SHORT)
            if where == "idle":
                await client.expect(OK)
            elif where == "answer":
                await client.expect(LENGTH + b"some")
            serving.cancel()
            assert await client.is_reset()

    asked = asyncio.Event()
    run_on(loop_name, main())
