"""The choice of a twin; each case in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastws import _backend
from tests.support.timing import LONG

ROOT = Path(__file__).parent.parent.parent
PROGRAM = (
    "from fastws import _backend as b; print(b.BACKEND, b.FrameDecoder.__module__)"
)
# What makes the compiled twin unimportable, in front of the program.
WITHOUT = "import sys; sys.modules['fastws._speedups'] = None; "


def run(program: str, **variables: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("FASTWS_")}
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=clean | variables,
        capture_output=True,
        text=True,
        timeout=LONG,
        check=False,
    )


def compiled() -> None:
    """Skip without the extension, unless the environment says it must be there."""
    try:
        _backend.load("cython")
    except ImportError as error:
        if os.environ.get("FASTWS_REQUIRE_SPEEDUPS", "0") not in ("", "0"):
            raise
        pytest.skip(str(error))


def test_compiled_twin_is_the_default() -> None:
    compiled()
    assert run(PROGRAM).stdout == "cython fastws._speedups\n"


@pytest.mark.parametrize("value", ["0", ""])
def test_pure_switch_off(value: str) -> None:
    compiled()
    assert run(PROGRAM, FASTWS_PURE=value).stdout == "cython fastws._speedups\n"


def test_pure_switch_on() -> None:
    answer = run(PROGRAM, FASTWS_PURE="1")
    assert answer.stdout == "python fastws._speedups_py\n"


def test_missing_extension_falls_back() -> None:
    assert run(WITHOUT + PROGRAM).stdout == "python fastws._speedups_py\n"


def test_missing_extension_is_an_error_where_required() -> None:
    answer = run(WITHOUT + PROGRAM, FASTWS_REQUIRE_SPEEDUPS="1")
    assert answer.returncode == 1
    last = answer.stderr.splitlines()[-1]
    assert last.startswith("ImportError: the extension fastws._speedups cannot be")
    assert last.endswith("build it with 'python setup.py build_ext --inplace'")


def test_required_extension_and_pure_twin_together() -> None:
    compiled()
    answer = run(PROGRAM, FASTWS_REQUIRE_SPEEDUPS="1", FASTWS_PURE="1")
    assert answer.stdout == "python fastws._speedups_py\n"


def test_load_reject_unknown_name() -> None:
    with pytest.raises(ValueError, match=r"^no twin is called 'rust': use 'python'"):
        _backend.load("rust")  # type: ignore[arg-type]
