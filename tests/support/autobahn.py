"""The cases of the Autobahn test suite, restated: an echo of ours, and its far end.

The echo runs on a loop in a thread of its own, as server or client, by callbacks or
coroutines. The far end is made of bytes (``tests.support.rawws``) and stands where the
suite would: it says what a case says, and takes exactly what is right in answer.
"""

import asyncio
import contextlib
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import pytest

from fastws import _backend
from fastws.ws.connect import connect
from fastws.ws.open import open_websocket
from fastws.ws.serve import serve
from fastws.ws.server import serve_callbacks
from tests.support.echoing import Echo, echo
from tests.support.rawws import (
    CLOSE,
    CONT,
    PING,
    PONG,
    Answer,
    Reader,
    answer_101,
    frame,
    request,
)
from tests.support.servers import LOOPS
from tests.support.timing import LONG, UNIT

SUBJECTS = (
    "server-callbacks",
    "server-coroutines",
    "client-callbacks",
    "client-coroutines",
)
NAMED: dict[str, str] = {}
"""The test of each case that was seen so far."""


def cases(values: Mapping[str, Any], slow: tuple[str, ...] = ()) -> Any:
    """Run a test for each case: ``case`` is its value, its number the test's name.

    Args:
        values: by the number of the suite's case.
        slow: those that take long, or much memory.
    """

    def decorate(test: Callable[..., Any]) -> Any:
        where = f"{test.__module__.rpartition('.')[2]}.py::{test.__name__}"
        for number in values:
            assert number not in NAMED, f"{number} twice"
            NAMED[number] = where
        params = [
            pytest.param(
                value, id=number, marks=[pytest.mark.slow] if number in slow else []
            )
            for number, value in values.items()
        ]
        return pytest.mark.parametrize("case", params)(test)

    return decorate


def numbered(prefix: str, values: Any) -> dict[str, Any]:
    """``values`` as the cases ``prefix.1``, ``prefix.2`` and so on."""
    return {f"{prefix}.{number}": value for number, value in enumerate(values, 1)}


class Message(NamedTuple):
    """A whole message that came."""

    opcode: int
    payload: bytes
    rsv: int = 0


class Control(NamedTuple):
    """A control frame that came."""

    opcode: int
    payload: bytes


class Peer(Reader):
    """The far end of the echo.

    Args:
        sock: connected, after the opening handshake.
        is_client: the echo is a server.

    Attributes:
        opening: the head of the echo's request or answer.
    """

    def __init__(self, sock: socket.socket, is_client: bool) -> None:
        super().__init__(sock)
        self.is_client = is_client
        self.key = b"\x37\xfa\x21\x3d" if is_client else None
        self.opening: Answer = Answer(0, {}, "")

    def frame(self, *_: Any) -> Any:
        """One frame; masked exactly if a client sent it, in as few bytes as can be."""
        got = super().frame()
        assert got.masked is not self.is_client
        if got.opcode >= CLOSE:
            assert got.fin
            assert len(got.payload) <= 125
        return got

    def wire(self, opcode: int, payload: bytes = b"", **how: Any) -> bytes:
        """One frame of ours, as bytes."""
        return frame(opcode, payload, key=self.key, **how)

    def send(
        self, opcode: int, payload: bytes = b"", *, chop: int = 0, **how: Any
    ) -> None:
        """Send one frame, in writes of ``chop`` bytes each if given."""
        self.write(self.wire(opcode, payload, **how), chop)

    def write(self, data: bytes, chop: int = 0) -> None:
        """Send bytes as they are; an echo that has failed may be gone by then."""
        step = chop or len(data)
        with contextlib.suppress(ConnectionError):
            for at in range(0, len(data), step):
                self.sock.sendall(data[at : at + step])

    def fragments(self, opcode: int, payload: bytes, size: int) -> bytes:
        """A message in frames of ``size`` bytes, as bytes."""
        pieces = [payload[at : at + size] for at in range(0, len(payload), size)]
        last = len(pieces) - 1
        return b"".join(
            self.wire(CONT if number else opcode, piece, fin=number == last)
            for number, piece in enumerate(pieces)
        )

    def event(self) -> Message | Control:
        """The next whole message or control frame."""
        first = self.frame()
        if first.opcode >= CLOSE:
            return Control(first.opcode, first.payload)
        payload, got = first.payload, first
        while not got.fin:
            got = self.frame()
            assert got.opcode == CONT
            payload += got.payload
        return Message(first.opcode, payload, first.rsv)

    def gets(self, *expected: Message | Control) -> None:
        """Exactly these come next."""
        for event in expected:
            assert self.event() == event

    def is_quiet(self) -> bool:
        """Nothing comes for a moment."""
        return not select.select([self.sock], [], [], UNIT / 2)[0]

    def is_alive(self) -> bool:
        """A ping is answered, with nothing before the pong."""
        self.send(PING, b"alive?")
        return self.event() == Control(PONG, b"alive?")

    def closes(self, payload: bytes = b"\x03\xe8", reply: bytes | None = None) -> None:
        """We close, and it answers: with ``reply``, or the same code."""
        self.send(CLOSE, payload)
        self.gets(Control(CLOSE, payload[:2] if reply is None else reply))
        self.ends()

    def fails(self, code: int) -> None:
        """It closes with this code, and takes nothing more."""
        event = self.event()
        assert event.opcode == CLOSE
        assert struct.unpack("!H", event.payload[:2]) == (code,)
        event.payload[2:].decode()
        self.ends()

    def ends(self) -> None:
        """TCP ends, the server first (RFC 6455 section 7.1.1), without a reset."""
        if not self.is_client:
            self.sock.shutdown(socket.SHUT_WR)
        assert self.at_end()


