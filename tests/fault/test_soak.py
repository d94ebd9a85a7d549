"""stw → nginx → wts → a service, for minutes: nothing grows and no byte is lost.

Clients connect, stall, half-close, reset and vanish at random while all three read
their files again. What each program sent and received is compared with the other's
and with both logs. A failure names its seed: ``FASTWS_SOAK_SEED=… pytest …``.
"""

import asyncio
import contextlib
import os
import random
import re
import secrets
import signal
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.cli import Fastws, wts
from tests.support.crowd import Crowd, wait_for
from tests.support.frontend import Book, End, Files, Nginx, Relay, nginx
from tests.support.ledger import Part
from tests.support.timing import LONG, units
from tests.support.veth import NoVeth, Veth, veth
from tests.support.visits import USUAL, Ending, Plans, Visit, judge

SECONDS = float(os.environ.get("FASTWS_SOAK_SECONDS", "600"))
SEED = os.environ.get("FASTWS_SOAK_SEED") or secrets.token_hex(4)
HOSTS = 4  # from which they come; the others vanish
VANISHING = 3
PINGS = ("--ping", units(15), "--ping-deadline", units(25))
GROWTH = 16 << 20  # bytes


@dataclass(slots=True)
class Chain:
    """All programs that run, and what they hold while nobody is connected."""

    crowd: Crowd
    near: Book
    far: Book
    nginx: Nginx
    files: Files
    reloads: Counter[str] = field(default_factory=Counter)
    held: list[int] = field(default_factory=list)
    vanishing: list[str] = field(default_factory=list)

    @property
    def processes(self) -> list[Fastws]:
        return [self.near.process, self.far.process]

    async def begin(self) -> None:
        """One connection each way: loops open some descriptors with the first."""
        ways = len(self.crowd.ways)
        for _ in range(ways):
            await self.crowd.visit(self.crowd.plans.next(Ending.ORDER))
        for book in (self.near, self.far):
            await book.until(lambda book=book: len(book.ends) == ways)
        self.held = [process.files() for process in self.processes]

    async def load(self, seconds: float, clients: int, *vanish: Ending) -> list[int]:
        """Everything at once for so long; what is held when all have left."""
        crowd, pause = self.crowd, min(seconds / 20, 5.0)
        until = asyncio.get_running_loop().time() + seconds
        async with asyncio.TaskGroup() as group:
            group.create_task(self.disturb(until, pause))
            for _ in range(clients):
                group.create_task(crowd.come(until))
            group.create_task(crowd.darken(until))
            for host, ending in zip(self.vanishing, vanish, strict=False):
                group.create_task(crowd.vanish(until, host, ending))
        return await self.settle()

    async def settle(self) -> list[int]:
        """Wait until nobody is connected; resident bytes of both then."""

        def is_quiet() -> bool:
            files = [process.files() for process in self.processes]
            return all(n <= m for n, m in zip(files, self.held, strict=True))

        await wait_for(is_quiet, LONG)
        await wait_for(lambda: self.nginx.workers() == 2, LONG)
        return [process.rss() for process in self.processes]

    async def disturb(self, until: float, pause: float) -> None:
        """Reload one thing after the other till that loop time."""
        loop, rng = asyncio.get_running_loop(), random.Random(SEED)
        deeds = [self._hup_stw, self._hup_wts, self._nginx, self._renew, self._spoil]
        while loop.time() < until:
            for deed in rng.sample(deeds, len(deeds)):
                await deed()
                self.reloads[deed.__name__.strip("_")] += 1
                await asyncio.sleep(rng.uniform(0, pause))

    async def _hup_stw(self) -> None:
        await self.near.reload(3)

    async def _hup_wts(self) -> None:
        await self.far.reload(1)

    async def _nginx(self) -> None:
        await asyncio.to_thread(self.nginx.reload)

    async def _renew(self) -> None:
        """New files, found without a signal."""
        self.near.update()
        self.far.update()
        near, far = self.near.reloads, self.far.reloads
        self.files.renew()
        await self.near.until(lambda: self.near.reloads >= near + 3)
        await self.far.until(lambda: self.far.reloads > far)

    async def _spoil(self) -> None:
        """A file that cannot be used changes nothing."""
        self.far.update()
        before = self.far.failures
        self.files.spoil()
        await self.far.until(lambda: self.far.failures > before)
        await self._renew()


@contextlib.asynccontextmanager
async def chain(place: Path, cable: Veth | None) -> AsyncIterator[Chain]:
    """Everything up, and one connection made each way."""
    files = Files(place)
    host = "127.0.0.1" if cable is None else cable.near
    plans, seats = Plans(SEED), range(10, 10 + HOSTS)
    hosts = [f"127.0.100.{n}" if cable is None else cable.host(n) for n in seats]
    options = ["--path", "/ssh", "--trust", "127.0.0.1", "--plain-too"]
    async with contextlib.AsyncExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        target = listener.getsockname()[1]
        options += ["--cert", str(files.wts), *PINGS]
        far = stack.enter_context(wts(target, *options))
        front = stack.enter_context(nginx(far.port, files, place))
        relay = await stack.enter_async_context(Relay(front.port))
        urls = [f"wss://127.0.0.1:{n}/ssh" for n in (front.port, far.port, relay.port)]
        pairs = [part for url in urls[1:] for part in ("--also", f"{host}:0={url}")]
        options = ["--ca", str(files.ca), *PINGS, *pairs]
        near = stack.enter_context(Fastws("stw", f"{host}:0", urls[0], *options))
        *ways, dark = [(host, port_to(near, url)) for url in urls]
        book = Book(near)
        crowd = Crowd(plans, cable, hosts, [ways[0], *ways], dark, relay, book)
        found = Chain(crowd, book, Book(far), front, files)
        group = await stack.enter_async_context(asyncio.TaskGroup())
        service = group.create_task(crowd.serve(listener))
        if cable is not None:
            found.vanishing = [cable.host(number) for number in range(VANISHING)]
        await found.begin()
        yield found
        service.cancel()


