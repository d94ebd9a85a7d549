"""Opening byte streams and transports, serving them: handshake, ends, options."""

import asyncio
import contextlib
import gc
import logging
import re
import socket
import weakref
from pathlib import Path
from typing import Any

import pytest

import fastws
from fastws.exceptions import (
    ConnectRefused,
    InvalidMessage,
    InvalidProxy,
    InvalidStatus,
    InvalidURI,
    OpenTimeout,
    StreamReset,
)
from fastws.net.sockopt import reset
from fastws.wire.handshake import accept_key
from fastws.ws.heads import Headers, Response
from fastws.ws.open_stream import open_stream, open_transport
from fastws.ws.serve_streams import serve_streams
from fastws.ws.stream import Stream
from tests.support.certs import certs, plain_client_context, plain_server_context
from tests.support.copying import LINGER, noise
from tests.support.proxies import ConnectProxy, SocksProxy
from tests.support.servers import (
    both_loops,
    eventually,
    free_port,
    run_on,
    silent,
    tcp_server,
)
from tests.support.streams import BufferedRecorder, Recorder
from tests.support.timing import UNIT

HERE = "127.0.0.1:0"


async def echo(stream: Stream) -> None:
    """Send back what comes, until EOF."""
    while data := await stream.read(65536):
        stream.write(data)
        await stream.drain()


def url_of(server: Any, scheme: str = "ws") -> str:
    return f"{scheme}://{server.addresses[0]}/"


@both_loops
@pytest.mark.parametrize("announce", [True, False])
def test_echo_until_both_ends(loop_name: str, announce: bool) -> None:
    async def main() -> None:
        data = noise(1_000_000)
        async with serve_streams(echo, HERE, linger=LINGER) as server:
            options: dict[str, Any] = {"announce": announce, "linger": LINGER}
            async with open_stream(url_of(server), **options) as stream:
                reading = asyncio.create_task(stream.readexactly(len(data)))
                stream.write(data)
                assert await reading == data
                assert stream.get_extra_info("is_fastws") is announce
                (other,) = server.streams
                assert other.get_extra_info("is_fastws") is announce
                if announce:
                    stream.write(b"last")
                    stream.write_eof()
                    assert await stream.read() == b"last"
            await eventually(lambda: not server.streams)

    run_on(loop_name, main())


@both_loops
def test_both_ends_know_what_was_agreed_on(loop_name: str) -> None:
    async def main() -> None:
        async with (
            serve_streams(
                echo, HERE, subprotocols=["b"], additional_headers={"X-S": "1"}
            ) as server,
            open_stream(
                f"{url_of(server)}path?q=1",
                subprotocols=["a", "b"],
                additional_headers={"X-C": "2"},
                origin="https://a.example",
            ) as stream,
        ):
            await eventually(lambda: server.streams)
            (other,) = server.streams
            assert stream.subprotocol == other.subprotocol == "b"
            assert stream.request.path == other.request.path == "/path?q=1"
            assert other.request.headers["x-c"] == "2"
            assert other.request.headers["Origin"] == "https://a.example"
            assert stream.response == other.response
            assert stream.response.headers["x-s"] == "1"
            assert other.remote_address == stream.get_extra_info("sockname")
            assert stream.remote_address == other.get_extra_info("sockname")

    run_on(loop_name, main())


@both_loops
def test_tls_and_unix_sockets(loop_name: str, tmp_path: Path) -> None:
    async def main() -> None:
        server_tls = plain_server_context(certs().server)
        path = str(tmp_path / "s")
        for listen, url, options in (
            (HERE, "wss", {"ssl": plain_client_context()}),
            (f"unix:{path}", "ws://any/", {"unix": path}),
        ):
            tls = server_tls if url == "wss" else None
            async with serve_streams(echo, listen, ssl=tls) as server:
                url = url_of(server, url) if url == "wss" else url
                async with open_stream(url, **options) as stream:
                    stream.write(b"through")
                    stream.write_eof()
                    assert await stream.read() == b"through"

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize("proxy", [ConnectProxy, SocksProxy])
def test_proxies(loop_name: str, proxy: Any) -> None:
    async def main() -> None:
        async with serve_streams(echo, HERE) as server:
            port = server.sockets[0].getsockname()[1]
            with proxy(port) as middle:
                scheme = "http" if proxy is ConnectProxy else "socks5"
                way = f"{scheme}://127.0.0.1:{middle.port}"
                async with open_stream(url_of(server), proxy=way) as stream:
                    stream.write(b"through")
                    assert await stream.readexactly(7) == b"through"
                assert middle.seen == [f"127.0.0.1:{port}"]

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize("factory", [Recorder, BufferedRecorder])
def test_transport_to_a_stream(loop_name: str, factory: Any) -> None:
    async def main() -> None:
        async with serve_streams(echo, HERE) as server:
            transport, protocol = await open_transport(url_of(server), factory)
            assert protocol.transport is transport
            transport.write(b"through")
            await eventually(lambda: protocol.data == b"through")
            transport.write_eof()
            assert await protocol.end() is None
            assert protocol.calls == ["made", "data", "eof", "lost"]

    run_on(loop_name, main())


