"""The end of a pooled WebSocket: stream after stream through one connection.

Source: docs/pool.md. The end is the protocol of its transport for as long as that
lives. Between streams it reads, so that whatever happens to an idle connection is
heard at once; a stream joins a copy (:mod:`fastws.net.copy`) and parts from it when
both last packets have passed, while the copy still brings the other end to its end.
"""

from fastws import _consts
from fastws._backend import Scratch
from fastws._consts import Side
from fastws.exceptions import RemoteProtocolError
from fastws.net.ends import End, Owner, RereadEnd, describe_loss, needs_rereads
from fastws.net.keepalive import PingingEnd
from fastws.net.pool_parts import Carrier, PartedEnd, Parting, Rescue
from fastws.net.stream import AttachedStream, Hold, Kind, write_eof
from fastws.net.websocket import Peer, WebSocketStream, describe_close
from fastws.wire.announce import SIGNAL_CONFIRM
from fastws.wire.frames import Close as CloseFrame
from fastws.wire.pool import (
    Answer,
    Associate,
    Close,
    Connect,
    Datagram,
    Packet,
    Reset,
    Status,
    fault,
)
from fastws.wire.pool import (
    Kind as PacketKind,
)
from fastws.wire.pool_track import Fate, Track

_FATES = {
    Fate.DELIVER: _consts.DATA_DELIVER,
    Fate.DROP: _consts.DATA_DROP,
    Fate.REFUSE: _consts.DATA_REFUSE,
}
_MAX_REASON = 123  # RFC 6455 section 5.5: a control payload of 125, less the code
_UNREAD = 64 * 1024  # bytes for a client that says it has read them
_LAST_WORD = 2  # lingers without a byte after our last packet: a stranger's fault


