"""Standard input and output of every kind as one transport; descriptors taken over."""

import asyncio
import errno
import os
import pty
import socket
import threading
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fastws.exceptions import ListenError
from fastws.net import descriptors, stdio
from fastws.net.copy import copy_bidirectional
from fastws.net.ends import CopyOptions
from fastws.net.stdio import StdioTransport
from fastws.net.stream import ByteStream, Hold, Kind, kind_of
from tests.support.servers import both_loops, eventually, run_on
from tests.support.timing import LONG, SHORT, UNIT

SMALL = b"a line of text\n" * 50
BIG = bytes(range(256)) * 4096  # 1 MiB


class Recorder(asyncio.Protocol):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.data = b""
        self.eofs = 0
        self.lost: list[Exception | None] = []
        self.pauses: list[str] = []
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data

    def eof_received(self) -> bool:
        self.eofs += 1
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)

    def pause_writing(self) -> None:
        self.pauses.append("pause")

    def resume_writing(self) -> None:
        self.pauses.append("resume")


class Far:
    """The other side of one descriptor, driven by a thread.

    Attributes:
        fd: what the transport takes.
        got: what came out, once joined.
    """

    def __init__(self, kind: str, tmp_path: Path, data: bytes | None = None) -> None:
        self.kind = kind
        self.got = b""
        self._path = tmp_path / f"file-{data is None}"
        writes = data is None
        self._job: Callable[[], None] = lambda: None
        if kind == "file":
            self._path.write_bytes(data or b"old")
            flags = os.O_WRONLY | os.O_APPEND if writes else os.O_RDONLY
            self.fd = os.open(self._path, flags)
        elif kind == "null":
            self.fd = os.open(os.devnull, os.O_RDWR)
        else:
            self.fd, far = self._pair(kind, writes)
            self._job = lambda: self._drain(far) if writes else self._fill(far, data)
        self._thread = threading.Thread(target=self._job, daemon=True)
        self._thread.start()

    @staticmethod
    def _pair(kind: str, writes: bool) -> tuple[int, int]:
        if kind == "pipe":
            read, write = os.pipe()
            return (write, read) if writes else (read, write)
        if kind == "socket":
            ours, theirs = socket.socketpair()
            return ours.detach(), theirs.detach()
        master, slave = pty.openpty()
        if writes:
            tty.setraw(slave)
        return slave, master

    def _fill(self, fd: int, data: bytes | None) -> None:
        rest = memoryview(data or b"")
        if self.kind == "terminal":  # a line at a time, as typed; then Ctrl-D
            for line in bytes(rest).splitlines(keepends=True):
                os.write(fd, line)
            os.write(fd, b"\x04")
            return
        while rest:
            rest = rest[os.write(fd, rest) :]
        os.close(fd)

    def _drain(self, fd: int) -> None:
        try:
            while chunk := os.read(fd, 65536):
                self.got += chunk
        except OSError as exc:
            if exc.errno != errno.EIO:  # of a terminal that is gone
                raise
        os.close(fd)

    async def output(self) -> bytes:
        """All that was written, once the far side has seen its end."""
        await asyncio.to_thread(self._thread.join, SHORT)
        assert not self._thread.is_alive(), "the far side saw no end"
        if self.kind == "file":
            return self._path.read_bytes().removeprefix(b"old")
        return self.got


async def opened(source: int, sink: int) -> tuple[StdioTransport, Recorder]:
    recorder = Recorder()
    transport = StdioTransport(recorder)
    await transport.open(source, sink)
    assert recorder.transport is transport
    return transport, recorder


KINDS = ["pipe", "socket", "terminal", "file"]


