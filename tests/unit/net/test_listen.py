"""Accepting: limits, exhaustion, TLS, failing handlers, closing."""

import asyncio
import errno
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fastws.net import listen as module
from fastws.net.listen import Listener, bind_tcp, bind_unix
from fastws.net.stream import Hold
from fastws.net.tls import server_context
from tests.support.certs import certs, plain_client_context
from tests.support.servers import (
    Held,
    both_loops,
    connect,
    eventually,
    greet,
    listen,
    messages,
    run_on,
)
from tests.support.timing import LONG, SHORT, UNIT

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="Linux behaviour")
unix_only = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="unix sockets")


@both_loops
def test_handler_gets_transport_and_protocol(loop_name: str) -> None:
    async def main() -> None:
        held = Held()
        listener, port = listen(held)
        _, writer = await connect(port)
        await eventually(lambda: held.seen)
        transport, hold = held.seen[0]
        assert isinstance(hold, Hold)
        assert hold.transport is transport
        assert (listener.active, listener.accepted) == (1, 1)
        assert repr(listener) == f"<Listener 127.0.0.1:{port} active=1>"
        held.let_go.set()
        listener.close()
        assert await listener.wait_idle(SHORT)
        writer.transport.abort()

    run_on(loop_name, main())


@both_loops
def test_client_that_speaks_first_is_heard(loop_name: str) -> None:
    async def main() -> None:
        held = Held()
        listener, port = listen(held)
        _, writer = await connect(port)
        writer.write(b"first")
        await eventually(lambda: held.seen)
        transport, hold = held.seen[0]
        transport.resume_reading()
        await eventually(lambda: hold.leftover == b"first")
        held.let_go.set()
        listener.close()
        await listener.wait_idle()
        writer.transport.abort()

    run_on(loop_name, main())


