"""ssh, Redis and PostgreSQL through stw and wts; a socket from systemd."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.certs import certs
from tests.support.cli import stw, tunnel, wts
from tests.support.programs import (
    EXAMPLES,
    adapt,
    environment,
    postgres,
    program,
    run,
    running,
)
from tests.support.servers import free_port
from tests.support.services import Service, connect, echo, pump_through
from tests.support.timing import LONG

pytestmark = pytest.mark.e2e

FASTWS = f"{sys.executable} -m fastws"

SSHD = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {place}/host
AuthorizedKeysFile {place}/user.pub
PidFile {place}/pid
StrictModes no
UsePAM no
PasswordAuthentication no
"""


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[int]:
    """Port of a server that lets the key in ``tmp_path/user`` in."""
    server, keygen = program("sshd"), program("ssh-keygen")
    if os.getuid() == 0:  # else it needs no such place
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    for name in ("host", "user"):
        run(keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name))
    port = free_port()
    config = tmp_path / "sshd_config"
    config.write_text(SSHD.format(port=port, place=tmp_path))
    with running(port, server, "-D", "-e", "-f", str(config), log=tmp_path / "log"):
        yield port


def test_ssh(sshd: int, tmp_path: Path) -> None:
    """The ProxyCommand of the example: bytes, their end, and the exit status."""
    user = run(program("id"), "-un").decode().strip()
    with wts(sshd, "--path", "/ssh") as far:
        changes = {
            "User me": f"User {user}\n IdentityFile {tmp_path}/user\n"
            f" UserKnownHostsFile {tmp_path}/known\n StrictHostKeyChecking no",
            "fastws stw -": f"{FASTWS} stw -",
            "wss://www.example.com": f"ws://127.0.0.1:{far.port}",
        }
        config = tmp_path / "config"
        config.write_text(adapt("ssh/config", changes))
        ssh = [program("ssh"), "-F", str(config), "-o", "LogLevel=ERROR", "inside"]
        data = os.urandom(1 << 20)
        assert run(*ssh, "cat", given=data) == data
        done = subprocess.run(
            [*ssh, "exit 7"],
            env=environment(),
            stdin=subprocess.DEVNULL,
            timeout=2 * LONG,
            check=False,
        )
        assert done.returncode == 7
        far.wait_for("wts .* closed$")


def test_redis(tmp_path: Path) -> None:
    port, client = free_port(), program("redis-cli")
    server = [program("redis-server"), "--port", str(port), "--bind", "127.0.0.1"]
    server += ["--save", "", "--dir", str(tmp_path)]
    with running(port, *server, log=tmp_path / "log"), tunnel(port) as (near, _):
        at = ["-h", "127.0.0.1", "-p", str(near.port)]
        assert run(client, *at, "set", "key", "v" * 100_000) == b"OK\n"
        assert run(client, *at, "get", "key") == b"v" * 100_000 + b"\n"
        load = ["-c", "20", "-n", "2000", "-t", "set,get", "-d", "1000", "--csv"]
        rows = run(program("redis-benchmark"), *at, *load).decode()
        assert re.findall(r'^"(SET|GET)"', rows, re.MULTILINE) == ["SET", "GET"]
        count = run(client, *at, "info", "stats").decode()
        served = re.search(r"total_commands_processed:(\d+)", count)
        assert served
        assert int(served[1]) >= 4000


def test_postgres(open_place: Path, tmp_path: Path) -> None:
    """pgbench: its schema, four clients, each transaction counted."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    bench = program("pgbench", *versions)
    with postgres(open_place, tmp_path) as port, tunnel(port) as (near, _):
        at = ["-h", "127.0.0.1", "-p", str(near.port), "-U", "me", "postgres"]
        run(bench, "-i", "-q", *at)
        done = run(bench, "-c", "4", "-t", "25", *at).decode()
        assert "number of transactions actually processed: 100/100" in done
        assert "number of failed transactions: 0 " in done


def exec_start() -> list[str]:
    """The command of the unit, without its program."""
    text = (EXAMPLES / "systemd" / "fastws-wts.service").read_text("utf-8")
    found = re.search(r"^ExecStart=\S+/fastws (.+)$", text, re.MULTILINE)
    assert found
    return shlex.split(found[1])


def test_socket_activation(tmp_path: Path) -> None:
    """The unit's command, on a socket that something else has bound."""
    activate = program("systemd-socket-activate")
    with Service(echo) as service:
        words = {
            "127.0.0.1:22": f"127.0.0.1:{service.port}",
            "${CREDENTIALS_DIRECTORY}/site.pem": certs().server,
        }
        command = exec_start()
        assert set(words) < set(command)
        port = free_port()
        start = [activate, "-l", f"127.0.0.1:{port}", "-E", "PYTHONPATH"]
        start += [sys.executable, "-m", "fastws"]
        start += [words.get(word, word) for word in command]
        log = tmp_path / "log"
        with running(port, *start, log=log):
            url, ca = f"wss://localhost:{port}/ssh", certs().ca
            to = f"127.0.0.1:{port}"
            with stw(url, "--ca", ca, "--connect-to", to) as near:
                with connect(near.port) as sock:
                    pump_through(sock, 1 << 20, seed=61)
        assert re.search(r"wts on .*, TLS on", log.read_text("utf-8"))


def test_units_are_well_formed() -> None:
    """systemd has nothing to say about them but that fastws is not installed."""
    analyze = program("systemd-analyze")
    units = [str(path) for path in sorted((EXAMPLES / "systemd").iterdir())]
    done = subprocess.run(
        [analyze, "verify", "--man=no", *units],
        env=environment(),
        capture_output=True,
        encoding="utf-8",
        timeout=LONG,
        check=False,
    )
    said = [line for line in done.stderr.splitlines() if "fastws" in line]
    if not said and done.returncode:
        pytest.skip(f"systemd-analyze does not work here: {done.stderr[-200:]}")
    assert [line for line in said if "is not executable" not in line] == []
