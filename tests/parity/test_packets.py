"""Messages that begin with a kind, through the pump of both twins.

What docs/pool.md calls Data is payload for the other end; every other packet is
handed out whole, after the payload before it and before the payload behind it.
"""

import itertools
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastws import _backend, _consts
from fastws._consts import DATA_DELIVER, DATA_DROP, DATA_REFUSE, MAX_PACKET, Side
from tests.support.messages import KEYS
from tests.support.pump import Transport

DATA = 2
SIDES = pytest.mark.parametrize("side", [Side.CLIENT, Side.SERVER])


def frame(
    twin: ModuleType, side: Side, payload: bytes, *, opcode: int = 2, fin: bool = True
) -> bytes:
    """A frame as the peer of ``side`` sends it."""
    key = b"\x37\xfa\x21\x3d" if side is Side.SERVER else None
    return bytes(twin.encode_frame(opcode, payload, fin=fin, key=key))


def make_end(twin: ModuleType, pool: "Pooled", **options: Any) -> Any:
    """An end whose hooks are logged; after a packet, what was forwarded before it."""
    log = pool.log

    class End(twin.CopyEnd):  # type: ignore[misc, name-defined]
        def packet_received(self, kind: int, body: bytes) -> None:
            log.extend([(kind, body), bytes(pool.target.sent)])
            pool.on_packet(kind)

        def signal_received(self, text: bytes) -> None:
            log.append(("signal", text))
            pool.on_signal()

        def control_received(self, opcode: int, payload: bytes) -> None:
            log.append(("control", opcode, payload))

        def protocol_error(self, error: Any) -> None:
            log.append(("error", error.close_code, error.reason))
            self.is_discarding = True

    return End(**options)


class Pooled:
    """A pooled WebSocket, a raw end to link it to, and what came out of both."""

    def __init__(
        self,
        twin: ModuleType,
        side: Side,
        *,
        vectored: bool = False,
        max_message: int = _consts.MAX_MESSAGE,
        linked: bool = True,
        kind: int = DATA,
    ) -> None:
        self.log: list[Any] = []
        self.on_packet: Any = lambda kind: None
        self.on_signal: Any = lambda: None
        self.wire = Transport([], "wire", 1 << 30)
        self.target = Transport([], "target", 1 << 30)
        scratch = twin.Scratch()
        is_client = side is Side.CLIENT
        self.ws = make_end(
            twin,
            self,
            scratch=scratch,
            decoder=twin.FrameDecoder(side),
            keys=twin.MaskKeys(lambda n: KEYS[:n]) if is_client else None,
            max_message=max_message,
            vectored=vectored,
            data_kind=kind,
        )
        self.raw = make_end(twin, self, scratch=scratch, vectored=vectored)
        self.ws.attach(self.wire)
        self.raw.attach(self.target)
        if linked:
            self.ws.link(self.raw)
            self.raw.start()
        self.ws.resume()

    def read(
        self, data: bytes, cuts: tuple[int, ...] = (), *, raw: bool = False
    ) -> None:
        """Let one of the ends read ``data`` in pieces."""
        end = self.raw if raw else self.ws
        last = 0
        for cut in (*sorted(cuts), len(data)):
            piece = data[last:cut]
            last = max(last, cut)
            while piece:
                window = memoryview(end.get_buffer(-1))
                size = min(len(window), len(piece))
                window[:size] = piece[:size]
                del window
                end.buffer_updated(size)
                piece = piece[size:]


@SIDES
def test_data_are_payload_without_their_kind(backend: ModuleType, side: Side) -> None:
    pool = Pooled(backend, side)
    messages = [b"\x02one", b"\x02" + bytes(5000), b"\x02\x02", b"\x02end"]
    pool.read(b"".join(frame(backend, side, message) for message in messages))
    assert pool.target.sent == b"one" + bytes(5000) + b"\x02end"
    assert pool.log == []
    assert pool.ws.payload_in == pool.raw.payload_out == 3 + 5000 + 1 + 3


@SIDES
def test_packet_comes_between_the_payload_around_it(
    backend: ModuleType, side: Side
) -> None:
    pool = Pooled(backend, side)
    pool.read(
        frame(backend, side, b"\x02before")
        + frame(backend, side, b"\x03\x01\0\0\0")
        + frame(backend, side, b"\x02behind")
    )
    assert pool.log == [(3, b"\x01\0\0\0"), b"before"]
    assert pool.target.sent == b"beforebehind"


