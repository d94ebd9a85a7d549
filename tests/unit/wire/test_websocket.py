"""The connection machine, section by section of RFC 6455."""

import pytest

from fastws._consts import Side
from fastws.exceptions import LocalProtocolError
from fastws.wire.frames import Close, CloseCode, Opcode
from fastws.wire.machine import SEND_EOF
from fastws.wire.websocket import (
    CloseReceived,
    Connection,
    Data,
    Event,
    Ping,
    Pong,
    State,
)
from tests.support.drive import Driven, drive, join_data

KEY = bytes.fromhex("37fa213d")


def server(**options: object) -> Connection:
    return Connection(Side.SERVER, **options)


def client(**options: object) -> Connection:
    return Connection(Side.CLIENT, key_source=lambda: KEY, **options)


def frame(b0: int, payload: bytes, *, masked: bool = True) -> bytes:
    """One frame of at most 65535 bytes, built apart from the code under test."""
    size = len(payload)
    head = bytes([b0, (0x80 if masked else 0) | (size if size < 126 else 126)])
    if size > 125:
        head += size.to_bytes(2, "big")
    if not masked:
        return head + payload
    return head + KEY + bytes(b ^ KEY[i % 4] for i, b in enumerate(payload))


def data(opcode: int, payload: bytes, end: bool = True) -> Data:
    return Data(opcode, memoryview(payload), end)


def run(machine: Connection, received: bytes, cuts: tuple[int, ...] = ()) -> Driven:
    return drive(machine, received, cuts, join=join_data)


def every_cut(received: bytes, events: list[Event], **options: object) -> None:
    for cuts in [(), range(len(received)), *((n,) for n in range(1, len(received)))]:
        machine = server(**options)
        driven = run(machine, received, tuple(cuts))
        assert driven.events == events
        assert driven.error is None


def reject(
    received: bytes, code: int, machine: Connection | None = None
) -> list[Event]:
    """The machine answers with Close ``code``, ends and takes nothing more."""
    machine = machine or server()
    driven = run(machine, received)
    assert driven.error is not None
    assert driven.error.close_code == code
    assert driven.error is machine.error
    close = Close(code, str(driven.error))
    assert driven.sent == frame(0x88, close.encode(), masked=False)
    assert driven.eof
    assert machine.close_sent == close
    assert machine.state is State.CLOSING
    machine.receive_data(frame(0x82, b"more"))
    assert machine.events_received() == []
    return driven.events


class TestSection51Masking:
    def test_client_needs_a_key_source(self):
        with pytest.raises(LocalProtocolError):
            Connection(Side.CLIENT)

    def test_client_masks_with_a_fresh_key_each(self):
        keys = iter([KEY, b"\x01\x02\x03\x04"])
        machine = Connection(Side.CLIENT, key_source=lambda: next(keys))
        machine.send_binary(b"Hello")
        machine.send_ping(b"\x01\x02")
        assert [bytes(f).hex() for f in machine.data_to_send()] == [
            "828537fa213d7f9f4d5158",
            "8982010203040000",
        ]

    def test_server_does_not_mask(self):
        machine = server(key_source=lambda: KEY)
        machine.send_binary(b"Hello")
        assert machine.data_to_send() == [b"\x82\x05Hello"]

    def test_server_rejects_unmasked(self):
        assert reject(frame(0x82, b"x", masked=False), 1002) == []

    def test_client_rejects_masked(self):
        machine = client()
        driven = run(machine, frame(0x82, b"x"))
        assert driven.error is not None
        close = Close(1002, str(driven.error))
        assert driven.sent == frame(0x88, close.encode())
        assert not driven.eof  # the server ends TCP


class TestSection52Framing:
    @pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535])
    def test_accept_lengths(self, size):
        payload = bytes(i % 251 for i in range(size))
        driven = run(server(), frame(0x82, payload))
        assert driven.events == [data(2, payload)]
        assert (driven.sent, driven.eof) == (b"", False)

    def test_accept_64_bit_length(self):
        payload = bytes(65536)
        received = b"\x82\x7f" + (65536).to_bytes(8, "big") + payload
        assert run(client(), received).events == [data(2, payload)]

    @pytest.mark.parametrize("bit", [0x40, 0x20, 0x10])
    def test_reject_reserved_bits(self, bit):
        reject(frame(0x82 | bit, b"x"), 1002)

    @pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
    def test_reject_reserved_opcodes(self, opcode):
        reject(frame(0x80 | opcode, b""), 1002)

    @pytest.mark.parametrize(
        "head", ["82fe007d", "82ff000000000000ffff", "82ff8000000000000000"]
    )
    def test_reject_lengths(self, head):
        reject(bytes.fromhex(head) + KEY, 1002)


