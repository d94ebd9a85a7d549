"""Text is UTF-8, and fails at its first wrong byte: section 6 of the suite.

RFC 6455 section 8.1 and RFC 3629.
"""

from tests.support.autobahn import Message, Subject, cases, numbered, subjects
from tests.support.rawws import CONT, PING, PONG, TEXT, Frame

subject = subjects()

GREEK = "κ\u1f79σμε".encode()
BAD = GREEK + b"\xf4\x90\x80\x80" + b"edited"  # beyond U+10FFFF from the 2nd byte on
EURO = "Hello-µ@ßöäüàá-UTF-8!!".encode()


def is_text(data: bytes) -> bool:
    """What Python's own decoder says, which no twin uses for this."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def run(first: int, last: int, end: bytes = b"") -> bytes:
    """Every byte value of that range, each followed by ``end``."""
    return b"".join(bytes([value]) + end for value in range(first, last))


CUT = [b"\xc0", b"\xe0\x80", b"\xf0\x80\x80", b"\xf8" + b"\x80" * 3]
CUT += [b"\xfc" + b"\x80" * 4, b"\xdf", b"\xef\xbf", b"\xf7\xbf\xbf"]
CUT += [b"\xfb" + b"\xbf" * 3, b"\xfd" + b"\xbf" * 4]
HIGH = [b"\xed\xa0\x80", b"\xed\xad\xbf", b"\xed\xae\x80", b"\xed\xaf\xbf"]
LOW = [b"\xed\xb0\x80", b"\xed\xbe\x80", b"\xed\xbf\xbf"]
PLANES = [
    chr(plane << 16 | end).encode() for plane in range(1, 17) for end in (65534, 65535)
]

SEQUENCES: dict[str, list[bytes]] = {
    "6.5": [b"hello" + c.encode() + b"world" for c in "$¢€\U00024b62"] + [GREEK],
    "6.6": [GREEK[:size] for size in range(1, len(GREEK) + 1)],
    "6.7": [b"\0", "\u0080".encode(), "\u0800".encode(), "\U00010000".encode()],
    "6.8": [b"\xf8\x88" + b"\x80" * 3, b"\xfc\x84" + b"\x80" * 4],
    "6.9": [c.encode() for c in "\x7f\u07ff\uffff\U0010ffff"],
    "6.10": [b"\xf7" + b"\xbf" * 3, b"\xfb" + b"\xbf" * 4, b"\xfd" + b"\xbf" * 5],
    "6.11": [c.encode() for c in "\ud7ff\ue000\ufffd\U0010ffff"]
    + [b"\xf4\x90\x80\x80"],
    "6.12": [b"\x80", b"\xbf"]
    + [(b"\x80\xbf" * 3)[:size] for size in range(2, 7)]
    + [run(0x80, 0xBF)],
    "6.13": [
        run(first, last, b" ")
        for first, last in (
            (0xC0, 0xDF),
            (0xE0, 0xEF),
            (0xF0, 0xF7),
            (0xF8, 0xFB),
            (0xFC, 0xFD),
        )
    ],
    "6.14": CUT,
    "6.15": [b"".join(CUT)],
    "6.16": [b"\xfe", b"\xff", b"\xfe\xfe\xff\xff"],
    "6.17": [
        b"\xc0\xaf",
        b"\xe0\x80\xaf",
        b"\xf0\x80\x80\xaf",
        b"\xf8\x80\x80\x80\xaf",
        b"\xfc\x80\x80\x80\x80\xaf",
    ],
    "6.18": [
        b"\xc1\xbf",
        b"\xe0\x9f\xbf",
        b"\xf0\x8f\xbf\xbf",
        b"\xf8\x87\xbf\xbf\xbf",
        b"\xfc\x83\xbf\xbf\xbf\xbf",
    ],
    "6.19": [
        bytes([lead]) + b"\x80" * n for n, lead in enumerate(b"\xc0\xe0\xf0\xf8\xfc", 1)
    ],
    "6.20": HIGH + LOW,
    "6.21": [high + low for high in HIGH for low in (LOW[0], LOW[2])],
    "6.22": ["\ufffe".encode(), "\uffff".encode(), *PLANES],
    "6.23": [chr(point).encode() for point in range(0xFFF9, 0x10000)],
}
EVERY = {
    n: d
    for family, values in SEQUENCES.items()
    for n, d in numbered(family, values).items()
}


@cases({"6.1.1": 1, "6.1.2": 3})
def test_text_may_be_empty(subject: Subject, case: int) -> None:
    with subject.peer() as peer:
        for number in range(case):
            peer.send(CONT if number else TEXT, fin=number == case - 1)
        peer.gets(Message(TEXT, b""))
        peer.closes()


@cases({"6.1.3": b"middle frame payload"})
def test_fragments_of_text_may_be_empty(subject: Subject, case: bytes) -> None:
    with subject.peer() as peer:
        peer.send(TEXT, fin=False)
        peer.send(CONT, case, fin=False)
        peer.send(CONT)
        peer.gets(Message(TEXT, case))
        peer.closes()


@cases(
    {"6.2.1": (EURO, 0), "6.2.2": (EURO, 13), "6.2.3": (EURO, 1), "6.2.4": (GREEK, 1)}
)
def test_text_may_be_cut_anywhere(subject: Subject, case: tuple[bytes, int]) -> None:
    text, size = case
    with subject.peer() as peer:
        peer.write(peer.fragments(TEXT, text, size or len(text)))
        peer.gets(Message(TEXT, text))
        peer.closes()


@cases({"6.3.1": 0, "6.3.2": 1})
def test_reject_text_however_it_is_cut(subject: Subject, case: int) -> None:
    wrong = GREEK + b"\xed\xa0\x80" + b"edited"
    with subject.peer() as peer:
        peer.write(peer.fragments(TEXT, wrong, case or len(wrong)))
        peer.fails(1007)


@cases({"6.4.1": (11, 15), "6.4.2": (12, 13)})
def test_reject_text_at_its_first_bad_fragment(
    subject: Subject, case: tuple[int, int]
) -> None:
    """What is good so far is taken; the message does not go on before it fails."""
    first, second = case
    with subject.peer() as peer:
        peer.send(TEXT, BAD[:first], fin=False)
        assert peer.is_alive()
        peer.send(CONT, BAD[first:second], fin=False)
        peer.fails(1007)


@cases({"6.4.3": (11, 15), "6.4.4": (12, 13)})
def test_reject_text_at_its_first_bad_byte(
    subject: Subject, case: tuple[int, int]
) -> None:
    """The same inside of one frame, which does not go on either."""
    first, second = case
    with subject.peer() as peer:
        frame = peer.wire(TEXT, BAD)
        start = len(frame) - len(BAD)
        peer.write(frame[: start + first])
        assert peer.is_quiet()
        peer.write(frame[start + first : start + second])
        peer.fails(1007)


@cases(EVERY)
def test_text_is_utf8_or_refused(subject: Subject, case: bytes) -> None:
    with subject.peer() as peer:
        peer.send(TEXT, case)
        if is_text(case):
            peer.gets(Message(TEXT, case))
            peer.closes()
        else:
            peer.fails(1007)


def test_text_is_checked_within_every_kind_of_message(subject: Subject) -> None:
    """Beyond the suite: one good message clears nothing for the next."""
    with subject.peer() as peer:
        for _ in range(3):
            peer.send(TEXT, GREEK[:3], fin=False)
            peer.send(PING, b"\xff")
            peer.send(CONT, GREEK[3:])
            assert peer.frame() == Frame(PONG, b"\xff", masked=not subject.is_server)
            peer.gets(Message(TEXT, GREEK))
        peer.send(TEXT, GREEK[:-1])
        peer.fails(1007)
