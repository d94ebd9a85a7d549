"""``fastws.asgi``: wts in ASGI messages, event by event."""

import asyncio
import logging
import socket
from typing import Any

import pytest

import fastws
from fastws.asgi import WsToTcp
from fastws.exceptions import ConfigError
from fastws.net.memory import memory_pair
from tests.support.asgi import Asgi, Target, scope_of, target
from tests.support.servers import both_loops, eventually, free_port, run_on
from tests.support.timing import LONG, SHORT, UNIT

OFFER = {"x-fastws": "tcp/1; id=0123456789abcdef"}
PROOF = (b"x-fastws", b"tcp/1; proof=d91c3ae3e564a089")  # docs/wire.md
CLOSE_1000 = {"type": "websocket.close", "code": 1000, "reason": ""}


def app_of(service: Target, **options: Any) -> WsToTcp:
    return WsToTcp(service.address, **{"linger": LONG, **options})


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
@pytest.mark.parametrize("code", [1000, 1001, 1005, None])
def test_orderly_close_of_a_stranger_is_an_end(
    loop_name: str, code: int | None
) -> None:
    async def main() -> None:
        async with target() as service, Asgi(app_of(service)) as server:
            tcp = await service.accept()
            await server.accepted()
            server.say("receive", bytes=b"x" * 70_000)
            server.say("disconnect", code=code)
            assert await tcp.read_end() == (b"x" * 70_000, "eof")
            await tcp.leave()

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize("code", [1002, 1006, 1011, 1012, 3000, 99])
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


# -- who may come in -----------------------------------------------------------------


async def status_of(app: WsToTcp, scope: dict[str, Any]) -> int:
    """The status of a refusal."""
    async with Asgi(app, scope) as server:
        start = await server.next()
        assert start["type"].endswith("http.response.start"), start
        await server.next()
    return int(start["status"])


@both_loops
def test_requests_are_judged_as_wts_does(loop_name: str) -> None:
    async def main() -> None:
        async with target() as service:
            app = app_of(
                service, path="/in", allow_host=("a.example",), auth_token=("t0ken",)
            )

            def ask(**fields: Any) -> Any:
                headers = {"host": "a.example", **fields.pop("headers", {})}
                return scope_of(**{"path": "/in", "headers": headers, **fields})

            other = {"headers": {"origin": "https://b.example"}}
            assert await status_of(app, ask(path="/out")) == 404
            assert await status_of(app, ask(headers={"host": "b.example"})) == 400
            assert await status_of(app, ask(**other)) == 403
            assert await status_of(app, ask()) == 401
            wrong = {"authorization": "Bearer wrong"}
            assert await status_of(app, ask(headers=wrong)) == 401
            assert await status_of(app, ask(kind="http")) == 426
            assert await status_of(app, ask(kind="http", method="POST")) == 405
            assert await status_of(app, ask(kind="http", path="/out")) == 404
            assert await status_of(app, ask(kind="http", path="/healthz")) == 200
            right = {"authorization": "Bearer t0ken", "origin": "https://a.example"}
            for scope in (
                ask(headers=right),
                ask(query_string=b"access_token=t0ken"),
            ):
                async with Asgi(app, scope) as server:
                    await server.accepted()
                    (await service.accept()).wire.reset()
            assert app._runner.stats.unauthorized == 2

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize("own", ["127.0.0.1", "192.0.2.2"])
def test_page_with_a_rebound_name_cannot_reach_a_loopback_server(
    loop_name: str, own: str
) -> None:
    async def main() -> None:
        async with target() as service:
            app = app_of(service)
            headers = {"host": "evil.example", "origin": "http://evil.example"}
            scope = scope_of(server=(own, 8000), headers=headers)
            if own == "127.0.0.1":
                assert await status_of(app, scope) == 403
                headers["x-forwarded-for"] = "192.0.2.9"  # no page can send it
                scope = scope_of(server=(own, 8000), headers=headers)
            async with Asgi(app, scope) as server:
                await server.accepted()
                (await service.accept()).wire.reset()

    run_on(loop_name, main())


