"""One WebSocket of the callback layer: closing, keepalive, backpressure, failures."""

import asyncio
import logging
import os
import struct
import sys
from typing import Any

import pytest

from fastws.exceptions import LocalProtocolError
from fastws.net.tls import client_context, server_context
from fastws.ws.open import open_websocket
from fastws.ws.server import serve_callbacks
from tests.support.certs import certs
from tests.support.handlers import Heard, echo, pair, port_of, raw_client, serving
from tests.support.peers import BINARY, CLOSE, PING, PONG, TEXT
from tests.support.servers import both_loops, eventually, run_on
from tests.support.timing import LONG, SHORT, UNIT

kinds = pytest.mark.parametrize("kind", ["tcp", "unix", "tls"])


@both_loops
@kinds
def test_messages_pass_both_ways(loop_name: str, kind: str, tmp_path: Any) -> None:
    """Small and large, each way, and an orderly end that both sides hear once."""
    if kind == "unix" and sys.platform == "win32":
        pytest.skip("unix sockets")
    sizes = [0, 1, 125, 126, 65535, 65536, 1_000_000]

    async def main() -> None:
        served, client = Heard(echo), Heard()
        tls = server_context(certs().server) if kind == "tls" else None
        path = f"{tmp_path}/s"
        where = f"unix:{path}" if kind == "unix" else "127.0.0.1:0"
        async with serve_callbacks(lambda _: served, where, ssl=tls) as server:
            options: dict[str, Any] = {}
            url = "ws://localhost/"
            if kind == "unix":
                options["unix"] = path
            else:
                scheme = "wss" if tls else "ws"
                url = f"{scheme}://127.0.0.1:{port_of(server)}/"
            if tls:
                options["ssl"] = client_context(ca=certs().ca)
            ws = await open_websocket(url, client, **options)
            data = [os.urandom(size) for size in sizes]
            for payload in data:
                assert ws.send(payload)
            ws.send("grün")
            await client.wait_message(len(sizes) + 1)
            assert client.messages[:-1] == [(BINARY, payload) for payload in data]
            assert client.messages[-1] == (TEXT, "grün".encode())
            assert len(server.connections) == 1
            ws.close(1000, "bye")
            assert ws.send(b"late") is False
            assert await client.wait_close() == (1000, "")
            assert await served.wait_close() == (1000, "bye")
            await eventually(lambda: not server.connections)
        assert client.closes == [(1000, "")]
        assert served.closes == [(1000, "bye")]
        assert len(served.messages) == len(sizes) + 1

    run_on(loop_name, main())


# -- closing -----------------------------------------------------------------------


@both_loops
@pytest.mark.parametrize("code", [None, 1000, 1001, 3000, 4999])
def test_close_of_the_peer_is_answered_and_tcp_ends(
    loop_name: str, code: int | None
) -> None:
    async def main() -> None:
        async with serving() as (_, port, made):
            peer = await raw_client(port)
            await peer.send(b"before")
            await peer.send_close(code)
            assert (await peer.read_frame()).payload == b"before"
            answer = await peer.read_frame()
            assert (answer.opcode, answer.code) == (CLOSE, code or 1005)
            assert await peer.end_of_tcp() == "eof"
            assert made[0].closes == []  # the client closes TCP after us
            peer.wire.close()
            assert await made[0].wait_close() == (code or 1005, "")
            ws = made[0].ws
            assert ws.close_rcvd is not None
            assert ws.close_sent is not None
            assert ws.close_rcvd.code == ws.close_sent.code == (code or 1005)
            assert ws.close_rcvd_then_sent

    run_on(loop_name, main())


@both_loops
def test_messages_come_until_the_peer_closes(loop_name: str) -> None:
    async def main() -> None:
        async with serving() as (_, port, made):
            peer = await raw_client(port)
            ws = await (await eventually(lambda: made))[0].wait_open()
            ws.close(1001, "gone")
            ws.close(1000)  # does nothing
            frame = await peer.read_frame()
            assert (frame.opcode, frame.payload) == (CLOSE, b"\x03\xe9gone")
            await peer.send(b"on its way")
            await peer.send_frame(PING)
            await peer.send_close(1001)
            assert await peer.end_of_tcp() == "eof"  # neither echo nor pong
            peer.wire.close()
            assert await made[0].wait_close() == (1001, "")
            assert made[0].messages == [(BINARY, b"on its way")]
            assert not ws.close_rcvd_then_sent

    run_on(loop_name, main())


