"""Raw ends: what TLS cannot say, what a lost stream leaves, how writes are limited.

``x`` is the peer of the end under test, ``y`` a TCP peer.
"""

import asyncio
import errno
import socket
from asyncio import selector_events
from dataclasses import replace
from typing import Any

import pytest

from fastws.net.copy import copy_bidirectional
from fastws.net.ends import CopyOptions, describe_loss
from tests.support.copying import LINGER, QUICK, give_up, noise, relay, send_all
from tests.support.ends import (
    TCP,
    TLS,
    UNIT_KINDS,
    WTS,
    Spec,
    at_once,
    every_end,
    open_end,
)
from tests.support.servers import both_loops, eventually, run_on
from tests.support.timing import UNIT


@every_end(TLS)
def test_close_notify_ends_both_directions(loop_name: str, spec: Spec) -> None:
    async def main() -> None:
        async with relay(spec) as r:
            await r.x.send(b"before")
            await r.x.finish()
            assert await r.y.read_end() == (b"before", "eof")
            await r.y.send(b"nobody hears it")
            await eventually(r.y.wire.was_reset)
            result = await r.result()
            assert result[2:] == ("a: data after the TLS end closed", False)

    run_on(loop_name, main())


@at_once(TLS)
async def test_other_end_has_linger_to_end_after_close_notify(spec: Spec) -> None:
    loop = asyncio.get_running_loop()
    async with relay(spec) as r:
        start = loop.time()
        await r.x.finish()
        assert await r.y.read_end() == (b"", "eof")
        await eventually(r.y.wire.was_reset)
        assert LINGER <= loop.time() - start < 3 * LINGER
        reason = "a: no end after the TLS end closed"
        assert await r.result() == (0, 0, reason, False)


@at_once(TLS)
async def test_eof_towards_tls_waits_until_its_peer_is_quiet(spec: Spec) -> None:
    loop = asyncio.get_running_loop()
    async with relay(spec) as r:
        await asyncio.sleep(LINGER * 1.5)  # being idle before does not count
        await r.y.send(b"question")
        await r.y.finish()
        assert await r.x.read(8) == b"question"
        for _ in range(6):
            await asyncio.sleep(LINGER / 4)
            start = loop.time()
            await r.x.send(b"answer")
            assert await r.y.read(6) == b"answer"
        assert await r.x.read_end() == (b"", "eof")
        assert LINGER * 0.7 <= loop.time() - start < 3 * LINGER
        await r.x.finish()
        assert await r.y.read_end() == (b"", "eof")
        assert await r.result() == (36, 8, "closed", True)


@every_end(TLS)
def test_tls_cut_is_a_reset_where_the_transport_tells(
    loop_name: str, spec: Spec
) -> None:
    async def main() -> None:
        async with relay(spec) as r:
            await r.x.send(b"half of it")
            assert await r.y.read(10) == b"half of it"
            r.x.wire.sock.shutdown(socket.SHUT_WR)  # without close_notify
            how = "eof" if spec.stock else "reset"
            assert await r.y.read_end() == (b"", how)
            await r.y.finish() if spec.stock else None
            assert (await r.result()).is_clean is spec.stock

    run_on(loop_name, main())


