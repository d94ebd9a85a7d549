"""What a pool is told and what it tells: limits, waiters and decisions."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from fastws.exceptions import DialError

ConnT = TypeVar("ConnT")


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """How large, how old and how patient. Seconds; a time of 0 is no limit.

    Attributes:
        max_idle: idle connections that are kept.
        max_total: connections in all: idle, borrowed and being opened.
        max_opening: handshakes at the same time.
        min_idle: idle connections that are opened ahead of need.
        idle_time: an idle connection is closed after this.
        max_age: and any connection this long after it was opened, when idle.
        age_jitter: share of ``max_age`` by which it varies, 0 to 1, downwards.
        attempts: handshakes that may fail for one waiter; the last error is its own.
            :class:`fastws.exceptions.Denied` is an answer: no further one after it.
        retry_delay: before the second one; three times as long before each further.
        probe_time: within which a doubted connection has to prove itself.
    """

    max_idle: int = 10
    max_total: int = 1024
    max_opening: int = 16
    min_idle: int = 0
    idle_time: float = 60.0
    max_age: float = 600.0
    age_jitter: float = 0.1
    attempts: int = 3
    retry_delay: float = 0.2
    probe_time: float = 5.0

    def __post_init__(self) -> None:
        if self.max_total < 1 or self.max_opening < 1 or self.attempts < 1:
            raise ValueError("max_total, max_opening and attempts are at least 1")
        if not 0 <= self.min_idle <= self.max_idle:
            raise ValueError("need 0 <= min_idle <= max_idle")


class Waiter(Generic[ConnT]):
    """Somebody who wants a connection, or has got one.

    Attributes:
        connection: it is this waiter's since it is set; release it when done.
        error: why there is none; set once.
        is_fresh: the connection was opened for this waiter: never used, never idle.
        deadline: clock time of the last moment to wait.
        failures: handshakes that failed for it.
        last_error: of these.
    """

    __slots__ = (
        "connection",
        "deadline",
        "error",
        "failures",
        "is_fresh",
        "last_error",
        "retry_at",
        "ticket",
        "wants_fresh",
    )

    def __init__(self, deadline: float, wants_fresh: bool) -> None:
        self.connection: ConnT | None = None
        self.error: DialError | None = None
        self.is_fresh = False
        self.deadline = deadline
        self.wants_fresh = wants_fresh
        self.failures = 0
        self.last_error: DialError | None = None
        self.retry_at = 0.0
        self.ticket = 0  # of the handshake that is counted for it; 0: none

    @property
    def is_waiting(self) -> bool:
        """Neither a connection nor an error is there."""
        return self.connection is None and self.error is None


class Decision(Generic[ConnT]):
    """What has to be done now, in this order.

    Attributes:
        closes: connections that are not the pool's any more.
        wakes: waiters whose connection or error has just been set.
        opens: tickets: begin one handshake for each, and report
            :meth:`PoolState.opened` or ``failed``.
        probes: idle connections to check: report :meth:`PoolState.proved` or ``lost``.
    """

    __slots__ = ("closes", "opens", "probes", "wakes")

    def __init__(self) -> None:
        self.closes: list[ConnT] = []
        self.wakes: list[Waiter[ConnT]] = []
        self.opens: list[int] = []
        self.probes: list[ConnT] = []

    def __repr__(self) -> str:
        parts = (f"{name}={getattr(self, name)}" for name in self.__slots__)
        return f"<Decision {' '.join(parts)}>"