class PoolEnd(PingingEnd):
    """One pooled WebSocket.

    Args:
        carrier: keeps it; also its owner while no copy is.
        stream: the open WebSocket.
        scratch: of the loop.
        vectored: ``writelines`` of the transport is one vectored write.
        max_data: payload of one packet to a stranger, bytes.

    Attributes:
        track: which stream it is at.
        who: the peer, once known.
        ident: of the WebSocket, if the far end logs it too; else empty.
        is_busy: a stream has begun, and the next one may not yet.
        reason: why no stream can begin any more, empty while one can.
        rescue: goes on with the open stream elsewhere, if this end is dead.
        close_sent: code of our Close frame, 0 before it.
        close_received: code of the peer's, 0 before it.
    """

    __slots__ = (
        "_counted",
        "_deadline",
        "_seen",
        "carrier",
        "close_received",
        "close_sent",
        "ident",
        "is_busy",
        "reason",
        "rescue",
        "track",
        "who",
    )

    def __init__(
        self,
        carrier: Carrier,
        stream: WebSocketStream,
        scratch: Scratch,
        vectored: bool,
        max_data: int,
    ) -> None:
        limit = 0  # who announced itself takes any length
        if stream.peer is Peer.STRANGER:
            limit = max_data + (9 if stream.side is Side.CLIENT else 5)
        super().__init__(
            carrier,
            stream.kind,
            stream.side,
            scratch,
            vectored,
            max_message=limit,
            data_kind=PacketKind.DATA,
        )
        self.carrier = carrier
        self.who = stream.peer
        self.ident = stream.ident
        self.track = Track(stream.side, is_extended=stream.peer is Peer.FASTWS)
        if stream.peer is Peer.UNCONFIRMED:
            self.text_mode = _consts.TEXT_CONFIRM
        self.reason = ""
        self.rescue: Rescue | None = None
        self.is_busy = False
        self.close_sent = self.close_received = 0
        self._deadline = 0.0  # of the state we wait in, loop time; 0: none
        self._seen = 0  # reads at the last look, while we wait
        self._counted = (0, 0)  # payload of the streams before
        self._look()

    def _look(self) -> None:
        """Take over from the track what Data are now."""
        self.data_fate = _FATES[self.track.fate]
        self._deadline = 0.0

    @property
    def may_ping(self) -> bool:
        is_known = self.who is Peer.FASTWS
        return is_known and not self.close_sent and not self.close_received

    @property
    def stream_ident(self) -> str:
        """Of the stream it is at, as the far end logs it; empty: not known there."""
        return f"{self.ident}/{self.track.stream}" if self.ident else ""

    @property
    def may_read(self) -> bool:
        """Between copies: what comes next can be taken, or be held."""
        holds = self.data_fate == _consts.DATA_DELIVER and not self.held
        return holds or not self.track.is_open

    # -- what the peer says --------------------------------------------------------

    def signal_received(self, text: bytes) -> None:
        """The first message tells whether the client is a fastws one."""
        if text == SIGNAL_CONFIRM:
            self.who = Peer.FASTWS
            self.track = Track(self.side, is_extended=True)
            self._look()
            self.owner.wake()  # pings begin
        elif text:
            self.protocol_error(fault("text in place of a packet"))
        else:
            self.who = Peer.STRANGER

    def packet_received(self, kind: int, body: bytes) -> None:
        if self.reason:
            return
        try:
            if kind < 0:
                raise fault("empty message")
            packet = self.track.receive(kind, body)
        except RemoteProtocolError as error:
            self.protocol_error(error)
            return
        self._look()
        if packet is not None:
            self._take(packet)
        if not self.track.is_open:
            self.part()

    def _take(self, packet: Packet) -> None:
        if isinstance(packet, Datagram):
            self.carrier.arrived(packet)
        elif isinstance(packet, Connect | Associate):
            if self.transport.get_write_buffer_size() > _UNREAD:
                self.give_up("protocol error: the last stream's end was not read yet")
                self.abort()
                return
            if isinstance(packet, Associate):
                self.pause()  # nobody could take a datagram yet; data hold themselves
            self._begin()
            self.carrier.requested(packet)
        elif isinstance(packet, Answer):
            if packet.status is Status.CONNECTED:
                self.pause()
            self.carrier.answered(packet.status)
        elif isinstance(packet, Close):
            self.eof_in = True
            self.owner.received_eof(self)
        elif isinstance(packet, Reset):
            self.write_packet(self.track.reset())
            self.owner.received_reset(self, "reset by peer", drop=True)

    def _begin(self) -> None:
        """A stream begins."""
        self.is_busy = True
        self.eof_in = self.eof_out = False
        self.is_sending = True
        self._counted = (self.payload_in, self.payload_out)

    def control_received(self, opcode: int, payload: bytes) -> None:
        if opcode == _consts.OP_PING and not self.close_sent:
            self.answer_ping(payload)
        elif opcode == _consts.OP_CLOSE and not self.close_received:
            try:
                close = CloseFrame.parse(payload)
            except RemoteProtocolError as error:
                self.protocol_error(error)
                return
            self.close_received = close.code
            self.give_up(describe_close(close.code, close.reason))
            self.send_close(close.code)
            self._finish()

    def protocol_error(self, error: RemoteProtocolError) -> None:
        self._forgo_rescue()
        self.is_discarding = True
        self.give_up(f"protocol error: {error.reason}")
        self.send_close(error.close_code or _consts.CLOSE_PROTOCOL_ERROR, error.reason)
        self._finish()

    def eof_received(self) -> bool:
        """The peer closes the connection, in order only between streams."""
        self.is_deaf = True
        self.is_reading = False
        self.give_up("closed by peer")
        return False

    def transport_lost(self, exc: Exception | None) -> None:
        self.give_up(describe_loss(exc, "lost"))

    def payload_refused(self) -> None:
        """What is left of a stream that was broken off."""

    def give_up(self, reason: str) -> None:
        """No stream any more; one that is open is reset. Idempotent."""
        if self.reason:
            return
        self.reason = reason
        was_open = self.track.is_open
        self.track.is_broken = True
        self.is_sending = False
        self.data_fate = _consts.DATA_DROP
        if was_open and self.rescue is not None:
            self.rescue.save()
        if was_open and self.owner is not self.carrier:
            self.owner.received_reset(self, reason)
        self.part()
        self.carrier.broke(reason)

    # -- what we say ---------------------------------------------------------------

    def write_packet(self, packet: bytes) -> None:
        """Write a packet that is no payload, if there is one."""
        if packet:
            self.write_frame(_consts.OP_BINARY, packet)

    def connect(self, host: str, port: int) -> None:
        """Client: begin a stream.

        Raises:
            LocalProtocolError: not our turn, or the address does not fit.
        """
        self._open(self.track.connect(host, port))

    def associate(self) -> None:
        """Client: begin an exchange of datagrams.

        Raises:
            LocalProtocolError: not our turn, or the peer is a stranger.
        """
        self._open(self.track.associate())

    def _open(self, packet: bytes) -> None:
        self.write_packet(packet)
        is_waiting = not self.track.is_answered
        self.pause()
        self._begin()
        self._look()
        if is_waiting:
            self.resume()

    def answer(self, status: Status) -> None:
        """Server: say what became of the target; a failure ends our part."""
        self.write_packet(self.track.answer(status))
        self._look()
        if status is not Status.CONNECTED:
            self.part()

    def send_eof(self) -> None:
        if self.eof_out or self.lost:
            return
        self.eof_out = True
        self.is_sending = False
        if not self.track.eof_sent:
            self.write_packet(self.track.close())
        self._look()
        if not self.track.is_open:
            self.part()
        self.owner.wake()

    def send_reset(self, reason: str, *, drop: bool = False) -> None:
        """Break the stream off; what still comes of it is dropped."""
        if self.lost or self.reason or not self.track.is_open:
            return
        self._forgo_rescue()
        self.eof_out = True
        self.is_sending = False
        self.write_packet(self.track.reset())
        self._look()
        if self.track.is_broken:  # a stranger's server has no word for it
            self.give_up(reason)
            self.reset_when_acked()
        else:
            self.part()

    def send_going_away(self, reason: str) -> None:
        self.leave(_consts.CLOSE_GOING_AWAY, reason)

    def leave(self, code: int, reason: str) -> None:
        """End the connection; a stream that is open is reset."""
        self._forgo_rescue()
        self.give_up(reason)
        self.send_close(code, reason)

    def part(self) -> None:
        """Leave the copy, if there is one, and read on."""
        self._forgo_rescue()
        owner, self.owner = self.owner, self.carrier
        self.held = b""
        self.unlink()
        if owner is not self.carrier:
            copied: Parting = owner  # type: ignore[assignment]
            before_in, before_out = self._counted
            counts = (self.payload_in - before_in, self.payload_out - before_out)
            copied.part(self, PartedEnd(*counts))
        if not self.lost:
            self.resume()
            self.carrier.wake()
            if self.is_busy and self.track.is_idle:
                self.is_busy = False
                self.carrier.over()

    def _forgo_rescue(self) -> None:
        rescue, self.rescue = self.rescue, None
        if rescue is not None:
            rescue.stop()

    def send_close(self, code: int, reason: str = "") -> None:
        """End an announced WebSocket by a Close frame, any other by closing TCP."""
        if self.close_sent or self.lost:
            return
        self.close_sent = code
        self._deadline = 0.0
        if self.who is Peer.FASTWS:
            text = reason.encode()[:_MAX_REASON].decode(errors="ignore")
            if code == _consts.CLOSE_NO_STATUS:
                text = ""
            frame = CloseFrame(code, text).encode()
            self.write_frame(_consts.OP_CLOSE, frame)
            self.resume()
        else:
            self.close_when_flushed()
        self.carrier.wake()

    def _finish(self) -> None:
        """Nothing more is worth reading: let TCP end, the server's side first."""
        if self.lost or self.transport.is_closing():
            return
        if self.is_deaf or (self.side is Side.SERVER and self.kind is Kind.TLS):
            self.close_when_flushed()
        elif self.side is Side.SERVER:
            write_eof(self.transport)

    # -- time ----------------------------------------------------------------------

    def next_due(self) -> float:
        """When :meth:`tick` has to look again although nothing happens."""
        is_waiting = self.close_sent or (self.track.eof_sent and self.track.is_open)
        if is_waiting:
            return 0.0
        return super().next_due() if self.may_ping else float("inf")

    def tick(self, now: float) -> None:
        if self.lost or self.resetting or self.transport is None:
            return
        self.observe(now)
        if not self.check_path(now):
            return
        linger = self.owner.options.linger
        if self.close_sent:
            is_late = self._has_expired(now, linger, self.is_stuck)
            if is_late or self.who is not Peer.FASTWS:
                self.close_when_flushed()
        elif self._owes_last_word and self._has_expired(
            now, _LAST_WORD * linger, self.is_stuck or self._has_moved()
        ):
            self.give_up("no last packet")
            self.abort()
        elif self.may_ping:
            self.tick_ping(now)

    def check_path(self, now: float) -> bool:
        reason = self.find_dead(now)
        if reason is None:
            return True
        self.give_up(reason)
        self.abort()
        return False

    @property
    def _owes_last_word(self) -> bool:
        """The peer's last packet is due: we said ours, and no copy waits for it."""
        if not self.track.is_open or not self.track.eof_sent:
            return False
        return self.who is not Peer.FASTWS or self.owner is self.carrier

    def _has_moved(self) -> bool:
        moved = self.reads != self._seen or not self.is_reading
        self._seen = self.reads
        return moved

    def _has_expired(self, now: float, patience: float, moved: bool) -> bool:
        if moved or not self._deadline:
            self._deadline = now + patience
            return False
        return now >= self._deadline


