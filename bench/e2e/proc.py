"""Processes under test: start, readiness, CPU time and resident memory."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[2]
START_LIMIT = 10.0  # seconds until a program listens
POLL = 0.001  # seconds between two looks
FIRST_PORT, LAST_PORT = 20000, 32000  # below the ports that the kernel hands out

_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY = 4, 20  # linux/netlink.h, linux/sock_diag.h
_REQUEST_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_TCP_LISTEN = 10
_TICK = os.sysconf("SC_CLK_TCK")
_next_port = FIRST_PORT + os.getpid() * 37 % (LAST_PORT - FIRST_PORT)


class BenchError(Exception):
    """A program under test or the load generator failed; the text says how."""


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on, each time another one."""
    global _next_port
    for _ in range(LAST_PORT - FIRST_PORT):
        _next_port = _next_port + 1 if _next_port < LAST_PORT else FIRST_PORT
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", _next_port))
            return _next_port
    raise BenchError("no free port")


@dataclass(frozen=True)
class Cpus:
    """Where programs run; None leaves it to the scheduler."""

    under_test: int | None = None
    load: int | None = None

    @staticmethod
    def choose(how: str) -> Cpus:
        """Choose among the CPUs that this process may use.

        ``one``: everything on one CPU, so that costs do not depend on how the scheduler
        spreads a chain of processes. ``two``: the programs under test have one for
        themselves. ``off``: the scheduler decides.
        """
        allowed = sorted(os.sched_getaffinity(0))
        if how == "off" or (how == "two" and len(allowed) < 2):
            return Cpus()
        return Cpus(allowed[-1], allowed[-1 if how == "one" else 0])


def mover(cpu: int | None) -> Callable[[], None] | None:
    """Return what a child calls to move to a CPU."""
    return None if cpu is None else lambda: os.sched_setaffinity(0, {cpu})


@dataclass(slots=True)
class Running:
    """The processes of one peer, from start to end. Used as a context manager.

    Attributes:
        commands: One argument list a process, upstream first.
        ports: The port that each of them must listen on.
        env: Added to this process's environment.
        cpu: Where they run; None leaves them where this process runs.
        started_in: Seconds from the start to listening, summed over all.
    """

    commands: Sequence[Sequence[str]]
    ports: Sequence[int]
    env: Mapping[str, str] = field(default_factory=dict)
    cpu: int | None = None
    started_in: float = 0.0
    _procs: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _log: IO[bytes] | None = None

    def __enter__(self) -> Running:
        self._log = tempfile.TemporaryFile()
        try:
            for command, port in zip(self.commands, self.ports, strict=True):
                self._start(command, port)
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self, command: Sequence[str], port: int) -> None:
        begun = time.monotonic()
        env = os.environ | {"PYTHONPATH": str(ROOT)} | dict(self.env)
        env.pop("PYTHONDONTWRITEBYTECODE", None)  # installed programs need no compiler
        proc = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            cwd=ROOT,
            env=env,
            preexec_fn=mover(self.cpu),
        )
        self._procs.append(proc)
        while not is_listening(port):
            if proc.poll() is not None or time.monotonic() - begun > START_LIMIT:
                raise BenchError(
                    f"{Path(command[0]).name} does not listen: {self.log()}"
                )
            select.select([], [], [], POLL)
        self.started_in += time.monotonic() - begun

    def __exit__(self, *_: object) -> None:
        """End everything at once: a drain of held connections would take its time."""
        for pid in list(self._tree()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for proc in self._procs:
            proc.wait()
        self._procs.clear()
        if self._log is not None:
            self._log.close()
            self._log = None

    def log(self) -> str:
        """Return the last lines that the processes printed."""
        assert self._log is not None
        self._log.seek(0)
        text = self._log.read()
        return " | ".join(text.decode(errors="replace").strip().splitlines()[-3:])

    def connections(self) -> list[int]:
        """Return the number of sockets of each child, or of the only process."""
        pids = list(self._tree())
        return [count_sockets(pid) for pid in pids[1:] or pids]

    def _tree(self) -> Iterator[int]:
        for proc in self._procs:
            yield from descendants(proc.pid)

    def spent(self) -> float:
        """Return user and system seconds of all processes, threads and children."""
        return sum(cpu_seconds(pid) for pid in self._tree())

    def resident(self) -> int:
        """Return resident KiB: Rss, or Pss where processes share pages by fork."""
        pids = list(self._tree())
        name = "Rss" if len(pids) == len(self._procs) else "Pss"
        return sum(memory_kib(pid, name) for pid in pids)


def is_listening(port: int) -> bool:
    """Say whether a TCP socket listens on the port, without connecting to it.

    Asks the kernel for its listeners (sock_diag(7)): /proc/net/tcp would list every
    connection that the last workload left in TIME-WAIT as well.
    """
    for family in (socket.AF_INET, socket.AF_INET6):
        wanted = struct.pack("=BBBxI", family, socket.IPPROTO_TCP, 0, 1 << _TCP_LISTEN)
        body = wanted + bytes(48)
        size = 16 + len(body)
        head = struct.pack("=IHHII", size, _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 0, 0)
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as s:
            s.send(head + body)
            if port in _listeners(s):
                return True
    return False


def _listeners(netlink: socket.socket) -> Iterator[int]:
    while True:
        data = netlink.recv(1 << 16)
        while data:
            size, kind = struct.unpack_from("=IH", data)
            if kind != _SOCK_DIAG_BY_FAMILY:
                return  # NLMSG_DONE, or an error
            yield struct.unpack_from("!H", data, 16 + 4)[0]
            data = data[(size + 3) & ~3 :]


def descendants(pid: int) -> Iterator[int]:
    """Yield the process and all its living descendants."""
    yield pid
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split():
                yield from descendants(int(child))


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of one process, its ended threads and reaped children.

    Living threads are counted in nanoseconds (``schedstat``); what has ended is known
    in clock ticks only, and is taken where it makes a whole tick.
    """
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
        living = 0
        for task in tasks:
            with contextlib.suppress(OSError):
                text = Path(f"/proc/{pid}/task/{task}/schedstat").read_text()
                living += int(text.split()[0])
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    reaped = (int(stat[13]) + int(stat[14])) / _TICK
    own = (int(stat[11]) + int(stat[12])) / _TICK
    ended = own - living / 1e9
    return living / 1e9 + reaped + (ended if ended > 2.0 / _TICK else 0.0)


def count_sockets(pid: int) -> int:
    """Return how many sockets a process has open."""
    count = 0
    with os.scandir(f"/proc/{pid}/fd") as entries:
        for entry in entries:
            with contextlib.suppress(OSError):  # closed meanwhile
                count += os.readlink(entry.path).startswith("socket:")
    return count


def memory_kib(pid: int, name: str) -> int:
    """Return one line of ``smaps_rollup`` in KiB, 0 for a process that is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1])
    return 0
