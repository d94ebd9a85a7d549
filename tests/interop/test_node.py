"""fastws beside Node.js: the package ws as client of wts and as server of stw."""

import hashlib
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import node
from tests.support.cli import Fastws, eventually, stw, wts
from tests.support.services import (
    Handler,
    Switch,
    answer_late,
    connect,
    echo,
    ends_with_reset,
    pump_through,
    read_exactly,
    read_to_end,
    reset,
)
from tests.support.timing import UNIT, units

pytestmark = pytest.mark.interop

SIZES = (1, 125, 126, 65535, 65536, 1 << 20)
SIZE = 4 << 20


# Client


def client(far: Fastws, what: str, *words: str) -> Any:
    return json.loads(node.run("ws_client.js", far.url, what, *words))


def talk(far: Fastws, switch: Switch, handle: Handler, say: str, end: str) -> Any:
    """What the client saw of a target that is ``handle``."""
    switch.next = handle
    return client(far, "talk", say, end)


def test_messages_of_every_size_and_kind(far: Fastws, switch: Switch) -> None:
    switch.next = echo
    seen = client(far, "echo", *map(str, SIZES))
    assert seen == {
        "protocol": "binary",
        "extensions": "",  # its permessage-deflate is declined
        "sizes": list(SIZES),
        "data": "fragmented",
        "pong": "between",
        "code": 1000,
        "reason": "",
    }


def test_answer_after_its_close_is_heard(far: Fastws, switch: Switch) -> None:
    """Its Close is the end of input; the target's answer comes before ours."""
    seen = talk(far, switch, answer_late, "question", "1000")
    digest = hashlib.sha256(b"question").hexdigest()
    assert (seen["data"], seen["code"]) == (f"8 {digest}\n", 1000)


def test_end_of_the_target_is_1000(far: Fastws, switch: Switch) -> None:
    seen = talk(far, switch, lambda sock: sock.sendall(b"bye"), "", "wait")
    assert (seen["data"], seen["code"], seen["reason"]) == ("bye", 1000, "")


def test_reset_of_the_target_is_1011(far: Fastws, switch: Switch) -> None:
    def cut(sock: Any) -> None:
        sock.sendall(b"bye")
        read_exactly(sock, 2)
        reset(sock)

    seen = talk(far, switch, cut, "go", "wait")
    assert (seen["data"], seen["code"], seen["reason"]) == ("bye", 1011, "reset")


@pytest.mark.parametrize(
    ("end", "is_reset", "code"),
    [
        ("1000", False, 1000),
        ("none", False, 1005),
        ("1001", False, 1001),
        ("1011", True, 1011),
        ("4000", True, 4000),
        ("terminate", True, 1006),
    ],
)
def test_its_end_is_that_of_the_target(
    far: Fastws, switch: Switch, end: str, is_reset: bool, code: int
) -> None:
    def watch(sock: Any) -> None:
        ends.append((read_exactly(sock, 10), ends_with_reset(sock)))

    ends: list[tuple[bytes, bool]] = []
    seen = talk(far, switch, watch, "last words", end)
    assert eventually(lambda: ends) == [(b"last words", is_reset)]
    assert seen["code"] == code


def test_refusal_is_told(switch: Switch) -> None:
    with wts(switch.port, "--auth-token", "secret") as guarded:
        seen = client(guarded, "talk", "", "wait")
        assert seen["error"] == "Unexpected server response: 401"
        switch.next = lambda sock: sock.sendall(b"welcome")
        url = f"{guarded.url}?access_token=secret"
        seen = json.loads(node.run("ws_client.js", url, "talk", "", "wait"))
        assert (seen["data"], seen["code"]) == ("welcome", 1000)


# Server


@pytest.fixture(scope="module")
def server() -> Iterator[node.Script]:
    with node.Script("ws_server.js") as script:
        script.port = script.next()
        yield script


@pytest.fixture(scope="module")
def near(server: node.Script) -> Iterator[Fastws]:
    with stw(f"ws://127.0.0.1:{server.port}/") as process:
        yield process


def test_bytes_pass_in_frames_of_32_kib(near: Fastws, server: node.Script) -> None:
    """It refuses longer messages with 1009."""
    with connect(near.port) as sock:
        sock.sendall(b"echo")
        assert read_exactly(sock, 5) == b"ready"
        pump_through(sock, SIZE, seed=51, end=False)
        reset(sock)
    seen = server.next()
    assert seen == {
        "extensions": "",
        "bytes": SIZE + 4,
        "binary": True,
        "code": 1011,
        "reason": "reset",
    }


def test_ping_of_the_server(near: Fastws, server: node.Script) -> None:
    with connect(near.port) as sock:
        sock.sendall(b"ping")
        assert read_exactly(sock, 13) == b"are you there"
        reset(sock)
    assert server.next()["code"] == 1011


@pytest.mark.parametrize(
    ("command", "is_reset"),
    [
        ("end 1000", False),
        ("end none", False),
        ("end 1001", True),
        ("end 1011", True),
        ("end 4000", True),
        ("drop", True),
    ],
)
def test_end_of_the_server(
    near: Fastws, server: node.Script, command: str, is_reset: bool
) -> None:
    with connect(near.port) as sock:
        sock.sendall(command.encode())
        assert read_exactly(sock, 10) == b"last words"
        assert ends_with_reset(sock) is is_reset
    seen = server.next()
    codes = {"end none": 1005, "drop": 1006}
    assert seen["code"] == codes.get(command) or int(command[4:])


def test_late_answer_is_waited_for(server: node.Script) -> None:
    """It never hears of the end before that: the Close comes after --linger."""
    url = f"ws://127.0.0.1:{server.port}/"
    with stw(url, "--linger", units(15)) as near, connect(near.port) as sock:
        sock.sendall(b"late %d" % (2 * UNIT * 1000))
        sock.shutdown(socket.SHUT_WR)
        assert read_to_end(sock) == b"late answer"
        assert server.next()["code"] == 1000


def test_close_at_once_with_on_eof(server: node.Script) -> None:
    options = ("--on-eof", "close", "--linger", units(200))
    url = f"ws://127.0.0.1:{server.port}/"
    with stw(url, *options) as near, connect(near.port) as sock:
        sock.sendall(b"echo")
        assert read_exactly(sock, 5) == b"ready"
        pump_through(sock, 100_000, seed=52, end=False)
        sock.shutdown(socket.SHUT_WR)
        assert read_to_end(sock) == b""
        assert server.next()["code"] == 1000