class TestSection54Fragmentation:
    def test_accept_fragments_with_control_frames_between(self):
        received = (
            frame(0x02, b"ab")
            + frame(0x89, b"p")
            + frame(0x00, b"")
            + frame(0x8A, b"q")
            + frame(0x80, b"c")
        )
        machine = server()
        driven = drive(machine, received)
        assert driven.events == [
            data(2, b"ab", False),
            Ping(b"p"),
            Pong(b"q"),
            data(2, b"c"),
        ]

    def test_accept_any_cut(self):
        received = frame(0x01, "gr\xfc\xdf".encode()) + frame(0x80, b"e")
        every_cut(
            received + frame(0x82, b"") + frame(0x8A, b"x"),
            [data(1, "gr\xfc\xdfe".encode()), data(2, b""), Pong(b"x")],
        )

    def test_partial_payload_is_delivered_at_once(self):
        machine = server()
        received = frame(0x82, b"abcdef")
        machine.receive_data(received[:8])
        assert machine.events_received() == [data(2, b"ab", False)]
        machine.receive_data(received[8:])
        assert machine.events_received() == [data(2, b"cdef")]
        assert machine.events_received() == []

    def test_reject_continuation_outside_a_message(self):
        assert reject(frame(0x82, b"x") + frame(0x80, b"y"), 1002) == [data(2, b"x")]

    @pytest.mark.parametrize("opcode", [1, 2])
    def test_reject_message_inside_a_message(self, opcode):
        received = frame(0x02, b"x") + frame(0x80 | opcode, b"y")
        assert reject(received, 1002) == [data(2, b"x", False)]

    def test_send_fragments(self):
        machine = server()
        machine.send_text("a", fin=False)
        machine.send_ping()
        machine.send_text("", fin=False)
        machine.send_text("\xe9")
        machine.send_binary(memoryview(b"z"), fin=False)
        machine.send_binary(bytearray(b"y"))
        assert machine.data_to_send() == [
            b"\x01\x01a",
            b"\x89\x00",
            b"\x00\x00",
            b"\x80\x02\xc3\xa9",
            b"\x02\x01z",
            b"\x80\x01y",
        ]
        assert machine.data_to_send() == []

    def test_reject_sending_another_type_in_between(self):
        machine = server()
        machine.send_text("a", fin=False)
        with pytest.raises(LocalProtocolError):
            machine.send_binary(b"b")
        assert machine.data_to_send() == [b"\x01\x01a"]
        machine.send_text("")
        machine.send_binary(b"b")


class TestSection55Control:
    @pytest.mark.parametrize("b0", [0x08, 0x09, 0x0A])
    def test_reject_fragmented(self, b0):
        reject(frame(b0, b""), 1002)

    @pytest.mark.parametrize("b0", [0x88, 0x89, 0x8A])
    def test_reject_over_125(self, b0):
        reject(frame(b0, bytes(126)), 1002)

    def test_accept_125(self):
        driven = run(server(), frame(0x89, bytes(125)))
        assert driven.events == [Ping(bytes(125))]
        assert driven.sent == frame(0x8A, bytes(125), masked=False)

    def test_ping_is_answered_by_a_client_with_a_masked_pong(self):
        driven = run(client(), frame(0x89, b"hi", masked=False))
        assert driven.sent == frame(0x8A, b"hi")

    def test_section_5_5_3_only_the_newest_ping_is_answered(self):
        machine = server()
        machine.receive_data(b"".join(frame(0x89, b"%d" % n) for n in range(1000)))
        machine.receive_data(frame(0x89, b"last"))
        assert machine.data_to_send() == [b"\x8a\x04last"]
        assert machine.data_to_send() == []

    def test_pong_goes_out_after_frames_already_queued(self):
        machine = server()
        machine.send_binary(b"x")
        machine.receive_data(frame(0x89, b"p"))
        assert machine.data_to_send() == [b"\x82\x01x", b"\x8a\x01p"]

    def test_pong_goes_out_before_our_close(self):
        machine = server()
        machine.receive_data(frame(0x89, b"p") + frame(0x88, b""))
        assert machine.data_to_send() == [b"\x8a\x01p", b"\x88\x00", SEND_EOF]

    def test_no_pong_after_our_close(self):
        machine = server()
        machine.send_close()
        driven = run(machine, frame(0x89, b"p"))
        assert driven.events == [Ping(b"p")]
        assert driven.sent == b"\x88\x02\x03\xe8"

    def test_unsolicited_pong(self):
        machine = server()
        machine.send_pong(b"beat")
        assert machine.data_to_send() == [b"\x8a\x04beat"]
        assert run(machine, frame(0x8A, b"beat")).events == [Pong(b"beat")]

    def test_reject_own_long_ping(self):
        machine = server()
        machine.send_ping(bytes(125))
        with pytest.raises(LocalProtocolError):
            machine.send_ping(bytes(126))


