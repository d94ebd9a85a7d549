"""A private unix socket in front of a WebSocket."""

import asyncio
import contextlib
import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from fastws.exceptions import InvalidURI, ListenError
from fastws.ws.forward import forward
from fastws.ws.serve_streams import serve_streams
from fastws.ws.stream import Stream
from tests.support.copying import LINGER, noise
from tests.support.servers import both_loops, eventually, free_port, run_on
from tests.support.timing import SHORT, UNIT

HERE = "127.0.0.1:0"


async def echo(stream: Stream) -> None:
    """Send back what comes, until EOF."""
    while data := await stream.read(65536):
        stream.write(data)
        await stream.drain()


def url_of(server: Any) -> str:
    return f"ws://{server.addresses[0]}/"


@both_loops
def test_private_socket_of_a_service(loop_name: str) -> None:
    async def main() -> None:
        data = noise(1_000_000)
        async with serve_streams(echo, HERE) as server:
            async with forward(url_of(server)) as path:
                place = os.path.dirname(path)
                assert os.path.basename(path) == ".s.PGSQL.5432"
                assert stat.S_IMODE(os.stat(place).st_mode) == 0o700
                assert os.listdir(place) == [".s.PGSQL.5432"]

                async def use() -> bytes:
                    reader, writer = await asyncio.open_unix_connection(path)
                    writer.write(data)
                    writer.write_eof()
                    came = await reader.read()
                    writer.close()
                    await writer.wait_closed()
                    return came

                async with asyncio.timeout(SHORT):
                    assert await asyncio.gather(use(), use()) == [data, data]
            assert not os.path.exists(place)
            await eventually(lambda: not server.streams)

    run_on(loop_name, main())


@both_loops
def test_names(loop_name: str) -> None:
    async def main() -> None:
        url = "ws://127.0.0.1:1/"
        for options, name in (
            ({"port": 5433}, ".s.PGSQL.5433"),
            ({"name": "redis.sock"}, "redis.sock"),
        ):
            way = forward(url, **options)
            assert repr(way) == f"<Forward closed {url}>"
            async with way as path:
                assert os.path.basename(path) == name
                assert repr(way) == f"<Forward {path} {url}>"
        for wrong in ("", ".", "..", "a/b", "/etc/x"):
            with pytest.raises(ValueError, match="no name of a file"):
                forward(url, name=wrong)
        with pytest.raises(InvalidURI):
            forward("http://h")

    run_on(loop_name, main())


@both_loops
def test_nothing_is_left_where_nobody_can_listen(
    loop_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    async def main() -> None:
        with pytest.raises(ListenError):
            async with forward("ws://127.0.0.1:1/", name="x" * 110):
                pass
        assert list(tmp_path.iterdir()) == []

    run_on(loop_name, main())


@both_loops
def test_failure_to_open_closes_the_client(
    loop_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with forward(f"ws://127.0.0.1:{port}/") as path:
            reader, writer = await asyncio.open_unix_connection(path)
            assert await reader.read() == b""
            writer.close()

    port = free_port()
    run_on(loop_name, main())
    (message,) = caplog.messages
    assert message.startswith(f"connection failed: 127.0.0.1:{port}: ")


@both_loops
def test_exit_ends_what_is_open(loop_name: str) -> None:
    async def main() -> None:
        async with serve_streams(echo, HERE) as server:
            async with forward(url_of(server), linger=LINGER) as path:
                reader, writer = await asyncio.open_unix_connection(path)
                writer.write(b"x")
                assert await reader.readexactly(1) == b"x"
            assert await reader.read() == b""
            writer.close()
            await eventually(lambda: not server.streams)

    run_on(loop_name, main())


@both_loops
def test_exit_lets_what_was_said_arrive(loop_name: str) -> None:
    """A client that has closed knows nothing of the server being slow."""
    came: list[int] = []

    async def slow(stream: Stream) -> None:
        await asyncio.sleep(UNIT)
        came.append(len(await stream.read()))

    async def main() -> None:
        async with serve_streams(slow, HERE) as server:
            async with forward(url_of(server)) as path:
                reader, writer = await asyncio.open_unix_connection(path)
                writer.write(bytes(1 << 20))
                writer.close()
                await writer.wait_closed()
            assert came == [1 << 20]
            del reader

    run_on(loop_name, main())


@both_loops
def test_cancelled_while_a_client_waits(loop_name: str) -> None:
    """A server that never answers: the forwarding ends all the same."""

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as deaf:
            port = deaf.getsockname()[1]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(UNIT):
                    async with forward(f"ws://127.0.0.1:{port}/") as path:
                        reader, writer = await asyncio.open_unix_connection(path)
                        await reader.read()
            assert await reader.read() == b""
            writer.close()

    run_on(loop_name, main())
