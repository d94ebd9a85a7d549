"""What a transport has not sent yet must not be overwritten by the next read.

uvloop keeps a reference to what it could not send; asyncio copies before 3.12. Each
relay here is slow in turn while all others read into the same memory, and every byte is
compared.
"""

import asyncio
from dataclasses import replace

from fastws.net.copy import scratch_of
from fastws.net.stream import Kind
from tests.support.copying import QUICK, noise, relay
from tests.support.ends import STW, TCP, TLS, UNIX, WTS, Spec
from tests.support.servers import both_loops, run_on
from tests.support.timing import UNIT

SIZE = 2_500_000
KINDS = [TCP, UNIX, TLS, WTS, STW, Spec(Kind.TLS, WTS.side), Spec(Kind.TLS, STW.side)]


async def exchange(spec: Spec, seed: int) -> None:
    """Both directions at once, the readers slow in bursts."""
    up, down = noise(SIZE, seed), noise(SIZE, seed + 100)

    async def send(peer, data: bytes) -> None:  # type: ignore[no-untyped-def]
        for start in range(0, SIZE, 60_000):
            await peer.send(data[start : start + 60_000])

    async def check(peer, data: bytes) -> None:  # type: ignore[no-untyped-def]
        step = 150_000
        for start in range(0, SIZE, step):
            await asyncio.sleep(UNIT / 20)
            piece = data[start : start + step]
            assert await peer.read(len(piece)) == piece, f"{spec} after {start} bytes"

    async with relay(spec, options=QUICK, buffers=1 << 18) as r:
        await asyncio.gather(
            send(r.x, up), send(r.y, down), check(r.x, down), check(r.y, up)
        )


@both_loops
def test_slow_sinks_get_every_byte_unchanged(loop_name: str) -> None:
    kinds = KINDS
    if loop_name == "asyncio":
        kinds = KINDS + [replace(k, stock=True) for k in KINDS if k.kind is Kind.TLS]

    async def main() -> None:
        tasks = [exchange(kind, number) for number, kind in enumerate(kinds)]
        await asyncio.gather(*tasks)
        assert scratch_of(asyncio.get_running_loop()).lent == 0

    run_on(loop_name, main())
