"""A WebSocket as a byte stream, joined with a TCP connection by one call."""

import asyncio

import fastws


async def count(stream):
    """The server's side: reads to the end, then answers."""
    size = 0
    while data := await stream.read(65536):
        size += len(data)
    stream.write(b"%d bytes" % size)


async def main():
    async with fastws.serve_streams(count, "127.0.0.1:0") as server:
        url = f"ws://{server.addresses[0]}/"

        async def gateway(reader, writer):
            """Each TCP connection becomes a WebSocket; what stw does."""
            stream = await fastws.open_stream(url)
            await fastws.copy_bidirectional((reader, writer), stream)

        tcp = await asyncio.start_server(gateway, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*tcp.sockets[0].getsockname())
        writer.write(bytes(10_000_000))
        writer.write_eof()
        print((await reader.read()).decode())
        writer.close()
        tcp.close()


asyncio.run(main())
