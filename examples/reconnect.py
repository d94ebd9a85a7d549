"""A client that connects again whenever its connection is lost."""

import asyncio

import fastws

visits = 0


async def restless(ws):
    """The first two clients are cut off in the middle of everything."""
    global visits
    visits += 1
    async for message in ws:
        if visits < 3:
            ws.abort()
        else:
            await ws.send(message.upper())


def delays():
    """Seconds between attempts that fail; by default from 0.2 to 30, at random."""
    while True:
        yield 0.01


async def main():
    async with fastws.serve(restless, "127.0.0.1", 0) as server:
        url = f"ws://{server.addresses[0]}/"
        async for ws in fastws.connect(url, reconnect_delays=delays):
            try:
                await ws.send("hello")
                print(await ws.recv(), "after", visits, "visits")
                return
            except fastws.ConnectionClosed as error:
                print("lost:", error)


asyncio.run(main())
