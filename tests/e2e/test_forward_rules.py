"""fastws proxy: where it may lead, its life, forwards and other proxies."""

import asyncio
import signal
import socket
from pathlib import Path

import pytest

import fastws
from fastws.http.password import hash_password
from tests.support.asking import (
    NO_LOGIN,
    Associated,
    basic,
    connect_head,
    connect_status,
    get,
    reply,
    request,
    socks_code,
)
from tests.support.certs import certs, plain_client_context
from tests.support.cli import Fastws, run_fastws
from tests.support.datagrams import UdpService
from tests.support.far_away import FarAway
from tests.support.origin import Origin, forward_proxy, read_answer, read_head
from tests.support.servers import eventually, free_port, run_on
from tests.support.services import (
    Service,
    ask,
    connect,
    is_silent,
    pump_through,
    read_exactly,
    read_to_end,
)
from tests.support.timing import LONG, SHORT, UNIT

pytestmark = pytest.mark.e2e

SIZE = 1 << 20


# -- where it may lead ---------------------------------------------------------------


def test_open_proxy_refuses_to_start() -> None:
    for listen in (":0", "0.0.0.0:0"):
        ended = run_fastws("proxy", listen)
        assert ended.returncode == 78
        assert "LISTEN: others than this machine could use the proxy" in ended.stderr


def test_private_destinations_are_refused_to_a_network(
    service: Service, origin: Origin
) -> None:
    """CONNECT, SOCKS5, plain requests and datagrams; the refusal says why."""
    with forward_proxy("--no-auth", listen="0.0.0.0:0") as proxy:
        for host in ("127.0.0.1", "localhost", "127.1"):
            assert connect_status(proxy, f"{host}:{service.port}") == 403
        proxy.wait_for(r"127\.0\.0\.1 is loopback, and no --allow names it")
        for host in ("127.0.0.1", "localhost", "::ffff:127.0.0.1", "0.0.0.0"):
            assert socks_code(proxy, host, service.port) == 2
        with connect(proxy.port) as sock:
            sock.sendall(get(origin.port))
            assert read_head(sock)[0] == 403
        with UdpService() as udp:
            for patience in (UNIT, SHORT):  # on a busy machine a lookup takes long
                proxy.mark = len(proxy.lines)
                with Associated(proxy) as client:
                    client.send("127.0.0.1", udp.port, b"denied")
                    client.send("localhost", udp.port, b"denied")
                    assert is_silent(client.udp, patience)
                line = proxy.wait_for("socks5 udp ")
                if "2 denied (" in line:
                    break
            assert "2 denied (" in line
            assert "--allow" in line
            assert udp.seen == []


def test_rules_open_and_close(service: Service) -> None:
    other = free_port()
    rules = ("--allow", f"127.0.0.1:{service.port}", "--deny", "*.bad.example")
    with forward_proxy("--no-auth", *rules, listen="0.0.0.0:0") as proxy:
        assert socks_code(proxy, "127.0.0.1", service.port) == 0
        assert socks_code(proxy, "127.0.0.1", other) == 2
        assert socks_code(proxy, "x.bad.example", service.port) == 2
        proxy.wait_for(r"x\.bad\.example:\d+: forbidden: --deny \*\.bad\.example")


def test_rules_hold_on_loopback_too(service: Service) -> None:
    with forward_proxy("--deny", "private") as proxy:
        assert socks_code(proxy, "127.0.0.1", service.port) == 2
    ended = run_fastws("proxy", "127.0.0.1:0", "--deny", "10.0.0.1/8")
    assert ended.returncode == 2
    assert "cuts its address; write 10.0.0.0/8" in ended.stderr


# -- life ----------------------------------------------------------------------------


def test_users_are_read_again(tmp_path: Path, service: Service) -> None:
    path = tmp_path / "users.txt"
    path.write_text(f"old:{hash_password('pw', bytes(16))}\n", "utf-8")
    where = f"127.0.0.1:{service.port}"
    with forward_proxy("--users", str(path)) as proxy:
        assert connect_status(proxy, where, basic("old:pw")) == 200
        path.write_text(f"new:{hash_password('pw', bytes(16))}\n", "utf-8")
        proxy.signal(signal.SIGHUP)
        proxy.wait_for("users reloaded", LONG)
        assert connect_status(proxy, where, basic("old:pw")) == 407
        assert connect_status(proxy, where, basic("new:pw")) == 200


