"""The limits of one WebSocket."""

from dataclasses import dataclass, field

from fastws import _consts


@dataclass(frozen=True, slots=True)
class Options:
    """Limits of one connection. Bytes and seconds; names as in ``websockets``.

    Attributes:
        max_size: one incoming message, decompressed; ``None``: unlimited.
        ping_interval: between pings; ``None`` or 0: none.
        ping_timeout: silence after a ping that ends the connection; ``None``: never.
        close_timeout: from our Close until the connection is cut.
        write_limit: unsent bytes from which the handler is asked to pause.
        max_unsent: unsent bytes at which a peer that does not read is cut off.
    """

    max_size: int | None = _consts.MAX_INCOMING
    ping_interval: float | None = _consts.PING
    ping_timeout: float | None = _consts.PING_DEADLINE
    close_timeout: float = 10.0
    write_limit: int = 64 * 1024
    max_unsent: int = 64 * 1024 * 1024

    granularity: float = field(init=False)
    """Seconds between two looks at a connection that waits for something."""

    def __post_init__(self) -> None:
        times = [self.close_timeout]
        if self.ping_interval:
            times += [self.ping_interval, self.ping_timeout or 4.0]
        steps = [t / 4 for t in times if t > 0]
        object.__setattr__(self, "granularity", min([1.0, *steps]))


DEFAULTS = Options()
