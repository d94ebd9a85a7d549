"""``python -m bench.e2e MODE``: measure fastws beside its peers."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from bench.e2e import report
from bench.e2e.first import First
from bench.e2e.load import LOAD
from bench.e2e.peers import MODES, OURS, RELAY, Peer, earlier
from bench.e2e.proc import ROOT, Cpus
from bench.e2e.rows import BESIDE, FULL, ROWS, SMOKE, TARGETS, against_before, rows_of
from bench.e2e.run import Bench, Samples, run
from bench.e2e.wss import Wss

RUNS = 9


def options() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.e2e", description=__doc__)
    parser.add_argument("mode", choices=sorted(MODES))
    parser.add_argument("--runs", type=int, default=RUNS, help=f"rounds [{RUNS}]")
    parser.add_argument("--quick", action="store_true", help="only prove that it works")
    parser.add_argument(
        "--pin",
        choices=("one", "two", "off"),
        default="one",
        help="all on one CPU, load and relay on one each, or as it comes [one]",
    )
    parser.add_argument("--peer", action="append", help="only this column; repeatable")
    keys = [row.key for row in (*ROWS, *BESIDE["workers"], *BESIDE["echo"][:6])]
    parser.add_argument(
        "--row",
        action="append",
        choices=[*keys, "wss", "first"],
        metavar="ROW",
        help=f"only this row, of {', '.join(keys)}, wss and first; repeatable",
    )
    parser.add_argument(
        "--before",
        type=Path,
        metavar="DIR",
        help="beside fastws of the built checkout in DIR, and nothing else",
    )
    return parser.parse_args()


def backend() -> str:
    """Return what ``fastws --version`` prints: version, twin, Python, event loop."""
    command = [sys.executable, "-m", "fastws", "--version"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)
    return ", ".join(done.stdout.split("\n")).strip(", ")


def chosen(asked: argparse.Namespace) -> list[Peer]:
    """Return the columns that are asked for and can be started."""
    peers = [p for p in MODES[asked.mode] if p.is_here()]
    if asked.before is not None:
        return [peers[0], earlier(peers[0], asked.before)]
    return [p for p in peers if not asked.peer or p.name in asked.peer]


def main() -> int:
    """Run, print the tables, and write the JSON file unless ``--quick``."""
    asked = options()
    for program in (RELAY, LOAD):
        if not program.exists():
            print(f"bench: {program.name} is missing: make -C bench", file=sys.stderr)
            return 1
    peers = chosen(asked)
    samples = Samples()
    cpus = Cpus.choose(asked.pin)
    rows = [r for r in rows_of(asked.mode) if not asked.row or r.key in asked.row]
    has_wss = asked.mode in ("stw", "wts") and (not asked.row or "wss" in asked.row)
    has_first = asked.mode == "proxy" and (not asked.row or "first" in asked.row)
    effort = SMOKE if asked.quick else FULL
    bench = Bench(effort, cpus, samples, asked.quick, rows)
    runs = 1 if asked.quick else asked.runs
    with Wss(bench, asked.mode, peers) as wss, First(bench) as first:
        extra = wss.round if has_wss else first.round if has_first else None
        run(bench, peers, runs, extra)
    if asked.quick:
        print(f"{asked.mode}: every benchmark ran once, too shortly to mean anything")
        print(report.smoke_table(samples))
    else:
        show(samples, asked, runs)
    ours = [c for c, _ in samples.failures if c in OURS]
    return 1 if ours else 0


def show(samples: Samples, asked: argparse.Namespace, runs: int) -> None:
    """Print conditions, figures and targets; write the JSON file."""
    columns = [*dict.fromkeys(c for c, _ in (*samples.figures, *samples.failures))]
    absent = [p.name for p in MODES[asked.mode] if not p.is_here()]
    about = report.conditions(backend()) | {"pin": asked.pin}
    print(f"{asked.mode}: {runs} rounds, median (smallest–largest), --pin {asked.pin};")
    print(f"{about['backend']}; commit {about['commit']};")
    print(f"{about['cpu']}, {about['cpus']} CPUs, Linux {about['kernel']}")
    if absent:
        print(f"not found on PATH: {', '.join(absent)}")
    targets = against_before() if asked.before else TARGETS[asked.mode]
    print("\n" + report.figures_table(samples, columns))
    print("\n" + report.targets_table(samples, targets))
    path = report.save(samples, asked.mode, runs, about)
    print(f"\n{path.relative_to(ROOT)}")


if __name__ == "__main__":
    sys.exit(main())
