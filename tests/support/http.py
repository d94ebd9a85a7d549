"""A forward proxy's HTTP side on loopback, with scripted clients and origins."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

from fastws.exceptions import DialError
from fastws.net.copy import copy_bidirectional
from fastws.net.dial import Dialer
from fastws.net.stream import ByteStream, Hold, Kind, kind_of
from fastws.proxy.http import DEFAULTS, Connect, HttpProxy, HttpSettings, serve_http
from fastws.proxy.visit import ProxyOptions
from tests.support.servers import eventually
from tests.support.timing import SHORT

GET = b"GET http://a.test/x?y HTTP/1.1\r\nHost: a.test\r\n\r\n"
GET_UP = b"GET /x?y HTTP/1.1\r\nHost: a.test\r\n\r\n"
POST = b"POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc"
POST_UP = POST.replace(b"http://a.test", b"", 1)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"

Script = Callable[["Talk"], Awaitable[None]]


class Talk:
    """One connection of a scripted peer; every wait has a limit."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await asyncio.wait_for(self.writer.drain(), SHORT)

    async def expect(self, data: bytes) -> None:
        """Exactly these bytes come next; more may follow."""
        try:
            got = await asyncio.wait_for(self.reader.readexactly(len(data)), SHORT)
        except asyncio.IncompleteReadError as error:
            got = error.partial
        assert got == data

    async def head(self) -> bytes:
        """The next head, whatever it is."""
        return await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), SHORT)

    async def rest(self) -> bytes:
        """What comes before EOF."""
        return await asyncio.wait_for(self.reader.read(), SHORT)

    async def is_reset(self) -> bool:
        """Whether a reset comes next, and no EOF."""
        try:
            await self.rest()
        except ConnectionResetError:
            return True
        return False

    def finish(self) -> None:
        self.writer.write_eof()

    def reset(self) -> None:
        """End it by a reset, unless the other side was first."""
        if self.writer.transport.is_closing():
            return
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SO_LINGER: on, 0 s
        self.writer.transport.abort()


class Origins:
    """Scripted servers behind made-up names, and the way to them: an ``Outgoing``.

    Attributes:
        opened: where connections went, in order.
        errors: what scripts failed with.
        failures: by host, what opening it raises.
    """

    def __init__(self) -> None:
        self.opened: list[tuple[str, int]] = []
        self.errors: list[BaseException] = []
        self.failures: dict[str, DialError] = {}
        self._scripts: dict[str, list[Script]] = {}
        self._ports: dict[str, int] = {}
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[Any]] = set()

    async def add(self, host: str, *scripts: Script) -> int:
        """Serve the first connection to ``host`` with the first script, and so on."""
        left = self._scripts[host] = list(scripts)

        async def serve(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            try:
                assert left, f"one connection too many to {host}"
                await left.pop(0)(Talk(reader, writer))
            except Exception as error:
                self.errors.append(error)
            finally:
                writer.close()
                self._tasks.discard(task)

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        self._servers.append(server)
        self._ports[host] = server.sockets[0].getsockname()[1]
        return self._ports[host]

    async def open(self, host: str, port: int, via: str = "") -> ByteStream:
        self.opened.append((host, port))
        if host in self.failures:
            raise self.failures[host]
        address = ("127.0.0.1", self._ports[host])
        return await Dialer(address).dial()

    async def close(self) -> None:
        for server in self._servers:
            server.close()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=SHORT)
        assert not self._tasks, "a script did not end"
        assert self.errors == []


class Log:
    """A ``Visit`` that remembers."""

    def __init__(self) -> None:
        self.joined: list[str] = []
        self.refused: list[str] = []
        self.levels: list[int] = []
        self.done: list[tuple[str, int, int]] = []

    async def join(
        self, down: ByteStream, up: ByteStream, what: str, ident: str = ""
    ) -> None:
        self.joined.append(what)
        await copy_bidirectional(down, up)

    def refuse(
        self, reason: str, level: int = logging.WARNING, status: int | None = None
    ) -> None:
        self.refused.append(reason)
        self.levels.append(level)

    def served(self, what: str, bytes_in: int, bytes_out: int, ident: str = "") -> None:
        self.done.append((what, bytes_in, bytes_out))


