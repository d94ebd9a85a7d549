"""Long messages, many fragments, many messages: sections 9 and 10 of the suite."""

from tests.support.autobahn import Message, Subject, cases, numbered, subjects
from tests.support.rawws import BINARY, TEXT

subject = subjects()

KIB, MIB = 1024, 1024 * 1024
SIZES = (64 * KIB, 256 * KIB, MIB, 4 * MIB, 8 * MIB, 16 * MIB)
FRAGMENTS = (64, 256, KIB, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB, 4 * MIB)
CHOPS = (64, 128, 256, 512, 1024, 2048)
ROUNDS = (0, 16, 64, 256, 1024, 4096)
COUNT = 100  # the suite: 1 000


def _content(size: int) -> bytes:
    """Text in which most offsets differ."""
    return (b"0123456789abcdefghijklmnopqrstuvwxyz-" * (size // 37 + 1))[:size]


def _comes_back(subject: Subject, opcode: int, size: int, *, chop: int = 0) -> None:
    data = _content(size)
    with subject.peer() as peer:
        peer.send(opcode, data, chop=chop)
        peer.gets(Message(opcode, data))
        peer.closes()


def _comes_back_whole(subject: Subject, opcode: int, size: int, cut: int) -> None:
    data = _content(size)
    with subject.peer() as peer:
        peer.write(peer.fragments(opcode, data, cut))
        peer.gets(Message(opcode, data))
        peer.closes()


def _comes_back_often(subject: Subject, opcode: int, size: int) -> None:
    data = _content(size)
    with subject.peer() as peer:
        for _ in range(COUNT):
            peer.send(opcode, data)
            peer.gets(Message(opcode, data))
        peer.closes()


@cases(numbered("9.1", SIZES), slow=("9.1.5", "9.1.6"))
def test_long_text(subject: Subject, case: int) -> None:
    _comes_back(subject, TEXT, case)


@cases(numbered("9.2", SIZES), slow=("9.2.5", "9.2.6"))
def test_long_binary(subject: Subject, case: int) -> None:
    _comes_back(subject, BINARY, case)


@cases(numbered("9.3", FRAGMENTS))
def test_text_in_many_fragments(subject: Subject, case: int) -> None:
    _comes_back_whole(subject, TEXT, 4 * MIB, case)


@cases(numbered("9.4", FRAGMENTS))
def test_binary_in_many_fragments(subject: Subject, case: int) -> None:
    _comes_back_whole(subject, BINARY, 4 * MIB, case)


@cases(numbered("9.5", CHOPS))
def test_text_in_many_segments(subject: Subject, case: int) -> None:
    _comes_back(subject, TEXT, MIB, chop=case)


@cases(numbered("9.6", CHOPS))
def test_binary_in_many_segments(subject: Subject, case: int) -> None:
    _comes_back(subject, BINARY, MIB, chop=case)


@cases(numbered("9.7", ROUNDS))
def test_text_to_and_fro(subject: Subject, case: int) -> None:
    _comes_back_often(subject, TEXT, case)


@cases(numbered("9.8", ROUNDS))
def test_binary_to_and_fro(subject: Subject, case: int) -> None:
    _comes_back_often(subject, BINARY, case)


@cases({"10.1.1": (64 * KIB, 1300)})
def test_message_that_a_library_fragments(
    subject: Subject, case: tuple[int, int]
) -> None:
    size, cut = case
    _comes_back_whole(subject, TEXT, size, cut)
