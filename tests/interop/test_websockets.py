"""What fastws took over from websockets, each end beside the original."""

import asyncio
import http
from collections.abc import AsyncIterator
from types import ModuleType
from typing import Any

import pytest

import fastws
from tests.support.servers import both_loops, run_on

websockets = pytest.importorskip("websockets")

pytestmark = pytest.mark.interop

BOTH = pytest.mark.parametrize(
    ("ours", "theirs"),
    [(fastws, websockets), (websockets, fastws)],
    ids=["our server", "their server"],
)


async def parts() -> AsyncIterator[str]:
    for part in ("ge", "teilt", "€"):
        yield part
        await asyncio.sleep(0)


def port_of(server: Any) -> int:
    return int(server.sockets[0].getsockname()[1])


@both_loops
@BOTH
def test_messages_in_parts(loop_name: str, ours: ModuleType, theirs: Any) -> None:
    async def handler(ws: Any) -> None:
        got = [part async for part in ws.recv_streaming()]
        await ws.send("".join(got))
        await ws.send(parts())

    async def main() -> None:
        async with ours.serve(handler, "127.0.0.1", 0) as server:
            url = f"ws://127.0.0.1:{port_of(server)}/"
            async with theirs.connect(url) as ws:
                await ws.send(parts())
                assert await ws.recv() == "geteilt€"
                got = [part async for part in ws.recv_streaming(decode=False)]
                assert b"".join(got) == "geteilt€".encode()

    run_on(loop_name, main())


@both_loops
@BOTH
def test_credentials_and_redirects(
    loop_name: str, ours: ModuleType, theirs: Any
) -> None:
    async def handler(ws: Any) -> None:
        await ws.send(f"{ws.username} {ws.request.path}")

    admit = ours.basic_auth(realm="gate", credentials=("ada", "pa:ss€"))

    async def ask(ws: Any, request: Any) -> Any:
        if request.path != "/there":
            response = ws.respond(http.HTTPStatus.FOUND, "elsewhere")
            response.headers["Location"] = "/there"
            return response
        return await admit(ws, request)

    async def main() -> None:
        hooks = {"process_request": ask}
        async with ours.serve(handler, "127.0.0.1", 0, **hooks) as server:
            place = f"127.0.0.1:{port_of(server)}"
            field = {"Authorization": "Basic YWRhOnBhOnNz4oKs"}
            way = theirs.connect(f"ws://{place}/", additional_headers=field)
            async with way as ws:
                assert await ws.recv() == "ada /there"
            async with theirs.connect(f"ws://ada:pa%3Ass%E2%82%AC@{place}/there") as ws:
                assert await ws.recv() == "ada /there"
            with pytest.raises(theirs.InvalidStatus) as caught:
                await theirs.connect(f"ws://ada:wrong@{place}/there")
            assert caught.value.response.status_code == 401

    run_on(loop_name, main())


@both_loops
@BOTH
def test_hooks_broadcast_and_shutdown(
    loop_name: str, ours: ModuleType, theirs: Any
) -> None:
    def review(ws: Any, request: Any, response: Any) -> None:
        response.headers["X-Path"] = request.path

    async def handler(ws: Any) -> None:
        async for message in ws:
            ours.broadcast(ws.server.connections, message)

    async def main() -> None:
        options = {"process_response": review, "subprotocols": ["v2", "v1"]}
        async with ours.serve(handler, "127.0.0.1", 0, **options) as server:
            url = f"ws://127.0.0.1:{port_of(server)}/room"
            one = await theirs.connect(url, subprotocols=["v1", "v2"])
            two = await theirs.connect(url, subprotocols=["v1"])
            assert (one.subprotocol, two.subprotocol) == ("v2", "v1")
            assert one.response.headers["X-Path"] == "/room"
            await one.send("to all")
            assert await one.recv() == await two.recv() == "to all"
            assert await (await two.ping()) >= 0  # uvloop counts milliseconds
            server.close(code=1012, reason="restart")
            for ws in (one, two):
                with pytest.raises(theirs.ConnectionClosedError) as caught:
                    await ws.recv()
                assert caught.value.rcvd.code == 1012
                assert caught.value.rcvd.reason == "restart"
            await server.wait_closed()

    run_on(loop_name, main())
