"""What tasks wait for once: order, cancelling, and that nothing stays."""

import asyncio

import pytest

from fastws.ws.flag import Flag
from tests.support.servers import both_loops, run_on


@both_loops
def test_all_who_wait_go_on(loop_name: str) -> None:
    async def main() -> None:
        flag = Flag()
        tasks = [asyncio.create_task(flag.wait()) for _ in range(3)]
        await asyncio.sleep(0)
        assert not flag.is_set()
        assert not any(task.done() for task in tasks)
        flag.set()
        flag.set()
        await asyncio.gather(*tasks)
        assert flag.is_set()
        await flag.wait()

    run_on(loop_name, main())


@both_loops
def test_one_who_is_cancelled_leaves_the_others_waiting(loop_name: str) -> None:
    async def main() -> None:
        flag = Flag()
        first, second = (asyncio.create_task(flag.wait()) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert len(flag._waiters or ()) == 1
        second.cancel()
        flag.set()  # in the same turn: it stays cancelled
        with pytest.raises(asyncio.CancelledError):
            await second
        assert flag._waiters is None

    run_on(loop_name, main())
