"""``fastws proxy`` within a program, and a WebSocket that goes through it."""

import asyncio

import fastws


async def where(ws):
    await ws.send("reached")


async def main():
    spec = fastws.ForwardProxy(
        listen="127.0.0.1:0", user=("me:secret",), allow=("127.0.0.1",)
    )
    async with (
        fastws.serve(where, "127.0.0.1", 0) as server,
        fastws.app.start(spec) as (proxy,),
    ):
        url = f"ws://{server.addresses[0]}/"
        for scheme in ("http", "socks5"):
            way = f"{scheme}://me:secret@{proxy.endpoints[0]}"
            async with fastws.connect(url, proxy=way) as ws:
                print(scheme, await ws.recv())
        try:
            await fastws.connect(url, proxy=f"http://{proxy.endpoints[0]}")
        except fastws.FastwsError as error:
            print("without a password:", "407" in str(error))


asyncio.run(main())
