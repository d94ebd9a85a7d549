"""Datagrams in a pooled WebSocket, both sides: one Associate (docs/pool.md).

As on every network nobody waits for room: what finds none is dropped and counted, the
newest first, and so is what is larger than a datagram.
"""

import asyncio
from collections.abc import Callable

from fastws._backend import encode_frame
from fastws._consts import OP_BINARY, OP_CONT
from fastws.exceptions import LocalProtocolError
from fastws.net.pool_end import PoolEnd
from fastws.wire.pool import Datagram

QUEUE = 256 * 1024
"""Bytes that may wait for a slow WebSocket; what comes then is dropped."""

MAX_EARLY = 16
"""Datagrams that may wait for the answer to their Associate."""

MAX_PAYLOAD = 65507
"""Bytes that UDP over IPv4 can carry."""

Receive = Callable[[str, int, memoryview], None]


class PooledDatagrams:
    """The datagrams of the open stream, until both ends have said so.

    The WebSocket goes on to the next stream afterwards. One event loop.

    Args:
        end: of the WebSocket; its stream is or will be an Associate.

    Attributes:
        done: set when none can be sent any more: why, empty if in order.
        dropped: datagrams lost for want of room, too large, or without an address.
        denied: 0: no rules are asked here.
        reason: of a rule; empty.
        received: datagrams handed over.
        sent: datagrams written.
        bytes_in: payload of the received ones.
        bytes_out: payload of the sent ones.
        ident: names the stream in the log of the far end too; empty: not known there.
    """

    __slots__ = (
        "_early",
        "_end",
        "_has_ended",
        "_receive",
        "bytes_in",
        "bytes_out",
        "denied",
        "done",
        "dropped",
        "ident",
        "reason",
        "received",
        "sent",
    )

    def __init__(self, end: PoolEnd) -> None:
        self.done: asyncio.Future[str] = end.owner.loop.create_future()
        self.dropped = self.denied = self.received = self.sent = 0
        self.bytes_in = self.bytes_out = 0
        self.reason = ""
        self.ident = end.stream_ident
        self._end = end
        self._receive: Receive | None = None
        self._early: list[Datagram] = []
        self._has_ended = False  # the peer has said all before we began

    def begin(self, receive: Receive) -> None:
        """The stream is answered: hand over what comes, what has come first."""
        self._receive = receive
        early, self._early = self._early, []
        for datagram in early:
            self.arrived(datagram)
        if self._has_ended:
            self.ended("")
        else:
            self._end.resume()

    def arrived(self, datagram: Datagram) -> None:
        """One datagram of the peer."""
        if self.done.done():
            return
        if self._receive is not None:
            self.received += 1
            self.bytes_in += len(datagram.payload)
            self._receive(*datagram)
        elif len(self._early) < MAX_EARLY:
            self._early.append(datagram)
        else:
            self.dropped += 1

    def send(self, host: str, port: int, payload: memoryview) -> None:
        """Send one to, or from, there; ``payload`` is viewed during the call."""
        frames = self._encode(host, port, payload)
        if not frames:
            self.dropped += 1
            return
        self.sent += 1
        self.bytes_out += len(payload)
        self._end.transport.write(frames)

    def _encode(self, host: str, port: int, payload: memoryview) -> bytes:
        """The frames of one message; nothing if it cannot be sent."""
        end = self._end
        if self.done.done() or end.lost or len(payload) > MAX_PAYLOAD:
            return b""
        room = QUEUE - int(end.transport.get_write_buffer_size())
        if len(payload) > room:
            return b""
        try:
            packet = end.track.datagram(host, port, payload)
        except LocalProtocolError:
            return b""
        limit = end.max_payload + 1  # that leaves room for the kind of a packet
        frames = []
        opcode = OP_BINARY
        for start in range(0, len(packet), limit):
            piece = packet[start : start + limit]
            is_last = start + limit >= len(packet)
            key = None if end.keys is None else end.keys()
            frames.append(encode_frame(opcode, piece, fin=is_last, key=key))
            opcode = OP_CONT
        data = b"".join(frames)
        return data if len(data) <= room else b""

    def close(self) -> None:
        """No more in either direction: Close, if nothing was said yet. Idempotent."""
        self.ended("")

    def ended(self, reason: str) -> None:
        """The stream is over for us; the peer's last packet may still be due."""
        if self._receive is None and not reason:
            self._has_ended = True
            return
        if not self.done.done():
            self._early.clear()
            self.done.set_result(reason)
            if not reason:
                self._end.send_eof()

    def __repr__(self) -> str:
        state = "open" if not self.done.done() else self.done.result() or "closed"
        return f"<{type(self).__name__} {state}>"
