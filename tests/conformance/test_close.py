"""The closing handshake: section 7 of the suite.

RFC 6455 sections 5.5.1, 7.1 and 7.4.
"""

import struct

import pytest

from tests.support.autobahn import Control, Message, Subject, cases, numbered, subjects
from tests.support.rawws import CLOSE, CONT, PING, PONG, TEXT

subject = subjects()

VALID = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999)
INVALID = (0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999)
NORMAL = b"\x03\xe8"
REASON = "Schönen Tag".encode()


@cases({"7.1.1": b"Hello World!"})
def test_close_behind_a_message(subject: Subject, case: bytes) -> None:
    with subject.peer() as peer:
        peer.send(TEXT, case)
        peer.gets(Message(TEXT, case))
        peer.closes()


@cases({"7.1.2": (CLOSE, NORMAL), "7.1.3": (PING, b""), "7.1.4": (TEXT, b"late")})
def test_frame_behind_a_close_is_ignored(
    subject: Subject, case: tuple[int, bytes]
) -> None:
    """RFC 6455 section 5.5.1: nothing follows a Close, and nothing answers it."""
    with subject.peer() as peer:
        peer.write(peer.wire(CLOSE, NORMAL) + peer.wire(*case))
        peer.gets(Control(CLOSE, NORMAL))
        peer.ends()


@cases({"7.1.5": 0})
def test_close_ends_an_unfinished_message(subject: Subject, case: int) -> None:
    with subject.peer() as peer:
        first = peer.wire(TEXT, b"fragment1", fin=False)
        peer.write(first + peer.wire(CLOSE, NORMAL) + peer.wire(CONT, b"fragment2"))
        peer.gets(Control(CLOSE, NORMAL))
        peer.ends()


@cases({"7.1.6": 256 * 1024})
def test_close_right_behind_a_long_message(subject: Subject, case: int) -> None:
    """The suite only informs; here what was read before the Close is handed out."""
    text = b"*" * case
    with subject.peer() as peer:
        peer.write(
            peer.wire(TEXT, text)
            + peer.wire(TEXT, b"Hello World!")
            + peer.wire(CLOSE, NORMAL)
            + peer.wire(PING)
        )
        if subject.api == "callbacks":  # which answer within the same read
            peer.gets(Message(TEXT, text), Message(TEXT, b"Hello World!"))
        event = peer.event()
        while isinstance(event, Message):
            event = peer.event()
        assert event == Control(CLOSE, NORMAL)
        peer.ends()


@cases(
    {
        "7.3.1": b"",
        "7.3.3": NORMAL,
        "7.3.4": NORMAL + REASON,
        "7.3.5": NORMAL + b"*" * 123,
    }
)
def test_close_is_answered_with_its_code(subject: Subject, case: bytes) -> None:
    with subject.peer() as peer:
        peer.closes(case)


@cases({"7.3.2": b"\x03", "7.3.6": NORMAL + b"*" * 124})
def test_reject_a_close_of_a_wrong_size(subject: Subject, case: bytes) -> None:
    with subject.peer() as peer:
        peer.send(CLOSE, case)
        peer.fails(1002)


@cases({"7.5.1": "κ\u1f79σμε".encode() + b"\xed\xa0\x80edited"})
def test_reject_a_reason_that_is_not_text(subject: Subject, case: bytes) -> None:
    with subject.peer() as peer:
        peer.send(CLOSE, NORMAL + case)
        peer.fails(1007)


@cases(numbered("7.7", VALID))
def test_code_that_may_be_sent_is_answered(subject: Subject, case: int) -> None:
    with subject.peer() as peer:
        peer.closes(struct.pack("!H", case))


@cases(numbered("7.9", INVALID))
def test_reject_a_code_that_must_not_be_sent(subject: Subject, case: int) -> None:
    with subject.peer() as peer:
        peer.send(CLOSE, struct.pack("!H", case))
        peer.fails(1002)


@cases({"7.13.1": 5000, "7.13.2": 65535})
def test_reject_a_code_of_no_range(subject: Subject, case: int) -> None:
    """The suite only informs (its 65536 is no 16-bit number)."""
    with subject.peer() as peer:
        peer.send(CLOSE, struct.pack("!H", case) + b"why not")
        peer.fails(1002)


@pytest.mark.parametrize("code", [1012, 1013, 1014])
def test_code_registered_since_is_answered(subject: Subject, code: int) -> None:
    """Beyond the suite: older versions of it refused these, IANA names them now."""
    with subject.peer() as peer:
        peer.closes(struct.pack("!H", code))


@pytest.mark.parametrize("code", [1015, 1017, 1999])
def test_reject_further_codes(subject: Subject, code: int) -> None:
    """Beyond the suite: what is reserved, and what nobody registered."""
    with subject.peer() as peer:
        peer.send(PING, b"before")
        peer.send(CLOSE, struct.pack("!H", code))
        peer.gets(Control(PONG, b"before"))
        peer.fails(1002)
