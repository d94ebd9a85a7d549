"""The load generator as a process that is driven step by step."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from typing import Any

from bench.e2e.proc import ROOT, BenchError, mover

LOAD = ROOT / "bench" / "bin" / "load"
Result = dict[str, Any]


class Load:
    """One run: warm-up in the constructor, then ``go``, then ``end``.

    Raises:
        BenchError: The generator saw wrong bytes, a lost connection or a timeout.
    """

    __slots__ = ("_proc",)

    def __init__(self, args: Sequence[str], cpu: int | None = None) -> None:
        self._proc = subprocess.Popen(
            [str(LOAD), *args, "--step"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=mover(cpu),
        )

    def __enter__(self) -> Load:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._proc.stdin is not None
        assert self._proc.stdout is not None
        self._proc.kill()  # a run that is over has nothing left to say
        self._proc.wait()
        self._proc.stdin.close()
        self._proc.stdout.close()

    def _line(self) -> Result:
        assert self._proc.stdout is not None
        line = self._proc.stdout.readline()  # the generator ends itself in time
        if not line:
            raise BenchError("the load generator ended without a word")
        answer: Result = json.loads(line)
        if answer.get("ok") is False:
            raise BenchError(answer["error"])
        return answer

    def wait_ready(self) -> None:
        """Return when the warm-up is over and nothing moves."""
        self._line()

    def go(self) -> Result:
        """Run the measured part and return its result; connections stay open."""
        assert self._proc.stdin is not None
        self._proc.stdin.write("\n")
        self._proc.stdin.flush()
        return self._line()