@SIDES
def test_packet_in_fragments_with_a_ping_between(
    backend: ModuleType, side: Side
) -> None:
    pool = Pooled(backend, side)
    stream = (
        frame(backend, side, b"", fin=False)
        + frame(backend, side, b"\x04", opcode=0, fin=False)
        + frame(backend, side, b"hi", opcode=9)
        + frame(backend, side, b"\x01\0", opcode=0, fin=False)
        + frame(backend, side, b"\0\0\x05", opcode=0)
    )
    pool.read(stream, tuple(range(1, len(stream))))
    assert pool.log == [("control", 9, b"hi"), (4, b"\x01\0\0\0\x05"), b""]


@SIDES
@pytest.mark.parametrize(
    ("payload", "packet"), [(b"", (-1, b"")), (b"\x02", (2, b"")), (b"\x03", (3, b""))]
)
def test_empty_messages_are_handed_out(
    backend: ModuleType, side: Side, payload: bytes, packet: tuple[int, bytes]
) -> None:
    pool = Pooled(backend, side)
    pool.read(frame(backend, side, payload) + frame(backend, side, b"\x02x"))
    assert pool.log == [packet, b""]
    assert pool.target.sent == b"x"


@SIDES
def test_empty_data_in_fragments_are_handed_out(
    backend: ModuleType, side: Side
) -> None:
    pool = Pooled(backend, side)
    first = frame(backend, side, b"\x02", fin=False)
    pool.read(first + frame(backend, side, b"", opcode=0))
    assert pool.log == [(2, b""), b""]
    pool.log.clear()
    pool.read(first + frame(backend, side, b"x", opcode=0, fin=False))
    pool.read(frame(backend, side, b"", opcode=0))
    assert pool.log == []
    assert pool.target.sent == b"x"


@SIDES
def test_payload_without_a_peer_is_held(backend: ModuleType, side: Side) -> None:
    pool = Pooled(backend, side, linked=False)
    assert len(memoryview(pool.ws.get_buffer(-1))) == _consts.READ_MIN
    pool.read(frame(backend, side, b"\x01host") + frame(backend, side, b"\x02GET /"))
    assert pool.log == [(1, b"host"), b""]
    assert pool.ws.held == b"GET /"
    assert pool.ws.payload_in == 5


@SIDES
def test_peer_may_change_between_packets(backend: ModuleType, side: Side) -> None:
    pool = Pooled(backend, side)

    def on_packet(kind: int) -> None:
        pool.ws.unlink() if kind == 3 else pool.ws.link(pool.raw)

    pool.on_packet = on_packet
    packets = [b"\x02one", b"\x03", b"\x02two", b"\x01", b"\x02three"]
    pool.read(b"".join(frame(backend, side, packet) for packet in packets))
    assert pool.target.sent == b"onethree"
    assert pool.ws.held == b"two"
    assert pool.raw.peer is pool.ws
    pool.ws.unlink()
    assert (pool.ws.peer, pool.raw.peer) == (None, None)
    pool.ws.unlink()


@SIDES
@pytest.mark.parametrize(
    ("fate", "log", "sent"),
    [
        (DATA_DELIVER, [], b"payload"),
        (DATA_DROP, [], b""),
        (DATA_REFUSE, [(2, b"payload"), b""], b""),
    ],
)
def test_fate_of_data(
    backend: ModuleType, side: Side, fate: int, log: list[Any], sent: bytes
) -> None:
    pool = Pooled(backend, side)
    pool.ws.data_fate = fate
    pool.read(frame(backend, side, b"\x02payload"))
    assert (pool.log, pool.target.sent, pool.ws.held) == (log, sent, b"")


@SIDES
def test_longest_packet(backend: ModuleType, side: Side) -> None:
    body = bytes(MAX_PACKET - 1)
    pool = Pooled(backend, side)
    pool.read(frame(backend, side, b"\x07" + body))
    assert pool.log == [(7, body), b""]
    pool.log.clear()
    pool.read(frame(backend, side, b"\x07" + body + b"\0"))
    reason = f"packet of more than {MAX_PACKET} bytes"
    assert pool.log == [("error", 1002, reason)]


