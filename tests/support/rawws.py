"""A WebSocket peer made of bytes: it can break every rule. No code of fastws in it."""

import base64
import contextlib
import hashlib
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from tests.support.services import connect, read_exactly

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455 section 1.3
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


class Answer(NamedTuple):
    """An HTTP head: the first line's words, and the fields in lower case."""

    status: int
    fields: dict[str, str]
    line: str


class Frame(NamedTuple):
    """One frame as it came, unmasked."""

    opcode: int
    payload: bytes
    fin: bool = True
    masked: bool = False
    rsv: int = 0

    @property
    def code(self) -> int:
        """The code of a Close, 0 without one."""
        return int.from_bytes(self.payload[:2], "big") if self.payload else 0


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    key: bytes | None = b"\x37\xfa\x21\x3d",
) -> bytes:
    """A frame; masked like a client's unless ``key`` is None."""
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    size, flag = len(payload), 0x80 if key else 0
    if size < 126:
        head = struct.pack("!BB", first, flag | size)
    elif size < 65536:
        head = struct.pack("!BBH", first, flag | 126, size)
    else:
        head = struct.pack("!BBQ", first, flag | 127, size)
    if key is None:
        return head + payload
    mask = int.from_bytes((key * (size // 4 + 1))[:size], "big")
    body = (int.from_bytes(payload, "big") ^ mask).to_bytes(size, "big")
    return head + key + body


def close(code: int, reason: bytes = b"", **how: Any) -> bytes:
    """A Close frame."""
    return frame(CLOSE, struct.pack("!H", code) + reason, **how)


def request(path: str = "/", **fields: str | None) -> bytes:
    """An upgrade request; a field given as None is left out.

    Underscores of names become dashes: ``Sec_WebSocket_Version="12"``.
    """
    values: dict[str, str | None] = {
        "Host": "127.0.0.1",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": KEY,
        "Sec-WebSocket-Version": "13",
    }
    values |= {name.replace("_", "-"): value for name, value in fields.items()}
    lines = [f"{name}: {value}" for name, value in values.items() if value is not None]
    return "\r\n".join([f"GET {path} HTTP/1.1", *lines, "", ""]).encode("latin-1")


def answer_101(key: str = KEY, *more: str) -> bytes:
    """The answer to a request with that key."""
    digest = hashlib.sha1(key.encode() + GUID).digest()
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}",
        *more,
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


class Reader:
    """Reads heads and frames from a socket, keeping what comes behind them."""

    def __init__(self, sock: Any) -> None:
        self.sock = sock
        self._kept = b""

    def take(self, count: int) -> bytes:
        """Exactly ``count`` bytes."""
        if len(self._kept) < count:
            self._kept += read_exactly(self.sock, count - len(self._kept))
        data, self._kept = self._kept[:count], self._kept[count:]
        return data

    def head(self) -> Answer:
        """An HTTP head, of an answer or a request."""
        while b"\r\n\r\n" not in self._kept:
            chunk = self.sock.recv(65536)
            assert chunk, f"ended within the head: {self._kept!r}"
            self._kept += chunk
        head, _, self._kept = self._kept.partition(b"\r\n\r\n")
        line, *rest = head.decode("latin-1").split("\r\n")
        pairs = [text.partition(":") for text in rest]
        fields = {name.lower(): value.strip() for name, _, value in pairs}
        status = int(line.split()[1]) if line.startswith("HTTP/") else 0
        return Answer(status, fields, line)

    def body(self, answer: Answer) -> bytes:
        """The body that Content-Length announces."""
        return self.take(int(answer.fields["content-length"]))

    def rest(self) -> bytes:
        """What has been read and not taken."""
        kept, self._kept = self._kept, b""
        return kept

    def frame(self) -> Frame:
        """One frame of either side."""
        first, second = self.take(2)
        size = second & 127
        if size == 126:
            (size,) = struct.unpack("!H", self.take(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", self.take(8))
        key = self.take(4) if second & 128 else b""
        payload = self.take(size)
        if key:
            mask = int.from_bytes((key * (size // 4 + 1))[:size], "big")
            payload = (int.from_bytes(payload, "big") ^ mask).to_bytes(size, "big")
        return Frame(first & 15, payload, bool(first & 128), bool(key), first >> 4 & 7)

    def message(
        self, count: int, on_ping: Callable[[Frame], None] | None = None
    ) -> bytes:
        """``count`` bytes of payload, from as many binary frames as it takes."""
        data = b""
        while len(data) < count:
            got = self.frame()
            if got.opcode == PING and on_ping is not None:
                on_ping(got)
                continue
            assert got.opcode in (BINARY, CONT), got
            data += got.payload
        assert len(data) == count
        return data

    def at_end(self) -> bool:
        """EOF is next, with nothing before it."""
        return not self._kept and self.sock.recv(1) == b""


class Peer(Reader):
    """A raw client after its upgrade."""

    def __init__(self, sock: Any, answer: Answer) -> None:
        super().__init__(sock)
        self.answer = answer

    def send(self, opcode: int, payload: bytes = b"", **how: Any) -> None:
        """Send one frame."""
        self.sock.sendall(frame(opcode, payload, **how))

    def answered(self, count: int) -> bytes:
        """As ``message``; a Ping before a frame of it is answered."""
        return self.message(count, lambda ping: self.send(PONG, ping.payload))

    def close(self) -> None:
        """The client's side of a closing handshake, once the Close has come."""
        self.sock.sendall(close(1000))


@contextlib.contextmanager
def upgraded(port: int, path: str = "/", **fields: str | None) -> Iterator[Peer]:
    """A raw client of a server on 127.0.0.1; fails unless it answers 101."""
    with connect(port) as sock:
        sock.sendall(request(path, **fields))
        peer = Peer(sock, Answer(0, {}, ""))
        peer.answer = peer.head()
        assert peer.answer.status == 101, peer.answer
        yield peer


def exchange(port: int, data: bytes) -> tuple[Answer, bytes]:
    """Send ``data``, read an answer with its body, and that the server ended."""
    with connect(port) as sock:
        sock.sendall(data)
        reader = Reader(sock)
        answer = reader.head()
        body = reader.body(answer)
        assert reader.at_end()
        return answer, body


def accept(sock: socket.socket, *more: str) -> tuple[Reader, Answer]:
    """The server's side of the handshake, further fields in ``more``."""
    reader = Reader(sock)
    asked = reader.head()
    sock.sendall(answer_101(asked.fields["sec-websocket-key"], *more))
    return reader, asked
