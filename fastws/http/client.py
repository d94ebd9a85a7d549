"""The client side of HTTP/1.1: one connection to one server, requests in turn.

Source: RFC 9112 section 9, RFC 9110 sections 9.2.2 (idempotent methods), 10.1.1
(Expect) and 15.2 (interim answers). A body goes up while the answer may already come
down; an answer is handed out with its body as it arrives.
"""

import asyncio
from collections.abc import Callable

from fastws._consts import Side
from fastws.exceptions import RemoteProtocolError
from fastws.http.channel import Body, Channel, relay
from fastws.http.rewrite import clean_trailers
from fastws.net.stream import ByteStream
from fastws.wire.body import BodyWriter, Extent, Piece, response_extent
from fastws.wire.head import Head

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""RFC 9110 section 9.2.2: methods that may be sent again."""

_MAX_INTERIM = 32  # answers before the answer

Interim = Callable[[Head], None]


class ClientConnection:
    """One connection to a server. One request at a time, by one task.

    Args:
        stream: taken over.

    Attributes:
        channel: to the server.
        requests: that were begun here.
        idle_since: loop time of the last answer's end, or of the start.
        speaks_1_0: the last answer was HTTP/1.0.
        has_answered: a byte came since the last request began.
        upload: sends a body; ``None`` when all of the request is out.
        upload_error: what was wrong with the body that we were to send.
    """

    def __init__(self, stream: ByteStream) -> None:
        self.channel = Channel(stream)
        self.requests = 0
        self.speaks_1_0 = False
        self.upload: asyncio.Task[None] | None = None
        self.upload_error: RemoteProtocolError | None = None
        self._loop = asyncio.get_running_loop()
        self.idle_since = self._loop.time()
        self._received = 0
        self._keeps_alive = True
        self._answer: Body | None = None

    def __repr__(self) -> str:
        state = "usable" if self.is_usable else "used up"
        return f"<ClientConnection {state}, {self.requests} requests>"

    @property
    def is_usable(self) -> bool:
        """A request can be sent: nothing is open, and nothing came uncalled for."""
        done = self._answer is None or self._answer.is_complete
        channel = self.channel
        ready = done and self.upload is None and self._keeps_alive
        return ready and channel.is_open and not channel.leftover

    @property
    def has_answered(self) -> bool:
        """Something came back since the last request began."""
        return self.channel.received > self._received

    def park(self) -> None:
        """Nothing is asked now: listen, so that the server's end is heard."""
        self.idle_since = self._loop.time()
        self.channel.resume()

    def send(self, head: bytes, body: Body, extent: Extent) -> None:
        """Begin a request; what is not here yet is sent in a task of its own.

        Args:
            head: as built.
            body: of the request.
            extent: its framing towards the server.

        Raises:
            RemoteProtocolError: the start of the body is broken; nothing was sent.
        """
        writer = BodyWriter(extent)
        pieces = [head, *writer.encode(body.take())]
        self.requests += 1
        self.upload_error = None
        self._received = self.channel.received
        self._keeps_alive = False  # until the answer says so
        self._answer = None
        if body.is_complete:
            pieces.append(writer.finish(clean_trailers(body.trailers)))
            self.channel.write_pieces(pieces)
        else:
            sending = self._upload(body, writer, pieces)
            self.upload = self._loop.create_task(sending)

    async def _upload(
        self, body: Body, writer: BodyWriter, pieces: list[Piece]
    ) -> None:
        try:
            await relay(body, self.channel, writer, pieces)
        except RemoteProtocolError as error:
            self.upload_error = error
            self.channel.reset()  # never looks like the end of a body
        finally:
            self.upload = None

    async def read_answer(
        self, method: str, on_interim: Interim | None = None
    ) -> tuple[Head, Body]:
        """Wait for the answer's head.

        Args:
            method: of the request.
            on_interim: hears answers 100 to 199 other than 101.

        Raises:
            RemoteProtocolError: none came, or none we accept; without an
                ``http_status``. :attr:`upload_error` tells whose fault it was.
        """
        for _ in range(_MAX_INTERIM):
            head = await self.channel.read_head(Side.CLIENT, interim=True)
            status = head.status or 0
            if status >= 200 or status == 101:
                break
            if on_interim is not None:
                on_interim(head)
        else:
            raise RemoteProtocolError(f"over {_MAX_INTERIM} interim answers")
        body = self._answer = Body(self.channel, response_extent(head, method))
        self.speaks_1_0 = head.version == "1.0"
        # RFC 9112 section 9.3; some 1.0 servers keep alive too, not worth the doubt.
        closes = self.speaks_1_0 or head.has_token("connection", "close")
        self._keeps_alive = not closes and status != 101
        return head, body

    def abort(self) -> None:
        """End it at once, the upload with it; safe to call at any time."""
        if self.upload is not None:
            self.upload.cancel()
        self.channel.reset()

    async def aclose(self) -> None:
        """End it, in order where nothing is open; wait for the upload's end."""
        upload, answer = self.upload, self._answer
        is_open = self.requests and (answer is None or not answer.is_complete)
        if upload is None and not is_open:
            self.channel.close()
        else:
            self.abort()
        if upload is not None:
            await asyncio.wait([upload])

    def take(self) -> ByteStream:
        """Take the stream out of HTTP, with what came behind the answer."""
        self._keeps_alive = False
        return self.channel.release()
