"""Command lines as the users of websockify and wmproxy type them."""

import base64
import os
import re
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fastws.cli.main import cli
from tests.support import rawws
from tests.support.certs import certs, plain_client_context
from tests.support.cli import Fastws, clean_environment, eventually, run_fastws
from tests.support.rawws import BINARY, PING, upgraded
from tests.support.servers import free_port
from tests.support.services import Service, ask, connect, echo
from tests.support.timing import LONG, SHORT, UNIT

pytestmark = pytest.mark.e2e


def websockify(*arguments: str, **variables: str) -> Fastws:
    return Fastws("websockify", *arguments, **variables)


def works(port: int, path: str = "/", **fields: str) -> bool:
    with upgraded(port, path, **fields) as peer:
        peer.send(BINARY, b"hello")
        return peer.message(5) == b"hello"


def status(port: int, path: str = "/", **fields: str) -> int:
    with connect(port) as sock:
        sock.sendall(rawws.request(path, **fields))
        return rawws.Reader(sock).head().status


def status_over_tls(port: int, context: ssl.SSLContext) -> int:
    with context.wrap_socket(connect(port), server_hostname="localhost") as sock:
        sock.sendall(rawws.request())
        return rawws.Reader(sock).head().status


# websockify


def test_bare_port_means_all_interfaces_and_says_so(service: Service) -> None:
    with websockify("0", f"127.0.0.1:{service.port}") as process:
        assert process.endpoints[0].startswith("0.0.0.0:")
        assert re.search(r"WARNING port 0 is open on all interfaces", process.lines[0])
        assert works(process.port)


def test_bare_port_of_wts_stays_on_this_machine(service: Service) -> None:
    port = str(free_port())
    with Fastws("wts", port, f"127.0.0.1:{service.port}") as process:
        assert all("0.0.0.0" not in where for where in process.endpoints)
        process.wait_for(f"use :{port} for all interfaces", start=0)


def test_certificate_serves_tls_and_plain(service: Service) -> None:
    arguments = ("--cert", certs().cert, "--key", certs().key, "127.0.0.1:0")
    with websockify(*arguments, f"127.0.0.1:{service.port}") as process:
        assert status_over_tls(process.port, plain_client_context()) == 101
        assert status(process.port) == 101


def test_ssl_only_refuses_plain_clients(service: Service) -> None:
    arguments = ("--ssl-only", "--cert", certs().server, "127.0.0.1:0")
    with websockify(*arguments, f"127.0.0.1:{service.port}") as process:
        assert status_over_tls(process.port, plain_client_context()) == 101
        with connect(process.port) as sock, pytest.raises((AssertionError, OSError)):
            sock.sendall(rawws.request())
            rawws.Reader(sock).head()


def test_ssl_only_needs_a_certificate() -> None:
    done = run_fastws("websockify", "--ssl-only", "0", "127.0.0.1:9")
    assert done.returncode == 78
    assert "--ssl-only: needs a certificate" in done.stderr


def test_verify_client(service: Service) -> None:
    arguments = ("--verify-client", "--cafile", certs().ca, "--cert", certs().server)
    target = f"127.0.0.1:{service.port}"
    with websockify(*arguments, "127.0.0.1:0", target) as process:
        context = plain_client_context()
        with pytest.raises((OSError, AssertionError)):
            status_over_tls(process.port, context)
        context.load_cert_chain(certs().client)
        assert status_over_tls(process.port, context) == 101
        with connect(process.port) as sock, pytest.raises((AssertionError, OSError)):
            sock.sendall(rawws.request())
            rawws.Reader(sock).head()
        stranger = plain_client_context()
        stranger.load_cert_chain(certs().stranger)
        with pytest.raises((OSError, AssertionError)):
            status_over_tls(process.port, stranger)
        process.wait_for("TLS handshake failed: .*(unknown CA|self)")


def test_heartbeat(service: Service) -> None:
    arguments = ("--heartbeat", "0.2", "127.0.0.1:0", f"127.0.0.1:{service.port}")
    with websockify(*arguments) as process, upgraded(process.port) as peer:
        assert process.endpoints == [f"127.0.0.1:{process.port}"]
        assert "all interfaces" not in process.text
        assert ", ping 0.2s," in process.lines[0]
        assert peer.frame().opcode == PING
    arguments = ("--heartbeat", "0", "127.0.0.1:0", f"127.0.0.1:{service.port}")
    with websockify(*arguments) as process:
        assert ", ping off," in process.lines[0]


