"""What is measured (rows) and what DESIGN asks of it (targets)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bench.e2e.load import Load, Result
from bench.e2e.peers import Peer
from bench.e2e.proc import Running

GIB = float(1 << 30)
GROW_IDLE = 4000  # idle connections beside the active one


@dataclass(frozen=True)
class Effort:
    """How long and how many; ``--quick`` only proves that everything works.

    Attributes:
        seconds: Length of one measured part.
        idle, idle_few, stalled: Connections held for the memory rows.
        grow: Idle connections of the growth row.
        tls: TLS connections of one sample of the handshake row.
        firsts: Proxied connections of one sample of a first-byte row.
    """

    seconds: float = 0.7
    warm: int = 16 << 20
    idle: int = 1000
    idle_few: int = 50
    stalled: int = 16
    grow: int = GROW_IDLE
    tls: int = 100
    tls_idle: int = 200
    tls_stalled: int = 8
    firsts: int = 5


FULL = Effort()
SMOKE = Effort(0.03, 1 << 20, 20, 4, 2, 50, 5, 5, 2, 1)

Kind = Literal[
    "bulk", "ping", "connect", "memory", "growth", "mixed", "streams", "share"
]


@dataclass(frozen=True)
class Row:
    """One workload of the load generator.

    Attributes:
        key: Name in targets and results.
        kind: Which figures are taken from it.
        args: Options of the load generator beside those of peer and effort.
        only: Names of the peers it is for; empty for all.
    """

    key: str
    kind: Kind
    args: tuple[str, ...]
    only: frozenset[str] = frozenset()

    def is_for(self, peer: Peer) -> bool:
        """Say whether this peer takes part in this row."""
        return (not self.only or peer.name in self.only) and (
            not peer.only or self.key in peer.only
        )


_TWO = frozenset({"fastws", "before", "C relay"})
KIB1 = ("--write=1024", "--warm=4194304")
ROWS = (
    Row("up64", "bulk", ("up",)),
    Row("down64", "bulk", ("down",)),
    Row("up1", "bulk", ("up", *KIB1)),
    Row("down1", "bulk", ("down", *KIB1)),
    Row("ping1", "ping", ("ping", "--conns=1")),
    Row("ping32", "ping", ("ping", "--conns=32")),
    Row("connect", "connect", ("connect", "--conns=8")),
    Row("idle", "memory", ("idle",)),
    Row("stall", "memory", ("stall",)),
    Row("mixed", "mixed", ("mixed", "--streams=8"), _TWO),
    Row("growth", "growth", ("ping",), _TWO),
)

BESIDE = {
    "workers": (
        Row("streams", "streams", ("mixed", "--streams=8")),
        Row("share", "share", ("idle",), frozenset({"2 workers"})),
    ),
    "features": tuple(r for r in ROWS if r.key in ("connect", "ping1", "up1", "idle")),
    "proxy": tuple(
        r
        for r in ROWS
        if r.key in ("up64", "down64", "ping1", "ping32", "connect", "idle")
    ),
    "echo": (
        Row("echo64", "ping", ("ping", "--conns=1")),
        Row("echo64x32", "ping", ("ping", "--conns=32")),
        Row("echo1k", "ping", ("ping", "--conns=1", "--size=1024")),
        Row("echo1kx32", "ping", ("ping", "--conns=32", "--size=1024")),
        Row("echo64k", "ping", ("ping", "--conns=1", "--size=65536")),
        Row("echo64kx32", "ping", ("ping", "--conns=32", "--size=65536")),
        Row("connect", "connect", ("connect", "--conns=8")),
        Row("idle", "memory", ("idle",)),
    ),
}


def rows_of(mode: str) -> tuple[Row, ...]:
    """Return the rows of one mode."""
    return BESIDE.get(mode, ROWS)


# Figures of the table: key, what it says, unit.
FIGURES = (
    ("up64", "bulk up, 64 KiB writes", "CPU s/GiB"),
    ("down64", "bulk down, 64 KiB writes", "CPU s/GiB"),
    ("up1", "bulk up, 1 KiB writes", "CPU s/GiB"),
    ("down1", "bulk down, 1 KiB writes", "CPU s/GiB"),
    ("up64.rate", "bulk up, 64 KiB writes", "MiB/s"),
    ("down64.rate", "bulk down, 64 KiB writes", "MiB/s"),
    ("up64.frame", "average frame up, 64 KiB writes", "bytes"),
    ("up1.frame", "average frame up, 1 KiB writes", "bytes"),
    ("down64.frame", "average frame down, 64 KiB writes", "bytes"),
    ("down1.frame", "average frame down, 1 KiB writes", "bytes"),
    ("ping1", "64-byte ping-pong, 1 connection", "CPU µs"),
    ("ping1.p50", "its latency, p50", "µs"),
    ("ping1.p99", "its latency, p99", "µs"),
    ("ping32", "64-byte ping-pong, 32 connections", "CPU µs"),
    ("ping32.p50", "its latency, p50", "µs"),
    ("ping32.p99", "its latency, p99", "µs"),
    ("echo64", "64 bytes echoed, 1 connection", "CPU µs"),
    ("echo64.p50", "its latency, p50", "µs"),
    ("echo64.p99", "its latency, p99", "µs"),
    ("echo64x32", "64 bytes echoed, 32 connections", "CPU µs"),
    ("echo1k", "1 KiB echoed, 1 connection", "CPU µs"),
    ("echo1kx32", "1 KiB echoed, 32 connections", "CPU µs"),
    ("echo64k", "64 KiB echoed, 1 connection", "CPU µs"),
    ("echo64kx32", "64 KiB echoed, 32 connections", "CPU µs"),
    ("connect", "new connection", "CPU µs"),
    ("connect.rate", "new connections", "1/s"),
    ("idle", "resident an idle connection", "KiB"),
    ("stall", "resident a stalled connection", "KiB"),
    ("mixed", "ping-pong p99 beside 8 streams", "µs"),
    ("streams", "8 streams, four each way", "CPU s/GiB"),
    ("share", "connections of the busiest worker", "%"),
    ("growth", "ping-pong among idle connections : alone", "ratio"),
    ("start", "start to listening", "s"),
    ("first.cold", "first byte, cold pool", "ms"),
    ("first.warm", "first byte, warm pool", "ms"),
    ("first.cold-wss", "first byte, cold pool, wss", "ms"),
    ("first.warm-wss", "first byte, warm pool, wss", "ms"),
    ("wss.handshake", "new wss connection", "CPU µs"),
    ("wss.idle", "resident an idle wss connection", "KiB"),
    ("wss.stall", "resident a stalled wss connection", "KiB"),
)

Figures = dict[str, float]


def arguments(row: Row, peer: Peer, effort: Effort) -> list[str]:
    """Return the load generator's options for one sample."""
    seconds = effort.seconds * (3 if "mixed" in row.args else 1)
    args = [*row.args, f"--seconds={seconds:g}"]
    if not any(a.startswith("--warm") for a in args):
        args.append(f"--warm={effort.warm}")
    if row.key in ("idle", "share"):
        args.append(f"--conns={effort.idle_few if peer.few else effort.idle}")
    elif row.key == "stall":
        args.append(f"--conns={effort.stalled}")
    return args