class TestSection56Data:
    def test_payload_is_a_view_of_writable_memory(self):
        machine = server()
        memory = bytearray(frame(0x82, b"abc"))
        machine.receive_data(memory)
        (event,) = machine.events_received()
        assert isinstance(event, Data)
        assert event.payload.obj is memory
        assert bytes(event.payload) == b"abc"

    @pytest.mark.parametrize("wrap", [bytes, memoryview])
    def test_read_only_memory_is_copied(self, wrap):
        received = frame(0x82, b"abc")
        machine = server()
        machine.receive_data(wrap(received))
        assert machine.events_received() == [data(2, b"abc")]
        assert received == frame(0x82, b"abc")

    def test_writable_memoryview(self):
        machine = server()
        machine.receive_data(memoryview(bytearray(frame(0x82, b"abc"))))
        assert machine.events_received() == [data(2, b"abc")]


class TestSection7Close:
    def test_section_5_5_1_close_is_answered_with_its_code(self):
        machine = server()
        driven = run(machine, frame(0x88, b"\x0f\xa0bye"))
        assert driven.events == [CloseReceived(4000, "bye")]
        assert driven.sent == b"\x88\x02\x0f\xa0"
        assert driven.eof  # 7.1.1: the server ends TCP first
        assert machine.state is State.CLOSED
        assert machine.close_received == Close(4000, "bye")
        assert machine.close_sent == Close(4000)
        assert machine.close_code == 4000

    def test_empty_close_is_answered_empty(self):
        machine = client()
        driven = run(machine, frame(0x88, b"", masked=False))
        assert driven.events == [CloseReceived(1005, "")]
        assert driven.sent == frame(0x88, b"")
        assert not driven.eof
        assert machine.close_code == CloseCode.NO_STATUS_RCVD

    def test_client_ends_when_the_server_did(self):
        machine = client()
        machine.send_close(1000, "done")
        assert machine.state is State.CLOSING
        driven = drive(machine, frame(0x88, b"\x03\xe8", masked=False), eof=True)
        assert driven.events == [CloseReceived(1000, "")]
        assert driven.sent == frame(0x88, b"\x03\xe8done")
        assert driven.eof
        assert machine.state is State.CLOSED

    def test_server_ends_after_the_answer_to_its_close(self):
        machine = server()
        machine.send_close(1001)
        assert machine.data_to_send() == [b"\x88\x02\x03\xe9"]
        driven = run(machine, frame(0x82, b"late") + frame(0x88, b"\x03\xe9"))
        assert driven.events == [data(2, b"late"), CloseReceived(1001, "")]
        assert (driven.sent, driven.eof) == (b"", True)
        assert machine.state is State.CLOSED

    def test_answer_may_wait(self):
        machine = server(answer_close=False)
        machine.receive_data(frame(0x88, b"\x03\xe8"))
        assert machine.state is State.CLOSING
        assert machine.data_to_send() == []
        machine.send_binary(b"still")
        machine.send_close(1000)
        assert machine.state is State.CLOSED
        assert machine.data_to_send() == [
            b"\x82\x05still",
            b"\x88\x02\x03\xe8",
            SEND_EOF,
        ]

    def test_section_5_5_1_input_after_close_is_dropped(self):
        received = frame(0x88, b"") + frame(0x82, b"x") + b"\xff\xff"
        driven = run(server(), received, (6, 8))
        assert driven.events == [CloseReceived(1005, "")]
        assert driven.error is None

    @pytest.mark.parametrize(
        ("payload", "code"),
        [
            (b"\x03", 1002),
            (b"\x03\xed", 1002),
            (b"\x00\x00", 1002),
            (b"\x0b\xb7", 1002),
            (b"\x03\xe8\xff", 1007),
        ],
    )
    def test_reject_close_payload(self, payload, code):
        assert reject(frame(0x88, payload), code) == []

    @pytest.mark.parametrize("code", [0, 999, 1004, 1006, 1015, 2999, 5000])
    def test_reject_own_code(self, code):
        machine = server()
        with pytest.raises(LocalProtocolError):
            machine.send_close(code)
        assert machine.state is State.OPEN
        assert machine.data_to_send() == []

    def test_section_5_5_1_nothing_follows_our_close(self):
        machine = server()
        machine.send_close()
        sends = [
            lambda: machine.send_text("x"),
            lambda: machine.send_binary(b"x"),
            machine.send_ping,
            machine.send_pong,
            machine.send_close,
        ]
        for send in sends:
            with pytest.raises(LocalProtocolError, match="follow a Close"):
                send()

    def test_section_7_1_5_lost_without_close_is_1006(self):
        machine = server()
        assert machine.close_code is None
        driven = drive(machine, frame(0x02, b"x"), eof=True)
        assert driven.events == [data(2, b"x", False)]
        assert (driven.sent, driven.eof) == (b"", True)
        assert machine.state is State.CLOSED
        assert machine.close_code == CloseCode.ABNORMAL_CLOSURE

    def test_eof_is_idempotent_and_final(self):
        machine = server()
        machine.receive_data(frame(0x89, b"p"))
        machine.receive_eof()
        machine.receive_eof()
        assert machine.data_to_send() == [SEND_EOF]
        machine.receive_data(frame(0x82, b"x"))
        assert machine.events_received() == [Ping(b"p")]
        with pytest.raises(LocalProtocolError, match="closed"):
            machine.send_binary(b"x")

    def test_section_7_1_7_error_after_our_close_sends_nothing(self):
        machine = server()
        machine.send_close()
        machine.data_to_send()
        driven = run(machine, frame(0x83, b""))
        assert driven.error is not None
        assert (driven.sent, driven.eof) == (b"", True)

    def test_repr(self):
        assert repr(server()) == "<Connection SERVER OPEN>"