@both_loops
def test_failures_to_open(loop_name: str) -> None:
    async def main() -> None:
        with pytest.raises(InvalidURI):
            open_stream("http://127.0.0.1/")
        with pytest.raises(InvalidProxy):
            open_stream("ws://127.0.0.1/", proxy="ftp://h")
        with pytest.raises(ConnectRefused):
            await open_stream(f"ws://127.0.0.1:{free_port()}/")

        def ask(connection: Any, request: Any) -> Any:
            return connection.respond(403, "not you")

        async with serve_streams(echo, HERE, process_request=ask) as server:
            with pytest.raises(InvalidStatus) as caught:
                await open_stream(url_of(server))
            assert caught.value.response.status_code == 403
            assert caught.value.response.body == b"not you"
        async with tcp_server(silent) as port:
            with pytest.raises(OpenTimeout):
                await open_stream(f"ws://127.0.0.1:{port}/", open_timeout=UNIT)

        async def nonsense(reader: Any, writer: Any) -> None:
            writer.write(b"SSH-2.0-x\r\n\r\n")

        async with tcp_server(nonsense) as port:
            with pytest.raises(InvalidMessage):
                await open_stream(f"ws://127.0.0.1:{port}/")

    run_on(loop_name, main())


@both_loops
def test_opening_can_be_cancelled(loop_name: str) -> None:
    async def main() -> None:
        async with tcp_server(silent) as port:
            for opening in (
                open_stream(f"ws://127.0.0.1:{port}/")._open(),
                open_transport(f"ws://127.0.0.1:{port}/", Recorder),
            ):
                task: Any = asyncio.create_task(opening)
                await asyncio.sleep(UNIT / 4)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize("last", [b"", b"\x88\x02\x03\xe8"])
def test_server_that_ends_with_its_answer(loop_name: str, last: bytes) -> None:
    """All of it may be there before the stream is."""

    async def answer(reader: Any, writer: Any) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        key = re.search(rb"Sec-WebSocket-Key: (\S+)", head)
        assert key
        accept = accept_key(key[1].decode()).encode()
        writer.write(
            b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n\x82\x02hi" + last
        )
        if last:
            writer.write_eof()
        else:
            await writer.drain()
            reset(writer.transport)

    async def main() -> None:
        async with tcp_server(answer) as port:
            stream = await open_stream(f"ws://127.0.0.1:{port}/")
            if last:
                assert await stream.read() == b"hi"
                stream.close()
                await stream.wait_closed()
            else:
                with pytest.raises(StreamReset):
                    await stream.readexactly(3)
                with pytest.raises(StreamReset):
                    await stream.wait_closed()

    run_on(loop_name, main())


@both_loops
def test_each_block_has_a_stream_of_its_own(loop_name: str) -> None:
    async def main() -> None:
        async with serve_streams(echo, HERE) as server:
            opening = open_stream(url_of(server))
            for _ in range(2):  # one after the other
                async with opening as stream:
                    with pytest.raises(RuntimeError, match="in use"):
                        async with opening:
                            pass
                    stream.write(b"still there")
                    assert await stream.readexactly(11) == b"still there"

    run_on(loop_name, main())


# -- servers ---------------------------------------------------------------------------


@both_loops
def test_handler_that_returns_ends_its_stream(loop_name: str) -> None:
    async def greet(stream: Stream) -> None:
        stream.write(b"hi")

    async def main() -> None:
        async with serve_streams(greet, HERE) as server:
            async with open_stream(url_of(server)) as stream:
                assert await stream.read() == b"hi"
            await eventually(lambda: not server.streams)

    run_on(loop_name, main())


