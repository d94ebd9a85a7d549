"""Heads over a transport, both sides: what is waited for, kept, answered, refused."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fastws._consts import Side
from fastws.exceptions import DialTimeout, InvalidStatus, RemoteProtocolError
from fastws.net import upgrade as module
from fastws.net.stream import ByteStream, Hold, Kind
from fastws.net.upgrade import HeadHold, Upgrader
from fastws.net.websocket import Peer, WebSocketStream
from fastws.wire import announce
from tests.support.rawws import BINARY, answer_101, frame, request
from tests.support.servers import both_loops, eventually, run_on
from tests.support.timing import LONG, SHORT, UNIT

IDENT = "0123456789abcdef"
PROOF = "X-Fastws: tcp/1; proof=d91c3ae3e564a089"

Server = Callable[[asyncio.StreamReader, asyncio.StreamWriter, str], Awaitable[None]]


@asynccontextmanager
async def accepted() -> AsyncIterator[tuple[HeadHold, Any, socket.socket]]:
    """A server-side transport with a HeadHold, and the client's blocking socket."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname(), SHORT)
        conn, _ = listener.accept()
    transport, hold = await loop.connect_accepted_socket(HeadHold, conn)
    client.setblocking(False)
    try:
        yield hold, transport, client
    finally:
        client.close()
        transport.abort()
        await eventually(lambda: hold.lost)


async def read(client: socket.socket) -> bytes:
    """What arrives before EOF."""
    loop = asyncio.get_running_loop()
    data = b""
    while chunk := await asyncio.wait_for(loop.sock_recv(client, 65536), SHORT):
        data += chunk
    return data


# HeadHold: requests


@both_loops
def test_head_in_pieces_keeps_what_follows(loop_name: str) -> None:
    async def main() -> None:
        async with accepted() as (hold, transport, client):
            loop = asyncio.get_running_loop()
            waiting = asyncio.create_task(hold.read_head(LONG))
            data = request("/t?q") + b"frames"
            for start in range(0, len(data), 50):
                await loop.sock_sendall(client, data[start : start + 50])
                await asyncio.sleep(0)
            head = await waiting
            assert (head.method, head.target) == ("GET", "/t?q")
            assert not transport.is_reading()
            transport.resume_reading()
            await eventually(lambda: hold.leftover == b"frames")

    run_on(loop_name, main())


@both_loops
def test_head_that_never_ends_is_a_408(loop_name: str) -> None:
    async def main() -> None:
        async with accepted() as (hold, _, client):
            await asyncio.get_running_loop().sock_sendall(client, b"GET / HTTP/1.1\r\n")
            with pytest.raises(RemoteProtocolError) as caught:
                await hold.read_head(UNIT)
            assert caught.value.http_status == 408
            assert "--handshake-timeout" in caught.value.reason

    run_on(loop_name, main())


@both_loops
def test_time_before_the_wait_counts(loop_name: str) -> None:
    """A TLS handshake happens between the two."""

    async def main() -> None:
        async with accepted() as (hold, _, _):
            hold._since -= LONG  # as if it had taken so long
            with pytest.raises(RemoteProtocolError):
                await asyncio.wait_for(hold.read_head(LONG), SHORT)

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize("sent", [b"", b"GET / HT"], ids=["nothing", "a part"])
def test_end_before_the_head(loop_name: str, sent: bytes) -> None:
    async def main() -> None:
        async with accepted() as (hold, _, client):
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
            with pytest.raises(RemoteProtocolError) as caught:
                await hold.read_head(LONG)
            assert caught.value.http_status is None
            assert caught.value.reason == "closed before a whole HTTP head came"

    run_on(loop_name, main())


@both_loops
def test_bad_head_is_refused_with_its_status(loop_name: str) -> None:
    async def main() -> None:
        async with accepted() as (hold, _, client):
            client.sendall(b"nonsense\r\n\r\n")
            with pytest.raises(RemoteProtocolError) as caught:
                await hold.read_head(LONG)
            assert caught.value.http_status == 400

    run_on(loop_name, main())


@both_loops
def test_finish_waits_for_a_client_that_still_sends(loop_name: str) -> None:
    """Closing at once would reset the client and destroy the answer."""

    async def main() -> None:
        async with accepted() as (hold, transport, client):
            client.sendall(request())
            await hold.read_head(LONG)
            finishing = asyncio.create_task(hold.finish(b"the answer", LONG))
            loop = asyncio.get_running_loop()
            for _ in range(10):
                await loop.sock_sendall(client, b"more of a body" * 1000)
            assert await read(client) == b"the answer"
            assert not finishing.done()
            client.shutdown(socket.SHUT_WR)
            await asyncio.wait_for(finishing, SHORT)
            assert transport.is_closing()
            assert hold.leftover == b"", "nothing of it is kept"

    run_on(loop_name, main())


