"""``fastws.Pool``: WebSockets that are kept open and lent to one task at a time."""

import asyncio

import fastws


async def shout(ws):
    async for message in ws:
        await ws.send(message.upper())


async def main():
    async with fastws.serve(shout, "127.0.0.1", 0) as server:
        url = f"ws://{server.addresses[0]}/"

        async def ask(number):
            # Who leaves the block gives the connection back; an error closes it.
            with await pool.acquire(timeout=5) as ws:
                await ws.send(f"message {number}")
                return await ws.recv()

        limits = fastws.PoolLimits(max_total=3, idle_time=30.0)
        async with fastws.Pool(
            lambda: fastws.connect(url),
            lambda ws: asyncio.create_task(ws.close()),
            limits,
            is_reusable=lambda ws: ws.state is fastws.State.OPEN,
        ) as pool:
            answers = await asyncio.gather(*map(ask, range(20)))
            print(len(answers), "answers, the last:", answers[-1])
            print(pool.stats.opened, "connections,", len(pool.idle), "idle")


asyncio.run(main())
