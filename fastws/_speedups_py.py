"""Frame codec, UTF-8 check and byte queue in Python: the pure twin.

This is the specification of ``_speedups.pyx``: same names, signatures, results,
exceptions with their texts, and state after a failure. Nothing here does I/O; any
object may be used by one task at a time unless its docstring says otherwise.
"""

import codecs
from operator import index
from typing import Final, final

from fastws._buffer_py import BinaryMut, byte_view
from fastws._consts import (
    CLOSE_PROTOCOL_ERROR,
    CLOSE_TOO_BIG,
    FIN,
    FRAME_END,
    FRAME_START,
    LENGTH_MASK,
    MASK,
    MAX_CONTROL_PAYLOAD,
    MAX_HEADER,
    MESSAGE_END,
    OP_BINARY,
    OP_CLOSE,
    OP_CONT,
    OP_PONG,
    OPCODE_MASK,
    PACKED_EXTRA,
    PACKED_SHIFT,
    PART_RSV1,
    RSV1,
    RSV_MASK,
    FrameHeader,
    Side,
)
from fastws._framing_py import (
    TOP_BIT,
    MaskKeys,
    apply_mask,
    decode_header,
    default_keys,
    encode_frame,
    first_byte,
    header_size,
    read_length,
    whole_header,
    write_header,
)
from fastws.exceptions import RemoteProtocolError
from fastws.typing import BytesLike, WritableBuffer

__all__ = (
    "BinaryMut",
    "FrameDecoder",
    "FrameHeader",
    "MaskKeys",
    "Utf8Validator",
    "apply_mask",
    "decode_header",
    "default_keys",
    "encode_frame",
    "write_header",
)

_WHOLE: Final = FRAME_START | FRAME_END | MESSAGE_END


# --------------------------------------------------------------------- utf-8


@final
class Utf8Validator:
    """Incremental check that text is UTF-8; fails at the first wrong byte.

    Source: RFC 3629, RFC 6455 section 8.1. After a message that ended ``complete``
    the same object serves the next one.
    """

    __slots__ = ("_decoder", "_failed")

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._failed = False

    @property
    def complete(self) -> bool:
        """Nothing was wrong and no character is unfinished."""
        return not self._failed and not self._decoder.getstate()[0]

    def feed(self, buf: BytesLike) -> bool:
        """Check the next bytes; viewed during the call, not retained.

        Returns:
            ``False`` as soon as no continuation could make the text valid, and from
            then on.
        """
        view = byte_view(buf, writable=False)
        if not self._failed:
            try:
                self._decoder.decode(bytes(view))
            except UnicodeDecodeError:
                self._failed = True
            # The decoder holds back the start of a surrogate, which is wrong already.
            if b"\xed\xa0" <= self._decoder.getstate()[0] < b"\xee":
                self._failed = True
        return not self._failed


# ------------------------------------------------------------- FrameDecoder


def _size_limit(name: str, value: int | None) -> int | None:
    if value is None:
        return None
    value = index(value)
    if value < 0:
        raise ValueError(f"{name} must be None or at least 0")
    return value


