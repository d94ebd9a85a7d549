"""Whole messages in and out of one WebSocket, pure twin.

This is the specification of ``_messages.pxi``. A :class:`MessageEnd` is an asyncio
``BufferedProtocol``: the kernel reads into the memory of the loop's
:class:`MessagePool`, messages that are complete in one read are handed out as views
of it, and what is sent meanwhile leaves in one write at the end of the read. Closing,
the clock and every decision belong to the subclass (``fastws.ws.protocol``).

Ownership: a view stays valid for as long as it is held, and holds up to 256 KiB (or
its whole message) in memory. ``bytes(view)`` is the thing to keep.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from fastws import _consts
from fastws._buffer_py import byte_view
from fastws._consts import (
    MESSAGE_END,
    OP_BINARY,
    OP_CLOSE,
    OP_CONT,
    OP_PING,
    OP_PONG,
    OP_TEXT,
    PART_RSV1,
    RSV1,
    Side,
)
from fastws._speedups_py import (
    FrameDecoder,
    MaskKeys,
    Utf8Validator,
    default_keys,
    encode_frame,
)
from fastws.exceptions import LocalProtocolError, RemoteProtocolError
from fastws.typing import BytesLike, Codec

READ = 256 * 1024  # bytes of one read
TURN = 1024 * 1024  # bytes of full reads until other connections have their turn
UNLIMITED = (1 << 63) - 1  # what a codec hears of a message without a limit
CRUMBS = 1024  # frames of one read; more of them take as long as many bytes


class MessagePool:
    """The read memory of one event loop, replaced while a view of it is held.

    Args:
        call_soon: of that loop; with it, ends that read much take turns.
    """

    __slots__ = ("_memory", "call_soon")

    def __init__(self, call_soon: Callable[..., Any] | None = None) -> None:
        self.call_soon = call_soon
        self._memory = bytearray(READ)

    @property
    def memory(self) -> bytearray:
        """What the last read filled."""
        return self._memory

    def fresh(self) -> bytearray:
        """Memory for a read, which nobody views."""
        try:
            self._memory.append(0)  # no bytearray changes its size while viewed
            del self._memory[READ:]
        except BufferError:
            self._memory = bytearray(READ)
        return self._memory


class MessageEnd(asyncio.BufferedProtocol):
    """One end of a WebSocket that sends and receives messages.

    For one event loop, and no other thread. Text is checked while it arrives (1007),
    and messages over ``max_size`` end the connection on the header of the frame that
    makes them so (1009). Of the pings of one read, and of those that come while
    something is unsent, only the newest is answered (RFC 6455 section 5.5.3).

    Args:
        pool: memory of the running loop; retained.
        side: ours; a client masks what it sends.
        max_size: bytes of one incoming message, decompressed; ``None``: unlimited.
        keys: masking keys of a client, those all share by default.
        codec: compresses messages, ``None`` without the extension.

    Attributes:
        transport: the asyncio transport, ``None`` before and after it.
        on_message: called as ``on_message(payload, opcode, final)``.
        on_bytes: called with whatever is read, in place of everything else, until it
            is ``None``: an opening handshake on the same protocol.
        on_ping: called with the payload of each ping (bytes), or ``None``.
        on_pong: likewise for pongs.
        assembles: hand out whole messages, ``final`` always set. Otherwise payload
            as it comes: at least one call a message, the last one with ``final``.
        copies: hand out ``str`` for text and ``bytes``, in place of views; only
            bytes without ``assembles``.
        is_open: messages can be sent.
        can_write: control frames can be sent as well.
        is_discarding: whatever is read is dropped.
        is_reading: reading is not paused.
        is_write_paused: the transport holds bytes that are not sent yet.
        reads: reads so far; any received byte counts.
    """

    # Subclasses with multiple bases need an instance layout of their own.

    def __init__(
        self,
        pool: MessagePool,
        side: Side,
        *,
        max_size: int | None = _consts.MAX_INCOMING,
        keys: MaskKeys | None = None,
        codec: Codec | None = None,
    ) -> None:
        self.pool = pool
        self.side = side
        self.max_size = max_size
        self.codec = codec
        self.keys = keys or default_keys() if side == Side.CLIENT else None
        self.decoder = FrameDecoder(
            side, max_message=max_size, rsv=0 if codec is None else RSV1
        )
        self.transport: Any = None
        self.fd = -1
        self.on_message: Callable[[Any, int, bool], Any] | None = None
        self.on_bytes: Callable[[bytes], Any] | None = None
        self.on_ping: Callable[[bytes], Any] | None = None
        self.on_pong: Callable[[bytes], Any] | None = None
        self.assembles = True
        self.copies = False
        self.is_open = False
        self.can_write = False
        self.is_discarding = False
        self.is_reading = False
        self.is_write_paused = False
        self.reads = 0
        self._is_sending_fragments = False
        self._partial: bytearray | None = None  # payload of an unfinished message
        self._inflated = 0  # bytes that a compressed message had so far
        self._text: Utf8Validator | None = None
        self._ping: bytes | None = None  # newest that waits until everything is sent
        self._answers = True  # pings of this read are answered as they come
        self._cork: list[bytes] | None = None  # what leaves at the end of the read
        self._turn = 0

    def attach(self, transport: Any, fd: int = -1, swap: bool = True) -> None:
        """Become the transport's protocol, open to send; reading is left as it is.

        Args:
            transport: with limits of 0 (1 and 0 over TLS) for its buffer.
            fd: of a plain socket below it, to send without detour; -1: none.
            swap: another protocol has to go; otherwise it is this one.
        """
        self.transport = transport
        self.fd = fd
        self.is_open = self.can_write = True
        self.is_reading = False
        if swap:
            transport.set_protocol(self)

    def set_codec(self, codec: Codec) -> None:
        """Compress messages from now on; before the first one only."""
        self.codec = codec
        self.decoder = FrameDecoder(self.side, max_message=self.max_size, rsv=RSV1)

    def take_partial(self) -> tuple[int, bytes]:
        """What has come of an unfinished message, and forget it; not within a read.

        Returns:
            The opcode of the message, 0 for none, and the payload so far.
        """
        opcode, payload = 0, b""
        if self._partial is not None:
            opcode, payload = self.decoder._message_opcode, bytes(self._partial)
            self._partial = None
        return opcode, payload

    def detach(self) -> None:
        """Forget transport and handler, so that reference cycles end here."""
        self.transport = None
        self.on_message = self.on_ping = self.on_pong = self.on_bytes = None
        self.is_reading = False
        self.mute()

    def mute(self) -> None:
        """Write nothing and hand out nothing from now on; drop what is corked."""
        self.is_open = self.can_write = False
        self.is_discarding = True
        self.fd = -1
        self._partial = self._ping = self._text = None
        if self._cork:
            self._cork.clear()

    @property
    def unsent(self) -> int:
        """Bytes the transport has taken and not yet sent."""
        if self.transport is None:
            return 0
        return int(self.transport.get_write_buffer_size())

    # -- reading ---------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        pass

    def get_buffer(self, sizehint: int) -> memoryview:
        return memoryview(self.pool.fresh())

    def buffer_updated(self, nbytes: int) -> None:
        if self.on_bytes is not None:
            self.on_bytes(bytes(memoryview(self.pool.memory)[:nbytes]))
            return
        self._receive(memoryview(self.pool.memory)[:nbytes])
        if nbytes == READ:
            self._turn += nbytes
        elif self._turn < TURN:
            self._turn = 0
        if self._turn >= TURN and self.pool.call_soon is not None:
            self._turn = 0
            if self.is_reading and self.transport is not None:
                self.transport.pause_reading()
                self.pool.call_soon(self.take_turn)

    def take_turn(self) -> None:
        """Go on reading: libuv would read on at once, and let all others wait."""
        if self.is_reading and self.transport is not None:
            self.transport.resume_reading()

    def feed(self, data: BytesLike) -> None:
        """Take ``data`` (copied) as if it had just been read."""
        view = byte_view(data, writable=False)
        for start in range(0, len(view), READ):
            piece = view[start : start + READ]
            memory = self.pool.fresh()
            memory[: len(piece)] = piece
            self._receive(memoryview(memory)[: len(piece)])

    def _receive(self, view: memoryview) -> None:
        self.reads += 1
        if self.is_discarding:
            return
        self._cork = []
        self._answers = not self.is_write_paused
        self._receive_frames(view)
        self.flush()
        self._cork = None
        if self.is_write_paused and self.can_write:
            self.write_stalled()

    def _receive_frames(self, view: memoryview) -> None:
        parts = self.decoder.receive_data(view)
        for opcode, payload, flags in parts:
            if opcode >= OP_CLOSE:
                self._receive_control(opcode, bytes(payload))
            else:
                self._receive_part(opcode, payload, flags)
            if self.is_discarding:
                self._partial = self._text = None
                return
        if len(parts) > CRUMBS:
            self._turn = TURN
        if self.decoder.error is not None:
            self.protocol_error(self.decoder.error)
            self._partial = self._text = None

    def _receive_control(self, opcode: int, payload: bytes) -> None:
        if opcode == OP_PING:
            self._ping = payload
            if self._answers:
                self._answer_ping()
            self._tell(self.on_ping, payload)
        elif opcode == OP_PONG:
            self._tell(self.on_pong, payload)
        else:
            self.close_received(payload)

    def _receive_part(
        self, opcode: int, payload: memoryview | bytes, flags: int
    ) -> None:
        final = flags & MESSAGE_END != 0
        if flags & PART_RSV1:
            was_discarding = self.is_discarding
            payload = self._inflate(payload, final)
            if self.is_discarding and not was_discarding:
                return  # it failed, and has been told
        if opcode == OP_TEXT and not self._is_valid(payload, final):
            self.protocol_error(
                RemoteProtocolError(
                    "text is not valid UTF-8",
                    close_code=_consts.CLOSE_INVALID_PAYLOAD,
                )
            )
        elif self.is_discarding:
            pass
        elif not self.assembles and self._partial is None and (payload or final):
            whole = bytes(payload) if self.copies else memoryview(payload)
            self._tell(self.on_message, whole, opcode, final)
        elif self.assembles or self._partial is not None:
            self._assemble(opcode, payload, final)

    def _assemble(self, opcode: int, payload: memoryview | bytes, final: bool) -> None:
        """Collect one message; a whole one is handed out from where it lies."""
        whole: BytesLike = payload
        if self._partial is not None or not final:
            if self._partial is None:
                self._partial = bytearray()
            self._partial += payload
            if not final:
                return
            whole, self._partial = self._partial, None
        if not self.copies:
            self._tell(self.on_message, memoryview(whole), opcode, True)
        elif opcode == OP_TEXT and self.assembles:
            self._tell(self.on_message, str(whole, "utf-8"), opcode, True)
        else:
            self._tell(self.on_message, bytes(whole), opcode, True)

    def _is_valid(self, payload: BytesLike, final: bool) -> bool:
        """RFC 6455 section 8.1, while it arrives."""
        if self._text is None:
            self._text = Utf8Validator()
        return self._text.feed(payload) and (not final or self._text.complete)

    def _inflate(self, chunk: BytesLike, final: bool) -> bytes:
        """RFC 7692: RSV1 marks a compressed message; empty after a failure."""
        assert self.codec is not None  # the decoder refuses RSV1 without it
        limit = UNLIMITED if self.max_size is None else self.max_size
        try:
            data = self.codec.decompress(chunk, final, limit - self._inflated)
        except RemoteProtocolError as error:
            self.protocol_error(error)
            return b""
        self._inflated = 0 if final else self._inflated + len(data)
        return data

    def _tell(self, hook: Callable[..., Any] | None, *args: Any) -> None:
        """Call into the user's handler; what it raises stays out of the event loop."""
        if hook is None:
            return
        try:
            hook(*args)
        except Exception as exc:
            self.handler_failed(exc)

    def _answer_ping(self) -> None:
        """Each ping in its turn; while anything is unsent, only the newest."""
        payload = self._ping
        if payload is not None:
            self._ping = None
            if self.is_open:
                self.send_control(OP_PONG, payload)

    # -- writing ---------------------------------------------------------------

    def send(self, data: BytesLike | str, opcode: int = -1, final: bool = True) -> bool:
        """Send a message, or the next fragment of one.

        Never waits: what the kernel does not take is kept, see ``is_write_paused``.
        What a handler sends while it is called leaves together when the messages of
        that read are through, or by :meth:`flush`.

        Args:
            data: text as ``str``, anything else binary; viewed during the call only.
            opcode: ``OP_TEXT`` or ``OP_BINARY`` for a new message, whatever the type
                of ``data`` (UTF-8 in bytes is not checked); ``OP_CONT`` goes on with
                a fragmented one. By default as ``data`` and the last call say.
            final: the message ends here.

        Returns:
            ``False``: nothing can be sent any more, ``data`` was dropped.

        Raises:
            LocalProtocolError: a fragmented message has not ended, or there is none.
            ValueError: another opcode.
        """
        if not self.is_open:
            return False
        if isinstance(data, str):
            data, kind = data.encode(), OP_TEXT
        else:
            data, kind = byte_view(data, writable=False), OP_BINARY
        if opcode < 0:
            opcode = OP_CONT if self._is_sending_fragments else kind
        if opcode > OP_BINARY:
            raise ValueError("opcode must be OP_TEXT, OP_BINARY or OP_CONT")
        if self._is_sending_fragments != (opcode == OP_CONT):
            raise LocalProtocolError(
                "a new message inside a fragmented one"
                if self._is_sending_fragments
                else "no fragmented message to go on with"
            )
        rsv = 0
        if self.codec is not None:
            data = self.codec.compress(data, final)
            rsv = RSV1 if opcode != OP_CONT else 0
        self._is_sending_fragments = not final
        self._put(opcode, data, final, rsv)
        return True

    def send_control(self, opcode: int, payload: BytesLike) -> None:
        """Send a control frame of at most 125 bytes, behind what was sent before."""
        self._put(opcode, payload, True, 0)

    def _put(self, opcode: int, payload: BytesLike, fin: bool, rsv: int) -> None:
        if not self.can_write:
            return
        key = None if self.keys is None else self.keys()
        frame = encode_frame(opcode, payload, fin=fin, rsv=rsv, key=key)
        if self._cork is not None:
            self._cork.append(frame)
            return
        self.transport.write(frame)
        if self.is_write_paused and self.can_write:
            self.write_stalled()

    def write_raw(self, data: bytes) -> None:
        """Write ``data`` without a frame: the end of an opening handshake."""
        self.transport.write(data)

    def flush(self) -> None:
        """Write now what was sent in this call of a handler."""
        if self._cork:
            data = b"".join(self._cork)
            self._cork.clear()
            self.transport.write(data)

    # -- flow control ----------------------------------------------------------

    def pause_reading(self) -> None:
        """Stop reading; messages that were read already still come."""
        if self.is_reading:
            self.is_reading = False
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Go on reading."""
        if not self.is_reading and self.transport is not None:
            self.is_reading = True
            self.transport.resume_reading()

    def pause_writing(self) -> None:
        self.is_write_paused = True

    def resume_writing(self) -> None:
        if self.transport is None or self.unsent:
            return
        self.is_write_paused = False
        self._answer_ping()
        if not self.is_write_paused:
            self.drained()

    # -- what a subclass decides -------------------------------------------------

    def eof_received(self) -> bool | None:
        """The transport saw EOF; the answer is that of asyncio protocols."""
        raise NotImplementedError

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is gone."""
        raise NotImplementedError

    def close_received(self, payload: bytes) -> None:
        """A Close frame has come, with this payload."""
        raise NotImplementedError

    def protocol_error(self, error: RemoteProtocolError) -> None:
        """The peer broke RFC 6455, or exceeded a limit."""
        raise NotImplementedError

    def handler_failed(self, exc: Exception) -> None:
        """The user's handler raised."""
        raise NotImplementedError

    def write_stalled(self) -> None:
        """Something was written, and bytes are unsent."""
        raise NotImplementedError

    def drained(self) -> None:
        """Nothing is unsent any more."""
        raise NotImplementedError
