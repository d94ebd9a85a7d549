"""Connections as they are planned, and how each has to look afterwards."""

import random
from dataclasses import dataclass, replace
from enum import Enum

from tests.support.frontend import Book, End
from tests.support.ledger import ENDLESS, Part, Side

HEAD = 8  # bytes: the number of the visit comes before the client's stream


class Ending(Enum):
    """How a connection is to end."""

    ORDER = "in order"
    RESET = "reset by the client"
    FAIL = "reset by the service"
    KNOCK = "reset at once"
    VANISH = "client vanished while it was sent to"
    FADE = "client vanished in silence"
    DARK = "path went dark"


USUAL = {Ending.ORDER: 70, Ending.RESET: 14, Ending.FAIL: 10, Ending.KNOCK: 6}
"""What clients do by themselves, and how often."""

FIRST = 20
"""Visits among which each of these is sure to be."""


@dataclass(slots=True)
class Visit:
    """One connection: what both sides do, and what became of it.

    Attributes:
        number: of the client's stream; the service's is one more.
        after: seconds until it is broken.
        who: the client's address as logs have it.
        near: the client's side, once connected.
        far: the service's side, once it has the number.
        is_served: the service is done with it.
    """

    number: int
    ending: Ending
    client: Part
    service: Part
    after: float = 0.0
    who: str = ""
    near: Side | None = None
    far: Side | None = None
    is_served: bool = False

    def check(self, near: End | None, far: End | None) -> str:
        """What is wrong with it, given the lines of stw and wts; empty if nothing."""
        if self.ending is Ending.KNOCK:
            lines = [line for line in (near, far) if line is not None]
            return "in order" if any(line.in_order for line in lines) else ""
        if near is None or far is None or self.near is None:
            return "no line in a log"
        if self.ending is Ending.ORDER:
            return self._check_order(self.near, near, far)
        if near.in_order or far.in_order:
            return "in order"
        sent, received = self.near.sent + HEAD, self.near.received
        if not received <= near.out <= far.out:
            return "wrong count of bytes to the client"
        if not far.into <= near.into <= sent:
            return "wrong count of bytes from the client"
        return self._check_survivors(far)

    def _check_order(self, side: Side, near: End, far: End) -> str:
        other = self.far
        if other is None or not (near.in_order and far.in_order):
            return "not in order"
        if (side.outcome, other.outcome) != ("eof", "eof"):
            return "a side saw no end"
        moved = (side.received, other.received)
        if moved != (self.service.sends, self.client.sends):
            return "bytes are missing"
        counts = (self.client.sends + HEAD, self.service.sends)
        if (near.into, near.out) != counts or (far.into, far.out) != counts:
            return "a log counts other bytes"
        return ""

    def _check_survivors(self, line: End) -> str:
        """Who did not break it saw a reset, and no more than was sent."""
        side, other = self.near, self.far
        if other is not None:
            if not (other.received + HEAD <= line.into and line.out <= other.sent):
                return "the service has other counts"
            if self.ending is not Ending.FAIL and other.outcome != "reset":
                return "the service saw no reset"
        if self.ending in (Ending.FAIL, Ending.DARK):
            if side is None or side.outcome != "reset":
                return "the client saw no reset"
        return ""


class Plans:
    """What clients do next; seed and number decide it.

    Attributes:
        visits: all so far, by number.
    """

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self.visits: dict[int, Visit] = {}

    def next(self, ending: Ending | None = None) -> Visit:
        """One more visit; what its client chooses if ``ending`` is not given."""
        number = 2 * len(self.visits)
        rng = random.Random(f"{self._seed} {number}")
        if ending is None and len(self.visits) < FIRST:
            ending = list(USUAL)[len(self.visits) % len(USUAL)]
        elif ending is None:
            (ending,) = rng.choices(list(USUAL), list(USUAL.values()))
        client, service = some_part(rng), some_part(rng)
        if ending is Ending.ORDER:
            late = rng.choice(("client", "service", "", "", "", ""))
            client = replace(client, waits=late == "client")
            service = replace(service, waits=late == "service")
        elif ending in (Ending.DARK, Ending.FADE):
            client = Part(rng.randrange(1000), ends=False)
            service = Part(rng.randrange(1000), ends=False)
        else:
            service = replace(service, sends=ENDLESS)
            if rng.random() < 0.5:
                client = replace(client, sends=ENDLESS)
        after = rng.choice((0.0, rng.uniform(0, 0.05), rng.uniform(0, 0.5)))
        visit = Visit(number, ending, client, service, after)
        self.visits[number] = visit
        return visit


def some_part(rng: random.Random) -> Part:
    """Up to 8 MiB, a short stream as likely as a long one; one in four stalls."""
    return Part(
        sends=int(2 ** rng.uniform(0, 23)) - 1,
        stall_at=rng.randrange(1 << 20),
        stall=rng.choice((0.0, 0.0, 0.0, rng.uniform(0.05, 1.5))),
    )


def judge(visits: list[Visit], near: Book, far: Book) -> list[str]:
    """What is wrong in all of it; each line of a log belongs to one visit."""
    waiting = {who: list(ends) for who, ends in near.by_client.items()}
    other = {end.id: end for end in far.ends}
    wrong = []
    if len(other) != len(far.ends):
        wrong.append("an id occurs twice")
    for visit in visits:
        if not visit.who:
            continue
        lines = waiting.get(visit.who, [])
        # A client that resets leaves its port to the next one before its line is there.
        fits = [line for line in lines if not visit.check(line, other.get(line.id))]
        line = next(iter(fits or lines), None)
        match = None
        if line is not None:
            lines.remove(line)
            match = other.pop(line.id, None)
        if problem := visit.check(line, match):
            wrong.append(f"{problem}: {visit}, {line}, {match}")
    wrong += [f"nobody's line: {end}" for ends in waiting.values() for end in ends]
    wrong += [f"nobody's line: {end}" for end in other.values()]
    return wrong
