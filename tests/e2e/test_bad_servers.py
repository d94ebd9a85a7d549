"""Servers of stw that break every rule; other connections are not disturbed.

One stw serves most tests of this file. After each a bystander, connected since
before, still gets its echo, and nothing like a traceback was logged.
"""

import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import rawws
from tests.support.chain import Chain, lone_stw
from tests.support.cli import eventually, stw
from tests.support.rawws import BINARY, CLOSE, CONT, PING, TEXT, accept, frame
from tests.support.services import (
    Bystander,
    Handler,
    ask,
    connect,
    ends_with_reset,
    is_reset_by,
    read_exactly,
    read_to_end,
    reset,
)
from tests.support.timing import units

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[Chain, Bystander]]:
    options = ("--handshake-timeout", units(20), "--log-level", "debug")
    with lone_stw(*options) as chain, connect(chain.near.port) as sock:
        bystander = Bystander(lambda message: ask(sock, message))
        bystander.check()
        chain.files = [chain.near.files()]
        yield chain, bystander


@pytest.fixture
def chain(shared: tuple[Chain, Bystander]) -> Iterator[Chain]:
    """stw; the bystander is asked afterwards."""
    running, bystander = shared
    running.renew()
    yield running
    bystander.check()
    running.check()


def raw_answer(data: bytes) -> Handler:
    """A server that reads the request and answers these bytes."""

    def handle(sock: Any) -> None:
        rawws.Reader(sock).head()
        sock.sendall(data)
        read_to_end(sock)

    return handle


GOOD = rawws.answer_101()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", "not an HTTP/1 response: b'SSH-2.0-"),
        (b"\x15\x03\x01\x00\x02\x02F", "TLS on a plain port"),
        (GOOD, "Sec-WebSocket-Accept does not match the key sent"),
        (GOOD.replace(b"websocket", b"h2c"), "Upgrade is 'h2c', not websocket"),
        (GOOD.replace(b"Upgrade: websocket\r\n", b""), "no Upgrade in the answer"),
        (GOOD.replace(b"Connection: Upgrade\r\n", b""), "Connection is None"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "no Upgrade in the answer"),
        (b"HTTP/1.1 101\r\nX: " + b"y" * 20_000, "over 16384 bytes"),
        (
            b"HTTP/1.1 404 Not Found\r\nServer: nginx\r\nContent-Length: 19\r\n\r\n"
            b"<html>nothing\nhere ",
            "HTTP 404 Not Found, Server: nginx, body: '<html>nothing'",
        ),
        (
            b"HTTP/1.1 301 Moved\r\nLocation: https://h/\r\nContent-Length: 0\r\n\r\n",
            "HTTP 301 Moved, Location: https://h/",
        ),
        (
            b"HTTP/1.1 403 \x1b[31mRed\r\nContent-Length: 0\r\n\r\n",
            r"HTTP 403 \x1b[31mRed",
        ),
        (
            b"HTTP/1.1 503 Busy\r\nRetry-After: 5\r\nVia: 1.1 cdn\r\n\r\nwait\x1b[2J\n",
            r"HTTP 503 Busy, Retry-After: 5, Via: 1.1 cdn, body: 'wait\x1b[2J'",
        ),
        (b"HTTP/1.0 200 OK\r\n\r\n", "the server answered HTTP 200 OK"),
    ],
)
def test_bad_answer(chain: Chain, answer: bytes, words: str) -> None:
    chain.serve(raw_answer(answer))
    assert is_reset_by(chain.near.port)
    line = chain.near.wait_for("WARNING stw ")
    assert words in line
    assert f"ws://127.0.0.1:{chain.service.port}/" in line


def test_server_that_closes_instead_of_answering(chain: Chain) -> None:
    chain.serve(lambda sock: rawws.Reader(sock).head())
    assert is_reset_by(chain.near.port)
    chain.near.wait_for(
        "WARNING stw .*closed before .*; if it speaks TLS, write wss://$"
    )


def test_server_that_resets_instead_of_answering(chain: Chain) -> None:
    chain.serve(reset)
    assert is_reset_by(chain.near.port)
    chain.near.wait_for("WARNING stw .*(closed before|reset)")


def test_server_that_never_answers(chain: Chain) -> None:
    chain.serve(lambda sock: read_to_end(sock))
    assert is_reset_by(chain.near.port)
    line = chain.near.wait_for("WARNING stw ")
    assert "no answer to the upgrade within" in line
    assert "--handshake-timeout" in line


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(BINARY, b"x"), 1002),
        (frame(BINARY, b"x", rsv=4, key=None), 1002),
        (frame(CONT, b"x", key=None), 1002),
        (frame(11, b"", key=None), 1002),
        (frame(PING, b"x" * 126, key=None), 1002),
        (b"\x82\x7f" + struct.pack("!Q", 1 << 63), 1002),
        (b"\x82\x7e\x00\x01x", 1002),
        (rawws.close(1006, key=None), 1002),
        (rawws.close(1000, b"\xff", key=None), 1007),
        (frame(TEXT, b"\xc3\x28", key=None), 1007),
    ],
    ids=[
        "masked",
        "RSV1",
        "continuation of nothing",
        "opcode 11",
        "ping of 126",
        "length over 63 bits",
        "16-bit length of 1",
        "close 1006",
        "close reason not UTF-8",
        "text not UTF-8",
    ],
)
def test_bad_frame_of_a_server(chain: Chain, data: bytes, code: int) -> None:
    answers: list[rawws.Frame] = []

    def handle(sock: Any) -> None:
        reader, _ = accept(sock)
        assert reader.message(2) == b"go"
        sock.sendall(frame(BINARY, b"good", key=None) + data)
        answers.append(reader.frame())

    chain.serve(handle)
    with connect(chain.near.port) as sock:
        sock.sendall(b"go")
        assert read_exactly(sock, 4) == b"good", "what came before is delivered"
        assert ends_with_reset(sock)
    (answer,) = eventually(lambda: answers)
    assert (answer.opcode, answer.code, answer.masked) == (CLOSE, code, True)
    line = chain.near.wait_for("INFO +stw .* in=")
    assert line.endswith(f"server: protocol error: {answer.payload[2:].decode()}")


def test_client_of_stw_that_leaves_before_the_server_answers(chain: Chain) -> None:
    gate = threading.Event()
    ended: list[bool] = []

    def slow(sock: Any) -> None:
        reader = rawws.Reader(sock)
        asked = reader.head()
        gate.wait()
        sock.sendall(rawws.answer_101(asked.fields["sec-websocket-key"]))
        ended.append(reader.frame().opcode == CLOSE or True)

    chain.serve(slow)
    accepted = chain.service.accepted
    sock = connect(chain.near.port)
    eventually(lambda: chain.service.accepted > accepted)
    reset(sock)
    gate.set()
    chain.near.wait_for("INFO +stw .* client: ")


def test_unresolvable_server() -> None:
    with stw("ws://no-such-host.invalid/") as process:
        assert is_reset_by(process.port)
        process.wait_for("WARNING stw .*no-such-host.invalid")
