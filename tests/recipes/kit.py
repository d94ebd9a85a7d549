"""Running the programs of the recipes on the files of examples/."""

import contextlib
import os
import shutil
import subprocess
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
    [os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"]
)


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
def running(port: int, *command: str, log: Path) -> Iterator[None]:
    """A program that listens on ``port`` before this is entered."""
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
