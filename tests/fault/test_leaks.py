"""Connections of the WebSocket library leave nothing behind, however they end.

Client and server run in one process, by callbacks and by coroutines, with compression.
They end by a Close of either side, a reset of either side, a mistake, a message that is
not received, and a refusal.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.timing import LONG

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="/proc says what a process holds"
)

apis = pytest.mark.parametrize("api", ["callbacks", "coroutines"])


def churn(api: str, count: int, timeout: float) -> None:
    """Open and close so many, after a warm-up."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.support.churn", api, str(count)],
        capture_output=True,
        timeout=timeout,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, b"")
    before, after = json.loads(run.stdout)
    for name, expected in (("tasks", 1), ("connections", 0), ("swept", 0)):
        assert (before[name], after[name]) == (expected, expected), name
    assert after["fds"] == before["fds"]
    assert after["objects"] - before["objects"] < 160  # each way to end: count / 7
    assert after["rss"] - before["rss"] < 3 << 20


@apis
@pytest.mark.timeout(300)
def test_nothing_stays(api: str) -> None:
    churn(api, 1400, 10 * LONG)


@apis
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_nothing_stays_of_100_000(api: str) -> None:
    churn(api, 100_000, 85 * LONG)
