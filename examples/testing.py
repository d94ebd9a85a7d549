"""Tests of a handler: no port, no waiting, and faults when the test wants them."""

import asyncio

import fastws
from fastws.testing import link_of, pair, serving


async def adder(ws):
    """What is tested: adds up the numbers that come."""
    total = 0
    async for message in ws:
        total += int(message)
        await ws.send(str(total))


async def test_adds_up():
    async with serving(adder) as ws:
        for number, total in (("1", "1"), ("2", "3"), ("-4", "-1")):
            await ws.send(number)
            assert await ws.recv() == total


async def test_what_is_no_number_fails():
    try:
        async with serving(adder) as ws:
            await ws.send("one")
            await ws.wait_closed()
    except ValueError as error:  # of the handler
        print("handler:", error)


async def test_lost_connection():
    async with pair() as (client, server):
        link_of(client).drop()
        try:
            await server.recv()
        except fastws.ConnectionClosedError:
            print("server: closed with", server.close_code)


async def main():  # pytest-asyncio does this for you
    for test in (test_adds_up, test_what_is_no_number_fails, test_lost_connection):
        await test()
        print("passed:", test.__name__)


asyncio.run(main())
