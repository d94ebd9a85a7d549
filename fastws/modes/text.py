"""``stw - --text``: a line of input is a text message, a message is a line of output.

A helper of the modes, not one of its own.
"""

import asyncio
from typing import Any

from fastws import _consts
from fastws._consts import MAX_INCOMING, OP_TEXT
from fastws.net.copy import CopyResult
from fastws.net.ends import CopyOptions, describe_loss
from fastws.net.messages import MessageLink
from fastws.net.stream import ByteStream
from fastws.net.websocket import WebSocketStream


class TextSession(asyncio.Protocol):
    """Lines on one side, messages on the other; a slow side stops the fast one.

    Newlines inside a message become spaces, so that it stays one line. A last line
    without a newline is a message too.

    Args:
        lines: paused, its protocol a ``Hold``; owned.
        stream: after the opening handshake with a stranger; owned.
        options: times, frame size, and what the end of input means.

    Attributes:
        done: set when both sides are gone.
    """

    __slots__ = (
        "_input",
        "_is_closed",
        "_is_lost",
        "_line",
        "_lines",
        "_moved_at",
        "_options",
        "_reads",
        "_reason",
        "bytes_in",
        "bytes_out",
        "done",
        "link",
        "loop",
    )

    def __init__(
        self, lines: ByteStream, stream: WebSocketStream, options: CopyOptions
    ) -> None:
        self.loop = loop = asyncio.get_running_loop()
        self.done: asyncio.Future[CopyResult] = loop.create_future()
        self.bytes_in = self.bytes_out = 0
        self._options = options
        self._lines: Any = lines.transport
        self._line = bytearray()  # the one that has not ended
        self._input = 0  # lines so far
        self._is_closed = False  # no more input
        self._is_lost = lines.hold.lost
        self._moved_at = 0.0
        self._reads = 0
        self._reason = ""
        self.link = MessageLink(stream, self, options, MAX_INCOMING)
        if self._is_lost:
            self._fail("standard input and output: closed")
            return
        self._lines.set_protocol(self)
        self._lines.set_write_buffer_limits(high=0)
        if lines.hold.leftover:
            self.data_received(lines.hold.leftover)
        if lines.hold.eof:
            self.eof_received()
        self.link_writable(self.link.unsent() == 0)

    # -- lines to messages ---------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._is_closed:
            return
        *ended, rest = data.split(b"\n")
        if ended:
            first, *others = ended
            for line in (bytes(self._line) + first, *others):
                self._send(line)
            self._line.clear()
        self._line += rest
        if len(self._line) > MAX_INCOMING:
            self._fail(f"line {self._input + 1} of the input is over 16 MiB")

    def _send(self, line: bytes) -> None:
        self._input += 1
        line = line.removesuffix(b"\r")
        try:
            line.decode()
        except UnicodeDecodeError:
            self._fail(f"line {self._input} of the input is not UTF-8")
        if self.link.is_open:
            self.link.write(self.link.encode(line, OP_TEXT))
            self.bytes_in += len(line)

    def eof_received(self) -> bool:
        if not self._is_closed:
            if self._line:
                self._send(bytes(self._line))
                self._line.clear()
            self._is_closed = True
            if self._options.on_eof == "close":
                self.link.close(_consts.CLOSE_NORMAL)
            self.link.due = 0.0
        return True

    def _fail(self, reason: str) -> None:
        """Our side cannot go on."""
        self._reason = self._reason or reason
        self._is_closed = True
        self.link.close(_consts.CLOSE_INTERNAL_ERROR, reason)

    # -- messages to lines ---------------------------------------------------------

    def message_received(self, payload: memoryview, is_text: bool) -> None:
        if self._is_lost or self._lines.is_closing():
            return
        line = bytes(payload).replace(b"\r\n", b" ").replace(b"\n", b" ")
        self._lines.write(line + b"\n")
        self.bytes_out += len(payload)

    def message_dropped(self) -> None:
        self._reason = self._reason or "a message is over 16 MiB"
        self.link.close(_consts.CLOSE_TOO_BIG)

    def pause_writing(self) -> None:
        self.link.pause_reading()

    def resume_writing(self) -> None:
        self.link.resume_reading()

    # -- life ----------------------------------------------------------------------

    def link_writable(self, is_writable: bool) -> None:
        if not self._is_lost and not self._lines.is_closing():
            if is_writable:
                self._lines.resume_reading()
            else:
                self._lines.pause_reading()

    def link_tick(self, now: float) -> float:
        """After the end of input: Close when the peer has been silent for a while."""
        if not self._is_closed:
            return float("inf")
        link, linger = self.link, self._options.linger
        if link.reads != self._reads or link.unsent() or not self._moved_at:
            self._reads = link.reads
            self._moved_at = now
        elif now - self._moved_at >= linger:
            link.close(_consts.CLOSE_NORMAL)
        return 0.0

    def link_closing(self) -> None:
        """Nothing can be sent: whatever is typed now has nowhere to go."""
        self._is_closed = True

    def link_ended(self, reason: str) -> None:
        self._reason = self._reason or reason
        if self._is_lost:
            self._finish()
        else:
            self._lines.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost = True
        if exc is not None or not self.link.lost:
            self._fail(f"standard input and output: {describe_loss(exc, 'closed')}")
        if self.link.lost:
            self._finish()

    def _finish(self) -> None:
        if not self.done.done():
            reason = self._reason
            self.done.set_result(
                CopyResult(
                    self.bytes_in, self.bytes_out, reason or "closed", not reason
                )
            )

    @property
    def payload(self) -> int:
        """Bytes so far, both ways."""
        return self.bytes_in + self.bytes_out

    def go_away(self, reason: str) -> None:
        """End it ourselves: Close 1001."""
        self.link.go_away(reason)

    def abort(self, reason: str) -> None:
        """Drop both sides."""
        self.link.abort(reason)
        if not self._is_lost:
            self._lines.abort()
