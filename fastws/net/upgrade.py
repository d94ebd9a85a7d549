"""The opening handshake over a transport, both sides: HTTP in, WebSocket out.

Source: RFC 6455 section 4; the rules stand in :mod:`fastws.wire.handshake`, this
module waits for heads, keeps the time limits and ends connections that got an answer
other than 101 so that the answer arrives.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from functools import partial

from fastws._backend import default_keys, encode_frame
from fastws._consts import OP_TEXT, Side
from fastws.exceptions import DialTimeout, InvalidStatus, RemoteProtocolError
from fastws.net import sockopt
from fastws.net.deadlines import Limit, start_limit
from fastws.net.stream import ByteStream, Hold, Kind, write_last
from fastws.net.websocket import Peer, WebSocketStream
from fastws.typing import HeaderList
from fastws.wire import announce
from fastws.wire.body import BodyReader, response_extent
from fastws.wire.handshake import build_upgrade, check_answer, make_key
from fastws.wire.head import Head
from fastws.wire.http1 import HeadReader

_KEY = make_key(bytes(16)).encode()
_KEY_NAME = b"\r\nSec-WebSocket-Key: "
_ID = "0" * 16
NO_HEAD = "closed before a whole HTTP head came"
_BODY_WAIT = 1.0  # seconds for the first line of a refusal's body
_BODY_MAX = 4096
_BODY_TIME = 5.0  # seconds for all of a body that somebody wants to have
_AT_ONCE = 0.05  # seconds that a head may be late without starting earlier


class HeadHold(Hold):
    """Reads one HTTP head, then parks the transport with what came after it.

    Attributes:
        head: the head once it is complete.
    """

    __slots__ = ("_error", "_reader", "_since", "_waiter", "head")

    def __init__(self, side: Side = Side.SERVER) -> None:
        super().__init__()
        self._since = asyncio.get_running_loop().time()  # TLS comes after this
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
        keep_open = super().eof_received()
        self._end()
        return keep_open

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._end()

    def _end(self) -> None:
        if self._reader is not None and self._error is None:
            self._error = RemoteProtocolError(NO_HEAD)
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _expire(self, timeout: float) -> None:
        limit = f"{timeout:g} s (--handshake-timeout)"
        self._error = RemoteProtocolError(
            f"no whole HTTP head within {limit}", http_status=408
        )
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

        Args:
            timeout: seconds since this object was made, a TLS handshake included.

        Raises:
            RemoteProtocolError: no acceptable head came; ``http_status`` is 408 when
                it was not complete in time.
        """
        if self.head is None and self._error is None:
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            late = loop.time() - self._since  # all of TLS; else nothing to speak of
            expire = partial(self._expire, timeout)
            timer: Limit | asyncio.TimerHandle
            if late < _AT_ONCE:
                timer = start_limit(loop, timeout, expire)
            else:
                timer = loop.call_later(timeout - late, expire)
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

    async def read_body_start(self, head: Head) -> bytes:
        """A little of the body behind ``head``: enough to quote its first line.

        Waits for it no longer than a second, and not for more than there is.
        """
        length = head.get("content-length") or ""
        enough = min(int(length), _BODY_MAX) if length.isdecimal() else _BODY_MAX
        # A chunk starts with a line that says how long it is (RFC 9112 section 7.1).
        is_chunked = head.has_token("transfer-encoding", "chunked")
        while self.transport is not None and not self.eof and not self.lost:
            lines = self.leftover.strip().count(b"\n")
            if lines > is_chunked or len(self.leftover) >= enough:
                break
            self.transport.resume_reading()
            if not await self._wait(_BODY_WAIT):
                break
        body = self.leftover[:_BODY_MAX]
        return body.partition(b"\n")[2] if is_chunked else body

    async def read_body(self, head: Head, most: int, timeout: float) -> bytes:
        """The body behind ``head`` without its framing, or what came of it in time.

        Args:
            head: of the answer to a GET.
            most: bytes of a longer body.
            timeout: seconds for all of it; a second of silence is its end too.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        body = bytearray()
        with contextlib.suppress(RemoteProtocolError):  # where its framing is broken
            reader = BodyReader(response_extent(head, "GET"))
            while not reader.is_complete and len(body) < most:
                data, self.leftover = self.leftover, b""
                if data:
                    for piece in reader.receive_data(data):
                        body += piece
                    continue
                if self.transport is None or self.eof or self.lost:
                    break
                self.transport.resume_reading()
                if not await self._wait(min(_BODY_WAIT, deadline - loop.time())):
                    break
        return bytes(body[:most])

    async def finish(self, answer: bytes, linger: float) -> None:
        """Send ``answer``, then read on until the peer closes, at most ``linger``.

        Closing at once would reset a peer that is still sending, and a reset
        destroys the answer on its way.
        """
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        write_last(transport, answer)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + linger
        self._reader = None
        while not self.eof and not self.lost and loop.time() < deadline:
            self.leftover = b""
            if not transport.is_closing():
                transport.resume_reading()
            await self._wait(deadline - loop.time())
        transport.close()


def ask_upgrade(stream: ByteStream, request: bytes) -> HeadHold:
    """Write the request of a client; what is returned waits for the answer.

    Args:
        stream: a fresh connection, paused; the caller resets it after a failure.
        request: the whole head.

    Raises:
        RemoteProtocolError: the connection is gone.
    """
    transport, old = stream.transport, stream.hold
    hold = HeadHold(Side.CLIENT)
    hold.transport = transport
    if old.lost:
        raise RemoteProtocolError("closed before the upgrade was asked for")
    transport.set_protocol(hold)
    transport.write(request)
    if old.leftover:
        hold.data_received(old.leftover)
    if old.eof:
        hold.eof_received()
    if hold.head is None:
        transport.resume_reading()
    return hold


async def read_answer(
    hold: HeadHold, timeout: float, limit: str, body_max: int = 0
) -> Head:
    """Wait for the 101.

    Args:
        hold: of :func:`ask_upgrade`.
        timeout: seconds until the head has to be complete.
        limit: how errors name that time.
        body_max: bytes of a refusal's body that are worth waiting for; 0: enough of
            them to quote the first line.

    Raises:
        InvalidStatus: the server refused; its fields and first bytes are kept.
        RemoteProtocolError: the answer is no acceptable HTTP.
        DialTimeout: no answer in time.
    """
    try:
        head = await hold.read_head(timeout)
    except RemoteProtocolError as error:
        if error.http_status == 408:
            raise DialTimeout(f"no answer to the upgrade within {limit}") from None
        raise
    if head.status != 101:
        if body_max:
            body = await hold.read_body(head, body_max, min(timeout / 2, _BODY_TIME))
        else:
            body = await hold.read_body_start(head)
        raise InvalidStatus(head.status or 0, head.reason, tuple(head.headers), body)
    return head


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
        name: what the connection carries, as announced.
    """

    __slots__ = ("_request", "fastws", "name", "subprotocols")

    def __init__(
        self,
        target: str,
        host: str,
        *,
        origin: str | None = None,
        subprotocols: Sequence[str] = (),
        headers: HeaderList = (),
        fastws: bool = True,
        name: str = "tcp",
    ) -> None:
        fields = list(headers)
        if fastws:
            fields.append((announce.HEADER, announce.format_offer(_ID, name)))
        request = build_upgrade(
            target,
            host,
            _KEY.decode(),
            origin=origin,
            subprotocols=subprotocols,
            headers=fields,
        )
        before, field, after = request.partition(_KEY_NAME)
        after = after.removeprefix(_KEY)
        # The announcement stands last; zeros before it are somebody else's.
        rest = after.rsplit(_ID.encode(), 1) if fastws else [after, b""]
        self._request = (before + field, *rest)
        self.subprotocols = tuple(subprotocols)
        self.fastws = fastws
        self.name = name

    async def upgrade(
        self, stream: ByteStream, ident: str, timeout: float
    ) -> WebSocketStream:
        """Do the opening handshake; ``stream`` is used up, also by a failure.

        Args:
            stream: a fresh connection.
            ident: 16 lower-case hex digits, the connection's ID in both logs.
            timeout: seconds until the answer's head has to be complete.

        Raises:
            InvalidStatus: the server refused; its fields and first bytes are kept.
            RemoteProtocolError: the answer is no valid handshake.
            DialTimeout: no answer in time.
        """
        transport = stream.transport
        try:
            draw = default_keys()  # random in blocks, without a system call for each
            key = make_key(draw() + draw() + draw() + draw())
            before, between, after = self._request
            announced = ident.encode() if self.fastws else b""
            request = before + key.encode() + between + announced + after
            hold = ask_upgrade(stream, request)
            limit = f"{timeout:.3g} s (--handshake-timeout)"
            head = await read_answer(hold, timeout, limit)
            check_answer(head, key, subprotocols=self.subprotocols)
            hold.head = None  # an idle connection keeps nothing it does not need
        except BaseException:
            sockopt.reset(transport)
            raise
        offered = ident if self.fastws else ""
        return confirm(transport, stream.kind, hold, head, offered, self.name)


def confirm(
    transport: asyncio.Transport,
    kind: Kind,
    hold: Hold,
    head: Head,
    offered: str,
    name: str = "tcp",
) -> WebSocketStream:
    """The WebSocket behind a valid answer; a fastws server hears first that we saw it.

    Args:
        transport: of the connection.
        kind: of it.
        hold: its protocol.
        head: the answer.
        offered: the ID that was announced, empty for none.
        name: the protocol that was announced.
    """
    peer, known = Peer.STRANGER, ""
    answer = head.get_all(announce.HEADER)
    if offered and answer and announce.check_answer(answer, offered, name):
        peer, known = Peer.FASTWS, offered
        key = default_keys()()
        transport.write(encode_frame(OP_TEXT, announce.SIGNAL_CONFIRM, key=key))
    side = Side.CLIENT
    return WebSocketStream(transport, kind, hold, side=side, peer=peer, ident=known)
