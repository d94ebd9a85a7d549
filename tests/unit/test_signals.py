"""What signals ask for, however often they do."""

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from fastws import signals as module
from fastws.signals import Signals, WorkerSignals
from fastws.workers import RELOAD
from tests.support.timing import LONG, UNIT

pytestmark = pytest.mark.skipif(
    not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP"
)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """What this process does about signals, as it was."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def test_storm_of_hang_ups_reloads_at_once_and_once_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_RELOAD_REST", 10 * UNIT)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        reloads: list[float] = []
        again = asyncio.Event()

        def reload() -> None:
            reloads.append(loop.time())
            if len(reloads) == 2:
                again.set()

        signals = Signals(None, reload)
        for _ in range(1000):
            signals._hang_up(signal.SIGHUP, None)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(reloads) == 1
        await asyncio.wait_for(again.wait(), LONG)
        assert reloads[1] - reloads[0] >= 9 * UNIT
        assert not signals._is_reload_due
        assert not signals.first.is_set()

    asyncio.run(main())


def test_worker_that_is_told_in_a_storm_reloads_once_for_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_RELOAD_REST", 3600.0)

    async def main() -> None:
        reloads: list[int] = []
        orders, parent = os.pipe()
        signals = WorkerSignals(orders, lambda: reloads.append(1))
        os.write(parent, RELOAD * 6400)
        for _ in range(100):
            signals._obey()
        asyncio.get_running_loop().remove_reader(orders)
        os.close(orders)
        os.close(parent)
        assert len(reloads) == 1
        assert signals._is_reload_due

    asyncio.run(main())