def test_unix_target(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with websockify("127.0.0.1:0", "--unix-target", path) as process:
        assert status(process.port) == 502
        with Service(echo, path=path):
            assert works(process.port)


@pytest.mark.parametrize("plugin", ["TokenFile", "websockify.token_plugins.TokenFile"])
def test_token_plugin(service: Service, tmp_path: Path, plugin: str) -> None:
    (tmp_path / "vnc").write_text(f"a: 127.0.0.1:{service.port}\n")
    arguments = ("--token-plugin", plugin, "--token-source", str(tmp_path))
    with websockify("127.0.0.1:0", *arguments) as process:
        assert works(process.port, "/websockify?token=a")
        assert status(process.port, "/websockify?token=b") == 403


def test_auth_plugin_and_web(service: Service, tmp_path: Path) -> None:
    (tmp_path / "vnc.html").write_text("noVNC")
    arguments = ("--auth-plugin", "BasicHTTPAuth", "--auth-source", "joe:s3cret:x")
    arguments += ("--web", str(tmp_path))
    target = f"127.0.0.1:{service.port}"
    with websockify(*arguments, "127.0.0.1:0", target) as process:
        good, bad = (
            "Basic " + base64.b64encode(text).decode()
            for text in (b"joe:s3cret:x", b"joe:s3cret")
        )
        assert works(process.port, Authorization=good)
        assert status(process.port, Authorization=bad) == 401
        assert status(process.port) == 401
        asked = "GET /vnc.html HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        answer, _ = rawws.exchange(process.port, f"{asked}\r\n".encode())
        assert answer.status == 401
        asked += f"Authorization: {good}\r\n\r\n"
        answer, body = rawws.exchange(process.port, asked.encode())
        assert (answer.status, body) == (200, b"noVNC")
        assert "s3cret" not in process.text


def test_run_once(service: Service) -> None:
    arguments = ("--run-once", "127.0.0.1:0", f"127.0.0.1:{service.port}")
    with websockify(*arguments) as process:
        with upgraded(process.port) as peer:
            peer.send(BINARY, b"hello")
            assert peer.message(5) == b"hello"
            eventually(lambda: is_free(process.port))
            peer.sock.sendall(rawws.close(1000))
            assert peer.frame().opcode == rawws.CLOSE
        assert process.wait() == 0


def test_idle_timeout_ends_the_server_not_the_connection(service: Service) -> None:
    arguments = ("--idle-timeout", "2", "127.0.0.1:0", f"127.0.0.1:{service.port}")
    with websockify(*arguments) as process:
        with upgraded(process.port) as peer:
            peer.sock.settimeout(2.5 + UNIT)
            with pytest.raises(TimeoutError):
                peer.frame()
            peer.sock.settimeout(SHORT)
            peer.send(BINARY, b"hello")
            assert peer.message(5) == b"hello"
        process.wait_for("no connection for 2 s: stopping")
        assert process.wait() == 0


def test_web_and_wts_as_a_websockify_user_types_it(
    service: Service, tmp_path: Path
) -> None:
    (tmp_path / "vnc.html").write_text("noVNC")
    arguments = ("wts", "--web", str(tmp_path), "127.0.0.1:0")
    with Fastws(*arguments, f"127.0.0.1:{service.port}") as process:
        asked = b"GET /vnc.html HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        answer, body = rawws.exchange(process.port, asked)
        assert (answer.status, body) == (200, b"noVNC")
        assert works(process.port, "/websockify")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no background processes")
def test_daemon_listens_when_the_command_returns(service: Service) -> None:
    port = free_port()
    command = ("websockify", "-D", f"127.0.0.1:{port}", f"127.0.0.1:{service.port}")
    done = run_fastws(*command, "--idle-timeout", "2")
    assert done.returncode == 0
    with upgraded(port) as peer:  # the first stays while somebody is connected
        peer.send(BINARY, b"hello")
        assert peer.message(5) == b"hello"
        second = run_fastws(*command, "--idle-timeout", "2")
    assert second.returncode == 1
    assert f"127.0.0.1:{port}: address already in use" in second.stderr
    eventually(lambda: is_free(port), 3 * SHORT)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no background processes")
def test_daemon_keeps_an_error_stream_that_is_a_file(
    service: Service, tmp_path: Path
) -> None:
    port, log = free_port(), tmp_path / "log"
    command = ("-D", f"127.0.0.1:{port}", f"127.0.0.1:{service.port}")
    with open(log, "wb") as file:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "fastws",
                "websockify",
                "--idle-timeout=2",
                *command,
            ],
            env=clean_environment(),
            stderr=file,
            timeout=LONG,
            check=False,
        )
    assert done.returncode == 0
    assert works(port)
    eventually(lambda: "in=5 out=5" in log.read_text())
    eventually(lambda: "stopping" in log.read_text(), 3 * SHORT)
    eventually(lambda: is_free(port))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no background processes")
