"""Servers of the callback layer: handshakes, hooks, limits, ends."""

import asyncio
import socket
import ssl
from typing import Any

import pytest

from fastws.exceptions import RemoteProtocolError
from fastws.net.tls import client_context, server_context
from fastws.wire.http1 import build_response
from fastws.ws.open import open_websocket
from fastws.ws.server import serve_callbacks
from tests.support.certs import certs
from tests.support.handlers import (
    REQUEST,
    Heard,
    ask,
    echo,
    port_of,
    raw_client,
    serving,
)
from tests.support.messages import Rot
from tests.support.peers import BINARY, CLOSE
from tests.support.servers import both_loops, connect, eventually, run_on
from tests.support.timing import LONG, SHORT, UNIT


@both_loops
@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"426 Upgrade Required"),
        (REQUEST.replace(b"GET", b"POST"), b"405 Method Not Allowed"),
        (REQUEST.replace(b": 13", b": 12"), b"426 Upgrade Required"),
        (REQUEST.replace(b"Key: AA", b"Key: A"), b"400 Bad Request"),
        (b"\x16\x03\x01" + bytes(20), b"400 Bad Request"),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 5000, b"431 Request Header"),
    ],
    ids=["plain", "method", "version", "key", "tls", "long"],
)
def test_reject_a_wrong_request(loop_name: str, request_: bytes, status: bytes) -> None:
    async def main() -> None:
        async with serving() as (server, port, made):
            answer = await ask(port, request_)
            assert answer.startswith(b"HTTP/1.1 " + status)
            await eventually(lambda: server.listener.active == 0)
            assert made == []

    run_on(loop_name, main())


@both_loops
def test_request_may_come_byte_by_byte(loop_name: str) -> None:
    async def main() -> None:
        async with serving() as (_, port, made):
            reader, writer = await connect(port)
            for i in range(len(REQUEST)):
                writer.write(REQUEST[i : i + 1])
                await asyncio.sleep(0)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101 ")
            await made[0].wait_open()
            writer.close()

    run_on(loop_name, main())


@both_loops
def test_message_behind_the_request_is_heard(loop_name: str) -> None:
    async def main() -> None:
        async with serving() as (_, port, made):
            reader, writer = await connect(port)
            writer.write(REQUEST + b"\x82\x81\0\0\0\0x" + b"\x82\x82\0\0\0\0")
            await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(3) == b"\x82\x01x"
            writer.write(b"yz")
            assert await reader.readexactly(4) == b"\x82\x02yz"
            assert made[0].messages == [(BINARY, b"x"), (BINARY, b"yz")]
            writer.close()

    run_on(loop_name, main())


@both_loops
def test_slow_request_is_refused(loop_name: str) -> None:
    async def main() -> None:
        async with serving(open_timeout=UNIT, linger=LONG) as (_, port, _made):
            answer = await ask(port, REQUEST[:-2])
            assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")

    run_on(loop_name, main())


