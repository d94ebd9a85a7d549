"""Both event loops with leak checks, and small servers on port 0."""

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Any

import pytest

from fastws.exceptions import DialError
from fastws.net.bind import bind_tcp
from fastws.net.dial import Dialer
from fastws.net.listen import Listener
from tests.support.timing import LONG, SHORT, UNIT

try:
    import uvloop
except ImportError:  # Windows
    LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
        "asyncio": asyncio.new_event_loop
    }
else:
    LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}

# asyncio's own servers say this in debug mode when a TLS client leaves.
_STOCK_SERVER = "Error on transport creation for incoming connection"

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

WHOLE = 4 * LONG
"""Seconds that a test on a loop has: one of the processor can take 20 and more."""

both_loops = pytest.mark.parametrize("loop_name", list(LOOPS))
"""Runs a test on each loop; the test takes ``loop_name``."""


_bound: list[socket.socket] = []
"""The ports of ``free_port``."""


def open_sockets() -> set[str]:
    """What ``/proc`` calls this process's sockets; empty where there is none."""
    found, bound = set(), {str(sock.fileno()) for sock in _bound}
    with contextlib.suppress(OSError):
        for fd in set(os.listdir("/proc/self/fd")) - bound:
            with contextlib.suppress(OSError):
                target = os.readlink(f"/proc/self/fd/{fd}")
                if target.startswith("socket:"):
                    found.add(target)
    return found


async def _watched(main: Coroutine[Any, Any, Any]) -> tuple[Any, set[str]]:
    """The result, and the sockets and tasks left once closing had its time."""
    before = open_sockets()
    result = await asyncio.wait_for(main, WHOLE)
    deadline = asyncio.get_running_loop().time() + SHORT
    while True:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        left = {repr(task) for task in tasks} | (open_sockets() - before)
        if not left or asyncio.get_running_loop().time() > deadline:
            return result, left
        await asyncio.sleep(UNIT / 10)


def run_on(loop_name: str, main: Coroutine[Any, Any, Any]) -> Any:
    """Run ``main`` on the loop of that name and return its result.

    Fails if it takes longer than ``WHOLE``, if the loop's exception handler was called,
    or if a task or a socket is left afterwards.
    """
    errors: list[dict[str, Any]] = []
    with asyncio.Runner(loop_factory=LOOPS[loop_name]) as runner:
        loop = runner.get_loop()
        loop.set_exception_handler(lambda _, context: errors.append(context))
        result, left = runner.run(_watched(main))
    assert [error for error in errors if error["message"] != _STOCK_SERVER] == []
    assert not left
    return result


async def eventually(check: Callable[[], Any], timeout: float = SHORT) -> Any:
    """Wait until ``check()`` is true and return its value; fail after ``timeout``."""
    deadline = asyncio.get_running_loop().time() + timeout
    while not (value := check()):
        assert asyncio.get_running_loop().time() < deadline, "nothing happened"
        await asyncio.sleep(UNIT / 50)
    return value


@contextlib.asynccontextmanager
async def tcp_server(
    serve: Serve, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """A TCP server that runs ``serve`` for each connection; yields its port."""

    async def handle(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            await serve(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # the test looks at what its own side saw
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(handle, host, 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back what comes, until EOF."""
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say nothing; end when the peer does."""
    while await reader.read(65536):
        pass


def black_hole() -> tuple[int, list[socket.socket]]:
    """A port that answers nothing: its backlog is full, so SYNs are dropped (Linux).

    Returns:
        The port, and the sockets to close afterwards.
    """
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    socks = [listener]
    for _ in range(4):
        sock = socket.socket()
        sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            sock.connect(listener.getsockname())
        socks.append(sock)
    return listener.getsockname()[1], socks


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens, unless told its number.

    It stays bound for the rest of the run, so that the system gives it to nobody
    else; servers that set SO_REUSEADDR before they bind, as all do, can have it.
    """
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    _bound.append(sock)
    return int(sock.getsockname()[1])


@contextlib.contextmanager
def closing(*socks: socket.socket) -> Iterator[None]:
    """Close all of them at the end."""
    try:
        yield
    finally:
        for sock in socks:
            sock.close()


def listen(handler: Any, **options: Any) -> tuple[Listener, int]:
    """A started listener on a port of 127.0.0.1."""
    listener = Listener(bind_tcp(["127.0.0.1"], 0), handler, **options)
    listener.start()
    return listener, int(listener.addresses[0].rpartition(":")[2])


async def connect(port: int, **options: Any) -> Any:
    """Reader and writer of a connection to 127.0.0.1."""
    return await asyncio.wait_for(
        asyncio.open_connection("127.0.0.1", port, **options), SHORT
    )


async def greet(transport: Any, _: object) -> None:
    """A handler that says hi and closes."""
    transport.write(b"hi")
    await eventually(lambda: transport.get_write_buffer_size() == 0)
    transport.resume_reading()  # aiofastnet's close() hears nothing while paused
    transport.close()


class Held:
    """A handler that keeps every connection until it is let go."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, Any]] = []
        self.let_go = asyncio.Event()

    async def __call__(self, transport: Any, protocol: Any) -> None:
        self.seen.append((transport, protocol))
        await self.let_go.wait()
        transport.abort()


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the logger of fastws.net said."""
    return [r.getMessage() for r in caplog.records if r.name == "fastws.net"]


async def failure(dialer: Dialer) -> DialError:
    """The error of a dial that must fail."""
    with pytest.raises(DialError) as caught:
        await dialer.dial()
    return caught.value
