"""Look for inputs that break a target, led by the code they reach: ``make fuzz``.

``python -m tests.fuzz.run frames --seconds 60`` runs until then, or until an input
fails, which is kept and shown. ``tests.fuzz.keep`` adds the inputs that reached new
code to the corpus in this directory; every test run goes through that without atheris.
"""

import argparse
import importlib
import sys
from pathlib import Path

HERE = Path(__file__).parent
TARGETS = ("frames", "handshake", "deflate")
FOUND = HERE.parents[1] / "build" / "fuzz"


def main() -> None:
    """Run one target; never returns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--runs", type=int, default=-1, help="inputs; -1: any number")
    parser.add_argument("--seed", type=int, default=0, help="0: another each time")
    options = parser.parse_args()
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["fastws"]):
        target = importlib.import_module(f"tests.fuzz.{options.target}")
    kept, found = HERE / "corpus" / options.target, FOUND / options.target
    for folder in (kept, found):
        folder.mkdir(parents=True, exist_ok=True)
    limits = ["-max_len=2048", "-timeout=20", "-rss_limit_mb=2048"]
    limits += [f"-runs={options.runs}", f"-seed={options.seed}"]
    what = [f"-max_total_time={options.seconds}", str(found), str(kept)]
    place = f"-artifact_prefix={found.parent}/"
    atheris.Setup([sys.argv[0], *limits, place, *what], target.run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