def test_pairs_of_a_file_are_read_again(tmp_path: Path, service: Service) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text("alice:old\nbob:pw\n", "utf-8")
    where = f"127.0.0.1:{service.port}"
    with forward_proxy(FASTWS_USER_FILE=str(path)) as proxy:
        assert connect_status(proxy, where, basic("alice:old")) == 200
        assert connect_status(proxy, where, basic("bob:pw")) == 200
        path.write_text("alice:new\n", "utf-8")
        proxy.signal(signal.SIGHUP)
        proxy.wait_for("the value of --user reloaded", LONG)
        for pair in ("alice:old", "bob:pw"):
            assert connect_status(proxy, where, basic(pair)) == 407
        assert connect_status(proxy, where, basic("alice:new")) == 200
        assert "old" not in proxy.text


def test_broken_users_file_stops_the_start(tmp_path: Path) -> None:
    path = tmp_path / "users.txt"
    path.write_text("alice:secret\n", "utf-8")
    ended = run_fastws("proxy", "127.0.0.1:0", "--users", str(path))
    assert ended.returncode == 78
    assert f"--users {path}: line 1: no $scrypt$" in ended.stderr
    assert "secret" not in ended.stderr


def test_drain_lets_idle_clients_go_and_streams_end(
    service: Service, origin: Origin
) -> None:
    with forward_proxy() as proxy:
        with connect(proxy.port) as idle, connect(proxy.port) as busy:
            idle.sendall(get(origin.port))
            assert read_answer(idle)[0] == 200
            busy.sendall(connect_head(f"127.0.0.1:{service.port}"))
            assert read_head(busy)[0] == 200
            proxy.signal(signal.SIGTERM)
            assert read_to_end(idle) == b""
            assert ask(busy, b"still here") == b"still here"
            busy.shutdown(socket.SHUT_WR)
            assert read_to_end(busy) == b""
        assert proxy.wait() == 0


def test_log_has_a_line_for_each_connection(service: Service) -> None:
    with forward_proxy() as proxy:
        with connect(proxy.port) as sock:
            sock.sendall(NO_LOGIN + request("127.0.0.1", service.port) + b"12345")
            read_exactly(sock, 2)
            reply(sock)
            assert read_exactly(sock, 5) == b"12345"
        line = proxy.wait_for(f"socks5 127.0.0.1:{service.port} id=")
        assert " in=5 out=5 " in line


def test_tls_on_listen(service: Service) -> None:
    with forward_proxy("--cert", certs().server) as proxy:
        with connect(proxy.port) as sock:
            context = plain_client_context()
            with context.wrap_socket(sock, server_hostname="localhost") as tls:
                tls.sendall(connect_head(f"127.0.0.1:{service.port}"))
                assert read_head(tls)[0] == 200
                assert ask(tls, b"hello") == b"hello"


# -- forwards and other proxies -------------------------------------------------------


def test_forward_needs_no_listen(service: Service) -> None:
    target = f"127.0.0.1:{service.port}"
    with Fastws("proxy", "--forward", f"127.0.0.1:0={target}") as proxy:
        with connect(proxy.port) as sock:
            assert ask(sock, b"hello") == b"hello"
        proxy.wait_for(f"forward {target} id=")


def test_forwards_stand_beside_the_proxy(service: Service, origin: Origin) -> None:
    port = free_port()
    target = f"127.0.0.1:{service.port}"
    options = ("--forward", f"{port}={target}", "--user", "alice:pw")
    with forward_proxy(*options) as proxy:
        proxy.wait_for(f"proxy on 127.0.0.1:{port}", LONG, 0)
        with connect(port) as sock:
            assert ask(sock, b"hello") == b"hello"
        where = f"127.0.0.1:{origin.port}"
        assert connect_status(proxy, where) == 407
        assert connect_status(proxy, where, basic("alice:pw")) == 200


@pytest.mark.parametrize("scheme", ["http", "https", "socks5", "socks5h"])
def test_d11_second_level_proxy(service: Service, origin: Origin, scheme: str) -> None:
    cert = ("--cert", certs().server) if scheme == "https" else ()
    with forward_proxy("--user", "alice:p@ss", *cert) as far:
        url = f"{scheme}://alice:p%40ss@localhost:{far.port}"
        ca = ("--proxy-ca", certs().ca) if scheme == "https" else ()
        with forward_proxy("--via", url, *ca) as near:
            assert f"through {scheme}://localhost:{far.port}, TLS" in near.lines[0]
            assert "p@ss" not in near.text
            with connect(near.port) as sock:
                sock.sendall(connect_head(f"127.0.0.1:{service.port}"))
                assert read_head(sock)[0] == 200
                pump_through(sock, SIZE, 3)
            with connect(near.port) as sock:
                sock.sendall(get(origin.port, "127.0.0.1", "/far"))
                assert read_answer(sock)[1]["path"] == "/far"
            assert socks_code(near, "127.0.0.1", service.port) == 0
            socks = scheme.startswith("socks")
            assert socks_code(near, "127.0.0.1", free_port()) == (5 if socks else 1)
            assert socks_code(near, "127.0.0.1", 80, command=3) == 7
            far.wait_for(f"{'socks5' if socks else 'connect'} 127.0.0.1:")