@both_loops
def test_peer_of_a_refusal_is_cut_after_linger(loop_name: str) -> None:
    async def main() -> None:
        async with serving(linger=UNIT, open_timeout=UNIT) as (server, port, _made):
            reader, writer = await connect(port)
            writer.write(b"nonsense")
            await reader.read()
            await eventually(lambda: server.listener.active == 0)
            writer.transport.abort()

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize("is_async", [False, True])
def test_factory_sees_the_request_and_shapes_the_answer(
    loop_name: str, is_async: bool
) -> None:
    seen: list[Any] = []

    def make(opening: Any) -> Any:
        seen.append(opening)
        opening.headers = [("X-Mine", "1")]
        opening.extensions = "x-rot"
        opening.codec = Rot()
        handler = Heard(echo)
        return later(handler) if is_async else handler

    async def later(handler: Heard) -> Heard:
        await asyncio.sleep(UNIT / 10)
        return handler

    async def main() -> None:
        async with serving(make, subprotocols=["b", "c"]) as (_, port, _made):
            reader, writer = await connect(port)
            offer = b"Host: h\r\nSec-WebSocket-Protocol: a, c, b\r\n"
            packed = b"\xc2\x83\0\0\0\0" + Rot().compress(b"abc", True)
            writer.write(REQUEST.replace(b"Host: localhost\r\n", offer) + packed)
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"\r\nSec-WebSocket-Protocol: b\r\n" in head
            assert b"\r\nSec-WebSocket-Extensions: x-rot\r\nX-Mine: 1\r\n" in head
            assert await reader.readexactly(5) == b"\xc2\x03nop"
            assert seen[0].upgrade.target == "/"
            assert seen[0].upgrade.host == "h"
            address = writer.get_extra_info("sockname")
            assert seen[0].remote_address == address
            writer.close()

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("status", [403, 500, 0], ids=["403", "500", "no handler"])
def test_factory_may_refuse_or_fail(
    loop_name: str, is_async: bool, status: int
) -> None:
    def fail(_: Any) -> Any:
        if status == 403:
            raise RemoteProtocolError("not you", http_status=403)
        if status == 500:
            raise KeyError("mine")

    async def later(_: Any) -> Any:
        await asyncio.sleep(0)
        return fail(_)

    async def main() -> None:
        factory = later if is_async else fail
        async with serving(factory) as (server, port, _made):
            answer = await ask(port, REQUEST)
            assert answer.startswith(b"HTTP/1.1 %d " % (status or 500))
            await eventually(lambda: server.listener.active == 0)

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize("is_async", [False, True])
def test_process_request_answers_or_lets_pass(loop_name: str, is_async: bool) -> None:
    def look(opening: Any) -> bytes | None:
        if opening.head.target == "/healthz":
            return build_response(200, (), b"well\n")
        return None

    async def look_later(opening: Any) -> bytes | None:
        await asyncio.sleep(0)
        return look(opening)

    async def main() -> None:
        hook = look_later if is_async else look
        async with serving(process_request=hook) as (_, port, made):
            plain = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
            assert (await ask(port, plain)).endswith(b"\r\n\r\nwell\n")
            peer = await raw_client(port)
            await made[0].wait_open()
            peer.wire.close()

    run_on(loop_name, main())


@both_loops
def test_client_that_leaves_ends_a_hook_that_waits(loop_name: str) -> None:
    ended = asyncio.Event()

    async def never(_: Any) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def main() -> None:
        async with serving(never, open_timeout=2 * UNIT, linger=UNIT) as (s, port, _m):
            reader, writer = await connect(port)
            writer.write(REQUEST)
            assert (await reader.read()).startswith(b"HTTP/1.1 504 ")
            await asyncio.wait_for(ended.wait(), SHORT)
            writer.close()
            await eventually(lambda: s.listener.active == 0)

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize("field", ["headers", "subprotocol"])
def test_answer_that_no_head_can_hold_is_500(loop_name: str, field: str) -> None:
    def split(opening: Any) -> Any:
        text = "a\r\nX-Split: b"
        setattr(opening, field, [("X-A", text)] if field == "headers" else text)
        return Heard()

    async def main() -> None:
        async with serving(split) as (s, port, _):
            answer = await asyncio.wait_for(ask(port, REQUEST), SHORT)
            assert answer.startswith(b"HTTP/1.1 500 ")
            assert b"X-Split" not in answer
            await eventually(lambda: s.listener.active == 0)

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize("where", ["process_request", "factory"])
def test_hook_that_goes_on_when_cancelled_opens_nothing(
    loop_name: str, where: str
) -> None:
    over = asyncio.Event()

    async def stubborn(_: Any) -> Any:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            over.set()
        return None if where == "process_request" else Heard()

    async def main() -> None:
        hooks = {"process_request": stubborn} if where == "process_request" else {}
        factory = None if hooks else stubborn
        async with serving(factory, open_timeout=2 * UNIT, **hooks) as (s, port, made):
            answer = await ask(port, REQUEST)
            assert answer.startswith(b"HTTP/1.1 504 ")
            await asyncio.wait_for(over.wait(), SHORT)
            await eventually(lambda: s.listener.active == 0)
            assert not s.connections
            assert made == []

    run_on(loop_name, main())


@both_loops
def test_hook_begins_before_it_is_cancelled(loop_name: str) -> None:
    heard = []

    async def wait() -> None:
        heard.append("began")
        try:
            await asyncio.Event().wait()
        finally:
            heard.append("ended")

    async def main() -> None:
        def check(_: Any) -> Any:
            s.loop.call_soon(s.close)  # ahead of the first step of the task
            return wait()

        async with serving(process_request=check) as (s, port, _):
            answer = await asyncio.wait_for(ask(port, REQUEST), SHORT)
            assert answer.startswith(b"HTTP/1.1 503 ")
            await eventually(lambda: heard == ["began", "ended"])

    run_on(loop_name, main())


