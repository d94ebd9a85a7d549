"""A real ASGI server with ``fastws.asgi`` mounted at /t, for a process of its own.

``python -m tests.support.asgi_server SERVER FRAMEWORK FD TARGET [OPTIONS]``: SERVER
is uvicorn-IMPLEMENTATION or hypercorn, FRAMEWORK starlette, fastapi or none, FD
a listening socket, OPTIONS those of ``WsToTcp`` as JSON.
"""

import asyncio
import contextlib
import importlib
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from typing import Any

import fastws

FRAMEWORKS = {
    "fastapi": ("fastapi", "FastAPI"),
    "starlette": ("starlette.applications", "Starlette"),
}
LOOP = os.environ.get("FASTWS_LOOP", "uvloop")


def make_app(framework: str, endpoint: Any) -> Any:
    """The outer application; its lifespan drains the endpoint."""

    async def alone(scope: Any, receive: Any, send: Any) -> None:
        await endpoint({**scope, "root_path": "/t"}, receive, send)

    if framework == "none":
        return alone

    @contextlib.asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        yield
        await endpoint.aclose()

    home, name = FRAMEWORKS[framework]
    app = getattr(importlib.import_module(home), name)(lifespan=lifespan)
    app.mount("/t", endpoint)
    return app


def run_uvicorn(app: Any, implementation: str, sock: socket.socket) -> None:
    uvicorn = importlib.import_module("uvicorn")
    config = uvicorn.Config(app, ws=implementation, loop=LOOP)
    uvicorn.Server(config).run(sockets=[sock])


def run_hypercorn(app: Any, sock: socket.socket) -> None:
    serve = importlib.import_module("hypercorn.asyncio").serve
    config = importlib.import_module("hypercorn.config").Config()
    config.bind = [f"fd://{sock.fileno()}"]
    config.errorlog = "-"
    config.graceful_timeout = 0.2

    async def main() -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        await serve(app, config, shutdown_trigger=stop.wait)

    module = importlib.import_module(LOOP)
    factory: Any = module.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    server, framework, fd, target = sys.argv[1:5]
    options = json.loads(sys.argv[5]) if sys.argv[5:] else {}
    app = make_app(framework, fastws.asgi.WsToTcp(target, **options))
    sock = socket.socket(fileno=int(fd))
    name, _, implementation = server.partition("-")
    if name == "uvicorn":
        run_uvicorn(app, implementation, sock)
    else:
        run_hypercorn(app, sock)
