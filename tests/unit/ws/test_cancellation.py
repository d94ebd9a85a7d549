"""Cancelled at any await, nothing is left: no task, socket, message or warning."""

import asyncio
import contextlib
import gc
import itertools
import threading
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from fastws.net import dial, proxy
from fastws.net.resolve import Resolver
from fastws.ws.connect import connect
from fastws.ws.heads import Request, Response
from fastws.ws.serve import Server, ServerConnection, serve
from tests.support.certs import certs, plain_client_context, plain_server_context
from tests.support.coroutines import echo, pair, serving, stay
from tests.support.names import answer
from tests.support.proxies import ConnectProxy, SocksProxy
from tests.support.servers import (
    black_hole,
    both_loops,
    closing,
    eventually,
    open_sockets,
    run_on,
    silent,
    tcp_server,
)
from tests.support.timing import LONG, SHORT

# -- at every await, one after the other -------------------------------------------


class CancelAt:
    """Awaits something, and has its own task cancelled where it waits the n-th time.

    Attributes:
        reached: it has waited so often.
    """

    def __init__(self, work: Awaitable[Any], count: int) -> None:
        self._work = work
        self._left = count
        self.reached = False

    def __await__(self) -> Generator[Any, Any, Any]:
        task = asyncio.current_task()
        assert task is not None
        waits = self._work.__await__()
        value: Any = None
        failure: BaseException | None = None
        while True:
            try:
                found = waits.send(value) if failure is None else waits.throw(failure)
            except StopIteration as end:
                return end.value
            if self._left == 0:
                self.reached = True
                asyncio.get_running_loop().call_soon(task.cancel)
            self._left -= 1
            value, failure = None, None
            try:
                value = yield found
            except BaseException as exc:
                failure = exc


async def fragments() -> AsyncIterator[bytes]:
    for _ in range(2):
        await asyncio.sleep(0)
        yield bytes(100)


async def talk(url: str, options: dict[str, Any]) -> None:
    """Everything that a client does, once."""
    async with connect(url, **options) as ws:
        await ws.send("hello")
        assert await ws.recv() == "hello"
        await (await ws.ping())
        await ws.send(fragments())
        parts = [part async for part in ws.recv_streaming()]
        assert b"".join(parts) == bytes(200)  # type: ignore[arg-type]
        await ws.send(bytes(3 << 20))  # more than the kernel takes
        assert len(await anext(ws)) == 3 << 20
        await ws.close()
        await ws.wait_closed()


@contextlib.contextmanager
def way_of(kind: str, server: Server, path: Path) -> Iterator[tuple[str, Any]]:
    """URL and arguments of one way to ``server``."""
    port = 0 if kind == "unix" else server.sockets[0].getsockname()[1]
    options: dict[str, Any] = {"max_queue": 1, "write_limit": 1000}
    if kind.startswith("wss"):
        options["ssl"] = plain_client_context()
    if kind == "ws":
        yield f"ws://127.0.0.1:{port}/", options
    elif kind == "wss":
        yield f"wss://127.0.0.1:{port}/", options
    elif kind == "names":
        yield f"ws://two.example:{port}/", options
    elif kind == "unix":
        yield "ws://localhost/", {**options, "unix": path}
    else:
        scheme, _, hop = kind.partition(" ")
        tls = plain_server_context(certs().server) if hop == "https" else None
        make = SocksProxy if hop == "socks5h" else ConnectProxy
        with make(port, tls=tls) as through:
            options["proxy"] = f"{hop}://localhost:{through.port}"
            yield f"{scheme}://localhost:{port}/", options


KINDS = ["ws", "wss", "names", "unix", "ws http", "wss http", "ws https", "wss https"]
KINDS += ["ws socks5h"]


