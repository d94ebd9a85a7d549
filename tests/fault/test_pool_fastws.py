"""The pool of fastws proxy while its fastws proxy-server dies, drains or is silent."""

import contextlib
import re
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from tests.support.asking import Associated, connect_status, get, socks_code
from tests.support.certs import certs
from tests.support.cli import Fastws, eventually
from tests.support.datagrams import UdpService
from tests.support.origin import Origin, forward_proxy, read_answer
from tests.support.servers import free_port
from tests.support.services import (
    Service,
    ask,
    connect,
    echo,
    ends_with_reset,
    odd_chunks,
    pump_through,
    read_exactly,
    read_to_end,
    reset,
)
from tests.support.timing import LONG, units
from tests.support.via import once, socks

pytestmark = pytest.mark.e2e

SWITCH = ("Connection: Upgrade", "Upgrade: x")
SWITCHED = b"HTTP/1.1 101 OK\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"


def far(port: int, *options: str) -> Fastws:
    """A proxy-server, to be entered."""
    listen = f"127.0.0.1:{port}"
    return Fastws("proxy-server", listen, "--no-auth", "--allow", "private", *options)


@contextlib.contextmanager
def near(port: int, *options: str) -> Iterator[Fastws]:
    """The proxy through it."""
    with forward_proxy("--via", f"ws://127.0.0.1:{port}/", *options) as process:
        yield process


def fill(proxy: Fastws, port: int, count: int) -> None:
    """``count`` idle connections."""
    streams = [socks(proxy, port) for _ in range(count)]
    for sock in streams:
        assert ask(sock, b"x") == b"x"
    for sock in streams:
        sock.shutdown(socket.SHUT_WR)
        assert read_to_end(sock) == b""
        sock.close()
    eventually(lambda: proxy.count(" closed$") >= count)


def test_all_ways_in_share_the_pool(service: Service) -> None:
    with far(0) as server, Origin() as origin, near(server.port) as proxy:
        once(proxy, service.port)
        with connect(proxy.port) as sock:
            sock.sendall(get(origin.port))
            assert read_answer(sock)[0] == 200
        server.wait_for(f"127.0.0.1:{origin.port} id=")
        assert connect_status(proxy, f"127.0.0.1:{service.port}") == 200
        server.wait_for(r"id=\w+/3 in=0")
        with socks(proxy, service.port, "localhost") as sock:
            pump_through(sock, 4 << 20, 11)
    ports = {line.split()[4] for line in server.lines if " id=" in line}
    assert len(ports) == 1, server.text


def test_the_far_end_tells_why(service: Service) -> None:
    options = ("--deny", "*:7", "--connect-timeout", units(50))
    with far(0, *options) as server, near(server.port) as proxy:
        assert socks_code(proxy, "127.0.0.1", free_port()) == 5
        assert socks_code(proxy, "127.0.0.1", 7) == 2
        assert socks_code(proxy, "-no.such.name.invalid", 80) == 4
        assert connect_status(proxy, f"127.0.0.1:{free_port()}") == 502
        assert connect_status(proxy, "127.0.0.1:7") == 403
        once(proxy, service.port)
    ports = {line.split()[4] for line in server.lines if " id=" in line}
    assert len(ports) == 1, server.text


@pytest.mark.parametrize(
    ("server_options", "proxy_options", "text"),
    [
        (("--cert", certs().stranger), ("--ca", certs().ca), "TLS: unknown CA"),
        (("--cert", certs().elsewhere), ("--ca", certs().ca), "for another address"),
        ((), ("--ca", certs().ca), "does not speak TLS on this port"),
        (("--path", "/pool"), (), "the server answered HTTP 404"),
    ],
    ids=["unknown-ca", "other-host", "no-tls", "other-path"],
)
def test_what_will_not_change_is_asked_once(
    server_options: Sequence[str], proxy_options: Sequence[str], text: str
) -> None:
    """The client hears at once what three attempts would tell it later."""
    scheme = "wss" if "--ca" in proxy_options else "ws"
    with far(0, *server_options) as server:
        via = ("--via", f"{scheme}://127.0.0.1:{server.port}/")
        for_ever = ("--retry-delay", "1h", "--connect-timeout", "2h")
        with forward_proxy(*via, *for_ever, *proxy_options) as proxy:
            assert connect_status(proxy, "127.0.0.1:7") == 502
            proxy.wait_for(f"WARNING no WebSocket to .*{text}")
            assert socks_code(proxy, "127.0.0.1", 7) == 1
        proxy.wait_for(r"0 opened \(2 failed\)", start=0)


