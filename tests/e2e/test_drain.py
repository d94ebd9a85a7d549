"""Start lines, log lines, health checks, and how a process ends by signals."""

import json
import re
import signal
import socket
import time

import pytest

import fastws
from tests.support import rawws
from tests.support.certs import certs
from tests.support.cli import Fastws, eventually, stw, tunnel, wts
from tests.support.datagrams import UdpService
from tests.support.rawws import BINARY, CLOSE, PONG, upgraded
from tests.support.services import (
    Service,
    ask,
    connect,
    echo,
    ends_with_reset,
    reset,
)
from tests.support.timing import SHORT, UNIT, units

pytestmark = pytest.mark.e2e

PLAIN = b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n"


def health(port: int, path: bytes = b"/readyz") -> int:
    answer, body = rawws.exchange(port, PLAIN % path)
    assert body == (b"ok\n" if answer.status == 200 else b"not ready\n")
    return answer.status


# The start line


def test_start_line_says_what_runs() -> None:
    with wts(9) as process:
        (line,) = process.lines
        port = process.port
    pattern = (
        r"\S+ \S+ INFO    fastws (\S+) wts on 127\.0\.0\.1:(\d+) to 127\.0\.0\.1:9,"
        r" TLS off, ping 20s, (cython|python), (uvloop|asyncio)"
    )
    found = re.fullmatch(pattern, line)
    assert found, line
    assert found[1] == fastws.__version__
    assert int(found[2]) == port
    assert found[3] == fastws.BACKEND


def test_start_line_says_tls_and_ping_off() -> None:
    with wts(9, "--cert", certs().server, "--ping", "0") as process:
        assert ", TLS on, ping off, " in process.lines[0]


def test_start_line_lists_every_address() -> None:
    with Fastws("wts", "0", "127.0.0.1:9") as process:
        hosts = [endpoint.rpartition(":")[0] for endpoint in process.endpoints]
        ports = {endpoint.rpartition(":")[2] for endpoint in process.endpoints}
    assert hosts in (["127.0.0.1"], ["127.0.0.1", "[::1]"])
    assert len(ports) == 1


def test_insecure_warns_at_every_start() -> None:
    with stw("wss://127.0.0.1:9/", "--insecure") as process:
        line = process.wait_for("WARNING")
    assert line.endswith(
        "--insecure: the certificate of wss://127.0.0.1:9/ is NOT verified"
    )


# One line for each connection


def test_one_line_per_connection_at_its_end() -> None:
    with Service(echo) as service, tunnel(service.port) as (near, far):
        with connect(near.port) as sock:
            who = f"127.0.0.1:{sock.getsockname()[1]}"
            assert ask(sock, b"12345") == b"12345"
            assert len(near.lines) == len(far.lines) == 1
        line = near.wait_for("closed$")
        far.wait_for("closed$")
        assert len(near.lines) == len(far.lines) == 2
    pattern = rf"stw {who} id=[0-9a-f]{{16}} in=5 out=5 \d+\.\d{{3}}s closed$"
    assert re.search(pattern, line), line


def test_json_log() -> None:
    with Service(echo) as service:
        with wts(service.port, "--log-format", "json") as process:
            with upgraded(process.port) as peer:
                peer.send(rawws.BINARY, b"12345")
                assert peer.message(5) == b"12345"
            process.wait_for('"reason"')
        entries = [json.loads(line) for line in process.lines]
    assert entries[0]["message"].startswith("fastws ")
    ended = next(entry for entry in entries if "reason" in entry)
    assert ended["mode"] == "wts"
    assert ended["level"] == "info"
    assert ended["bytes_in"] == ended["bytes_out"] == 5
    assert ended["reason"] == "client: lost without a Close"
    assert len(ended["id"]) == 16
    assert 0 <= ended["seconds"] < SHORT
    assert ended["client"].startswith("127.0.0.1:")


