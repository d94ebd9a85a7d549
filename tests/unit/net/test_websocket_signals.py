"""C, F and R between fastws ends (docs/wire.md), and the Closes around them."""

import asyncio

import pytest

from tests.support.copying import LINGER, QUICK, relay
from tests.support.ends import STW_FASTWS, WTS_FASTWS, WTS_UNCONFIRMED, Spec, every_end
from tests.support.peers import BINARY, CLOSE, PING, PONG, TEXT
from tests.support.servers import both_loops, eventually, run_on
from tests.support.timing import UNIT

fastws_ends = every_end(STW_FASTWS, WTS_FASTWS)


@pytest.mark.parametrize("pieces", [(b"", b"F"), (b"F", b""), (b"", b"", b"F", b"")])
@fastws_ends
def test_signal_may_come_in_fragments(
    loop_name: str, spec: Spec, pieces: tuple[bytes, ...]
) -> None:
    async def main() -> None:
        async with relay(spec) as r:
            last = len(pieces) - 1
            for number, piece in enumerate(pieces):
                await r.x.send_frame(0 if number else TEXT, piece, number == last)
                await r.x.send_frame(PING, b"%d" % number)
                assert await r.x.read_frame() == (True, PONG, b"%d" % number)
            assert await r.y.read_end() == (b"", "eof")
            await r.y.send(b"late")
            assert await r.x.read(4) == b"late"

    run_on(loop_name, main())


@pytest.mark.parametrize(
    "frames",
    [
        [(TEXT, b"F")],
        [(BINARY, b"x")],
        [(BINARY, b"")],
        [(TEXT, b"C")],
    ],
    ids=["F", "binary", "empty", "C"],
)
@fastws_ends
def test_only_r_may_follow_f(
    loop_name: str, spec: Spec, frames: list[tuple[int, bytes]]
) -> None:
    async def main() -> None:
        async with relay(spec) as r:
            await r.x.send_frame(TEXT, b"F")
            assert await r.y.read_end() == (b"", "eof")
            for opcode, payload in frames:
                await r.x.send_frame(opcode, payload)
            frame = await r.x.next_frame()
            assert (frame.opcode, frame.code) == (CLOSE, 1002)
            await eventually(r.y.wire.was_reset)
            r.x.wire.close()
            assert (await r.result()).reason.startswith("a: protocol error: ")

    run_on(loop_name, main())


@pytest.mark.parametrize("text", [b"", b"X", b"FF", b"f", b"C", b"hello"])
@fastws_ends
def test_other_text_is_refused(loop_name: str, spec: Spec, text: bytes) -> None:
    async def main() -> None:
        async with relay(spec) as r:
            await r.x.send(b"data")
            await r.x.send_frame(TEXT, text)
            frame = await r.x.next_frame()
            assert (frame.opcode, frame.code) == (CLOSE, 1002)
            assert await r.y.read_end() == (b"data", "reset")

    run_on(loop_name, main())


@pytest.mark.parametrize("after_fin", [False, True])
@fastws_ends
def test_r_resets_the_other_side(loop_name: str, spec: Spec, after_fin: bool) -> None:
    async def main() -> None:
        async with relay(spec) as r:
            if after_fin:
                await r.x.send_frame(TEXT, b"F")
                assert await r.y.read_end() == (b"", "eof")
            await r.x.send_frame(TEXT, b"R")
            await r.x.send_close(1011)
            if after_fin:
                await eventually(r.y.wire.was_reset)
            else:
                assert await r.y.read_end() == (b"", "reset")
            frame = await r.x.next_frame()
            assert (frame.opcode, frame.code) == (CLOSE, 1011)
            if spec is WTS_FASTWS:
                assert await r.x.end_of_tcp() == "eof"
            r.x.wire.close()
            assert await r.result() == (0, 0, "a: reset by peer", False)

    run_on(loop_name, main())


@fastws_ends
def test_r_without_its_close_ends_in_time(loop_name: str, spec: Spec) -> None:
    async def main() -> None:
        async with relay(spec) as r:
            await r.x.send_frame(TEXT, b"R")
            assert await r.y.read_end() == (b"", "reset")
            assert await r.result() == (0, 0, "a: reset by peer", False)

    run_on(loop_name, main())


@pytest.mark.parametrize("code", [1000, None, 1001, 1011])
@fastws_ends
def test_close_before_f_is_a_reset(
    loop_name: str, spec: Spec, code: int | None
) -> None:
    async def main() -> None:
        async with relay(spec) as r:
            await r.x.send(b"data")
            await r.x.send_close(code)
            assert await r.y.read_end() == (b"data", "reset")
            frame = await r.x.next_frame()
            assert (frame.opcode, frame.code) == (CLOSE, code or 1005)
            r.x.wire.close()
            assert (await r.result()).reason == f"a: Close {code or 1005}"

    run_on(loop_name, main())


