"""The server side of HTTP/1.1: requests of one connection, one after the other.

Source: RFC 9112 section 9 (persistence, pipelining), RFC 9110 section 10.1.1 (Expect).
A handler gets each request with its body as it arrives, and answers it; this module
reads heads, keeps the time limits, refuses what is malformed and decides whether the
connection goes on.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fastws import _consts
from fastws._consts import Side
from fastws.exceptions import RemoteProtocolError
from fastws.http.answers import Refusal, build_refusal
from fastws.http.channel import Body, Channel, relay
from fastws.net.dial import Deadline
from fastws.net.stream import ByteStream
from fastws.typing import HeaderList
from fastws.wire.body import NO_BODY, BodyWriter, Extent, Framing, request_extent
from fastws.wire.head import Head
from fastws.wire.http1 import build_head

KEEP_ALIVE = 60.0
"""Seconds that a connection may wait for its next request."""

_UNREAD_MAX = 64 * 1024  # bytes of a body that nobody wanted, read to go on


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """How long a client may take. Seconds.

    Attributes:
        head_timeout: for a whole head, from its first byte; for the first one of a
            connection, from the start.
        keep_alive: between an answer and the next request.
        linger: for the client to close after our last word.
    """

    head_timeout: float = _consts.HANDSHAKE_TIMEOUT
    keep_alive: float = KEEP_ALIVE
    linger: float = _consts.LINGER


class Request:
    """One request, until it is answered. One task at a time.

    Attributes:
        head: as it came.
        body: as it arrives.
        channel: it came from.
        expects_continue: the client waits for a 100 before it sends the body.
        has_started: an answer's head was sent.
        is_answered: all of the answer was.
        keeps_alive: the connection goes on afterwards, as far as we know.
        is_taken: the stream was handed on; this request has no answer of ours.
    """

    __slots__ = (
        "body",
        "channel",
        "expects_continue",
        "has_started",
        "head",
        "is_answered",
        "is_taken",
        "keeps_alive",
    )

    def __init__(self, channel: Channel, head: Head, body: Body) -> None:
        self.channel = channel
        self.head = head
        self.body = body
        self.has_started = self.is_answered = self.is_taken = False
        self.keeps_alive = not head.has_token("connection", "close") and (
            head.version == "1.1" or head.has_token("connection", "keep-alive")
        )
        # RFC 9110 section 10.1.1: an expectation in HTTP/1.0 is ignored.
        self.expects_continue = (
            head.version == "1.1"
            and not body.is_complete
            and head.has_token("expect", "100-continue")
        )

    def send_interim(
        self, status: int, headers: HeaderList = (), reason: str | None = None
    ) -> None:
        """Send an answer before the answer; HTTP/1.0 has none of these."""
        if self.head.version == "1.1" and not self.has_started:
            self.channel.write(build_head(status, headers, reason=reason))
            if status == 100:
                self.expects_continue = False

    async def respond(
        self, status: int, headers: HeaderList = (), body: bytes = b""
    ) -> None:
        """Answer with what is known as a whole; Content-Length is added."""
        extent = Extent(Framing.LENGTH, len(body))
        head = self._build_head(status, headers, extent, None)
        self.has_started = self.is_answered = True
        self.channel.write(head + (b"" if self.head.method == "HEAD" else body))
        await self.channel.drain()

    async def refuse(self, error: RemoteProtocolError) -> None:
        """Answer with an error; what :class:`Refusal` says stays in the log."""
        status = error.http_status or 400
        public = "" if isinstance(error, Refusal) else error.reason
        text = f"{status} {public}".strip().encode() + b"\n"
        headers = [("Content-Type", "text/plain"), *error.headers]
        if not self.body.is_complete and self.body.extent.framing is Framing.CHUNKED:
            self.keeps_alive = False  # nobody knows how much would still come
        await self.respond(status, headers, text)

    async def relay(
        self, status: int, reason: str, headers: HeaderList, body: Body
    ) -> None:
        """Answer with a body as it arrives, framed as this client can take it.

        Args:
            status: 200 to 599.
            reason: phrase.
            headers: without those of the framing; for an answer to HEAD, or a 304,
                with them, as they describe what is not sent.
            body: read to its end.

        Raises:
            RemoteProtocolError: the body broke, or was cut off; if the answer has
                started by then, the client has to see a reset.
            LocalProtocolError: a field cannot be sent; nothing was.
        """
        extent = body.extent
        if extent.framing in (Framing.CHUNKED, Framing.CLOSE):
            chunks = self.head.version == "1.1"
            extent = Extent(Framing.CHUNKED if chunks else Framing.CLOSE)
        writer = BodyWriter(extent)
        pieces = writer.encode(body.take())
        head = self._build_head(status, headers, extent, reason)
        self.has_started = True
        if await relay(body, self.channel, writer, [head, *pieces]):
            self.is_answered = True

    def take(self) -> ByteStream:
        """Take the stream out of HTTP, with what came behind this request."""
        self.is_taken = True
        return self.channel.release()

    def _build_head(
        self, status: int, headers: HeaderList, extent: Extent, reason: str | None
    ) -> bytes:
        """The head of an answer, which tells how its body ends."""
        fields = list(headers)
        if extent.framing is Framing.LENGTH:
            fields.append(("Content-Length", str(extent.length)))
        elif extent.framing is Framing.CHUNKED:
            fields.append(("Transfer-Encoding", "chunked"))
        elif extent.framing is Framing.CLOSE:
            self.keeps_alive = False
        elif not _tells_no_body(status, self.head.method, fields):
            fields.append(("Content-Length", "0"))
        # A client that waits for a 100 may send its body all the same, or may not
        # (RFC 9110 section 10.1.1): what comes next could be either.
        if self.expects_continue and not self.body.was_read:
            self.keeps_alive = False
        if not self.keeps_alive:
            fields.append(("Connection", "close"))
        elif self.head.version == "1.0":
            fields.append(("Connection", "keep-alive"))
        return build_head(status, fields, reason=reason)


def _tells_no_body(status: int, method: str | None, fields: HeaderList) -> bool:
    """Whether a client knows without a length that no body comes."""
    return status in (204, 304) or method == "HEAD"


Handler = Callable[[Request], Awaitable[None]]


class ServerConnection:
    """Serves the requests of one client. One task.

    Args:
        stream: taken over; what it holds is the start of the first request.
        handler: answers each request, or takes the stream. It may raise
            ``RemoteProtocolError`` before an answer has started: that one is sent.
        options: time limits.

    Attributes:
        channel: of the client.
        requests: that were read so far.
        reason: why it ended, ``closed`` if in order.
    """

    def __init__(
        self, stream: ByteStream, handler: Handler, options: ServerOptions
    ) -> None:
        self.channel = Channel(stream)
        self.requests = 0
        self.reason = ""
        self.on_refused: Callable[[RemoteProtocolError], None] = lambda error: None
        self._handler = handler
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._is_idle = False
        self._is_draining = False

    def drain(self) -> None:
        """Take no further request: an idle connection closes now. Idempotent."""
        self._is_draining = True
        if self._is_idle:
            self.channel.close()

    async def run(self) -> Request | None:
        """Serve until the connection has ended, or a handler took the stream.

        Returns:
            The request whose handler took it.

        Raises:
            asyncio.CancelledError: the connection was reset.
        """
        taken = None
        try:
            while taken is None:
                request = await self._next_request()
                if request is None:
                    break
                taken = await self._serve(request)
                if taken is None and not await self._goes_on(request):
                    break
        except BaseException:
            self.channel.reset()
            raise
        return taken

    async def _next_request(self) -> Request | None:
        """Wait for a request; ``None`` when there is none to serve."""
        channel = self.channel
        head = None
        try:
            if self.requests and not await self._wait_idle():
                self.reason = self.reason or "closed"
                channel.close()
                return None
            with Deadline(self._loop, self._options.head_timeout, True):
                head = await channel.read_head(Side.SERVER)
            extent = NO_BODY if head.method == "CONNECT" else request_extent(head)
        except TimeoutError:
            limit = f"{self._options.head_timeout:g} s (--handshake-timeout)"
            reason = f"no whole HTTP head within {limit}"
            error = RemoteProtocolError(reason, http_status=408)
            await self._refuse_head(error, None)
            return None
        except RemoteProtocolError as error:
            await self._refuse_head(error, head)
            return None
        self.requests += 1
        request = Request(channel, head, Body(channel, extent))
        if self._is_draining:
            request.keeps_alive = False
        return request

    async def _wait_idle(self) -> bool:
        """Wait for the next request to begin; ``False``: it does not."""
        if self.channel.leftover:
            return True
        if self._is_draining:
            return False
        self._is_idle = True
        try:
            with Deadline(self._loop, self._options.keep_alive, True):
                return await self.channel.wait()
        except TimeoutError:
            return False
        finally:
            self._is_idle = False

    async def _refuse_head(self, error: RemoteProtocolError, head: Head | None) -> None:
        """End a connection that sent no head we accept."""
        self.reason = error.reason
        self.on_refused(error)
        if error.http_status is None or self.channel.lost:
            self.channel.reset()
            return
        is_head = head is not None and head.method == "HEAD"
        self.channel.write(build_refusal(error, is_head))
        await self.channel.finish(self._options.linger)

    async def _serve(self, request: Request) -> Request | None:
        """Let the handler answer; returned if it took the stream instead."""
        try:
            await self._handler(request)
        except RemoteProtocolError as error:
            self.reason = error.reason
            if not request.has_started and not request.is_taken:
                self.on_refused(error)
                if error.http_status is not None:
                    await request.refuse(error)
        return request if request.is_taken else None

    async def _goes_on(self, request: Request) -> bool:
        """Whether a next request may come; ends the connection if not."""
        channel, linger = self.channel, self._options.linger
        if not request.is_answered:
            await channel.reset_after(linger)
            return False
        if request.keeps_alive and not self._is_draining and not channel.lost:
            if await self._skip(request):
                self.reason = ""
                return True
        self.reason = self.reason or "closed"
        await channel.finish(linger)
        return False

    async def _skip(self, request: Request) -> bool:
        """Read what is left of a body that nobody wanted, if it is little."""
        body = request.body
        if body.is_complete:
            return True
        extent, skipped = body.extent, 0
        if request.expects_continue or extent.length > _UNREAD_MAX:
            return False
        try:
            with Deadline(self._loop, self._options.linger, True):
                while not body.is_complete and skipped < _UNREAD_MAX:
                    skipped += sum(map(len, await body.read()))
        except (TimeoutError, RemoteProtocolError):
            return False
        return body.is_complete
