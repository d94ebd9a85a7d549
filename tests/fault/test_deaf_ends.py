"""An end that nobody polls dies unheard; the sweep notices within two seconds."""

import asyncio

from fastws.net.ends import CopyOptions
from tests.support.copying import give_up, noise, relay, send_all
from tests.support.ends import STW, TCP, TLS, WTS, WTS_FASTWS, Spec, at_once, every_end
from tests.support.peers import BINARY, CLOSE
from tests.support.servers import eventually, run_on
from tests.support.timing import SHORT

DEFAULTS = CopyOptions()
SOON = max(2.0, SHORT)


@every_end(TCP)
def test_rst_after_fin_is_noticed(loop_name: str, spec: Spec) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with relay(spec, options=DEFAULTS) as r:
            await r.x.finish()
            assert await r.y.read_end() == (b"", "eof")
            start = loop.time()
            r.x.wire.reset()
            await eventually(r.y.wire.was_reset, SOON)
            assert loop.time() - start < SOON
            assert (await r.result()).is_clean is False

    run_on(loop_name, main())


@at_once(TCP, TLS, STW, WTS, WTS_FASTWS)
async def test_rst_while_paused_is_noticed(spec: Spec) -> None:
    """x pushes until y, which does not read, has made the copy pause; then resets."""
    loop = asyncio.get_running_loop()
    async with relay(spec, options=DEFAULTS, buffers=1 << 20) as r:
        sending = asyncio.create_task(send_all(r.x, [noise(60000)] * 200))
        await eventually(lambda: not r.copy.a.is_reading)
        await give_up(sending)
        start = loop.time()
        r.x.wire.reset()
        await eventually(lambda: r.copy.reason, SOON)
        assert loop.time() - start < SOON
        data, how = await r.y.read_end()
        assert how == "reset"
        assert len(data) > 0


@at_once(WTS, STW)
async def test_close_before_the_reset_is_heard_while_paused(spec: Spec) -> None:
    """Linux hands out what came before an RST: the Close in it decides."""

    async def one(rest: int) -> None:
        async with relay(spec, options=DEFAULTS) as r:
            data = noise(rest)
            await r.x.send(b"x")
            assert await r.y.read(1) == b"x"
            r.copy.a.pause()
            last = r.x.encode(BINARY, data) + r.x.encode(CLOSE, b"\x03\xe8")
            await r.x.send_raw(last)
            r.x.wire.reset()
            assert await r.y.read(rest) == data
            assert await r.y.read_end() == (b"", "eof")
            await r.y.finish()
            assert await r.result() == (rest + 1, 0, "closed", True)

    await asyncio.gather(one(1000), one(100_000))


@at_once(TCP, WTS_FASTWS)
async def test_orderly_end_with_unread_bytes_loses_none(spec: Spec) -> None:
    """Both directions are shut (POLLHUP) while the copy is paused on a slow sink."""
    data = noise(3_000_000)
    async with relay(spec, options=DEFAULTS, buffers=262144) as r:
        await r.y.finish()
        assert await r.x.read_end() == (b"", "eof")

        async def talk() -> None:
            await send_all(r.x, [data[i : i + 60000] for i in range(0, 3000000, 60000)])
            await r.x.finish()

        talking = asyncio.create_task(talk())
        await eventually(lambda: not r.copy.a.is_reading)
        got = await r.y.read(2_500_000)
        await asyncio.sleep(1.5)
        rest, how = await r.y.read_end()
        assert (got + rest == data, how) == (True, "eof")
        await talking
        if spec.is_ws:
            await r.x.leave()
        assert (await r.result()).is_clean