@fastws_ends
def test_close_after_its_f_but_before_ours_is_a_reset(
    loop_name: str, spec: Spec
) -> None:
    async def main() -> None:
        async with relay(spec) as r:
            await r.x.send_frame(TEXT, b"F")
            assert await r.y.read_end() == (b"", "eof")
            await r.x.send_close(1001)  # it drains
            await eventually(r.y.wire.was_reset)
            r.x.wire.close()
            assert await r.result() == (0, 0, "a: Close 1001", False)

    run_on(loop_name, main())


@fastws_ends
def test_end_of_tcp_after_f_both_ways_is_no_clean_end(
    loop_name: str, spec: Spec
) -> None:
    """Without the Close nobody knows whether the last bytes we sent came."""

    async def main() -> None:
        async with relay(spec) as r:
            await r.y.finish()
            assert await r.x.read_end() == (b"", "eof")
            await r.x.finish()
            assert await r.y.read_end() == (b"", "eof")
            r.x.wire.reset()
            got = await r.result()
            assert got.reason in ("a: lost without a Close", "a: reset")
            assert not got.is_clean

    run_on(loop_name, main())


# -- C: is it fastws at all? -----------------------------------------------------------


@both_loops
def test_eof_waits_for_c(loop_name: str) -> None:
    async def main() -> None:
        async with relay(WTS_UNCONFIRMED) as r:
            r.x.is_fastws = True
            await r.y.send(b"greeting")
            await r.y.finish()
            assert await r.x.read(8) == b"greeting"
            await asyncio.sleep(LINGER / 4)
            assert r.x.is_quiet()
            await r.x.send_frame(PING, b"")
            assert await r.x.read_frame() == (True, PONG, b"")
            await r.x.send_frame(TEXT, b"", fin=False)
            await r.x.send_frame(0, b"C")
            assert await r.x.read_end() == (b"", "eof")
            await r.x.send(b"late")
            await r.x.finish()
            assert await r.y.read_end() == (b"late", "eof")
            await r.x.leave()
            assert await r.result() == (4, 8, "closed", True)

    run_on(loop_name, main())


@both_loops
def test_header_was_dropped_and_the_client_stays_silent(loop_name: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with relay(WTS_UNCONFIRMED) as r:
            start = loop.time()
            await r.y.send(b"greeting")
            await r.y.finish()
            assert await r.x.read_end() == (b"greeting", "eof")  # Close 1000
            assert LINGER - UNIT <= loop.time() - start < 3 * LINGER
            await r.x.send(b"F")
            await r.x.send_close(1000)
            assert await r.y.read_end() == (b"F", "eof")
            await r.x.leave()
            assert (await r.result()).is_clean

    run_on(loop_name, main())


@pytest.mark.parametrize(
    ("frames", "payload"),
    [
        ([(BINARY, b"data", True)], b"data"),
        ([(TEXT, b"hello", True)], b"hello"),
        ([(TEXT, b"Cx", True)], b"Cx"),
        ([(TEXT, b"C", False), (0, b"x", True)], b"Cx"),
        ([(TEXT, b"F", True)], b"F"),
        ([(BINARY, b"C", True), (TEXT, b"C", True)], b"CC"),
    ],
)
@both_loops
def test_any_other_first_message_is_a_stranger(
    loop_name: str, frames: list[tuple[int, bytes, bool]], payload: bytes
) -> None:
    async def main() -> None:
        async with relay(WTS_UNCONFIRMED) as r:
            for opcode, data, fin in frames:
                await r.x.send_frame(opcode, data, fin)
            assert await r.y.read(len(payload)) == payload
            await r.y.finish()
            assert await r.x.read_end() == (b"", "eof")  # Close 1000, no F
            await r.x.send_close(1000)
            await r.x.leave()
            assert await r.result() == (len(payload), 0, "closed", True)

    run_on(loop_name, main())


@both_loops
def test_stranger_after_the_end_of_the_target_is_told_at_once(loop_name: str) -> None:
    async def main() -> None:
        async with relay(WTS_UNCONFIRMED, options=QUICK) as r:
            await r.y.finish()
            await eventually(lambda: r.copy.b.eof_in)
            await r.x.send(b"data")
            assert await r.x.read_end() == (b"", "eof")  # Close 1000
            assert await r.y.read(4) == b"data"

    run_on(loop_name, main())


@both_loops
def test_reset_before_c_sends_no_text(loop_name: str) -> None:
    async def main() -> None:
        async with relay(WTS_UNCONFIRMED) as r:
            r.y.wire.reset()
            frame = await r.x.next_frame()
            assert (frame.opcode, frame.code) == (CLOSE, 1011)

    run_on(loop_name, main())
