"""Tables and the JSON file of a run."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.e2e.proc import ROOT
from bench.e2e.rows import FIGURES, Target
from bench.e2e.run import Samples

RESULTS = ROOT / "bench" / "results"
_LABELS = {key: (label, unit) for key, label, unit in FIGURES}


def number(value: float) -> str:
    """Three digits that matter, without an exponent."""
    if abs(value) >= 100:
        return f"{value:.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.3f}"


def spread(values: Sequence[float]) -> str:
    """Median (smallest–largest)."""
    if not values:
        return ""
    middle, low, high = statistics.median(values), min(values), max(values)
    if len(values) == 1:
        return number(middle)
    return f"{number(middle)} ({number(low)}–{number(high)})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table with columns of even width."""
    widths = [max(len(r[i]) for r in (head, *rows)) for i in range(len(head))]
    lines = [
        [c.ljust(w) for c, w in zip(r, widths, strict=True)] for r in (head, *rows)
    ]
    lines.insert(1, ["-" * w for w in widths])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def figures_table(samples: Samples, columns: Sequence[str]) -> str:
    """Return medians and spreads, a row a figure."""
    rows = []
    for key, label, unit in FIGURES:
        cells = [spread(samples.column(c, key)) for c in columns]
        for i, column in enumerate(columns):
            if not cells[i] and (column, key) in samples.failures:
                cells[i] = "failed"
        if any(cells):
            rows.append([label, unit, *cells])
    return table(["work", "unit", *columns], rows)


def smoke_table(samples: Samples) -> str:
    """Return what ran and what failed, without figures."""
    columns = [*dict.fromkeys(c for c, _ in (*samples.figures, *samples.failures))]
    rows = []
    for key, label, _ in FIGURES:
        cells = ["ok" if samples.column(c, key) else "" for c in columns]
        for i, column in enumerate(columns):
            if (column, key) in samples.failures:
                cells[i] = "failed"
        part = key.removeprefix("wss.").removeprefix("first.")
        if any(cells) and "." not in part:
            rows.append([label, *cells])
    return table(["work", *columns], rows)


def ratios(samples: Samples, target: Target) -> list[float]:
    """Return one ratio a round: only values of the same round are compared."""
    mine = samples.figures.get((target.peer, target.key), {})
    if not target.others:
        return list(mine.values())
    found = []
    others = [samples.figures.get(other, {}) for other in target.others]
    for round_, value in mine.items():
        if all(round_ in other for other in others):
            found.append(value / statistics.mean(o[round_] for o in others))
    return found


def verdict(value: float, limit: float) -> str:
    """Say whether a target is met, and by how much it is not."""
    if value <= limit:
        return "met"
    over = (value / limit - 1) * 100
    return f"missed by {over:.0f} %" if over >= 1 else "missed by less than 1 %"


def targets_table(samples: Samples, targets: Sequence[Target]) -> str:
    """Return targets with what was reached."""
    rows = []
    for target in targets:
        label, unit = _LABELS[target.key]
        names = " and ".join(
            peer if key == target.key else _LABELS[key][0]
            for peer, key in target.others
        )
        if target.others:
            limit = (
                f"≤ {target.limit:g} × {'mean of ' if ' and ' in names else ''}{names}"
            )
        else:
            limit = f"≤ {target.limit:g} {unit}"
        found = ratios(samples, target)
        said = (
            verdict(statistics.median(found), target.limit) if found else "not measured"
        )
        judged = "" if target.peer == "fastws" else f" ({target.peer})"
        rows.append([label + judged, limit, spread(found), said])
    return table(["work", "target", "reached", "verdict"], rows)


def _command(*args: str) -> str:
    try:
        done = subprocess.run(
            args, cwd=ROOT, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = (done.stdout or done.stderr).strip().splitlines()
    return lines[0] if done.returncode == 0 and lines else ""


def cpu_model() -> str:
    """Return the processor's name as the kernel gives it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def conditions(backend: str) -> dict[str, Any]:
    """Return what a reader needs to judge the figures."""
    versions = {
        "haproxy": _command("haproxy", "-v"),
        "websocat": _command("websocat", "--version"),
        "wstunnel": _command("wstunnel", "--version"),
        "chisel": _command("chisel", "--version"),
        "cc": _command("cc", "--version"),
    }
    return {
        "commit": _command("git", "rev-parse", "--short", "HEAD"),
        "changed": bool(_command("git", "status", "--porcelain", "--", "fastws")),
        "backend": backend,
        "cpu": cpu_model(),
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": {name: text for name, text in versions.items() if text},
    }


def _shown(command: Sequence[str]) -> str:
    """A command line without the paths of this machine."""
    return " ".join(Path(a).name if a.startswith("/") else a for a in command)


def save(samples: Samples, mode: str, runs: int, about: dict[str, Any]) -> Path:
    """Write one JSON file with conditions, command lines and raw samples."""
    RESULTS.mkdir(exist_ok=True)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    path = RESULTS / f"{mode}-{stamp}-{about['commit'] or 'unknown'}.json"
    commands = {n: [_shown(c) for c in cs] for n, cs in samples.commands.items()}
    failures = {f"{c}, {r}": texts for (c, r), texts in samples.failures.items()}
    figures: dict[str, dict[str, list[float]]] = {}
    for (column, key), values in samples.figures.items():
        figures.setdefault(column, {})[key] = [
            float(f"{v:.6g}") for v in values.values()
        ]
    content = about | {"mode": mode, "runs": runs, "commands": commands}
    content |= {"failures": failures, "figures": figures, "samples": samples.raw}
    path.write_text(json.dumps(content, ensure_ascii=False) + "\n")
    return path
