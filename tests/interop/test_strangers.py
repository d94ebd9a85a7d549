"""How connections end beside libraries and programs that are no fastws.

Their close codes, resets and half-closes as the TCP side sees them, and its ends as
they see them; the bytes before are counted and hashed.
"""

import asyncio
import contextlib
import hashlib
import random
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import aiohttp
import pytest
from aiohttp import web
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as ws_connect
from websockets.sync.server import ServerConnection
from websockets.sync.server import serve as ws_serve
from websockify.websocket import (
    WebSocket,
    WebSocketWantReadError,
    WebSocketWantWriteError,
)

from tests.support.cli import Fastws, eventually, stw, wts
from tests.support.programs import program, running
from tests.support.servers import free_port
from tests.support.services import (
    Handler,
    Switch,
    answer_late,
    connect,
    digest_of,
    ends_with_reset,
    read_exactly,
    read_to_end,
    reset,
)
from tests.support.timing import LONG, UNIT, units

pytestmark = pytest.mark.interop

DATA = random.Random(61).randbytes(4 << 20)
BLOCK = 64 << 10


class Heard(NamedTuple):
    """What a client was told."""

    data: bytes
    code: int | None


# Clients of wts: say something, close with a code or wait for the other side


def websockets_client(url: str, say: bytes, end: int | None) -> Heard:
    data = b""
    with ws_connect(url, compression=None, max_size=None) as ws:
        ws.send(say)
        if end is not None:
            ws.close(end)
        with contextlib.suppress(ConnectionClosed):
            while True:
                data += ws.recv(LONG, decode=False)
    return Heard(data, ws.close_code)


def aiohttp_client(url: str, say: bytes, end: int | None) -> Heard:
    async def talk() -> Heard:
        data = b""
        async with aiohttp.ClientSession() as session:
            async with session.ws_connect(url, max_msg_size=0) as ws:
                await ws.send_bytes(say)
                if end is not None:
                    await ws.close(code=end)
                while (got := await ws.receive(LONG)).type is aiohttp.WSMsgType.BINARY:
                    data += got.data
        return Heard(data, ws.close_code)

    return asyncio.run(talk())


def insist(call: Callable[..., object], *arguments: Any) -> None:
    """Call until everything is with the kernel."""
    while True:
        try:
            call(*arguments)
        except WebSocketWantWriteError:
            continue
        return


def websockify_client(url: str, say: bytes, end: int | None) -> Heard:
    """It knows a shutdown that goes on reading."""
    ws, data = WebSocket(), b""
    ws.connect(url, protocols=["binary"])
    ws.settimeout(LONG)
    for start in range(0, len(say), BLOCK):
        insist(ws.send, say[start : start + BLOCK])
    if end is not None:
        insist(ws.shutdown, socket.SHUT_WR, end)
    while True:
        with contextlib.suppress(WebSocketWantReadError):
            got = ws.recv()
            if got is None:
                return Heard(data, ws.close_code)
            data += got


CLIENTS = {
    "websockets": websockets_client,
    "aiohttp": aiohttp_client,
    "websockify": websockify_client,
}
every_client = pytest.mark.parametrize("name", CLIENTS)


def send_data(sock: Any) -> None:
    """A service: when asked, all of DATA."""
    assert read_exactly(sock, 2) == b"go"
    sock.sendall(DATA)


@every_client
def test_end_of_the_target_is_1000(far: Fastws, switch: Switch, name: str) -> None:
    switch.next = send_data
    heard = CLIENTS[name](far.url, b"go", None)
    assert heard.code == 1000
    assert len(heard.data) == len(DATA)
    assert heard.data == DATA


@every_client
def test_reset_of_the_target_is_1011(far: Fastws, switch: Switch, name: str) -> None:
    def cut(sock: Any) -> None:
        sock.sendall(b"bye")
        read_exactly(sock, 2)
        reset(sock)

    switch.next = cut
    assert CLIENTS[name](far.url, b"go", None) == (b"bye", 1011)


@every_client
@pytest.mark.parametrize(
    ("code", "is_reset"), [(1000, False), (1001, False), (1011, True), (4000, True)]
)
def test_close_is_the_end_of_the_target(
    far: Fastws, switch: Switch, name: str, code: int, is_reset: bool
) -> None:
    def watch(sock: Any) -> None:
        ends.append((read_exactly(sock, 10), ends_with_reset(sock)))

    ends: list[tuple[bytes, bool]] = []
    switch.next = watch
    CLIENTS[name](far.url, b"last words", code)
    assert eventually(lambda: ends) == [(b"last words", is_reset)]


def test_half_close_of_websockify_is_answered(far: Fastws, switch: Switch) -> None:
    """Its Close comes first, then the target's answer to all it sent, then ours."""
    switch.next = answer_late
    digest = hashlib.sha256(DATA).hexdigest()
    heard = websockify_client(far.url, DATA, 1000)
    assert heard == (f"{len(DATA)} {digest}\n".encode(), 1000)


def test_half_close_of_websocat_is_answered(far: Fastws, switch: Switch) -> None:
    switch.next = answer_late
    done = subprocess.run(
        [program("websocat"), "-b", "-", far.url],
        input=DATA,
        capture_output=True,
        timeout=LONG,
        check=True,
    )
    digest = hashlib.sha256(DATA).hexdigest()
    assert done.stdout == f"{len(DATA)} {digest}\n".encode()


