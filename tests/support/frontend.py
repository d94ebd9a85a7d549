"""The chain that operators run: stw → nginx → wts → a service, and its files.

The parts that reload: every process reads its files again while connections run.
"""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.certs import certs
from tests.support.cli import Fastws
from tests.support.processes import children
from tests.support.programs import adapt, nginx_command, running
from tests.support.servers import free_port
from tests.support.timing import LONG, UNIT

_END = re.compile(
    r" (?P<mode>stw|wts) (?P<who>\S+) id=(?P<id>[0-9a-f]{16})"
    r" in=(?P<into>\d+) out=(?P<out>\d+) [\d.]+s (?P<reason>.+)$"
)
_ALARM = re.compile(r" (?:WARNING|ERROR|CRITICAL) ")
_STOPPED = re.compile(
    r" stopped (?:stw|wts): (?P<total>\d+) connections, (?P<refused>\d+) refused"
    r" .*in=(?P<into>\d+) out=(?P<out>\d+)$"
)


@dataclass(frozen=True, slots=True)
class End:
    """What the log says about one connection."""

    who: str
    id: str
    into: int
    out: int
    reason: str

    @property
    def in_order(self) -> bool:
        return self.reason == "closed"


@dataclass(slots=True)
class Book:
    """The lines of one process, each read once.

    Attributes:
        ends: in the order of the log.
        by_client: the same by the client's address.
        reloads: how often files were read again.
        failures: how often they could not be used.
        alarms: other lines of level warning or above.
    """

    process: Fastws
    ends: list[End] = field(default_factory=list)
    by_client: dict[str, list[End]] = field(default_factory=dict)
    reloads: int = 0
    failures: int = 0
    alarms: list[str] = field(default_factory=list)
    _read: int = 0

    def update(self) -> None:
        """Read what is new."""
        lines = self.process.lines
        while self._read < len(lines):
            line = lines[self._read]
            self._read += 1
            if found := _END.search(line):
                counts = int(found["into"]), int(found["out"])
                end = End(found["who"], found["id"], *counts, found["reason"])
                self.ends.append(end)
                self.by_client.setdefault(end.who, []).append(end)
            elif line.endswith("certificates and keys reloaded"):
                self.reloads += 1
            elif "certificates and keys: nothing reloaded" in line:
                self.failures += 1
            elif _ALARM.search(line):
                self.alarms.append(line)

    async def reload(self, pairs: int) -> None:
        """SIGHUP, and wait until every pair says that it has reloaded."""
        self.update()
        before = self.reloads
        self.process.signal(signal.SIGHUP)
        await self.until(lambda: self.reloads >= before + pairs)

    async def until(self, check: Callable[[], bool], timeout: float = LONG) -> None:
        """Wait for lines; fail after ``timeout`` seconds."""
        async with asyncio.timeout(timeout):
            while not check():
                await asyncio.sleep(UNIT / 5)
                self.update()

    def stopped(self) -> Counter[str]:
        """The counters of the last lines, of all pairs together."""
        sums: Counter[str] = Counter()
        for line in self.process.lines:
            if found := _STOPPED.search(line):
                sums.update({name: int(n) for name, n in found.groupdict().items()})
        return sums


class Files:
    """Certificates and CAs, in two forms that both work.

    Attributes:
        wts: certificate and key in one file.
        nginx: the same.
        ca: the CAs that issued either, for stw.
    """

    def __init__(self, place: Path) -> None:
        self._turn = 0
        self.wts = place / "wts.pem"
        self.nginx = place / "nginx.pem"
        self.ca = place / "ca.pem"
        self.renew()

    def renew(self) -> None:
        """Other certificates, and the CAs in another order."""
        self._turn ^= 1
        pairs = [certs().server, certs().stranger]
        authorities = [certs().ca, certs().other_ca]
        if self._turn:
            authorities.reverse()
        put(self.ca, "".join(Path(path).read_text("ascii") for path in authorities))
        for path in (self.wts, self.nginx):
            put(path, Path(pairs[self._turn]).read_text("ascii"))

    def spoil(self) -> None:
        """The file of wts is one that nobody can use."""
        self.wts.write_text("half a certif", "ascii")


def put(path: Path, text: str) -> None:
    """Write a file in one step."""
    new = path.with_suffix(".new")
    new.write_text(text, "ascii")
    os.replace(new, path)


@dataclass(slots=True)
class Nginx:
    """nginx with the configuration of the example.

    Attributes:
        port: with TLS.
        log: what it says.
    """

    port: int
    log: Path
    _command: list[str]
    _pid: Path

    def reload(self) -> None:
        """``nginx -s reload``: new workers, and the old ones end with their work."""
        subprocess.run(
            [*self._command, "-s", "reload"],
            check=True,
            capture_output=True,
            timeout=LONG,
        )

    def workers(self) -> int:
        """Its processes, without the first."""
        return len(children(int(self._pid.read_text())))


@contextlib.contextmanager
def nginx(target: int, files: Files, place: Path) -> Iterator[Nginx]:
    """nginx before a wts."""
    port = free_port()
    changes = {
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "/etc/ssl/www.example.com/fullchain.pem": str(files.nginx),
        "/etc/ssl/www.example.com/privkey.pem": str(files.nginx),
        "server 127.0.0.1:8080;": f"server 127.0.0.1:{target};",
    }
    (place / "fastws.conf").write_text(adapt("nginx/fastws.conf", changes))
    command = nginx_command(place, f"include {place}/fastws.conf;")
    command += ["-g", "worker_processes 2;"]
    log = place / "nginx.log"
    with running(port, *command, log=log):
        yield Nginx(port, log, command, place / "pid")


class Relay:
    """Passes bytes on to ``port`` until a connection is told to pass no more.

    Then nothing passes either way, and nobody is told of an end.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._copies: list[asyncio.Task[None]] = []
        self._writers: list[asyncio.StreamWriter] = []
        self.port = 0

    async def __aenter__(self) -> "Relay":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.darken()
        self.forget()

    def forget(self) -> None:
        """Close what is connected now."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def darken(self) -> None:
        """Nothing passes any more in what is connected now."""
        for task in self._copies:
            task.cancel()
        self._copies.clear()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        up, down = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers += [writer, down]
        for source, sink in ((reader, down), (up, writer)):
            task = asyncio.create_task(self._copy(source, sink))
            self._copies.append(task)

    async def _copy(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
            sink.write_eof()