def _average_frame(result: Result) -> float:
    """The data frames that our WebSocket side received, header included."""
    for side in ("client", "server"):
        if result[side]["frames"] > 0:
            bytes_, frames = result[side]["frame_bytes"], result[side]["frames"]
            return float(bytes_) / float(frames)
    return 0.0


def take(
    row: Row, load: Load, running: Running, effort: Effort
) -> tuple[Figures, Result]:
    """Wait for the warm-up, run the measured part and return its figures."""
    load.wait_ready()
    held = running.connections() if row.kind == "share" else []
    memory, cpu = running.resident(), running.spent()
    result = load.go()
    cpu = running.spent() - cpu
    key = row.key
    if row.kind == "memory":
        kib = (running.resident() - memory) / result["messages"]
        return {key: kib}, result
    if row.kind == "share":
        more = [n - m for n, m in zip(running.connections(), held, strict=True)]
        return {key: 100 * max(more) / sum(more)}, result
    if row.kind == "streams":
        return {key: cpu * GIB / result["bytes"]}, result
    if row.kind == "bulk":
        figures = {key: cpu * GIB / result["bytes"]}
        figures[key + ".rate"] = result["bytes"] / result["seconds"] / (1 << 20)
        frame = _average_frame(result)
        if frame > 0:
            figures[key + ".frame"] = frame
        return figures, result
    if row.kind == "mixed":
        return {key: result["p99_us"]}, result
    each = cpu * 1e6 / max(result["messages"], 1)
    if row.kind == "connect":
        rate = result["messages"] / result["seconds"]
        return {key: each, "connect.rate": rate}, result
    return {
        key: each,
        key + ".p50": result["p50_us"],
        key + ".p99": result["p99_us"],
    }, result


