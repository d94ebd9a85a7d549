"""fastws beside other programs: curl, websocat, websockify, nginx, HAProxy.

Each is skipped where it is not installed.
"""

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import Fastws, eventually, stw, tunnel, wts
from tests.support.programs import program, running, site_of_nginx
from tests.support.servers import free_port
from tests.support.services import (
    Service,
    answer_late,
    ask,
    connect,
    echo,
    ends_with_reset,
    pump_through,
    read_to_end,
)
from tests.support.timing import LONG, UNIT, units

pytestmark = pytest.mark.interop

SIZE = 4 << 20


# curl


def curl(*arguments: str) -> str:
    done = subprocess.run(
        [program("curl"), "-sS", "--http1.1", "--max-time", f"{LONG:g}", *arguments],
        capture_output=True,
        timeout=2 * LONG,
        check=False,
    )
    return done.stdout.decode("latin-1")


@pytest.mark.parametrize(
    ("path", "status"), [("/healthz", "200"), ("/readyz", "200"), ("/", "426")]
)
def test_curl(far: Fastws, path: str, status: str) -> None:
    url = f"http://127.0.0.1:{far.port}{path}"
    text = curl("-i", url)
    assert text.startswith(f"HTTP/1.1 {status} ")
    head = curl("-o", os.devnull, "-w", "%{http_code}", "-I", url)
    assert head == ("405" if status == "426" else status)


def test_curl_upgrades(far: Fastws) -> None:
    fields = (
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    )
    headers = [word for field in fields for word in ("-H", field)]
    text = curl(
        "-i", "-m", f"{20 * UNIT:.1f}", *headers, far.url.replace("ws:", "http:")
    )
    assert text.startswith("HTTP/1.1 101 Switching Protocols\r\n")
    assert "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in text


# websocat


def test_websocat_client(far: Fastws) -> None:
    """TCP to WebSocket by websocat, back to TCP by wts."""
    port = free_port()
    listen = f"tcp-l:127.0.0.1:{port}"
    with running(port, program("websocat"), "-b", listen, far.url):
        with connect(port) as sock:
            pump_through(sock, SIZE, seed=31, end=False)


def test_websocat_server(service: Service) -> None:
    """TCP to WebSocket by stw, back to TCP by websocat."""
    port = free_port()
    ends = (f"ws-l:127.0.0.1:{port}", f"tcp:127.0.0.1:{service.port}")
    with running(port, program("websocat"), "-b", *ends):
        with stw(f"ws://127.0.0.1:{port}/") as near, connect(near.port) as sock:
            pump_through(sock, SIZE, seed=32, end=False)


def test_websocat_on_a_pipe(far: Fastws) -> None:
    done = subprocess.run(
        [program("websocat"), "-b", "-n", "-1", far.url],
        input=b"through a pipe",
        capture_output=True,
        timeout=2 * LONG,
        check=False,
    )
    assert done.stdout == b"through a pipe"


# websockify


def test_websockify_server(service: Service) -> None:
    """TCP to WebSocket by stw, back to TCP by websockify."""
    port = free_port()
    ends = (f"127.0.0.1:{port}", f"127.0.0.1:{service.port}")
    with running(port, program("websockify"), *ends):
        options = ("--subprotocol", "binary", "--on-eof", "close")
        with stw(f"ws://127.0.0.1:{port}/", *options) as near:
            with connect(near.port) as sock:
                pump_through(sock, SIZE, seed=33, end=False)
            near.wait_for(" stw .* in=")


def test_websockify_target_that_is_down() -> None:
    port, nobody = free_port(), free_port()
    with running(
        port, program("websockify"), f"127.0.0.1:{port}", f"127.0.0.1:{nobody}"
    ):
        with stw(f"ws://127.0.0.1:{port}/") as near:
            with connect(near.port) as sock:
                assert ends_with_reset(sock)
            near.wait_for("stw ", start=1)


# Front ends

HAPROXY = """\
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout tunnel 1h
frontend f
    bind 127.0.0.1:{port}
    default_backend b
backend b
    server s 127.0.0.1:{target}
"""


@contextlib.contextmanager
def front_end(name: str, target: int, place: Path) -> Iterator[int]:
    """nginx or HAProxy in front of a port; yields its own."""
    port = free_port()
    if name == "nginx":
        command = site_of_nginx(port, target, place)
    else:
        config = place / "haproxy.conf"
        config.write_text(HAPROXY.format(port=port, target=target))
        command = [program(name), "-f", str(config)]
    with running(port, *command):
        yield port


@pytest.mark.parametrize("name", ["nginx", "haproxy"])
def test_tunnel_through_a_front_end(
    name: str, service: Service, tmp_path: Path
) -> None:
    """Bytes and half-close pass; the announcement survives."""
    with wts(service.port) as far, front_end(name, far.port, tmp_path) as port:
        with stw(f"ws://127.0.0.1:{port}/") as near:
            with connect(near.port) as sock:
                pump_through(sock, SIZE, seed=41)
            near.wait_for(f"in={SIZE} out={SIZE} .* closed$")
            far.wait_for(f"in={SIZE} out={SIZE} .* closed$")


@pytest.mark.parametrize("name", ["nginx", "haproxy"])
def test_late_answer_through_a_front_end(name: str, tmp_path: Path) -> None:
    with Service(answer_late) as late:
        with wts(late.port) as far, front_end(name, far.port, tmp_path) as port:
            with stw(f"ws://127.0.0.1:{port}/") as near, connect(near.port) as sock:
                sock.sendall(b"question")
                sock.shutdown(socket.SHUT_WR)
                assert read_to_end(sock).startswith(b"8 ")


@pytest.mark.parametrize("name", ["nginx", "haproxy"])
def test_target_down_behind_a_front_end(name: str, tmp_path: Path) -> None:
    with wts(free_port()) as far, front_end(name, far.port, tmp_path) as port:
        with stw(f"ws://127.0.0.1:{port}/") as near:
            with connect(near.port) as sock:
                assert ends_with_reset(sock)
            near.wait_for("WARNING stw .*the server answered HTTP 502")


@pytest.mark.parametrize("name", ["nginx", "haproxy"])
def test_pings_keep_a_front_end_from_cutting(name: str, tmp_path: Path) -> None:
    """A connection without payload stays: pings go through in both directions."""
    with Service(echo) as service:
        with wts(service.port, "--ping", units(2)) as far:
            with front_end(name, far.port, tmp_path) as port:
                options = ("--ping", units(2), "--ping-deadline", units(10))
                with stw(f"ws://127.0.0.1:{port}/", *options) as near:
                    with connect(near.port) as sock:
                        assert ask(sock, b"first") == b"first"
                        sock.settimeout(12 * UNIT)
                        with pytest.raises(TimeoutError):
                            sock.recv(1)
                        assert ask(sock, b"later") == b"later"


def test_tunnel_is_its_own_peer() -> None:
    with Service(echo) as service, tunnel(service.port) as (near, _):
        with connect(near.port) as sock:
            pump_through(sock, SIZE, seed=42)
        eventually(lambda: near.count("closed$") == 1)
