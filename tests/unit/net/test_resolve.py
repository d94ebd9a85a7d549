"""Names to addresses: sharing, fairness, giving up."""

import asyncio
import socket
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from fastws.exceptions import DialTimeout, NoUpstream
from fastws.net import resolve as module
from fastws.net.resolve import AddrInfo, Resolver, parse_literal, resolve
from tests.support.names import answer
from tests.support.servers import both_loops, eventually, run_on
from tests.support.timing import LONG, SHORT, UNIT


class FakeNames:
    """A ``getaddrinfo`` in which names starting with ``slow`` wait for release."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.release = threading.Event()
        self.answers: dict[str, list[tuple[Any, ...]] | Exception] = {}

    def __call__(self, host: str, port: object, **_: object) -> list[tuple[Any, ...]]:
        self.calls.append(host)
        if host.startswith("slow"):
            self.release.wait(LONG)
        found = self.answers.get(host, answer("192.0.2.1"))
        if isinstance(found, Exception):
            raise found
        return found


@pytest.fixture
def names() -> Any:
    fake = FakeNames()
    yield fake
    fake.release.set()


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", AddrInfo(socket.AF_INET, ("127.0.0.1", 80))),
        ("::1", AddrInfo(socket.AF_INET6, ("::1", 80, 0, 0))),
        ("2001:DB8::0:1", AddrInfo(socket.AF_INET6, ("2001:db8::1", 80, 0, 0))),
        ("localhost", None),
        ("a.example", None),
        ("host1", None),
        ("", None),
        ("1.2.3.4.example", None),
        ("300.1.1.1", None),
        ("a:b", None),
    ],
)
def test_parse_literal(host: str, expected: AddrInfo | None) -> None:
    assert parse_literal(host, 80) == expected


@both_loops
def test_literal_needs_no_thread(loop_name: str, names: FakeNames) -> None:
    resolver = Resolver(getaddrinfo=names)
    got = run_on(loop_name, resolver.resolve("::1", 443, SHORT))
    assert got == [AddrInfo(socket.AF_INET6, ("::1", 443, 0, 0))]
    assert names.calls == []
    assert resolver._threads == 0


@both_loops
def test_answer_keeps_order_and_port(loop_name: str, names: FakeNames) -> None:
    names.answers["db"] = answer("2001:db8::2", "192.0.2.7", "2001:db8::2")
    got = run_on(loop_name, Resolver(getaddrinfo=names).resolve("db", 5432, SHORT))
    assert got == [
        AddrInfo(socket.AF_INET6, ("2001:db8::2", 5432, 0, 0)),
        AddrInfo(socket.AF_INET, ("192.0.2.7", 5432)),
    ]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (socket.gaierror(socket.EAI_NONAME, "x"), "db: unknown name"),
        (socket.gaierror(socket.EAI_AGAIN, "x"), "db: no name server answers"),
        (socket.gaierror(socket.EAI_MEMORY, "Out of it"), "db: Out of it"),
        (UnicodeError("label too long"), "db: not a valid host name"),
        (OSError(5, "broken"), "db: broken"),
    ],
    ids=["noname", "again", "other", "unicode", "oserror"],
)
def test_failure_in_words(names: FakeNames, error: Exception, text: str) -> None:
    names.answers["db"] = error
    with pytest.raises(NoUpstream) as caught:
        run_on("asyncio", Resolver(getaddrinfo=names).resolve("db", 1, SHORT))
    assert str(caught.value) == text


def test_name_without_address(names: FakeNames) -> None:
    names.answers["db"] = []
    with pytest.raises(NoUpstream, match=r"^db: the name has no address$"):
        run_on("asyncio", Resolver(getaddrinfo=names).resolve("db", 1, SHORT))


@both_loops
def test_malformed_name(loop_name: str) -> None:
    with pytest.raises(NoUpstream, match=r"not a valid host name|unknown name"):
        run_on(loop_name, resolve("a..b", 80))


@both_loops
def test_slow_name_times_out(loop_name: str, names: FakeNames) -> None:
    with pytest.raises(DialTimeout) as caught:
        run_on(loop_name, Resolver(getaddrinfo=names).resolve("slow", 1, 0.05))
    assert str(caught.value) == "slow: name not resolved within 0.05 s"


@both_loops
def test_slow_name_delays_nobody(loop_name: str, names: FakeNames) -> None:
    resolver = Resolver(threads=2, getaddrinfo=names)

    async def main() -> None:
        slow = [
            asyncio.create_task(resolver.resolve("slow", 1, LONG)) for _ in range(50)
        ]
        await eventually(lambda: names.calls == ["slow"])
        await resolver.resolve("quick", 1, SHORT)
        assert not any(task.done() for task in slow)
        names.release.set()
        await asyncio.gather(*slow)

    run_on(loop_name, main())
    assert names.calls == ["slow", "quick"]  # 50 waiters shared one lookup


def test_waiting_hosts_are_served_in_turn(names: FakeNames) -> None:
    resolver = Resolver(threads=1, getaddrinfo=names)

    async def main() -> None:
        first = asyncio.create_task(resolver.resolve("slow", 1, LONG))
        await eventually(lambda: names.calls == ["slow"])
        rest = [
            asyncio.create_task(resolver.resolve(host, 1, LONG))
            for host in ("a", "a", "a", "b", "c", "a")
        ]
        await asyncio.sleep(0)
        names.release.set()
        await asyncio.gather(first, *rest)

    run_on("asyncio", main())
    assert names.calls == ["slow", "a", "b", "c"]


def test_stuck_host_holds_few_threads(
    names: FakeNames, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_STUCK_AFTER", 0.0)
    resolver = Resolver(threads=32, per_host=4, getaddrinfo=names)

    async def main() -> None:
        tasks = []
        for count in (1, 2, 3, 4, 4, 4):
            tasks.append(asyncio.create_task(resolver.resolve("slow", 1, LONG)))
            await asyncio.sleep(0)
            await eventually(lambda count=count: len(names.calls) == count)
        names.release.set()
        await asyncio.gather(*tasks)

    run_on("asyncio", main())
    assert names.calls == ["slow"] * 4


@both_loops
def test_abandoned_lookups_make_room(loop_name: str, names: FakeNames) -> None:
    resolver = Resolver(threads=2, getaddrinfo=names)

    async def main() -> None:
        tasks = [
            asyncio.create_task(resolver.resolve(host, 1, 10 * UNIT))
            for host in ("slow1", "slow2")
        ]
        await eventually(lambda: len(names.calls) == 2)
        waiting = asyncio.create_task(resolver.resolve("quick", 1, SHORT))
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(result) for result in results] == [DialTimeout] * 2
        assert await waiting == [AddrInfo(socket.AF_INET, ("192.0.2.1", 1))]
        assert not names.release.is_set()

    run_on(loop_name, main())
    assert sorted(names.calls) == ["quick", "slow1", "slow2"]


@both_loops
def test_abandoned_lookup_answers_who_comes_back(
    loop_name: str, names: FakeNames
) -> None:
    resolver = Resolver(getaddrinfo=names)

    async def main() -> None:
        with pytest.raises(DialTimeout):
            await resolver.resolve("slow", 1, UNIT)
        again = asyncio.create_task(resolver.resolve("slow", 2, SHORT))
        await asyncio.sleep(0)
        names.release.set()
        assert await again == [AddrInfo(socket.AF_INET, ("192.0.2.1", 2))]
        assert (resolver._abandoned, resolver._hosts) == (0, {})

    run_on(loop_name, main())


@both_loops
def test_cancelled_wait_leaves_nothing(loop_name: str, names: FakeNames) -> None:
    resolver = Resolver(idle=UNIT / 10, getaddrinfo=names)

    async def main() -> None:
        task = asyncio.create_task(resolver.resolve("slow", 1, LONG))
        await eventually(lambda: names.calls)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert resolver._abandoned == 1
        names.release.set()
        await eventually(lambda: resolver._threads == 0)  # idle ones end too
        assert (resolver._abandoned, resolver._hosts) == (0, {})

    run_on(loop_name, main())


def test_cancelled_wait_in_the_queue_is_never_looked_up(names: FakeNames) -> None:
    resolver = Resolver(threads=1, getaddrinfo=names)

    async def main() -> None:
        slow = asyncio.create_task(resolver.resolve("slow", 1, LONG))
        await eventually(lambda: names.calls)
        queued = asyncio.create_task(resolver.resolve("queued", 1, LONG))
        await asyncio.sleep(0)
        queued.cancel()
        await asyncio.gather(queued, return_exceptions=True)
        names.release.set()
        await slow
        await resolver.resolve("last", 1, SHORT)

    run_on("asyncio", main())
    assert names.calls == ["slow", "last"]


@both_loops
def test_localhost(loop_name: str) -> None:
    got = run_on(loop_name, resolve("localhost", 8080))
    assert got
    for info in got:
        assert info.sockaddr[0] in ("127.0.0.1", "::1")
        assert info.sockaddr[1] == 8080


def test_stuck_lookup_does_not_delay_exit() -> None:
    script = """
import asyncio, time
from fastws.exceptions import DialTimeout
from fastws.net.resolve import Resolver
stuck = Resolver(getaddrinfo=lambda *a, **k: time.sleep(3600))
try:
    asyncio.run(stuck.resolve("slow", 1, 0.01))
except DialTimeout as error:
    print(error)
"""
    started = time.monotonic()
    out = subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        capture_output=True,
        text=True,
        timeout=LONG,
    )
    assert time.monotonic() - started < LONG
    assert out.stdout == "slow: name not resolved within 0.01 s\n"
    assert out.stderr == ""
