"""The far end of datagrams in a pooled WebSocket: from there to their targets.

Source: docs/pool.md. The way out judges and counts each datagram.
"""

import asyncio

from fastws.net.pool_udp import PooledDatagrams
from fastws.net.pooled import PooledSocket, Request
from fastws.proxy.outgoing import DatagramWay, Outgoing
from fastws.proxy.udp import describe_denied


class Exchange:
    """One client's datagrams, until it ends them.

    Args:
        idle: seconds without a datagram after which it is ended here, 0 for any.

    Attributes:
        bytes_in: payload that came from the client.
        bytes_out: payload that was sent to it.
    """

    __slots__ = ("_client", "_idle", "_seen", "_way")

    def __init__(self, idle: float) -> None:
        self._idle = idle
        self._client: PooledDatagrams | None = None
        self._way: DatagramWay | None = None
        self._seen = 0

    async def open(
        self, socket: PooledSocket, request: Request, outgoing: Outgoing
    ) -> bool:
        """Answer the client; false if it waits no longer.

        Args:
            socket: that asks.
            request: for datagrams.
            outgoing: the way to the targets.

        Raises:
            DialError: there is no way; the client has no answer yet.
        """
        way = self._way = await outgoing.associate(self._to_client)
        self._client = socket.accept_datagrams(request, way.send)
        if self._client is None:
            way.close()
        return self._client is not None

    def _to_client(self, host: str, port: int, payload: memoryview) -> None:
        if self._client is not None:
            self._client.send(host, port, payload)

    async def run(self) -> None:
        """Pass datagrams on until either side has ended; both are closed then."""
        client, way = self._client, self._way
        assert client is not None
        assert way is not None
        limit = self._idle or None
        try:
            while not client.done.done() and not way.done.done():
                both = client.done, way.done
                await asyncio.wait(both, timeout=limit, return_when="FIRST_COMPLETED")
                count = client.received + client.sent
                if count == self._seen and limit is not None:
                    break
                self._seen = count
        finally:
            client.close()
            way.close()

    @property
    def bytes_in(self) -> int:
        return self._client.bytes_in if self._client is not None else 0

    @property
    def bytes_out(self) -> int:
        return self._client.bytes_out if self._client is not None else 0

    def __str__(self) -> str:
        client, way = self._client, self._way
        if client is None or way is None:
            return "0 datagrams"
        text = f"{client.received} datagrams received, {client.sent} sent"
        text += f", {client.dropped + way.dropped} dropped{describe_denied(way)}"
        reason = client.done.result() if client.done.done() else ""
        return f"{text}: {reason}" if reason else text
