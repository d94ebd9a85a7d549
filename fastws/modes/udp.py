"""One datagram is one message: what stw and wts do for a UDP flow.

Source: docs/wire.md, ``udp/1``. A helper of the modes, not one of its own.
"""

import asyncio
import random
from collections.abc import Iterable
from dataclasses import replace

from fastws import _consts
from fastws.net.ageing import QUIET
from fastws.net.copy import CopyResult
from fastws.net.ends import CopyOptions
from fastws.net.messages import MessageLink
from fastws.net.udp import MAX_DATAGRAM, DatagramEnd
from fastws.net.websocket import WebSocketStream

QUEUE = 256 * 1024
"""Bytes that may wait for a slow WebSocket; what comes then is dropped."""

REST = 1.0
"""Seconds in which a source finds no WebSocket opened after one that failed."""


class UdpFlow:
    """One WebSocket and the datagrams of one source or target.

    Neither side ever waits for the other: what finds no room is dropped and counted.

    Args:
        stream: after the opening handshake; owned.
        end: the datagram side; owned.
        options: times and frame size; from :func:`flow_options`.

    Attributes:
        done: set when both sides are gone.
        messages_in: messages received, and sent as datagrams.
        messages_out: datagrams received, and sent as messages.
    """

    __slots__ = (
        "_busy_at",
        "_end",
        "_frames",
        "_idle",
        "_room",
        "_seen",
        "bytes_in",
        "bytes_out",
        "done",
        "dropped",
        "link",
        "loop",
        "messages_in",
        "messages_out",
        "words",
    )

    def __init__(
        self,
        stream: WebSocketStream,
        end: DatagramEnd,
        options: CopyOptions,
    ) -> None:
        self.loop = loop = asyncio.get_running_loop()
        self.done: asyncio.Future[CopyResult] = loop.create_future()
        self.messages_in = self.messages_out = self.dropped = 0
        self.bytes_in = self.bytes_out = 0
        self.words = ""  # why it ended, if in order
        self._end = end
        self._idle = options.idle_timeout
        self._busy_at = loop.time()
        self._seen = 0
        self._frames: list[bytes] = []  # of the batch being read
        self._room = 0  # bytes that this batch may add
        self.link = MessageLink(stream, self, options, MAX_DATAGRAM)
        end.attach(self)

    # -- datagrams to messages -----------------------------------------------------

    def datagram_received(self, data: memoryview) -> bool:
        """Frame one datagram; the batch is written by :meth:`flush`."""
        frames = self._frames
        is_first = not frames
        if is_first:
            self._room = QUEUE - self.link.unsent()
        frame = self.link.encode(data)
        self._room -= len(frame)
        if self._room < 0:
            self.dropped += 1
            return False
        frames.append(frame)
        self.messages_out += 1
        self.bytes_out += len(data)
        return is_first

    def flush(self) -> None:
        """Write what the batch brought, as one write."""
        frames = self._frames
        if frames:
            self.link.write(b"".join(frames) if len(frames) > 1 else frames[0])
            frames.clear()

    # -- messages to datagrams -----------------------------------------------------

    def message_received(self, payload: memoryview, is_text: bool) -> None:
        if self._end.send(payload):
            self.messages_in += 1
            self.bytes_in += len(payload)

    def message_dropped(self) -> None:
        self.dropped += 1

    # -- life ----------------------------------------------------------------------

    def link_writable(self, is_writable: bool) -> None:
        """Nobody waits for room."""

    def link_tick(self, now: float) -> float:
        count = self.messages_in + self.messages_out
        if count != self._seen:
            self._seen = count
            self._busy_at = now
        elif now - self._busy_at >= self._idle:
            self.words = "idle"
            self.link.close(_consts.CLOSE_NORMAL)
        return self._busy_at + self._idle

    def link_closing(self) -> None:
        self._end.release()

    def link_ended(self, reason: str) -> None:
        self._end.close()
        if not self.done.done():
            dropped = self.dropped + self._end.dropped
            text = (
                f"{reason or self.words or 'closed'}; {self.messages_out} datagrams "
                f"received, {self.messages_in} sent, {dropped} dropped, "
                f"{self._end.errors} errors"
            )
            self.done.set_result(
                CopyResult(self.bytes_out, self.bytes_in, text, not reason)
            )

    @property
    def payload(self) -> int:
        """Bytes so far, both ways."""
        return self.bytes_in + self.bytes_out

    def go_when_quiet(self, spread: float = 0.0) -> None:
        """End it in a pause, as when the process stops: datagrams have no end.

        Args:
            spread: seconds over which flows that are quiet already go.
        """
        seen = self.messages_in + self.messages_out
        delay = QUIET + random.random() * spread
        self.loop.call_later(delay, self._go_if_quiet, seen)

    def _go_if_quiet(self, seen: int) -> None:
        if self.done.done():
            return
        if self.messages_in + self.messages_out == seen:
            self.go_away("draining")
        else:
            self.go_when_quiet()

    def go_away(self, reason: str) -> None:
        """End it ourselves: Close 1001."""
        self.link.go_away(reason)

    def abort(self, reason: str) -> None:
        """Reset the WebSocket."""
        self.link.abort(reason)


def end_quiet(copies: Iterable[object]) -> None:
    """Have the flows among ``copies`` end, each in its next pause."""
    flows = [copy for copy in copies if isinstance(copy, UdpFlow)]
    spread = _consts.DRAIN_SPREAD if len(flows) > 1 else 0.0
    for flow in flows:
        flow.go_when_quiet(spread)


def flow_options(options: CopyOptions, idle: float) -> CopyOptions:
    """The same for flows, which end after ``idle`` seconds without a datagram."""
    return replace(options, idle_timeout=idle)
