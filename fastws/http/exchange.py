"""One request passed on to a server, and its answer passed back.

Source: RFC 9110 sections 7.6 (fields of one hop), 7.8 (Upgrade), 9.2.2 (what may be
sent again), 10.1.1 (Expect), 15.2 (interim answers). Knows nothing of where servers
are: the caller brings a connection, and another one where :attr:`Exchange.may_repeat`
says that nothing is lost by it.
"""

import asyncio
import contextlib

from fastws.exceptions import LocalProtocolError, RemoteProtocolError
from fastws.http.channel import Body
from fastws.http.client import IDEMPOTENT, ClientConnection
from fastws.http.rewrite import asked_upgrade, end_to_end
from fastws.http.server import Request
from fastws.net.stream import ByteStream
from fastws.wire.body import NO_BODY, Extent, Framing
from fastws.wire.head import Head, build_request

CONTINUE_AFTER = 1.0
"""Seconds until a client hears a 100 from us, because the server says nothing."""

_HOST = frozenset({"host", "expect"})  # written anew


class Exchange:
    """Passes one request on. One task.

    Args:
        request: not answered yet.
        target: of the request line towards the server.
        host: the Host field towards the server.
        via: our name in Via fields, ``None`` to add none.

    Attributes:
        upgrade: the protocols that the client asks to change to, ``None`` for none.
    """

    __slots__ = (
        "_fields",
        "_got",
        "_method",
        "_target",
        "_up",
        "_via",
        "_was_continued",
        "request",
        "upgrade",
    )

    def __init__(
        self, request: Request, target: str, host: str, *, via: str | None = None
    ) -> None:
        head = request.head
        self.request = request
        self.upgrade = asked_upgrade(head)
        self._method = head.method or ""
        self._target = target
        self._via = via
        self._up: ClientConnection | None = None
        self._got: tuple[Head, Body, ClientConnection] | None = None
        self._was_continued = False
        self._fields = [("Host", host), *end_to_end(head, _HOST)]
        if via is not None:
            self._fields.append(("Via", f"{head.version} {via}"))
        if head.has_token("te", "trailers"):
            self._fields.append(("TE", "trailers"))
            if self.upgrade is None:
                self._fields.append(("Connection", "TE"))
        self._frame(request.body.extent)

    def _frame(self, extent: Extent) -> None:
        """Write the fields of the next hop."""
        if self.upgrade is not None:
            self._fields.append(("Upgrade", self.upgrade))
            te = ", TE" if self.request.head.has_token("te", "trailers") else ""
            self._fields.append(("Connection", f"Upgrade{te}"))
        if extent.framing is Framing.LENGTH:
            self._fields.append(("Content-Length", str(extent.length)))
        elif extent.framing is Framing.CHUNKED:
            self._fields.append(("Transfer-Encoding", "chunked"))
        elif self.request.head.get("content-length") is not None:
            self._fields.append(("Content-Length", "0"))

    @property
    def is_replayable(self) -> bool:
        """Sending it twice is as good as once, and it can be sent twice."""
        return self._method in IDEMPOTENT and self.request.body.extent is NO_BODY

    def may_repeat(self, up: ClientConnection) -> bool:
        """Whether another connection may be tried after ``up`` failed.

        Only if ``up`` had served before: its server may have closed it while the
        request was on its way. A server that closes a fresh one would do it again.
        """
        return (
            self.is_replayable
            and up.requests > 1
            and not up.has_answered
            and not self.request.channel.lost
        )

    async def ask(self, up: ClientConnection) -> None:
        """Send the request and wait for the head of its answer.

        Interim answers are passed on at once. From here to the end of the exchange
        the server's connection is aborted when the client's is lost.

        Raises:
            RemoteProtocolError: with an ``http_status``: our client's mistake;
                without: the server's, or one of the connections was lost.
        """
        request, self._up = self.request, up
        fields = self._fields
        timer = None
        if request.expects_continue:
            if up.speaks_1_0:
                self._continue()
            else:
                fields = [*fields, ("Expect", "100-continue")]
                loop = asyncio.get_running_loop()
                timer = loop.call_later(CONTINUE_AFTER, self._continue)
        try:
            data = build_request(self._method, self._target, fields)
        except LocalProtocolError as error:
            raise RemoteProtocolError(str(error), http_status=400) from None
        request.channel.on_lost = up.abort
        try:
            up.send(data, request.body, request.body.extent)
            request.channel.resume()  # its end shows only to those who read
            head, body = await up.read_answer(self._method, self._pass_interim)
            self._got = head, body, up
        except RemoteProtocolError as error:
            raise up.upload_error or error from None
        finally:
            if timer is not None:
                timer.cancel()

    async def answer(self) -> tuple[ByteStream, ByteStream] | None:
        """Pass the answer on, its body as it arrives.

        Returns:
            The two streams, client first, if both now speak another protocol.

        Raises:
            RemoteProtocolError: the answer is wrong or was cut off; without an
                ``http_status``.
        """
        request = self.request
        if self._got is None:
            raise LocalProtocolError("nothing was asked")
        head, body, up = self._got
        try:
            if head.status == 101:
                return self._switch(head, up)
            fields = self._answer_fields(head)
            await request.relay(head.status or 0, head.reason, fields, body)
        except (LocalProtocolError, RemoteProtocolError) as error:
            # Whatever a reader would answer with: this is the server's fault.
            raise RemoteProtocolError(str(error)) from None
        finally:
            request.channel.on_lost = None
        return None

    async def settle(self) -> None:
        """After the last step, however it ended: nothing of it runs any more."""
        up = self._up
        self.request.channel.on_lost = None
        if up is not None and up.upload is not None:
            upload = up.upload
            up.abort()
            await asyncio.wait([upload])

    def _switch(
        self, head: Head, up: ClientConnection
    ) -> tuple[ByteStream, ByteStream]:
        protocols = asked_upgrade(head)
        if self.upgrade is None or protocols is None or up.upload is not None:
            raise RemoteProtocolError("the server changed the protocol unasked")
        fields = end_to_end(head)
        fields += [("Upgrade", protocols), ("Connection", "Upgrade")]
        self.request.send_interim(101, fields, head.reason)
        return self.request.take(), up.take()

    def _answer_fields(self, head: Head) -> list[tuple[str, str]]:
        fields = end_to_end(head)
        if self._via is not None:
            fields.append(("Via", f"{head.version} {self._via}"))
        if head.status == 304 or self._method == "HEAD":
            # What the body would be like: fields that frame nothing here.
            fields += [("Content-Length", n) for n in head.get_all("content-length")]
        protocols = asked_upgrade(head)
        if protocols is not None and head.status == 426:
            fields += [("Upgrade", protocols), ("Connection", "Upgrade")]
        return fields

    def _pass_interim(self, head: Head) -> None:
        if head.status == 100 and self._was_continued:
            return  # the client had one from us
        with contextlib.suppress(LocalProtocolError):  # it is not the answer
            fields = end_to_end(head)
            self.request.send_interim(head.status or 100, fields, head.reason)

    def _continue(self) -> None:
        if self.request.expects_continue:
            self._was_continued = True
            self.request.send_interim(100)
