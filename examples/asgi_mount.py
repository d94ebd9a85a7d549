"""A TCP service at a path of a web application: Starlette (or FastAPI), uvicorn."""

import asyncio
import contextlib
import socket

import uvicorn
from starlette.applications import Starlette

import fastws


async def service(reader, writer):
    writer.write(b"hello from TCP")
    await writer.drain()
    writer.close()


def make_app(target):
    endpoint = fastws.asgi.WsToTcp(target, auth_token=("s3cret",))

    @contextlib.asynccontextmanager
    async def lifespan(app):
        yield
        await endpoint.aclose()  # Close 1001 to whoever is still there

    app = Starlette(lifespan=lifespan)
    app.mount("/service", endpoint)
    return app


async def main():
    behind = await asyncio.start_server(service, "127.0.0.1", 0)
    app = make_app(f"127.0.0.1:{behind.sockets[0].getsockname()[1]}")
    sock = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    serving = asyncio.create_task(server.serve(sockets=[sock]))
    url = f"ws://127.0.0.1:{sock.getsockname()[1]}/service/"
    token = {"Authorization": "Bearer s3cret"}
    async with fastws.connect(url, additional_headers=token) as ws:
        print((await ws.recv()).decode())
    try:
        await fastws.connect(url)
    except fastws.InvalidStatus as error:
        print("without a token:", error)
    server.should_exit = True
    await serving


asyncio.run(main())
