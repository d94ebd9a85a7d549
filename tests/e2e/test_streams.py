"""Byte streams of the library beside ``stw`` and ``wts``: half-close, resets, TLS."""

import asyncio
import hashlib
from typing import Any

import pytest

import fastws
from tests.support.certs import certs, plain_client_context
from tests.support.cli import stw, wts
from tests.support.copying import noise
from tests.support.servers import both_loops, run_on
from tests.support.services import Service, answer_late, connect, read_to_end, reset

pytestmark = pytest.mark.e2e

DATA = noise(3_000_000)
ANSWER = f"{len(DATA)} {hashlib.sha256(DATA).hexdigest()}\n".encode()


@both_loops
@pytest.mark.parametrize("tls", [False, True], ids=["ws", "wss"])
def test_stream_to_wts(loop_name: str, tls: bool) -> None:
    """The service says nothing before our end, and all of it after that."""

    async def main() -> None:
        options: dict[str, Any] = {"ssl": plain_client_context()} if tls else {}
        async with fastws.open_stream(url, **options) as stream:
            stream.write(DATA)
            stream.write_eof()
            assert await stream.read() == ANSWER
            assert stream.get_extra_info("is_fastws")

    flags = ["--cert", certs().server] if tls else []
    with Service(answer_late) as service, wts(service.port, *flags) as far:
        url = far.url.replace("ws://", "wss://") if tls else far.url
        run_on(loop_name, main())


def read_and_reset(sock: Any) -> None:
    """Break off after the first byte: by then both ends know each other."""
    assert sock.recv(1) == b"x"
    reset(sock)


@both_loops
def test_reset_of_the_target_reaches_the_stream(loop_name: str) -> None:
    async def main() -> None:
        stream = await fastws.open_stream(far.url)
        stream.write(b"x")
        with pytest.raises(fastws.StreamReset, match="reset by peer"):
            await stream.read()
        with pytest.raises(fastws.StreamReset):
            await stream.wait_closed()

    with Service(read_and_reset) as service, wts(service.port) as far:
        run_on(loop_name, main())


@both_loops
def test_stw_to_streams(loop_name: str) -> None:
    seen: list[bool] = []

    async def answer(stream: fastws.Stream) -> None:
        data = await stream.read()
        seen.append(stream.get_extra_info("is_fastws"))
        digest = hashlib.sha256(data).hexdigest()
        stream.write(f"{len(data)} {digest}\n".encode())

    def use(url: str) -> bytes:
        with stw(url) as near, connect(near.port) as sock:
            sock.sendall(DATA)
            sock.shutdown(1)
            return bytes(read_to_end(sock))

    async def main() -> None:
        async with fastws.serve_streams(answer, "127.0.0.1:0") as server:
            url = f"ws://{server.addresses[0]}/"
            assert await asyncio.to_thread(use, url) == ANSWER

    run_on(loop_name, main())
    assert seen == [True]


@both_loops
def test_handler_that_raises_resets_the_client_of_stw(loop_name: str) -> None:
    async def fail(stream: fastws.Stream) -> None:
        await stream.read(1)
        raise ZeroDivisionError

    def use(url: str) -> None:
        with stw(url) as near, connect(near.port) as sock:
            sock.sendall(b"x")
            with pytest.raises(ConnectionResetError):
                read_to_end(sock)

    async def main() -> None:
        async with fastws.serve_streams(fail, "127.0.0.1:0") as server:
            await asyncio.to_thread(use, f"ws://{server.addresses[0]}/")

    run_on(loop_name, main())
