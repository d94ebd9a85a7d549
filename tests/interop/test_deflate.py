"""permessage-deflate beside the library websockets, both ways, in every combination."""

import itertools
import random
from typing import Any

import pytest
from websockets.asyncio.client import connect as ws_connect
from websockets.asyncio.server import serve as ws_serve
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    ServerPerMessageDeflateFactory,
)

from fastws.wire.deflate import Codec, Deflate
from fastws.ws.open import open_websocket
from tests.support.handlers import Heard, serving
from tests.support.peers import BINARY, TEXT
from tests.support.servers import both_loops, run_on

pytestmark = pytest.mark.interop

FLAGS = [False, True]
WORDS = "the quick brown fox jumps over the lazy dog, naïvely; " * 40
NOISE = random.Random(7692).randbytes(5000)
MESSAGES: list[str | bytes] = [WORDS, WORDS, "", NOISE, b"", NOISE * 5, "Hello"]
# Flags and bits of the server's and the client's direction: ours, then theirs.
OURS = list(itertools.product(FLAGS, FLAGS, [None, 8, 15], [None, 8, 15]))
THEIRS = list(itertools.product(FLAGS, FLAGS, [None, 9, 15]))


def factory(kind: Any, forgets: tuple[bool, bool], bits: int | None) -> Any:
    client_bits: Any = bits
    if kind is ClientPerMessageDeflateFactory:
        client_bits = bits or True
    return kind(*forgets, bits, client_bits)


def heard_as(message: str | bytes) -> tuple[int, bytes]:
    if isinstance(message, str):
        return TEXT, message.encode()
    return BINARY, message


@both_loops
@pytest.mark.parametrize("theirs", THEIRS)
def test_our_client_and_their_server(loop_name: str, theirs: Any) -> None:
    """websockets as a server declines what it cannot do: a window of 8 bits."""
    extension = factory(ServerPerMessageDeflateFactory, theirs[:2], theirs[2])

    async def echo(connection: Any) -> None:
        async for message in connection:
            if message == "Hello":
                await connection.send(["Hel", "", "lo"])
            else:
                await connection.send(message)

    async def main() -> None:
        server = ws_serve(
            echo, "127.0.0.1", 0, compression=None, extensions=[extension]
        )
        async with server as listening:
            port = next(iter(listening.sockets)).getsockname()[1]
            for ours in OURS:
                client = Heard()
                url = f"ws://127.0.0.1:{port}/"
                ws = await open_websocket(url, client, compression=Deflate(*ours))
                assert (ws.codec is None) is (ours[2] == 8)
                for message in MESSAGES:
                    ws.send(message)
                await client.wait_message(len(MESSAGES))
                assert client.messages == [heard_as(m) for m in MESSAGES]
                ws.close()
                assert (await client.wait_close())[0] == 1000

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize("theirs", THEIRS)
def test_their_client_and_our_server(loop_name: str, theirs: Any) -> None:
    extension = factory(ClientPerMessageDeflateFactory, theirs[:2], theirs[2])

    def answer(handler: Heard, payload: Any, opcode: int) -> None:
        if bytes(payload) == b"Hello":
            handler.ws.send("Hel", final=False)
            handler.ws.send("", final=False)
            handler.ws.send("lo")
        else:
            handler.ws.send(payload, opcode)

    async def talk(port: int) -> None:
        async with ws_connect(
            f"ws://127.0.0.1:{port}/", compression=None, extensions=[extension]
        ) as ws:
            assert ws.protocol.extensions
            for message in MESSAGES:
                parts = ["Hel", "", "lo"] if message == "Hello" else message
                await ws.send(parts)
                assert await ws.recv() == message

    async def main() -> None:
        for ours in OURS:
            if ours[3] == 8:
                continue  # websockets cannot compress with 8 bits
            made: list[Heard] = []

            def make(_: Any) -> Heard:
                made.append(Heard(answer))  # noqa: B023
                return made[-1]  # noqa: B023

            async with serving(make, compression=Deflate(*ours)) as (_, port, _made):
                await talk(port)
            assert isinstance(made[0].ws.codec, Codec)
            assert made[0].messages == [heard_as(m) for m in MESSAGES]

    run_on(loop_name, main())
