"""Fragments of messages, and what stands between them: section 5 of the suite.

RFC 6455 section 5.4.
"""

from typing import Any

import pytest

from tests.support.autobahn import Control, Message, Subject, cases, subjects
from tests.support.rawws import CONT, PING, PONG, TEXT

subject = subjects()

ONE, TWO = b"fragment1", b"fragment2"
WAYS = (0, 11, 1)  # in one write, in several, byte by byte


def _ways(*numbers: str) -> dict[str, int]:
    return dict(zip(numbers, WAYS, strict=True))


@cases({"5.1": PING, "5.2": PONG})
def test_reject_a_fragmented_control_frame(subject: Subject, case: int) -> None:
    with subject.peer() as peer:
        peer.send(case, ONE, fin=False)
        peer.send(CONT, TWO)
        peer.fails(1002)


@cases(_ways("5.3", "5.4", "5.5"))
def test_fragments_are_one_message(subject: Subject, case: int) -> None:
    with subject.peer() as peer:
        peer.write(peer.wire(TEXT, ONE, fin=False) + peer.wire(CONT, TWO), case)
        peer.gets(Message(TEXT, ONE + TWO))
        peer.closes()


@cases(_ways("5.6", "5.7", "5.8"))
def test_ping_between_fragments_is_answered_first(subject: Subject, case: int) -> None:
    with subject.peer() as peer:
        data = peer.wire(TEXT, ONE, fin=False) + peer.wire(PING, b"ping")
        peer.write(data + peer.wire(CONT, TWO), case)
        peer.gets(Control(PONG, b"ping"), Message(TEXT, ONE + TWO))
        peer.closes()


@cases(
    {
        number: (fin, way)
        for fin, numbers in (
            (True, ("5.9", "5.10", "5.11")),
            (False, ("5.12", "5.13", "5.14")),
        )
        for number, way in _ways(*numbers).items()
    }
)
def test_reject_a_continuation_of_nothing(
    subject: Subject, case: tuple[bool, int]
) -> None:
    fin, chop = case
    with subject.peer() as peer:
        data = peer.wire(CONT, b"non-continuation payload", fin=fin)
        peer.write(data + peer.wire(TEXT, b"Hello, world!"), chop)
        peer.fails(1002)


@cases({"5.15": 0})
def test_reject_a_continuation_behind_a_message(subject: Subject, case: int) -> None:
    with subject.peer() as peer:
        good = peer.wire(TEXT, ONE, fin=False) + peer.wire(CONT, TWO)
        bad = peer.wire(CONT, b"fragment3", fin=False)
        peer.write(good + bad + peer.wire(TEXT, b"fragment4"))
        peer.gets(Message(TEXT, ONE + TWO))
        peer.fails(1002)


@cases({"5.16": False, "5.17": True})
def test_reject_continuations_of_nothing_again_and_again(
    subject: Subject, case: bool
) -> None:
    with subject.peer() as peer:
        for _ in range(2):
            peer.send(CONT, ONE, fin=case)
            peer.send(TEXT, TWO, fin=False)
            peer.send(CONT, b"fragment3")
        peer.fails(1002)


@cases({"5.18": 0})
def test_reject_a_message_inside_another(subject: Subject, case: int) -> None:
    with subject.peer() as peer:
        peer.send(TEXT, ONE, fin=False)
        peer.send(TEXT, TWO)
        peer.fails(1002)


@cases({"5.19": 0, "5.20": 1})
def test_ping_is_answered_before_the_message_ends(subject: Subject, case: int) -> None:
    with subject.peer() as peer:
        pieces: list[Any] = [b"fragment%d" % number for number in range(1, 6)]
        peer.write(
            peer.wire(TEXT, pieces[0], fin=False)
            + peer.wire(CONT, pieces[1], fin=False)
            + peer.wire(PING, b"pongme 1!"),
            case,
        )
        peer.gets(Control(PONG, b"pongme 1!"))
        peer.write(
            peer.wire(CONT, pieces[2], fin=False)
            + peer.wire(CONT, pieces[3], fin=False)
            + peer.wire(PING, b"pongme 2!")
            + peer.wire(CONT, pieces[4]),
            case,
        )
        peer.gets(Control(PONG, b"pongme 2!"), Message(TEXT, b"".join(pieces)))
        peer.closes()


@pytest.mark.parametrize("count", [100])
def test_empty_fragments_are_nothing(subject: Subject, count: int) -> None:
    """Beyond the suite: any number of them, everywhere in a message."""
    with subject.peer() as peer:
        empty = peer.wire(CONT, fin=False) * count
        data = peer.wire(TEXT, fin=False) + empty
        data += peer.wire(CONT, ONE, fin=False) + empty + peer.wire(CONT)
        peer.write(data)
        peer.gets(Message(TEXT, ONE))
        peer.closes()