@both_loops
@pytest.mark.parametrize("kind", KINDS)
def test_client_cancelled_at_each_await(
    loop_name: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def addresses(*_: Any, **__: Any) -> Any:
        return answer("127.0.0.2", "127.0.0.1")  # nobody listens on the first

    resolver = Resolver(getaddrinfo=addresses)
    if kind == "names":
        monkeypatch.setattr(dial, "resolve", resolver.resolve)
    monkeypatch.setattr(proxy, "client_context", lambda **_: plain_client_context())

    async def main() -> None:
        tls = plain_server_context(certs().server) if kind.startswith("wss") else None
        host = (f"unix:{tmp_path / 's'}",) if kind == "unix" else ("127.0.0.1", 0)
        async with serve(echo, *host, ssl=tls) as server:
            with way_of(kind, server, tmp_path / "s") as (url, options):
                await talk(url, options)
                for count in itertools.count():
                    if not await cancelled_at(count, talk(url, options), server):
                        break
                assert count > 5

    watch(loop_name, main())


async def cancelled_at(count: int, work: Any, server: Server) -> bool:
    """Cancel ``work`` at its await of that number; ``False``: it has not so many."""
    await eventually(lambda: not server.all_connections)
    before = len(open_sockets())
    step = CancelAt(work, count)
    task = asyncio.ensure_future(_run(step))
    try:
        async with asyncio.timeout(SHORT):
            await asyncio.wait({task})
    except TimeoutError:
        pytest.fail(f"hangs when it is cancelled at await {count}")
    if not step.reached:
        await task
        return False
    assert task.cancelled(), f"goes on although it was cancelled at await {count}"
    await eventually(lambda: not server.all_connections)
    await eventually(lambda: len(open_sockets()) <= before)
    return True


async def _run(step: CancelAt) -> Any:
    return await step


def watch(loop_name: str, main: Any) -> None:
    """``run_on``, and no warning: not of a forgotten coroutine, socket or transport."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run_on(loop_name, main)
        gc.collect()
    assert [str(warning.message) for warning in caught] == []


# -- where something else has to hang ----------------------------------------------


async def cancel(work: Awaitable[Any], waits: Callable[[], Any] = lambda: True) -> None:
    """Start ``work``, wait until ``waits()``, and cancel it."""

    async def run() -> None:
        await work

    task = asyncio.create_task(run())
    for _ in range(3):
        await asyncio.sleep(0)
    await eventually(waits)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(SHORT):
            await task


@both_loops
def test_cancelled_while_a_name_is_resolved(
    loop_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, release = threading.Event(), threading.Event()

    def hang(*_: Any, **__: Any) -> Any:
        asked.set()
        release.wait(LONG)
        return answer("127.0.0.1")

    monkeypatch.setattr(dial, "resolve", Resolver(getaddrinfo=hang).resolve)

    async def main() -> None:
        try:
            await cancel(connect("ws://a.example:1/"), asked.is_set)
        finally:
            release.set()

    watch(loop_name, main())


@both_loops
@pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
@pytest.mark.parametrize("several", [False, True], ids=["address", "addresses"])
def test_cancelled_while_nothing_answers(
    loop_name: str, secure: bool, several: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def addresses(*_: Any, **__: Any) -> Any:
        return answer(*(["127.0.0.1"] * 3))

    monkeypatch.setattr(dial, "resolve", Resolver(getaddrinfo=addresses).resolve)

    async def main() -> None:
        port, socks = black_hole()
        with closing(*socks):
            before = len(open_sockets())
            host = "three.example" if several else "127.0.0.1"
            scheme = "wss" if secure else "ws"
            await cancel(
                connect(f"{scheme}://{host}:{port}/"),
                lambda: len(open_sockets()) > before,
            )
            await eventually(lambda: len(open_sockets()) <= before)

    watch(loop_name, main())


SILENT = {
    "upgrade": ("ws://localhost/", b"", {}),
    "tls": ("wss://localhost/", b"", {}),
    "body": ("ws://localhost/", b"HTTP/1.1 404 No\r\nContent-Length: 9\r\n\r\n", {}),
    "http proxy": ("ws://a.example/", b"", {"proxy": "http://127.0.0.1:{}"}),
    "https proxy": ("ws://a.example/", b"", {"proxy": "https://127.0.0.1:{}"}),
    "socks proxy": ("ws://a.example/", b"", {"proxy": "socks5h://127.0.0.1:{}"}),
    "socks request": ("ws://a.example/", b"\5\0", {"proxy": "socks5h://127.0.0.1:{}"}),
    "tls in a tunnel": (
        "wss://a.example/",
        b"HTTP/1.1 200 OK\r\n\r\n",
        {"proxy": "http://127.0.0.1:{}"},
    ),
}


@both_loops
@pytest.mark.parametrize("stage", SILENT)
def test_cancelled_while_a_server_says_nothing_more(loop_name: str, stage: str) -> None:
    url, said, options = SILENT[stage]

    async def main() -> None:
        heard, ended = asyncio.Event(), asyncio.Event()

        async def handle(reader: asyncio.StreamReader, writer: Any) -> None:
            await reader.read(1)
            writer.write(said)
            heard.set()
            with contextlib.suppress(ConnectionError):
                await silent(reader, writer)
            ended.set()

        async with tcp_server(handle) as port:
            given = {name: value.format(port) for name, value in options.items()}
            if not given:
                given = {"host": "127.0.0.1", "port": port}  # type: ignore[dict-item]
            await cancel(connect(url, **given), heard.is_set)
            async with asyncio.timeout(SHORT):
                await ended.wait()

    watch(loop_name, main())


@both_loops
def test_cancelled_between_two_attempts(loop_name: str) -> None:
    async def main() -> None:
        asked: list[float] = []

        def delays() -> Iterator[float]:
            asked.append(LONG)
            yield LONG

        def refuse(ws: ServerConnection, request: Request) -> Response:
            return ws.respond(503, "later")

        async def client(url: str) -> None:
            async for _ in connect(url, reconnect_delays=delays):
                pytest.fail("opened")

        async with serving(stay, process_request=refuse) as (server, url):
            await cancel(client(url), lambda: asked)
            await eventually(lambda: not server._below.listener.active)

    watch(loop_name, main())


@both_loops
def test_cancelled_within_a_loop_of_connections(loop_name: str) -> None:
    async def main() -> None:
        inside = asyncio.Event()

        async def client(url: str) -> None:
            async for ws in connect(url):
                inside.set()
                await ws.recv()

        async with serving(stay) as (server, url):
            await cancel(client(url), inside.is_set)
            await eventually(lambda: not server.all_connections)

    watch(loop_name, main())


@both_loops
@pytest.mark.parametrize("hook", ["process_request", "process_response"])
def test_hooks_of_a_client_that_went_away_are_cancelled(
    loop_name: str, hook: str
) -> None:
    async def main() -> None:
        asked, ended = asyncio.Event(), asyncio.Event()

        async def hang(*_: Any) -> None:
            asked.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        hooks: Any = {hook: hang}
        async with serving(stay, **hooks) as (server, url):
            await cancel(connect(url), asked.is_set)
            # Nothing is read while a hook runs: the server's end shows it.
            server.close()
            async with asyncio.timeout(SHORT):
                await ended.wait()
            assert not server.all_connections

    watch(loop_name, main())


CALLS: dict[str, Callable[[Any], Awaitable[Any]]] = {
    "recv": lambda ws: ws.recv(),
    "recv_streaming": lambda ws: anext(ws.recv_streaming()),
    "iteration": lambda ws: anext(ws),
    "wait_closed": lambda ws: ws.wait_closed(),
    "close": lambda ws: ws.close(),
    "pong": lambda ws: pong_of(ws),
    "send": lambda ws: ws.send(bytes(15 << 20)),
    "send fragments": lambda ws: ws.send([bytes(15 << 20), b"end"]),
}


async def pong_of(ws: Any) -> None:
    await (await ws.ping())


@both_loops
@pytest.mark.parametrize("call", CALLS)
def test_calls_of_a_connection_whose_peer_is_silent(loop_name: str, call: str) -> None:
    async def main() -> None:
        async with pair(write_limit=1000) as (client, server):
            server._ws.pause_reading()
            await cancel(CALLS[call](client))
            assert client._getter is None
            server._ws.resume_reading()
            if call in ("close", "send fragments"):
                await client.wait_closed()  # both go on to the end by themselves
                return
            if call == "send":
                assert await server.recv() == bytes(15 << 20)
            await client.send("alive")
            assert await server.recv() == "alive"
            await server.send("and well")
            assert await client.recv() == "and well"
            assert not client._pings  # its pong came all the same

    watch(loop_name, main())


@both_loops
def test_servers_that_are_cancelled(loop_name: str) -> None:
    async def main() -> None:
        for call in ("serve_forever", "wait_closed"):
            server = await serve(stay, "127.0.0.1", 0)
            ws = await connect(f"ws://{server.addresses[0]}/")
            await eventually(lambda s=server: s.connections)
            await cancel(getattr(server, call)())
            assert server.is_serving() is (call == "wait_closed")
            server.close()
            await server.wait_closed()
            await ws.wait_closed()

    watch(loop_name, main())
