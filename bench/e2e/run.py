"""One run: every row, every peer, interleaved."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.e2e.load import Load
from bench.e2e.peers import OURS, Peer
from bench.e2e.proc import BenchError, Cpus
from bench.e2e.rows import ROWS, Effort, Figures, Row, arguments, take

QUICK_ROWS = ("up64", "ping1", "echo64")  # of programs that are not ours, with --quick
GIVE_UP = 2  # failures of one peer in one row until it is left out there
SAMPLE_LIMIT = 20  # seconds; the load generator ends itself then


@dataclass(slots=True)
class Samples:
    """What a run has measured.

    Attributes:
        figures: By column and figure, one value a round; failed rounds are missing.
        raw: Every answer of the load generator, with column, row and round.
        failures: By column and row, the texts.
        commands: The argument lists of each column, once.
    """

    figures: dict[tuple[str, str], dict[int, float]] = field(default_factory=dict)
    raw: list[dict[str, Any]] = field(default_factory=list)
    failures: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    commands: dict[str, list[list[str]]] = field(default_factory=dict)

    def add(self, column: str, figures: Figures, round_: int) -> None:
        """Keep the figures of one sample."""
        for key, value in figures.items():
            self.figures.setdefault((column, key), {})[round_] = value

    def fail(self, column: str, row: str, text: str) -> None:
        """Note that a sample gave nothing."""
        self.failures.setdefault((column, row), []).append(text)
        print(f"\n{column}, {row}: {text}", file=sys.stderr)

    def gave_up(self, column: str, row: str) -> bool:
        """Say whether a column failed too often in a row."""
        return len(self.failures.get((column, row), ())) >= GIVE_UP

    def column(self, column: str, key: str) -> list[float]:
        """Return all values of one figure."""
        return list(self.figures.get((column, key), {}).values())


@dataclass(frozen=True)
class Bench:
    """What a run needs to know beside peers and rows."""

    effort: Effort
    cpus: Cpus
    samples: Samples
    quick: bool = False
    rows: Sequence[Row] = ROWS

    def _sample(
        self, peer: Peer, row: Row, extra: Sequence[str], round_: int
    ) -> Figures:
        apart = "mixed" in row.args and not self.quick and self.cpus != Cpus()
        cpus = Cpus.choose("two") if apart else self.cpus
        running, ends = peer.start(cpus.under_test)
        options = [*arguments(row, peer, self.effort), *ends, *extra]
        options.append(f"--timeout={SAMPLE_LIMIT}")
        with running:
            self.samples.commands.setdefault(
                peer.name, [list(c) for c in running.commands]
            )
            with Load(options, cpus.load) as load:
                try:
                    figures, result = take(row, load, running, self.effort)
                except BenchError as error:
                    raise BenchError(f"{error} [{running.log()}]") from error
            started = running.started_in / len(running.commands)
        self.samples.raw.append(
            {"peer": peer.name, "row": row.key, "round": round_, "args": options}
            | {"figures": figures, "load": result}
        )
        return figures | {"start": started}

    def growth(self, peer: Peer, row: Row, round_: int) -> Figures:
        """CPU of a message among idle connections, divided by that of one alone."""
        alone = self._sample(peer, row, (), round_)
        crowd = self._sample(peer, row, (f"--idle={self.effort.grow}",), round_)
        return {row.key: crowd[row.key] / alone[row.key]}

    def one(self, peer: Peer, row: Row, round_: int) -> None:
        """Take one sample; a failure is noted and costs only that sample."""
        if not row.is_for(peer) or self.samples.gave_up(peer.name, row.key):
            return
        if self.quick and peer.name not in OURS and row.key not in QUICK_ROWS:
            return
        try:
            if row.kind == "growth":
                figures = self.growth(peer, row, round_)
            else:
                figures = self._sample(peer, row, (), round_)
        except BenchError as error:
            self.samples.fail(peer.name, row.key, str(error))
        else:
            self.samples.add(peer.name, figures, round_)


def run(
    bench: Bench,
    peers: Sequence[Peer],
    runs: int,
    extra: Callable[[int], None] | None = None,
) -> None:
    """Take ``runs`` samples of every row and peer; neighbours in time are compared.

    Args:
        bench: Where results go.
        peers: The columns; their order turns from round to round.
        runs: Rounds.
        extra: Measures what the load generator cannot, once a round.
    """
    for round_ in range(runs):
        turn = round_ % len(peers)
        for row in bench.rows:
            progress(f"round {round_ + 1}/{runs}, {row.key}")
            for peer in [*peers[turn:], *peers[:turn]]:
                bench.one(peer, row, round_)
        if extra is not None:
            progress(f"round {round_ + 1}/{runs}, the rest")
            extra(round_)
    progress("")


def progress(text: str) -> None:
    """Show what is going on, on a terminal only."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
