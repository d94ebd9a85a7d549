"""``fastws.asgi``: wts in ASGI messages, event by event."""

import asyncio
import socket
from typing import Any

import msgspec
import pytest

from fastws.asgi import WsToTcp
from fastws.net.memory import memory_pair
from tests.support.asgi import Asgi, app_of, scope_of, target
from tests.support.servers import both_loops, eventually, free_port, run_on
from tests.support.timing import LONG, SHORT, UNIT

OFFER = {"x-fastws": "tcp/1; id=0123456789abcdef"}
PROOF = (b"x-fastws", b"tcp/1; proof=d91c3ae3e564a089")  # docs/wire.md
CLOSE_1000 = {"type": "websocket.close", "code": 1000, "reason": ""}


def sent(data: bytes) -> dict[str, Any]:
    return {"type": "websocket.send", "bytes": data}


@both_loops
def test_messages_become_bytes_and_bytes_become_messages(loop_name: str) -> None:
    async def main() -> None:
        async with target() as service, Asgi(app_of(service)) as server:
            tcp = await service.accept()
            assert await server.accepted() == {
                "type": "websocket.accept",
                "subprotocol": None,
                "headers": [],
            }
            server.say("receive", bytes=b"\x00\xff", text=None)
            server.say("receive", text="ü")
            server.say("receive", bytes=b"")
            server.say("receive", bytes=b"end")
            assert await tcp.read(7) == b"\x00\xff\xc3\xbcend"
            await tcp.send(b"answer")
            assert await server.next() == sent(b"answer")
            await tcp.send(bytes(100_000))
            assert await server.data(100_000) == bytes(100_000)
            server.say("disconnect", code=1000, reason="")
            assert await tcp.read_end() == (b"", "eof")
            await tcp.leave()

    run_on(loop_name, main())


@both_loops
def test_target_is_connected_before_the_websocket_is_accepted(loop_name: str) -> None:
    async def main() -> None:
        async with target() as service:
            app = app_of(service)
            port = free_port()
            refused = WsToTcp(f"127.0.0.1:{port}")
            async with Asgi(refused) as server:
                start = await server.next()
                assert start["type"] == "websocket.http.response.start"
                assert start["status"] == 502
                body = {"type": "websocket.http.response.body", "body": b"502\n"}
                assert await server.next() == body
            async with Asgi(refused, scope_of(extensions=None)) as server:
                assert (await server.next())["type"] == "websocket.close"
            async with Asgi(app) as server:
                await server.accepted()
                (await service.accept()).wire.reset()

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize(
    ("event", "spec"),
    [
        ({"code": 1000}, "2.4"),
        ({"code": 1001, "reason": "left"}, "2.4"),
        ({"code": None}, "2.4"),
        ({"code": 1005, "reason": ""}, "2.4"),
        ({"code": 1005}, "2.3"),
        ({"code": 1005}, "2"),
    ],
)
def test_orderly_close_of_a_stranger_is_an_end(
    loop_name: str, event: dict[str, Any], spec: str
) -> None:
    async def main() -> None:
        scope = scope_of(asgi={"version": "3.0", "spec_version": spec})
        async with target() as service, Asgi(app_of(service), scope) as server:
            tcp = await service.accept()
            await server.accepted()
            server.say("receive", bytes=b"x" * 70_000)
            server.say("disconnect", **event)
            assert await tcp.read_end() == (b"x" * 70_000, "eof")
            await tcp.leave()

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize("code", [1002, 1005, 1006, 1011, 1012, 3000, 99])
def test_every_other_close_is_a_reset(loop_name: str, code: int) -> None:
    async def main() -> None:
        async with target() as service, Asgi(app_of(service)) as server:
            tcp = await service.accept()
            await server.accepted()
            server.say("receive", bytes=b"x")
            assert await tcp.read(1) == b"x"
            server.say("disconnect", code=code)
            assert await tcp.read_end() == (b"", "reset")

    run_on(loop_name, main())


@both_loops
def test_end_of_the_target_closes_a_stranger_with_1000(loop_name: str) -> None:
    async def main() -> None:
        async with target() as service, Asgi(app_of(service)) as server:
            tcp = await service.accept()
            await server.accepted()
            await tcp.send(b"last")
            await tcp.finish()
            assert [await server.next(), await server.next()] == [
                sent(b"last"),
                CLOSE_1000,
            ]
            server.say("receive", bytes=b"still")  # from before its Close
            server.say("disconnect", code=1000)
            assert await tcp.read_end() == (b"still", "eof")

    run_on(loop_name, main())


