"""The pump, pure twin: the two linked ends of one copy and their read buffer.

This is the specification of ``_copyloop.pxi``. A :class:`CopyEnd` is an asyncio
``BufferedProtocol``: the kernel reads into the scratch buffer of the loop, frames
are decoded, masked and framed in that memory, and it is handed to the peer's
``write``. Ends implement protocol callbacks only; opening, closing and every
decision belong to the subclass (``fastws.net.ends``).

Memory rule: after each write ``get_write_buffer_size()`` tells whether the
transport kept anything. If it did, the memory stays untouched until
``resume_writing`` finds 0, and reading from the other end is paused till then.
"""

import asyncio
from typing import Any

from fastws import _consts
from fastws._consts import HEADROOM, READ_MIN, SCRATCH_SIZE
from fastws._packets_py import Packets
from fastws._scratch_py import Scratch as Scratch
from fastws._speedups_py import (
    FrameDecoder,
    MaskKeys,
    Utf8Validator,
    apply_mask,
    encode_frame,
    write_header,
)
from fastws.exceptions import RemoteProtocolError
from fastws.typing import BytesLike

# A buffer that a transport keeps is kept whole here, so reads stay smaller than in the
# compiled twin, which gives back the part that was sent.
READ_MAX = 256 * 1024
MANY_PIECES = 512  # of one vectored write: more are cheaper copied
CRUMBS = 256  # frames of one read; more of them, if tiny, cost more than their bytes


