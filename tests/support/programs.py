"""Other programs: where they are, how they start and end, on files of examples/."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from tests.support.cli import clean_environment
from tests.support.servers import free_port
from tests.support.services import connect
from tests.support.timing import LONG, UNIT

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "examples"
PLACES = os.pathsep.join(
    [
        str(Path(sys.executable).parent),
        os.environ.get("PATH", os.defpath),
        str(Path.home() / ".cargo" / "bin"),
        "/usr/sbin",
        "/usr/local/sbin",
    ]
)

_NGINX = """\
daemon off;
pid {place}/pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {place}/a;
    proxy_temp_path {place}/b;
    fastcgi_temp_path {place}/c;
    uwsgi_temp_path {place}/d;
    scgi_temp_path {place}/e;
    {http}
}}
"""

_SITE = """\
server {{
    listen 127.0.0.1:{port};
    location / {{
        proxy_pass http://127.0.0.1:{target};
        proxy_http_version 1.1;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection "upgrade";
        proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-For {client};
    }}
}}
"""


def program(name: str, *places: Path) -> str:
    """Where it is installed; skips the test if nowhere."""
    path = os.pathsep.join([PLACES, *map(str, places)])
    found = shutil.which(name, path=path)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def adapt(name: str, changes: Mapping[str, str]) -> str:
    """An example with addresses and files of this test; each must occur in it."""
    text = (EXAMPLES / name).read_text("utf-8")
    for old, new in changes.items():
        assert old in text, f"{old!r} is not in {name}"
        text = text.replace(old, new)
    return text


def environment() -> dict[str, str]:
    """For programs that start fastws from this checkout."""
    return clean_environment(PYTHONPATH=str(ROOT))


def run(*command: str, prefix: Sequence[str] = (), given: bytes | None = None) -> bytes:
    """Run to the end; its output. Fails with what it said."""
    done = subprocess.run(
        [*prefix, *command],
        env=environment(),
        input=b"" if given is None else given,
        capture_output=True,
        timeout=3 * LONG,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr).decode("utf-8", "replace")
    return done.stdout


@contextlib.contextmanager
def running(port: int, *command: str, log: Path = Path(os.devnull)) -> Iterator[None]:
    """A program that listens on ``port`` before this is entered.

    Args:
        port: of 127.0.0.1.
        command: starts it; stays in the foreground.
        log: what it says goes there.
    """
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as child,
    ):
        try:
            deadline = time.monotonic() + LONG
            while True:
                said = log.read_text("utf-8", "replace")
                assert child.poll() is None, f"{command[0]} ended: {said}"
                with contextlib.suppress(ConnectionRefusedError):
                    connect(port).close()
                    break
                assert time.monotonic() < deadline, f"not listening: {said}"
                time.sleep(UNIT / 5)
            yield
        finally:
            child.terminate()
            try:
                child.wait(LONG)
            except subprocess.TimeoutExpired:
                child.kill()


def nginx_command(place: Path, http: str) -> list[str]:
    """Write a configuration of nginx; the command that runs it.

    Args:
        place: directory for all its files.
        http: what stands in the http block.
    """
    config = place / "nginx.conf"
    config.write_text(_NGINX.format(place=place, http=http))
    return [program("nginx"), "-p", str(place), "-e", "stderr", "-c", str(config)]


def site_of_nginx(
    port: int, target: int, place: Path, client: str = "$remote_addr"
) -> list[str]:
    """The command of nginx, alone in its process, in front of a WebSocket server.

    Args:
        port: where it listens on 127.0.0.1.
        target: port of the server.
        place: directory for all its files.
        client: what it says in X-Forwarded-For.
    """
    http = _SITE.format(port=port, target=target, client=client)
    return [*nginx_command(place, http), "-g", "master_process off;"]


@contextlib.contextmanager
def postgres(place: Path, log: Path) -> Iterator[int]:
    """A PostgreSQL server with a superuser ``me``; yields its port.

    Args:
        place: empty, where any user can get to: the server refuses to be root.
        log: directory for its log.
    """
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    initdb, server = program("initdb", *versions), program("postgres", *versions)
    prefix: list[str] = []
    if os.getuid() == 0:
        prefix = [program("setpriv"), "--reuid=nobody", "--clear-groups", "--"]
        shutil.chown(place, "nobody")
    flags = ["-A", "trust", "-U", "me", "-N", "--no-locale", "-E", "UTF8"]
    run(initdb, "-D", str(place), *flags, prefix=prefix)
    port = free_port()
    command = [*prefix, server, "-D", str(place), "-p", str(port), "-F"]
    command += ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
    with running(port, *command, log=log / "log"):
        yield port
