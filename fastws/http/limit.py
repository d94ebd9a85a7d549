"""How many connections one address may have at once."""

from fastws.wire.forwarded import network_of


class PerAddress:
    """Counts connections by client address. One task at a time.

    An IPv6 client is counted with all of its /64. Memory: one entry for each address
    that has a connection.

    Args:
        limit: connections of one address, at least 1.
    """

    __slots__ = ("_open", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._open: dict[str, int] = {}

    def take(self, host: str) -> str | None:
        """Count one more; ``None`` when the limit is reached.

        Returns:
            What :meth:`drop` is to be called with when the connection has ended.
        """
        name = network_of(host)
        count = self._open.get(name, 0)
        if count >= self.limit:
            return None
        self._open[name] = count + 1
        return name

    def drop(self, name: str) -> None:
        """Count one less."""
        count = self._open[name] - 1
        if count:
            self._open[name] = count
        else:
            del self._open[name]
