"""fastws proxy-server: its limits, its end, and who comes in."""

import contextlib
import json
import shutil
import signal
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import rawws
from tests.support.certs import certs
from tests.support.cli import Fastws, eventually, run_fastws
from tests.support.pool_client import CONNECTED, IDENT, PoolClient, pooled
from tests.support.rust_proxy import opened, plain_server, proxy_server
from tests.support.services import (
    Service,
    connect,
    ends_with_reset,
)
from tests.support.timing import LONG, SHORT, UNIT, units

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def server() -> Iterator[Fastws]:
    with plain_server() as process:
        yield process


# -- limits ------------------------------------------------------------------------


def test_websockets_in_all(service: Service) -> None:
    with plain_server("--max-connections", "2") as server, contextlib.ExitStack() as on:
        clients = [on.enter_context(pooled(server.port)) for _ in range(2)]
        assert health(server.port) == 503
        with pooled(server.port) as client:
            assert client.answer.status == 503
            assert client.answer.fields["retry-after"]
        server.wait_for("full: --max-connections 2")
        for client in clients:
            assert client.ask(service.port, b"hello") == b"hello"
        clients[0].sock.close()
        eventually(lambda: health(server.port) == 200)


def health(port: int, path: str = "/readyz") -> int:
    with connect(port) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        return rawws.Reader(sock).head().status


def test_websockets_of_one_address() -> None:
    with plain_server("--max-per-ip", "1") as server, pooled(server.port) as client:
        assert client.answer.status == 101
        with pooled(server.port) as other:
            assert other.answer.status == 503
        server.wait_for(r"1 connections of this address \(--max-per-ip\)")


def test_idle_websocket_is_closed(service: Service) -> None:
    with (
        plain_server("--pool-idle", units(15)) as server,
        pooled(server.port) as client,
    ):
        for _ in range(3):
            assert client.ask(service.port, b"hello") == b"hello"
        assert client.hears_close() == (1000, b"idle")
        client.close()
        assert client.at_end()


def test_pings_come_while_no_stream_is_open(service: Service) -> None:
    with plain_server("--ping", units(2)) as server, pooled(server.port) as client:
        for _ in range(3):
            while client.pings < 2:
                frame = client.frame()
                assert frame.opcode == rawws.PING
                client.send(rawws.PONG, frame.payload)
                client.pings += 1
            client.pings = 0
            assert client.ask(service.port, b"hello") == b"hello"


def test_silent_client_is_dead(service: Service) -> None:
    ended: list[bool] = []

    def hold(sock: Any) -> None:
        sock.sendall(b"!")
        ended.append(ends_with_reset(sock))

    pings = ("--ping", units(2), "--ping-deadline", units(10))
    with Service(hold) as held, plain_server(*pings) as server:
        with pooled(server.port) as client:
            assert client.dialled("127.0.0.1", held.port) == CONNECTED
            server.wait_for(f"id={IDENT}/1 .* client: ping timeout", LONG)
            eventually(lambda: ended == [True])


# -- draining ----------------------------------------------------------------------


def test_drain_lets_streams_end_and_says_1001(service: Service) -> None:
    with plain_server() as server, contextlib.ExitStack() as stack:
        idle = [stack.enter_context(pooled(server.port)) for _ in range(4)]
        busy = stack.enter_context(pooled(server.port))
        assert busy.dialled("127.0.0.1", service.port) == CONNECTED
        server.signal(signal.SIGTERM)
        server.wait_for("draining")
        eventually(lambda: is_refused(server.port))
        busy.give(b"still here")
        assert busy.take_data(10) == b"still here"
        # What was idle may begin another stream, and is closed after it.
        assert idle[0].ask(service.port, b"hello") == b"hello"
        assert idle[0].hears_close() == (1001, b"draining")
        idle[0].close()
        busy.finish()
        assert busy.hears_finish()
        for client in (busy, *idle[1:]):
            assert client.hears_close() == (1001, b"draining")
            client.close()
        assert server.wait() == 0
        server.wait_for("WebSocket ended after 1 stream: draining")
        server.wait_for("stopped proxy-server: 2 connections, ")


def is_refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), SHORT).close()
    except OSError:
        return True
    return False


def test_drain_ends_streams_at_its_time(service: Service) -> None:
    with plain_server("--drain-timeout", units(3)) as server:
        with pooled(server.port) as client:
            assert client.dialled("127.0.0.1", service.port) == CONNECTED
            server.signal(signal.SIGTERM)
            assert client.hears_close() == (1001, b"draining")
            client.close()
        assert server.wait() == 0
        server.wait_for(rf"id={IDENT}/1 in=0 out=0 \S+ draining")


def test_second_signal_ends_all_at_once(service: Service) -> None:
    with plain_server() as server, pooled(server.port) as client:
        assert client.dialled("127.0.0.1", service.port) == CONNECTED
        server.signal(signal.SIGTERM)
        server.wait_for("draining")
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