@both_loops
def test_own_protocol(loop_name: str) -> None:
    class Echo(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.transport.write(data)

    async def main() -> None:
        held = Held()
        listener, port = listen(held, protocol_factory=Echo)
        reader, writer = await connect(port)
        writer.write(b"again")
        assert await asyncio.wait_for(reader.readexactly(5), SHORT) == b"again"
        assert isinstance(held.seen[0][1], Echo)
        held.let_go.set()
        listener.close()
        await listener.wait_idle()
        writer.transport.abort()

    run_on(loop_name, main())


@both_loops
def test_more_than_one_batch(loop_name: str) -> None:
    async def main() -> None:
        listener, port = listen(greet)
        pairs = await asyncio.gather(*(connect(port) for _ in range(150)))
        for reader, writer in pairs:
            assert await asyncio.wait_for(reader.read(), SHORT) == b"hi"
            writer.transport.abort()
        assert listener.accepted == 150
        assert await listener.wait_idle(SHORT)
        listener.close()

    run_on(loop_name, main())


@linux_only
@both_loops
def test_accepted_sockets_inherit_the_options(loop_name: str) -> None:
    async def main() -> None:
        held = Held()
        listener, port = listen(held, tcp_user_timeout=2.0)
        _, writer = await connect(port)
        await eventually(lambda: held.seen)
        sock = held.seen[0][0].get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        level = socket.IPPROTO_TCP
        assert sock.getsockopt(level, socket.TCP_USER_TIMEOUT) == 2000
        held.let_go.set()
        listener.close()
        await listener.wait_idle()
        writer.transport.abort()

    run_on(loop_name, main())


@unix_only
@both_loops
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_unix_socket(loop_name: str, tls: bool, tmp_path: Path) -> None:
    path = str(tmp_path / "a.sock")

    async def main() -> None:
        context = server_context(certs().server) if tls else None
        listener = Listener([bind_unix(path)], greet, tls=context)
        listener.start()
        assert listener.addresses == [f"unix:{path}"]
        options: dict[str, Any] = {}
        if tls:
            options = {"ssl": plain_client_context(), "server_hostname": "localhost"}
        reader, writer = await asyncio.open_unix_connection(path, **options)
        assert await asyncio.wait_for(reader.read(), SHORT) == b"hi"
        writer.transport.abort()
        listener.close()
        await listener.wait_idle()
        assert not os.path.exists(path)

    run_on(loop_name, main())


@both_loops
def test_transport_left_open_is_aborted(loop_name: str) -> None:
    async def leave(*_: object) -> None:
        return

    async def main() -> None:
        listener, port = listen(leave)
        reader, writer = await connect(port)
        assert await asyncio.wait_for(reader.read(), SHORT) == b""
        writer.transport.abort()
        listener.close()

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize(
    ("error", "level", "text"),
    [
        (ConnectionResetError(104, "Reset"), "WARNING", "[Errno 104] Reset"),
        (KeyError("bug"), "ERROR", "KeyError: 'bug'"),
    ],
    ids=["peer", "bug"],
)
def test_failing_handler_costs_one_line(
    loop_name: str,
    error: Exception,
    level: str,
    text: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail(*_: object) -> None:
        raise error

    async def main() -> None:
        listener, port = listen(fail)
        reader, writer = await connect(port)
        assert await asyncio.wait_for(reader.read(), SHORT) == b""
        writer.transport.abort()
        await listener.wait_idle()
        listener.close()

    with caplog.at_level(logging.INFO, "fastws.net"):
        run_on(loop_name, main())
    assert messages(caplog) == [f"connection failed: {text}"]
    assert [record.levelname for record in caplog.records] == [level]
    assert caplog.records[0].exc_info in (None, False)


@both_loops
def test_abort_cancels_every_connection(loop_name: str) -> None:
    cancelled = []

    async def wait(*_: object) -> None:
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            cancelled.append(1)
            raise

    async def main() -> None:
        listener, port = listen(wait)
        pairs = [await connect(port) for _ in range(3)]
        await eventually(lambda: listener.active == 3)
        listener.close()
        assert not await listener.wait_idle(UNIT / 10)
        await listener.abort()
        assert listener.active == 0
        for reader, writer in pairs:
            assert await asyncio.wait_for(reader.read(), SHORT) == b""
            writer.transport.abort()

    run_on(loop_name, main())
    assert cancelled == [1, 1, 1]


@both_loops
def test_close_refuses_new_and_keeps_old(loop_name: str) -> None:
    async def main() -> None:
        held = Held()
        listener, port = listen(held)
        _, writer = await connect(port)
        await eventually(lambda: listener.active)
        assert not listener.is_closed
        listener.close()
        listener.close()
        assert listener.is_closed
        with pytest.raises(ConnectionRefusedError):
            await connect(port)
        assert listener.active == 1
        assert not held.seen[0][0].is_closing()
        held.let_go.set()
        assert await listener.wait_idle(SHORT)
        writer.transport.abort()

    run_on(loop_name, main())


@both_loops
def test_full_listener_waits_for_room(
    loop_name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "ACCEPT_PAUSE", LONG)  # only an end makes room

    async def main() -> None:
        held = Held()
        listener, port = listen(held, max_connections=2)
        pairs = [await connect(port) for _ in range(4)]  # two of them in the backlog
        await eventually(lambda: messages(caplog))
        assert listener.active == 2
        held.let_go.set()
        await eventually(lambda: listener.accepted == 4)
        assert await listener.wait_idle(SHORT)
        listener.close()
        for _, writer in pairs:
            writer.transport.abort()

    with caplog.at_level(logging.INFO, "fastws.net"):
        run_on(loop_name, main())
    assert len(caplog.records) == 1
    assert messages(caplog)[0].endswith(
        ": accepting pauses: all 2 connections are in use"
    )


@both_loops
def test_overflow_is_accepted_to_be_turned_away(loop_name: str) -> None:
    async def main() -> None:
        held = Held()
        listener, port = listen(held, max_connections=1, overflow=2)
        pairs = [await connect(port) for _ in range(4)]
        await eventually(lambda: listener.active == 3)
        assert listener.accepted == 3
        held.let_go.set()
        await eventually(lambda: listener.accepted == 4)
        await listener.wait_idle()
        listener.close()
        for _, writer in pairs:
            writer.transport.abort()

    run_on(loop_name, main())


class Exhausted(socket.socket):
    """A listening socket whose ``_accept`` fails as often as ``errors`` says."""

    errors: list[int]
    calls = 0

    def _accept(self) -> Any:
        self.calls += 1
        if self.errors:
            raise OSError(self.errors.pop(0), "no")
        return super()._accept()


def exhausted(errors: Sequence[int]) -> Exhausted:
    (sock,) = bind_tcp(["127.0.0.1"], 0)
    fake = Exhausted(fileno=sock.detach())
    fake.setblocking(False)
    fake.errors = list(errors)
    return fake


@both_loops
@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS])
def test_exhaustion_pauses_without_spinning(
    loop_name: str,
    error: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(module, "ACCEPT_PAUSE", UNIT)

    async def main() -> None:
        sock = exhausted([error, error])
        listener = Listener([sock], greet)
        listener.start()
        started = asyncio.get_running_loop().time()
        reader, writer = await asyncio.open_connection(*sock.getsockname())
        assert await asyncio.wait_for(reader.read(), SHORT) == b"hi"
        waited = asyncio.get_running_loop().time() - started
        assert waited >= 1.95 * UNIT  # uvloop's clock ticks in milliseconds
        assert sock.calls in (3, 4)  # twice in vain, once well, perhaps an empty one
        writer.transport.abort()
        listener.close()
        await listener.wait_idle()

    with caplog.at_level(logging.INFO, "fastws.net"):
        run_on(loop_name, main())
    (text,) = messages(caplog)  # not one a second
    assert text.endswith(f": accepting pauses: {os.strerror(error).lower()}")


@both_loops
def test_aborted_connection_pauses_nothing(
    loop_name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "ACCEPT_PAUSE", 10 * LONG)

    async def main() -> None:
        sock = exhausted([errno.ECONNABORTED])
        listener = Listener([sock], greet)
        listener.start()
        reader, writer = await asyncio.open_connection(*sock.getsockname())
        assert await asyncio.wait_for(reader.read(), SHORT) == b"hi"
        writer.transport.abort()
        listener.close()
        await listener.wait_idle()

    run_on(loop_name, main())
    assert messages(caplog) == []


@both_loops
def test_close_while_pausing(loop_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ACCEPT_PAUSE", UNIT / 10)

    async def main() -> None:
        sock = exhausted([errno.EMFILE])
        listener = Listener([sock], greet)
        listener.start()
        with socket.create_connection(sock.getsockname()):
            await eventually(lambda: sock.calls)
            listener.close()
            await asyncio.sleep(UNIT / 5)  # nothing wakes up afterwards

    run_on(loop_name, main())


EMFILE_SCRIPT = """
import asyncio, os, resource, socket, sys, time
from fastws.net.listen import Listener, bind_tcp

async def greet(transport, protocol):
    transport.write(b"hi")
    await asyncio.sleep(0)
    transport.close()

async def main():
    listener = Listener(bind_tcp(["127.0.0.1"], 0), greet)
    listener.start()
    client = socket.socket()
    client.setblocking(False)
    soft = len(os.listdir("/proc/self/fd")) + 8
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, soft))
    taken = []
    try:
        while True:
            taken.append(os.dup(0))
    except OSError:
        pass
    name = ("127.0.0.1", int(listener.addresses[0].rpartition(":")[2]))
    client.connect_ex(name)
    before = time.process_time()
    await asyncio.sleep(0.5)
    used = time.process_time() - before
    assert listener.accepted == 0, "accepted without a descriptor"
    assert used < 0.1, f"burnt {used} s of CPU"
    for fd in taken:
        os.close(fd)
    data = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 9), 10)
    print(data)
    listener.close()
    client.close()

if sys.argv[1] == "uvloop":
    import uvloop
    uvloop.run(main())
else:
    asyncio.run(main())
"""


@linux_only
@both_loops
def test_real_descriptor_limit(loop_name: str) -> None:
    out = subprocess.run(
        [sys.executable, "-c", EMFILE_SCRIPT, loop_name],
        check=False,
        capture_output=True,
        text=True,
        timeout=2 * LONG,
    )
    assert out.stdout == "b'hi'\n", out.stderr
    assert out.stderr.count("too many open files") == 1
    assert "Traceback" not in out.stderr


@both_loops
def test_connection_gone_before_it_is_accepted(loop_name: str) -> None:
    async def main() -> None:
        (sock,) = bind_tcp(["127.0.0.1"], 0)
        socket.create_connection(sock.getsockname()).close()
        gone = socket.create_connection(sock.getsockname())
        gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        gone.close()
        listener = Listener([sock], greet)
        listener.start()
        await eventually(lambda: listener.accepted == 2)
        assert await listener.wait_idle(SHORT)
        listener.close()

    run_on(loop_name, main())
