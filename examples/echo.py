"""A server that sends every message back, and a client of it."""

import asyncio

import fastws


async def echo(ws):
    async for message in ws:
        await ws.send(message)


async def main():
    async with fastws.serve(echo, "127.0.0.1", 0) as server:
        url = f"ws://{server.addresses[0]}/"
        async with fastws.connect(url) as ws:
            await ws.send("text comes back as str")
            print(await ws.recv())
            await ws.send(b"binary as bytes")
            print(await ws.recv())
            round_trip = await (await ws.ping())
            print("answered within a second:", round_trip < 1)
        print("closed with", ws.close_code)


asyncio.run(main())