@both_loops
def test_limits_are_those_of_wts(
    loop_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with target() as service:
            app = app_of(service, max_connections=2, max_per_ip=1)
            async with Asgi(app) as first:
                await first.accepted()
                assert await status_of(app, scope_of()) == 503
                other = scope_of(client=("192.0.2.7", 1))
                async with Asgi(app, other) as second:
                    await second.accepted()
                    third = scope_of(client=("192.0.2.8", 1))
                    assert await status_of(app, third) == 503
                    assert await status_of(app, scope_of("http", path="/readyz")) == 503
                    second.say("disconnect", code=1006)
                first.say("disconnect", code=1006)
            async with Asgi(app) as again:
                await again.accepted()
                again.say("disconnect", code=1006)

    with caplog.at_level(logging.INFO, "fastws.modes"):
        run_on(loop_name, main())
    assert "wts 192.0.2.8:1: full: --max-connections 2" in caplog.messages


@both_loops
@pytest.mark.parametrize(
    ("offered", "wanted", "chosen"),
    [
        (["a", "binary"], (), "binary"),
        (["a", "b"], (), "a"),
        (["base64"], (), None),
        (["a", "b"], ("b", "c"), "b"),
        (["a"], ("b",), None),
    ],
)
def test_subprotocol_is_chosen_as_wts_does(
    loop_name: str, offered: list[str], wanted: tuple[str, ...], chosen: str | None
) -> None:
    async def main() -> None:
        async with target() as service:
            app = app_of(service, subprotocol=wanted)
            async with Asgi(app, scope_of(subprotocols=offered)) as server:
                assert (await server.accepted())["subprotocol"] == chosen
                (await service.accept()).wire.reset()

    run_on(loop_name, main())


@both_loops
def test_headers_of_the_answer_are_added(loop_name: str) -> None:
    async def main() -> None:
        async with target() as service:
            app = app_of(service, headers=(("X-Here", "1"),))
            async with Asgi(app) as server:
                assert (await server.accepted())["headers"] == [(b"x-here", b"1")]
                (await service.accept()).wire.reset()

    run_on(loop_name, main())


@pytest.mark.parametrize(
    ("root", "path", "raw", "found"),
    [
        ("", "/", b"/", "/"),
        ("", "/a b", b"/a%20b", "/a%20b"),
        ("/ssh", "/ssh", b"/ssh", "/"),
        ("/ssh", "/ssh/x", b"/ssh/x", "/x"),
        ("/ssh", "/ssh/ü", None, "/%C3%BC"),
        ("/ü", "/ü/x", b"/%C3%BC/x", "/x"),
        ("/ssh", "/x", b"/x", "/x"),  # Starlette before 0.33
        ("", "", b"", "/"),
    ],
)
def test_path_is_that_below_the_mount(
    root: str, path: str, raw: bytes | None, found: str
) -> None:
    scope = {"root_path": root, "path": path, "raw_path": raw, "query_string": b""}
    assert fastws.asgi._target(scope) == found
    assert fastws.asgi._target({**scope, "query_string": b"q=1"}) == f"{found}?q=1"


@both_loops
def test_routes_and_tokens_lead_to_several_targets(loop_name: str) -> None:
    async def main() -> None:
        async with target() as one, target() as two:
            app = app_of(one, route=(f"/two={two.address}",))
            for service, path in ((one, "/"), (two, "/two")):
                async with Asgi(app, scope_of(path=path)) as server:
                    await server.accepted()
                    (await service.accept()).wire.reset()

    run_on(loop_name, main())


@pytest.mark.parametrize("name", ["listen", "cert", "ping", "web", "oneshot"])
def test_what_the_server_decides_is_no_option(name: str) -> None:
    with pytest.raises(ConfigError, match="belongs to the ASGI server") as caught:
        WsToTcp("127.0.0.1:22", **{name: "x"})
    assert caught.value.path == name


def test_mistakes_are_found_before_anything_is_served() -> None:
    with pytest.raises(ConfigError, match="port"):
        WsToTcp("localhost")
    with pytest.raises(TypeError, match="nonsense"):
        WsToTcp("127.0.0.1:22", nonsense=1)
    with pytest.raises(ConfigError, match="cannot be read"):
        WsToTcp("127.0.0.1:22", auth_basic="/nowhere")
    assert repr(WsToTcp("127.0.0.1:22")) == "<fastws.asgi.WsToTcp 127.0.0.1:22>"


# -- life ----------------------------------------------------------------------------


@both_loops
def test_lifespan_ends_with_a_drain(loop_name: str) -> None:
    async def main() -> None:
        async with target() as service:
            app = app_of(service, drain_timeout=UNIT / 10)
            async with Asgi(app, {"type": "lifespan"}) as life:
                life.tell("lifespan.startup")
                assert await life.next() == {"type": "lifespan.startup.complete"}
                async with Asgi(app) as server:
                    tcp = await service.accept()
                    await server.accepted()
                    life.tell("lifespan.shutdown")
                    event = await server.next()
                    assert (event["code"], event["reason"]) == (1001, "draining")
                    server.say("disconnect", code=1001)
                    assert await tcp.read_end() == (b"", "reset")
                assert await life.next() == {"type": "lifespan.shutdown.complete"}
            assert await status_of(app, scope_of()) == 503
            async with Asgi(app, {"type": "lifespan"}) as life:
                life.tell("lifespan.startup")
                await life.next()
                async with Asgi(app) as server:
                    await server.accepted()
                    (await service.accept()).wire.reset()
                life.tell("lifespan.shutdown")

    run_on(loop_name, main())


def test_one_application_may_serve_one_loop_after_the_other() -> None:
    port = free_port()
    app = WsToTcp(f"127.0.0.1:{port}")
    for _ in range(2):
        assert run_on("asyncio", status_of(app, scope_of())) == 502


def test_other_protocols_are_refused() -> None:
    async def main() -> None:
        with pytest.raises(NotImplementedError):
            await WsToTcp("127.0.0.1:22")({"type": "mqtt"}, None, None)  # type: ignore[arg-type]

    run_on("asyncio", main())
