"""Which stream a pooled WebSocket is at, and who may say what next.

Source: docs/pool.md. Payload need not pass through here: the copy loop may forward
what comes as Data for as long as :attr:`Track.fate` is ``DELIVER``.
"""

from enum import Enum, IntEnum

from fastws._consts import Side
from fastws.exceptions import LocalProtocolError, RemoteProtocolError
from fastws.typing import BytesLike
from fastws.wire.pool import (
    Answer,
    Associate,
    Close,
    Connect,
    Data,
    Datagram,
    Packet,
    Reset,
    Status,
    decode_body,
    encode_packet,
    fault,
)


class Fate(Enum):
    """What payload that comes now is."""

    DELIVER = "deliver"
    DROP = "drop"
    REFUSE = "refuse"  # a fault of the peer


class _Said(IntEnum):
    """How far one end has come in the stream."""

    NOTHING = 0  # or only data
    CLOSE = 1
    LAST = 2  # Reset, or an answer other than 00: nothing may follow


class Track:
    """One end of a pooled WebSocket: which stream it is at, who may still say what.

    Sending methods return the packet to send, ``b""`` if there is nothing to say, and
    raise :class:`LocalProtocolError` when it is not our turn. One task at a time.

    Args:
        side: ours.
        is_extended: both ends are fastws, docs/pool.md, "Between fastws ends".

    Attributes:
        stream: number of the open stream, or of the last one; 0: none yet.
        is_open: a stream is open: not both last packets have passed.
        is_answered: its target has been answered; always in the plain form.
        is_broken: the peer made a mistake, or the stream ended without a word: the
            connection is of no further use.
    """

    __slots__ = (
        "_carries_datagrams",
        "_late",
        "_received",
        "_sent",
        "is_answered",
        "is_broken",
        "is_extended",
        "is_open",
        "side",
        "stream",
    )

    def __init__(self, side: Side, *, is_extended: bool) -> None:
        self.side = side
        self.is_extended = is_extended
        self.stream = 0
        self.is_open = False
        self.is_answered = False
        self.is_broken = False
        self._carries_datagrams = False
        self._sent = self._received = _Said.NOTHING
        self._late = 0  # stream whose Reset may come although it is over

    def __repr__(self) -> str:
        state = "open" if self.is_open else "idle"
        if self.is_open:
            state += f", sent {self._sent.name}, received {self._received.name}"
        if self.is_broken:
            state = "broken"
        form = "pool/1" if self.is_extended else "plain"
        return f"<Track {self.side.name} {form} stream {self.stream} {state}>"

    @property
    def is_idle(self) -> bool:
        """The next stream may begin."""
        return not self.is_open and not self.is_broken

    @property
    def eof_sent(self) -> bool:
        """Our last packet of the open stream is out; also when none is open."""
        return not self.is_open or self._sent > _Said.NOTHING

    @property
    def fate(self) -> Fate:
        """What Data that come now are; look again after each packet but Data."""
        if self.is_open and self._carries_datagrams:
            return Fate.REFUSE
        return self._fate_of_payload()

    def _fate_of_payload(self) -> Fate:
        if self.is_broken:
            return Fate.REFUSE
        if not self.is_open:
            waits = self.side is Side.SERVER and not self.is_extended
            return Fate.DROP if waits else Fate.REFUSE
        if self._received > _Said.NOTHING:
            return Fate.REFUSE
        if self._sent is _Said.LAST:
            return Fate.DROP
        return Fate.DELIVER if self._may_hear else Fate.REFUSE

    @property
    def _may_hear(self) -> bool:
        """A client hears nothing before the answer."""
        return self.side is Side.SERVER or self.is_answered

    # -- what we say -----------------------------------------------------------------

    def connect(self, host: str, port: int) -> bytes:
        """Client: begin a TCP stream to a target; check :attr:`is_idle` first.

        Raises:
            LocalProtocolError: not our turn, or the address does not fit.
        """
        packet = Connect(host, port, self._next())
        data = encode_packet(packet, is_extended=self.is_extended)
        self._begin(carries_datagrams=False)
        return data

    def associate(self) -> bytes:
        """Client: begin an exchange of datagrams."""
        data = encode_packet(Associate(self._next()), is_extended=self.is_extended)
        self._begin(carries_datagrams=True)
        return data

    def answer(self, status: Status) -> bytes:
        """Server: say what became of the target; a failure ends our part."""
        is_due = self.is_open and self.side is Side.SERVER and not self.is_answered
        self._expect(is_due and self._sent is _Said.NOTHING, "answer")
        self.is_answered = True
        has_failed = status is not Status.CONNECTED
        if self.is_extended:
            data = self._encode(Answer(self.stream, status))
        else:
            data = self._encode(Close()) if has_failed else b""
        if has_failed:
            self._say(_Said.LAST)
        return data

    def close(self) -> bytes:
        """No more data from us."""
        may = self.is_open and self._sent is _Said.NOTHING
        self._expect(may and (self.side is Side.CLIENT or self.is_answered), "Close")
        data = self._encode(Close(self.stream))
        self._say(_Said.CLOSE)
        return data

    def reset(self) -> bytes:
        """Break the open stream off; nothing if it was, or if there is none.

        A client of a stranger cannot say so: the track is broken then.
        """
        if not self.is_open or self._sent is _Said.LAST or self.is_broken:
            return b""
        if self.is_extended:
            data = self._encode(Reset(self.stream))
        elif self.side is Side.CLIENT:
            self.is_broken = True
            return b""
        else:
            data = self._encode(Close()) if self._sent is _Said.NOTHING else b""
        self._say(_Said.LAST)
        return data

    def datagram(self, host: str, port: int, payload: BytesLike) -> bytes:
        """One datagram; ``b""`` where none may be sent any more: it is lost."""
        may = self.is_open and self._sent is _Said.NOTHING and not self.is_broken
        if not may or not self._carries_datagrams:
            return b""
        if self.side is Side.SERVER and not self.is_answered:
            return b""
        return self._encode(Datagram(host, port, memoryview(payload)))

    def _encode(self, packet: Packet) -> bytes:
        return encode_packet(packet, is_extended=self.is_extended)

    def _expect(self, may: bool, what: str) -> None:
        if self.is_broken or not may:
            raise LocalProtocolError(f"no {what} now: {self!r}")

    def _next(self) -> int:
        self._expect(not self.is_open and self.side is Side.CLIENT, "new stream")
        return self.stream + 1

    def _begin(self, *, carries_datagrams: bool) -> None:
        self.stream += 1
        self.is_open = True
        self.is_answered = not self.is_extended and self.side is Side.CLIENT
        self._carries_datagrams = carries_datagrams
        self._sent = self._received = _Said.NOTHING

    def _say(self, what: _Said) -> None:
        self._sent = what
        self._check_over()

    def _check_over(self) -> None:
        if self._sent and self._received:
            self.is_open = False
            self._late = self.stream if self._received is _Said.CLOSE else 0

    # -- what the peer says ----------------------------------------------------------

    def receive(self, kind: int, body: BytesLike) -> Packet | None:
        """Take a packet; ``None``: it means nothing (any more).

        After a :class:`Reset` call :meth:`reset` for the packet that answers it. A
        :class:`Connect` or :class:`Associate` waits for :meth:`answer`.

        Args:
            kind: the first byte of the message.
            body: the others; viewed, and retained by Data and Datagram.

        Raises:
            RemoteProtocolError: it breaks the grammar or is out of turn; the track
                is broken. ``close_code`` is 1002; a stranger is only cut off.
        """
        if self.is_broken:
            return None
        try:
            packet = decode_body(kind, body, is_extended=self.is_extended)
            return self._take(packet)
        except RemoteProtocolError:
            self.is_broken = True
            raise

    def _take(self, packet: Packet) -> Packet | None:
        if isinstance(packet, Data | Datagram):
            is_fit = isinstance(packet, Datagram) is self._carries_datagrams
            fate = self._fate_of_payload()
            if fate is Fate.REFUSE or (self.is_open and not is_fit):
                raise self._out_of_turn(packet)
            return packet if fate is Fate.DELIVER else None
        if isinstance(packet, Connect | Associate):
            return self._take_begin(packet)
        if isinstance(packet, Reset) and self._late and packet.stream == self._late:
            self._late = 0
            return None
        if not self.is_open:
            if not self.is_extended and self.side is Side.SERVER:
                return None  # a stranger's Close; clients may probe with it
            raise self._out_of_turn(packet)
        if self.is_extended and packet.stream != self.stream:
            raise self._out_of_turn(packet)
        return self._take_in_stream(packet)

    def _take_begin(self, packet: Connect | Associate) -> Packet:
        is_due = not self.is_extended or packet.stream == self.stream + 1
        if self.is_open or self.side is Side.CLIENT or not is_due:
            raise self._out_of_turn(packet)
        self._begin(carries_datagrams=isinstance(packet, Associate))
        return packet

    def _take_in_stream(self, packet: Close | Answer | Reset) -> Packet | None:
        was_broken_off = self._sent is _Said.LAST
        if isinstance(packet, Answer):
            if self.is_answered or self.side is Side.SERVER or self._received:
                raise self._out_of_turn(packet)
            self.is_answered = True
            if packet.status is not Status.CONNECTED:
                self._hear(_Said.LAST)
        elif isinstance(packet, Close):
            if self._received or not self._may_hear:
                raise self._out_of_turn(packet)
            self._hear(_Said.CLOSE)
        else:
            if self._received is _Said.LAST:
                raise self._out_of_turn(packet)
            self._hear(_Said.LAST)
        return None if was_broken_off else packet

    def _hear(self, what: _Said) -> None:
        self._received = what
        self._check_over()

    def _out_of_turn(self, packet: Packet) -> RemoteProtocolError:
        name = type(packet).__name__
        number = getattr(packet, "stream", 0)
        of = f" of stream {number}" if number else ""
        return fault(f"{name}{of} out of turn: {self!r}")
