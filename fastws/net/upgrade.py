"""The opening handshake over a transport, both sides: HTTP in, WebSocket out.

Source: RFC 6455 section 4; the rules stand in :mod:`fastws.wire.handshake`, this
module waits for heads, keeps the time limits and ends connections that got an answer
other than 101 so that the answer arrives.
"""

import asyncio
import os
from collections.abc import Sequence

from fastws._backend import default_keys, encode_frame
from fastws._consts import OP_TEXT, Side
from fastws.exceptions import DialTimeout, InvalidStatus, RemoteProtocolError
from fastws.net import sockopt
from fastws.net.stream import ByteStream, Hold, Kind
from fastws.net.websocket import Peer, WebSocketStream
from fastws.typing import HeaderList
from fastws.wire import announce
from fastws.wire.handshake import build_upgrade, check_answer, make_key
from fastws.wire.head import Head
from fastws.wire.http1 import HeadReader

_KEY = make_key(bytes(16))
_ID = "0" * 16
_BODY_WAIT = 1.0  # seconds for the first line of a refusal's body
_BODY_MAX = 4096


class HeadHold(Hold):
    """Reads one HTTP head, then parks the transport with what came after it.

    Attributes:
        head: the head once it is complete.
    """

    __slots__ = ("_error", "_reader", "_waiter", "head")

    def __init__(self, side: Side = Side.SERVER) -> None:
        super().__init__()
        self.head: Head | None = None
        self._reader: HeadReader | None = HeadReader(side)
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        if reader is None:
            super().data_received(data)
            self._wake()
            return
        try:
            self.head = reader.receive_data(data)
        except RemoteProtocolError as error:
            self._error = error
        if self.head is not None or self._error is not None:
            self._reader = None
            self.leftover = reader.leftover
            if self.transport is not None:
                self.transport.pause_reading()
            self._wake()

    def eof_received(self) -> bool:
        self.eof = True
        self._end()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._end()

    def _end(self) -> None:
        if self._reader is not None and self._error is None:
            self._error = RemoteProtocolError("connection ended before the HTTP head")
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _expire(self) -> None:
        self._error = RemoteProtocolError("no HTTP head in time", http_status=408)
        self._wake()

    async def _wait(self, timeout: float) -> bool:
        """Wait for the next event; ``False`` when ``timeout`` seconds passed."""
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait_for(self._waiter, timeout)
        except TimeoutError:
            return False
        finally:
            self._waiter = None
        return True

    async def read_head(self, timeout: float) -> Head:
        """Wait for the head.

        Raises:
            RemoteProtocolError: no acceptable head came; ``http_status`` is 408 when
                nothing came within ``timeout`` seconds.
        """
        if self.head is None and self._error is None:
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            timer = loop.call_later(timeout, self._expire)
            try:
                await self._waiter
            finally:
                timer.cancel()
                self._waiter = None
        self._reader = None
        if self._error is not None:
            raise self._error
        assert self.head is not None
        return self.head

    async def read_body_start(self) -> bytes:
        """A little of what follows the head: enough to quote its first line."""
        while self.transport is not None and not self.eof and not self.lost:
            if b"\n" in self.leftover.strip() or len(self.leftover) > _BODY_MAX:
                break
            self.transport.resume_reading()
            if not await self._wait(_BODY_WAIT):
                break
        return self.leftover[:_BODY_MAX]

    async def finish(self, answer: bytes, linger: float) -> None:
        """Send ``answer``, then read on until the peer closes, at most ``linger``.

        Closing at once would reset a peer that is still sending, and a reset
        destroys the answer on its way.
        """
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        transport.write(answer)
        if transport.can_write_eof():
            transport.write_eof()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + linger
        self._reader = None
        while not self.eof and not self.lost and loop.time() < deadline:
            self.leftover = b""
            transport.resume_reading()
            await self._wait(deadline - loop.time())
        transport.close()


class Upgrader:
    """Turns fresh upstream connections into WebSockets (client side).

    The request is built once; each connection gets a key and an ID of its own.

    Args:
        target: path and query of the request line.
        host: the Host field.
        origin: the Origin field.
        subprotocols: offered, in order.
        headers: further fields.
        fastws: announce this end.
        handshake_timeout: seconds until the answer's head is complete.
    """

    __slots__ = ("_request", "fastws", "handshake_timeout", "subprotocols")

    def __init__(
        self,
        target: str,
        host: str,
        *,
        origin: str | None = None,
        subprotocols: Sequence[str] = (),
        headers: HeaderList = (),
        fastws: bool = True,
        handshake_timeout: float,
    ) -> None:
        fields = list(headers)
        if fastws:
            fields.append((announce.HEADER, announce.format_offer(_ID)))
        self._request = build_upgrade(
            target,
            host,
            _KEY,
            origin=origin,
            subprotocols=subprotocols,
            headers=fields,
        )
        self.subprotocols = tuple(subprotocols)
        self.fastws = fastws
        self.handshake_timeout = handshake_timeout

    async def upgrade(self, stream: ByteStream, ident: str) -> WebSocketStream:
        """Do the opening handshake; ``stream`` is used up, also by a failure.

        Args:
            stream: a fresh connection.
            ident: 16 lower-case hex digits, the connection's ID in both logs.

        Raises:
            InvalidStatus: the server refused; its fields and first bytes are kept.
            RemoteProtocolError: the answer is no valid handshake.
            DialTimeout: no answer in time.
        """
        transport = stream.transport
        hold = HeadHold(Side.CLIENT)
        hold.transport = transport
        try:
            if stream.hold.lost:
                raise RemoteProtocolError("connection lost before the handshake")
            transport.set_protocol(hold)
            key = make_key(os.urandom(16))
            request = self._request.replace(_KEY.encode(), key.encode(), 1)
            transport.write(request.replace(_ID.encode(), ident.encode(), 1))
            if stream.hold.leftover:
                hold.data_received(stream.hold.leftover)
            transport.resume_reading()
            head = await self._read_answer(hold, key)
        except BaseException:
            sockopt.reset(transport)
            raise
        return self._opened(transport, stream.kind, hold, head, ident)

    async def _read_answer(self, hold: HeadHold, key: str) -> Head:
        try:
            head = await hold.read_head(self.handshake_timeout)
        except RemoteProtocolError as error:
            if error.http_status == 408:
                limit = f"{self.handshake_timeout:g} s"
                raise DialTimeout(f"no answer to the upgrade within {limit}") from None
            raise
        if head.status != 101:
            body = await hold.read_body_start()
            raise InvalidStatus(
                head.status or 0, head.reason, tuple(head.headers), body
            )
        check_answer(head, key, subprotocols=self.subprotocols)
        return head

    def _opened(
        self,
        transport: asyncio.Transport,
        kind: Kind,
        hold: HeadHold,
        head: Head,
        ident: str,
    ) -> WebSocketStream:
        peer = Peer.STRANGER
        answer = head.get_all(announce.HEADER)
        if self.fastws and answer and announce.check_answer(answer, ident):
            peer = Peer.FASTWS
            key = default_keys()()
            confirm = encode_frame(OP_TEXT, announce.SIGNAL_CONFIRM, key=key)
            transport.write(confirm)
        return WebSocketStream(transport, kind, hold, side=Side.CLIENT, peer=peer)
