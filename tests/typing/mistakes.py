"""What type checkers have to refuse: each line that ends in ``# wrong``."""

import fastws


async def client() -> None:
    fastws.connect(5)  # wrong
    fastws.connect("ws://h/", extensions=[])  # wrong
    fastws.connect("ws://h/", open_timeout="5")  # wrong
    fastws.connect("ws://h/", max_size="1MiB")  # wrong
    fastws.connect("ws://h/", proxy=False)  # wrong
    fastws.connect("ws://h/", subprotocols=[1])  # wrong
    with fastws.connect("ws://h/"):  # wrong
        pass


async def connection(ws: fastws.ClientConnection) -> None:
    await ws.send(5)  # wrong
    await ws.send([1])  # wrong
    text: str = await ws.recv()  # wrong
    data: bytes = await ws.recv(decode=True)  # wrong
    await ws.close("bye")  # wrong
    for _ in ws:  # wrong
        pass
    print(ws.username)  # wrong
    print(text, data)


def no_coroutine(ws: fastws.ServerConnection) -> None:
    ws.respond("no", 404)  # wrong


async def handler(ws: fastws.ServerConnection) -> None:
    pass


def wrong_hook(ws: fastws.ServerConnection) -> None:
    pass


fastws.serve(no_coroutine, "127.0.0.1", 0)  # wrong
fastws.serve(handler, "127.0.0.1", "0")  # wrong
fastws.serve(handler, "127.0.0.1", 0, process_request=wrong_hook)  # wrong
fastws.serve(handler, "127.0.0.1", 0, compress="deflate")  # wrong
fastws.broadcast([], ["a"])  # wrong
fastws.basic_auth(credentials="user:password")  # wrong
fastws.FrameDecoder("server")  # wrong
fastws.FrameDecoder(fastws.Side.SERVER).receive_data("text")  # wrong


async def streams() -> None:
    fastws.open_stream("ws://h/", compression="deflate")  # wrong
    fastws.open_stream("ws://h/", linger="5s")  # wrong
    stream = await fastws.open_stream("ws://h/", on_eof="close")
    stream.write("text")  # wrong
    await fastws.copy_bidirectional(stream, 5)  # wrong
    await fastws.open_transport("ws://h/", handler)  # wrong
    fastws.serve_streams(handler, "127.0.0.1", 0)  # wrong
    fastws.forward("ws://h/", name=5)  # wrong
