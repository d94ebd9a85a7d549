"""mypy and pyright know the public names as their users need them known."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.timing import LONG

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
FILES = [HERE / "uses.py", HERE / "mistakes.py"]


def expected() -> set[tuple[str, int]]:
    """File and line of every mistake."""
    return {
        (path.name, number)
        for path in FILES
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if line.endswith("# wrong")
    }


def check(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a type checker in the checkout."""
    return subprocess.run(
        [sys.executable, "-m", *command, *map(str, FILES)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=4 * LONG,
        check=False,
    )


def test_mistakes_are_marked() -> None:
    assert len(expected()) > 20
    assert all(name == "mistakes.py" for name, _ in expected())


def test_mypy_finds_the_mistakes_and_no_others() -> None:
    done = check("mypy", "--strict", "--config-file=", "--no-error-summary")
    found = re.findall(r"^tests.typing.(\w+\.py):(\d+): error: ", done.stdout, re.M)
    said = done.stdout + done.stderr
    assert {(name, int(line)) for name, line in found} == expected(), said


def test_pyright_finds_the_mistakes_and_no_others() -> None:
    try:
        done = check("pyright", "--outputjson", "--pythonpath", sys.executable)
    except subprocess.TimeoutExpired:
        pytest.skip("pyright does not start: it fetches itself with npm, from afar")
    if done.returncode > 1:
        pytest.skip(f"pyright cannot run: {(done.stderr or done.stdout)[-300:]}")
    found = {
        (Path(item["file"]).name, item["range"]["start"]["line"] + 1)
        for item in json.loads(done.stdout)["generalDiagnostics"]
        if item["severity"] == "error"
    }
    assert found == expected(), done.stdout