@both_loops
def test_peer_that_does_not_answer_a_close_is_cut(loop_name: str) -> None:
    async def main() -> None:
        async with serving(close_timeout=2 * UNIT) as (_, port, made):
            peer = await raw_client(port)
            ws = await (await eventually(lambda: made))[0].wait_open()
            ws.close()
            assert await made[0].wait_close() == (1006, "no Close in answer")
            assert (await peer.read_frame()).opcode == CLOSE
            with pytest.raises(ConnectionResetError):
                await peer.wire.recv()
            peer.wire.close()

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize("how", ["eof", "reset"])
def test_loss_without_a_close_is_1006(loop_name: str, how: str) -> None:
    async def main() -> None:
        async with serving() as (_, port, made):
            peer = await raw_client(port)
            await (await eventually(lambda: made))[0].wait_open()
            peer.wire.close() if how == "eof" else peer.wire.reset()
            assert await made[0].wait_close() == (1006, "lost without a Close")
            assert made[0].ws.send(b"late") is False
            assert made[0].ws.ping() is False
            made[0].ws.close()
            made[0].ws.abort()
            assert len(made[0].closes) == 1

    run_on(loop_name, main())


@both_loops
def test_paused_end_learns_of_a_reset(loop_name: str) -> None:
    async def main() -> None:
        async with serving() as (_, port, made):
            peer = await raw_client(port)
            ws = await (await eventually(lambda: made))[0].wait_open()
            ws.pause_reading()
            await peer.send(b"unread")
            peer.wire.reset()
            assert await made[0].wait_close() == (1006, "lost without a Close")

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize("reason", ["x" * 124, "\u00e9" * 62])
def test_reject_a_close_that_must_not_be_sent(loop_name: str, reason: str) -> None:
    async def main() -> None:
        async with pair() as (client, _):
            for args in ((999, ""), (1006, ""), (1005, "why"), (1000, reason)):
                with pytest.raises(LocalProtocolError):
                    client.ws.close(*args)
            with pytest.raises(LocalProtocolError):
                client.ws.ping(b"x" * 126)
            assert client.ws.is_open

    run_on(loop_name, main())


# -- bad input ---------------------------------------------------------------------

BAD = {
    "unmasked": (b"\x82\x01x", 1002),
    "opcode": (b"\x83\x80\0\0\0\0", 1002),
    "rsv": (b"\xc2\x80\0\0\0\0", 1002),
    "text": (b"\x81\x81\0\0\0\0\xff", 1007),
    "size": (b"\x82\xff" + struct.pack(">Q", 1001) + b"\0\0\0\0", 1002),
    "limit": (b"\x82\xfe\x03\xe9\0\0\0\0", 1009),
    "close code": (b"\x88\x82\0\0\0\0\x03\xee", 1002),
    "close of 1 byte": (b"\x88\x81\0\0\0\0\x03", 1002),
    "close reason": (b"\x88\x83\0\0\0\0\x03\xe8\xff", 1007),
}