class Subject:
    """An echo of ours, running.

    Args:
        name: one of ``SUBJECTS``.
        options: of its server or client.
    """

    def __init__(self, name: str, **options: Any) -> None:
        role, _, self.api = name.partition("-")
        self.is_server = role == "server"
        self.options = options
        pure = "asyncio" if _backend.BACKEND == "python" else "uvloop"
        self.loop = LOOPS.get(pure, asyncio.new_event_loop)()
        self.tasks: list[Any] = []

    def __enter__(self) -> "Subject":
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        if self.is_server:
            self.server = self.run(self._start())
            self.port = int(self.server.addresses[0].rpartition(":")[2])
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_server:
            self.run(self._stop())
        for task in self.tasks:
            task.result(LONG)
        self.loop.call_soon_threadsafe(self.loop.stop)

    def run(self, main: Any) -> Any:
        """Run a coroutine on the subject's loop."""
        return asyncio.run_coroutine_threadsafe(main, self.loop).result(LONG)

    async def _start(self) -> Any:
        if self.api == "coroutines":
            return await serve(echo, "127.0.0.1", 0, **self.options)
        server = serve_callbacks(lambda _: Echo(), "127.0.0.1:0", **self.options)
        server.start()
        return server

    async def _stop(self) -> None:
        self.server.close()
        await self.server.wait_closed()

    async def _connect(self, url: str) -> None:
        if self.api == "callbacks":
            await open_websocket(url, Echo(), **self.options)
            return
        async with connect(url, **self.options) as ws:
            await echo(ws)

    @contextlib.contextmanager
    def peer(self, extensions: Any = None) -> Iterator[Peer]:
        """A far end, after the opening handshake.

        Args:
            extensions: what a client offers; of a server, what makes the answer of an
                offer.
        """
        if self.is_server:
            with socket.create_connection(("127.0.0.1", self.port)) as sock:
                sock.settimeout(LONG)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                yield self._ask(sock, extensions)
            return
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(LONG)
            url = f"ws://127.0.0.1:{listener.getsockname()[1]}/"
            task = asyncio.run_coroutine_threadsafe(self._connect(url), self.loop)
            self.tasks.append(task)
            sock, _ = listener.accept()
            with sock:
                sock.settimeout(LONG)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                yield self._answer(sock, extensions)

    def _ask(self, sock: socket.socket, extensions: str | None) -> Peer:
        sock.sendall(request("/", Sec_WebSocket_Extensions=extensions))
        peer = Peer(sock, is_client=True)
        peer.opening = peer.head()
        assert peer.opening.status == 101
        return peer

    def _answer(self, sock: socket.socket, extensions: Any) -> Peer:
        peer = Peer(sock, is_client=False)
        peer.opening = peer.head()
        fields = peer.opening.fields
        more = []
        if extensions is not None:
            answer = extensions(fields["sec-websocket-extensions"])
            more.append(f"Sec-WebSocket-Extensions: {answer}")
        sock.sendall(answer_101(fields["sec-websocket-key"], *more))
        return peer


def subjects(*names: str, **options: Any) -> Any:
    """A fixture: each of these echoes in turn, one for the tests of a module."""

    @pytest.fixture(scope="module", params=names or SUBJECTS)
    def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
        with Subject(request.param, **options) as running:
            yield running

    return subject