def stream_ids(process: Fastws) -> set[str]:
    """Of all streams in its log."""
    return set(re.findall(r"id=(\w{16}/\d+)", process.text))


def test_both_logs_name_a_stream_alike(service: Service) -> None:
    """CONNECT, SOCKS5, plain HTTP, an upgrade, datagrams, and a refusal of each."""

    def switch(sock: Any) -> None:
        read_head_of(sock)
        sock.sendall(SWITCHED)

    with (
        far(0, "--deny", "*:7") as server,
        near(server.port) as proxy,
        Origin() as origin,
        Origin() as other,
        Service(switch) as upgraded,
        UdpService() as udp,
    ):
        once(proxy, service.port)
        assert connect_status(proxy, f"127.0.0.1:{service.port}") == 200
        assert connect_status(proxy, "127.0.0.1:7") == 403
        assert socks_code(proxy, "127.0.0.1", 7) == 2
        with connect(proxy.port) as sock:
            for port in (origin.port, other.port):
                sock.sendall(get(port))
                assert read_answer(sock)[0] == 200
            sock.sendall(get(7))
            assert b" 403 " in read_head_of(sock)
        with connect(proxy.port) as sock:
            sock.sendall(get(upgraded.port, "127.0.0.1", "/", *SWITCH))
            assert b" 101 " in read_head_of(sock)
        with Associated(proxy) as client:
            client.send("127.0.0.1", udp.port, b"hello")
            assert client.receive()[2] == b"hello"
        eventually(lambda: len(stream_ids(server)) == len(stream_ids(proxy)) == 9)
        assert stream_ids(server) == stream_ids(proxy)


def test_r16_killed_with_eight_idle(service: Service) -> None:
    port = free_port()
    with near(port) as proxy:
        with far(port) as server:
            fill(proxy, service.port, 8)
            server.kill()
        with far(port):
            for _ in range(12):
                once(proxy, service.port)
    proxy.wait_for(r"pool of .*: 9 opened \(0 failed\)", start=0)


def test_r16_silent_with_eight_idle(service: Service) -> None:
    """It stops without a word; pings find out, and nobody gets a dead connection."""
    port = free_port()
    with near(port, "--ping", units(5), "--ping-deadline", units(15)) as proxy:
        with far(port) as server:
            fill(proxy, service.port, 8)
            proxy_files = proxy.files()
            server.signal(signal.SIGSTOP)
            eventually(lambda: proxy.files() <= proxy_files - 8, LONG)
            server.kill()
        with far(port):
            for _ in range(12):
                once(proxy, service.port)
        assert proxy.count("is begun again") == 0


def test_a_silent_server_is_a_timeout_and_then_forgotten(service: Service) -> None:
    """Who meets it before the pings do waits once; the next ones do not."""
    port = free_port()
    with near(port, "--connect-timeout", units(20)) as proxy:
        with far(port) as server:
            fill(proxy, service.port, 4)
            server.signal(signal.SIGSTOP)
            assert socks_code(proxy, "127.0.0.1", service.port) == 6
            server.kill()
        with far(port):
            for _ in range(3):
                once(proxy, service.port)


def test_a_draining_server_loses_no_stream(service: Service) -> None:
    """It closes idle WebSockets with 1001, also in place of an answer."""
    port = free_port()
    stop, errors, done = threading.Event(), [], []

    def work() -> None:
        while not stop.is_set():
            try:
                once(proxy, service.port)
                done.append(1)
            except BaseException as error:
                errors.append(error)
                return

    options = ("--retry", "10", "--retry-delay", units(1), "--connect-timeout", "20s")
    with near(port, *options) as proxy:
        server = far(port)
        server.__enter__()
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        eventually(lambda: len(done) > 20)
        server.signal(signal.SIGTERM)
        server.wait()
        server.__exit__(None, None, None)
        with far(port):
            count = len(done)
            eventually(lambda: len(done) > count + 20, LONG)
            stop.set()
            for thread in threads:
                thread.join(LONG)
    assert errors == []


