"""permessage-deflate between handlers: agreed on, refused, and held to its limits."""

import asyncio
import contextlib
import random
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

import fastws
from fastws.exceptions import RemoteProtocolError
from fastws.wire.deflate import Codec
from fastws.wire.handshake import accept_key
from fastws.ws.open import open_websocket
from fastws.ws.server import serve_callbacks
from tests.support.handlers import REQUEST, Heard, echo, serving
from tests.support.messages import frame, unframe
from tests.support.peers import BINARY, TEXT
from tests.support.servers import both_loops, run_on, tcp_server
from tests.support.timing import LONG

OFFER = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
ANSWER = (
    b"Sec-WebSocket-Extensions: permessage-deflate"
    b"; server_max_window_bits=12; client_max_window_bits=12\r\n"
)


async def open_raw(
    port: int, offer: bytes = OFFER
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
    """A client by hand, and the head of the answer it got."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(REQUEST[:-2] + offer + b"\r\n")
    return reader, writer, await reader.readuntil(b"\r\n\r\n")


def close_code(data: bytes) -> int:
    """Of the last frame in what a server sent."""
    first, payload = unframe(data, masked=False)[-1]
    assert first == 0x88
    return int.from_bytes(payload[:2])


@both_loops
@pytest.mark.parametrize(
    "compression", ["deflate", fastws.Deflate(level=9, server_no_context_takeover=True)]
)
def test_messages_of_every_kind(loop_name: str, compression: Any) -> None:
    async def main() -> None:
        async with serving(compression=compression) as (_, port, made):
            client = Heard()
            ws = await open_websocket(
                f"ws://127.0.0.1:{port}/", client, compression=compression
            )
            assert isinstance(ws.codec, Codec)
            server = await made[0].wait_open()
            assert isinstance(server.codec, Codec)
            text = "grün" * 1000
            noise = random.Random(1).randbytes(100_000)
            for message in (text, text, "", noise, b"", b"x" * (1 << 20)):
                ws.send(message)
            ws.send("ge", final=False)
            ws.send("t", final=False)
            ws.send("eilt")
            await client.wait_message(7)
            assert client.messages == [
                (TEXT, text.encode()),
                (TEXT, text.encode()),
                (TEXT, b""),
                (BINARY, noise),
                (BINARY, b""),
                (BINARY, b"x" * (1 << 20)),
                (TEXT, b"geteilt"),
            ]
            ws.close(3000, "enough")
            assert await client.wait_close() == (3000, "")

    run_on(loop_name, main())


@both_loops
def test_server_packs_what_it_sends(loop_name: str) -> None:
    async def main() -> None:
        async with serving(compression="deflate") as (_, port, _made):
            reader, writer, head = await open_raw(port)
            assert ANSWER in head
            packed = Codec(out_bits=12).compress(b"Hello", True)
            writer.write(frame(TEXT, packed, masked=True, rsv=0x40))
            writer.write(frame(TEXT, b"Hello", masked=True))  # plain ones pass as well
            expected = (
                b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00\xc1\x05\xf2\x00\x11\x00\x00"
            )
            assert await reader.readexactly(len(expected)) == expected
            writer.close()

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize(
    ("compression", "offer"),
    [
        (None, OFFER),
        ("deflate", b""),
        ("deflate", OFFER.replace(b"client_max_window_bits", b"other")),
        ("deflate", b"Sec-WebSocket-Extensions: x-other\r\n"),
    ],
)
def test_nothing_is_packed_without_agreement(
    loop_name: str, compression: Any, offer: bytes
) -> None:
    async def main() -> None:
        async with serving(compression=compression) as (_, port, _made):
            reader, writer, head = await open_raw(port, offer)
            assert head.startswith(b"HTTP/1.1 101 ")
            assert b"extensions" not in head.lower()
            writer.write(frame(TEXT, b"Hello", masked=True))
            assert await reader.readexactly(7) == b"\x81\x05Hello"
            writer.write(frame(TEXT, b"\xf2\x00\x11\x00\x00", masked=True, rsv=0x40))
            assert close_code(await reader.read()) == 1002
            writer.close()

    run_on(loop_name, main())


@both_loops
def test_malformed_offer_is_a_bad_request(loop_name: str) -> None:
    async def main() -> None:
        async with serving(compression="deflate") as (_, port, _made):
            bad = b"Sec-WebSocket-Extensions: permessage-deflate;;\r\n"
            _, writer, head = await open_raw(port, bad)
            assert head.startswith(b"HTTP/1.1 400 ")
            writer.close()
        async with serving() as (_, port, _made):
            _, writer, head = await open_raw(port, bad)
            assert head.startswith(b"HTTP/1.1 101 ")  # nobody looks at it
            writer.close()

    run_on(loop_name, main())


@both_loops
def test_factory_may_decline(loop_name: str) -> None:
    def make(opening: Any) -> Heard:
        assert opening.extensions.startswith("permessage-deflate; ")
        opening.extensions = opening.codec = None
        return Heard(echo)

    async def main() -> None:
        async with serving(make, compression="deflate") as (_, port, _made):
            _, writer, head = await open_raw(port)
            assert b"extensions" not in head.lower()
            writer.close()

    run_on(loop_name, main())


def pack(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-12)
    return (packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


@both_loops
@pytest.mark.parametrize(
    ("opcode", "payload", "code"),
    [
        (BINARY, pack(bytes(1001)), 1009),
        (BINARY, pack(bytes(8 << 20))[:900], 1009),  # a bomb, in as little as may come
        (BINARY, b"\xff\xff", 1007),
        (BINARY, b"", 1007),
        (TEXT, pack(b"\xff"), 1007),
    ],
)
def test_bad_message_closes(
    loop_name: str, opcode: int, payload: bytes, code: int
) -> None:
    async def main() -> None:
        async with serving(compression="deflate", max_size=1000) as (_, port, made):
            reader, writer, _ = await open_raw(port)
            writer.write(frame(BINARY, pack(bytes(1000)), masked=True, rsv=0x40))
            writer.write(frame(opcode, payload, masked=True, rsv=0x40))
            assert close_code(await reader.read()) == code
            assert made[0].messages == [(BINARY, bytes(1000))]
            writer.close()

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize("level", [0, 9])
def test_message_that_does_not_shrink_may_be_as_long_as_any(
    loop_name: str, level: int
) -> None:
    """The limit is for what it unpacks to, in one frame and in 1 000 fragments."""
    noise = random.Random(2).randbytes(100_000)

    async def main() -> None:
        packing = fastws.Deflate(level=level)
        async with serving(compression=packing, max_size=len(noise)) as (_, port, made):
            client = Heard()
            url = f"ws://127.0.0.1:{port}/"
            ws = await open_websocket(url, client, compression=packing)
            ws.send(noise)
            for at in range(0, len(noise), 100):
                final = at + 100 == len(noise)
                ws.send(noise[at : at + 100], final=final)
            await client.wait_message(2)
            assert client.messages == [(BINARY, noise)] * 2
            ws.send(noise + b"x")
            await client.wait_close()
            assert client.closes[0][0] == 1009
            assert len(made[0].messages) == 2

    run_on(loop_name, main())


@contextlib.asynccontextmanager
async def answering(field: bytes) -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert OFFER in head
        key = head.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Accept: "
            + accept_key(key.decode()).encode()
            + b"\r\n"
            + field
            + b"\r\n"
        )
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    async with tcp_server(serve) as port:
        yield port


@both_loops
def test_client_goes_on_when_the_server_declines(loop_name: str) -> None:
    async def main() -> None:
        async with answering(b"") as port:
            client = Heard()
            url = f"ws://127.0.0.1:{port}/"
            ws = await open_websocket(url, client, compression="deflate")
            assert ws.codec is None
            ws.abort()
            await client.wait_close()

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize(
    ("field", "reason"),
    [
        (b"x-other", "extension was not offered: x-other"),
        (b"permessage-deflate; client_max_window_bits", "not a number from 8 to 15"),
        (b"permessage-deflate;", "malformed"),
    ],
)
def test_client_refuses_a_wrong_answer(
    loop_name: str, field: bytes, reason: str
) -> None:
    async def main() -> None:
        line = b"Sec-WebSocket-Extensions: " + field + b"\r\n"
        async with answering(line) as port, asyncio.timeout(LONG):
            client = Heard()
            url = f"ws://127.0.0.1:{port}/"
            with pytest.raises(RemoteProtocolError, match=reason):
                await open_websocket(url, client, compression="deflate")
            assert client.ws is None

    run_on(loop_name, main())


def test_unknown_compression_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="compression must be"):
        serve_callbacks(lambda _: Heard(), "127.0.0.1:0", compression="gzip")

    async def main() -> None:
        with pytest.raises(ValueError, match="compression must be"):
            await open_websocket("ws://127.0.0.1:9/", Heard(), compression="gzip")

    asyncio.run(main())
