"""A chat: what one member says all members hear. Nobody waits for a slow one."""

import asyncio

import fastws

members = {}


async def chat(ws):
    name = await ws.recv()
    members[ws] = name
    try:
        fastws.broadcast(members, f"{name} joins")
        async for line in ws:
            fastws.broadcast(members, f"{name}: {line}")
    finally:
        del members[ws]
        fastws.broadcast(members, f"{name} leaves")


async def main():
    async with fastws.serve(chat, "127.0.0.1", 0) as server:
        url = f"ws://{server.addresses[0]}/"
        async with fastws.connect(url) as ada:
            await ada.send("Ada")
            print(await ada.recv())
            async with fastws.connect(url) as bob:
                await bob.send("Bob")
                print(await ada.recv())
                await bob.recv()
                await ada.send("hello")
                print("Bob hears:", await bob.recv())
                print("Ada hears:", await ada.recv())
            print(await ada.recv())


asyncio.run(main())