@both_loops
def test_reset_of_the_target_closes_with_1011(loop_name: str) -> None:
    async def main() -> None:
        async with target() as service, Asgi(app_of(service)) as server:
            tcp = await service.accept()
            await server.accepted()
            await tcp.break_off()
            event = await server.next()
            assert (event["type"], event["code"]) == ("websocket.close", 1011)
            server.say("disconnect", code=1011)

    run_on(loop_name, main())


@both_loops
def test_fastws_peer_half_closes_both_ways(loop_name: str) -> None:
    async def main() -> None:
        scope = scope_of(headers=OFFER)
        async with target() as service, Asgi(app_of(service), scope) as server:
            tcp = await service.accept()
            assert (await server.accepted())["headers"] == [PROOF]
            for message in ({"text": "C"}, {"bytes": b"ask"}, {"text": "F"}):
                server.say("receive", **message)
            assert await tcp.read_end() == (b"ask", "eof")
            await tcp.send(b"answer")
            assert await server.next() == sent(b"answer")
            await tcp.finish()
            assert await server.next() == {"type": "websocket.send", "text": "F"}
            assert await server.next() == CLOSE_1000
            server.say("disconnect", code=1000)

    run_on(loop_name, main())


@both_loops
def test_fastws_peer_carries_resets_both_ways(loop_name: str) -> None:
    async def main() -> None:
        async with target() as service:
            app = app_of(service)
            async with Asgi(app, scope_of(headers=OFFER)) as server:
                tcp = await service.accept()
                await server.accepted()
                server.say("receive", text="C")
                server.say("receive", bytes=b"x")
                assert await tcp.read(1) == b"x"
                await tcp.break_off()
                assert await server.next() == {"type": "websocket.send", "text": "R"}
                assert (await server.next())["code"] == 1011
                server.say("disconnect", code=1011)
            async with Asgi(app, scope_of(headers=OFFER)) as server:
                tcp = await service.accept()
                await server.accepted()
                server.say("receive", text="C")
                server.say("receive", text="R")
                assert await tcp.read_end() == (b"", "reset")
                server.say("disconnect", code=1011)

    run_on(loop_name, main())


@both_loops
def test_client_that_leaves_without_its_f_is_a_reset(loop_name: str) -> None:
    async def main() -> None:
        scope = scope_of(headers=OFFER)
        async with target() as service, Asgi(app_of(service), scope) as server:
            tcp = await service.accept()
            await server.accepted()
            server.say("receive", text="C")
            server.say("disconnect", code=1000)
            assert await tcp.read_end() == (b"", "reset")

    run_on(loop_name, main())


@both_loops
def test_announcement_is_not_answered_when_switched_off(loop_name: str) -> None:
    async def main() -> None:
        scope = scope_of(headers=OFFER)
        async with target() as service:
            async with Asgi(app_of(service, fastws=False), scope) as server:
                tcp = await service.accept()
                assert (await server.accepted())["headers"] == []
                server.say("receive", text="C")
                assert await tcp.read(1) == b"C"
                server.say("disconnect", code=1000)
                await tcp.finish()

    run_on(loop_name, main())


@both_loops
def test_answer_after_the_client_left_is_a_reset_not_an_end(loop_name: str) -> None:
    """The server has answered the Close: what comes now reaches nobody."""

    async def main() -> None:
        async with target() as service, Asgi(app_of(service)) as server:
            tcp = await service.accept()
            await server.accepted()
            server.say("disconnect", code=1000)
            assert await tcp.read_end() == (b"", "eof")
            await tcp.send(b"answer")
            await server.done()
            await eventually(tcp.wire.was_reset)

    run_on(loop_name, main())


@both_loops
def test_slow_client_stops_the_target(loop_name: str) -> None:
    async def main() -> None:
        async with target() as service, Asgi(app_of(service)) as server:
            tcp = await service.accept()
            await server.accepted()
            tcp.wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
            server.takes.clear()
            sending = asyncio.create_task(tcp.send(bytes(16 << 20)))
            await asyncio.sleep(3 * UNIT)
            assert not sending.done()
            assert server.sent.empty()
            server.takes.set()
            assert await server.data(16 << 20) == bytes(16 << 20)
            await sending
            await tcp.finish()
            assert await server.next() == CLOSE_1000
            server.say("disconnect", code=1000)

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize("size", [0, 100_000])
def test_the_end_waits_for_a_slow_client_longer_than_linger(
    loop_name: str, size: int
) -> None:
    async def main() -> None:
        async with target() as service:
            async with Asgi(app_of(service, linger=4 * UNIT)) as server:
                tcp = await service.accept()
                await server.accepted()
                server.takes.clear()
                await tcp.send(bytes(size))
                await tcp.finish()
                await asyncio.sleep(14 * UNIT)
                server.takes.set()
                assert await server.data(size) == bytes(size)
                assert await server.next() == CLOSE_1000
                server.say("disconnect", code=1000)
                assert await tcp.read_end() == (b"", "eof")

    run_on(loop_name, main())


