"""A reset is seen as a reset, on every loop and over TLS too.

Half of these were lost by one transport or another at some time: a connection that is
never reported lost is a leak, one that is reported as EOF is a truncated file that
nobody notices.
"""

import asyncio
import contextlib

import pytest

from fastws.net.stream import Kind
from tests.support.copying import LINGER, relay
from tests.support.ends import STW, TCP, TLS, WTS, Spec, every_end, every_spec
from tests.support.servers import eventually, run_on
from tests.support.timing import SHORT

CLIENTS = 200
DATA = b"eighteen bytes now"


@every_end(TCP, TLS, WTS)
def test_reset_that_arrives_together_with_data(loop_name: str, spec: Spec) -> None:
    """200 clients send 18 bytes and reset: every connection is reported lost."""

    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            relays = []
            for _ in range(CLIENTS):
                relays.append(await stack.enter_async_context(relay(spec)))
                await relays[-1].x.send(DATA)
                assert await relays[-1].y.read(18) == DATA
            for each in relays:
                await each.x.send(DATA)
                each.x.wire.reset()
            reasons = [(await each.result()).reason for each in relays]
            assert len(reasons) == CLIENTS
            assert all(reason.startswith("a: ") for reason in reasons)
            for each in relays:
                data, how = await each.y.read_end()
                assert (DATA.startswith(data), how) == (True, "reset")

    run_on(loop_name, main())


@pytest.mark.parametrize("paused", [False, True], ids=["reading", "paused"])
@every_end(*(s for s in every_spec() if s.kind is not Kind.UNIX))
def test_reset_is_seen_as_a_reset(loop_name: str, spec: Spec, paused: bool) -> None:
    """ECONNRESET at the far end, after the bytes received before it."""

    async def main() -> None:
        async with relay(spec) as r:
            await r.x.send(DATA)
            if paused:
                assert await r.y.read(18) == DATA
                r.copy.a.pause()  # as if its sink were full
                await asyncio.sleep(LINGER / 4)
            r.x.wire.reset()
            data, how = await r.y.read_end(SHORT)
            assert (DATA.startswith(data), how) == (True, "reset")
            assert (await r.result()).is_clean is False

    run_on(loop_name, main())


@every_end(STW, WTS)
def test_reset_of_a_stranger_after_its_close_is_no_reset(
    loop_name: str, spec: Spec
) -> None:
    """Its Close 1000 said it all: browsers of a dying process do this."""

    async def main() -> None:
        async with relay(spec) as r:
            await r.x.send(DATA)
            await r.x.send_close(1000)
            assert await r.y.read_end() == (DATA, "eof")
            r.x.wire.reset()
            await r.y.finish()
            assert await r.result() == (18, 0, "closed", True)

    run_on(loop_name, main())


@every_end(WTS)
def test_reset_after_a_close_and_the_end_of_tcp_is_no_reset(
    loop_name: str, spec: Spec
) -> None:
    """The same when nobody reads from it any more, and the sweep finds it."""

    async def main() -> None:
        async with relay(spec) as r:
            await r.x.send(DATA)
            await r.x.send_close(1000)
            assert await r.y.read_end() == (DATA, "eof")
            await r.x.wire.finish()
            await eventually(lambda: r.copy.a.is_deaf)
            r.x.wire.reset()
            await eventually(lambda: r.copy.a.lost)
            await r.y.finish()
            assert await r.result() == (18, 0, "closed", True)

    run_on(loop_name, main())
