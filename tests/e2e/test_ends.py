"""How connections end: half-close, late answers, close codes, resets, crashes."""

import re
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as ws_connect

from tests.support import rawws
from tests.support.chain import Chain, lone_stw, lone_wts, whole_chain
from tests.support.cli import eventually, stw, tunnel, wts
from tests.support.rawws import BINARY, CLOSE, PING, PONG, TEXT, accept, upgraded
from tests.support.relay import HeaderDropper
from tests.support.services import (
    Service,
    answer_late,
    ask,
    connect,
    digest_of,
    echo,
    ends_with_reset,
    is_reset_by,
    read_exactly,
    read_to_end,
    reset,
)
from tests.support.timing import LONG, SHORT, UNIT, units

pytestmark = pytest.mark.e2e

LINGER = units(10)


@pytest.fixture(scope="module")
def all_three() -> Iterator[dict[str, Chain]]:
    with whole_chain() as both, lone_stw() as near, lone_wts() as far:
        yield {"both": both, "stw": near, "wts": far}


def fresh(chain: Chain) -> Iterator[Chain]:
    chain.renew()
    yield chain
    chain.check()


@pytest.fixture
def both(all_three: dict[str, Chain]) -> Iterator[Chain]:
    """stw and wts in front of a service."""
    yield from fresh(all_three["both"])


@pytest.fixture
def near_end(all_three: dict[str, Chain]) -> Iterator[Chain]:
    """stw in front of a server that is no fastws."""
    yield from fresh(all_three["stw"])


@pytest.fixture
def far_end(all_three: dict[str, Chain]) -> Iterator[Chain]:
    """wts, for clients that are no fastws."""
    yield from fresh(all_three["wts"])


# Both ends are fastws: half-close is exact


def test_service_ends_first_and_the_client_goes_on(both: Chain) -> None:
    def bye(sock: socket.socket) -> None:
        sock.sendall(b"nothing more from me")
        sock.shutdown(socket.SHUT_WR)
        service.seen.append(digest_of(sock)[1])

    service, near, far = both.serve(bye), both.near, both.far
    with connect(near.port) as sock:
        assert read_to_end(sock) == b"nothing more from me"
        sock.sendall(b"x" * 1_000_000)
        assert service.seen == []
        sock.sendall(b"y" * 1_000_000)
    assert eventually(lambda: service.seen) == [2_000_000]
    for process in (near, far):
        process.wait_for(r" in=2000000 out=20 .* closed$")


def test_client_ends_first_and_is_answered_after_longer_than_linger() -> None:
    asked = threading.Event()

    def slow(sock: socket.socket) -> None:
        assert read_to_end(sock) == b"question"
        asked.wait()
        sock.sendall(b"answer")

    with Service(slow) as service:
        with tunnel(service.port, "--linger", units(1)) as (near, _):
            with connect(near.port) as sock:
                sock.sendall(b"question")
                sock.shutdown(socket.SHUT_WR)
                sock.settimeout(5 * UNIT)
                with pytest.raises(TimeoutError):
                    sock.recv(1)
                asked.set()
                sock.settimeout(LONG)
                assert read_to_end(sock) == b"answer"


def test_client_reset_becomes_a_reset_of_the_target(both: Chain) -> None:
    def watch(sock: socket.socket) -> None:
        sock.sendall(b"hello")
        service.seen.append(ends_with_reset(sock))

    service, near, far = both.serve(watch), both.near, both.far
    sock = connect(near.port)
    assert read_exactly(sock, 5) == b"hello"
    reset(sock)
    assert eventually(lambda: service.seen) == [True]
    near.wait_for(r" client: reset$")
    far.wait_for(r" client: reset by peer$")