class RereadPoolEnd(RereadEnd, PoolEnd):
    """One pooled WebSocket over TLS of aiofastnet."""

    __slots__ = ()


class PooledStream(AttachedStream):
    """The open stream of a pooled WebSocket, for one copy.

    Args:
        end: paused; its target is answered.
    """

    __slots__ = ("_end", "_number", "ident")

    def __init__(self, end: PoolEnd) -> None:
        super().__init__(end.transport, end.kind, Hold())
        self._end = end
        self._number = end.track.stream
        self.ident = end.stream_ident

    def join(self, owner: Owner) -> End:
        """See :class:`fastws.net.stream.AttachedStream`."""
        self._end.owner = owner
        return self._end

    def joined(self) -> None:
        """See :class:`fastws.net.stream.AttachedStream`."""
        end = self._end
        if end.reason or not end.track.is_open:
            end.owner.received_reset(end, end.reason or "reset by peer", drop=True)
            end.part()
            return
        held, end.held = end.held, b""
        if held and end.peer is not None:
            end.peer.send_bytes(held)
        if end.eof_in:
            end.owner.received_eof(end)

    def discard(self) -> None:
        """See :class:`fastws.net.stream.AttachedStream`."""
        if self._end.track.stream == self._number:
            self._end.send_reset("given up")


def pool_end(
    carrier: Carrier,
    stream: WebSocketStream,
    scratch: Scratch,
    vectored: bool,
    max_data: int,
) -> PoolEnd:
    """The end for a pooled WebSocket over whatever transport."""
    rereads = stream.kind is Kind.TLS and needs_rereads(stream.transport)
    make = RereadPoolEnd if rereads else PoolEnd
    return make(carrier, stream, scratch, vectored, max_data)