def test_daemon_that_was_started_without_standard_streams(service: Service) -> None:
    """None of its sockets and files has a number that /dev/null gets later."""
    port = free_port()
    command = ("-D", f"127.0.0.1:{port}", f"127.0.0.1:{service.port}")
    command += ("--auth-plugin", "BasicHTTPAuth", "--auth-source", "joe:s3cret")
    shell = ("sh", "-c", 'exec "$0" "$@" <&- >&- 2>&-', sys.executable, "-m", "fastws")
    done = subprocess.run(
        [*shell, "websockify", "--run-once", "--idle-timeout=60", *command],
        env=clean_environment(),
        timeout=LONG,
        check=False,
    )
    assert done.returncode == 0
    good = "Basic " + base64.b64encode(b"joe:s3cret").decode()
    assert works(port, Authorization=good)
    eventually(lambda: is_free(port))


def is_free(port: int) -> bool:
    """Whether nobody listens on ``port``."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--record", "f"), "--record is not taken over from websockify: record with"),
        (("--record=f",), "--record is not taken over"),
        (("-v",), "--verbose is not taken over from websockify: use --log-level debug"),
        (("--traffic",), "use --log-level debug"),
        (("--timeout", "5"), "use timeout(1)"),
        (("--key-password", "x"), "openssl pkey"),
        (("--ssl-target",), "tls://HOST:PORT"),
        (("--ssl-version", "tlsv1_2"), "leave it out"),
        (("--ssl-ciphers", "x"), "leave it out"),
        (("--unix-listen", "f"), "unix:/PATH"),
        (("--unix-listen-mode", "600"), "umask"),
        (("--inetd",), "fd:0"),
        (("--web-auth",), "leave it out"),
        (("--wrap-mode", "exit"), "start the program by itself"),
        (("-6",), "[::]:PORT"),
        (("--libserver",), "leave it out"),
        (("--target-config", "f"), "--token-plugin TokenFile --token-source FILE"),
        (("--host-token",), "--route 'HOST/*=TARGET'"),
        (("--log-file", "f"), "2>FILE"),
        (("--syslog", "f"), "logger(1)"),
        (("--legacy-syslog",), "logger(1)"),
        (("--file-only",), "never listed"),
        (("--", "sleep", "1"), "wrapping a program is not taken over"),
        (("--token-plugin", "JSONTokenApi"), "TokenFile is the only one"),
        (("--token-plugin", "TokenFile"), "needs --token-source FILE"),
        (("--token-source", "f"), "needs --token-plugin TokenFile"),
        (("--auth-plugin", "ExpectOrigin"), "BasicHTTPAuth is the only one"),
        (("--auth-plugin", "BasicHTTPAuth"), "needs --auth-source USER:PASSWORD"),
        (("--auth-source", "a:b"), "needs --auth-plugin BasicHTTPAuth"),
        (("--unix-target", "/x"), "the target is given twice"),
        (("extra",), "Got unexpected extra argument (extra)"),
    ],
)
def test_refused_by_name(arguments: tuple[str, ...], message: str) -> None:
    result = invoke("websockify", "127.0.0.1:0", "127.0.0.1:9", *arguments)
    assert result.exit_code == 2
    assert message in result.output.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Missing argument '[SOURCE:]PORT'."),
        (("x", "127.0.0.1:9"), "Invalid value for '[SOURCE:]PORT': 'x' is not an"),
        (("::1:5901", "127.0.0.1:9"), "Invalid value for '[SOURCE:]PORT': '::1': put"),
        (("127.0.0.1:9", "127.0.0.1:9"), "[SOURCE:]PORT: is the address to connect"),
    ],
)
def test_source_is_named_as_in_the_help(
    arguments: tuple[str, ...], message: str
) -> None:
    result = invoke("websockify", *arguments)
    assert message in result.output.splitlines()[-1]


def invoke(*arguments: str) -> Result:
    """Run a command line in this process; nothing is started."""
    return CliRunner().invoke(cli, arguments, prog_name="fastws")


# wmproxy


def ws_proxy(*arguments: str) -> Fastws:
    return Fastws("ws-proxy", "--from", "127.0.0.1:0", *arguments)


def test_ws2tcp_and_tcp2ws(service: Service) -> None:
    target = f"127.0.0.1:{service.port}"
    with ws_proxy("-t", target, "--mode", "ws2tcp") as far:
        to = f"127.0.0.1:{far.port}"
        with ws_proxy("--to", to, "--mode", "tcp2ws") as near:
            with connect(near.port) as sock:
                assert ask(sock, b"hello") == b"hello"


def test_ws2tcp_admits_the_domain_only(service: Service) -> None:
    arguments = ("--mode", "ws2tcp", "--domain", "a.example")
    with ws_proxy("--to", f"127.0.0.1:{service.port}", *arguments) as process:
        assert status(process.port, Host="a.example:80") == 101
        assert status(process.port, Host="b.example") == 400


def test_tcp2ws_sends_the_domain_and_offers_what_wmproxy_does() -> None:
    def handle(sock: socket.socket) -> None:
        running.seen.append(rawws.accept(sock, "Sec-WebSocket-Protocol: chat")[1])

    with Service(handle) as running:
        arguments = ("--mode", "tcp2ws", "--domain", "a.example")
        with ws_proxy("--to", f"127.0.0.1:{running.port}", *arguments) as process:
            with connect(process.port):
                (asked,) = eventually(lambda: running.seen)
    assert asked.fields["host"] == "a.example"
    assert asked.fields["sec-websocket-protocol"] == "chat, superchat"
    assert asked.line == "GET / HTTP/1.1"


def test_tcp2wss_verifies_the_domain(service: Service) -> None:
    target = f"127.0.0.1:{service.port}"
    with Fastws("wts", "127.0.0.1:0", target, "--cert", certs().server) as far:
        arguments = ("--to", f"127.0.0.1:{far.port}", "--mode", "tcp2wss")
        with ws_proxy(*arguments, "--domain", "localhost", "--ca", certs().ca) as near:
            with connect(near.port) as sock:
                assert ask(sock, b"hello") == b"hello"
        with ws_proxy(*arguments, "--domain", "b.example", "--ca", certs().ca) as near:
            with connect(near.port) as sock, pytest.raises(ConnectionResetError):
                sock.recv(1)
            near.wait_for("the certificate is for another name than b.example")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("--mode", "ws2tcp"), 2, "Missing option '--to' / '-t'."),
        (("--to", "h:1"), 2, "Missing option '--mode'."),
        (("--to", "h:1", "--mode", "udp"), 2, "write tcp2ws, tcp2wss or ws2tcp"),
        (("--to", "h", "--mode", "ws2tcp"), 78, "--to: 'h' has no port"),
        (("--to", "x y:1", "--mode", "tcp2ws"), 78, "--to: "),
        (
            ("--to", "h:1", "--mode", "ws2tcp", "--access-log", "f"),
            2,
            "--access-log is not taken over from wmproxy",
        ),
        (("--to", "h:1", "--mode", "ws2tcp", "--ws"), 2, "--ws is not taken over"),
    ],
)
def test_ws_proxy_rejects(
    arguments: tuple[str, ...], status: int, message: str
) -> None:
    result = invoke("ws-proxy", *arguments)
    assert result.exit_code == status
    assert message in result.output.splitlines()[-1]


@pytest.mark.parametrize("command", ["stw", "wts", "websockify", "ws-proxy"])
def test_help_promises_no_variable_that_the_command_does_not_read(command: str) -> None:
    text = invoke(command, "--help").output
    for variable in re.findall(r"FASTWS_(\w+)_FILE", text):
        assert f"  --{variable.lower().replace('_', '-')} " in text
    assert "FASTWS_PING=30s" in text