@dataclass(frozen=True)
class Target:
    """``fastws`` at most ``limit`` times ``others``, or at most ``limit`` itself.

    Attributes:
        key: The figure of fastws.
        limit: Of the ratio, or in the figure's unit when there are no others.
        others: ``(peer, figure)``; of several the mean counts.
        peer: The column that is judged.
    """

    key: str
    limit: float
    others: tuple[tuple[str, str], ...] = ()
    peer: str = "fastws"


def _against(peer: str, limit: float, *keys: str) -> tuple[Target, ...]:
    return tuple(Target(k, limit, ((peer, k),)) for k in keys)


_ONE_END = (
    *_against("haproxy", 0.9, "up64", "down64"),
    *_against("C relay", 1.15, "up64", "down64", "up1", "down1"),
    *_against("websocat", 1.0, "up1", "down1"),
    *_against("C relay", 1.2, "ping1", "ping32"),
    *_against("haproxy", 1.0, "ping1"),
    Target("idle", 8.0),
    Target("wss.idle", 60.0),
    Target("stall", 512.0),
    Target("wss.stall", 1024.0),
    *_against("C relay", 2.0, "mixed"),
    Target("growth", 1.1),
    Target("start", 0.4),
)
_ONE_RELAY = tuple(
    Target(key, 2.3, (("relay stw", key), ("relay wts", key)))
    for key in ("up64", "down64", "ping1", "ping32")
)
_PROXIES = (
    ("CONNECT", "stw", 1.1),
    ("SOCKS5", "stw", 1.1),
    ("via CONNECT", "tunnel", 1.2),
    ("via SOCKS5", "tunnel", 1.2),
)
TARGETS = {
    "stw": (*_ONE_END, *_against("websocat wts", 1.6, "connect")),
    "wts": (
        *_ONE_END,
        *_against("websocat", 1.6, "connect"),
        *_against("uvloop TLS", 1.2, "wss.handshake"),
        Target("up64", 1.0, (("websockify", "up64"),), "fastws pure"),
        Target("down64", 1.0, (("websockify", "down64"),), "fastws pure"),
    ),
    "tunnel": _ONE_RELAY,
    "workers": (
        Target("streams", 1.05, (("1 worker", "streams"),), "2 workers"),
        Target("share", 65.0, (), "2 workers"),
    ),
    "features": tuple(
        Target(key, 1.15, (("plain", key),), "features")
        for key in ("connect", "ping1", "up1", "idle")
    ),
    "proxy": (
        *(
            Target(key, limit, ((beside, key),), peer)
            for peer, beside, limit in _PROXIES
            for key in ("up64", "down64", "ping1", "ping32")
        ),
        Target("first.warm", 0.6, (("via CONNECT", "first.cold"),), "via CONNECT"),
        Target(
            "first.warm-wss", 0.4, (("via CONNECT", "first.cold-wss"),), "via CONNECT"
        ),
    ),
    "echo": (
        *_against("picows", 1.0, *(row.key for row in BESIDE["echo"][:7])),
        *(
            Target(row.key, 1.0, (("aiohttp", row.key),), "coroutines")
            for row in BESIDE["echo"][:7]
        ),
        Target("idle", 8.0),
    ),
}

NOISE = 1.03  # a change that costs less is lost in the noise of nine rounds


def against_before() -> tuple[Target, ...]:
    """Nothing of what counts against a program may have grown."""
    keys = [key for key, _, unit in FIGURES if unit not in ("MiB/s", "1/s", "bytes")]
    return _against("before", NOISE, *keys)
