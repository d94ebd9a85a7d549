"""Servers and connections of the coroutine API."""

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastws.ws.connect import ClientConnection, connect
from fastws.ws.serve import Server, ServerConnection, serve
from tests.support.handlers import raw_client
from tests.support.peers import WsPeer
from tests.support.servers import eventually


async def echo(ws: ServerConnection) -> None:
    """Send every message back."""
    async for message in ws:
        await ws.send(message)


async def stay(ws: ServerConnection) -> None:
    """Wait until the client is gone; the test holds the connection."""
    await ws.wait_closed()


@contextlib.asynccontextmanager
async def serving(
    handler: Callable[[ServerConnection], Any] = echo, **options: Any
) -> AsyncIterator[tuple[Server, str]]:
    """A server on a port of 127.0.0.1, and its URL."""
    async with serve(handler, "127.0.0.1", 0, **options) as server:
        yield server, f"ws://{server.addresses[0]}/"


@contextlib.asynccontextmanager
async def pair(
    *, server: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[tuple[ClientConnection, ServerConnection]]:
    """A client and the server's end of it, for a test to hold; cut at the end."""
    async with (
        serving(stay, **(server or {})) as (running, url),
        connect(url, **options) as client,
    ):
        await eventually(lambda: running.connections)
        try:
            yield client, next(iter(running.connections))
        finally:
            client.abort()


@contextlib.asynccontextmanager
async def peer_of(**options: Any) -> AsyncIterator[tuple[WsPeer, ServerConnection]]:
    """A client by hand, and the server's end of its connection."""
    async with serving(stay, **options) as (server, _):
        peer = await raw_client(server.sockets[0].getsockname()[1])
        try:
            await eventually(lambda: server.connections)
            yield peer, next(iter(server.connections))
        finally:
            peer.wire.reset()
