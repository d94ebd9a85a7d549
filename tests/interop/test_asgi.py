"""``fastws.asgi`` under real servers, beside stw, fastws.connect and websockets."""

import contextlib
import importlib.util
import json
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from websockets.exceptions import ConnectionClosedOK, InvalidStatus
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as ws_connect

import fastws
from tests.support.cli import clean_environment, eventually, stw
from tests.support.rawws import BINARY, CLOSE, exchange, upgraded
from tests.support.servers import both_loops, free_port, run_on
from tests.support.services import (
    Service,
    Switch,
    answer_late,
    connect,
    digest_of,
    echo,
    ends_with_reset,
    read_exactly,
    read_to_end,
    reset,
)
from tests.support.timing import LONG, UNIT

pytestmark = pytest.mark.interop

ROOT = Path(__file__).parent.parent.parent
PROGRAM = "tests.support.asgi_server"
SERVERS = (
    ("uvicorn-websockets-sansio", "starlette"),
    ("uvicorn-wsproto", "fastapi"),
    ("hypercorn", "fastapi"),
)
EVERY = (*SERVERS, ("uvicorn-wsproto", "none"), ("hypercorn", "none"))
ASK = b"GET %b HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
DATA = random.Random(7).randbytes(1 << 20)


class Running(NamedTuple):
    """A server in front of a service whose handler a test chooses."""

    name: str
    port: int
    service: Switch
    process: "subprocess.Popen[bytes]"

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/t/"

    @property
    def hides_codes(self) -> bool:
        """Whether the application is told 1006, whatever code a client sent."""
        return self.name == "hypercorn"


@contextlib.contextmanager
def serving(
    server: str, framework: str, log: Path, target: str, **options: Any
) -> Iterator[tuple[int, "subprocess.Popen[bytes]"]]:
    """A server that answers. Ends with status 0, and quietly."""
    for name in {server.partition("-")[0], framework} - {"none"}:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    with socket.create_server(("127.0.0.1", 0), backlog=100) as sock:
        port, fd = sock.getsockname()[1], str(sock.fileno())
        command = [sys.executable, "-m", PROGRAM, server, framework, fd, target]
        command.append(json.dumps(options))
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                env=clean_environment(PYTHONPATH=str(ROOT)),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[sock.fileno()],
            )
    try:
        assert exchange(port, ASK % b"/t/healthz")[1] == b"ok\n"  # once it is up
        yield port, process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(LONG)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    said = log.read_text("utf-8", "replace")
    # uvicorn ends as by the signal that asked for it
    assert process.returncode in (0, -signal.SIGTERM), said
    assert not re.search(r"fastws/(asgi|modes|net)", said), said  # in a traceback


@pytest.fixture(scope="module", params=SERVERS, ids="-".join)
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    server, framework = request.param
    log = tmp_path_factory.mktemp("asgi") / "log"
    with Switch(echo) as service:
        target = f"127.0.0.1:{service.port}"
        with serving(server, framework, log, target) as (port, process):
            yield Running(server, port, service, process)


@pytest.fixture
def tunnel(running: Running) -> Iterator[int]:
    """The port of a stw in front of it."""
    with stw(running.url) as process:
        yield process.port


def test_half_close_passes_from_stw(running: Running, tunnel: int) -> None:
    """The service speaks only when its input has ended, and all of it has come."""
    running.service.next = answer_late
    with connect(tunnel) as sock:
        sock.sendall(DATA)
        sock.shutdown(socket.SHUT_WR)
        answer = read_to_end(sock)
    assert str(len(DATA)).encode() in answer
    assert answer == late_answer(DATA)


def late_answer(data: bytes) -> bytes:
    """What ``answer_late`` says of it."""
    with Service(answer_late) as service, connect(service.port) as sock:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        return read_to_end(sock)


def test_end_of_the_service_leaves_the_other_direction_open(
    running: Running, tunnel: int
) -> None:
    digests = []
    done = threading.Event()

    def end_first(sock: Any) -> None:
        sock.sendall(b"bye")
        sock.shutdown(socket.SHUT_WR)
        digests.append(digest_of(sock)[1])
        done.set()

    running.service.next = end_first
    with connect(tunnel) as sock:
        assert read_to_end(sock) == b"bye"
        sock.sendall(DATA)
        sock.shutdown(socket.SHUT_WR)
        assert done.wait(LONG)
    assert digests == [len(DATA)]


def test_reset_of_the_service_reaches_the_client_of_stw(
    running: Running, tunnel: int
) -> None:
    def break_off(sock: Any) -> None:
        read_exactly(sock, 2)
        reset(sock)

    running.service.next = break_off
    with connect(tunnel) as sock:
        sock.sendall(b"go")
        assert ends_with_reset(sock)


def test_reset_of_the_client_of_stw_reaches_the_service(
    running: Running, tunnel: int
) -> None:
    ends: list[bool] = []

    def watch(sock: Any) -> None:
        sock.sendall(b"go")
        ends.append(ends_with_reset(sock))

    running.service.next = watch
    with connect(tunnel) as sock:
        assert read_exactly(sock, 2) == b"go"
        reset(sock)
    eventually(lambda: ends)
    assert ends == [True]


