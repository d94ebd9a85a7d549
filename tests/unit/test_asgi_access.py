"""``fastws.asgi``: who may come in, options, the beginning and the end."""

import logging
from typing import Any

import pytest

import fastws
from fastws.asgi import WsToTcp
from fastws.exceptions import ConfigError
from tests.support.asgi import Asgi, app_of, scope_of, target
from tests.support.servers import both_loops, free_port, run_on
from tests.support.timing import UNIT


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
@pytest.mark.parametrize("kind", ["websocket", "http"])
def test_field_that_cannot_be_is_400(loop_name: str, kind: str) -> None:
    async def main() -> None:
        app = WsToTcp("127.0.0.1:1")
        scope = scope_of(kind, headers={"x-bad": "\x01"})
        assert await status_of(app, scope) == 400
        huge = scope_of(kind, headers={"x-big": "x" * 20_000})
        assert await status_of(app, huge) == 431

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
def test_address_of_a_trusted_front_end_counts_and_is_passed_on(loop_name: str) -> None:
    async def main() -> None:
        async with target() as service:
            app = app_of(
                service,
                trust=("192.0.2.1/32",),
                max_per_ip=1,
                send_proxy_protocol="v1",
            )
            for address in ("198.51.100.1", "198.51.100.2"):
                scope = scope_of(headers={"x-forwarded-for": address})
                async with Asgi(app, scope) as server:
                    tcp = await service.accept()
                    await server.accepted()
                    assert await status_of(app, scope) == 503
                    start = f"PROXY TCP4 {address} 192.0.2.2 ".encode()
                    assert await tcp.read(len(start)) == start

    run_on(loop_name, main())


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
@pytest.mark.parametrize("version", ["1.1", "2"])
def test_upgrade_is_named_where_http_has_one(loop_name: str, version: str) -> None:
    """RFC 9110 section 7.8: as an option of Connection; RFC 9113: not in HTTP/2."""

    async def main() -> None:
        scope = scope_of("http", http_version=version)
        async with Asgi(WsToTcp("127.0.0.1:1"), scope) as server:
            fields = dict((await server.next())["headers"])
            assert fields[b"sec-websocket-version"] == b"13"
            found = fields.get(b"upgrade"), fields.get(b"connection")
            is_http1 = version == "1.1"
            assert found == ((b"websocket", b"upgrade") if is_http1 else (None, None))

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
    scope["query_string"] = b"q=%20&r=\xff"
    assert fastws.asgi._target(scope) == f"{found}?q=%20&r=%FF"


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