@SIDES
def test_data_are_as_long_as_they_like(backend: ModuleType, side: Side) -> None:
    pool = Pooled(backend, side)
    payload = bytes(range(256)) * 2048
    pool.read(frame(backend, side, b"\x02" + payload))
    assert pool.target.sent == payload


@pytest.mark.parametrize(
    ("mode", "messages", "log", "text_mode"),
    [
        (_consts.TEXT_CONFIRM, [(1, b"C"), (2, b"\x02x")], [("signal", b"C")], 1),
        (_consts.TEXT_CONFIRM, [(2, b"\x02x")], [("signal", b"")], 0),
        (
            _consts.TEXT_CONFIRM,
            [(1, b"D")],
            [("signal", b""), ("error", 1002, "text in place of a packet")],
            0,
        ),
        (_consts.TEXT_SIGNAL, [(1, b"F"), (2, b"\x02x")], [("signal", b"F")], 1),
        (
            _consts.TEXT_SIGNAL,
            [(1, b"CC")],
            [("error", 1002, "unknown signal")],
            1,
        ),
        (
            _consts.TEXT_FORWARD,
            [(1, b"C")],
            [("error", 1002, "text in place of a packet")],
            0,
        ),
    ],
    ids=["confirmed", "stranger", "other-text", "signal", "bad-signal", "text"],
)
@SIDES
def test_text_is_never_payload(
    backend: ModuleType,
    side: Side,
    mode: int,
    messages: list[tuple[int, bytes]],
    log: list[Any],
    text_mode: int,
) -> None:
    frames = [frame(backend, side, data, opcode=op) for op, data in messages]
    stream = b"".join(frames)
    for cuts in ((), tuple(range(1, len(stream)))):
        pool = Pooled(backend, side)
        pool.ws.text_mode = mode
        pool.read(stream, cuts)
        assert pool.log == log
        assert pool.ws.text_mode == text_mode
        assert pool.target.sent == (b"x" if messages[-1][0] == 2 else b"")


@SIDES
@pytest.mark.parametrize("kind", [-1, DATA])
@pytest.mark.parametrize("first", [b"C", b"D", None])
@pytest.mark.parametrize(
    "mode", [_consts.TEXT_FORWARD, _consts.TEXT_SIGNAL, _consts.TEXT_CONFIRM]
)
def test_handler_may_say_what_text_is_from_now_on(
    twins: tuple[ModuleType, ModuleType],
    side: Side,
    kind: int,
    first: bytes | None,
    mode: int,
) -> None:
    """``text_mode``, set once it is known who the peer is, holds for what comes."""
    states = []
    for twin in twins:
        pool = Pooled(twin, side, kind=kind)
        pool.ws.text_mode = _consts.TEXT_CONFIRM
        pool.on_signal = lambda: setattr(pool.ws, "text_mode", mode)  # noqa: B023
        stream = b"" if first is None else frame(twin, side, first, opcode=1)
        stream += frame(twin, side, b"\x02x")
        pool.read(stream)
        states.append((pool.log, pool.ws.text_mode, bytes(pool.target.sent)))
    assert states[0] == states[1]
    assert states[0][0][0] == ("signal", b"C" if first == b"C" else b"")