@pytest.mark.parametrize(("level", "count"), [("warning", 0), ("info", 3)])
def test_log_level(level: str, count: int) -> None:
    """On warning a process that works is silent; its port was chosen before."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    fd = listener.fileno()
    arguments = ("wts", f"fd:{fd}", "127.0.0.1:9", "--log-level", level)
    process = Fastws(*arguments, fds=(fd,))
    try:
        answer, _ = rawws.exchange(port, PLAIN % b"/healthz")
        assert answer.status == 200
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
        assert len(process.lines) == count, process.text
    finally:
        listener.close()
        process.kill()


# Health checks


def test_health_checks() -> None:
    with wts(9) as process:
        assert health(process.port, b"/healthz") == 200
        assert health(process.port, b"/readyz") == 200
        with connect(process.port) as sock:
            sock.sendall(b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            reader = rawws.Reader(sock)
            assert reader.head().status == 200
            assert reader.at_end()


def test_full_server_is_healthy_but_not_ready() -> None:
    with Service(echo) as service:
        with wts(service.port, "--max-connections", "2") as process:
            with upgraded(process.port):
                assert health(process.port) == 200
                with upgraded(process.port):
                    assert health(process.port, b"/healthz") == 200
                    assert health(process.port) == 503
                    answer, _ = rawws.exchange(process.port, rawws.request())
                    assert answer.status == 503
                    assert int(answer.fields["retry-after"]) > 0
                    process.wait_for("full: --max-connections 2")
            eventually(lambda: health(process.port) == 200)
            with upgraded(process.port):
                pass


# Signals


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_signal_ends_an_idle_process_with_status_0(name: str) -> None:
    with wts(9) as process:
        process.signal(getattr(signal, name))
        assert process.wait() == 0
        assert "stopped wts: 0 connections, 0 refused" in process.lines[-1]


def test_drain_delay_fails_readiness_and_still_serves() -> None:
    with Service(echo) as service:
        with wts(service.port, "--drain-delay", units(25)) as process:
            assert health(process.port) == 200
            started = time.monotonic()
            process.signal(signal.SIGTERM)
            process.wait_for("draining")
            assert health(process.port) == 503
            assert health(process.port, b"/healthz") == 200
            with upgraded(process.port) as peer:
                peer.send(rawws.BINARY, b"hello")
                assert peer.message(5) == b"hello"
                peer.sock.sendall(rawws.close(1000))
                assert peer.frame().code == 1000
            assert process.wait() == 0
            assert time.monotonic() - started >= 24.5 * UNIT


def test_drain_lets_connections_end_and_admits_no_others() -> None:
    with Service(echo) as service:
        with wts(service.port) as process:
            port = process.port
            with upgraded(port) as peer, connect(port) as late:
                late.sendall(b"GET / HTTP/1.1\r\n")
                assert health(port) == 200  # so both are accepted
                process.signal(signal.SIGTERM)
                process.wait_for("draining")
                eventually(lambda: refused(port))
                late.sendall(rawws.request().partition(b"\r\n")[2])
                assert rawws.Reader(late).head().status == 503
                late.close()
                for _ in range(3):
                    peer.send(rawws.BINARY, b"go on")
                    assert peer.message(5) == b"go on"
                peer.sock.sendall(rawws.close(1000))
                assert peer.frame().code == 1000
            assert process.wait() == 0
            assert process.count("closed$") == 1


def refused(port: int) -> bool:
    try:
        connect(port).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        pass  # in the backlog when the listener was closed
    return False


def test_drain_timeout_says_1001_and_resets() -> None:
    def watch(sock: socket.socket) -> None:
        sock.sendall(b"hello")
        service.seen.append(ends_with_reset(sock))

    with Service(watch) as service:
        with wts(service.port, "--drain-timeout", units(3)) as process:
            with upgraded(process.port) as peer:
                assert peer.message(5) == b"hello"
                started = time.monotonic()
                process.signal(signal.SIGTERM)
                got = peer.frame()
                took = time.monotonic() - started
                assert (got.opcode, got.code) == (CLOSE, 1001)
                assert got.payload[2:] == b"draining"
                peer.sock.sendall(rawws.close(1001))
                assert peer.at_end()
            assert process.wait() == 0
            assert process.count(" draining$") == 1
        assert took >= 2.9 * UNIT
    assert service.seen == [True]


def test_drain_of_a_tunnel_resets_both_tcp_sides() -> None:
    with Service(echo) as service:
        with tunnel(service.port, "--drain-timeout", "0") as (near, far):
            with connect(near.port) as sock:
                assert ask(sock, b"hello") == b"hello"
                near.signal(signal.SIGTERM)
                assert ends_with_reset(sock)
            assert near.wait() == 0
            far.wait_for("client: Close 1001 'draining'$")


def test_second_signal_resets_at_once() -> None:
    def watch(sock: socket.socket) -> None:
        sock.sendall(b"hello")
        service.seen.append(ends_with_reset(sock))

    with Service(watch) as service, wts(service.port) as process:
        with upgraded(process.port) as peer:
            assert peer.message(5) == b"hello"
            process.signal(signal.SIGTERM)
            process.wait_for("draining: a second signal ends it at once")
            process.signal(signal.SIGTERM)
            assert ends_with_reset(peer.sock)
        assert process.wait(SHORT) == 0
        assert eventually(lambda: service.seen) == [True]
        assert process.count("in=0 out=5 .* stopped$") == 1


def test_second_signal_ends_the_drain_delay() -> None:
    with wts(9, "--drain-delay", "1h") as process:
        process.signal(signal.SIGTERM)
        process.wait_for("draining")
        process.signal(signal.SIGINT)
        assert process.wait(SHORT) == 0


def test_sighup_keeps_connections_and_process() -> None:
    with Service(echo) as service, tunnel(service.port) as (near, far):
        with connect(near.port) as sock:
            assert ask(sock, b"before") == b"before"
            for process in (near, far):
                process.signal(signal.SIGHUP)
                process.wait_for("certificates and keys reloaded")
            assert ask(sock, b"after") == b"after"
        with connect(near.port) as sock:
            assert ask(sock, b"again") == b"again"


def test_many_connections_are_told_in_the_time_of_the_spread() -> None:
    count = 40
    with Service(echo) as service:
        with wts(service.port, "--drain-timeout", "0") as process:
            peers = [upgraded(process.port) for _ in range(count)]
            open_peers = [peer.__enter__() for peer in peers]
            process.signal(signal.SIGTERM)
            for peer in open_peers:
                got = peer.frame()
                assert (got.opcode, got.code) == (CLOSE, 1001)
                reset(peer.sock)
            assert process.wait() == 0
            assert process.count(" draining$") == count


def test_ping_of_a_draining_process_is_still_answered() -> None:
    with Service(echo) as service, wts(service.port) as process:
        with upgraded(process.port) as peer:
            process.signal(signal.SIGTERM)
            process.wait_for("draining")
            peer.send(rawws.PING, b"x")
            assert peer.frame() == rawws.Frame(PONG, b"x")
            peer.sock.sendall(rawws.close(1000))
            assert peer.frame().code == 1000
        assert process.wait() == 0


def test_drain_does_not_wait_for_a_quiet_udp_flow() -> None:
    with UdpService() as service:
        target = f"udp:127.0.0.1:{service.port}"
        with (
            wts(target, "--drain-timeout", "1h") as process,
            upgraded(process.port) as peer,
        ):
            peer.send(BINARY, b"x")
            assert peer.frame().payload == b"x"
            process.signal(15)
            got = peer.frame()
            assert (got.opcode, got.code) == (CLOSE, 1001)
            peer.close()
            peer.sock.shutdown(socket.SHUT_WR)
            assert process.wait() == 0
            process.wait_for("draining; 1 datagrams received, 1 sent")