@both_loops
@pytest.mark.parametrize("name", BAD)
def test_bad_input_closes_with_its_code(loop_name: str, name: str) -> None:
    data, code = BAD[name]

    async def main() -> None:
        async with serving(max_size=1000) as (_, port, made):
            peer = await raw_client(port)
            await peer.send(b"good")
            await peer.send_raw(data)
            await peer.send(b"never heard")
            assert (await peer.read_frame()).payload == b"good"
            frame = await peer.read_frame()
            assert (frame.opcode, frame.code) == (CLOSE, code)
            assert await peer.end_of_tcp() == "eof"
            peer.wire.close()
            closed, reason = await made[0].wait_close()
            assert closed == 1006
            assert reason == str(made[0].ws.error)
            assert made[0].messages == [(BINARY, b"good")]

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize("where", ["on_open", "on_message", "on_pong"])
def test_handler_that_raises_closes_1011(
    loop_name: str, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(Heard):
        def fail(self, *_: Any) -> None:
            raise KeyError("mine")

    setattr(Failing, where, Failing.fail)
    handler = Failing()

    async def main() -> None:
        async with serving(lambda _: handler) as (_, port, _made):
            peer = await raw_client(port)
            await peer.send_frame(PONG if where == "on_pong" else BINARY, b"x")
            frame = await peer.read_frame()
            assert (frame.opcode, frame.payload) == (CLOSE, b"\x03\xf3")
            await peer.send_close(1011)
            assert await peer.end_of_tcp() == "eof"
            peer.wire.close()
            assert (await handler.wait_close())[0] == 1006

    run_on(loop_name, main())
    lines = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert lines == ["WebSocket handler failed: KeyError: 'mine'"]


@both_loops
def test_on_close_that_raises_is_logged(
    loop_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(Heard):
        def on_close(self, code: int, reason: str) -> None:
            super().on_close(code, reason)
            raise KeyError("mine")

    async def main() -> None:
        async with pair(Failing()):
            pass

    run_on(loop_name, main())
    lines = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert lines == ["WebSocket handler failed: KeyError: 'mine'"]


# -- keepalive ---------------------------------------------------------------------


@both_loops
def test_silent_peer_is_found_dead(loop_name: str) -> None:
    async def main() -> None:
        limits = {"ping_interval": 2 * UNIT, "ping_timeout": 2 * UNIT}
        async with serving(**limits) as (_, port, made):
            peer = await raw_client(port)
            assert await peer.read_frame(LONG) == (True, PING, b"")
            await eventually(lambda: made[0].closes, LONG)
            assert made[0].closes == [(1006, "keepalive ping timeout")]
            sent = made[0].ws.close_sent
            assert sent is not None
            assert (sent.code, sent.reason) == (1011, "keepalive ping timeout")
            peer.wire.close()

    run_on(loop_name, main())


@both_loops
def test_peers_keep_each_other_alive(loop_name: str) -> None:
    async def main() -> None:
        limits: dict[str, Any] = {"ping_interval": UNIT, "ping_timeout": LONG}
        async with pair(**limits) as (client, served):
            await eventually(lambda: len(client.pongs) >= 3, LONG)
            await eventually(lambda: len(served.pongs) >= 3, LONG)
            assert client.ws.is_open

    run_on(loop_name, main())


@both_loops
def test_no_ping_without_an_interval(loop_name: str) -> None:
    async def main() -> None:
        async with serving(ping_interval=None) as (_, port, made):
            peer = await raw_client(port)
            await (await eventually(lambda: made))[0].wait_open()
            assert made[0].ws.due == float("inf")
            await peer.send(b"x")
            assert (await peer.read_frame()).payload == b"x"
            peer.wire.close()

    run_on(loop_name, main())


@both_loops
def test_ping_of_the_user_is_answered(loop_name: str) -> None:
    async def main() -> None:
        async with pair() as (client, _):
            assert client.ws.ping(b"hello")
            await eventually(lambda: client.pongs)
            assert client.pongs == [b"hello"]

    run_on(loop_name, main())


# -- backpressure ------------------------------------------------------------------


@both_loops
@pytest.mark.parametrize("size", [2000, 5_000_000])
def test_echo_of_a_peer_that_does_not_read_is_bounded(
    loop_name: str, size: int
) -> None:
    """It stops being read; when it reads at last, all comes in order."""

    async def main() -> None:
        async with serving(ping_interval=None) as (_, port, made):
            peer = await raw_client(port, buffers=65536)
            served = (await eventually(lambda: made))[0]
            await served.wait_open()
            total = 30_000_000 // size
            sent = asyncio.create_task(send_many(peer, size, total))
            await eventually(lambda: not served.ws.is_reading, LONG)
            assert served.ws.unsent <= 64 * 1024 + 2 * max(size, 512 * 1024)
            for number in range(total):
                frame = await peer.read_frame(LONG)
                assert frame.payload == number.to_bytes(4) * (size // 4)
            await sent
            await eventually(lambda: served.ws.is_reading)
            peer.wire.close()

    run_on(loop_name, main())


async def send_many(peer: Any, size: int, total: int) -> None:
    for number in range(total):
        await peer.send(number.to_bytes(4) * (size // 4))


@both_loops
def test_handler_is_asked_to_pause(loop_name: str) -> None:
    class Pausing(Heard):
        def __init__(self) -> None:
            super().__init__()
            self.asked: list[str] = []

        def on_pause(self) -> None:
            self.asked.append("pause")

        def on_resume(self) -> None:
            self.asked.append("resume")

    handler = Pausing()

    async def main() -> None:
        async with serving(lambda _: handler, write_limit=1000) as (_, port, _made):
            peer = await raw_client(port, buffers=65536)
            ws = await handler.wait_open()
            ws.send(bytes(20_000_000))
            ws.send(b"more")
            assert handler.asked == ["pause"]
            assert ws.is_reading  # the handler looks after itself
            assert len((await peer.read_frame(LONG)).payload) == 20_000_000
            assert (await peer.read_frame()).payload == b"more"
            await eventually(lambda: handler.asked == ["pause", "resume"])
            peer.wire.close()

    run_on(loop_name, main())


@both_loops
def test_peer_that_never_reads_is_cut_off(loop_name: str) -> None:
    async def main() -> None:
        async with serving(max_unsent=1_000_000) as (_, port, made):
            peer = await raw_client(port, buffers=65536)
            ws = await (await eventually(lambda: made))[0].wait_open()
            count = 0
            while ws.send(bytes(100_000)):
                count += 1
                assert count < 1000
            code, reason = await made[0].wait_close()
            assert code == 1006
            assert reason.endswith(" bytes unsent: the peer does not read")
            peer.wire.close()

    run_on(loop_name, main())


@both_loops
def test_reading_can_be_paused(loop_name: str) -> None:
    async def main() -> None:
        async with pair() as (client, served):
            served.ws.pause_reading()
            for number in range(50):
                client.ws.send(number.to_bytes(1) * 100_000)
            await eventually(lambda: client.ws.unsent)
            assert served.messages == []
            served.ws.resume_reading()
            await client.wait_message(50)
            assert [m[1][0] for m in client.messages] == list(range(50))

    run_on(loop_name, main())


@both_loops
def test_abort_resets(loop_name: str) -> None:
    async def main() -> None:
        async with serving() as (_, port, made):
            peer = await raw_client(port)
            ws = await (await eventually(lambda: made))[0].wait_open()
            ws.abort()
            assert ws.send(b"x") is False
            assert await made[0].wait_close() == (1006, "aborted")
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(peer.wire.recv(), SHORT)
            peer.wire.close()

    run_on(loop_name, main())