@at_once(TLS)
async def test_tls_reader_that_is_slow_gets_all_bytes(spec: Spec) -> None:
    """The other end has closed long ago; only then does x begin to read."""
    data = noise(3_000_000)
    options = replace(QUICK, linger=2 * UNIT)
    async with relay(spec, options=options, buffers=262144) as r:
        sending = asyncio.create_task(send_all(r.y, [data]))
        await eventually(lambda: not r.copy.b.is_reading)
        got = await r.x.read(len(data) // 2)
        await asyncio.sleep(options.linger * 3)
        got += await r.x.read(len(data) // 2 - 20_000)
        await sending
        await r.y.finish()
        await asyncio.sleep(options.linger * 3)
        rest, how = await r.x.read_end()
        assert (got + rest == data, how) == (True, "eof")


@at_once(TLS, Spec(TLS.kind, WTS.side))
async def test_slow_sink_of_a_tls_source_is_waited_for(spec: Spec) -> None:
    """x says all it has and ends; y reads after more than linger."""
    data = noise(2_000_000)
    options = replace(QUICK, linger=2 * UNIT)
    async with relay(spec, options=options, buffers=262144) as r:

        async def talk() -> None:
            await send_all(r.x, [data[i : i + 50000] for i in range(0, 2000000, 50000)])
            await r.x.finish()

        talking = asyncio.create_task(talk())
        await eventually(lambda: not r.copy.a.is_reading)
        got = await r.y.read(1_500_000)
        await asyncio.sleep(options.linger * 3)
        rest, how = await r.y.read_end()
        assert (got + rest == data, how) == (True, "eof")
        await talking


@every_end(*UNIT_KINDS)
def test_write_limits_show_what_is_unsent(loop_name: str, spec: Spec) -> None:
    async def main() -> None:
        async with relay(spec) as r:
            limits = r.copy.a.transport.get_write_buffer_limits()
            assert limits == ((0, 1) if spec.kind is TLS.kind else (0, 0))

    run_on(loop_name, main())


def test_stock_loop_gets_one_write_a_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """CPython 3.12.0 to 3.12.8 and 3.13.0 never pause after writelines."""

    def refuse(*_: object) -> None:
        raise AssertionError("writelines")

    transport = selector_events._SelectorSocketTransport
    monkeypatch.setattr(transport, "writelines", refuse)

    async def main() -> None:
        async with relay(WTS) as r:
            await r.y.send(bytes(200_000))
            assert await r.x.read(200_000) == bytes(200_000)
            await r.x.send_raw(r.x.encode(2, bytes(9000)) * 8)
            assert await r.y.read(72_000) == bytes(72_000)

    run_on("asyncio", main())


@pytest.mark.parametrize("lost_first", ["a", "b"])
@every_end(TCP, WTS)
def test_stream_lost_before_the_copy_resets_the_other(
    loop_name: str, spec: Spec, lost_first: str
) -> None:
    async def main() -> None:
        a, x = await open_end(spec, linger=LINGER)
        b, y = await open_end(TCP, linger=LINGER)
        lost, gone, other = (a, x, y) if lost_first == "a" else (b, y, x)
        gone.wire.reset()
        lost.transport.resume_reading()
        await eventually(lambda: lost.hold.lost)
        a.unread(b"" if spec is TCP else b"\x89\x80\0\0\0\0")
        b.unread(b"data")
        task = asyncio.create_task(copy_bidirectional(a, b, QUICK))
        _, how = await other.read_end()
        assert how == "reset"
        other.wire.close()
        result = await asyncio.wait_for(task, 10 * LINGER)
        how = "lost without a Close" if gone is x and spec.is_ws else "reset"
        assert (result.reason, result.is_clean) == (f"{lost_first}: {how}", False)

    run_on(loop_name, main())


@every_end(TCP, TLS, WTS)
def test_eof_before_the_copy_is_passed_on(loop_name: str, spec: Spec) -> None:
    async def main() -> None:
        a, x = await open_end(spec, linger=LINGER)
        b, y = await open_end(TCP, linger=LINGER)
        if spec.is_ws:
            await x.wire.finish()
        else:
            await x.finish()
        a.transport.resume_reading()
        await eventually(lambda: a.hold.eof or a.hold.lost)
        task = asyncio.create_task(copy_bidirectional(a, b, QUICK))
        _, how = await y.read_end()
        assert how == ("reset" if spec.is_ws else "eof")
        if not spec.is_ws:
            await y.finish()
        result = await asyncio.wait_for(task, 10 * LINGER)
        assert result.is_clean is not spec.is_ws
        x.wire.close()
        y.wire.close()

    run_on(loop_name, main())


@both_loops
def test_eof_for_a_peer_that_has_reset(loop_name: str) -> None:
    """asyncio's transports raise then, in the midst of whatever said the EOF."""

    async def main() -> None:
        a, x = await open_end(TCP, linger=LINGER)
        b, y = await open_end(TCP, linger=LINGER)
        await x.finish()
        a.transport.resume_reading()
        await eventually(lambda: a.hold.eof)
        y.wire.reset()
        result = await asyncio.wait_for(copy_bidirectional(a, b, QUICK), 10 * LINGER)
        assert (result.reason, result.is_clean) == ("b: reset", False)
        assert await x.read_end() == (b"", "reset")
        x.wire.close()

    run_on(loop_name, main())


@every_end(*UNIT_KINDS)
def test_cancelled_copy_resets_both(loop_name: str, spec: Spec) -> None:
    async def main() -> None:
        async with relay(spec) as r:
            await r.x.send(b"x")
            assert await r.y.read(1) == b"x"
            r.task.cancel()
            assert await r.y.read_end() == (b"", "reset")
            with pytest.raises((OSError, EOFError, AssertionError)):
                await r.x.read_frame() if spec.is_ws else raise_end(
                    await r.x.read_end()
                )

    run_on(loop_name, main())


def raise_end(end: tuple[bytes, str]) -> Any:
    raise EOFError(end)


@both_loops
def test_reset_waits_no_longer_than_linger_for_a_slow_reader(loop_name: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with relay(TCP, buffers=262144) as r:
            sending = asyncio.create_task(send_all(r.x, [bytes(3_000_000)]))
            await eventually(lambda: not r.copy.a.is_reading)
            await give_up(sending)
            start = loop.time()
            r.x.wire.reset()
            result = await r.result()
            assert LINGER * 0.9 <= loop.time() - start < 4 * LINGER
            assert result.reason == "a: reset"

    run_on(loop_name, main())


@pytest.mark.parametrize(
    ("exc", "text"),
    [
        (None, "reset"),
        (ConnectionResetError(104, "x"), "reset"),
        (TimeoutError(110, "x"), "keepalive failed"),
        (BrokenPipeError(32, "Broken pipe"), "Broken pipe"),
        (BrokenPipeError(), "Broken pipe"),
        (OSError(errno.ENOTCONN, "Transport endpoint is not connected"), "reset"),
        (OSError("odd"), "odd"),
    ],
)
def test_loss_is_described_in_words(exc: Exception | None, text: str) -> None:
    assert describe_loss(exc) == text


@pytest.mark.parametrize(
    ("options", "seconds"),
    [
        (CopyOptions(), 1.0),
        (CopyOptions(linger=0.4), 0.1),
        (CopyOptions(ping=0.8), 0.2),
        (CopyOptions(ping=0, ping_deadline=0.1), 1.0),
        (CopyOptions(idle_timeout=2.0), 0.5),
        (CopyOptions(linger=0, half_close_timeout=0, ping=0), 1.0),
    ],
)
def test_granularity_follows_the_shortest_time(
    options: CopyOptions, seconds: float
) -> None:
    assert options.granularity == seconds
