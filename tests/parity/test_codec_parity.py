"""The same call on both twins: result or exception with its text, and state after."""

import array
import inspect
import random
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from fastws import _backend

Twins = tuple[ModuleType, ModuleType]
KEY = b"\x12\x34\x56\x78"
ODD: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "int": lambda: 5,
    "float": lambda: 1.0,
    "str": lambda: "abcd",
    "bytes": lambda: b"abcd",
    "bytearray": lambda: bytearray(b"abcd"),
    "memoryview": lambda: memoryview(bytearray(b"abcdefgh"))[2:6],
    "strided": lambda: memoryview(bytearray(b"abcdefgh"))[::2],
    "ints": lambda: array.array("I", [1, 2]),
    "two dimensions": lambda: memoryview(bytearray(8)).cast("B", (2, 4)),
    "negative": lambda: -1,
    "huge": lambda: 2**70,
    "list": lambda: [1, 2, 3, 4],
}


def plain(value: Any) -> Any:
    """A value that can be compared between twins."""
    if isinstance(value, memoryview):
        return ("view", value.readonly, bytes(value))
    if type(value).__name__ == "BinaryMut":
        return ("BinaryMut", bytes(value), value.spare)
    if isinstance(value, list | tuple):
        return type(value)(map(plain, value)) if type(value) in (list, tuple) else value
    return value


