"""The runner of ``fastws proxy-server``, inside a program."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from fastws import ProxyServer, app
from fastws.http.auth import BareAuth
from fastws.modes.proxy_server import ProxyServerRunner
from tests.support.pool_client import pooled
from tests.support.servers import both_loops, eventually, run_on
from tests.support.services import Service, echo


def spec(**given: Any) -> ProxyServer:
    defaults = {
        "listen": "127.0.0.1:0",
        "auth_token": ("tok",),
        "allow": ("127.0.0.1",),
    }
    return ProxyServer(**defaults | given)


async def served(
    talk: Callable[[int], Any], prepare: Callable[[Any], object] = id, **given: Any
) -> tuple[Any, Any]:
    """What ``talk(port)`` returns, and the runner afterwards."""
    async with app.start(spec(**given)) as (runner,):
        prepare(runner)
        port = int(runner.endpoints[0].rpartition(":")[2])
        result = await asyncio.to_thread(talk, port)
        await eventually(lambda: not runner.sockets and not runner.listener.active)
        return result, runner


@both_loops
def test_streams_are_counted(loop_name: str) -> None:
    with Service(echo) as service:

        def talk(port: int) -> list[bytes]:
            with pooled(port) as client:
                return [client.ask(service.port, b"hello") for _ in range(3)]

        result, runner = run_on(loop_name, served(talk))
    assert result == [b"hello"] * 3
    assert (runner.stats.total, runner.stats.open, runner.stats.refused) == (3, 0, 0)
    assert (runner.stats.bytes_in, runner.stats.bytes_out) == (15, 15)
    assert (runner.streams, runner.admitted) == (0, 0)


@both_loops
def test_streams_in_all_are_limited(loop_name: str) -> None:
    """One that has parted from its WebSocket is one until its target has ended."""

    def talk(port: int) -> int:
        with pooled(port) as client:
            return client.dialled("127.0.0.1", 9)

    def leave_one(runner: Any) -> None:
        runner.streams = 2

    result, runner = run_on(loop_name, served(talk, leave_one, max_connections=2))
    assert result == 1
    assert runner.stats.refused == 1


def test_what_it_leads_to_stands_in_the_start_line() -> None:
    assert ProxyServerRunner(spec(allow=())).describe() == "all public addresses"
    runner = ProxyServerRunner(spec(deny=(":25",)))
    assert runner.describe() == "--allow 127.0.0.1, --deny :25"


@pytest.mark.parametrize(("attempts", "has_limit"), [(0, False), (5, True)])
def test_a_new_token_keeps_the_count_of_wrong_ones(
    attempts: int, has_limit: bool
) -> None:
    runner = ProxyServerRunner(spec(auth_attempts=attempts))
    runner.listener_options()
    assert runner.gate is not None
    first = runner.gate.auth
    assert isinstance(first, BareAuth)
    runner.adopt(spec(auth_token=("next",), auth_attempts=attempts))
    second = runner.gate.auth
    assert isinstance(second, BareAuth)
    assert second is not first
    assert (runner.attempts is not None) is has_limit
    assert second._attempts is runner.attempts is first._attempts
