"""A server of aiohttp, a stranger to fastws."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def aiohttp_app(
    routes: Mapping[str, Handler], **options: Any
) -> AsyncIterator[int]:
    """Serve on the running loop; yields the port on 127.0.0.1.

    Args:
        routes: what answers requests of any method, by path.
        options: of the application.
    """
    app = web.Application(**options)
    for path, handler in routes.items():
        app.router.add_route("*", path, handler)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
