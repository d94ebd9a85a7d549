"""Messages in and out of one end: what RFC 6455 asks, limits and ownership."""

import tracemalloc
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from fastws._consts import Side
from tests.support.messages import Line, Rot, frame
from tests.support.peers import BINARY, CLOSE, PING, PONG, TEXT

both_sides = pytest.mark.parametrize("side", [Side.CLIENT, Side.SERVER])


# -- handing out -------------------------------------------------------------------


@both_sides
@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 300_000, 3_000_000])
def test_message_is_handed_out_whole(
    backend: ModuleType, side: Side, size: int
) -> None:
    line = Line(backend, side)
    payload = bytes(i * 7 % 251 for i in range(size))
    line.read(line.frame(BINARY, payload) + line.frame(TEXT, b"next"))
    assert line.log == [(BINARY, payload, True), (TEXT, b"next", True)]


@both_sides
def test_message_cut_into_bytes_is_whole(backend: ModuleType, side: Side) -> None:
    line = Line(backend, side)
    data = line.frame(TEXT, "grün".encode()) + line.frame(BINARY, b"x" * 200)
    for i in range(len(data)):
        line.read(data[i : i + 1])
    assert line.log == [(TEXT, "grün".encode(), True), (BINARY, b"x" * 200, True)]


def test_fragments_are_joined_and_control_frames_pass_between(
    backend: ModuleType,
) -> None:
    line = Line(backend)
    line.read(
        line.frame(TEXT, b"a", fin=False)
        + line.frame(PING, b"p")
        + line.frame(0, b"", fin=False)
        + line.frame(PONG, b"q")
        + line.frame(0, b"b")
    )
    assert line.log == [("ping", b"p"), ("pong", b"q"), (TEXT, b"ab", True)]
    assert line.sent == [(0x80 | PONG, b"p")]


def test_views_stay_as_they_were_while_held(backend: ModuleType) -> None:
    line = Line(backend)
    held: list[memoryview] = []
    line.end.on_message = lambda payload, *_: held.append(payload)
    expected = []
    for turn in range(50):
        payload = bytes([turn]) * (turn * 4000)  # some in one read, some in several
        expected.append(payload)
        line.read(line.frame(BINARY, payload))
        line.read(line.frame(BINARY, b"small"))
        expected.append(b"small")
    assert [bytes(view) for view in held] == expected


def test_view_of_the_message_can_be_sent_back(backend: ModuleType) -> None:
    line = Line(backend, Side.CLIENT)
    line.end.on_message = lambda payload, opcode, _: line.end.send(payload, opcode)
    line.read(line.frame(TEXT, b"echo") + line.frame(BINARY, b"y" * 70_000))
    assert line.sent == [(0x81, b"echo"), (0x82, b"y" * 70_000)]


def test_copies_are_str_and_bytes(backend: ModuleType) -> None:
    line = Line(backend)
    line.end.copies = True
    found: list[Any] = []
    line.end.on_message = lambda payload, *_: found.append(payload)
    line.read(line.frame(TEXT, "grün".encode()) + line.frame(BINARY, b"b"))
    line.read(line.frame(TEXT, b"a", fin=False) + line.frame(0, b"b"))
    assert found == ["grün", b"b", "ab"]
    assert [type(payload) for payload in found] == [str, bytes, str]


def test_parts_are_handed_out_as_they_come(backend: ModuleType) -> None:
    line = Line(backend, max_size=None)
    line.end.assembles = False
    data = line.frame(TEXT, b"abcd", fin=False) + line.frame(0, b"ef")
    line.read(data[:8])
    line.read(data[8:])
    line.read(line.frame(BINARY))
    expected = [(TEXT, b"ab", False), (TEXT, b"cd", False), (TEXT, b"ef", True)]
    assert line.log == [*expected, (BINARY, b"", True)]


def test_handler_that_raises_hears_no_more(backend: ModuleType) -> None:
    line = Line(backend)

    def fail(*_: Any) -> None:
        raise KeyError("mine")

    line.end.on_message = fail
    line.read(
        line.frame(BINARY, b"1")
        + line.frame(BINARY, b"2")
        + line.frame(PING)
        + line.frame(3)
    )
    assert line.log == [("failed", "KeyError", "'mine'")]