# -- the way in, and the start -----------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("127.0.0.1:0",), "Error: LISTEN: whoever reaches it could use the proxy"),
        ((":0",), "Error: LISTEN: whoever reaches it could use the proxy"),
        (("0", "--no-auth", "--auth-token", "secret"), "contradicts --no-auth"),
        (("-", "--no-auth"), "LISTEN: must be a port, unix:/PATH or fd:3"),
        (("udp:0", "--no-auth"), "LISTEN: must be a port, unix:/PATH or fd:3"),
        (("0", "--no-auth", "--max-data", "0"), "--max-data: must be from 1 to 64KiB"),
        (("0", "--no-auth", "--max-data", "64.1KiB"), "--max-data"),
        (("0", "--no-auth", "--plain-too"), "--plain-too: needs --cert"),
        (("0", "--no-auth", "--cert", "/no/file"), "--cert /no/file: cannot be read"),
    ],
)
def test_start_is_refused(arguments: tuple[str, ...], text: str) -> None:
    ended = run_fastws("proxy-server", *arguments)
    assert ended.returncode == 78 or "64.1" in "".join(arguments)
    assert text in ended.stderr
    assert "secret" not in ended.stderr


def test_without_auth_everybody_comes_in_but_pages(service: Service) -> None:
    with plain_server("--no-auth") as server:
        with pooled(server.port, Authorization=None) as client:
            assert client.ask(service.port, b"hello") == b"hello"
        for origin in ("https://evil.example", "null"):
            with pooled(server.port, Origin=origin) as client:
                assert client.answer.status == 403
        server.wait_for(r"Origin .* is not this host \(--allow-origin\)")


def test_health_and_other_requests(server: Fastws) -> None:
    assert [health(server.port, path) for path in ("/healthz", "/readyz")] == [200, 200]
    assert health(server.port, "/") == 426


def test_source_address(service: Service) -> None:
    seen: list[str] = []

    def look(sock: Any) -> None:
        seen.append(sock.getpeername()[0])

    with Service(look) as target, plain_server("--source", "127.0.0.9") as server:
        with pooled(server.port) as client:
            assert client.dialled("127.0.0.1", target.port) == CONNECTED
            assert client.hears_finish()
    assert seen == ["127.0.0.9"]


def test_two_workers(service: Service) -> None:
    with plain_server("--workers", "2") as server, contextlib.ExitStack() as stack:
        clients: list[PoolClient] = []
        for _ in range(12):
            clients.append(stack.enter_context(pooled(server.port)))
        for number, client in enumerate(clients):
            data = b"%d" % number
            assert client.ask(service.port, data) == data


def test_idle_streams_end(service: Service) -> None:
    with plain_server("--idle-timeout", units(4)) as server:
        with pooled(server.port) as client:
            assert client.dialled("127.0.0.1", service.port) == CONNECTED
            assert client.hears_close()[0] == 1001
            server.wait_for(rf"id={IDENT}/1 .* idle time-out")


def test_websockets_without_a_stream_hold_little(server: Fastws) -> None:
    """A waiting connection costs no buffers: KiB each, not the 64 of a read."""
    count = 200
    with contextlib.ExitStack() as stack:
        for _ in range(50):  # what is only once has been there
            stack.enter_context(pooled(server.port))
        eventually(lambda: server.files() >= 50)
        before = server.rss()
        for _ in range(count):
            stack.enter_context(pooled(server.port))
        eventually(lambda: server.files() >= 50 + count)
        assert (server.rss() - before) / count < 32 * 1024
    eventually(lambda: server.count("WebSocket ended after 0 streams") >= count, LONG)


def test_certificate_is_renewed_for_connections_from_then_on(tmp_path: Path) -> None:
    cert = tmp_path / "cert.pem"
    shutil.copy(certs().server, cert)
    with plain_server("--cert", str(cert)) as server:
        with opened(server.port) as client:
            shutil.copy(certs().stranger, tmp_path / "new.pem")
            (tmp_path / "new.pem").replace(cert)  # seen by itself
            server.wait_for("INFO .*proxy-server: certificates and keys reloaded")
            assert client.is_quiet(UNIT)
        with pytest.raises(ssl.SSLCertVerificationError), opened(server.port):
            pass
        with opened(server.port, tls=plain_client_context(certs().other_ca)):
            pass
        cert.write_text("nonsense")
        server.wait_for(f"ERROR .*nothing reloaded: --cert {cert}: holds no cert")
        with opened(server.port, tls=plain_client_context(certs().other_ca)):
            pass


def plain_client_context(ca: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(ca)
    return context


def test_clients_without_tls_on_the_same_port(service: Service) -> None:
    with proxy_server("--plain-too") as server:
        with pooled(server.port) as client:
            assert client.ask(service.port, b"hello") == b"hello"
        with opened(server.port) as client:
            assert client.ask(service.port, b"hello") == b"hello"


def test_proxy_header_names_the_client() -> None:
    header = b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\n"
    with plain_server("--proxy-protocol", "require") as server:
        with connect(server.port) as sock:
            sock.sendall(header + rawws.request(Authorization="Bearer wrong"))
            assert rawws.Reader(sock).head().status == 401
        server.wait_for("proxy-server 203.0.113.7:4711: wrong token")


def test_log_in_json_has_client_and_target(service: Service) -> None:
    with plain_server("--log-format", "json") as server:
        with pooled(server.port) as client:
            assert client.ask(service.port, b"hello") == b"hello"
        line = server.wait_for('"bytes_in": 5')
        fields = json.loads(line)
        assert fields["target"] == f"127.0.0.1:{service.port}"
        assert fields["client"].startswith("127.0.0.1:")
        assert fields["id"] == f"{IDENT}/1"
        assert fields["mode"] == "proxy-server"
