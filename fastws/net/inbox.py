"""A parked transport that one task reads from, and can answer before it closes."""

import asyncio

from fastws.net.stream import ByteStream, Hold, write_last


class Inbox(Hold):
    """Hands what comes to the one task that waits for it.

    Memory: one read; the transport is paused while nobody waits.
    """

    __slots__ = ("_waiter",)

    def __init__(self) -> None:
        super().__init__()
        self._waiter: asyncio.Future[None] | None = None

    @classmethod
    def take(cls, stream: ByteStream) -> "Inbox":
        """Become the protocol of a parked stream, with what that has read already."""
        old, inbox = stream.hold, cls()
        inbox.peer, inbox.leftover = old.peer, old.leftover
        inbox.eof, inbox.lost, inbox.error = old.eof, old.lost, old.error
        if not old.lost:
            inbox.transport = stream.transport
            stream.transport.set_protocol(inbox)
        stream.hold = inbox
        return inbox

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._wake()

    def eof_received(self) -> bool:
        self._wake()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def receive(self) -> bytes:
        """The next bytes, empty at the end."""
        if not (self.leftover or self.eof or self.lost):
            self._waiter = asyncio.get_running_loop().create_future()
            if self.transport is not None:
                self.transport.resume_reading()
            try:
                await self._waiter
            finally:
                self._waiter = None
        data, self.leftover = self.leftover, b""
        return data

    async def finish(self, answer: bytes, linger: float) -> None:
        """Send ``answer``, then read on until the peer ends, at most ``linger`` s.

        Closing at once would reset a peer that is still sending, and a reset
        destroys the answer on its way.
        """
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        write_last(transport, answer)
        try:
            async with asyncio.timeout(linger):
                while not self.eof and not self.lost and not transport.is_closing():
                    await self.receive()
        except TimeoutError:
            pass
        transport.close()