class TestSection81Utf8:
    @pytest.mark.parametrize(
        "text", ["", "k\xf6", "\u20ac", "\U0001f600", "\ud7ff\ue000\U0010ffff\x00"]
    )
    def test_accept_at_any_cut(self, text):
        every_cut(frame(0x81, text.encode()), [data(1, text.encode())])

    @pytest.mark.parametrize(
        "payload",
        [
            b"\x80",
            b"\xc0\x80",
            b"\xc3\x28",
            b"\xed\xa0\x80",
            b"\xf4\x90\x80\x80",
            b"\xff",
            b"ab\xe2\x82",
        ],
    )
    def test_reject(self, payload):
        assert reject(frame(0x81, payload), 1007) == []

    def test_accept_character_split_between_fragments(self):
        driven = drive(server(), frame(0x01, b"\xe2\x82") + frame(0x80, b"\xac"))
        assert driven.events == [data(1, b"\xe2\x82", False), data(1, b"\xac")]
        assert driven.error is None

    def test_reject_before_the_message_ends(self):
        machine = server()
        received = frame(0x01, b"ok\xff")
        machine.receive_data(received[:8])
        machine.receive_data(received[8:])
        assert machine.events_received() == [data(1, b"ok", False)]
        assert machine.error is not None
        assert machine.error.close_code == CloseCode.INVALID_DATA

    def test_next_message_starts_afresh(self):
        received = frame(0x81, "\xe9".encode()) + frame(0x81, "\xe8".encode())
        assert run(server(), received).error is None

    def test_binary_is_not_checked(self):
        assert run(server(), frame(0x82, b"\xff")).events == [data(2, b"\xff")]


class TestSection104Limits:
    def test_frame(self):
        assert run(server(max_payload=3), frame(0x82, b"abc")).error is None
        assert reject(frame(0x82, b"abcd"), 1009, server(max_payload=3)) == []

    def test_message_of_several_frames(self):
        received = frame(0x02, b"ab") + frame(0x80, b"c")
        assert run(server(max_message=3), received).error is None
        received = frame(0x02, b"ab") + frame(0x80, b"cd")
        assert reject(received, 1009, server(max_message=3)) == [data(2, b"ab", False)]

    def test_limit_is_checked_on_the_header(self):
        machine = server(max_payload=1 << 20)
        machine.receive_data(b"\x82\xff" + (1 << 62).to_bytes(8, "big") + KEY)
        assert machine.error is not None
        assert machine.error.close_code == CloseCode.MESSAGE_TOO_BIG

    def test_opcode_names(self):
        (event,) = run(server(), frame(0x81, b"x")).events
        assert event.opcode == Opcode.TEXT
