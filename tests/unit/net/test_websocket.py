"""What a WebSocket end makes of closes, errors and messages of a stranger.

``x`` is the WebSocket peer, ``y`` a TCP peer: the target of wts, the client of stw.
"""

import asyncio
from dataclasses import replace

import pytest

from tests.support.copying import LINGER, QUICK, Relay, relay
from tests.support.ends import STW, STW_FASTWS, WTS, WTS_FASTWS, Spec, every_end
from tests.support.peers import BINARY, CLOSE, PING, PONG, TEXT
from tests.support.servers import both_loops, eventually, run_on
from tests.support.timing import UNIT

CODES = [1000, None, 1001, 1002, 1011, 4000]


def is_orderly(spec: Spec, code: int | None) -> bool:
    """DESIGN, ends mapped completely."""
    return code in (1000, None) or (code == 1001 and spec is WTS)


async def read_close(r: Relay, code: int | None) -> None:
    frame = await r.x.next_frame()
    assert frame.opcode == CLOSE
    assert frame.code == (1005 if code is None else code)


@pytest.mark.parametrize("code", CODES)
@every_end(STW, WTS)
def test_stranger_close_ends_or_resets(
    loop_name: str, spec: Spec, code: int | None
) -> None:
    async def main() -> None:
        async with relay(spec) as r:
            await r.x.send(b"last words")
            await r.x.send_close(code)
            if is_orderly(spec, code):
                assert await r.y.read_end() == (b"last words", "eof")
                await r.y.finish()
            else:
                assert await r.y.read_end() == (b"last words", "reset")
            await read_close(r, code)
            if spec is WTS:
                assert await r.x.end_of_tcp() == "eof"
            r.x.wire.close()
            result = await r.result()
            assert result.is_clean is is_orderly(spec, code)
            assert result.a_to_b == 10

    run_on(loop_name, main())


@both_loops
def test_wts_answers_a_close_after_the_target_has_ended(loop_name: str) -> None:
    async def one(code: int | None) -> None:
        async with relay(WTS) as r:
            await r.x.send_close(code)
            assert await r.y.read_end() == (b"", "eof")
            for _ in range(6):  # payload keeps the Close back beyond linger
                await asyncio.sleep(LINGER / 4)
                await r.y.send(b"late")
                assert await r.x.read(4) == b"late"
            await r.y.send(b"last")
            await r.y.finish()
            assert await r.x.read(4) == b"last"
            await read_close(r, code)
            assert await r.x.end_of_tcp() == "eof"
            r.x.wire.close()
            assert await r.result() == (0, 28, "closed", True)

    async def main() -> None:
        await asyncio.gather(one(1000), one(None), one(1001))

    run_on(loop_name, main())