class CopyEnd(asyncio.BufferedProtocol):
    """One end of a copy: forwards what it reads to its peer.

    Args:
        scratch: the read buffer of the running loop; retained.
        decoder: for a WebSocket end, decodes what is read; ``None``: raw bytes.
        keys: masking keys for what is written (client side), ``None``: unmasked.
        max_message: bytes of one outgoing frame, its header included.
        vectored: ``writelines`` of the transport is one vectored write.
        data_kind: of a pooled WebSocket: binary messages begin with a byte that says
            what they are, and with this one if they are payload; -1: they do not.

    Attributes:
        payload_in: payload bytes read from this end.
        payload_out: payload bytes handed to this end's transport.
        reads: reads so far; any received byte counts.
        is_sending: payload may still be written here.
        is_discarding: whatever is read is dropped.
        is_deaf: nothing more will be read.
        read_limit: bytes of one read whose payload goes to this end.
        is_reading: reading is not paused.
        keeps_reading: reading is never paused again, whatever the peer can take.
        text_mode: one of ``_consts.TEXT_*``.
        eof_signalled: set once the peer's signal F has come; data is refused then.
        data_fate: one of ``_consts.DATA_*``: what messages of ``data_kind`` are now.
        held: payload that came while there was no peer, for the next one. It pauses
            reading, so that it is one read at most; the owner clears it.
        wants_drained: call :meth:`drained` when nothing is unsent.

    One task may use an end at a time. Hooks for subclasses raise here.
    """

    # Subclasses with multiple bases need an instance layout of their own.

    def __init__(
        self,
        scratch: Scratch,
        *,
        decoder: FrameDecoder | None = None,
        keys: MaskKeys | None = None,
        max_message: int = _consts.MAX_MESSAGE,
        vectored: bool = False,
        data_kind: int = -1,
    ) -> None:
        if not -1 <= data_kind <= 255:
            raise ValueError("data_kind must be in -1..255")
        self.scratch = scratch
        self.decoder = decoder
        self.keys = keys
        self.vectored = vectored
        self.max_payload = max_message - (4 if keys is None else 8)
        if self.max_payload > 65535:
            self.max_payload -= 6
        self.data_kind = data_kind
        self._prefix = b"" if data_kind < 0 else bytes((data_kind,))
        self.max_payload -= len(self._prefix)
        self._packets = Packets()
        self.data_fate = _consts.DATA_DELIVER
        self.peer: CopyEnd | None = None
        self.transport: Any = None
        self.fd = -1
        self.text_mode = _consts.TEXT_FORWARD
        self.is_sending = True
        self.is_discarding = self.is_deaf = False
        self.is_reading = self.keeps_reading = False
        self.eof_signalled = self.wants_drained = False
        self.payload_in = self.payload_out = self.reads = 0
        self.read_limit = READ_MAX
        self._read_size = READ_MIN
        self._is_crumbly = False  # the last read held many tiny frames
        self._requested = self._turn = 0  # _turn: full reads since others had theirs
        self._validator: Utf8Validator | None = None
        self._signal = self.held = b""
        self._held: list[bytearray] = []

    def link(self, peer: "CopyEnd") -> None:
        """Forward to ``peer`` and let it forward here."""
        self.peer = peer
        peer.peer = self

    def unlink(self) -> None:
        """Part from the peer: what comes now is held here, the other end is idle."""
        if self.peer is not None:
            self.peer.peer = None
            self.peer = None

    def attach(self, transport: Any, fd: int = -1) -> None:
        """Become the transport's protocol; it must be paused and stays so."""
        self.transport = transport
        self.fd = fd
        self.is_reading = False
        transport.set_protocol(self)

    def detach(self) -> None:
        """Forget transport and peer, so that reference cycles end here."""
        self.transport = None
        self.peer = None
        self.is_sending = self.is_reading = False
        self._release()

    def start(self) -> None:
        """Begin to read, unless the peer cannot take anything yet."""
        if self.peer is not None and not self.peer.unsent_size():
            self.resume()

    def unsent_size(self) -> int:
        """Bytes the transport has taken and not yet sent."""
        return int(self.transport.get_write_buffer_size())

    # -- reading ---------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        pass

    def get_buffer(self, sizehint: int) -> memoryview:
        alone = READ_MIN if self._prefix else READ_MAX
        limit = alone if self.peer is None else self.peer.read_limit
        size = max(min(self._read_size, limit), min(sizehint, READ_MAX))
        self._requested = size
        return self.scratch.grow(size)

    def buffer_updated(self, nbytes: int) -> None:
        if nbytes < self._requested:
            self._read_size = READ_MIN
            self._turn = 0
        else:
            self._turn += nbytes
            if self._read_size < READ_MAX:
                self._read_size *= 2
        self._receive(nbytes)
        if self._is_crumbly:
            self._read_size = READ_MIN
            self._is_crumbly = False
        elif self._turn < SCRATCH_SIZE:
            return
        if self.vectored and self._turn:
            self._turn = 0
            if self.is_reading and self.scratch.call_soon is not None:
                self.transport.pause_reading()
                self.scratch.call_soon(self.take_turn)

    def take_turn(self) -> None:
        """Go on reading: libuv would read on at once, and let all others wait."""
        if self.is_reading and self.transport is not None:
            self.transport.resume_reading()

    def feed(self, data: BytesLike) -> None:
        """Take ``data`` (copied) as if it had just been read."""
        view = memoryview(data)
        for start in range(0, len(view), READ_MAX):
            piece = view[start : start + READ_MAX]
            self.scratch.grow(len(piece))[:] = piece
            self._receive(len(piece))

    def _receive(self, nbytes: int) -> None:
        self.reads += 1
        if self.is_discarding or (self.peer is None and not self._prefix):
            return
        view = memoryview(self.scratch.memory)[HEADROOM : HEADROOM + nbytes]
        if self.decoder is not None:
            self._receive_frames(self.peer, self.decoder, view)
        elif self.peer is not None:
            self.payload_in += nbytes
            self.peer.send(self, [view], in_place=True)

    def _receive_frames(
        self, peer: "CopyEnd | None", decoder: FrameDecoder, view: memoryview
    ) -> None:
        runs: list[BytesLike] = []
        ping: BytesLike | None = None
        payload: BytesLike
        parts = decoder.receive_data(view)
        self._is_crumbly = len(parts) > CRUMBS and len(view) < len(parts) * 1024
        for opcode, payload, flags in parts:
            if opcode == _consts.OP_PONG:
                continue  # a pong says what every byte says: the peer lives
            if opcode == _consts.OP_PING:
                ping = payload  # of several the newest is answered
                continue
            if self._prefix and opcode < _consts.OP_CLOSE:
                payload = self._receive_kind(runs, opcode, payload, flags)
                peer = self.peer
                if self.is_discarding:
                    return
            elif not self._is_payload(opcode, payload, flags):
                self._flush(peer, runs)
                payload = self._receive_rare(opcode, payload, flags)
                if self.is_discarding or (self.peer is None and not self._prefix):
                    return
            if payload:
                self.payload_in += len(payload)
                runs.append(payload)
        self._flush(peer, runs)
        if decoder.error is not None:
            self.protocol_error(decoder.error)
        elif ping is not None:
            self.control_received(_consts.OP_PING, bytes(ping))

    def _is_payload(self, opcode: int, payload: BytesLike, flags: int) -> bool:
        """Whether this is binary data, or a stranger's text and valid so far."""
        if opcode == _consts.OP_BINARY:
            return not self.eof_signalled and self.text_mode != _consts.TEXT_CONFIRM
        if opcode != _consts.OP_TEXT or self.text_mode != _consts.TEXT_FORWARD:
            return False
        ended = bool(flags & _consts.MESSAGE_END)
        return not self.eof_signalled and self._is_valid(payload, ended)

    def _flush(self, peer: "CopyEnd | None", runs: list[BytesLike]) -> None:
        if runs and peer is not None:
            peer.send(self, runs, in_place=False)
            runs.clear()

    # -- messages that begin with a kind -------------------------------------------

    def _receive_kind(
        self, runs: list[BytesLike], opcode: int, payload: BytesLike, flags: int
    ) -> BytesLike:
        """Handle a part of a packet; what is returned is payload for the peer."""
        ended = bool(flags & _consts.MESSAGE_END)
        if opcode == _consts.OP_TEXT or self.text_mode == _consts.TEXT_CONFIRM:
            self._flush(self.peer, runs)
            if not self._receive_first(opcode, payload, ended):
                return b""
        packets = self._packets
        payload = packets.take_kind(payload)
        is_data = packets.kind == self.data_kind
        is_kept = not is_data or self.data_fate == _consts.DATA_REFUSE
        if is_kept and not packets.keep(payload):
            self._flush(self.peer, runs)
            self._refuse(1002, f"packet of more than {_consts.MAX_PACKET} bytes")
            return b""
        if ended and (is_kept or not packets.size):
            self._flush(self.peer, runs)
            self.packet_received(*packets.end())
        elif ended:
            packets.end()
        if is_kept or self.data_fate == _consts.DATA_DROP:
            return b""
        if self.peer is None:
            self.payload_in += len(payload)
            self.held += payload
            self.pause()
        return b"" if self.peer is None else payload

    def _receive_first(self, opcode: int, payload: BytesLike, ended: bool) -> bool:
        """Handle text, and whatever comes first; whether it is a packet's part."""
        if self.text_mode == _consts.TEXT_SIGNAL:
            self._receive_signal(opcode, payload, ended)
            return False
        if self.text_mode == _consts.TEXT_CONFIRM:
            if opcode == _consts.OP_TEXT and self._is_confirmation(payload, ended):
                return False
            self.text_mode = _consts.TEXT_FORWARD
            self.signal_received(b"")
        if opcode == _consts.OP_TEXT and not self.is_discarding:
            self._refuse(1002, "text in place of a packet")
        return not self.is_discarding

    # -- rare parts: control frames, signals, text -------------------------------

    def _receive_rare(self, opcode: int, payload: BytesLike, flags: int) -> BytesLike:
        """Handle one part; what is returned is payload for the peer."""
        ended = bool(flags & _consts.MESSAGE_END)
        if opcode >= _consts.OP_CLOSE:
            self.control_received(opcode, bytes(payload))
        elif self.text_mode == _consts.TEXT_SIGNAL:
            self._receive_signal(opcode, payload, ended)
        elif self.text_mode == _consts.TEXT_CONFIRM:
            return self._receive_confirmation(opcode, payload, ended)
        elif self.eof_signalled:
            self._refuse(1002, "data after the end was signalled")
        else:
            self._refuse(1007, "text is not valid UTF-8")
        return b""

    def _receive_signal(self, opcode: int, payload: BytesLike, ended: bool) -> None:
        text = self._signal + bytes(payload[:2])
        if opcode == _consts.OP_BINARY:
            self._refuse(1002, "binary data after signal F")
        elif len(text) > 1 or (ended and text not in (b"F", b"R")):
            self._refuse(1002, "unknown signal")
        else:
            self._signal = b"" if ended else text
            if ended:
                self.signal_received(text)

    def _is_confirmation(self, payload: BytesLike, ended: bool) -> bool:
        """Whether a first text may be ``C`` still, or is: its part is used up then."""
        text = self._signal + bytes(payload[:2])
        if not ended and text in (b"", b"C"):
            self._signal = text
            return True
        if text != b"C":
            return False
        self._signal = b""
        self.text_mode = _consts.TEXT_SIGNAL
        self.signal_received(text)
        return True

    def _receive_confirmation(
        self, opcode: int, payload: BytesLike, ended: bool
    ) -> BytesLike:
        """Only a first data message that is exactly the text ``C`` confirms."""
        if opcode == _consts.OP_TEXT and self._is_confirmation(payload, ended):
            return b""
        held = self._signal
        self._signal = b""
        self.text_mode = _consts.TEXT_FORWARD
        self.signal_received(b"")
        if held and self.peer is not None:
            self._validator = Utf8Validator()
            self._validator.feed(held)
            self.payload_in += 1
            self.peer.send_bytes(held)
        if opcode == _consts.OP_TEXT and not self._is_valid(payload, ended):
            self._refuse(1007, "text is not valid UTF-8")
            return b""
        return payload

    def _is_valid(self, payload: BytesLike, ended: bool) -> bool:
        """RFC 6455 section 8.1, while it is forwarded."""
        if self._validator is None:
            self._validator = Utf8Validator()
        valid = self._validator.feed(payload)
        return valid and (not ended or self._validator.complete)

    def _refuse(self, code: int, reason: str) -> None:
        self.protocol_error(RemoteProtocolError(reason, close_code=code))

    # -- writing ---------------------------------------------------------------

    def send(self, source: "CopyEnd", runs: list[BytesLike], *, in_place: bool) -> None:
        """Write payload that ``source`` read; its memory is the scratch buffer."""
        if not self.is_sending:
            self.payload_refused()
            return
        self.payload_out += sum(map(len, runs))
        if self.decoder is not None:
            size = sum(map(len, runs))
            if in_place and size <= self.max_payload:
                self._send_in_place(size)
            else:
                self._send_copied(runs)
        elif self.vectored and 1 < len(runs) <= MANY_PIECES:
            self.transport.writelines(runs)
        elif len(runs) > 1:
            self.transport.write(bytearray().join(runs))
        else:
            self.transport.write(runs[0])
        if self.unsent_size():
            self._held.append(self.scratch.lend())
            source.pause()

    def send_bytes(self, data: bytes) -> None:
        """Write a short ``data`` as payload of its own."""
        if not self.is_sending:
            self.payload_refused()
            return
        self.payload_out += len(data)
        if self.decoder is not None:
            key = None if self.keys is None else self.keys()
            data = encode_frame(_consts.OP_BINARY, self._prefix + data, key=key)
        self.transport.write(data)

    def _send_in_place(self, size: int) -> None:
        """One frame: its header goes into the headroom in front of the payload."""
        memory = memoryview(self.scratch.memory)
        key = None if self.keys is None else self.keys()
        first = HEADROOM - len(self._prefix)
        end = HEADROOM + size
        memory[first:HEADROOM] = self._prefix
        size = end - first
        if key is not None:
            apply_mask(memory[first:end], key)
        length = 2 + (2 if size > 125 else 0) + (6 if size > 65535 else 0)
        start = first - length - (0 if key is None else 4)
        write_header(memory, start, _consts.OP_BINARY, size, key=key)
        self.transport.write(memory[start:end])

    def _send_copied(self, runs: list[BytesLike]) -> None:
        """Several frames as one contiguous write."""
        out = bytearray()
        for run in runs:
            view = memoryview(run)
            for start in range(0, len(view), self.max_payload):
                piece: BytesLike = view[start : start + self.max_payload]
                key = None if self.keys is None else self.keys()
                if self._prefix:
                    piece = self._prefix + piece
                out += encode_frame(_consts.OP_BINARY, piece, key=key)
        self.transport.write(out)

    # -- flow control ----------------------------------------------------------

    def pause(self) -> None:
        """Stop reading from this end."""
        if self.is_reading and not self.keeps_reading:
            self.is_reading = False
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read from this end, unless it has ended."""
        if not self.is_reading and not self.is_deaf and self.transport is not None:
            self.is_reading = True
            self.transport.resume_reading()

    def pause_writing(self) -> None:
        pass

    def resume_writing(self) -> None:
        if self.transport is None or self.unsent_size():
            return
        self._release()
        if self.wants_drained:
            self.drained()
        if self.peer is not None and not self.peer.is_reading:
            self.peer.resume()

    def _release(self) -> None:
        self.scratch.lent -= len(self._held)
        self._held.clear()

    # -- what a subclass decides -------------------------------------------------

    def eof_received(self) -> bool | None:
        """The transport saw EOF; the answer is that of asyncio protocols."""
        raise NotImplementedError

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is gone."""
        raise NotImplementedError

    def control_received(self, opcode: int, payload: bytes) -> None:
        """A close, ping or pong frame has come; payload before it is forwarded."""
        raise NotImplementedError

    def signal_received(self, text: bytes) -> None:
        """``F``, ``R`` or ``C`` has come; ``b""``: the first message was no C."""
        raise NotImplementedError

    def packet_received(self, kind: int, body: bytes) -> None:
        """A packet other than payload for the peer has come; -1: an empty message."""
        raise NotImplementedError

    def protocol_error(self, error: RemoteProtocolError) -> None:
        """The peer broke RFC 6455; payload before it is forwarded."""
        raise NotImplementedError

    def payload_refused(self) -> None:
        """Payload came for this end although it takes no more."""
        raise NotImplementedError

    def drained(self) -> None:
        """Nothing is unsent any more; called while :attr:`wants_drained`."""
        raise NotImplementedError