def outcome(call: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    """What a call returned or raised, and what its arguments look like then."""
    try:
        result = plain(call(*arguments, **keywords))
    except Exception as error:
        result = (type(error), str(error))
    after = [
        bytes(a)
        if isinstance(a, bytes | bytearray | memoryview | array.array)
        else None
        for a in arguments
    ]
    return result, after


def test_names_agree(twins: Twins) -> None:
    pure, compiled = twins
    public = {name for name in vars(pure) if not name.startswith("_")}
    assert public == set(compiled.__all__)
    assert public < set(_backend.__all__)


def members(owner: Any) -> set[str]:
    return {name for name in dir(owner) if not name.startswith("_")}


@pytest.mark.parametrize(
    "name", ["BinaryMut", "FrameDecoder", "MaskKeys", "Utf8Validator"]
)
def test_members_agree(twins: Twins, name: str) -> None:
    pure, compiled = (getattr(twin, name) for twin in twins)
    assert members(pure) == members(compiled)
    for member in members(pure):
        ours, theirs = getattr(pure, member), getattr(compiled, member)
        assert callable(ours) == callable(theirs), member
        if callable(ours):
            assert shape(ours) == shape(theirs), member


def shape(function: Any) -> list[tuple[str, Any, Any]]:
    parameters = inspect.signature(function).parameters.values()
    return [(p.name, p.kind, p.default) for p in parameters]


@pytest.mark.parametrize(
    "name",
    ["apply_mask", "decode_header", "default_keys", "encode_frame", "write_header"],
)
def test_signatures_agree(twins: Twins, name: str) -> None:
    pure, compiled = (getattr(twin, name) for twin in twins)
    assert shape(pure) == shape(compiled)


BUFFER_CALLS = ("advance", "advance_mut", "split_to", "reserve", "chunk_mut")


def on_buffer(name: str) -> Callable[[ModuleType, Any], Any]:
    return lambda m, x: outcome(getattr(m.BinaryMut(8), name), x)


CALLS: dict[str, Callable[[ModuleType, Any], Any]] = {
    "apply_mask buf": lambda m, x: outcome(m.apply_mask, x, KEY),
    "apply_mask key": lambda m, x: outcome(m.apply_mask, bytearray(b"data"), x),
    "apply_mask phase": lambda m, x: outcome(m.apply_mask, bytearray(b"data"), KEY, x),
    "write_header buf": lambda m, x: outcome(m.write_header, x, 0, 2, 5),
    "write_header offset": lambda m, x: outcome(m.write_header, bytearray(9), x, 2, 5),
    "write_header opcode": lambda m, x: outcome(m.write_header, bytearray(9), 0, x, 5),
    "write_header length": lambda m, x: outcome(m.write_header, bytearray(9), 0, 2, x),
    "write_header rsv": lambda m, x: outcome(
        m.write_header, bytearray(9), 0, 2, 5, rsv=x
    ),
    "write_header key": lambda m, x: outcome(
        m.write_header, bytearray(9), 0, 2, 5, key=x
    ),
    "encode_frame opcode": lambda m, x: outcome(m.encode_frame, x, b""),
    "encode_frame payload": lambda m, x: outcome(m.encode_frame, 2, x),
    "encode_frame masked": lambda m, x: outcome(m.encode_frame, 2, x, key=KEY),
    "encode_frame fin": lambda m, x: outcome(m.encode_frame, 2, b"", fin=x),
    "decode_header": lambda m, x: outcome(m.decode_header, x),
    "FrameDecoder max_payload": lambda m, x: outcome(
        lambda v: type(m.FrameDecoder(0, max_payload=v)).__name__, x
    ),
    "FrameDecoder rsv": lambda m, x: outcome(
        lambda v: type(m.FrameDecoder(0, rsv=v)).__name__, x
    ),
    "FrameDecoder side": lambda m, x: outcome(
        lambda v: type(m.FrameDecoder(v)).__name__, x
    ),
    "receive_data client": lambda m, x: outcome(m.FrameDecoder(0).receive_data, x),
    "receive_data server": lambda m, x: outcome(m.FrameDecoder(1).receive_data, x),
    "Utf8Validator": lambda m, x: outcome(m.Utf8Validator().feed, x),
    "BinaryMut": lambda m, x: outcome(m.BinaryMut, x),
    "MaskKeys source": lambda m, x: outcome(m.MaskKeys(lambda n: x)),
    "extend": lambda m, x: outcome(m.BinaryMut().extend, x),
    **{name: on_buffer(name) for name in BUFFER_CALLS},
}
# Views of memory nobody wrote yet differ in content.
UNDEFINED = {"chunk_mut"}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("call", CALLS)
def test_odd_arguments_have_one_outcome(twins: Twins, call: str, odd: str) -> None:
    pure, compiled = (CALLS[call](twin, ODD[odd]()) for twin in twins)
    if call in UNDEFINED and pure[0][0] == "view":
        assert len(pure[0][2]) == len(compiled[0][2])
    else:
        assert pure == compiled


def decode_all(twin: ModuleType, chunks: list[bytes], **options: Any) -> list[Any]:
    """What each chunk yields, with the public state after it."""
    decoder = twin.FrameDecoder(**options)
    log = []
    for chunk in chunks:
        buf = bytearray(chunk)
        parts = decoder.receive_data(buf)
        error = decoder.error
        log.append(
            (
                [(op, type(p), bytes(p), flags) for op, p, flags in parts],
                bytes(buf),
                error and (str(error), error.close_code, error.http_status),
                decoder.in_message,
                decoder.at_boundary,
            )
        )
    return log


@pytest.mark.parametrize("seed", range(200))
def test_decoder_agrees_on_random_streams(twins: Twins, seed: int) -> None:
    """Mostly right frames with a wrong bit now and then, cut at random."""
    pick = random.Random(seed)
    side = pick.randrange(2)
    data = bytearray()
    for _ in range(pick.randrange(1, 12)):
        opcode = pick.choice([0, 0, 1, 2, 2, 9, 10, 8])
        size = pick.choice(
            [0, 1, 5, 125, 126, 300, 66000] if opcode < 8 else [0, 5, 125]
        )
        key = pick.randbytes(4) if side else None
        fin = opcode >= 8 or pick.random() < 0.6
        data += twins[0].encode_frame(opcode, pick.randbytes(size), fin=fin, key=key)
    if pick.random() < 0.5:
        data[pick.randrange(min(len(data), 64))] ^= 1 << pick.randrange(8)
    chunks = []
    while data:
        size = pick.choice([1, 2, 3, 10, 1000, 100_000])
        chunks.append(bytes(data[:size]))
        del data[:size]
    options = {
        "side": side,
        "max_payload": pick.choice([None, 300, 65_999]),
        "max_message": pick.choice([None, 500, 70_000]),
        "rsv": pick.choice([0, 0x40, 0x70]),
    }
    assert decode_all(twins[0], chunks, **options) == decode_all(
        twins[1], chunks, **options
    )


@pytest.mark.parametrize("b0", range(0, 256, 16))
def test_decoder_agrees_on_every_header_start(twins: Twins, b0: int) -> None:
    """All 65 536 first two bytes, alone and inside a message, on both sides."""
    checked = 0
    for low in range(16):
        for b1 in range(256):
            head = bytes((b0 | low, b1)) + bytes(12)
            for side in (0, 1):
                opening = b"\x01\x80abcd" if side else b"\x01\x00"
                for chunks in ([head], [opening, head]):
                    logs = [decode_all(twin, chunks, side=side) for twin in twins]
                    assert logs[0] == logs[1], (chunks, side)
                    checked += 1
    assert checked == 16 * 256 * 4


STEPS = (
    *("extend", "extend", "advance", "advance", "fill", "view", "drop"),
    *("split_to", "clear", "reserve", "scribble"),
)


@pytest.mark.parametrize("seed", range(100))
def test_binary_mut_agrees_on_random_calls(twins: Twins, seed: int) -> None:
    """Same results, texts, sizes and contents after every call, views included."""
    pick = random.Random(seed)
    bufs = [[twin.BinaryMut(pick.choice([0]))] for twin in twins]
    views: list[list[memoryview]] = [[], []]
    for _ in range(200):
        which = pick.randrange(len(bufs[0]))
        name = pick.choice(STEPS)
        n = pick.choice([0, 1, 5, 40, 100, 1000])
        data = pick.randbytes(n)
        results = []
        for own, held in zip(bufs, views, strict=True):
            results.append(one_call(own, held, which, name, n, data))
        assert results[0] == results[1], (name, n)
        assert [plain(b) for b in bufs[0]] == [plain(b) for b in bufs[1]]
        assert [bytes(v) for v in views[0]] == [bytes(v) for v in views[1]]


def one_call(
    bufs: list[Any], views: list[memoryview], which: int, name: str, n: int, data: bytes
) -> Any:
    buf = bufs[which]
    if name == "extend":
        return outcome(buf.extend, data)
    if name == "fill":
        buf.chunk_mut(n)[:n] = data
        return outcome(buf.advance_mut, n)
    if name == "view":
        views.append(buf.chunk())
        return None
    if name == "drop":
        del views[: len(views) // 2]
        return None
    if name == "scribble":
        view = buf.chunk()
        view[: n // 2] = data[: len(view[: n // 2])].ljust(len(view[: n // 2]), b"s")
        return None
    if name == "clear":
        return buf.clear()
    if name == "split_to":
        result = outcome(buf.split_to, n)
        if n <= len(buf) and len(bufs) < 6:
            bufs.append(buf.split_to(n))
        return result
    return outcome(getattr(buf, name), n)


@pytest.mark.parametrize("seed", range(50))
def test_utf8_agrees_on_random_bytes(twins: Twins, seed: int) -> None:
    pick = random.Random(seed)
    alphabet = ["a", "é", "€", "𝄞", "\ud7ff", "\ue000"]
    for _ in range(50):
        data = bytearray("".join(pick.choices(alphabet, k=30)).encode())
        if pick.random() < 0.7:
            data[pick.randrange(len(data))] = pick.randrange(256)
        pair = [twin.Utf8Validator() for twin in twins]
        while data:
            chunk = bytes(data[: (size := pick.choice([1, 2, 3, 20]))])
            del data[:size]
            feeds = [(v.feed(chunk), v.complete) for v in pair]
            assert feeds[0] == feeds[1], chunk


def test_utf8_agrees_on_every_start_of_three_bytes(twins: Twins) -> None:
    pure, compiled = twins
    for lead in (*range(0xC0, 0x100), 0x7F, 0x80):
        for second in range(256):
            pair = (pure.Utf8Validator(), compiled.Utf8Validator())
            for byte in (lead, second, 0x80):
                chunk = bytes([byte])
                assert pair[0].feed(chunk) == pair[1].feed(chunk), (lead, second)
                assert pair[0].complete == pair[1].complete, (lead, second)
