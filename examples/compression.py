"""permessage-deflate: off by default, and for those who ask for it."""

import asyncio
import json

import fastws

RECORDS = json.dumps([{"name": f"sensor {n}", "value": n} for n in range(5000)])


async def send_records(ws):
    await ws.send(RECORDS)


async def main():
    serve = fastws.serve(send_records, "127.0.0.1", 0, compression="deflate")
    async with serve as server:
        url = f"ws://{server.addresses[0]}/"
        async with fastws.connect(url) as ws:
            print("agreed:", ws.response.headers.get("Sec-WebSocket-Extensions"))
            print(len(await ws.recv()), "characters")
        small = fastws.Deflate(server_no_context_takeover=True, level=9)
        async with fastws.connect(url, compression=small) as ws:
            agreed = ws.response.headers["Sec-WebSocket-Extensions"]
            print("agreed:", agreed.partition(";")[0])
            print(len(await ws.recv()), "characters")
        # What a message unpacks to counts, so that no small one fills the memory.
        async with fastws.connect(url, compression=small, max_size=1000) as ws:
            try:
                await ws.recv()
            except fastws.ConnectionClosedError as error:
                print("closed with", error.sent.code)


asyncio.run(main())
