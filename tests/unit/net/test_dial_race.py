"""Names with several addresses (RFC 8305)."""

import asyncio
import socket
import sys

import pytest

from fastws.exceptions import DialTimeout, NoUpstream
from fastws.net import dial as module
from fastws.net.dial import Dialer
from fastws.net.resolve import AddrInfo
from fastws.net.stream import Kind
from tests.support.servers import (
    black_hole,
    both_loops,
    closing,
    echo,
    failure,
    free_port,
    run_on,
    silent,
    tcp_server,
)
from tests.support.timing import LONG, SHORT, UNIT

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="full backlog")


def addresses(monkeypatch: pytest.MonkeyPatch, *ports: int, delay: float) -> Dialer:
    """A dialer whose name has one loopback address for each port."""

    async def resolved(host: str, port: int, *, timeout: float) -> list[AddrInfo]:
        return [AddrInfo(socket.AF_INET, ("127.0.0.1", port)) for port in ports]

    monkeypatch.setattr(module, "resolve", resolved)
    monkeypatch.setattr(module, "ATTEMPT_DELAY", delay)
    return Dialer(("many.example", 80))


@both_loops
def test_race_goes_on_at_once_when_refused(
    loop_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with tcp_server(echo) as port:
            dialer = addresses(
                monkeypatch, free_port(), free_port(), port, delay=10 * LONG
            )
            stream = await dialer.dial()
            assert stream.kind is Kind.TCP
            assert not stream.transport.is_reading()
            assert stream.transport.get_extra_info("peername")[1] == port
            stream.transport.abort()

    run_on(loop_name, main())


@linux_only
@both_loops
def test_race_overtakes_an_address_that_is_silent(
    loop_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent_port, socks = black_hole()

    async def main() -> None:
        async with tcp_server(echo) as port:
            dialer = addresses(monkeypatch, silent_port, port, delay=UNIT / 10)
            stream = await dialer.dial()
            assert stream.transport.get_extra_info("peername")[1] == port
            stream.transport.abort()

    with closing(*socks):
        run_on(loop_name, main())


@both_loops
def test_race_takes_the_first_that_answers(
    loop_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(1)
        await silent(reader, writer)

    async def main() -> None:
        async with tcp_server(echo) as first, tcp_server(count) as second:
            dialer = addresses(monkeypatch, first, second, delay=SHORT)
            stream = await dialer.dial()
            assert stream.transport.get_extra_info("peername")[1] == first
            stream.transport.abort()

    run_on(loop_name, main())
    assert asked == []


@both_loops
def test_race_without_winner_tells_of_the_first(
    loop_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialer = addresses(monkeypatch, free_port(), free_port(), delay=UNIT)
    error = run_on(loop_name, failure(dialer))
    assert isinstance(error, NoUpstream)
    assert str(error) == "many.example:80: connection refused"


@linux_only
@both_loops
def test_race_timeout_closes_every_attempt(
    loop_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, socks = black_hole()
    dialer = addresses(monkeypatch, port, port, port, delay=UNIT / 100)
    dialer.connect_timeout = UNIT
    with closing(*socks):
        error = run_on(loop_name, failure(dialer))
    assert isinstance(error, DialTimeout)


def test_interleave_alternates_families() -> None:
    six = [AddrInfo(socket.AF_INET6, (f"2001:db8::{i}", 1, 0, 0)) for i in range(3)]
    four = [AddrInfo(socket.AF_INET, (f"192.0.2.{i}", 1)) for i in range(2)]
    assert module._interleave([*six, *four]) == [
        *(six[0], four[0], six[1], four[1], six[2])
    ]
    assert module._interleave([*four, *six])[:2] == [four[0], six[0]]