@both_loops
def test_wts_answers_a_close_when_the_target_stays_silent(loop_name: str) -> None:
    """... for linger; then nothing can be sent to it, and the target is reset."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with relay(WTS) as r:
            start = loop.time()
            await r.x.send_close(1000)
            assert await r.y.read_end() == (b"", "eof")
            await read_close(r, 1000)
            assert LINGER <= loop.time() - start < 3 * LINGER
            assert await r.x.end_of_tcp() == "eof"
            r.x.wire.close()
            await eventually(r.y.wire.was_reset)
            assert (await r.result()).is_clean is False

    run_on(loop_name, main())


@both_loops
def test_stw_answers_at_once_and_resets_a_client_that_goes_on(loop_name: str) -> None:
    async def main() -> None:
        async with relay(STW) as r:
            await r.x.send_close(1000)
            assert await r.y.read_end() == (b"", "eof")
            await read_close(r, 1000)
            await r.y.send(b"more")
            await eventually(r.y.wire.was_reset)
            r.x.wire.close()
            result = await r.result()
            assert result == (0, 4, "a: data after its Close", False)

    run_on(loop_name, main())


@both_loops
def test_stw_resets_a_client_that_does_not_end(loop_name: str) -> None:
    async def main() -> None:
        async with relay(STW) as r:
            await r.x.send_close(1000)
            assert await r.y.read_end() == (b"", "eof")
            await read_close(r, 1000)
            r.x.wire.close()
            await eventually(r.y.wire.was_reset)
            reason = "a: no end after the WebSocket was closed"
            assert await r.result() == (0, 0, reason, False)

    run_on(loop_name, main())


@both_loops
def test_stw_holds_its_close_while_the_stranger_sends(loop_name: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with relay(STW) as r:
            await r.y.send(b"question")
            await r.y.finish()
            assert await r.x.read(8) == b"question"
            for _ in range(6):
                await asyncio.sleep(LINGER / 4)
                assert r.x.is_quiet()
                start = loop.time()
                await r.x.send(b"answer")
                assert await r.y.read(6) == b"answer"
            await read_close(r, 1000)
            assert LINGER * 0.7 <= loop.time() - start < 3 * LINGER
            await r.x.send(b"after it")  # allowed until its own Close
            await r.x.send_close(1000)
            assert await r.y.read_end() == (b"after it", "eof")
            r.x.wire.close()
            assert await r.result() == (44, 8, "closed", True)

    run_on(loop_name, main())


@both_loops
def test_stw_holds_its_close_although_it_was_idle_before(loop_name: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with relay(STW) as r:
            await asyncio.sleep(LINGER * 1.5)
            start = loop.time()
            await r.y.finish()
            await read_close(r, 1000)
            assert loop.time() - start >= LINGER

    run_on(loop_name, main())


@both_loops
def test_stw_closes_at_once_if_told_so(loop_name: str) -> None:
    async def main() -> None:
        options = replace(QUICK, on_eof="close", linger=10.0)
        async with relay(STW, options=options) as r:
            await r.y.finish()
            await read_close(r, 1000)
            await r.x.send(b"late")
            await r.x.send_close(1000)
            assert await r.y.read_end() == (b"late", "eof")
            r.x.wire.close()
            assert await r.result() == (4, 0, "closed", True)

    run_on(loop_name, main())


@both_loops
def test_wts_closes_at_once_and_goes_on_delivering(loop_name: str) -> None:
    async def main() -> None:
        async with relay(WTS) as r:
            await r.y.send(b"bytes before")
            await r.y.finish()
            assert await r.x.read(12) == b"bytes before"
            await read_close(r, 1000)
            await r.x.send(b"late")
            assert await r.y.read(4) == b"late"
            assert r.x.is_quiet()  # no FIN before its Close
            await r.x.send_close(1000)
            assert await r.y.read_end() == (b"", "eof")
            assert await r.x.end_of_tcp() == "eof"
            r.x.wire.close()
            assert await r.result() == (4, 12, "closed", True)

    run_on(loop_name, main())


@both_loops
def test_wts_waits_for_an_answer_no_longer_than_linger(loop_name: str) -> None:
    async def main() -> None:
        async with relay(WTS) as r:
            await r.y.finish()
            await read_close(r, 1000)
            assert await r.x.end_of_tcp() == "eof"
            await eventually(r.y.wire.was_reset)
            assert await r.result() == (0, 0, "a: no Close in answer", False)

    run_on(loop_name, main())


@every_end(STW, WTS, STW_FASTWS, WTS_FASTWS)
def test_end_without_a_close_is_a_reset(loop_name: str, spec: Spec) -> None:
    async def main() -> None:
        async with relay(spec) as r:
            await r.x.send(b"half of it")
            await r.x.wire.finish()
            assert await r.y.read_end() == (b"half of it", "reset")
            r.x.wire.close()
            assert await r.result() == (10, 0, "a: lost without a Close", False)

    run_on(loop_name, main())


@every_end(STW, WTS, STW_FASTWS, WTS_FASTWS)
def test_going_away_says_1001_and_resets(loop_name: str, spec: Spec) -> None:
    async def main() -> None:
        async with relay(spec) as r:
            await r.x.send(b"x")
            assert await r.y.read(1) == b"x"
            r.copy.go_away("draining")
            assert await r.y.read_end() == (b"", "reset")
            await read_close(r, 1001)
            await r.x.send_close(1001)
            if spec.side == 1:
                assert await r.x.end_of_tcp() == "eof"
            r.x.wire.close()
            assert await r.result() == (1, 0, "draining", False)

    run_on(loop_name, main())


# -- messages ----------------------------------------------------------------------


@every_end(STW, WTS)
def test_text_is_data_and_checked_while_it_passes(loop_name: str, spec: Spec) -> None:
    async def main() -> None:
        async with relay(spec) as r:
            await r.x.send_frame(TEXT, b"F")
            await r.x.send_frame(TEXT, "ä".encode()[:1], fin=False)
            await r.x.send_frame(0, "ä".encode()[1:])
            assert await r.y.read(3) == b"F" + "ä".encode()
            await r.x.send_frame(TEXT, b"good \xff bad")
            _, how = await r.y.read_end()
            assert how == "reset"
            await read_close(r, 1007)
            r.x.wire.close()
            assert (await r.result()).reason.startswith("a: protocol error: text")

    run_on(loop_name, main())


@every_end(STW, WTS)
def test_text_already_delivered_stays_delivered(loop_name: str, spec: Spec) -> None:
    async def main() -> None:
        async with relay(spec) as r:
            await r.x.send_frame(TEXT, b"good", fin=False)
            assert await r.y.read(4) == b"good"
            await r.x.send_frame(0, b"\xc3")  # ends within a character
            assert await r.y.read_end() == (b"", "reset")
            await read_close(r, 1007)

    run_on(loop_name, main())


@every_end(STW, WTS, STW_FASTWS, WTS_FASTWS)
def test_fragments_with_pings_between(loop_name: str, spec: Spec) -> None:
    async def main() -> None:
        async with relay(spec) as r:
            await r.x.send_frame(BINARY, b"one ", fin=False)
            await r.x.send_frame(PING, b"1")
            await r.x.send_frame(0, b"two ", fin=False)
            await r.x.send_frame(PING, b"2")
            await r.x.send_frame(0, b"three")
            assert await r.y.read(13) == b"one two three"
            # RFC 6455 section 5.5.3: of pings read together the newest is answered.
            pong = await r.x.read_frame()
            if pong == (True, PONG, b"1"):
                pong = await r.x.read_frame()
            assert pong == (True, PONG, b"2")

    run_on(loop_name, main())


@every_end(WTS)
def test_flood_of_pings_is_answered_once_a_read(loop_name: str, spec: Spec) -> None:
    async def main() -> None:
        async with relay(spec) as r:
            pings = [r.x.encode(PING, b"%d" % number) for number in range(2000)]
            await r.x.send_raw(b"".join(pings))
            last, pongs = b"", 0
            while last != b"1999":
                fin, opcode, last = await r.x.read_frame()
                assert (fin, opcode) == (True, PONG)
                pongs += 1
            assert pongs <= 200

    run_on(loop_name, main())


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        ((0x83, b""), 1002),  # reserved opcode
        ((0xC2, b"x"), 1002),  # reserved bit
        ((0x80, b"x"), 1002),  # continuation of nothing
        ((0x09, b"x"), 1002),  # fragmented ping
        ((0x89, b"x" * 126), 1002),  # long ping
        ((0x88, b"x"), 1002),  # Close with half a code
        ((0x88, b"\x03\xed"), 1002),  # Close 1005
        ((0x88, b"\x03\xe8\xff"), 1007),  # reason is not UTF-8
    ],
)
@every_end(STW, WTS)
def test_broken_frame_is_named_and_resets(
    loop_name: str, spec: Spec, bad: tuple[int, bytes], code: int
) -> None:
    async def main() -> None:
        first, payload = bad
        async with relay(spec) as r:
            await r.x.send(b"before")
            frame = bytearray(r.x.encode(first & 15, payload))
            frame[0] = first
            await r.x.send_raw(bytes(frame) + r.x.encode(BINARY, b"after"))
            assert await r.y.read_end() == (b"before", "reset")
            await read_close(r, code)
            r.x.wire.close()
            assert (await r.result()).reason.startswith("a: protocol error: ")

    run_on(loop_name, main())


@every_end(STW, WTS)
def test_masking_of_the_wrong_side_is_refused(loop_name: str, spec: Spec) -> None:
    async def main() -> None:
        async with relay(spec) as r:
            r.x.is_client = not r.x.is_client
            frame = r.x.encode(BINARY, b"x")
            r.x.is_client = not r.x.is_client
            await r.x.send_raw(frame)
            await read_close(r, 1002)
            assert await r.y.read_end() == (b"", "reset")

    run_on(loop_name, main())


@every_end(STW, WTS)
def test_frames_are_no_longer_than_max_message(loop_name: str, spec: Spec) -> None:
    async def main() -> None:
        options = replace(QUICK, max_message=1024)
        async with relay(spec, options=options) as r:
            r.x.max_message = 1024
            await r.y.send(bytes(100_000))
            assert await r.x.read(100_000) == bytes(100_000)
            assert r.x.max_frame == 1024

    run_on(loop_name, main())


@both_loops
def test_server_sends_fin_only_after_the_close_of_the_peer(loop_name: str) -> None:
    async def main() -> None:
        async with relay(WTS_FASTWS) as r:
            await r.x.finish()
            assert await r.y.read_end() == (b"", "eof")
            await r.y.finish()
            assert await r.x.read_end() == (b"", "eof")
            await read_close(r, 1000)
            await asyncio.sleep(UNIT)
            assert r.x.is_quiet()
            await r.x.send_close(1000)
            assert await r.x.end_of_tcp() == "eof"

    run_on(loop_name, main())
