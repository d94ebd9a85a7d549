"""Frames, pings, reserved bits and opcodes: sections 1 to 4 of the Autobahn suite.

RFC 6455 sections 5.2, 5.5.2 and 5.5.3.
"""

from typing import Any

from tests.support.autobahn import Control, Message, Subject, cases, numbered, subjects
from tests.support.rawws import BINARY, CLOSE, PING, PONG, TEXT

subject = subjects()

SIZES = ((0, 0), (125, 0), (126, 0), (127, 0), (128, 0), (65535, 0), (65536, 0))
SIZES += ((65536, 997),)  # in writes of so many bytes
HELLO = b"Hello, world!"
BYTES = b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"


@cases(numbered("1.1", SIZES))
def test_text_comes_back(subject: Subject, case: tuple[int, int]) -> None:
    size, chop = case
    with subject.peer() as peer:
        peer.send(TEXT, b"*" * size, chop=chop)
        peer.gets(Message(TEXT, b"*" * size))
        peer.closes()


@cases(numbered("1.2", SIZES))
def test_binary_comes_back(subject: Subject, case: tuple[int, int]) -> None:
    size, chop = case
    with subject.peer() as peer:
        peer.send(BINARY, b"\xfe" * size, chop=chop)
        peer.gets(Message(BINARY, b"\xfe" * size))
        peer.closes()


@cases(
    {
        "2.1": (b"", 0),
        "2.2": (HELLO, 0),
        "2.3": (BYTES, 0),
        "2.4": (b"\xfe" * 125, 0),
        "2.6": (b"\xfe" * 125, 1),
    }
)
def test_ping_is_answered_with_its_payload(
    subject: Subject, case: tuple[bytes, int]
) -> None:
    payload, chop = case
    with subject.peer() as peer:
        peer.send(PING, payload, chop=chop)
        peer.gets(Control(PONG, payload))
        peer.closes()


@cases({"2.5": 126})
def test_reject_a_ping_that_is_too_long(subject: Subject, case: int) -> None:
    with subject.peer() as peer:
        peer.send(PING, b"\xfe" * case)
        peer.fails(1002)


@cases({"2.7": (b"", None), "2.8": (b"unsolicited", None), "2.9": (b"one", b"two")})
def test_pong_that_nobody_asked_for_is_ignored(
    subject: Subject, case: tuple[bytes, bytes | None]
) -> None:
    pong, ping = case
    with subject.peer() as peer:
        peer.send(PONG, pong)
        if ping is not None:
            peer.send(PING, ping)
            peer.gets(Control(PONG, ping))
        peer.closes()


@cases({"2.10": 0, "2.11": 1})
def test_every_ping_is_answered_in_order(subject: Subject, case: int) -> None:
    with subject.peer() as peer:
        payloads = [b"payload-%d" % number for number in range(10)]
        peer.write(b"".join(peer.wire(PING, p) for p in payloads), case)
        peer.gets(*(Control(PONG, payload) for payload in payloads))
        peer.closes()


def _refuses(subject: Subject, before: bool, bad: dict[str, Any], chop: int) -> None:
    """A frame that breaks the connection, behind one that does not."""
    with subject.peer() as peer:
        if before:
            peer.send(TEXT, HELLO, chop=chop)
        peer.send(**bad, chop=chop)
        peer.send(PING)
        if before:
            peer.gets(Message(TEXT, HELLO))
        peer.fails(1002)


@cases(
    {
        "3.1": (False, TEXT, HELLO, 1, 0),
        "3.2": (True, TEXT, HELLO, 2, 0),
        "3.3": (True, TEXT, HELLO, 3, 15),
        "3.4": (True, TEXT, HELLO, 4, 1),
        "3.5": (False, BINARY, BYTES, 5, 0),
        "3.6": (False, PING, HELLO, 6, 0),
        "3.7": (False, CLOSE, b"\x03\xe8", 7, 0),
    }
)
def test_reject_reserved_bits(
    subject: Subject, case: tuple[bool, int, bytes, int, int]
) -> None:
    """RFC 6455 section 5.2: 0 unless an extension says otherwise."""
    before, opcode, payload, rsv, chop = case
    bad = {"opcode": opcode, "payload": payload, "rsv": rsv}
    _refuses(subject, before, bad, chop)


# Whether something good comes before it, payload, bytes of one write.
_BAD = ((False, b"", 0), (False, HELLO, 0), (True, b"", 0), (True, HELLO, 15))
_BAD += ((True, HELLO, 1),)


@cases(numbered("4.1", zip(range(3, 8), _BAD, strict=True)))
def test_reject_reserved_data_opcode(subject: Subject, case: tuple[int, Any]) -> None:
    opcode, (before, payload, chop) = case
    _refuses(subject, before, {"opcode": opcode, "payload": payload}, chop)


@cases(numbered("4.2", zip(range(11, 16), _BAD, strict=True)))
def test_reject_reserved_control_opcode(
    subject: Subject, case: tuple[int, Any]
) -> None:
    opcode, (before, payload, chop) = case
    _refuses(subject, before, {"opcode": opcode, "payload": payload}, chop)
