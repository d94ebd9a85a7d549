"""The coroutine API beside the WebSocket libraries of Python, both ways."""

import pytest

from fastws.exceptions import ConnectionClosedError, InvalidStatus
from fastws.wire.frames import Close
from fastws.ws.connect import connect
from fastws.ws.serve import ServerConnection
from tests.support.coroutines import echo, serving
from tests.support.libraries import (
    ANSWERED,
    CLIENTS,
    LIMIT,
    SERVERS,
    talk,
)
from tests.support.servers import both_loops, run_on

pytestmark = pytest.mark.interop


@both_loops
@pytest.mark.parametrize("library", SERVERS)
def test_our_client_and_their_server(loop_name: str, library: str) -> None:
    async def main() -> None:
        async with SERVERS[library]() as port:
            ws = await connect(f"ws://127.0.0.1:{port}/", max_size=LIMIT)
            await talk(ws)
            assert ws.close_code == ANSWERED.get(library, 3000)
            with pytest.raises(ConnectionClosedError) as caught:
                await ws.recv()
            assert caught.value.sent == Close(3000, "enough")

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize("library", CLIENTS)
def test_their_client_and_our_server(loop_name: str, library: str) -> None:
    async def main() -> None:
        closes: list[tuple[int | None, str | None]] = []

        async def handler(ws: ServerConnection) -> None:
            try:
                await echo(ws)
            finally:
                closes.append((ws.close_code, ws.close_reason))

        async with serving(handler) as (server, _):
            await CLIENTS[library](server.sockets[0].getsockname()[1])
        assert closes == [(3000, "enough")]

    run_on(loop_name, main())


@both_loops
def test_their_refusal_is_read(loop_name: str) -> None:
    async def main() -> None:
        async with SERVERS["aiohttp"]() as port:
            with pytest.raises(InvalidStatus) as caught:
                await connect(f"ws://127.0.0.1:{port}/nowhere")
            assert caught.value.response.status_code == 404

    run_on(loop_name, main())