def test_target_reset_becomes_a_reset_of_the_client(both: Chain) -> None:
    def cut(sock: socket.socket) -> None:
        sock.sendall(read_exactly(sock, 5))
        read_exactly(sock, 1)
        reset(sock)

    both.serve(cut)
    near, far = both.near, both.far
    with connect(near.port) as sock:
        assert ask(sock, b"hello") == b"hello"
        sock.sendall(b"!")
        assert ends_with_reset(sock)
        far.wait_for(r" target: reset$")
        near.wait_for(r" server: reset by peer$")


def test_target_down_is_a_reset_with_502_in_the_log_of_stw() -> None:
    with Service(echo) as service:
        port = service.port
    with tunnel(port) as (near, far):
        assert is_reset_by(near.port)
        line = near.wait_for("WARNING.*the server answered HTTP 502 Bad Gateway")
        (ident,) = re.findall(" id=([0-9a-f]{16}): ws://", line)
        far.wait_for(rf"WARNING.* id={ident}: target .*:{port}: connection refused")


@pytest.mark.parametrize("victim", ["near", "far"])
def test_killed_process_resets_the_other_side(victim: str) -> None:
    def watch(sock: socket.socket) -> None:
        sock.sendall(b"hello")
        service.seen.append(ends_with_reset(sock))

    with Service(watch) as service, tunnel(service.port) as (near, far):
        with connect(near.port) as sock:
            assert read_exactly(sock, 5) == b"hello"
            if victim == "far":
                far.kill()
                assert ends_with_reset(sock)
                near.wait_for(r"server: (lost without a Close|reset)$")
            else:
                near.kill()
                assert eventually(lambda: service.seen) == [True]
                far.wait_for(r"client: (lost without a Close|reset)$")


# A front end drops the answer's X-Fastws


def test_dropped_announcement_keeps_every_byte() -> None:
    with Service(answer_late) as service, wts(service.port) as far:
        with HeaderDropper(far.port, "X-Fastws") as front:
            with stw(f"ws://127.0.0.1:{front.port}/", "--linger", LINGER) as near:
                with connect(near.port) as sock:
                    sock.sendall(b"question")
                    sock.shutdown(socket.SHUT_WR)
                    # Strangers to each other: stw waits for a late answer, and then
                    # sends Close 1000, which is the end for the service.
                    assert read_to_end(sock).startswith(b"8 ")
                near.wait_for(" in=8 out=67 .* closed$")
    asked, answered = front.seen[0]
    assert b"\r\nX-Fastws: tcp/1; id=" in asked
    assert b"\r\nX-Fastws: tcp/1; proof=" in answered


def test_dropped_announcement_and_a_service_that_ends_first() -> None:
    def greet(sock: socket.socket) -> None:
        sock.sendall(b"greeting")

    with Service(greet) as service:
        with wts(service.port, "--linger", LINGER) as far:
            with HeaderDropper(far.port, "X-Fastws") as front:
                with stw(f"ws://127.0.0.1:{front.port}/") as near:
                    with connect(near.port) as sock:
                        # No F for a client that knows nothing of fastws: wts waits
                        # for its C, at most linger, then sends Close 1000.
                        assert read_to_end(sock) == b"greeting"
                    near.wait_for("closed$")
                    far.wait_for("closed$")


# stw in front of strangers


def test_stw_waits_for_a_stranger_that_answers_late() -> None:
    """The server has no way to see the end, but answers after a pause."""

    def late(sock: socket.socket) -> None:
        reader, _ = accept(sock)
        assert reader.message(8) == b"question"
        time.sleep(2 * UNIT)
        sock.sendall(rawws.frame(BINARY, b"late ", key=None))
        time.sleep(2 * UNIT)
        sock.sendall(rawws.frame(BINARY, b"answer", key=None))
        got = reader.frame()
        sock.sendall(rawws.frame(CLOSE, got.payload, key=None))
        service.seen.append(got)

    with Service(late) as service:
        with stw(f"ws://127.0.0.1:{service.port}/", "--linger", LINGER) as near:
            with connect(near.port) as sock:
                sock.sendall(b"question")
                sock.shutdown(socket.SHUT_WR)
                assert read_to_end(sock) == b"late answer"
            near.wait_for(" in=8 out=11 .* closed$")
        eventually(lambda: service.seen)
    assert (service.seen[0].opcode, service.seen[0].code) == (CLOSE, 1000)