@final
class FrameDecoder:
    """Resumable decoder of the frames that one peer sends.

    Source: RFC 6455 sections 5.1 to 5.5. Takes any cut of the byte stream and hands
    out payload as it comes, so that no whole frame needs to be in memory. Checked on
    the header, before any payload of that frame:

    - reserved bits only as extensions allow, RSV1 only on a message's first frame;
    - no reserved opcode; masked exactly when the peer is a client;
    - control frames whole and at most 125 bytes;
    - a continuation only inside a message, a new message only outside one;
    - lengths in their shortest form, the top bit of a 64-bit length 0;
    - ``max_payload`` and ``max_message``.

    Bytes after a Close frame are ignored. Payload of Close and UTF-8 are not looked
    at. May be used by one task at a time.

    Args:
        side: our side: a server expects masked frames, a client unmasked ones.
        max_payload: bytes of one data frame, ``None``: unlimited.
        max_message: bytes of one data message in all its frames, ``None``: unlimited.
            With RSV1 it is meant for what the message unpacks to, which somebody else
            has to look at: here such a frame counts for seven eighths of what it has
            above 64 bytes, so that none is refused whose content is within the limit.
        rsv: reserved bits that negotiated extensions use, in place.

    Attributes:
        error: the ``RemoteProtocolError`` that ended decoding, or ``None``. Its
            ``close_code`` is 1002, or 1009 for a limit.

    Raises:
        ValueError: an argument is out of range.
    """

    __slots__ = (
        "_control",
        "_expects_mask",
        "_fin",
        "_header",
        "_in_frame",
        "_is_closed",
        "_is_started",
        "_key",
        "_max_message",
        "_max_payload",
        "_message_flags",
        "_message_opcode",
        "_message_size",
        "_opcode",
        "_phase",
        "_remaining",
        "_rsv",
        "error",
    )

    def __init__(
        self,
        side: Side | int,
        *,
        max_payload: int | None = None,
        max_message: int | None = None,
        rsv: int = 0,
    ) -> None:
        ours = index(side)
        if ours not in (0, 1):
            raise ValueError("side must be Side.CLIENT or Side.SERVER")
        self.error: RemoteProtocolError | None = None
        self._expects_mask = ours == 1
        self._max_payload = _size_limit("max_payload", max_payload)
        self._max_message = _size_limit("max_message", max_message)
        self._rsv = first_byte(0, False, rsv)
        self._header = bytearray()  # of a frame, while it is incomplete
        self._in_frame = False
        self._is_started = False  # a part of the frame was delivered
        self._fin = False
        self._opcode = 0  # of the frame, 0 for a continuation
        self._remaining = 0  # payload bytes of the frame still to come
        self._key = b""
        self._phase = 0
        self._message_opcode = 0  # 1, 2 or 0: no message is open
        self._message_flags = 0
        self._message_size = 0
        self._control = bytearray()
        self._is_closed = False

    @property
    def in_message(self) -> bool:
        """A fragmented or partly received data message is open."""
        return self._message_opcode != 0

    @property
    def at_boundary(self) -> bool:
        """No frame is partly received and no error was found."""
        return self.error is None and not self._header and not self._in_frame

    def receive_data(
        self, buf: WritableBuffer
    ) -> list[tuple[int, memoryview | bytes, int]]:
        """Decode the next bytes of the stream.

        Never raises for what the peer sent: parts before a mistake are returned, the
        mistake is in ``error``, and later calls return nothing.

        Args:
            buf: any cut of the stream; payload is unmasked in place. The caller owns
                it; data payloads in the result are views of it. A client's decoder
                does not write and takes read-only memory too.

        Returns:
            ``(opcode, payload, flags)`` of each part, in order. Data: the opcode of
            the message, also for its continuation frames; a view of the bytes there
            were, which may be empty; flags of ``_consts``: ``FRAME_START``,
            ``FRAME_END`` and ``MESSAGE_END`` for the first and last part of a frame
            and of a message, ``PART_RSV1`` on each part of a message whose first
            frame had RSV1. Control frames: one part of bytes each, all flags set
            except ``PART_RSV1``.

        Raises:
            BufferError: ``buf`` is not contiguous, or a server's is read-only.
        """
        view = byte_view(buf, writable=self._expects_mask)
        parts: list[tuple[int, memoryview | bytes, int]] = []
        at = 0
        size = len(view)
        while at < size and self.error is None and not self._is_closed:
            if not self._in_frame:
                at, is_complete = self._read_header(view, at)
                if not is_complete or (at == size and self._remaining):
                    break
            taken = view[at : at + self._remaining]
            at += len(taken)
            if self._opcode < OP_CLOSE:
                parts.append(self._take_data(taken))
            elif self._take_control(taken):
                payload = bytes(self._control)
                parts.append((self._opcode, payload, _WHOLE))
        return parts

    def _read_header(self, view: memoryview, at: int) -> tuple[int, bool]:
        """Collect and check one header: where to go on, and whether with payload."""
        header = self._header
        known = len(header)
        header += view[at : at + MAX_HEADER - known]
        if len(header) < 2:
            return len(view), False
        if known < 2 and (reason := self._wrong_start(header[0], header[1])):
            self._fail(reason, CLOSE_PROTOCOL_ERROR)
            return at, False
        size = whole_header(header[1])
        if len(header) < size:
            return len(view), False
        self._header = bytearray()
        self._start_frame(header[:size])
        return at + size - known, self._in_frame

    def _wrong_start(self, b0: int, b1: int) -> str:
        """What is wrong with the first two bytes; empty if nothing is."""
        opcode = b0 & OPCODE_MASK
        if bits := b0 & RSV_MASK & ~self._rsv:
            return f"reserved bits 0x{bits:02x} are set without an extension"
        if OP_BINARY < opcode < OP_CLOSE or opcode > OP_PONG:
            return f"opcode 0x{opcode:x} is reserved"
        if self._expects_mask and not b1 & MASK:
            return "a frame from a client is not masked"
        if not self._expects_mask and b1 & MASK:
            return "a frame from a server is masked"
        if opcode >= OP_CLOSE:
            if not b0 & FIN:
                return "a control frame is fragmented"
            if b1 & LENGTH_MASK > MAX_CONTROL_PAYLOAD:
                return "a control frame has more than 125 bytes"
            if b0 & RSV1:
                return "RSV1 is set on a control frame"
        elif opcode == OP_CONT:
            if not self._message_opcode:
                return "a continuation frame has no message to continue"
            if b0 & RSV1:
                return "RSV1 is set on a continuation frame"
        elif self._message_opcode:
            return "a new message starts inside a fragmented message"
        return ""

    def _start_frame(self, header: bytearray) -> None:
        """Check the length, then begin the frame."""
        length = read_length(header)
        opcode = header[0] & OPCODE_MASK
        key = bytes(header[-4:]) if header[1] & MASK else None
        if length >= TOP_BIT:
            self._fail("a 64-bit length has its top bit set", CLOSE_PROTOCOL_ERROR)
            return
        if header_size(length, key is not None) != len(header):
            self._fail(
                f"length {length} is not in its shortest form", CLOSE_PROTOCOL_ERROR
            )
            return
        if opcode < OP_CLOSE:
            if opcode != OP_CONT:
                self._message_flags = PART_RSV1 if header[0] & RSV1 else 0
            counted = length
            if self._message_flags & PART_RSV1:
                counted = max(length - (length >> PACKED_SHIFT) - PACKED_EXTRA, 0)
            if reason := self._over_limit(length, counted):
                self._fail(reason, CLOSE_TOO_BIG)
                return
            self._message_size += counted
            if opcode != OP_CONT:
                self._message_opcode = opcode
        self._key = key or b""
        self._opcode = opcode
        self._fin = bool(header[0] & FIN)
        self._remaining = length
        self._phase = 0
        self._control.clear()
        self._is_started = False
        self._in_frame = True

    def _over_limit(self, length: int, counted: int) -> str:
        if self._max_payload is not None and length > self._max_payload:
            return f"a frame of {length} bytes exceeds {self._max_payload}"
        total = self._message_size + counted
        if self._max_message is not None and total > self._max_message:
            return f"a message of {total} bytes or more exceeds {self._max_message}"
        return ""

    def _fail(self, reason: str, close_code: int) -> None:
        self.error = RemoteProtocolError(reason, close_code=close_code)

    def _take_data(self, taken: memoryview) -> tuple[int, memoryview, int]:
        flags = self._message_flags
        if self._key:
            self._phase = apply_mask(taken, self._key, self._phase)
        if not self._is_started:
            self._is_started = True
            flags |= FRAME_START
        self._remaining -= len(taken)
        opcode = self._message_opcode
        if not self._remaining:
            self._in_frame = False
            flags |= FRAME_END
            if self._fin:
                flags |= MESSAGE_END
                self._message_opcode = 0
                self._message_size = 0
        return opcode, taken, flags

    def _take_control(self, taken: memoryview) -> bool:
        """Collect a control frame; whether it is complete."""
        self._control += taken
        self._remaining -= len(taken)
        if self._remaining:
            return False
        if self._key:
            apply_mask(self._control, self._key)
        self._in_frame = False
        self._is_closed = self._opcode == OP_CLOSE
        return True
