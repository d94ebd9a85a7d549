"""How fastws and each peer is started for each mode."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

from bench.e2e.proc import ROOT, Running, free_port

RELAY = ROOT / "bench" / "bin" / "relay"
FASTWS = (sys.executable, "-m", "fastws")
QUIET = ("--log-level", "warning")
HERE = "127.0.0.1"

# Gets the port to listen on, the port of the server behind, and one in between.
Commands = Callable[[int, int, int], Sequence[Sequence[str]]]


@dataclass(frozen=True)
class Peer:
    """A program under test in one mode.

    Attributes:
        name: Column of the table.
        program: What must be on PATH, or a file that must exist.
        commands: Makes the argument lists, the one that the load connects to last.
        client, server: ``tcp`` or ``ws``, what the load generator speaks at each side;
            clients also ``connect`` or ``socks5``, TCP through a proxy.
        closer: The side that ends a connection after its echo.
        env: Added to the environment.
        few: A connection costs it so much that memory rows hold fewer.
        only: Row keys it takes part in; empty for all.
        load: Further options of the load generator.
    """

    name: str
    program: str
    commands: Commands
    client: str
    server: str
    closer: str = "client"
    env: dict[str, str] = field(default_factory=dict)
    few: bool = False
    only: frozenset[str] = frozenset()
    load: tuple[str, ...] = ()

    def is_here(self) -> bool:
        """Say whether the program can be started on this machine."""
        return shutil.which(self.program) is not None

    def start(self, cpu: int | None) -> tuple[Running, list[str]]:
        """Return the processes, not started yet, and the load generator's options."""
        front, behind, middle = free_port(), free_port(), free_port()
        commands = self.commands(front, behind, middle)
        ports = [front] if len(commands) == 1 else [middle, front]
        args = [f"--client={self.client}", f"--server={self.server}"]
        args += [f"--connect={front}", f"--listen={behind}", f"--closer={self.closer}"]
        args += self.load
        return Running(commands, ports, self.env, cpu), args


def _fastws_stw(front: int, behind: int, _: int) -> Sequence[Sequence[str]]:
    return [[*FASTWS, "stw", f"{HERE}:{front}", f"ws://{HERE}:{behind}/", *QUIET]]


def _fastws_wts(front: int, behind: int, _: int) -> Sequence[Sequence[str]]:
    return [[*FASTWS, "wts", f"{HERE}:{front}", f"{HERE}:{behind}", *QUIET]]


def _relay_stw(front: int, behind: int, _: int) -> Sequence[Sequence[str]]:
    return [[str(RELAY), "stw", str(front), HERE, str(behind)]]


def _relay_wts(front: int, behind: int, _: int) -> Sequence[Sequence[str]]:
    return [[str(RELAY), "wts", str(front), HERE, str(behind)]]


def _websocat_stw(front: int, behind: int, _: int) -> Sequence[Sequence[str]]:
    options = ("-q", "-b", "-E", "-B", "65536")
    return [["websocat", *options, f"tcp-l:{HERE}:{front}", f"ws://{HERE}:{behind}/"]]


def _websocat_wts(front: int, behind: int, _: int) -> Sequence[Sequence[str]]:
    options = ("-q", "-b", "-E", "-B", "65536")
    return [["websocat", *options, f"ws-l:{HERE}:{front}", f"tcp:{HERE}:{behind}"]]


def _websockify(front: int, behind: int, _: int) -> Sequence[Sequence[str]]:
    return [["websockify", f"{HERE}:{front}", f"{HERE}:{behind}"]]


HAPROXY_CONFIG = """\
global
  nbthread 1
  maxconn 4500
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
listen relay
  bind 127.0.0.1:{front}
  server behind 127.0.0.1:{behind}
"""


def _haproxy(front: int, behind: int, _: int) -> Sequence[Sequence[str]]:
    path = Path(tempfile.gettempdir()) / f"bench-haproxy-{os.getpid()}.cfg"
    if not path.exists():
        atexit.register(path.unlink)
    path.write_text(HAPROXY_CONFIG.format(front=front, behind=behind))
    return [["haproxy", "-q", "-db", "-f", str(path)]]


def _wstunnel(front: int, behind: int, middle: int) -> Sequence[Sequence[str]]:
    forward = f"tcp://{HERE}:{front}:{HERE}:{behind}"
    level = ("--log-lvl", "WARN")
    return [
        ["wstunnel", "server", *level, f"ws://{HERE}:{middle}"],
        ["wstunnel", "client", *level, "-L", forward, f"ws://{HERE}:{middle}"],
    ]


