"""The fastest echo: one object for each connection, no task and no copy."""

import asyncio

import fastws


class Echo:
    def on_open(self, ws):
        self.ws = ws

    def on_message(self, payload, opcode, final):
        self.ws.send(payload, opcode)

    def on_close(self, code, reason):
        print("closed with", code)


async def main():
    async with (
        fastws.serve_callbacks(lambda opening: Echo(), "127.0.0.1:0") as server,
        fastws.connect(f"ws://{server.addresses[0]}/") as ws,
    ):
        for number in range(1000):
            await ws.send(f"message {number}")
        answers = [await ws.recv() for _ in range(1000)]
        print(len(answers), "answers, the last:", answers[-1])


asyncio.run(main())
