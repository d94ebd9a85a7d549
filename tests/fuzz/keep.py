"""Add to the corpus what a fuzzing run found: ``python -m tests.fuzz.keep frames``.

An input is kept if it takes steps between lines of fastws that no kept one takes; the
shortest are asked first. Inputs that broke a target are put there by hand.
"""

import importlib
import shutil
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from tests.fuzz.run import FOUND, HERE

Steps = set[tuple[str, int, int]]


def steps_of(run: Callable[[bytes], None], data: bytes) -> Steps:
    """Pairs of lines that ``run`` went from and to, in the pure twin and below wire."""
    found: Steps = set()

    def enter(frame: FrameType, event: str, arg: Any) -> Any:
        name = frame.f_code.co_filename
        if "/fastws/" not in name:
            return None
        last = frame.f_lineno

        def step(frame: FrameType, event: str, arg: Any) -> Any:
            nonlocal last
            found.add((name, last, frame.f_lineno))
            last = frame.f_lineno
            return step

        return step

    sys.settrace(enter)
    try:
        run(data)
    finally:
        sys.settrace(None)
    return found


def main() -> None:
    """Go through the inputs of one target."""
    target = sys.argv[1]
    run = importlib.import_module(f"tests.fuzz.{target}").run
    kept = HERE / "corpus" / target
    seen: Steps = set()
    for path in sorted(kept.iterdir()):
        seen |= steps_of(run, path.read_bytes())
    before = len(seen)
    found = sorted((FOUND / target).iterdir(), key=lambda path: path.stat().st_size)
    for path in found:
        steps = steps_of(run, path.read_bytes())
        if not steps <= seen:
            seen |= steps
            shutil.copy(path, kept / path.name[:12])
    print(f"{target}: {before} steps, now {len(seen)}")


if __name__ == "__main__":
    main()