# -- refusing ----------------------------------------------------------------------


@pytest.mark.parametrize("copies", [False, True])
def test_reject_text_at_its_first_wrong_byte(backend: ModuleType, copies: bool) -> None:
    line = Line(backend)
    line.end.copies = copies
    data = line.frame(TEXT, b"good \xc3\xa9 \xed\xa0 and much more")
    line.read(data[:16])
    assert line.log == [("error", 1007, "text is not valid UTF-8")]


@pytest.mark.parametrize("payload", [b"\xff", b"\xc3", b"a\xe2\x82"])
@pytest.mark.parametrize("copies", [False, True])
def test_reject_text_that_ends_wrongly(
    backend: ModuleType, copies: bool, payload: bytes
) -> None:
    line = Line(backend)
    line.end.copies = copies
    line.read(line.frame(BINARY, b"before") + line.frame(TEXT, payload))
    assert line.log == [
        (BINARY, b"before", True),
        ("error", 1007, "text is not valid UTF-8"),
    ]


def test_character_may_be_split_over_fragments(backend: ModuleType) -> None:
    line = Line(backend)
    line.read(line.frame(TEXT, b"\xe2\x82", fin=False) + line.frame(0, b"\xac"))
    assert line.log == [(TEXT, b"\xe2\x82\xac", True)]


@pytest.mark.parametrize("size", [1000, 1001])
def test_limit_is_checked_on_the_header(backend: ModuleType, size: int) -> None:
    line = Line(backend, max_size=1000)
    line.read(line.frame(BINARY, bytes(size))[:8])
    expected = "a message of 1001 bytes or more exceeds 1000"
    assert line.log == ([("error", 1009, expected)] if size > 1000 else [])


def test_limit_counts_all_fragments(backend: ModuleType) -> None:
    line = Line(backend, max_size=10)
    line.read(line.frame(BINARY, bytes(6), fin=False) + line.frame(0, bytes(5)))
    assert line.log == [("error", 1009, "a message of 11 bytes or more exceeds 10")]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (frame(BINARY, b"x", masked=False), "a frame from a client is not masked"),
        (frame(3, b"x", masked=True), "opcode 0x3 is reserved"),
        (
            frame(BINARY, b"x", masked=True, rsv=0x40),
            "reserved bits 0x40 are set without an extension",
        ),
        (
            frame(0, b"x", masked=True),
            "a continuation frame has no message to continue",
        ),
        (frame(PING, b"x", masked=True, fin=False), "a control frame is fragmented"),
    ],
    ids=["unmasked", "opcode", "rsv1", "continuation", "fragmented ping"],
)
def test_reject_what_the_decoder_rejects(
    backend: ModuleType, data: bytes, reason: str
) -> None:
    line = Line(backend)
    line.read(line.frame(BINARY, b"before") + data + line.frame(BINARY, b"after"))
    assert line.log == [(BINARY, b"before", True), ("error", 1002, reason)]


def test_nothing_is_handed_out_after_a_close(backend: ModuleType) -> None:
    line = Line(backend)
    close = line.frame(CLOSE, b"\x03\xe8")
    line.read(line.frame(PING, b"p") + close + line.frame(BINARY, b"late"))
    assert line.log == [("ping", b"p"), ("close", b"\x03\xe8")]
    assert line.sent == [(0x80 | PONG, b"p")]  # before our Close


# -- bounded memory ----------------------------------------------------------------


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def peak_of(line: Line, data: bytes) -> int:
    """Bytes that reading ``data`` takes at most, beyond one read."""
    line.read(line.frame(PONG))  # what all share is there
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    line.end.log.clear()
    line.read(data)
    return tracemalloc.get_traced_memory()[1] - before


def test_tiny_fragments_take_what_they_carry(backend: ModuleType, traced: None) -> None:
    line = Line(backend)
    data = line.frame(BINARY, b"x", fin=False)
    data += line.frame(0, b"y", fin=False) * 9998
    line.read(data)
    assert peak_of(line, line.frame(0, b"z")) < 600_000
    assert line.log == [(BINARY, b"x" + b"y" * 9998 + b"z", True)]


def test_announced_size_is_not_reserved(backend: ModuleType, traced: None) -> None:
    line = Line(backend)
    data = line.frame(BINARY, bytes(16_000_000))[:1000]
    assert peak_of(line, data) < 600_000