def _chisel(front: int, behind: int, middle: int) -> Sequence[Sequence[str]]:
    remote = f"{HERE}:{front}:{HERE}:{behind}"
    return [
        ["chisel", "server", "--host", HERE, "--port", str(middle)],
        ["chisel", "client", f"http://{HERE}:{middle}", remote],
    ]


def _pair(first: Commands, second: Commands) -> Commands:
    """The second, which the load connects to, in front of the first."""

    def commands(front: int, behind: int, middle: int) -> Sequence[Sequence[str]]:
        return [*first(middle, behind, 0), *second(front, middle, 0)]

    return commands


def _workers(count: int) -> Commands:
    """``wts`` in so many processes; with one there is no parent beside it."""

    def commands(front: int, behind: int, _: int) -> Sequence[Sequence[str]]:
        return [[*_fastws_wts(front, behind, 0)[0], f"--workers={count}"]]

    return commands


def _proxy(front: int, _: int, __: int) -> Sequence[Sequence[str]]:
    return [[*FASTWS, "proxy", f"{HERE}:{front}", *QUIET]]


def _via(front: int, _: int, middle: int) -> Sequence[Sequence[str]]:
    far = ("--no-auth", "--allow=127.0.0.0/8", *QUIET)
    near = (f"--via=ws://{HERE}:{middle}/", *QUIET)
    return [
        [*FASTWS, "proxy-server", f"{HERE}:{middle}", *far],
        [*FASTWS, "proxy", f"{HERE}:{front}", *near],
    ]


# As it comes it does not start on a uvloop of today, which makes no loop by itself.
PPROXY = """\
import asyncio, uvloop
from pproxy.server import main
loop = uvloop.new_event_loop()
asyncio.set_event_loop(loop)
asyncio.get_event_loop = lambda: loop
main()
"""


def _pproxy(front: int, _: int, __: int) -> Sequence[Sequence[str]]:
    return [[PY, "-c", PPROXY, "-l", f"http+socks5://{HERE}:{front}"]]


def _pproxy_twice(front: int, _: int, middle: int) -> Sequence[Sequence[str]]:
    """The near one asks the far one by CONNECT, without any WebSocket."""
    far, near = _pproxy(middle, 0, 0)[0], _pproxy(front, 0, 0)[0]
    return [far, [*near, "-r", f"http://{HERE}:{middle}"]]


def _wstunnel_socks(front: int, _: int, middle: int) -> Sequence[Sequence[str]]:
    far, near = _wstunnel(front, 0, middle)
    return [far, [f"socks5://{HERE}:{front}" if "tcp:" in a else a for a in near]]


def _chisel_socks(front: int, _: int, middle: int) -> Sequence[Sequence[str]]:
    far, near = _chisel(front, 0, middle)
    return [[*far, "--socks5"], [*near[:-1], f"{HERE}:{front}:socks"]]


def _wsp_socks(front: int, _: int, middle: int) -> Sequence[Sequence[str]]:
    path, auth = "/proxy", "bench"
    far = {"host": "wsps.test", "auth": auth, "path": path, "port": middle}
    server = f"ws://{HERE}:{middle}{path}"
    client = {"auth": auth, "server": server, "dynamic": [f"socks5://{HERE}:{front}"]}
    commands = []
    for program, config in (("wsps", far), ("wspc", {"client": [client]})):
        file = Path(tempfile.gettempdir()) / f"bench-{program}-{os.getpid()}.json"
        if not file.exists():
            atexit.register(file.unlink)
        file.write_text(json.dumps(config))
        commands.append([program, "-c", str(file)])
    return commands


def _features(front: int, behind: int, _: int) -> Sequence[Sequence[str]]:
    """A PROXY header in and out, a route, and a token."""
    options = ("--proxy-protocol=accept", "--send-proxy-protocol=v2")
    route = f"--route=/bench/*={HERE}:{behind}"
    token = "--auth-token=bench-token"
    return [[*FASTWS, "wts", f"{HERE}:{front}", *options, route, token, *QUIET]]


PY = sys.executable
PURE = {"FASTWS_PURE": "1"}
BULK = frozenset({"up64", "down64"})
SPEED = frozenset({"up64", "down64", "ping1", "ping32"})

