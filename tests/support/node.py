"""Node.js with the packages of ``tests/node``, which ``make .venv/.node`` installs."""

import json
import queue
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import clean_environment
from tests.support.timing import LONG

SCRIPTS = Path(__file__).parent.parent / "node"
PLACE = Path(sys.prefix) / "node" / "node_modules"


def command(script: Path | str, *arguments: str) -> list[str]:
    """What runs a script of ``tests/node``; skips the test where it cannot.

    A version that is not the one that ``tests/node/package.json`` names fails it.
    """
    found = shutil.which("node")
    if found is None:
        pytest.skip("Node.js is not installed")
    asked = json.loads((SCRIPTS / "package.json").read_text("utf-8"))["dependencies"]
    for name, version in asked.items():
        file = PLACE / name / "package.json"
        if not file.exists():
            pytest.skip(f"npm package {name} is not installed; make .venv/.node does")
        assert json.loads(file.read_text("utf-8"))["version"] == version, name
    return [found, str(SCRIPTS / script), *arguments]


def environment() -> dict[str, str]:
    """Lets ``require`` find the packages."""
    return clean_environment(NODE_PATH=str(PLACE))


def run(script: Path | str, *arguments: str) -> str:
    """Run a script to its end; what it printed. Fails with what it complained of."""
    done = subprocess.run(
        command(script, *arguments),
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=3 * LONG,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Script:
    """A script that runs, and prints lines of JSON; a context manager.

    Attributes:
        port: where it listens, if the test says so.
    """

    def __init__(self, script: Path | str, *arguments: str) -> None:
        self.port = 0
        self._process = subprocess.Popen(
            command(script, *arguments),
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
        self._said: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._said.put(json.loads(line))

    def next(self) -> Any:
        """The value of the next line, once it is there."""
        return self._said.get(timeout=LONG)

    def __enter__(self) -> "Script":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(LONG)
        self._reader.join(LONG)
        assert self._process.stdout
        self._process.stdout.close()
