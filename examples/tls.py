"""wss with an authority of one's own: ``python tls.py SERVER.pem CA.pem``.

SERVER.pem holds key and certificate for localhost, CA.pem the authority that signed it.
"""

import asyncio
import ssl
import sys

import fastws


async def greet(ws):
    await ws.send(f"hello over {ws.transport.get_extra_info('cipher')[1]}")


async def main(server_pem, ca_pem):
    ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ours.load_cert_chain(server_pem)
    theirs = ssl.create_default_context(cafile=ca_pem)  # trusts nobody else
    async with fastws.serve(greet, "127.0.0.1", 0, ssl=ours) as server:
        port = server.addresses[0].rpartition(":")[2]
        url = f"wss://localhost:{port}/"
        async with fastws.connect(url, ssl=theirs) as ws:
            print(await ws.recv())
        try:
            await fastws.connect(url)  # the system's authorities do not know it
        except fastws.DialError as error:
            print("refused:", str(error).partition(": ")[2])


asyncio.run(main(*sys.argv[1:]))
