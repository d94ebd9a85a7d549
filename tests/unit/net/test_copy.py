"""What every pair of ends has to do, whatever they are made of.

``x`` is the peer of the end under test, ``y`` a TCP peer at the other side.
"""

import asyncio

from fastws.net.stream import Kind
from tests.support.ends import Spec, every_end
from tests.support.copying import Relay, noise, odd_pieces, relay, send_all
from tests.support.servers import run_on


@every_end()
def test_bytes_pass_both_ways_unchanged(loop_name: str, spec: Spec) -> None:
    async def main() -> None:
        up, down = noise(300_001, 1), noise(400_003, 2)
        async with relay(spec) as r:
            got = await asyncio.gather(
                r.y.read(len(up)),
                r.x.read(len(down)),
                send_all(r.x, odd_pieces(up, 3)),
                send_all(r.y, odd_pieces(down, 4)),
            )
            assert got[:2] == [up, down]
            await r.x.finish()
            assert await r.y.read_end() == (b"", "eof")
            await r.y.finish()
            await end_in_order(r, spec)
            assert await r.result() == (len(up), len(down), "closed", True)

    run_on(loop_name, main())


async def end_in_order(r: Relay, spec: Spec) -> None:
    """x has finished and y too: x sees its end and leaves."""
    if spec.is_stranger:
        frame = await r.x.next_frame()
        assert (frame.opcode, frame.code) == (8, 1000)
    else:
        assert await r.x.read_end() == (b"", "eof")
    await r.x.leave()


@every_end()
def test_other_direction_goes_on_after_eof_of_the_peer(
    loop_name: str, spec: Spec
) -> None:
    async def main() -> None:
        late = noise(100_000)
        async with relay(spec) as r:
            await r.y.send(b"question")
            await r.y.finish()
            assert await r.x.read(8) == b"question"
            if not spec.is_stranger and spec.kind is not Kind.TLS or spec.half_closes:
                assert await r.x.read_end() == (b"", "eof")
            await r.x.send(late)
            assert await r.y.read(len(late)) == late
            await r.x.finish()
            assert await r.y.read_end() == (b"", "eof")
            if spec.half_closes:
                await r.x.leave()
            else:
                await end_in_order(r, spec)
            assert await r.result() == (len(late), 8, "closed", True)

    run_on(loop_name, main())