@both_loops
def test_finish_ends_after_linger(loop_name: str) -> None:
    async def main() -> None:
        async with accepted() as (hold, transport, client):
            client.sendall(request())
            await hold.read_head(LONG)
            await asyncio.wait_for(hold.finish(b"the answer", UNIT), SHORT)
            assert transport.is_closing()
            assert await read(client) == b"the answer"

    run_on(loop_name, main())


@both_loops
def test_finish_after_the_client_left_does_nothing(loop_name: str) -> None:
    async def main() -> None:
        async with accepted() as (hold, transport, client):
            client.sendall(request())
            await hold.read_head(LONG)
            transport.abort()
            await eventually(lambda: hold.lost)
            await asyncio.wait_for(hold.finish(b"the answer", LONG), SHORT)
            assert await read(client) == b""

    run_on(loop_name, main())


# Upgrader: answers


@asynccontextmanager
async def dialled(serve: Server) -> AsyncIterator[ByteStream]:
    """A stream to a server that read the request and got its key."""
    keys = []

    async def handle(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            key = head.partition("Sec-WebSocket-Key: ")[2].partition("\r\n")[0]
            keys.append(key)
            await serve(reader, writer, key)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    loop = asyncio.get_running_loop()
    where = server.sockets[0].getsockname()
    transport, hold = await loop.create_connection(Hold, *where)
    try:
        yield ByteStream(transport, Kind.TCP, hold)
    finally:
        transport.abort()
        server.close()
        await asyncio.sleep(UNIT / 10)


def answering(make: Callable[[str], bytes], stay: bool = True) -> Server:
    """A server that answers, then waits for the end or ends at once."""

    async def serve(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: str
    ) -> None:
        writer.write(make(key))
        await writer.drain()
        if stay:
            await reader.read()

    return serve


async def upgrade(
    serve: Server, timeout: float = LONG, **options: Any
) -> tuple[WebSocketStream, bytes]:
    """What an upgrade gives, and what had come behind the answer."""
    async with dialled(serve) as stream:
        upgrader = Upgrader("/", "h.example", **options)
        opened = await upgrader.upgrade(stream, IDENT, timeout)
        return opened, opened.hold.leftover


@both_loops
@pytest.mark.parametrize(
    ("more", "fastws", "peer"),
    [
        ((), True, Peer.STRANGER),
        ((PROOF,), True, Peer.FASTWS),
        ((PROOF,), False, Peer.STRANGER),
        ((PROOF, PROOF), True, Peer.STRANGER),
        (("X-Fastws: tcp/1; id=" + IDENT,), True, Peer.STRANGER),
        ((PROOF.replace("d91c", "d91d"),), True, Peer.STRANGER),
    ],
    ids=["none", "proof", "not announced", "twice", "echoed", "wrong"],
)
def test_peer_is_known_by_its_proof(
    loop_name: str, more: tuple[str, ...], fastws: bool, peer: Peer
) -> None:
    async def main() -> None:
        serve = answering(lambda key: answer_101(key, *more))
        opened, _ = await upgrade(serve, fastws=fastws)
        assert opened.peer is peer
        assert opened.side is Side.CLIENT

    run_on(loop_name, main())


@both_loops
def test_frames_behind_the_answer_are_kept(loop_name: str) -> None:
    async def main() -> None:
        first = frame(BINARY, b"server speaks first", key=None)
        _, leftover = await upgrade(answering(lambda key: answer_101(key) + first))
        assert leftover == first

    run_on(loop_name, main())


@both_loops
def test_refusal_keeps_fields_and_body(loop_name: str) -> None:
    async def main() -> None:
        answer = b"HTTP/1.1 403 Forbidden\r\nVia: cdn\r\n\r\nno\nmore"
        with pytest.raises(InvalidStatus) as caught:
            await upgrade(answering(lambda key: answer))
        assert caught.value.status == 403
        assert caught.value.fields == (("Via", "cdn"),)
        assert caught.value.body.startswith(b"no\n")

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize(
    ("fields", "sent", "quoted"),
    [
        (b"Content-Length: 0\r\n", b"", b""),
        (b"Content-Length: 3\r\n", b"abc", b"abc"),
        (b"Content-Length: 9\r\n", b"line\nmore", b"line"),
        (b"Transfer-Encoding: chunked\r\n", b"5\r\nabc\nd\r\n0\r\n\r\n", b"abc"),
        (b"", b"until the end\n" + b"x" * 10_000, b"until the end"),
    ],
    ids=["empty", "short", "lines", "chunked", "unlimited"],
)
def test_body_is_not_waited_for_once_it_is_there(
    loop_name: str,
    fields: bytes,
    sent: bytes,
    quoted: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_BODY_WAIT", LONG)

    async def main() -> None:
        answer = b"HTTP/1.1 403 Forbidden\r\n" + fields + b"\r\n" + sent
        started = asyncio.get_running_loop().time()
        with pytest.raises(InvalidStatus) as caught:
            await upgrade(answering(lambda key: answer))
        assert caught.value.body.partition(b"\n")[0] == quoted
        assert asyncio.get_running_loop().time() - started < LONG / 2

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize(
    ("serve", "words"),
    [
        (answering(lambda key: b"SSH-2.0-x\r\n"), "not an HTTP/1 response"),
        (answering(lambda key: answer_101()), "Sec-WebSocket-Accept does not match"),
        (answering(lambda key: b"", stay=False), "closed before a whole HTTP head"),
        (answering(lambda key: b"HTTP/1.1 101", stay=False), "closed before a whole"),
    ],
    ids=["banner", "another key", "closed", "cut"],
)
def test_bad_answer_is_refused(loop_name: str, serve: Server, words: str) -> None:
    async def main() -> None:
        with pytest.raises(RemoteProtocolError, match=words):
            await upgrade(serve)

    run_on(loop_name, main())


@both_loops
def test_no_answer_in_time(loop_name: str) -> None:
    async def main() -> None:
        with pytest.raises(DialTimeout, match="no answer to the upgrade within 0"):
            await upgrade(answering(lambda key: b"HTTP/1.1 "), timeout=UNIT / 2)

    run_on(loop_name, main())


@both_loops
def test_banner_and_end_before_the_request(loop_name: str) -> None:
    """What the stream's Hold saw already is not waited for again."""

    async def main() -> None:
        ours, theirs = socket.socketpair()
        loop = asyncio.get_running_loop()
        transport, hold = await loop.create_unix_connection(Hold, sock=ours)
        with theirs:
            theirs.close()
            transport.resume_reading()
            await eventually(lambda: hold.eof or hold.lost)
            stream = ByteStream(transport, Kind.UNIX, hold)
            with pytest.raises(RemoteProtocolError, match="closed before"):
                await asyncio.wait_for(
                    Upgrader("/", "h").upgrade(stream, IDENT, LONG), SHORT
                )

    run_on(loop_name, main())


@both_loops
def test_cancelled_upgrade_resets(loop_name: str) -> None:
    async def main() -> None:
        reset = asyncio.Event()

        async def serve(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: str
        ) -> None:
            with pytest.raises(ConnectionResetError):
                await reader.read()
            reset.set()

        task = asyncio.create_task(upgrade(serve))
        await asyncio.sleep(UNIT)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(reset.wait(), SHORT)

    run_on(loop_name, main())


# Upgrader: the request


@pytest.mark.parametrize("fastws", [True, False])
def test_request_differs_in_key_and_id_only(fastws: bool) -> None:
    async def main() -> None:
        seen: list[bytes] = []

        class Transport(asyncio.Transport):
            def set_protocol(self, protocol: Any) -> None:
                self.protocol = protocol

            def write(self, data: Any) -> None:
                seen.append(bytes(data))
                self.protocol.connection_lost(None)

            def resume_reading(self) -> None:
                pass

            def abort(self) -> None:
                pass

        zeros = "0" * 16
        upgrader = Upgrader(
            f"/{zeros}?k={'A' * 22}==",
            "h.example",
            headers=[("X-Trace", zeros)],
            fastws=fastws,
        )
        for ident in (IDENT, "f" * 16):
            stream = ByteStream(Transport(), Kind.STREAM, Hold())
            with pytest.raises(RemoteProtocolError):
                await upgrader.upgrade(stream, ident, LONG)
        first, second = (data.decode().split("\r\n") for data in seen)
        differ = [pair for pair in zip(first, second, strict=True) if len({*pair}) > 1]
        names = [pair[0].partition(":")[0] for pair in differ]
        expected = ["Sec-WebSocket-Key", announce.HEADER]
        assert names == (expected if fastws else expected[:1])
        assert f"GET /{zeros}?k={'A' * 22}== HTTP/1.1" == first[0]
        assert f"X-Trace: {zeros}" in first
        assert (f"{announce.HEADER}: tcp/1; id={IDENT}" in first) is fastws

    asyncio.run(main())