def test_stw_with_on_eof_close_sends_it_at_once() -> None:
    def look(sock: socket.socket) -> None:
        reader, _ = accept(sock)
        assert reader.message(8) == b"question"
        started = time.monotonic()
        got = reader.frame()
        service.seen.append((got.code, time.monotonic() - started))
        sock.sendall(rawws.frame(BINARY, b"still heard", key=None))
        sock.sendall(rawws.close(1000, key=None))

    with Service(look) as service:
        url = f"ws://127.0.0.1:{service.port}/"
        with stw(url, "--on-eof", "close", "--linger", units(100)) as near:
            with connect(near.port) as sock:
                sock.sendall(b"question")
                sock.shutdown(socket.SHUT_WR)
                assert read_to_end(sock) == b"still heard"
    ((code, took),) = service.seen
    assert code == 1000
    assert took < SHORT


@pytest.mark.parametrize(
    ("code", "is_end"),
    [(1000, True), (0, True), (1001, False), (1011, False), (4000, False)],
)
def test_stw_maps_a_strangers_close(code: int, is_end: bool, near_end: Chain) -> None:
    def end(sock: socket.socket) -> None:
        reader, _ = accept(sock)
        assert reader.frame().payload == b"here"
        sock.sendall(rawws.frame(BINARY, b"last words", key=None))
        sock.sendall(
            rawws.close(code, key=None) if code else rawws.frame(CLOSE, key=None)
        )
        service.seen.append(reader.frame())

    service, near = near_end.serve(end), near_end.near
    with connect(near.port) as sock:
        sock.sendall(b"here")  # a reset that comes first fails connect() itself
        assert read_exactly(sock, 10) == b"last words"
        assert ends_with_reset(sock) is not is_end
    near.wait_for("closed$" if is_end else f"server: Close {code}")
    eventually(lambda: service.seen)
    assert (service.seen[0].opcode, service.seen[0].code) == (CLOSE, code)
    assert service.seen[0].masked


# wts behind strangers


def test_wts_delivers_to_a_websockets_client_that_closes_early(far_end: Chain) -> None:
    """Everything a client sent before its Close reaches the target."""
    service, far = far_end.service, far_end.far
    far_end.serve(lambda sock: service.seen.append(digest_of(sock)[1]))
    with ws_connect(far.url, compression=None) as ws:
        for _ in range(100):
            ws.send(b"z" * 10_000)
    assert eventually(lambda: service.seen) == [1_000_000]
    far.wait_for(" in=1000000 out=0 .* closed$")


def test_wts_target_answers_after_the_strangers_close(far_end: Chain) -> None:
    """The answer still goes out, in front of the Close that answers theirs."""
    far_end.serve(answer_late)
    far = far_end.far
    with upgraded(far.port) as peer:
        peer.send(BINARY, b"question")
        peer.sock.sendall(rawws.close(1000))
        answer = peer.frame()
        assert answer.opcode == BINARY
        assert answer.payload.startswith(b"8 ")
        got = peer.frame()
        assert (got.opcode, got.code) == (CLOSE, 1000)
        assert peer.at_end()


def test_wts_target_that_answers_after_its_end_of_input_only(far_end: Chain) -> None:
    """The target's EOF is a Close 1000; bytes to it go on until the peer's Close."""

    def half(sock: socket.socket) -> None:
        sock.sendall(b"done")
        sock.shutdown(socket.SHUT_WR)
        service.seen.append(digest_of(sock)[1])

    service, far = far_end.serve(half), far_end.far
    with upgraded(far.port) as peer:
        assert peer.frame().payload == b"done"
        got = peer.frame()
        assert (got.opcode, got.code) == (CLOSE, 1000)
        peer.send(BINARY, b"still sent")
        peer.close()
        assert peer.at_end()
    assert eventually(lambda: service.seen) == [10]