def test_d11_rules_hold_before_another_proxy_is_asked(service: Service) -> None:
    with forward_proxy() as far:
        via = ("--via", f"socks5h://127.0.0.1:{far.port}", "--no-auth")
        with forward_proxy(*via, listen="0.0.0.0:0") as near:
            assert socks_code(near, "127.0.0.1", service.port) == 2
        via = ("--via", f"socks5://127.0.0.1:{far.port}", "--no-auth")
        with forward_proxy(*via, listen="0.0.0.0:0") as near:
            assert socks_code(near, "localhost", service.port) == 2


def test_via_name_is_added_and_refused_when_it_comes_back(origin: Origin) -> None:
    url, before = f"http://127.0.0.1:{origin.port}/", len(origin.seen)
    with forward_proxy("--via-name", "edge-1") as proxy:
        for via, status in (("1.0 other", 200), ("1.1 edge-1", 508)):
            with connect(proxy.port) as sock:
                text = f"GET {url} HTTP/1.1\r\nHost: x\r\nVia: {via}\r\n\r\n"
                sock.sendall(text.encode())
                code, fields = read_head(sock)
                assert code == status
                if status == 200:
                    assert fields["via"] == "1.1 edge-1"
    assert [seen["fields"]["via"] for seen in origin.seen[before:]] == ["1.1 edge-1"]


def test_a_ring_of_proxies_ends_where_it_began(service: Service) -> None:
    """Each asks the other; the one that hears its own name again refuses (508)."""
    with FarAway(0, 0.0) as there:
        names = iter("ab")

        def ask_next(port: int) -> Fastws:
            via = f"http://127.0.0.1:{port}"
            return forward_proxy("--via-name", next(names), "--via", via)

        with ask_next(there.port) as a, ask_next(a.port) as b:
            there.behind = b.port
            assert connect_status(a, f"127.0.0.1:{service.port}") == 502
            a.wait_for(r"a loop \(Via\)", start=0)
            a.wait_for("does not connect to .*: 502", start=0)
            b.wait_for("does not connect to .*: 508", start=0)
            heard = len(a.lines)
            assert socks_code(b, "127.0.0.1", service.port) == 1
            a.wait_for(r"a loop \(Via\)", start=heard)


def test_unix_socket_is_this_machine(tmp_path: Path, service: Service) -> None:
    """No users are needed there; datagrams have no address to come to."""
    path = tmp_path / "proxy.sock"
    with forward_proxy(listen=f"unix:{path}"):
        for command, code in ((1, 0), (3, 7)):
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(LONG)
                sock.connect(str(path))
                ask_for = request("127.0.0.1", service.port, command)
                sock.sendall(NO_LOGIN + ask_for)
                assert read_exactly(sock, 2) == b"\5\0"
                assert reply(sock)[0] == code
                if not code:
                    assert ask(sock, b"hello") == b"hello"


def test_workers_share_the_port(service: Service) -> None:
    with forward_proxy("--workers", "2", "--user", "alice:pw") as proxy:
        where = f"127.0.0.1:{service.port}"
        for _ in range(8):
            assert connect_status(proxy, where) == 407
            assert connect_status(proxy, where, basic("alice:pw")) == 200


def test_program_runs_a_proxy_of_its_own(service: Service) -> None:
    async def main() -> bytes:
        spec = fastws.ForwardProxy(listen="127.0.0.1:0")
        async with fastws.app.start(spec) as [running]:
            port = int(running.endpoints[0].rpartition(":")[2])
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            where = f"127.0.0.1:{service.port}"
            writer.write(connect_head(where) + b"hello")
            await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), LONG)
            answer = await asyncio.wait_for(reader.readexactly(5), LONG)
            writer.write_eof()
            assert await asyncio.wait_for(reader.read(), LONG) == b""
            writer.close()
            await eventually(lambda: running.stats.open == 0)
            assert (running.stats.bytes_in, running.stats.bytes_out) == (5, 5)
            return answer

    assert run_on("uvloop", main()) == b"hello"
