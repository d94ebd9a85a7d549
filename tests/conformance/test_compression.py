"""permessage-deflate: sections 12 and 13 of the suite. RFC 7692."""

import json
import random
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.autobahn import Subject, cases, numbered, subjects
from tests.support.packing import Packing
from tests.support.rawws import BINARY, TEXT

subject = subjects("server-callbacks", "client-coroutines", compression="deflate")

COUNT = 3  # messages of a case; the suite: 1 000
SIZES = tuple((1 << bits, 0) for bits in (4, 6, 8, 10, 12, 13, 14, 15, 16, 17))
SIZES += tuple((1 << bits, 256) for bits in range(13, 18))
SIZES += tuple((1 << 17, cut) for cut in (1024, 4096, 32768))
"""Bytes of a message, and of one fragment: 0 for one frame."""

TOTAL = 1 << 18
WORDS = "habe nun ach philosophie juristerei und medizin durchaus studiert".split()


def prose(pick: random.Random) -> bytes:
    return " ".join(pick.choices(WORDS, k=TOTAL // 6)).encode()


def picture(pick: random.Random) -> bytes:
    rows = bytes(range(0, 256, 2)) + bytes(range(255, 0, -2))
    return b"".join(
        bytes((c + pick.randrange(3)) & 255 for c in rows) for _ in range(1030)
    )


def noise(pick: random.Random) -> bytes:
    return pick.randbytes(TOTAL)


def objects(pick: random.Random) -> bytes:
    rows = [
        {"id": n, "value": pick.random(), "name": pick.choice(WORDS)}
        for n in range(5000)
    ]
    return json.dumps(rows).encode()


def page(pick: random.Random) -> bytes:
    rows = (
        f'<tr><td class="c{pick.randrange(9)}">{pick.choice(WORDS)}</td></tr>\n'
        for _ in range(8000)
    )
    return "".join(rows).encode()


MADE: dict[Any, bytes] = {}


def content(make: Callable[[random.Random], bytes]) -> bytes:
    """Each kind is made once."""
    if make not in MADE:
        MADE[make] = make(random.Random(7))
        assert len(MADE[make]) >= TOTAL
    return MADE[make]


def echoes(
    subject: Subject, extensions: Any, opcode: int, data: bytes, how: tuple[int, int]
) -> Packing:
    """Packed messages come back packed, each as the one before it left the windows."""
    size, cut = how
    with subject.peer(extensions) as peer:
        fields = peer.opening.fields
        answer = fields["sec-websocket-extensions"]
        if not subject.is_server:
            answer = extensions(answer)
        packing = Packing(answer, is_client=subject.is_server)
        for number in range(COUNT):
            message = data[number * size : (number + 1) * size] or data[:size]
            packed = packing.pack(message)
            wire = bytearray(peer.fragments(opcode, packed, cut or len(packed)))
            wire[0] |= 0x40
            peer.write(bytes(wire))
            event: Any = peer.event()
            assert (event.opcode, event.rsv) == (opcode, 4)
            assert packing.unpack(event.payload) == message
        peer.closes()
    return packing


def plain_offer(subject: Subject) -> Any:
    """The suite's offer as a client; as a server, how it accepts ours."""
    if subject.is_server:
        return "permessage-deflate; client_no_context_takeover; client_max_window_bits"
    return lambda offer: "permessage-deflate"


KINDS = {
    "12.1": (prose, BINARY),
    "12.2": (picture, BINARY),
    "12.3": (noise, BINARY),
    "12.4": (objects, TEXT),
    "12.5": (page, TEXT),
}


@cases(
    {
        number: (make, opcode, how)
        for family, (make, opcode) in KINDS.items()
        for number, how in numbered(family, SIZES).items()
    }
)
def test_content_of_every_kind_comes_back_packed(subject: Subject, case: Any) -> None:
    make, opcode, how = case
    echoes(subject, plain_offer(subject), opcode, content(make), how)


# Whether the far end asks us to forget each message, and to keep to that window.
TERMS: dict[str, tuple[bool, int]] = {
    "13.1": (False, 0),
    "13.2": (True, 0),
    "13.3": (False, 8),
    "13.4": (False, 15),
    "13.5": (True, 8),
    "13.6": (True, 15),
    "13.7": (True, 8),  # the first of three offers
}


def terms_for(side: str, forgets: bool, bits: int) -> str:
    text = f"; {side}_no_context_takeover" if forgets else ""
    return text + (f"; {side}_max_window_bits={bits}" if bits else "")


@cases(
    {
        number: (family, *terms, how)
        for family, terms in TERMS.items()
        for number, how in numbered(family, SIZES).items()
    }
)
def test_terms_of_the_other_side_are_kept(subject: Subject, case: Any) -> None:
    family, forgets, bits, how = case
    data = content(objects)
    if not subject.is_server:
        answer = "permessage-deflate" + terms_for("client", forgets, bits)
        packing = echoes(subject, lambda offer: answer, TEXT, data, how)
    else:
        base = plain_offer(subject)
        offers = [base + terms_for("server", forgets, bits)]
        if family == "13.7":
            offers += [base + terms_for("server", True, 0), base]
        packing = echoes(subject, ", ".join(offers), TEXT, data, how)
    assert packing.in_forgets is forgets
    assert packing.in_bits <= (bits or 15)


def test_client_alone_says_whether_its_window_may_be_limited(
    subject: Subject,
) -> None:
    """Beyond the suite: ours says so, and a server of ours leaves it out if not."""
    ours: Any = "permessage-deflate"
    with subject.peer(ours if subject.is_server else lambda offer: ours) as peer:
        said = peer.opening.fields["sec-websocket-extensions"]
        assert ("client_max_window_bits" in said) is not subject.is_server
        peer.closes()


def test_window_of_8_bits_is_meant() -> None:
    """The far end of these tests fails what was packed with a larger one."""
    block = random.Random(3).randbytes(400)
    packed = Packing("permessage-deflate; server_max_window_bits=10", is_client=False)
    strict = Packing("permessage-deflate; server_max_window_bits=8", is_client=True)
    with pytest.raises(zlib.error, match="invalid distance"):
        strict.unpack(packed.pack(block * 2))
