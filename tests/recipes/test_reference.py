"""The reference and the manual page say what the code says; shells complete it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fastws.config.options import OPTIONS
from tests.support.cli import clean_environment
from tests.support.timing import LONG

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parent.parent.parent


def run(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run to the end, in the checkout."""
    return subprocess.run(
        command,
        cwd=ROOT,
        env=clean_environment(PYTHONPATH=str(ROOT), **variables),
        capture_output=True,
        encoding="utf-8",
        timeout=LONG,
        check=False,
    )


def test_reference_and_manual_are_up_to_date() -> None:
    done = run(sys.executable, "docs/generate.py", "--check")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_reference_names_every_option_once() -> None:
    text = (ROOT / "docs" / "reference.md").read_text("utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    for option in OPTIONS:
        found = [row for row in rows if f"`{option.flag}`" in row.split(" | ")[0]]
        assert len(found) == 1, option.flag
        assert f"`{option.variable}`" in found[0]


def test_manual_page_is_well_formed() -> None:
    man = shutil.which("man")
    if man is None:
        pytest.skip("man is not installed")
    done = run(man, "--warnings", "-l", "man/fastws.1", MANWIDTH="80", LC_ALL="C")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for word in ("NAME", "--ping-deadline", "FASTWS_PING_DEADLINE", "EXIT STATUS"):
        assert word in done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(shell: str) -> None:
    kind = f"{shell}_source"
    done = run(sys.executable, "-m", "fastws", _FASTWS_COMPLETE=kind)
    assert done.returncode == 0, done.stderr
    assert "_fastws_completion" in done.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("fastws st", ["stw"]),
        ("fastws wts --auth-b", ["--auth-basic"]),
        ("fastws stw --ping", ["--ping", "--ping-deadline"]),
    ],
)
def test_completion(words: str, expected: list[str]) -> None:
    assert [word for _, word in completed(words)] == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("fastws wts --proxy-protocol re", ["plain,require"]),
        ("fastws stw --on-eof=", ["plain,hold", "plain,close"]),
        ("fastws wts --cert /etc/ssl/si", ["file,/etc/ssl/si"]),
        ("fastws wts --web /srv/n", ["dir,/srv/n"]),
        ("fastws websockify --token-source to", ["file,to"]),
        ("fastws wts --ping 1", []),
    ],
)
def test_completion_of_values(words: str, expected: list[str]) -> None:
    """The shell itself completes what is of type file or dir."""
    assert [",".join(found) for found in completed(words)] == expected


def completed(words: str) -> list[tuple[str, str]]:
    """Type and text of each thing that bash would offer after ``words``."""
    variables = {
        "_FASTWS_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    done = run(sys.executable, "-m", "fastws", **variables)
    assert done.returncode == 0, done.stderr
    found = (line.partition(",") for line in done.stdout.splitlines() if line)
    return [(kind, text) for kind, _, text in found]
