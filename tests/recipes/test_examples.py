"""The programs of examples/ and of two how-tos run and print what they should."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

from tests.support.certs import certs
from tests.support.cli import stw
from tests.support.programs import EXAMPLES, ROOT, run, running
from tests.support.servers import free_port
from tests.support.services import Service, connect, echo

MAX_LINES = 50
PROGRAMS = {
    "asgi_mount.py": ["hello from TCP", "without a token: HTTP 401 Unauthorized"],
    "callbacks.py": [
        "1000 answers, the last: message 999",
        "closed with 1000",
    ],
    "chat.py": [
        "Ada joins",
        "Bob joins",
        "Bob hears: Ada: hello",
        "Ada hears: Ada: hello",
        "Bob leaves",
    ],
    "compression.py": [
        "agreed: None",
        "197780 characters",
        "agreed: permessage-deflate",
        "197780 characters",
        "closed with 1009",
    ],
    "echo.py": [
        "text comes back as str",
        "b'binary as bytes'",
        "answered within a second: True",
        "closed with 1000",
    ],
    "forward_proxy.py": [
        "http reached",
        "socks5 reached",
        "without a password: True",
    ],
    "pool.py": ["20 answers, the last: MESSAGE 19", "3 connections, 3 idle"],
    "reconnect.py": [
        "lost: no close frame received or sent",
        "lost: no close frame received or sent",
        "HELLO after 3 visits",
    ],
    "ssh.py": ["a command for me"],
    "streams.py": ["10000000 bytes"],
    "testing.py": [
        "passed: test_adds_up",
        "handler: invalid literal for int() with base 10: 'one'",
        "passed: test_what_is_no_number_fails",
        "server: closed with 1006",
        "passed: test_lost_connection",
    ],
    "tls.py": ["hello over TLSv1.3", "refused: TLS: unknown CA"],
    "tunnel.py": ["HALF-CLOSE PASSES THROUGH", "25 bytes in, 25 bytes out"],
}
NEEDS = {"asgi_mount.py": ("starlette", "uvicorn"), "ssh.py": ("asyncssh",)}


def need(*packages: str) -> None:
    """Skip without one of these."""
    for name in packages:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")


def test_every_program_is_listed_short_and_in_the_table() -> None:
    files = {path.name: path for path in EXAMPLES.glob("*.py")}
    assert set(files) == set(PROGRAMS)
    table = (ROOT / "docs" / "index.md").read_text("utf-8")
    for name, path in files.items():
        assert len(path.read_text("utf-8").splitlines()) <= MAX_LINES, name
        assert f"`{name}`" in table


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_example(name: str) -> None:
    need(*NEEDS.get(name, ()))
    arguments = [certs().server, certs().ca] if name == "tls.py" else []
    said = run(sys.executable, str(EXAMPLES / name), *arguments)
    assert said.decode().splitlines() == PROGRAMS[name]


def programs_of(page: str) -> list[str]:
    """The Python programs of a how-to."""
    text = (ROOT / "docs" / "howto" / page).read_text("utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def test_howto_of_tests() -> None:
    said = [
        run(sys.executable, "-c", program).decode().splitlines()
        for program in programs_of("testing.md")
    ]
    assert said == [
        ["passed"],
        ["ping?", "1009", "late", "1006"],
        ["hello hello", "HTTP 401 Unauthorized"],
    ]


def test_howto_of_asgi(tmp_path: Path) -> None:
    need("starlette", "uvicorn")
    (program,) = programs_of("asgi.md")
    with Service(echo) as service:  # in the place of sshd
        port = free_port()
        for old, new in (
            ("PORT = 22 ", f"PORT = {service.port} "),
            ("8000", str(port)),
        ):
            assert old in program
            program = program.replace(old, new)
        url = f"ws://127.0.0.1:{port}/ssh/"
        with running(port, sys.executable, "-c", program, log=tmp_path / "log"):
            with stw(url, "--bearer", "s3cret") as near, connect(near.port) as sock:
                sock.sendall(b"SSH-2.0-")
                assert sock.recv(8) == b"SSH-2.0-"
