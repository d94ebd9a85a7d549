"""The callback layer: one object that hears of everything one WebSocket does.

Source: RFC 6455 sections 5 to 7. The compiled part (``fastws._backend.MessageEnd``)
moves messages; here stand the closing handshake, the keepalive and what happens to a
peer that does not read.
"""

import asyncio
import logging
import sys
from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, Any

from fastws import _consts
from fastws._backend import MessageEnd
from fastws._consts import CLOSE_ABNORMAL, OP_CLOSE, OP_PING, Side
from fastws.exceptions import RemoteProtocolError
from fastws.net import sockopt
from fastws.net.ends import describe_loss, needs_rereads, read_held
from fastws.net.keepalive import after_ping
from fastws.net.stream import Kind, write_eof
from fastws.net.sweep import sweep_of
from fastws.typing import BytesLike, Codec
from fastws.wire.frames import Close, encode_control
from fastws.ws.failures import log_failure
from fastws.ws.limits import DEFAULTS, Options
from fastws.ws.memory import pool_of

logger = logging.getLogger("fastws.ws")

_MAX_REASON = 123  # RFC 6455 section 5.5: a control payload of 125, less the code
_NEVER = float("inf")


if TYPE_CHECKING:
    _Base = MessageEnd
else:

    class _Base(MessageEnd, asyncio.BufferedProtocol):
        """asyncio tells buffered protocols from others by their base class."""

        __slots__ = ()


