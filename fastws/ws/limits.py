"""The limits of one WebSocket."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypedDict

from fastws import _consts
from fastws.typing import LoggerLike
from fastws.wire.head import is_token

MaxQueue: TypeAlias = int | tuple[int | None, int | None] | None
"""Messages at which reading stops, and those at which it goes on (a quarter)."""

NO_LIMIT = 86400.0
"""Seconds of a handshake whose time limit is ``None``."""

_ANY_NUMBER = 1 << 62


@dataclass(frozen=True, slots=True)
class Options:
    """Limits of one connection. Bytes and seconds; names as in ``websockets``.

    Attributes:
        max_size: one incoming message, decompressed; ``None``: unlimited.
        ping_interval: between pings; ``None`` or 0: none.
        ping_timeout: silence after a ping that ends the connection; ``None``: never.
        close_timeout: from our Close until the connection is cut; ``None``: never.
        write_limit: unsent bytes from which the handler is asked to pause.
        max_unsent: unsent bytes at which a peer that does not read is cut off.
    """

    max_size: int | None = _consts.MAX_INCOMING
    ping_interval: float | None = _consts.PING
    ping_timeout: float | None = _consts.PING_DEADLINE
    close_timeout: float | None = 10.0
    write_limit: int = 64 * 1024
    max_unsent: int = 64 * 1024 * 1024

    granularity: float = field(init=False)
    """Seconds between two looks at a connection that waits for something."""

    def __post_init__(self) -> None:
        times = [self.close_timeout or 0.0]
        if self.ping_interval:
            times += [self.ping_interval, self.ping_timeout or 4.0]
        steps = [t / 4 for t in times if t > 0]
        object.__setattr__(self, "granularity", min([1.0, *steps]))


DEFAULTS = Options()


class Limits(TypedDict, total=False):
    """:class:`Options` as keywords; pairs are those of :func:`plain_limits`."""

    max_size: int | tuple[int | None, int | None] | None
    ping_interval: float | None
    ping_timeout: float | None
    close_timeout: float | None
    write_limit: int | tuple[int, int | None]
    max_unsent: int


def water_marks(max_queue: MaxQueue) -> tuple[int, int]:
    """High and low water marks of the queue.

    Raises:
        ValueError: not 0 <= low <= high.
    """
    high, low = max_queue if isinstance(max_queue, tuple) else (max_queue, None)
    if high is None:
        high = _ANY_NUMBER
    if low is None:
        low = high // 4
    if not 0 <= low <= high:
        raise ValueError("max_queue: need 0 <= low <= high")
    return high, low


def names_of(subprotocols: Sequence[str] | None) -> tuple[str, ...]:
    """Several subprotocols.

    Raises:
        TypeError: it is one name, whose letters nobody means.
        ValueError: one of them is no token (RFC 6455 section 4.1).
    """
    if isinstance(subprotocols, str):
        raise TypeError("subprotocols must be a list of names, not a text")
    for name in subprotocols or ():
        if not is_token(name):
            raise ValueError(f"invalid subprotocol: {name!r}")
    return tuple(subprotocols or ())


def logger_of(logger: "LoggerLike | None") -> LoggerLike:
    """Where log lines go: by default to that of the library."""
    return logging.getLogger("fastws.ws") if logger is None else logger


def options_of(limits: dict[str, Any]) -> Options:
    """The options that ``limits`` name.

    Raises:
        TypeError: one of them is none; said without a name that nobody wrote.
    """
    try:
        return Options(**limits)
    except TypeError:
        unknown = [name for name in limits if name not in Limits.__annotations__]
        if not unknown:
            raise
        raise TypeError(f"unexpected keyword argument {unknown[0]!r}") from None


def plain_limits(limits: dict[str, Any]) -> dict[str, Any]:
    """Limits without the pairs that ``websockets`` takes: the first one counts.

    Of ``max_size`` the second is a limit of fragments, which are never kept here;
    of ``write_limit`` it is a low-water mark, which is 0 here.
    """
    return {
        name: value[0] if isinstance(value, tuple) else value
        for name, value in limits.items()
    }