def port_to(process: Fastws, url: str) -> int:
    """Where the pair with that URL listens."""
    line = process.wait_for(f" stw on .* to {re.escape(url)},")
    found = re.search(r":(\d+) to ", line)
    assert found
    return int(found[1])


def check_totals(found: Chain) -> None:
    """Each process counted what its lines say, and has left nothing open."""
    for book in (found.near, found.far):
        stats = book.stopped()
        assert stats["total"] == len(book.ends)
        assert stats["into"] == sum(end.into for end in book.ends)
        assert stats["out"] == sum(end.out for end in book.ends)
        assert book.alarms == []
    assert found.near.stopped()["refused"] == 0


def summary(found: Chain, before: list[int], after: list[int]) -> str:
    """What a run was worth."""
    kinds = Counter(visit.ending.value for visit in found.crowd.plans.visits.values())
    moved = sum(end.into + end.out for end in found.near.ends) / 2**30
    lines = [f"{len(found.near.ends)} connections, {moved:.2f} GiB", f"{dict(kinds)}"]
    lines.append(f"reloads {dict(found.reloads)}")
    for number, name in enumerate(("stw", "wts")):
        rss = f"{before[number] / 2**20:.1f} -> {after[number] / 2**20:.1f} MiB"
        lines.append(f"{name}: {rss}, {found.held[number]} descriptors at rest")
    for book in (found.near, found.far):
        reasons = Counter(end.reason for end in book.ends)
        lines.append(f"{book.process.arguments[0]}: {dict(reasons)}")
    return "\n".join(lines)


async def soak(place: Path, cable: Veth | None, seconds: float, clients: int) -> None:
    """A fifth of the time to warm up, the rest to be measured."""
    gone = [Ending.VANISH] * VANISHING if cable is not None else []
    if gone and seconds > 300:
        gone[0] = Ending.FADE  # keepalive needs two minutes to find out
    async with chain(place, cable) as found:
        before = await found.load(seconds / 5, clients)
        after = await found.load(seconds * 4 / 5, clients, *gone)
        for process in found.processes:
            process.signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait) == 0
        for book in (found.near, found.far):
            book.update()
        print(summary(found, before, after))
        wrong = judge(list(found.crowd.plans.visits.values()), found.near, found.far)
        assert not wrong, "\n".join([f"{len(wrong)} wrong", *wrong[:20]])
        check_totals(found)
        for process, old, new in zip(found.processes, before, after, strict=True):
            assert new - old < GROWTH, process.arguments[0]
        done = {visit.ending for visit in found.crowd.plans.visits.values()}
        assert done >= {*USUAL, Ending.DARK, *gone}
        assert len(found.reloads) == 5
        assert "[emerg]" not in found.nginx.log.read_text("utf-8", "replace")


@pytest.fixture
def cable() -> Iterator[Veth | None]:
    """Where clients can vanish; without, they only do the rest."""
    try:
        with veth() as found:
            yield found
    except NoVeth:
        yield None


def run(place: Path, cable: Veth | None, seconds: float, clients: int) -> None:
    try:
        asyncio.run(soak(place, cable, seconds, clients))
    except BaseException as error:
        error.add_note(f"FASTWS_SOAK_SEED={SEED}")
        raise


def test_line_of_a_port_that_came_back_before_it() -> None:
    """The judge: a client that resets gives its port to the next one at once."""
    cut = Visit(0, Ending.RESET, Part(9), Part(9))
    whole = Visit(2, Ending.ORDER, Part(50), Part(40))
    cut.near = SimpleNamespace(sent=2, received=0)  # type: ignore[assignment]
    whole.near = SimpleNamespace(received=40, outcome="eof")  # type: ignore[assignment]
    whole.far = SimpleNamespace(received=50, outcome="eof")  # type: ignore[assignment]
    lines = [End("a:1", "1", 58, 40, "closed"), End("a:1", "0", 10, 7, "client: reset")]
    process: Any = None
    near = Book(process, lines, {"a:1": lines})
    cut.who = whole.who = "a:1"
    assert judge([cut, whole], near, Book(process, lines)) == []
    lines[0] = End("a:1", "1", 58, 39, "closed")
    assert len(judge([cut, whole], near, Book(process, lines))) == 1


def test_short_soak(tmp_path: Path, cable: Veth | None) -> None:
    run(tmp_path, cable, seconds=10, clients=8)


@pytest.mark.slow
@pytest.mark.timeout(SECONDS * 2 + 300)
def test_long_soak(tmp_path: Path, cable: Veth | None) -> None:
    run(tmp_path, cable, seconds=SECONDS, clients=24)