class Proxy:
    """Serves each connection by ``serve_http``.

    Attributes:
        log: of all connections.
        origins: where requests go.
        connects: CONNECTs handed back, not answered.
        running: the connections that are being served.
    """

    def __init__(
        self, origins: Origins, options: ProxyOptions, settings: HttpSettings
    ) -> None:
        self.log = Log()
        self.origins = origins
        self.connects: asyncio.Queue[Connect] = asyncio.Queue()
        self._options = options
        self.running: set[HttpProxy] = set()
        self._settings = replace(settings, connections=self.running)
        self._tasks: set[asyncio.Task[None]] = set()
        self.clients: list[Talk] = []
        self._server: asyncio.Server | None = None

    @property
    def active(self) -> int:
        """Connections that are being served."""
        return len(self._tasks)

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._make, "127.0.0.1", 0)

    def _make(self) -> Hold:
        proxy = self

        class Arrived(Hold):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                super().connection_made(transport)
                task = asyncio.get_running_loop().create_task(proxy._serve(self))
                proxy._tasks.add(task)
                task.add_done_callback(proxy._tasks.discard)

        return Arrived()

    async def _serve(self, hold: Hold) -> None:
        transport = hold.transport
        assert transport is not None
        kind = kind_of(transport)
        assert kind in (Kind.TCP, Kind.TLS)
        connect = await serve_http(
            ByteStream(transport, kind, hold),
            self.origins,
            self._options,
            self.log,
            settings=self._settings,
        )
        if connect is not None:
            self.connects.put_nowait(connect)

    async def client(self) -> Talk:
        assert self._server is not None
        address = self._server.sockets[0].getsockname()
        talk = Talk(*await asyncio.open_connection(*address[:2]))
        self.clients.append(talk)
        return talk

    def cancel(self) -> None:
        """Cancel whatever serves a connection."""
        for task in self._tasks:
            task.cancel()

    async def close(self) -> None:
        """All connections end by themselves once their clients have gone."""
        assert self._server is not None
        self._server.close()
        for client in self.clients:
            client.writer.transport.abort()
        await eventually(lambda: not self._tasks)


@contextlib.asynccontextmanager
async def proxy(
    *, options: ProxyOptions | None = None, settings: HttpSettings = DEFAULTS
) -> AsyncIterator[Proxy]:
    """A proxy whose origins a test adds."""
    serving = Proxy(Origins(), options or ProxyOptions(), settings)
    await serving.open()
    try:
        yield serving
    finally:
        await serving.close()
        await serving.origins.close()


@contextlib.asynccontextmanager
async def before(script: Script) -> AsyncIterator[tuple[Proxy, Talk]]:
    """A proxy before the origin ``a.test``, and a client of it."""
    async with proxy() as serving:
        await serving.origins.add("a.test", script)
        yield serving, await serving.client()


def answering(*exchanges: tuple[bytes, bytes]) -> Script:
    """An origin that expects each request and sends each answer, then waits for EOF."""

    async def script(talk: Talk) -> None:
        for request, answer in exchanges:
            await talk.expect(request)
            await talk.send(answer)
        with contextlib.suppress(ConnectionError):
            assert await talk.rest() == b""

    return script


async def converse(request: bytes, up: bytes, reply: bytes, answer: bytes) -> None:
    """One request to ``a.test``, each side exactly as given."""
    async with before(answering((up, reply))) as (_, client):
        await client.send(request)
        await client.expect(answer)


async def refused(client: Talk) -> bytes:
    """The status line of an answer that ends the connection, and its body."""
    answer = await client.rest()
    return answer.partition(b"\r\n")[0] + b" | " + answer.rpartition(b"\r\n\r\n")[2]
