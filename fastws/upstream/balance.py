"""Which of several upstreams takes the next connection. Pure: no clock, no I/O."""

from collections.abc import Iterable
from typing import Generic, TypeVar

from fastws.upstream.health import REST, Health

T = TypeVar("T")


class Member(Generic[T]):
    """One upstream of a balancer.

    Attributes:
        item: what stands for it.
        active: connections to it, those being dialled with them.
        health: whether it rests.
        turn: when it was last chosen, counted in choices.
    """

    __slots__ = ("active", "health", "item", "turn")

    def __init__(self, item: T, rest: float = REST) -> None:
        self.item = item
        self.active = 0
        self.health = Health(rest)
        self.turn = 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.item!r} active={self.active}>"


class Balancer(Generic[T]):
    """Least connections first; of equals, the one that was chosen longest ago.

    Those that rest come last, the one whose rest ends first before the others: they
    are tried only when nothing else is left. For use by one event loop.

    Args:
        items: at least one.
        rest: seconds that a failed one is left alone.

    Attributes:
        members: in the order of ``items``.
    """

    __slots__ = ("_turn", "members")

    def __init__(self, items: Iterable[T], rest: float = REST) -> None:
        self.members = [Member(item, rest) for item in items]
        if not self.members:
            raise ValueError("nothing to balance")
        self._turn = 0

    def order(self, now: float) -> list[Member[T]]:
        """All members, in the order in which to try them at ``now``."""
        awake: list[Member[T]] = []
        resting: list[Member[T]] = []
        for member in self.members:
            (resting if member.health.is_resting(now) else awake).append(member)
        awake.sort(key=lambda member: (member.active, member.turn))
        resting.sort(key=lambda member: member.health.rests_until)
        return awake + resting

    def take(self, member: Member[T]) -> None:
        """``member`` gets a connection; :meth:`release` it when that has ended."""
        self._turn += 1
        member.turn = self._turn
        member.active += 1

    def release(self, member: Member[T]) -> None:
        """A connection of ``member`` has ended, or never came about."""
        member.active -= 1