@pytest.mark.parametrize("side", [None, *Side])
@pytest.mark.parametrize("size", [300_000, 2_000_000])
def test_no_vectored_write_has_more_pieces_than_the_kernel_takes(
    backend: ModuleType, side: Side | None, size: int
) -> None:
    """IOV_MAX is 1 024: frames of 1 KiB, and tiny ones that are read."""
    payload = bytes(range(251)) * (size // 251 + 1)
    if side is None:
        pool = Pooled(backend, Side.CLIENT, vectored=True, kind=-1)
        pool.target.pieces = pieces = []
        pool.read(frame(backend, Side.CLIENT, payload[:4200]) * (size // 4200))
        assert len(pool.target.sent) == size // 4200 * 4200
        pool.read(frame(backend, Side.CLIENT, b"x") * 20_000)
    else:
        pool = Pooled(backend, side, vectored=True, max_message=1024)
        pool.wire.pieces = pieces = []
        pool.read(payload, raw=True)
        messages = parse(backend, side, bytes(pool.wire.sent))
        assert b"".join(message[1:] for message in messages) == payload
    assert max(pieces, default=0) <= 1024


def parse(twin: ModuleType, side: Side, sent: bytes) -> list[bytes]:
    """The messages that ``side`` sent; each is one frame."""
    decoder = twin.FrameDecoder(Side(1 - side))
    parts = decoder.receive_data(bytearray(sent))
    assert decoder.error is None
    assert decoder.at_boundary
    whole = _consts.FRAME_START | _consts.FRAME_END | _consts.MESSAGE_END
    assert all((opcode, flags) == (2, whole) for opcode, _, flags in parts)
    return [bytes(payload) for _, payload, _ in parts]


@SIDES
@pytest.mark.parametrize("vectored", [False, True])
@pytest.mark.parametrize(
    "size", [1, 124, 125, 126, 1015, 1016, 2048, 2049, 5000, 65536, 200000]
)
def test_payload_leaves_behind_its_kind(
    backend: ModuleType, side: Side, vectored: bool, size: int
) -> None:
    payload = bytes(range(251)) * (size // 251 + 1)
    for max_message in (1024, 32768):
        pool = Pooled(backend, side, vectored=vectored, max_message=max_message)
        pool.read(payload[:size], raw=True)
        messages = parse(backend, side, bytes(pool.wire.sent))
        assert all(message[0] == DATA for message in messages)
        assert b"".join(message[1:] for message in messages) == payload[:size]
        header = 4 if side is Side.SERVER else 8
        assert max(map(len, messages)) <= max_message - header
        assert pool.ws.max_payload == max_message - header - 1
        assert pool.ws.payload_out == size


@SIDES
def test_short_bytes_leave_behind_their_kind(backend: ModuleType, side: Side) -> None:
    pool = Pooled(backend, side)
    pool.ws.send_bytes(b"held")
    assert parse(backend, side, bytes(pool.wire.sent)) == [b"\x02held"]


def test_full_frame_of_a_stranger(backend: ModuleType) -> None:
    """2048 bytes of payload: R9 of the rust-proxy specification."""
    pool = Pooled(backend, Side.SERVER, max_message=4 + 1 + 2048)
    pool.read(bytes(4096), raw=True)
    assert pool.wire.sent == (b"\x82\x7e\x08\x01\x02" + bytes(2048)) * 2


@pytest.mark.parametrize("kind", [-2, 256])
def test_kind_is_a_byte(backend: ModuleType, kind: int) -> None:
    with pytest.raises(ValueError, match=r"data_kind must be in -1..255"):
        backend.CopyEnd(backend.Scratch(), data_kind=kind)


PACKETS = st.lists(
    st.tuples(
        st.sampled_from([2, 2, 2, 3, 5]),
        st.one_of(st.binary(max_size=20), st.sampled_from([bytes(4200), b"x" * 9000])),
        st.lists(st.integers(0, 9001), max_size=3),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(
    PACKETS,
    st.lists(st.integers(0, 40000), max_size=8),
    st.sampled_from(Side),
    st.booleans(),
)
def test_twins_agree_and_lose_nothing(
    packets: list[tuple[int, bytes, list[int]]],
    cuts: list[int],
    side: Side,
    vectored: bool,
) -> None:
    twin = _backend.load("python")
    stream = b""
    for kind, body, fragments in packets:
        message = bytes((kind,)) + body
        edges = [
            0,
            *sorted(min(edge, len(message)) for edge in fragments),
            len(message),
        ]
        pieces = [message[a:b] for a, b in itertools.pairwise(edges)]
        for number, piece in enumerate(pieces):
            opcode, fin = (0 if number else 2), number == len(pieces) - 1
            stream += frame(twin, side, piece, opcode=opcode, fin=fin)
    expected: list[Any] = []
    payload = b""
    for kind, body, _ in packets:
        if kind != DATA or not body:
            expected += [(kind, body), payload]
        payload += body if kind == DATA else b""
    for name in ("python", "cython"):
        pool = Pooled(_backend.load(name), side, vectored=vectored)
        pool.read(stream, tuple(cut % len(stream) for cut in cuts))
        assert pool.log == expected, name
        assert pool.target.sent == payload, name
        assert pool.ws.payload_in == len(payload)