@both_loops
def test_handler_that_raises_resets_its_stream(
    loop_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(stream: Stream) -> None:
        stream.write(b"half")
        raise KeyError("mine")

    async def main() -> None:
        async with serve_streams(fail, HERE) as server:
            stream = await open_stream(url_of(server))
            with pytest.raises(StreamReset):
                while True:
                    await stream.read()
            with pytest.raises(StreamReset):
                await stream.wait_closed()

    with caplog.at_level(logging.INFO, "fastws.ws"):
        run_on(loop_name, main())
    assert caplog.messages == ["WebSocket handler failed: KeyError: 'mine'"]


@both_loops
def test_client_that_went_away_is_no_news(
    loop_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with serve_streams(echo, HERE) as server:
            stream = await open_stream(url_of(server))
            await eventually(lambda: server.streams)
            stream.abort()
            await eventually(lambda: not server.streams)

    with caplog.at_level(logging.INFO, "fastws.ws"):
        run_on(loop_name, main())
    assert caplog.messages == []


@both_loops
def test_server_that_closes_tells_everybody(loop_name: str) -> None:
    ends: list[Exception] = []

    async def wait(stream: Stream) -> None:
        try:
            await stream.read()
        except StreamReset as error:
            ends.append(error)
            raise

    async def main() -> None:
        async with serve_streams(wait, HERE) as server:
            stream = await open_stream(url_of(server))
            await eventually(lambda: server.streams)
        assert [str(error) for error in ends] == ["the server closes"]
        with pytest.raises(StreamReset) as caught:
            await stream.read()
        assert (caught.value.close_code, caught.value.reason) == (
            1001,
            "Close 1001 'the server closes'",
        )
        with pytest.raises(StreamReset):
            await stream.wait_closed()

    run_on(loop_name, main())


@both_loops
def test_cancelled_server_cuts_its_streams(loop_name: str) -> None:
    async def stubborn(stream: Stream) -> None:
        while True:
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                if stopping.is_set():
                    raise

    stopping = asyncio.Event()

    async def main() -> None:
        async def run() -> None:
            async with serve_streams(stubborn, HERE) as server:
                url.set_result(url_of(server))
                await asyncio.sleep(1000)

        url = asyncio.get_running_loop().create_future()
        running = asyncio.create_task(run())
        stream = await open_stream(await url)
        stopping.set()
        running.cancel()
        await asyncio.sleep(UNIT / 2)
        running.cancel()  # while it waits for the handler
        with pytest.raises(asyncio.CancelledError):
            await running
        with pytest.raises(StreamReset):
            await stream.wait_closed()

    run_on(loop_name, main())


@both_loops
def test_connections_are_limited(loop_name: str) -> None:
    async def main() -> None:
        async with serve_streams(echo, HERE, max_connections=1, backlog=5) as server:
            first = await open_stream(url_of(server))
            second = asyncio.create_task(open_stream(url_of(server))._open())
            await asyncio.sleep(UNIT)
            assert not second.done()
            first.close()
            await first.wait_closed()
            stream = await second
            stream.write(b"at last")
            assert await stream.readexactly(7) == b"at last"
            stream.close()
            await stream.wait_closed()

    run_on(loop_name, main())


@both_loops
def test_bytes_behind_the_request_are_not_lost(loop_name: str) -> None:
    """A client may send before it has the answer; hooks may take their time."""

    async def ask(connection: Any, request: Any) -> None:
        await asyncio.sleep(UNIT / 4)

    async def main() -> None:
        request = (
            b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        early = b"\x82\x83\0\0\0\0abc"
        for hook in (None, ask):
            async with serve_streams(echo, HERE, process_request=hook) as server:
                sock: socket.socket = server.sockets[0]
                reader, writer = await asyncio.open_connection(*sock.getsockname())
                writer.write(request + early)
                await reader.readuntil(b"\r\n\r\n")
                assert await reader.readexactly(5) == b"\x82\x03abc"
                writer.write(b"\x88\x82\0\0\0\0\x03\xe8")
                assert await reader.read() == b"\x88\x02\x03\xe8"
                writer.close()

    run_on(loop_name, main())


def test_names_are_exported() -> None:
    assert fastws.open_stream is open_stream
    assert fastws.open_transport is open_transport
    assert fastws.serve_streams is serve_streams
    assert fastws.Stream is Stream


@both_loops
def test_nothing_of_a_stream_is_left(loop_name: str) -> None:
    """However it ended, at either side: no object stays, and no timer keeps one."""
    seen: list[weakref.ref[Any]] = []

    def keep_an_eye_on(stream: Stream) -> None:
        seen.extend([weakref.ref(stream), weakref.ref(stream.transport)])

    def is_nothing_left() -> bool:
        gc.collect()
        return not any(ref() is not None for ref in seen)

    async def main() -> None:
        async with serve_streams(echo, HERE) as server:
            for number in range(30):
                stream = await open_stream(url_of(server))
                stream.write(b"x")
                await stream.readexactly(1)
                for end in (stream, *server.streams):
                    keep_an_eye_on(end)
                if number % 3 == 0:
                    stream.close()
                elif number % 3 == 1:
                    stream.abort()
                else:
                    stream.transport.task.cancel()
                with contextlib.suppress(StreamReset):
                    await stream.wait_closed()
                del stream, end
            await eventually(lambda: not server.streams)
            assert len(seen) >= 120
            await eventually(is_nothing_left)

    run_on(loop_name, main())


@both_loops
def test_redirects_and_users_are_those_of_connect(loop_name: str) -> None:
    async def main() -> None:
        def ask(connection: Any, request: Any) -> Any:
            if request.path != "/there":
                answer = connection.respond(302, "")
                fields = {"Location": "/there"}
                return Response(302, "", Headers(fields), answer.body)
            seen.append(request.headers["authorization"])
            return None

        seen: list[str] = []
        async with serve_streams(echo, HERE, process_request=ask) as server:
            url = url_of(server).replace("//", "//me:secret@")
            async with open_stream(url, user_agent_header=None) as stream:
                assert stream.request.path == "/there"
                assert "user-agent" not in stream.request.headers
            assert seen == ["Basic bWU6c2VjcmV0"]
        with pytest.raises(TypeError):
            open_stream("ws://h/", compression="deflate")

    run_on(loop_name, main())
