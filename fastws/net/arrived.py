"""A :class:`HeadHold` that knows how its connection began, and can send at length.

For listeners with a PROXY protocol, plain clients on a TLS port, or files to serve;
all others do with the plain one.
"""

import asyncio

from fastws.exceptions import RemoteProtocolError
from fastws.net.prelude import NO_ARRIVAL, Arrival, ProxyRule
from fastws.net.upgrade import HeadHold


class ArrivedHold(HeadHold):
    """Reads a PROXY header and one HTTP head, then parks the transport.

    Args:
        rule: for a header in front of the head; ``None``: there is none, or it was
            read off the socket already.

    Attributes:
        arrival: what came first. Also set by a listener with a prelude.
    """

    __slots__ = ("_early", "_flow", "_rule", "arrival")

    def __init__(self, rule: ProxyRule | None = None) -> None:
        super().__init__()
        self.arrival = NO_ARRIVAL
        self._rule = rule
        self._early = b""
        self._flow: asyncio.Future[None] | None = None

    def data_received(self, data: bytes) -> None:
        if self._rule is not None and self._error is None:
            data = self._after_header(self._early + data, self._rule)
            if not data:
                return
        super().data_received(data)

    def _after_header(self, data: bytes, rule: ProxyRule) -> bytes:
        """Cut the PROXY header off; nothing is left while it is incomplete."""
        peer = None
        if self.transport is not None:
            peer = self.transport.get_extra_info("peername")
        try:
            header = rule.read(data, peer[0] if isinstance(peer, tuple) else "")
        except RemoteProtocolError as error:
            self._error = error
            self._reader = None
            if self.transport is not None:
                self.transport.pause_reading()
            self._wake()
            return b""
        if header is None:
            self._early = data
            return b""
        self._rule, self._early = None, b""
        self.arrival = Arrival(header)
        return data[header.size :]

    def _expire(self, timeout: float) -> None:
        super()._expire(timeout)
        if self._rule is not None and (self._rule.required or self._early):
            limit = f"{timeout:g} s (--handshake-timeout)"
            self._error = RemoteProtocolError(
                f"no whole PROXY header within {limit}", http_status=408
            )

    # -- sending more than the transport takes at once ------------------------------

    def pause_writing(self) -> None:
        if self._flow is None:
            self._flow = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        flow, self._flow = self._flow, None
        if flow is not None and not flow.done():
            flow.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.resume_writing()

    async def drain(self, timeout: float) -> bool:
        """Wait until the transport takes more; ``False``: lost, or not in time."""
        if self._flow is not None:
            try:
                await asyncio.wait_for(self._flow, timeout)
            except TimeoutError:
                return False
        return not self.lost