def test_r25_a_hundred_streams_when_the_server_dies(service: Service) -> None:
    port = free_port()
    with near(port) as proxy:
        with far(port) as server:
            streams = [socks(proxy, service.port) for _ in range(100)]
            for sock in streams:
                assert ask(sock, b"x") == b"x"
            server.kill()
        for sock in streams:
            with sock:
                sock.settimeout(LONG)
                assert ends_with_reset(sock)
        with far(port):
            once(proxy, service.port)


def test_warm_connections_are_there_before_anybody_asks(service: Service) -> None:
    with far(0) as server, near(server.port, "--pool-warm", "3") as proxy:
        eventually(lambda: proxy.files() >= 3)
        once(proxy, service.port)
    proxy.wait_for(r"pool of .*: [34] opened", start=0)


def test_idle_ones_go_when_their_time_is_over(service: Service) -> None:
    with far(0) as server, near(server.port, "--pool-idle", units(5)) as proxy:
        before = proxy.files()
        fill(proxy, service.port, 5)
        eventually(lambda: proxy.files() <= before + 1, LONG)  # one is kept in reserve
        once(proxy, service.port)


def test_bodies_and_upgrades_of_plain_http(service: Service) -> None:
    """Both ways, several reads long; then a protocol of its own on the same path."""
    blob = b"".join(odd_chunks(3 << 20, 12))
    head = b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n"

    def answer(sock: Any) -> None:
        while request := read_head_of(sock):
            if b"Upgrade" in request:
                sock.sendall(SWITCHED)
                echo(sock)
                return
            body = read_exactly(sock, len(blob)) if b"POST" in request else blob
            sock.sendall(head % (b"200 OK", len(body)) + body)

    with Service(answer) as origin, far(0) as server, near(server.port) as proxy:
        where = f"127.0.0.1:{origin.port}"
        with connect(proxy.port) as sock:
            sock.settimeout(LONG)
            sock.sendall(get(origin.port))
            read_head_of(sock)
            assert read_exactly(sock, len(blob)) == blob
            post = f"POST http://{where}/ HTTP/1.1\r\nHost: {where}\r\n"
            sock.sendall(f"{post}Content-Length: {len(blob)}\r\n\r\n".encode() + blob)
            read_head_of(sock)
            assert read_exactly(sock, len(blob)) == blob
            sock.sendall(get(origin.port, "127.0.0.1", "/", *SWITCH))
            assert read_head_of(sock).startswith(b"HTTP/1.1 101")
            pump_through(sock, 1 << 20, 13)
        assert origin.accepted == 1


def test_who_leaves_in_the_midst_of_a_body_costs_no_connection(
    service: Service,
) -> None:
    """The stream is broken off at both ends, and its WebSocket carries the next one."""

    def endless(sock: Any) -> None:
        read_head_of(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            sock.sendall(bytes(10_000))

    with Service(endless) as origin, far(0) as server, near(server.port) as proxy:
        for number in (1, 2, 3):
            with connect(proxy.port) as sock:
                sock.sendall(get(origin.port))
                read_exactly(sock, 1 << 20)
                reset(sock)
            eventually(lambda seen=number: server.count("reset by peer") == seen)
            once(proxy, service.port)  # perhaps before the other one is back
    proxy.wait_for(r"pool of .*: [12] opened \(0 failed\)", start=0)


def test_stalled_answers_hold_little() -> None:
    """512 KiB each (DESIGN 3), and what malloc keeps; reads of 2 MiB were kept once."""

    def pour(sock: Any) -> None:
        read_head_of(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        with contextlib.suppress(OSError):
            while True:
                sock.sendall(bytes(1 << 20))

    count = 12
    with (
        far(0) as server,
        near(server.port) as proxy,
        Service(pour) as service,
        contextlib.ExitStack() as stack,
    ):

        def begin() -> None:
            sock = stack.enter_context(connect(proxy.port))
            sock.sendall(get(service.port))
            read_exactly(sock, 2 << 20)

        begin()  # what is only once has been there
        before = proxy.rss()
        for _ in range(count):
            begin()
        assert (proxy.rss() - before) / count < 900 * 1024


def read_head_of(sock: Any) -> bytes:
    """A head, with the empty line; nothing at the end."""
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        if not byte:
            return b""
        data += byte
    return data
