"""One connection of a server until its opening handshake is answered.

No task belongs to it: the request is read, checked and answered in the call that
brings its last byte. Source: RFC 6455 section 4.2; the rules stand in
:mod:`fastws.wire.handshake`.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from fastws._consts import Side
from fastws.exceptions import RemoteProtocolError
from fastws.http.answers import Refusal, build_refusal, level_of
from fastws.net import sockopt
from fastws.net.stream import ByteStream, Hold, describe, write_eof
from fastws.wire.handshake import Upgrade, build_accept
from fastws.wire.http1 import HeadReader
from fastws.ws.failures import log_failure
from fastws.ws.handler import Handler
from fastws.ws.protocol import WebSocket


class Opening:
    """One connection until its handshake is answered; what hooks look at and change.

    The WebSocket is the transport's protocol from the start, and hands over what it
    reads until it is open: another protocol in its place costs two system calls.

    Attributes:
        head: the request.
        upgrade: the same, checked; ``None`` while ``process_request`` is asked.
        remote_address: of the peer.
        protocol: the WebSocket that it will be.
        transport: of the connection.
        subprotocol: to be answered; the first of the server's that was offered.
        headers: further fields of the answer.
        extensions: value of Sec-WebSocket-Extensions to be answered, or ``None``.
        codec: of the extension that was agreed on, or ``None``.
        answer: the whole 101, in place of what the above says.
        context: whatever a server built on this one keeps with it.
    """

    __slots__ = (
        "_fd",
        "_is_answered",
        "_reader",
        "_server",
        "answer",
        "codec",
        "context",
        "due",
        "extensions",
        "head",
        "headers",
        "protocol",
        "remote_address",
        "subprotocol",
        "task",
        "transport",
        "upgrade",
    )

    is_flowing = True  # for the sweep: nothing but the clock

    def __init__(self, server: Any, peer: Any, fd: int) -> None:
        self._server = server
        self.remote_address = peer
        self._fd = fd
        self._reader: HeadReader | None = None
        self._is_answered = False
        ws = self.protocol = WebSocket(server.loop, Side.SERVER, server.options)
        ws.opening = self
        ws.on_bytes = self.receive_data
        self.due = server.loop.time() + server.open_timeout
        self.transport: Any = None
        self.upgrade: Upgrade | None = None
        self.subprotocol: str | None = None
        self.headers: Sequence[tuple[str, str]] = ()
        self.extensions: str | None = None
        self.codec: Any = None
        self.answer: bytes | None = None
        self.context: Any = None
        self.task: asyncio.Task[None] | None = None

    @property
    def is_over(self) -> bool:
        """It was refused, or the client has left: nothing can be opened any more."""
        return self._is_answered or bool(self.transport.is_closing())

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._server.add_opening(self)

    def receive_data(self, data: bytes) -> None:
        """Take the next bytes of the request."""
        if self._is_answered:
            return  # refused: what still comes is dropped
        reader = self._reader
        if reader is None:
            reader = self._reader = HeadReader(Side.SERVER)
        elif self.task is not None:
            reader.leftover += data
            return
        try:
            head = reader.receive_data(data)
            if head is None:
                return
            self.head = head
            self._server.answer(self)
        except RemoteProtocolError as error:
            self.refuse(error)
        except Exception as exc:
            self.fail(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.forget_opening(self)
        self._server.left()
        self.cancel_hook()

    def tick(self, now: float) -> None:
        """The time is over: for the request, or for the peer of a refusal."""
        if self._is_answered:
            sockopt.reset(self.transport)
        elif self.task is not None:
            self.cancel_hook()
            self.refuse(Refusal("not answered in time", http_status=504))
        else:
            limit = f"{self._server.open_timeout:g} s"
            self.refuse(
                RemoteProtocolError(
                    f"no whole HTTP head within {limit}", http_status=408
                )
            )

    def cancel_hook(self) -> None:
        """Cancel the hook that waits, if one does; not before it has begun.

        Coroutines that never begin end in warnings.
        """
        if self.task is not None:
            self._server.loop.call_soon(self.task.cancel)

    def refuse(self, error: RemoteProtocolError) -> None:
        """Answer with the error's status, and end the connection; once."""
        if self._is_answered:
            return
        who = describe(self.transport, self.remote_address)
        log = self._server.logger
        log.log(level_of(error), "%s: refused: %s", who, error.reason)
        is_head = self._reader is not None and getattr(self, "head", None) is not None
        self.finish(build_refusal(error, is_head and self.head.method == "HEAD"))

    def fail(self, exc: Exception) -> None:
        """A hook raised: 500, and one line."""
        log_failure(self._server.logger, exc)
        self.finish(build_refusal(Refusal("handler failed", http_status=500)))

    def finish(self, answer: bytes) -> None:
        """Send ``answer``, then read on until the peer closes, for 5 s at most.

        Closing at once would reset a peer that is still sending, and a reset
        destroys the answer on its way.
        """
        transport = self.transport
        if self._is_answered or transport.is_closing():
            return
        self._is_answered = True
        self.due = self._server.loop.time() + self._server.linger
        transport.write(answer)
        if transport.can_write_eof():
            write_eof(transport)
            transport.resume_reading()
        else:
            transport.close()

    def _accept(self) -> bytes:
        """The 101; no time limit holds any more."""
        assert self.upgrade is not None
        answer = self.answer
        if answer is None:  # raises for what a hook chose and no head can hold
            answer = build_accept(
                self.upgrade.key,
                subprotocol=self.subprotocol,
                extensions=self.extensions,
                headers=self.headers,
            )
        self._is_answered = True
        self._server.forget_opening(self)
        return answer

    def detach(self) -> ByteStream:
        """Answer 101 and give the connection away, paused.

        Whoever takes it says ``left()`` to the server when it is gone.
        """
        transport, reader = self.transport, self._reader
        assert reader is not None
        kind = self._server.kind_of(self.remote_address)
        hold = Hold()
        hold.connection_made(transport)
        hold.leftover, hold.peer = reader.leftover, self.remote_address
        transport.write(self._accept())
        self.protocol.opening = self.protocol.on_bytes = None
        transport.set_protocol(hold)
        return ByteStream(transport, kind, hold)

    def open(self, handler: Handler | None) -> WebSocket | None:
        """Answer 101; from now on the WebSocket looks after the connection.

        Args:
            handler: of it; ``None`` when :meth:`detach` was called.
        """
        if handler is None:
            if not self.is_over:
                self.fail(TypeError("the factory returned no handler"))
            return None
        server, reader = self._server, self._reader
        assert reader is not None
        answer = self._accept()
        ws = self.protocol
        if self.codec is not None:
            ws.set_codec(self.codec)
        ws.subprotocol = self.subprotocol
        server.connections.add(ws)
        ws.start(
            self.transport,
            server.kind_of(self.remote_address),
            handler,
            fd=self._fd,
            swap=False,
            answer=answer,
            leftover=reader.leftover,
            remote_address=self.remote_address,
            on_lost=server.forget,
        )
        return ws