@both_loops
def test_slow_target_stops_the_client(loop_name: str) -> None:
    async def main() -> None:
        async with target() as service, Asgi(app_of(service)) as server:
            tcp = await service.accept()
            await server.accepted()
            for _ in range(64):
                server.say("receive", bytes=bytes(1 << 20))
            seen = -1
            while seen != server.unread:  # until it has stopped asking
                seen = server.unread
                await asyncio.sleep(UNIT)
            assert seen > 40  # the rest is in the buffers of the kernel
            server.say("disconnect", code=1000)
            data, how = await tcp.read_end(LONG)
            assert (len(data), how) == (64 << 20, "eof")
            await tcp.leave()

    run_on(loop_name, main())


@both_loops
def test_lost_client_whose_bytes_are_not_taken_is_given_up_after_linger(
    loop_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = []

    def noted(*args: Any) -> Any:
        pairs.append(memory_pair(*args))
        return pairs[-1]

    monkeypatch.setattr("fastws.asgi.memory_pair", noted)

    async def main() -> None:
        async with target() as service:
            async with Asgi(app_of(service, linger=UNIT)) as server:
                tcp = await service.accept()
                await server.accepted()
                ((_, far),) = pairs
                far.stall()  # as a target does that reads nothing
                server.say("receive", bytes=b"late")
                server.say("disconnect", code=1006)
                assert await tcp.read_end() == (b"", "reset")

    run_on(loop_name, main())


@both_loops
def test_pings_are_the_business_of_the_server(loop_name: str) -> None:
    """wts pings nobody but itself, and is answered."""

    async def main() -> None:
        async with target() as service:
            app = app_of(service)
            times = {"ping": UNIT, "ping_deadline": 8 * UNIT}
            app._spec = msgspec.structs.replace(app._spec, **times)
            app._start()
            async with Asgi(app) as server:
                tcp = await service.accept()
                await server.accepted()
                await asyncio.sleep(14 * UNIT)
                assert server.sent.empty()
                await tcp.send(b"still there")
                assert await server.next() == sent(b"still there")

    run_on(loop_name, main())


@both_loops
def test_server_that_cannot_send_is_a_lost_client(loop_name: str) -> None:
    async def main() -> None:
        async with target() as service, Asgi(app_of(service)) as server:
            tcp = await service.accept()
            await server.accepted()
            server.is_gone = True
            await tcp.send(b"x")
            assert await tcp.read_end() == (b"", "reset")

    run_on(loop_name, main())


@both_loops
def test_cancelled_call_resets_the_target(loop_name: str) -> None:
    async def main() -> None:
        async with target() as service:
            async with Asgi(app_of(service)) as server:
                tcp = await service.accept()
                await server.accepted()
                server.task.cancel()
                assert await tcp.read_end() == (b"", "reset")
                with pytest.raises(asyncio.CancelledError):
                    await server.task
                server.task = asyncio.create_task(asyncio.sleep(0))

    run_on(loop_name, main())


@both_loops
def test_client_that_leaves_first_is_not_accepted(loop_name: str) -> None:
    async def main() -> None:
        async with target() as service:
            server = Asgi(app_of(service))
            server.say("connect")
            server.say("disconnect", code=1006)
            async with server:
                tcp = await service.accept()
                assert await tcp.read_end() == (b"", "reset")
                await server.done()
            events = [server.sent.get_nowait() for _ in range(server.sent.qsize())]
            assert "websocket.accept" not in [event["type"] for event in events]

    run_on(loop_name, main())


@both_loops
def test_invalid_utf8_cannot_come_and_datagrams_pass(loop_name: str) -> None:
    async def main() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            sock.setblocking(False)
            loop = asyncio.get_running_loop()
            app = WsToTcp(f"udp:127.0.0.1:{sock.getsockname()[1]}", linger=SHORT)
            async with Asgi(app) as server:
                await server.accepted()
                server.say("receive", bytes=b"ping")
                server.say("receive", bytes=b"")
                data = await asyncio.wait_for(loop.sock_recv(sock, 100), SHORT)
                assert data == b"ping"
                data, where = sock.recvfrom(100)
                assert data == b""
                sock.sendto(b"pong", where)
                sock.sendto(b"", where)
                assert await server.next() == sent(b"pong")
                assert await server.next() == sent(b"")
                server.say("disconnect", code=1000)

    run_on(loop_name, main())
