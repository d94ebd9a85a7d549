"""fastws proxy byte by byte: section D of the checklist."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastws.http.password import hash_password
from tests.support.asking import (
    NO_LOGIN,
    Associated,
    basic,
    connect_head,
    connect_status,
    get,
    log_in,
    reply,
    request,
    socks_code,
)
from tests.support.certs import certs, plain_client_context, plain_server_context
from tests.support.cli import Fastws, run_fastws
from tests.support.datagrams import UdpService
from tests.support.machine import needs_ipv6
from tests.support.origin import Origin, forward_proxy, read_answer, read_head
from tests.support.servers import free_port
from tests.support.services import (
    Service,
    ask,
    connect,
    echo,
    ends_with_reset,
    is_silent,
    pump_through,
    read_exactly,
    read_to_end,
)
from tests.support.timing import UNIT, units

pytestmark = pytest.mark.e2e

SIZE = 4 << 20


@pytest.fixture(scope="module")
def proxy() -> Iterator[Fastws]:
    with forward_proxy() as process:
        yield process


# -- section D ---------------------------------------------------------------------


def test_d1_requests_in_absolute_form(proxy: Fastws, origin: Origin) -> None:
    """GET, POST by length and in chunks, on one connection that is kept."""
    accepted = origin.accepted
    where = f"127.0.0.1:{origin.port}"
    post = f"POST http://{where}/p HTTP/1.1\r\nHost: {where}\r\n"
    with connect(proxy.port) as sock:
        sock.sendall(get(origin.port, "127.0.0.1", "/x?y=z"))
        status, seen = read_answer(sock)
        assert (status, seen["method"], seen["path"]) == (200, "GET", "/x?y=z")
        assert seen["fields"]["host"] == where
        sock.sendall(f"{post}Content-Length: 5\r\n\r\nhello".encode())
        assert read_answer(sock)[1]["body"] == "hello"
        chunks = f"{post}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n"
        sock.sendall(f"{chunks}\r\n".encode())
        assert read_answer(sock)[1]["body"] == "abcde"
    assert origin.accepted == accepted + 1


def test_d2_connect_carries_tls(proxy: Fastws) -> None:
    with Service(echo, tls=plain_server_context(certs().server)) as service:
        with connect(proxy.port) as sock:
            sock.sendall(connect_head(f"127.0.0.1:{service.port}"))
            assert read_head(sock)[0] == 200
            context = plain_client_context()
            with context.wrap_socket(sock, server_hostname="localhost") as tls:
                assert ask(tls, b"hello") == b"hello"


def test_d2_bytes_glued_to_connect_reach_the_target(
    proxy: Fastws, service: Service
) -> None:
    with connect(proxy.port) as sock:
        sock.sendall(connect_head(f"127.0.0.1:{service.port}") + b"early")
        assert read_head(sock)[0] == 200
        assert read_exactly(sock, 5) == b"early"
        assert ask(sock, b"later") == b"later"
        sock.shutdown(socket.SHUT_WR)
        assert read_to_end(sock) == b""


@pytest.mark.parametrize("way", ["connect", "socks5"])
def test_every_byte_arrives(proxy: Fastws, service: Service, way: str) -> None:
    with connect(proxy.port) as sock:
        if way == "connect":
            sock.sendall(connect_head(f"127.0.0.1:{service.port}"))
            assert read_head(sock)[0] == 200
        else:
            sock.sendall(NO_LOGIN + request("127.0.0.1", service.port))
            read_exactly(sock, 2)
            assert reply(sock)[0] == 0
        pump_through(sock, SIZE, 7)


def test_target_that_resets_is_a_reset_for_the_client(proxy: Fastws) -> None:
    def hang_up(sock: Any) -> None:
        read_exactly(sock, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    with Service(hang_up) as service, connect(proxy.port) as sock:
        sock.sendall(NO_LOGIN + request("127.0.0.1", service.port) + b"x")
        read_exactly(sock, 2)
        assert reply(sock)[0] == 0
        assert ends_with_reset(sock)


def speaks(proxy: Fastws, origin: Origin) -> set[str]:
    """What a proxy answers to; what is refused is refused in its own words."""
    found = set()
    with connect(proxy.port) as sock:
        sock.sendall(get(origin.port))
        status = read_answer(sock)[0]
        assert status in (200, 403)
        found |= {"http"} if status == 200 else set()
    status = connect_status(proxy, f"127.0.0.1:{origin.port}")
    assert status in (200, 403)
    found |= {"https"} if status == 200 else set()
    with connect(proxy.port) as sock:
        sock.sendall(NO_LOGIN)
        method = read_exactly(sock, 2)
        assert method in (b"\5\0", b"\5\xff")
        found |= {"socks5"} if method == b"\5\0" else set()
    return found


def test_d3_one_port_for_all(proxy: Fastws, origin: Origin) -> None:
    assert speaks(proxy, origin) == {"http", "https", "socks5"}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("socks5", {"socks5"}),
        ("https", {"https"}),
        ("HTTP, socks5", {"http", "socks5"}),
        ("1", {"http"}),
        ("6", {"https", "socks5"}),
    ],
)
def test_d4_protocols_are_restricted(
    origin: Origin, text: str, names: set[str]
) -> None:
    with forward_proxy("--protocols", text) as proxy:
        assert speaks(proxy, origin) == names


@pytest.mark.parametrize("text", ["", "0", "8", "ftp", "http;socks5", "-1"])
def test_d4_other_protocols_are_no_option(text: str) -> None:
    ended = run_fastws("proxy", "127.0.0.1:0", "--protocols", text)
    assert ended.returncode == 2
    assert "'--protocols'" in ended.stderr


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("users") / "users.txt"
    path.write_text(f"carl:{hash_password('pa:ss', bytes(16))}\n", "utf-8")
    return path


@pytest.fixture(scope="module")
def guarded(users: Path) -> Iterator[Fastws]:
    options = ("--user", "alice:se:cret", "--users", str(users))
    with forward_proxy(*options) as process:
        yield process


WRONG = {
    "none": "X-None: 1",
    "wrong-user": basic("bob:se:cret"),
    "wrong-password": basic("alice:secret"),
    "other-users-password": basic("carl:se:cret"),
    "hashed-wrong": basic("carl:pass"),
    "no-colon": basic("alice"),
    "bad-base64": "Proxy-Authorization: Basic !!!",
    "bearer": "Proxy-Authorization: Bearer se:cret",
    "of-the-origin": basic("alice:se:cret").removeprefix("Proxy-"),
}


@pytest.mark.parametrize("field", WRONG.values(), ids=WRONG)
def test_d5_without_the_right_login_nothing_is_dialled(
    guarded: Fastws, field: str
) -> None:
    with Service(echo) as service:
        where = f"127.0.0.1:{service.port}"
        for start in (connect_head(where, field), get(service.port, *_at(field))):
            with connect(guarded.port) as sock:
                sock.sendall(start)
                status, fields = read_head(sock)
                assert status == 407
                assert fields["proxy-authenticate"].startswith('Basic realm="fastws"')
        assert service.accepted == 0


def _at(field: str) -> tuple[str, str, str]:
    return "127.0.0.1", "/", field


@pytest.mark.parametrize(
    "pair", ["alice:secret", "bob:se:cret", "carl:pass", "hunter2:", ":"]
)
def test_d5_socks_login_is_refused(guarded: Fastws, pair: str) -> None:
    """The log names no user that it does not know: it may be a password."""
    user, _, password = pair.partition(":")
    with connect(guarded.port) as sock:
        assert log_in(sock, user, password) == b"\1\1"
        assert read_to_end(sock) == b""
    guarded.wait_for("SOCKS5 user or password is wrong$")
    assert "se:cret" not in guarded.text
    assert "hunter2" not in guarded.text


def test_d5_guesses_are_limited_by_address(users: Path) -> None:
    options = ("--user", "alice:pw", "--users", str(users), "--auth-attempts", "2")
    with forward_proxy(*options) as process, Service(echo) as service:
        where = f"127.0.0.1:{service.port}"
        for _ in range(3):  # who says nothing has guessed nothing
            assert connect_status(process, where, "X-None: 1") == 407
        assert connect_status(process, where, basic("carl:no")) == 407
        with connect(process.port) as sock:
            assert log_in(sock, "alice", "no") == b"\1\1"
        for pair in ("alice:no", "alice:pw", "carl:pa:ss"):
            with connect(process.port) as sock:
                sock.sendall(connect_head(where, basic(pair)))
                status, fields = read_head(sock)
            assert status == 429
            assert 0 < int(fields["retry-after"]) <= 30
            user, _, password = pair.partition(":")
            with connect(process.port) as sock:
                assert log_in(sock, user, password) == b"\1\1"
                assert read_to_end(sock) == b""
            text = r"INFO .* 2 wrong passwords of this address \(--auth-attempts\)"
            process.wait_for(text)
        assert service.accepted == 0
    # All of them, those that said nothing, and those that guessed.
    process.wait_for(r"stopped proxy: 0 connections, 11 refused \(5 unauthorized\)")


def test_d5_guesses_without_a_limit() -> None:
    options = ("--user", "alice:pw", "--auth-attempts", "0")
    with forward_proxy(*options) as process, Service(echo) as service:
        where = f"127.0.0.1:{service.port}"
        for _ in range(25):
            assert connect_status(process, where, basic("alice:no")) == 407
        assert connect_status(process, where, basic("alice:pw")) == 200


@pytest.mark.parametrize("pair", ["alice:se:cret", "carl:pa:ss"])
def test_d5_right_login_lets_in(
    guarded: Fastws, service: Service, origin: Origin, pair: str
) -> None:
    where = f"127.0.0.1:{service.port}"
    assert connect_status(guarded, where, basic(pair)) == 200
    with connect(guarded.port) as sock:
        sock.sendall(get(origin.port, "127.0.0.1", "/", basic(pair)))
        assert read_answer(sock)[0] == 200
    user, _, password = pair.partition(":")
    with connect(guarded.port) as sock:
        assert log_in(sock, user, password) == b"\1\0"
        sock.sendall(request("127.0.0.1", service.port))
        assert reply(sock)[0] == 0
        assert ask(sock, b"hello") == b"hello"


def test_d6_origins_alternate_on_one_connection(guarded: Fastws) -> None:
    login = basic("alice:se:cret")
    with Origin(name="a") as a, Origin(name="b") as b, connect(guarded.port) as sock:
        for number in range(4):
            at = (a, b)[number % 2]
            sock.sendall(get(at.port, "127.0.0.1", f"/{number}", login))
            status, seen = read_answer(sock)
            assert (status, seen["origin"], seen["path"]) == (
                200,
                at.name,
                f"/{number}",
            )
        for seen in a.seen + b.seen:
            assert "proxy-authorization" not in seen["fields"]
        assert (len(a.seen), len(b.seen)) == (2, 2)


def test_d7_transcript_of_rfc_1928(proxy: Fastws, service: Service) -> None:
    with connect(proxy.port) as sock:
        sock.sendall(NO_LOGIN)
        assert read_exactly(sock, 2) == b"\5\0"
        sock.sendall(request("127.0.0.1", service.port))
        code, host, port = reply(sock)
        assert (code, host) == (0, "127.0.0.1")
        assert port not in (0, service.port)
        assert ask(sock, b"hello") == b"hello"


@needs_ipv6
def test_d8_ipv6(proxy: Fastws) -> None:
    with Origin("::1") as origin, connect(proxy.port) as sock:
        sock.sendall(NO_LOGIN + request("::1", origin.port))
        read_exactly(sock, 2)
        assert reply(sock)[:2] == (0, "::1")
        sock.sendall(b"GET /6 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_answer(sock)[1]["path"] == "/6"


def test_d8_name(proxy: Fastws, service: Service) -> None:
    with connect(proxy.port) as sock:
        sock.sendall(NO_LOGIN + request("localhost", service.port))
        read_exactly(sock, 2)
        assert reply(sock)[0] == 0
        assert ask(sock, b"hello") == b"hello"


def test_d10_each_failure_has_its_code(proxy: Fastws) -> None:
    assert socks_code(proxy, "127.0.0.1", free_port()) == 5
    assert socks_code(proxy, "-no.such.name.invalid", 80) == 4
    assert socks_code(proxy, "127.0.0.1", 80, command=2) == 7
    assert connect_status(proxy, f"127.0.0.1:{free_port()}") == 502
    assert connect_status(proxy, "-no.such.name.invalid:80") == 502
    assert connect_status(proxy, "nonsense") == 400


@needs_ipv6
def test_d12_ipv6_literals(proxy: Fastws) -> None:
    with Origin("::1") as origin:
        with connect(proxy.port) as sock:
            sock.sendall(get(origin.port, "::1", "/lit"))
            status, seen = read_answer(sock)
            assert (status, seen["path"]) == (200, "/lit")
            assert seen["fields"]["host"] == f"[::1]:{origin.port}"
        with connect(proxy.port) as sock:
            sock.sendall(connect_head(f"[::1]:{origin.port}"))
            assert read_head(sock)[0] == 200
            sock.sendall(b"GET /tunnel HTTP/1.1\r\nHost: x\r\n\r\n")
            assert read_answer(sock)[1]["path"] == "/tunnel"


def test_slow_client_is_ended_at_the_handshake_time() -> None:
    with forward_proxy("--handshake-timeout", units(5)) as proxy:
        for start in (b"", b"\5", NO_LOGIN, b"CONNECT a"):
            with connect(proxy.port) as sock:
                sock.sendall(start)
                end = read_to_end(sock)
                assert end in (b"", b"\5\0") or end.startswith(b"HTTP/1.1 408 ")


# -- UDP ASSOCIATE -----------------------------------------------------------------


def test_d9_datagrams_to_two_targets(proxy: Fastws) -> None:
    with UdpService() as one, UdpService(lambda d: d[::-1]) as two:
        with Associated(proxy) as client:
            for _ in range(3):
                client.send("127.0.0.1", one.port, b"abc")
                assert client.receive() == ("127.0.0.1", one.port, b"abc")
                client.send("127.0.0.1", two.port, b"abc")
                assert client.receive() == ("127.0.0.1", two.port, b"cba")
            client.send("127.0.0.1", one.port, b"")
            assert client.receive() == ("127.0.0.1", one.port, b"")


def test_d9_fragments_and_nonsense_are_dropped_without_harm(proxy: Fastws) -> None:
    with UdpService() as service, Associated(proxy) as client:
        client.send("127.0.0.1", service.port, b"fragment", fragment=1)
        client.udp.sendto(b"", client.relay)
        client.udp.sendto(b"\0\0\0\7rubbish", client.relay)
        client.send("127.0.0.1", service.port, b"whole")
        assert client.receive() == ("127.0.0.1", service.port, b"whole")
        assert [data for data, _ in service.seen] == [b"whole"]


def test_d9_others_are_not_heard(proxy: Fastws) -> None:
    """Neither as the client, nor as a target that was not sent to."""
    with UdpService() as service, Associated(proxy) as client:
        client.send("127.0.0.1", service.port, b"first")
        client.receive()
        client.forge(service.port, service.seen[0][1])
        client.send("127.0.0.1", service.port, b"last")
        assert client.receive() == ("127.0.0.1", service.port, b"last")
        assert [data for data, _ in service.seen] == [b"first", b"last"]


def test_d9_association_ends_with_its_connection(proxy: Fastws) -> None:
    proxy.mark = len(proxy.lines)
    with UdpService() as service, Associated(proxy) as client:
        client.send("127.0.0.1", service.port, b"hello")
        client.receive()
        client.tcp.close()
        line = proxy.wait_for("socks5 udp 1 datagrams received, 1 sent, 0 dropped")
        assert line.endswith("in=5 out=5")
        client.send("127.0.0.1", service.port, b"after the end")
        assert is_silent(client.udp, UNIT)
        assert [data for data, _ in service.seen] == [b"hello"]