def test_endless_message_ends_at_the_limit(backend: ModuleType, traced: None) -> None:
    line = Line(backend, max_size=100_000)
    data = (
        line.frame(BINARY, b"", fin=False) + line.frame(0, b"12345", fin=False) * 19_999
    )
    assert peak_of(line, data) < 6_000_000
    assert line.log == []
    line.read(line.frame(0, b"123456", fin=False))
    reason = "a message of 100001 bytes or more exceeds 100000"
    assert line.log == [("error", 1009, reason)]


@pytest.mark.parametrize("how", ["error", "limit", "close", "text"])
@pytest.mark.parametrize("rsv", [0, 0x40])
def test_what_came_of_a_message_is_freed_at_once(
    backend: ModuleType, traced: None, how: str, rsv: int
) -> None:
    """The peer may take its time to leave."""
    line = Line(backend, max_size=20_000_000, codec=Rot() if rsv else None)
    line.read(line.frame(PONG))
    before = tracemalloc.get_traced_memory()[0]
    line.read(line.frame(TEXT, b"a" * 4_000_000, fin=False, rsv=rsv))
    line.read(line.frame(0, b"a" * 4_000_000, fin=False))
    assert tracemalloc.get_traced_memory()[0] - before > 7_000_000
    ends = {
        "error": line.frame(3),
        "limit": line.frame(0, bytes(16_000_000))[:100],
        "close": line.frame(CLOSE, b"\x03\xe8"),
        "text": line.frame(0, b"\xff" * 2, fin=False),
    }
    line.read(ends[how])
    assert len(line.log) == 2
    assert tracemalloc.get_traced_memory()[0] - before < 1_000_000


@both_sides
def test_pings_are_answered_in_their_turn(backend: ModuleType, side: Side) -> None:
    """Also before messages that came behind them in the same read."""
    line = Line(backend, side)
    line.end.on_ping = None
    line.end.on_message = lambda payload, opcode, _: line.end.send(payload, opcode)
    pings = [line.frame(PING, b"%d" % i) for i in range(1000)]
    line.read(b"".join(pings) + line.frame(BINARY, b"x") + pings[0])
    pongs = [(0x80 | PONG, b"%d" % i) for i in range(1000)]
    assert line.sent == [*pongs, (0x82, b"x"), pongs[0]]
    assert len(line.transport.writes) == 1


def test_while_anything_is_unsent_the_newest_ping_is_answered(
    backend: ModuleType,
) -> None:
    """So that what a flood of pings leaves unsent is one read at most."""
    line = Line(backend, room=1)
    line.end.on_ping = None
    for number in range(100):
        line.read(line.frame(PING, b"%d" % number) * 2)
    assert line.end.unsent == 5
    line.transport.drain()
    assert line.sent == [(0x80 | PONG, b"0")] * 2 + [(0x80 | PONG, b"99")]
    assert line.log.count("drained") == 1


@both_sides
def test_flood_of_pings_is_bounded_by_one_read(backend: ModuleType, side: Side) -> None:
    line = Line(backend, side, room=0)
    line.end.on_ping = None
    for _ in range(4):
        line.read(line.frame(PING) * 100_000)
    size = 2 if side is Side.SERVER else 6
    assert line.end.unsent <= 256 * 1024 * size // len(line.frame(PING))


# -- sending -----------------------------------------------------------------------


@both_sides
def test_answers_of_one_read_leave_together(backend: ModuleType, side: Side) -> None:
    line = Line(backend, side)
    line.end.on_message = lambda payload, opcode, _: line.end.send(payload, opcode)
    line.read(b"".join(line.frame(BINARY, b"%d" % i) for i in range(20)))
    assert line.sent == [(0x82, b"%d" % i) for i in range(20)]
    assert len(line.transport.writes) == 1
    line.end.send(b"alone")
    assert len(line.transport.writes) == 2


def test_flush_writes_at_once(backend: ModuleType) -> None:
    line = Line(backend)
    sizes: list[list[int]] = []

    def answer(*_: Any) -> None:
        line.end.send(b"one")
        sizes.append(list(line.transport.writes))
        line.end.flush()
        sizes.append(list(line.transport.writes))

    line.end.on_message = answer
    line.read(line.frame(BINARY))
    assert sizes == [[], [5]]