@both_loops
@pytest.mark.parametrize("kind", KINDS)
def test_input_of_every_kind(loop_name: str, kind: str, tmp_path: Path) -> None:
    async def main() -> None:
        data = SMALL if kind == "terminal" else BIG
        far = Far(kind, tmp_path, data)
        transport, recorder = await opened(far.fd, os.open(os.devnull, os.O_WRONLY))
        await asyncio.sleep(UNIT / 4)
        assert not transport.is_reading()  # until asked for
        assert not recorder.eofs
        transport.resume_reading()
        assert transport.is_reading()
        await eventually(lambda: recorder.eofs, LONG)
        assert recorder.data == data
        assert recorder.lost == []
        transport.close()
        await eventually(lambda: recorder.lost)
        assert recorder.lost == [None]
        assert recorder.eofs == 1

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize("kind", KINDS)
def test_output_of_every_kind(loop_name: str, kind: str, tmp_path: Path) -> None:
    """Everything is out before the transport is lost; then the far side has EOF."""

    async def main() -> None:
        far = Far(kind, tmp_path)
        read, write = os.pipe()
        transport, recorder = await opened(read, far.fd)
        transport.set_write_buffer_limits(high=0)
        transport.write(memoryview(bytearray(BIG)))
        transport.write_eof()
        if kind != "file":
            assert await far.output() == BIG
        assert recorder.lost == []  # input is still open
        with pytest.raises(RuntimeError):
            transport.write(b"more")
        os.close(write)
        transport.resume_reading()
        await eventually(lambda: recorder.eofs)
        transport.close()
        await eventually(lambda: recorder.lost)
        assert recorder.lost == [None]
        assert await far.output() == BIG
        assert transport.get_write_buffer_size() == 0

    run_on(loop_name, main())


@both_loops
def test_null_on_both_sides(loop_name: str, tmp_path: Path) -> None:
    async def main() -> None:
        source, sink = Far("null", tmp_path, b""), Far("null", tmp_path)
        transport, recorder = await opened(source.fd, sink.fd)
        transport.resume_reading()
        await eventually(lambda: recorder.eofs)
        assert recorder.data == b""
        transport.write(b"into nothing")
        transport.close()
        await eventually(lambda: recorder.lost)
        assert recorder.lost == [None]

    run_on(loop_name, main())


@both_loops
def test_slow_reader_pauses_and_resumes(loop_name: str) -> None:
    async def main() -> None:
        source, feed = os.pipe()
        out, sink = os.pipe()
        transport, recorder = await opened(source, sink)
        transport.set_write_buffer_limits(high=0)
        data = bytearray(BIG)
        transport.write(memoryview(data))
        assert recorder.pauses == ["pause"]
        assert transport.get_write_buffer_size() > 0
        got = b""
        while len(got) < len(data):
            got += await asyncio.to_thread(os.read, out, 65536)
        await eventually(lambda: recorder.pauses == ["pause", "resume"])
        assert got == data
        assert transport.get_write_buffer_size() == 0
        transport.abort()
        await eventually(lambda: recorder.lost)
        os.close(out)
        os.close(feed)

    run_on(loop_name, main())


@both_loops
def test_reader_that_left_matters_when_there_is_something_to_write(
    loop_name: str,
) -> None:
    async def main() -> None:
        source, feed = os.pipe()
        out, sink = os.pipe()
        transport, recorder = await opened(source, sink)
        transport.resume_reading()
        os.close(out)
        os.write(feed, b"still read")
        await eventually(lambda: recorder.data)
        assert recorder.lost == []
        transport.write(b"x")
        await eventually(lambda: recorder.lost)
        assert isinstance(recorder.lost[0], BrokenPipeError)
        assert transport.is_closing()
        os.close(feed)

    run_on(loop_name, main())


@both_loops
def test_reader_that_left_is_no_error_at_the_end(loop_name: str) -> None:
    async def main() -> None:
        source, feed = os.pipe()
        out, sink = os.pipe()
        transport, recorder = await opened(source, sink)
        transport.resume_reading()
        os.close(out)
        await asyncio.sleep(UNIT / 4)
        transport.write_eof()
        os.close(feed)
        await eventually(lambda: recorder.eofs)
        transport.close()
        await eventually(lambda: recorder.lost)
        assert recorder.lost == [None]

    run_on(loop_name, main())


@both_loops
def test_directory_as_input_is_an_error_and_no_end(
    loop_name: str, tmp_path: Path
) -> None:
    async def main() -> None:
        fd = os.open(tmp_path, os.O_RDONLY)
        transport, recorder = await opened(fd, os.open(os.devnull, os.O_WRONLY))
        transport.resume_reading()
        await eventually(lambda: recorder.lost)
        (error,) = recorder.lost
        assert isinstance(error, IsADirectoryError)
        assert recorder.eofs == 0

    run_on(loop_name, main())


