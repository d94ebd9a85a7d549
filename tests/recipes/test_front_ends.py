"""The configurations of nginx, HAProxy and Caddy in front of wts, with TLS."""

import contextlib
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.certs import certs, plain_client_context
from tests.support.cli import Fastws, eventually, stw, wts
from tests.support.origin import forward_proxy
from tests.support.programs import adapt, nginx_command, program, running
from tests.support.servers import free_port
from tests.support.services import Service, connect, echo, ends_with_reset, pump_through
from tests.support.via import socks

pytestmark = pytest.mark.e2e

SIZE = 1 << 20
CLIENT = "127.0.0.2"  # not the front end's, which is 127.0.0.1
FRONT_ENDS = ["nginx", "haproxy", "caddy"]


def nginx(port: int, ports: list[int], place: Path) -> list[str]:
    changes = {
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "/etc/ssl/www.example.com/fullchain.pem": certs().cert,
        "/etc/ssl/www.example.com/privkey.pem": certs().key,
        "server 127.0.0.1:8080;": " ".join(f"server 127.0.0.1:{p};" for p in ports),
    }
    (place / "fastws.conf").write_text(adapt("nginx/fastws.conf", changes))
    command = nginx_command(place, f"include {place}/fastws.conf;")
    return [*command, "-g", "worker_processes 1;"]


def haproxy(port: int, ports: list[int], place: Path) -> list[str]:
    changes = {
        "bind :443 ssl crt /etc/haproxy/www.example.com.pem": (
            f"bind 127.0.0.1:{port} ssl crt {certs().server}"
        ),
        "server w1 127.0.0.1:8080": f"server w1 127.0.0.1:{ports[0]}",
        "server w2 127.0.0.1:8081": f"server w2 127.0.0.1:{ports[-1]}",
        "inter 2s": "inter 100ms",
    }
    (place / "haproxy.cfg").write_text(adapt("haproxy/haproxy.cfg", changes))
    return [program("haproxy"), "-f", str(place / "haproxy.cfg")]


def caddy(port: int, ports: list[int], place: Path) -> list[str]:
    options = f"{{\n admin off\n auto_https off\n storage file_system {place}\n}}\n"
    changes = {
        "www.example.com {": (
            f"{options}https://localhost:{port} {{\n"
            f" bind 127.0.0.1\n tls {certs().cert} {certs().key}"
        ),
        "127.0.0.1:8080": " ".join(f"127.0.0.1:{p}" for p in ports),
        "health_interval 2s": "health_interval 100ms",
    }
    (place / "Caddyfile").write_text(adapt("caddy/Caddyfile", changes))
    keep = f"XDG_CONFIG_HOME={place}"  # without a HOME it would be the checkout
    command = ["env", keep, program("caddy"), "run", "--adapter", "caddyfile"]
    return [*command, "--config", str(place / "Caddyfile")]


@contextlib.contextmanager
def front_end(name: str, ports: list[int], place: Path) -> Iterator[int]:
    """The front end before these ports of wts; yields its own."""
    port = free_port()
    make = {"nginx": nginx, "haproxy": haproxy, "caddy": caddy}[name]
    with running(port, *make(port, ports, place), log=place / "log"):
        yield port


def far_end(name: str, target: int) -> contextlib.AbstractContextManager[Fastws]:
    """wts with the options that the example's first lines name."""
    options = ["--path", "/ssh", "--trust", "127.0.0.1"]
    if name == "haproxy":
        options += ["--proxy-protocol", "require"]
    return wts(target, *options)


def near_end(port: int, *options: str) -> contextlib.AbstractContextManager[Fastws]:
    """stw to the front end, from an address of its own."""
    url = f"wss://localhost:{port}/ssh"
    return stw(url, "--ca", certs().ca, "--connect-to", f"127.0.0.1:{port}", *options)


def get(port: int, path: str) -> int:
    """The status that a browser would see."""
    handler = urllib.request.HTTPSHandler(context=plain_client_context())
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), handler)
    try:
        with opener.open(f"https://localhost:{port}{path}", timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_tunnel_and_client_address(name: str, tmp_path: Path) -> None:
    """Bytes and half-close pass; wts knows the client's address."""
    with Service(echo) as service, far_end(name, service.port) as far:
        with front_end(name, [far.port], tmp_path) as port:
            with near_end(port, "--source", CLIENT) as near:
                with connect(near.port) as sock:
                    pump_through(sock, SIZE, seed=51)
                near.wait_for(f"in={SIZE} out={SIZE} .* closed$")
            far.wait_for(rf"wts {re.escape(CLIENT)}(:\d+)? .* closed$")


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_pooled_websockets_pass(name: str, tmp_path: Path) -> None:
    """The same files serve proxy-server: one WebSocket carries two streams."""
    options = ["--path", "/ssh", "--trust", "127.0.0.1", "--no-auth"]
    if name == "haproxy":
        options += ["--proxy-protocol", "require"]
    with (
        Service(echo) as service,
        Fastws("proxy-server", "127.0.0.1:0", *options, "--allow", "private") as far,
        front_end(name, [far.port], tmp_path) as port,
    ):
        via = ["--via", f"wss://localhost:{port}/ssh", "--ca", certs().ca]
        via += ["--connect-to", f"127.0.0.1:{port}", "--source", CLIENT]
        with forward_proxy(*via) as near:
            for seed in (53, 54):
                with socks(near, service.port) as sock:
                    pump_through(sock, SIZE, seed=seed)
                near.wait_for(f"in={SIZE} out={SIZE} .* closed$")
        for number in (1, 2):
            who = rf"proxy-server {re.escape(CLIENT)}(:\d+)?"
            far.wait_for(rf"{who} \S+ id=\w+/{number} .* closed$", start=0)


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_other_paths_are_not_found(name: str, tmp_path: Path) -> None:
    with Service(echo) as service, far_end(name, service.port) as far:
        with front_end(name, [far.port], tmp_path) as port:
            url = f"wss://localhost:{port}/other"
            to = f"127.0.0.1:{port}"
            with stw(url, "--ca", certs().ca, "--connect-to", to) as near:
                with connect(near.port) as sock:
                    assert ends_with_reset(sock)
                near.wait_for("the server answered HTTP 404")
            assert far.count("other") == 0


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_readiness_is_passed_on(name: str, tmp_path: Path) -> None:
    """200 only from wts: troubleshooting asks there whether the path is open."""
    with Service(echo) as service, far_end(name, service.port) as far:
        with front_end(name, [far.port], tmp_path) as port:
            assert get(port, "/readyz") == 200
            assert get(port, "/") == 404
    with front_end(name, [free_port()], tmp_path) as port:
        assert get(port, "/readyz") in (502, 503)


@pytest.mark.parametrize("name", ["haproxy", "caddy"])
def test_unready_end_gets_no_connections(name: str, tmp_path: Path) -> None:
    """Of two, the one that is gone is left out by the checks of /readyz."""
    with Service(echo) as service, far_end(name, service.port) as far:
        with front_end(name, [far.port, free_port()], tmp_path) as port:
            with near_end(port) as near:

                def works() -> bool:
                    with connect(near.port) as sock:
                        sock.sendall(b"x")
                        with contextlib.suppress(ConnectionResetError):
                            return sock.recv(1) == b"x"
                    return False

                def checked() -> bool:
                    return all(works() for _ in range(6))

                eventually(checked, 10)
