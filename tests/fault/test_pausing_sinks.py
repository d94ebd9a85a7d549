"""A sink that pauses: no relay stands still, and what waits for it stays bounded."""

import asyncio

from fastws.net.copy import scratch_of
from tests.support.copying import noise, relay, send_all
from tests.support.ends import STW, TLS, WTS, Spec, every_end
from tests.support.peers import PING, PONG
from tests.support.servers import eventually, run_on
from tests.support.timing import UNIT

TLS_ENDS = (TLS, Spec(TLS.kind, WTS.side), Spec(TLS.kind, STW.side))


@every_end(*TLS_ENDS)
def test_tls_sink_that_pauses_goes_on(loop_name: str, spec: Spec) -> None:
    """With a write limit of 0 TLS pauses on an empty buffer and never resumes."""

    async def main() -> None:
        data = noise(3_000_000)
        async with relay(spec, buffers=1 << 18) as r:
            for source, sink in ((r.y, r.x), (r.x, r.y)) * 2:
                pieces = [data[i : i + 50_000] for i in range(0, len(data), 50_000)]
                sending = asyncio.create_task(send_all(source, pieces))
                got = b""
                for _ in range(10):
                    await asyncio.sleep(UNIT / 10)
                    got += await sink.read(300_000)
                assert got == data
                await sending

    run_on(loop_name, main())


@every_end(*TLS_ENDS)
def test_tls_relay_of_small_pieces_never_stands_still(
    loop_name: str, spec: Spec
) -> None:
    async def main() -> None:
        async with relay(spec) as r:
            for size in range(1, 200):
                await r.y.send(bytes(size))
                assert await r.x.read(size) == bytes(size)
                await r.x.send(bytes(size))
                assert await r.y.read(size) == bytes(size)

    run_on(loop_name, main())


@every_end(WTS, Spec(TLS.kind, WTS.side))
def test_many_pongs_to_a_paused_sink_stay_bounded(loop_name: str, spec: Spec) -> None:
    """The peer sends 20 000 pings of 125 bytes and reads nothing."""

    async def main() -> None:
        async with relay(spec, buffers=1 << 18) as r:
            flood = b"".join(r.x.encode(PING, bytes(125)) for _ in range(500))
            for _ in range(40):
                await r.x.send_raw(flood)
            await r.x.send_frame(PING, b"newest")
            await r.x.send(b"done")
            assert await r.y.read(4) == b"done"
            await eventually(lambda: r.copy.a.is_reading)
            held = r.copy.a.transport.get_write_buffer_size()
            assert held <= 1 << 16
            assert scratch_of(r.copy.loop).lent == 0
            frame = await r.x.read_frame()
            while frame.payload != b"newest":
                assert frame == (True, PONG, bytes(125))
                frame = await r.x.read_frame()
            assert frame.opcode == PONG

    run_on(loop_name, main())
