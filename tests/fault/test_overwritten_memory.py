"""What a transport has not sent yet must not be overwritten by the next read.

uvloop keeps a reference to what it could not send; asyncio copies before 3.12. Each
relay here is slow in turn while all others read into the same memory, and every byte is
compared.
"""

import asyncio
from dataclasses import replace

from fastws.net.copy import scratch_of
from fastws.net.stream import Kind
from tests.support.copying import QUICK, noise, relay, stalled
from tests.support.ends import STW, TCP, TLS, UNIX, WTS, Spec
from tests.support.peers import BINARY
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


@both_loops
def test_memory_given_back_while_a_sink_stalls_holds_nothing_unsent(
    loop_name: str,
) -> None:
    """Headers of frames lie between what is unsent: more memory than bytes."""

    async def one(size: int) -> None:
        data = noise(2_000_000, size)
        pieces = [data[start : start + size] for start in range(0, len(data), size)]
        async with relay(WTS, options=QUICK, buffers=1 << 18) as r:
            frames = b"".join(r.x.encode(BINARY, piece) for piece in pieces)
            sending = asyncio.create_task(r.x.send_raw(frames))
            await stalled(r.copy)
            for _ in range(2):  # as the sweep does once a second
                scratch_of(asyncio.get_running_loop()).trim()
            assert await r.y.read(len(data)) == data, f"frames of {size} bytes"
            await sending

    async def main() -> None:
        for size in (200, 4096, 4100, 4999, 6007):
            await one(size)

    run_on(loop_name, main())