@pytest.mark.parametrize(
    ("code", "is_end"),
    [(1000, True), (0, True), (1001, True), (1011, False), (3999, False)],
)
def test_wts_maps_a_strangers_close(code: int, is_end: bool, far_end: Chain) -> None:
    service, far = far_end.service, far_end.far
    far_end.serve(lambda sock: service.seen.append(ends_with_reset(sock)))
    with upgraded(far.port) as peer:
        peer.send(BINARY, b"last words")
        peer.sock.sendall(rawws.close(code) if code else rawws.frame(CLOSE))
        got = peer.frame()
        assert (got.opcode, got.code) == (CLOSE, code)
        assert peer.at_end()
        assert eventually(lambda: service.seen) == [not is_end]
        peer.sock.close()
        far.wait_for("closed$" if is_end else f"client: Close {code}")


def test_wts_says_1011_when_the_target_resets(far_end: Chain) -> None:
    def cut(sock: socket.socket) -> None:
        read_exactly(sock, 1)
        reset(sock)

    far_end.serve(cut)
    with ws_connect(far_end.far.url) as ws:
        ws.send(b"!")
        with pytest.raises(ConnectionClosed):
            ws.recv(SHORT)
        assert ws.close_code == 1011
        assert ws.close_reason == "reset"


def test_texts_of_a_stranger_are_data_whatever_they_say(far_end: Chain) -> None:
    far_end.serve(echo)
    far = far_end.far
    with upgraded(far.port) as peer:
        for text in (b"F", b"R", b"C", b""):
            peer.send(TEXT, text)
        assert peer.message(3) == b"FRC"


# Pings


def test_pings_go_both_ways_and_carry_on() -> None:
    with Service(echo) as service:
        with wts(service.port, "--ping", units(1)) as far:
            with upgraded(far.port) as peer:
                for _ in range(2):
                    got = peer.frame()
                    assert got.opcode == PING
                    peer.send(PONG, got.payload)
                peer.send(PING, b"mine")
                while (got := peer.frame()).opcode == PING:
                    pass
                assert got == rawws.Frame(PONG, b"mine")


def test_stw_answers_pings_masked(near_end: Chain) -> None:
    def ping(sock: socket.socket) -> None:
        reader, _ = accept(sock)
        sock.sendall(rawws.frame(PING, b"server's", key=None))
        service.seen.append(reader.frame())
        while reader.frame().opcode != CLOSE:
            pass

    service = near_end.serve(ping)
    with connect(near_end.near.port):
        eventually(lambda: service.seen)
    assert service.seen == [rawws.Frame(PONG, b"server's", masked=True)]


@pytest.mark.parametrize("side", ["stw", "wts"])
def test_silent_peer_is_found_by_its_ping(side: str) -> None:
    options = ("--ping", units(2), "--ping-deadline", units(3))

    def mute(sock: socket.socket) -> None:
        accept(sock)
        service.seen.append(ends_with_reset(sock))

    def watch(sock: socket.socket) -> None:
        service.seen.append(ends_with_reset(sock))

    if side == "stw":
        with Service(mute) as service:
            url = f"ws://127.0.0.1:{service.port}/"
            with stw(url, *options) as near, connect(near.port) as sock:
                assert ends_with_reset(sock)
                near.wait_for("server: ping timeout$")
    else:
        with Service(watch) as service, wts(service.port, *options) as far:
            with upgraded(far.port):
                assert eventually(lambda: service.seen) == [True]
                far.wait_for("client: ping timeout$")


def test_both_logs_carry_the_same_id(both: Chain) -> None:
    both.serve(echo)
    with connect(both.near.port) as sock:
        assert ask(sock, b"hello") == b"hello"
    lines = [process.wait_for("closed$") for process in both.processes]
    ids = {line.split(" id=")[1].split()[0] for line in lines}
    assert len(ids) == 1
    assert len(ids.pop()) == 16