@both_loops
def test_our_client_gets_every_byte_back(running: Running, loop_name: str) -> None:
    running.service.next = echo

    async def main() -> None:
        async with fastws.connect(running.url) as ws:
            for size in (1, 70_000, 1 << 20):
                await ws.send(DATA[:size])
                got = b""
                while len(got) < size:
                    message = await ws.recv()
                    assert isinstance(message, bytes)
                    got += message
                assert got == DATA[:size]
            await ws.send("ü")
            assert await ws.recv() == "ü".encode()

    run_on(loop_name, main())


def test_close_of_a_stranger_is_what_the_server_says_of_it(running: Running) -> None:
    ends: list[str] = []

    def watch(sock: Any) -> None:
        read_exactly(sock, 4)
        sock.sendall(b"seen")
        try:
            ends.append("eof" if sock.recv(1) == b"" else "data")
        except ConnectionResetError:
            ends.append("reset")

    running.service.next = watch
    with ws_connect(running.url) as ws:
        ws.send(b"last")
        assert ws.recv() == b"seen"
    eventually(lambda: ends)
    assert ends == ["reset" if running.hides_codes else "eof"]


def test_reset_of_a_stranger_reaches_the_service(running: Running) -> None:
    ends: list[bool] = []

    def watch(sock: Any) -> None:
        read_exactly(sock, 4)
        sock.sendall(b"seen")
        ends.append(ends_with_reset(sock))

    running.service.next = watch
    with upgraded(running.port, "/t/") as peer:
        peer.send(BINARY, b"last")
        assert peer.message(4) == b"seen"
        reset(peer.sock)
    eventually(lambda: ends)
    assert ends == [True]


def test_end_of_the_service_is_close_1000_behind_all_bytes(running: Running) -> None:
    running.service.next = lambda sock: sock.sendall(DATA)
    with ws_connect(running.url) as ws:
        assert received(ws) == DATA
        assert ws.protocol.close_rcvd is not None
        assert ws.protocol.close_rcvd.code == 1000


def received(ws: ClientConnection) -> bytes:
    """All messages until an orderly end."""
    data = bytearray()
    with contextlib.suppress(ConnectionClosedOK):
        while True:
            message = ws.recv(LONG)
            assert isinstance(message, bytes)
            data += message
    return bytes(data)


def test_subprotocol_and_plain_requests(running: Running) -> None:
    running.service.next = echo
    offered: Any = ["base64", "binary", "x"]
    with ws_connect(running.url, subprotocols=offered) as ws:
        assert ws.subprotocol == "binary"
        ws.send(b"x")
        assert ws.recv() == b"x"  # so that the service is done with it
    answer, body = exchange(running.port, ASK % b"/t/")
    assert (answer.status, body) == (426, b"426 not a WebSocket upgrade\n")
    assert answer.fields["upgrade"] == "websocket"


def test_pages_of_other_sites_are_refused(running: Running) -> None:
    origin: Any = "https://evil.example"
    with pytest.raises(InvalidStatus) as caught:
        ws_connect(running.url, origin=origin)
    assert caught.value.response.status_code == 403


def test_client_that_does_not_read_stops_the_service(running: Running) -> None:
    """What it has not read is still there when it does."""
    total = 48 << 20
    sent = 0

    def flood(sock: Any) -> None:
        nonlocal sent
        block = bytes(1 << 20)
        for number in range(total // len(block)):
            sock.sendall(block)
            sent = (number + 1) * len(block)

    running.service.next = flood
    with upgraded(running.port, "/t/") as peer:
        seen = eventually(lambda: sent, LONG) - 1
        while seen != sent:  # until it has stopped
            seen = sent
            time.sleep(5 * UNIT)
        assert 0 < sent < total
        got = 0
        while (frame := peer.frame()).opcode != CLOSE:
            if frame.opcode == BINARY:  # else a ping of the server
                got += len(frame.payload)
        assert (frame.code, got) == (1000, total)
        peer.close()


@pytest.mark.parametrize(("server", "framework"), EVERY)
def test_target_that_is_not_there_and_wrong_tokens(
    server: str, framework: str, tmp_path: Path
) -> None:
    target = f"127.0.0.1:{free_port()}"
    options = {"auth_token": ["t0ken"]}
    with serving(server, framework, tmp_path / "log", target, **options) as (port, _):
        for query, status in (("", 401), ("?access_token=t0ken", 502)):
            with pytest.raises(InvalidStatus) as caught:
                ws_connect(f"ws://127.0.0.1:{port}/t/x{query}", open_timeout=LONG)
            assert caught.value.response.status_code == status


@pytest.mark.parametrize(("server", "framework"), EVERY)
def test_server_that_stops_cuts_both_ends_and_ends_in_order(
    server: str, framework: str, tmp_path: Path
) -> None:
    ends: list[bool] = []
    with Service(lambda sock: ends.append(ends_with_reset(sock))) as service:
        target = f"127.0.0.1:{service.port}"
        options = {"drain_timeout": UNIT}
        with serving(server, framework, tmp_path / "log", target, **options) as running:
            port, process = running
            with stw(f"ws://127.0.0.1:{port}/t/") as near, connect(near.port) as sock:
                eventually(lambda: service.accepted)
                process.send_signal(signal.SIGTERM)
                assert ends_with_reset(sock)
                process.wait(LONG)
        eventually(lambda: ends)
    assert ends == [True]