@both_loops
def test_full_disk_is_an_error(loop_name: str) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")

    async def main() -> None:
        source, feed = os.pipe()
        transport, recorder = await opened(source, os.open("/dev/full", os.O_WRONLY))
        transport.write(b"x")
        await eventually(lambda: recorder.lost)
        (error,) = recorder.lost
        assert isinstance(error, OSError)
        assert error.errno == errno.ENOSPC
        os.close(feed)

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize("kind", ["pipe", "socket", "terminal"])
def test_blocking_mode_is_as_before(
    loop_name: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever shares the descriptor finds it blocking at the end; pipes always."""

    async def main(reopens: bool) -> None:
        fd, far = Far._pair(kind, True)
        shared = os.dup(fd)
        source, feed = os.pipe()
        transport, recorder = await opened(source, fd)
        assert os.get_blocking(shared) is (reopens and kind != "socket")
        transport.abort()
        await eventually(lambda: recorder.lost)
        assert os.get_blocking(shared)
        for one in (shared, far, feed):
            os.close(one)

    run_on(loop_name, main(True))
    monkeypatch.setattr(stdio, "reopen", lambda fd, flags: fd)
    run_on(loop_name, main(False))


@both_loops
def test_taken_descriptor_is_null_and_ours_ends_it(loop_name: str) -> None:
    async def main() -> None:
        read, write = os.pipe()
        kept = descriptors.take(write)
        os.write(write, b"printed by accident")
        transport, recorder = await opened(os.open(os.devnull, os.O_RDONLY), kept)
        transport.write(b"meant")
        transport.write_eof()
        data = await asyncio.to_thread(os.read, read, 100)
        assert data == b"meant"
        assert await asyncio.to_thread(os.read, read, 100) == b""
        transport.close()
        await eventually(lambda: recorder.lost)
        for fd in (read, write):
            os.close(fd)

    run_on(loop_name, main())


def test_closed_descriptor_is_named() -> None:
    fd = os.open(os.devnull, os.O_RDONLY)
    os.close(fd)
    with pytest.raises(ListenError, match=f"descriptor {fd}: is closed"):
        descriptors.take(fd)


# inetd


@pytest.fixture
def free_fd() -> Iterator[int]:
    """A number to put descriptors on."""
    fd = os.open(os.devnull, os.O_RDWR)
    yield fd
    os.close(fd)


def test_take_a_connected_socket(free_fd: int) -> None:
    ours, theirs = socket.socketpair()
    os.dup2(ours.fileno(), free_fd)
    ours.close()
    with descriptors.take_socket(free_fd) as sock, theirs:
        theirs.sendall(b"x")
        assert sock.recv(1) == b"x"
        assert sock.gettimeout() == 0
        assert not descriptors.is_same(free_fd, sock.fileno())


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: os.open(os.devnull, os.O_RDONLY), "descriptor 0 is no socket"),
        (
            lambda: socket.create_server(("127.0.0.1", 0)).detach(),
            "descriptor 0 is not connected; fd:0 takes a listening socket",
        ),
        (
            lambda: socket.socketpair(type=socket.SOCK_DGRAM)[0].detach(),
            "descriptor 0 is",
        ),
    ],
)
def test_refuse_what_is_no_connection(
    free_fd: int, make: Callable[[], int], text: str
) -> None:
    fd = make()
    os.dup2(fd, free_fd)
    os.close(fd)
    with pytest.raises(ListenError, match=text):
        descriptors.take_socket(free_fd)


# in a copy


@both_loops
def test_copy_between_stdio_and_a_socket(loop_name: str) -> None:
    """The pump runs it as any other end: bytes and ends both ways."""

    async def main() -> None:
        source, feed = os.pipe()
        out, sink = os.pipe()
        hold = Hold()
        transport = StdioTransport(hold)
        await transport.open(source, sink)
        assert kind_of(transport) is Kind.STDIO
        left = ByteStream(transport, kind_of(transport), hold)
        ours, theirs = socket.socketpair()
        loop = asyncio.get_running_loop()
        socked, other = await loop.connect_accepted_socket(Hold, ours)
        right = ByteStream(socked, Kind.UNIX, other)
        options = CopyOptions(linger=UNIT, ping=0)
        task = asyncio.create_task(copy_bidirectional(left, right, options))
        theirs.setblocking(False)
        os.write(feed, b"question")
        os.close(feed)
        assert await loop.sock_recv(theirs, 100) == b"question"
        assert await loop.sock_recv(theirs, 100) == b""
        send = asyncio.create_task(loop.sock_sendall(theirs, BIG))
        got = b""
        while len(got) < len(BIG):
            got += await asyncio.to_thread(os.read, out, 65536)
        await send
        assert got == BIG
        theirs.close()
        assert await asyncio.to_thread(os.read, out, 10) == b""
        assert await asyncio.wait_for(task, LONG) == (8, len(BIG), "closed", True)
        os.close(out)

    run_on(loop_name, main())
