"""A path on which nothing passes any more: no FIN, no RST, only silence.

The far ends live in a network namespace of their own, joined by a veth pair; its far
end is set down. Needs root and Linux.
"""

import asyncio

import pytest

from fastws.net.ends import CopyOptions
from fastws.net.stream import Kind
from tests.support.copying import noise, relay, send_all
from tests.support.ends import STW, TCP, WTS, WTS_FASTWS, Spec
from tests.support.servers import LOOPS, both_loops, eventually
from tests.support.veth import Veth

WITHIN = 60.0  # seconds, with default options
KINDS = [TCP, WTS, WTS_FASTWS, STW, Spec(Kind.TLS), Spec(Kind.TLS, WTS.side)]


async def vanish(cable: Veth, spec: Spec, stalled: bool, pulled: asyncio.Event) -> str:
    """Upload into the cable; when it is pulled, say how the copy ended."""
    loop = asyncio.get_running_loop()
    options = CopyOptions()
    async with relay(spec, options=options, buffers=1 << 18, pair=cable.pair()) as r:
        r.x.answers_pings = False
        pieces = [noise(50_000)] * (40 if stalled else 100_000)
        sending = asyncio.create_task(send_all(r.y, pieces))

        async def read() -> None:
            while True:
                await r.x.read(100_000)

        reading = None if stalled else asyncio.create_task(read())
        if stalled:
            await eventually(lambda: not r.copy.b.is_reading)
        else:
            await eventually(lambda: r.copy.b.payload_in > 1_000_000)
        pulled.set()
        await pulled.wait()
        start = loop.time()
        reason = (await r.result(2 * WITHIN)).reason
        took = loop.time() - start
        for task in (sending, reading):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
    assert took < WITHIN, f"{spec}: {took:.0f} s, {reason}"
    return reason


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("stalled", [False, True], ids=["upload", "stall"])
@both_loops
def test_black_hole_ends_in_a_reset(loop_name: str, stalled: bool, cable: Veth) -> None:
    async def main() -> None:
        ready = [asyncio.Event() for _ in KINDS]
        tasks = [
            asyncio.create_task(vanish(cable, kind, stalled, event))
            for kind, event in zip(KINDS, ready, strict=True)
        ]
        await asyncio.gather(*(event.wait() for event in ready))
        cable.pull()
        reasons = await asyncio.gather(*tasks)
        assert set(reasons) <= {"a: dead path", "a: ping timeout"}

    with asyncio.Runner(loop_factory=LOOPS[loop_name]) as runner:
        runner.run(main())