@both_loops
def test_close_where_a_client_has_left_during_a_hook(loop_name: str) -> None:
    waits = asyncio.Event()

    async def never(_: Any) -> Any:
        waits.set()
        await asyncio.Event().wait()

    async def main() -> None:
        async with serving(process_request=never) as (s, port, _):
            with socket.create_connection(("127.0.0.1", port)) as sock:
                sock.sendall(REQUEST)
                await asyncio.wait_for(waits.wait(), SHORT)
            s.close()  # a refusal is written, and answered by a reset
            await asyncio.wait_for(s.wait_closed(), SHORT)

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize(
    ("origin", "status"),
    [(None, 101), ("https://a.example", 101), ("https://b.example", 403)],
)
def test_origins_are_checked(loop_name: str, origin: str | None, status: int) -> None:
    async def main() -> None:
        origins = ["https://a.example", None]
        async with serving(origins=origins, linger=UNIT) as (server, port, _made):
            reader, writer = await connect(port)
            field = b"" if origin is None else b"Origin: " + origin.encode() + b"\r\n"
            writer.write(REQUEST.replace(b"Host", field + b"Host"))
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 %d " % status)
            writer.close()
            await eventually(lambda: server.listener.active == 0)

    run_on(loop_name, main())


@both_loops
def test_no_more_than_max_connections(loop_name: str) -> None:
    async def main() -> None:
        async with serving(max_connections=2) as (server, port, made):
            peers = [await raw_client(port) for _ in range(2)]
            third = asyncio.create_task(raw_client(port))
            await eventually(lambda: server.listener.accepted == 2)
            await asyncio.sleep(UNIT)
            assert len(made) == 2
            assert len(server.connections) == 2
            peers[0].wire.close()
            peers[0] = await asyncio.wait_for(third, SHORT)
            assert len(made) == 3
            for peer in peers:
                peer.wire.close()
            await eventually(lambda: server.listener.active == 0)

    run_on(loop_name, main())


@both_loops
def test_end_of_the_server_closes_its_connections(loop_name: str) -> None:
    async def main() -> None:
        made: list[Heard] = []

        def make(_: Any) -> Heard:
            made.append(Heard())
            return made[-1]

        server = serve_callbacks(make, "127.0.0.1:0", linger=UNIT)
        server.start()
        client = Heard()
        await open_websocket(f"ws://127.0.0.1:{port_of(server)}/", client)
        _, shaking = await connect(port_of(server))
        await eventually(lambda: server.listener.active == 2)
        await server.aclose(1012, "restart")
        assert await client.wait_close() == (1012, "restart")
        assert await made[0].wait_close() == (1012, "")
        assert server.listener.active == 0
        shaking.close()

    run_on(loop_name, main())


@both_loops
def test_cancelled_end_cuts(loop_name: str) -> None:
    async def main() -> None:
        async with serving(close_timeout=LONG) as (server, port, made):
            peer = await raw_client(port)
            await (await eventually(lambda: made))[0].wait_open()
            ending = asyncio.create_task(server.aclose())
            assert (await peer.read_frame()).opcode == CLOSE
            ending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await ending
            assert (await made[0].wait_close())[0] == 1006
            peer.wire.close()

    run_on(loop_name, main())


@both_loops
def test_failed_tls_handshake_leaves_nothing(loop_name: str) -> None:
    async def main() -> None:
        tls = server_context(certs().server)
        async with serving(ssl=tls) as (server, port, made):
            answer = await ask(port, REQUEST)
            assert b"HTTP" not in answer
            await eventually(lambda: server.listener.active == 0)
            with pytest.raises(ssl.SSLError):
                await connect(port, ssl=client_context(ca=certs().other_ca))
            await eventually(lambda: server.listener.active == 0)
            assert made == []

    run_on(loop_name, main())


@both_loops
def test_listen_takes_sockets_and_several_addresses(loop_name: str) -> None:
    async def main() -> None:
        sock = socket.create_server(("127.0.0.1", 0))
        where = [sock, "127.0.0.1:0"]
        async with serve_callbacks(lambda _: Heard(echo), where) as server:
            assert len(server.addresses) == 2
            for address in server.addresses:
                client = Heard()
                ws = await open_websocket(f"ws://{address}/", client)
                ws.send(b"x")
                await client.wait_message()
                ws.close()
                await client.wait_close()

    run_on(loop_name, main())


@pytest.mark.parametrize("text", ["udp:9000", "-", "no such thing", "127.0.0.1"])
def test_reject_what_is_no_listening_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"write|no port|not an address"):
        serve_callbacks(lambda _: Heard(), text)
