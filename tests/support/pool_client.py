"""A fastws client of ``proxy-server``, made of bytes (docs/pool.md)."""

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

from tests.support.rawws import BINARY, CLOSE, PING, PONG, TEXT, Frame, Peer, request
from tests.support.rust_proxy import TOKEN
from tests.support.services import connect

IDENT = "0123456789abcdef"
OFFER = f"pool/1; id={IDENT}"
PROOF = "pool/1; proof=51246205ea3fb10f"

# Statuses of an answer (docs/pool.md).
CONNECTED, FAILED, DENIED, REFUSED, TIMED_OUT, UNKNOWN = 0, 1, 2, 5, 6, 8


class PoolClient(Peer):
    """One pooled WebSocket.

    Attributes:
        stream: number of the last stream that was begun.
        pings: that were answered.
    """

    def __init__(self, sock: Any, answer: Any) -> None:
        super().__init__(sock, answer)
        self.stream = 0
        self.pings = 0

    # -- what it says --------------------------------------------------------------

    @property
    def number(self) -> bytes:
        """The stream's number as it is written."""
        return self.stream.to_bytes(4, "little")

    def say(self, *packets: bytes) -> None:
        """Send packets, one message each."""
        for packet in packets:
            self.send(BINARY, packet)

    def dial(self, host: str, port: int) -> None:
        """Begin a stream to an IPv4 address or a name."""
        self.stream += 1
        where = port.to_bytes(2, "little")
        try:
            address = b"\1" + where + socket.inet_aton(host)
        except OSError:
            address = b"\3" + where + host.encode()
        self.say(b"\1" + self.number + address)

    def give(self, data: bytes) -> None:
        """Data of the stream."""
        self.say(b"\2" + data)

    def finish(self) -> None:
        """No more data from here."""
        self.say(b"\3" + self.number)

    def break_off(self) -> None:
        """A reset of the stream."""
        self.say(b"\5" + self.number)

    # -- what it hears -------------------------------------------------------------

    def next(self) -> Frame:
        """The next frame that is no ping; pings are answered."""
        while True:
            frame = self.frame()
            assert not frame.masked
            assert frame.fin
            if frame.opcode != PING:
                return frame
            self.pings += 1
            with contextlib.suppress(OSError):
                self.send(PONG, frame.payload)

    def packet(self) -> bytes:
        """The next packet."""
        frame = self.next()
        assert frame.opcode == BINARY, frame
        return frame.payload

    def status(self) -> int:
        """What became of the target."""
        packet = self.packet()
        assert packet[:5] == b"\4" + self.number, packet
        assert len(packet) == 6
        return packet[5]

    def dialled(self, host: str, port: int) -> int:
        """Begin a stream; what became of its target."""
        self.dial(host, port)
        return self.status()

    def take_data(self, count: int) -> bytes:
        """``count`` bytes of the stream."""
        data = bytearray()
        while len(data) < count:
            packet = self.packet()
            assert packet[0] == 2, packet
            data += packet[1:]
        assert len(data) == count
        return bytes(data)

    def hears_finish(self) -> bool:
        """The next packet is the server's Close; fails at another."""
        packet = self.packet()
        assert packet == b"\3" + self.number, (packet, self.stream)
        return True

    def hears_reset(self) -> bool:
        """The next packet is the server's Reset; fails at another."""
        packet = self.packet()
        assert packet == b"\5" + self.number, (packet, self.stream)
        return True

    def hears_close(self) -> tuple[int, bytes]:
        """Code and reason of the Close frame that comes next."""
        frame = self.next()
        assert frame.opcode == CLOSE, frame
        return frame.code, frame.payload[2:]

    def ask(self, port: int, data: bytes) -> bytes:
        """A whole stream to an echo on 127.0.0.1."""
        assert self.dialled("127.0.0.1", port) == 0
        self.give(data)
        self.finish()
        back = self.take_data(len(data))
        assert self.hears_finish()
        return back


@contextlib.contextmanager
def pooled(
    port: int, path: str = "/", *, confirm: bool = True, **fields: str | None
) -> Iterator[PoolClient]:
    """A pooled WebSocket to 127.0.0.1, without TLS.

    Args:
        port: of the server.
        path: of the request.
        confirm: say ``C`` at once.
        fields: further ones of the request, ``None`` for one that is left out.
    """
    given = {"Authorization": f"Bearer {TOKEN}", "X_Fastws": OFFER} | fields
    with connect(port) as sock:
        sock.sendall(request(path, **given))
        client = PoolClient(sock, None)
        client.answer = client.head()
        if client.answer.status == 101 and confirm:
            assert client.answer.fields["x-fastws"] == PROOF
            client.send(TEXT, b"C")
        yield client