class WebSocket(_Base):
    """One open WebSocket. For its event loop, and no other thread.

    Send with ``send(data, opcode, final)``; nothing here waits. ``pause_reading()``
    and ``resume_reading()`` stop and start what comes in.

    Attributes:
        handler: a ``Handler``; ``None`` once the connection is gone.
        subprotocol: agreed on, or ``None``.
        options: limits of this connection.
        opening: does a server's opening handshake on this protocol, ``None`` after it.
        kind: of the transport.
        close_sent: our Close, or ``None``.
        close_rcvd: the peer's Close, or ``None``.
        close_rcvd_then_sent: which came first, when there are both.
        error: what ended the connection, if not a Close.
        unread: messages that the handler has put aside; while there are any, the Close
            for a later mistake of the peer waits, half the closing time-out at most.
        failure: that Close, or ``None``.
        remote_address: the peer's.
        pinged_at: clock (``perf_counter``) of the last keepalive ping, 0 before it.
        due: loop time of the next look at the clock (for the sweep).
    """

    __slots__ = (
        "_deadline",
        "_is_choked",
        "_is_held",
        "_next_ping",
        "_on_lost",
        "_ping_reads",
        "_ping_since",
        "_poll_fd",
        "_reason",
        "_rereads",
        "_unanswered_at",
        "close_rcvd",
        "close_rcvd_then_sent",
        "close_sent",
        "due",
        "error",
        "failure",
        "handler",
        "kind",
        "loop",
        "opening",
        "options",
        "pinged_at",
        "remote_address",
        "subprotocol",
        "unread",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        side: Side,
        options: Options = DEFAULTS,
        codec: Codec | None = None,
    ) -> None:
        super().__init__(pool_of(loop), side, max_size=options.max_size, codec=codec)
        self.loop = loop
        self.options = options
        self.handler: Any = None
        self.opening: Any = None
        self.subprotocol: str | None = None
        self.kind = Kind.TCP
        self.remote_address: Any = None
        self.pinged_at = 0.0
        self.close_sent: Close | None = None
        self.close_rcvd: Close | None = None
        self.close_rcvd_then_sent = False
        self.error: Exception | None = None
        self.unread: Any = ()
        self.failure: Close | None = None
        self.due = _NEVER
        self._on_lost: Callable[[WebSocket], None] | None = None
        self._reason = ""
        self._poll_fd = -1
        self._deadline = 0.0  # of the closing handshake, loop time; 0: none
        self._ping_since = 0.0  # the deadline counts from here; 0: no ping is open
        self._ping_reads = 0
        self._next_ping = _NEVER
        self._unanswered_at = 0.0  # since when the kernel asks without an answer
        self._rereads = False  # the transport forgets what it holds
        self._is_choked = False  # the handler was asked to pause, or reading stands
        self._is_held = False  # reading was paused from outside

    def __repr__(self) -> str:
        state = "open" if self.is_open else "closing" if self.transport else "closed"
        return f"<WebSocket {self.side.name.lower()} {state} {self.remote_address}>"

    def start(
        self,
        transport: Any,
        kind: Kind,
        handler: Any,
        *,
        fd: int = -1,
        swap: bool = True,
        answer: bytes = b"",
        leftover: bytes = b"",
        remote_address: Any = None,
        on_lost: "Callable[[WebSocket], None] | None" = None,
    ) -> None:
        """Take over a transport after the opening handshake, and read.

        Args:
            transport: owned from now on.
            kind: of it.
            handler: retained until the connection is gone.
            fd: of the socket below it, by default asked for.
            swap: its protocol is another one.
            answer: written first: the 101 of a server.
            leftover: read before by the handshake (copied).
            remote_address: of the peer, as accepted; by default asked for.
            on_lost: called last, after ``on_close``.
        """
        options = self.options
        self.kind = kind
        if remote_address is None:
            remote_address = transport.get_extra_info("peername")
        self.remote_address = remote_address
        self._on_lost = on_lost
        if fd < 0:
            sock = transport.get_extra_info("socket")
            fd = -1 if sock is None else sock.fileno()
        self._poll_fd = fd
        is_plain = kind in (Kind.TCP, Kind.UNIX) and sys.platform != "win32"
        self.opening = self.on_bytes = None
        self.attach(transport, fd if is_plain else -1, swap)
        if kind is Kind.TLS:  # see fastws.net.copy.attach
            self._rereads = needs_rereads(transport)
            transport.set_write_buffer_limits(high=1, low=0)
        else:
            transport.set_write_buffer_limits(high=0)
        if answer:
            self.write_raw(answer)
        if options.ping_interval:
            self._next_ping = after_ping(self.loop.time(), options.ping_interval)
            self.due = self._next_ping
        sweep_of(self.loop).add(self, options.granularity)
        self._open(handler, leftover)

    def _open(self, handler: Any, leftover: bytes) -> None:
        self.handler = handler
        try:
            handler.on_open(self)
            self.on_message = handler.on_message
            self.on_ping = getattr(handler, "on_ping", None)
            self.on_pong = getattr(handler, "on_pong", None)
        except Exception as exc:
            self.handler_failed(exc)
        if leftover:
            self.feed(leftover)
        if not self._is_held and not self._is_choked:
            self._read_on()

    def lost_early(self, handler: Any, exc: Exception | None) -> None:
        """The transport went before :meth:`start`: ``handler`` hears it all the same.

        What came behind the handshake is not delivered.
        """
        self.handler = handler
        self._call(lambda: handler.on_open(self))
        self.connection_lost(exc)

    def _read_on(self) -> None:
        was_reading = self.is_reading
        super().resume_reading()
        if self._rereads and not was_reading:
            self.loop.call_soon(self._read_held)

    def _read_held(self) -> None:
        """aiofastnet forgets what it holds: see ``fastws.net.ends.RereadEnd``."""
        if self.is_reading:
            read_held(self.transport)

    @property
    def is_flowing(self) -> bool:
        """Nothing but the clock needs a look at this connection (for the sweep)."""
        return self.is_reading and not self.is_write_paused

    # -- what the user says --------------------------------------------------------

    def ping(self, payload: BytesLike = b"") -> bool:
        """Send a ping of at most 125 bytes (copied); ``False``: it was dropped."""
        if not self.is_open:
            return False
        encode_control(OP_PING, payload, None)  # raises for too many bytes
        self.send_control(OP_PING, payload)
        return True

    def close(self, code: int = _consts.CLOSE_NORMAL, reason: str = "") -> None:
        """Start the closing handshake; later calls do nothing.

        Nothing can be sent after it. Messages still come until the peer's Close, and
        the connection is cut after ``close_timeout``.

        Args:
            code: 1005 sends an empty frame.
            reason: at most 123 bytes of UTF-8.

        Raises:
            LocalProtocolError: code or reason must not be sent.
        """
        if self.failure is not None:
            self.fail_now()
        elif self.is_open:
            self._send_close(Close(code, reason))

    def abort(self) -> None:
        """Cut the connection at once; the peer sees a reset."""
        if self.transport is not None:
            self._cut("aborted")

    def pause_reading(self) -> None:
        """Stop reading; messages that were read already still come.

        Once a Close was sent, messages are dropped instead: the peer's has to come.
        """
        self._is_held = True
        if self.close_sent is None:
            super().pause_reading()
        else:
            self.on_message = None

    def resume_reading(self) -> None:
        """Go on reading."""
        self._is_held = False
        if not self._is_choked:
            self._read_on()

    # -- what the peer says --------------------------------------------------------

    def close_received(self, payload: bytes) -> None:
        try:
            close = Close.parse(payload)
        except RemoteProtocolError as error:
            self.protocol_error(error)
            return
        self.close_rcvd = close
        self.is_discarding = True
        if self.close_sent is None:
            self.close_rcvd_then_sent = True
            self._send_close(Close(close.code))  # RFC 6455 section 5.5.1: its code
        self._finish()

    def protocol_error(self, error: RemoteProtocolError) -> None:
        code = error.close_code or _consts.CLOSE_PROTOCOL_ERROR
        self.error = error
        self.is_discarding = True
        if not (self.unread and self.is_open and not self._deadline):
            self._fail_connection(code, error.reason)
            return
        self.failure = Close(code, error.reason)
        half = (self.options.close_timeout or _NEVER) / 2
        self.due = self._deadline = self.loop.time() + half

    def fail_now(self) -> None:
        """All that came before a mistake of the peer has had its answers."""
        close, self.failure = self.failure, None
        if close is not None:
            self._fail_connection(close.code, close.reason)

    def handler_failed(self, exc: Exception) -> None:
        """One line, no more: the connection ends, the others go on."""
        log_failure(logger, exc)
        if self.transport is not None:
            self.error = exc
            self._fail_connection(_consts.CLOSE_INTERNAL_ERROR, "")

    def _fail_connection(self, code: int, reason: str) -> None:
        """RFC 6455 section 7.1.7: say why in a Close, and take nothing more."""
        self._reason = self._reason or reason
        self.is_discarding = True
        if self.close_sent is None and self.can_write:
            short = reason.encode()[:_MAX_REASON].decode(errors="ignore")
            self._send_close(Close(code, short))
        self._finish()

    def _send_close(self, close: Close) -> None:
        self.send_control(OP_CLOSE, close.encode())
        self.is_open = False
        self.close_sent = close
        limit = self.options.close_timeout
        self._deadline = _NEVER if limit is None else self.loop.time() + limit
        self.due = self._deadline
        self._read_on()  # the peer's Close is worth reading, whoever is slow

    def _finish(self) -> None:
        """Both Closes are out, or nothing more is worth reading: let TCP end.

        The server ends first (RFC 6455 section 7.1.1); closing with unread input
        would reset, and destroy our Close on its way.
        """
        if self.side is Side.CLIENT or not self.can_write:
            return
        self.flush()
        self.can_write = False
        if self.kind is not Kind.TLS:
            if not self.transport.is_closing():
                write_eof(self.transport)
        elif not self.is_write_paused:
            self.transport.close()

    def connection_made(self, transport: Any) -> None:
        if self.opening is not None:
            self.opening.connection_made(transport)

    def eof_received(self) -> bool:
        """TCP EOF: in order only after the peer's Close."""
        if self.close_rcvd is None:
            self._reason = self._reason or "lost without a Close"
        self.is_open = False
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self.opening is not None:
            self.opening.connection_lost(exc)
            self.opening = self.on_bytes = None
            return
        sweep_of(self.loop).discard(self)
        if exc is not None and self.close_rcvd is None:
            self.error = self.error or exc
        handler, on_lost = self.handler, self._on_lost
        close = self.close_rcvd
        code = CLOSE_ABNORMAL if close is None else close.code
        reason = self._reason if close is None else close.reason
        if close is None and not reason:
            is_usual = isinstance(exc, BrokenPipeError)  # a reset, seen by a write
            reason = describe_loss(None if is_usual else exc, "lost without a Close")
        self.handler = self._on_lost = None
        self.detach()
        try:
            if handler is not None:
                handler.on_close(code, reason)
        except Exception as failure:
            self.handler_failed(failure)
        if on_lost is not None:
            on_lost(self)

    # -- peers that do not read ----------------------------------------------------

    def write_stalled(self) -> None:
        unsent = self.unsent
        if unsent > self.options.max_unsent:
            self._cut(f"{unsent} bytes unsent: the peer does not read")
        elif unsent > self.options.write_limit and not self._is_choked:
            self._is_choked = True
            on_pause = getattr(self.handler, "on_pause", None)
            if on_pause is not None:
                self._call(on_pause)
            elif self.close_sent is None:
                super().pause_reading()

    def drained(self) -> None:
        if not self.can_write and self.kind is Kind.TLS and self.side is Side.SERVER:
            self.transport.close()
        if self._is_choked:
            self._is_choked = False
            on_resume = getattr(self.handler, "on_resume", None)
            if on_resume is not None:
                self._call(on_resume)
            if not self._is_held:
                self._read_on()

    def _call(self, hook: Callable[[], Any]) -> None:
        try:
            hook()
        except Exception as exc:
            self.handler_failed(exc)

    def _cut(self, reason: str) -> None:
        self._reason = self._reason or reason
        self.mute()
        sockopt.reset(self.transport)

    # -- time ----------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """One look at the clock, by the sweep."""
        if self.transport is None or self.transport.is_closing():
            return
        if self._deadline:
            if now >= self._deadline:
                self.fail_now() if self.failure else self._cut("no Close in answer")
            return
        if not self.is_reading and sockopt.poll_dead(self._poll_fd) == "reset":
            self._read_on()  # the transport finds out
        elif self._is_path_dead(now):
            self._time_out("dead path")
        elif self.options.ping_interval:
            self._tick_ping(now, self.options.ping_interval)

    def _tick_ping(self, now: float, interval: float) -> None:
        """Ping when it is due; any byte answers, and a stall of ours is no silence."""
        timeout = self.options.ping_timeout or _NEVER
        if self._ping_since:
            if self.reads != self._ping_reads:
                self._ping_since = 0.0
            elif not self.is_reading or self.is_write_paused:
                self._ping_since = now
            elif now - self._ping_since >= timeout:
                self._time_out("keepalive ping timeout")
                return
        if not self._ping_since and now >= self._next_ping and not self.is_write_paused:
            self._next_ping = after_ping(now, interval)
            self._ping_since = now
            self._ping_reads = self.reads
            self.pinged_at = perf_counter()
            self.send_control(OP_PING, b"")
        self.due = self._next_ping
        if self._ping_since:
            self.due = min(self.due, self._ping_since + timeout)

    def _time_out(self, reason: str) -> None:
        self._reason = reason
        self._send_close(Close(_consts.CLOSE_INTERNAL_ERROR, reason))
        self._cut(reason)

    def _is_path_dead(self, now: float) -> bool:
        """Whether the kernel's retransmissions have long had no answer (DESIGN 3)."""
        options = self.options
        info = None
        if self.is_write_paused and options.ping_interval and options.ping_timeout:
            info = sockopt.tcp_info(self.transport.get_extra_info("socket"))
        if info is None or not (info.retransmits or info.probes):
            self._unanswered_at = 0.0
            return False
        assert options.ping_interval
        assert options.ping_timeout
        self._unanswered_at = self._unanswered_at or now
        limit = options.ping_interval + options.ping_timeout
        long_asked = now - self._unanswered_at >= options.ping_timeout / 2
        return long_asked and info.last_ack_recv > limit