def test_greeting_of_the_target_read_by_curl(switch: Switch) -> None:
    """curl of 8.11 or newer knows ws://; it shows the Close, and does not answer it."""
    curl = program("curl")
    version = subprocess.run([curl, "--version"], capture_output=True, check=True)
    if b" ws " not in version.stdout:
        pytest.skip("this curl is built without ws://")
    switch.next = lambda sock: sock.sendall(b"welcome")
    with wts(switch.port, "--linger", units(2)) as far:
        command = [curl, "-sSN", "--max-time", f"{LONG:g}", far.url]
        done = subprocess.run(command, capture_output=True, timeout=2 * LONG)
    assert done.stdout.startswith(b"welcome")


# Servers of stw: the first message says what they shall do


def websockets_serve(ws: ServerConnection) -> None:
    command, number = ws.recv(LONG, decode=True).split()  # type: ignore[union-attr]
    if command == "late":
        time.sleep(float(number))
        ws.send(b"late answer")
        with contextlib.suppress(ConnectionClosed):
            ws.recv(LONG)
    else:
        ws.send(b"last words")
        ws.close(int(number), "so be it")


@contextlib.contextmanager
def websockets_server(codes: list[int | None]) -> Iterator[int]:
    def handle(ws: ServerConnection) -> None:
        websockets_serve(ws)
        codes.append(ws.close_code)

    with ws_serve(handle, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.socket.getsockname()[1]
        server.shutdown()
        thread.join(LONG)


@contextlib.contextmanager
def aiohttp_server(codes: list[int | None]) -> Iterator[int]:
    async def handle(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        command, number = (await ws.receive_bytes(timeout=LONG)).decode().split()
        if command == "late":
            await asyncio.sleep(float(number))
            await ws.send_bytes(b"late answer")
            await ws.receive(LONG)
        else:
            await ws.send_bytes(b"last words")
            await ws.close(code=int(number), message=b"so be it")
        codes.append(ws.close_code)
        return ws

    async def start() -> web.AppRunner:
        app = web.Application()
        app.router.add_get("/", handle)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner

    with asyncio.Runner() as runner:
        app = runner.run(start())
        loop = runner.get_loop()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        yield app.addresses[0][1]
        loop.call_soon_threadsafe(loop.stop)
        thread.join(LONG)
        runner.run(app.cleanup())


SERVERS: dict[str, Callable[..., Any]] = {
    "websockets": websockets_server,
    "aiohttp": aiohttp_server,
}


@pytest.mark.parametrize("name", SERVERS)
def test_close_of_a_server_is_the_end_of_the_client(name: str) -> None:
    codes: list[int | None] = []
    with SERVERS[name](codes) as port, stw(f"ws://127.0.0.1:{port}/") as near:
        for code, is_reset in ((1000, False), (1001, True), (1011, True), (4000, True)):
            with connect(near.port) as sock:
                sock.sendall(b"end %d" % code)
                assert read_exactly(sock, 10) == b"last words"
                assert ends_with_reset(sock) is is_reset, code
            assert eventually(lambda: codes) == [code]
            codes.clear()


def test_late_answers_of_servers_are_waited_for() -> None:
    """The Close 1000 comes after ``--linger`` of silence, not after our end."""
    codes: list[int | None] = []
    with contextlib.ExitStack() as stack:
        enter, socks = stack.enter_context, []
        for server in SERVERS.values():
            url = f"ws://127.0.0.1:{enter(server(codes))}/"
            near = enter(stw(url, "--linger", units(15)))
            socks.append(enter(connect(near.port)))
        for sock in socks:
            sock.sendall(b"late %f" % (2 * UNIT))
            sock.shutdown(socket.SHUT_WR)
        for sock in socks:
            assert read_to_end(sock) == b"late answer"
        assert eventually(lambda: len(codes) == 2)
    assert codes == [1000, 1000]


# Programs that stw reaches a service through


@pytest.fixture(scope="module", params=["websockify", "websocat"])
def relay(request: pytest.FixtureRequest, switch: Switch) -> Iterator[Fastws]:
    """stw in front of the program in front of the service."""
    port, target = free_port(), f"127.0.0.1:{switch.port}"
    command = [program(request.param), f"127.0.0.1:{port}", target]
    if request.param == "websocat":
        command = [command[0], "-b", f"ws-l:127.0.0.1:{port}", f"tcp:{target}"]
    with running(port, *command):
        options = ("--linger", units(15))
        with stw(f"ws://127.0.0.1:{port}/", *options) as process:
            yield process


def reached(relay: Fastws, switch: Switch, handle: Handler) -> socket.socket:
    switch.next = handle
    return connect(relay.port)


def test_download_through_a_program(relay: Fastws, switch: Switch) -> None:
    """No byte is lost before the service's end."""
    with reached(relay, switch, send_data) as sock:
        sock.sendall(b"go")
        assert read_exactly(sock, len(DATA)) == DATA
        assert read_to_end(sock) == b""


def test_upload_through_a_program_and_its_late_end(
    relay: Fastws, switch: Switch
) -> None:
    """Our half-close is held back, then it is the service's end of input."""

    def take(sock: Any) -> None:
        head = read_exactly(sock, len(DATA))
        time.sleep(2 * UNIT)
        sock.sendall(hashlib.sha256(head).digest())
        seen.append(digest_of(sock)[1])

    seen: list[int] = []
    with reached(relay, switch, take) as sock:
        sock.sendall(DATA)
        sock.shutdown(socket.SHUT_WR)
        assert read_to_end(sock) == hashlib.sha256(DATA).digest()
    assert eventually(lambda: seen) == [0]