STW = (
    Peer("fastws", PY, _fastws_stw, "tcp", "ws", "server"),
    Peer("C relay", str(RELAY), _relay_stw, "tcp", "ws", "server"),
    Peer("haproxy", "haproxy", _haproxy, "tcp", "tcp"),
    Peer("websocat", "websocat", _websocat_stw, "tcp", "ws", "server", few=True),
    Peer(
        "websocat wts",
        "websocat",
        _websocat_wts,
        "ws",
        "tcp",
        only=frozenset({"connect"}),
    ),
)
WTS = (
    Peer("fastws", PY, _fastws_wts, "ws", "tcp"),
    Peer("C relay", str(RELAY), _relay_wts, "ws", "tcp"),
    Peer("haproxy", "haproxy", _haproxy, "tcp", "tcp"),
    Peer("websocat", "websocat", _websocat_wts, "ws", "tcp"),
    Peer("websockify", "websockify", _websockify, "ws", "tcp", few=True),
    Peer("fastws pure", PY, _fastws_wts, "ws", "tcp", env=PURE, only=BULK),
)
TUNNEL = (
    Peer("fastws", PY, _pair(_fastws_wts, _fastws_stw), "tcp", "tcp"),
    Peer("C relay", str(RELAY), _pair(_relay_wts, _relay_stw), "tcp", "tcp"),
    Peer("relay stw", str(RELAY), _relay_stw, "tcp", "ws", "server", only=SPEED),
    Peer("relay wts", str(RELAY), _relay_wts, "ws", "tcp", only=SPEED),
    Peer(
        "websocat",
        "websocat",
        _pair(_websocat_wts, _websocat_stw),
        "tcp",
        "tcp",
        few=True,
    ),
    Peer("wstunnel", "wstunnel", _wstunnel, "tcp", "tcp"),
    Peer("chisel", "chisel", _chisel, "tcp", "tcp"),
)
# What fastws does more than alone and plain; judged against the column beside it.
WORKERS = (
    Peer("2 workers", PY, _workers(2), "ws", "tcp"),
    Peer("1 worker", PY, _workers(1), "ws", "tcp", only=frozenset({"streams"})),
)
_PP = PY if find_spec("pproxy") is not None else "pproxy"
PROXY = (
    Peer("CONNECT", PY, _proxy, "connect", "tcp"),
    Peer("SOCKS5", PY, _proxy, "socks5", "tcp"),
    Peer("stw", PY, _fastws_stw, "tcp", "ws", "server"),
    Peer("via CONNECT", PY, _via, "connect", "tcp"),
    Peer("via SOCKS5", PY, _via, "socks5", "tcp"),
    Peer("tunnel", PY, _pair(_fastws_wts, _fastws_stw), "tcp", "tcp"),
    Peer("pproxy CONNECT", _PP, _pproxy, "connect", "tcp"),
    Peer("pproxy SOCKS5", _PP, _pproxy, "socks5", "tcp"),
    Peer("pproxy twice", _PP, _pproxy_twice, "connect", "tcp"),
    Peer("wstunnel SOCKS5", "wstunnel", _wstunnel_socks, "socks5", "tcp"),
    Peer("chisel SOCKS5", "chisel", _chisel_socks, "socks5", "tcp"),
    Peer("wsp SOCKS5", "wspc", _wsp_socks, "socks5", "tcp"),
)
FEATURES = (
    Peer("features", PY, _features, "ws", "tcp", load=("--features",)),
    Peer("plain", PY, _fastws_wts, "ws", "tcp"),
)


def _echo(library: str) -> Peer:
    """An echo server of a WebSocket library; the load is its only client."""

    def commands(front: int, _: int, __: int) -> Sequence[Sequence[str]]:
        return [[PY, "-m", "bench.e2e.echo", library, str(front)]]

    return Peer(library, PY, commands, "ws", "tcp")


ECHO = tuple(
    _echo(library)
    for library in ("fastws", "coroutines", "picows", "websockets", "aiohttp")
    if library == "coroutines" or find_spec(library) is not None
)
OURS = frozenset(
    {"fastws", "coroutines", "C relay", "fastws pure", "before", "features", "plain"}
    | {"1 worker", "2 workers", "stw", "tunnel"}
    | {"CONNECT", "SOCKS5", "via CONNECT", "via SOCKS5"}
)


def earlier(peer: Peer, checkout: Path) -> Peer:
    """The same program from another checkout, which must be built."""
    env = {"PYTHONPATH": str(checkout.resolve()), "PYTHONSAFEPATH": "1"}
    return replace(peer, name="before", env=peer.env | env)


MODES = {
    "stw": STW,
    "wts": WTS,
    "tunnel": TUNNEL,
    "workers": WORKERS,
    "features": FEATURES,
    "proxy": PROXY,
    "echo": ECHO,
}
