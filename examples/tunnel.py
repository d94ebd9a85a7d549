"""``fastws stw`` and ``fastws wts`` within a program: TCP, WebSocket, TCP."""

import asyncio

import fastws


async def service(reader, writer):
    """Some TCP program that cannot be changed; it answers when its input ends."""
    text = await reader.read()
    writer.write(text.upper())
    await writer.drain()
    writer.close()


async def main():
    behind = await asyncio.start_server(service, "127.0.0.1", 0)
    port = behind.sockets[0].getsockname()[1]
    wts = fastws.WsToTcp(listen="127.0.0.1:0", target=f"127.0.0.1:{port}")
    async with fastws.app.start(wts) as (far,):
        url = f"ws://{far.endpoints[0]}/"
        stw = fastws.TcpToWs(listen="127.0.0.1:0", upstream=url)
        async with fastws.app.start(stw) as (near,):
            host, _, port = near.endpoints[0].rpartition(":")
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(b"half-close passes through")
            writer.write_eof()
            print((await reader.read()).decode())
            writer.close()
    print(near.stats.bytes_in, "bytes in,", near.stats.bytes_out, "bytes out")
    behind.close()


asyncio.run(main())