def test_other_end_of_the_pool_is_not_held_back(backend: ModuleType) -> None:
    """A chat server: what one says goes to all, each in its own order."""
    pool = backend.MessagePool()
    lines = [Line(backend, pool=pool) for _ in range(3)]

    def tell_all(payload: memoryview, *_: Any) -> None:
        for line in lines:
            line.end.send(payload)
            line.end.send(b"z" * 50_000)
        assert len(lines[0].transport.writes) == 0 or len(payload) > 2
        assert lines[1].transport.writes

    lines[0].end.on_message = tell_all
    lines[0].read(lines[0].frame(BINARY, b"a"))
    for line in lines:
        assert line.sent == [(0x82, b"a"), (0x82, b"z" * 50_000)]


def test_fragments_are_sent_as_told(backend: ModuleType) -> None:
    line = Line(backend)
    assert line.end.send("a", final=False)
    assert line.end.send("b", final=False)
    assert line.end.send("c")
    assert line.end.send(b"d")
    assert line.sent == [(0x01, b"a"), (0x00, b"b"), (0x80, b"c"), (0x82, b"d")]


def test_nothing_is_sent_once_it_is_not_open(backend: ModuleType) -> None:
    line = Line(backend)
    line.end.is_open = False
    assert line.end.send(b"late") is False
    line.read(line.frame(PING))
    assert line.sent == []


def test_mute_drops_what_is_corked(backend: ModuleType) -> None:
    line = Line(backend)

    def answer(*_: Any) -> None:
        line.end.send(b"one")
        line.end.mute()
        line.end.send(b"two")

    line.end.on_message = answer
    line.read(line.frame(BINARY) + line.frame(BINARY))
    assert line.sent == []


def test_stall_is_reported_and_its_end(backend: ModuleType) -> None:
    line = Line(backend, room=10)
    line.end.send(b"x" * 100)
    line.end.send(b"y")
    assert line.log == ["stalled", "stalled"]
    assert line.end.unsent == 102 - 10 + 3
    line.transport.drain(20)
    assert line.end.is_write_paused
    line.transport.drain()
    assert line.log == ["stalled", "stalled", "drained"]
    assert line.sent == [(0x82, b"x" * 100), (0x82, b"y")]


# -- compressed messages ------------------------------------------------------------


@both_sides
@pytest.mark.parametrize("copies", [False, True])
def test_codec_packs_and_unpacks(backend: ModuleType, side: Side, copies: bool) -> None:
    line = Line(backend, side, codec=Rot())
    line.end.copies = copies
    rotted = Rot().compress(b"hello", True)
    line.read(
        line.frame(TEXT, rotted[:2], fin=False, rsv=0x40)
        + line.frame(0, rotted[2:])
        + line.frame(BINARY, b"plain")
    )
    first = "hello" if copies else b"hello"
    assert line.log == [(TEXT, first, True), (BINARY, b"plain", True)]
    line.end.send("hel", final=False)
    line.end.send("lo")
    assert line.sent == [(0x41, rotted[:3]), (0x80, rotted[3:])]


@pytest.mark.parametrize("size", [100, 101])
def test_codec_hears_what_is_left_of_the_limit(backend: ModuleType, size: int) -> None:
    class Doubling(Rot):
        def decompress(self, chunk: Any, final: bool, max_size: int) -> bytes:
            return super().decompress(bytes(chunk) * 2, final, max_size)

    line = Line(backend, max_size=2 * 100, codec=Doubling())
    line.read(line.frame(BINARY, bytes(50), fin=False, rsv=0x40))
    line.read(line.frame(0, bytes(size - 50)))
    if size == 100:
        assert line.log == [(BINARY, b"\xf3" * 200, True)]
        line.read(line.frame(BINARY, bytes(100), rsv=0x40))
        assert len(line.log) == 2
    else:
        assert line.log == [("error", 1009, "too much")]


def test_compressed_text_is_checked(backend: ModuleType) -> None:
    line = Line(backend, codec=Rot())
    line.read(line.frame(TEXT, Rot().compress(b"\xff", True), rsv=0x40))
    assert line.log == [("error", 1007, "text is not valid UTF-8")]
