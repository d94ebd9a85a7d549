"""TCP, unix and TLS services in threads, for processes under test to connect to.

Blocking sockets with a time-out on every call: what a service sees, it keeps for the
test to look at.
"""

import contextlib
import hashlib
import random
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

from tests.support.timing import LONG, SHORT, UNIT

Handler = Callable[[Any], None]
BLOCK = 256 * 1024


class Service:
    """A service: one thread per connection runs ``handle(sock)``, then closes.

    Attributes:
        port: where it listens on 127.0.0.1, 0 for a unix socket.
        seen: what handlers put there.
        errors: what handlers ended with, unless with an OSError.
        accepted: connections so far.
    """

    def __init__(
        self,
        handle: Handler,
        *,
        path: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        if path is None:
            self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
            self.port: int = self._listener.getsockname()[1]
        else:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(path)
            self._listener.listen(512)
            self.port = 0
        self.seen: list[Any] = []
        self.errors: list[BaseException] = []
        self.accepted = 0
        self._handle = handle
        self._tls = tls
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # close() ends the loop
            while True:
                sock, _ = self._listener.accept()
                self.accepted += 1
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        self._open.add(sock)
        sock.settimeout(LONG)
        try:
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True)
            self._handle(sock)
        except OSError:
            pass  # the test looks at what its own side saw
        except BaseException as error:
            self.errors.append(error)
        finally:
            self._open.discard(sock)
            sock.close()

    def __enter__(self) -> "Service":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in list(self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        assert not self.errors


class Switch(Service):
    """A service that handles its next connections with ``next``."""

    def __init__(self, handle: Handler) -> None:
        self.next = handle
        super().__init__(lambda sock: self.next(sock))


def echo(sock: Any) -> None:
    """Send back what comes, and after its end, the end."""
    block = bytearray(BLOCK)
    view = memoryview(block)
    while count := sock.recv_into(block):
        sock.sendall(view[:count])


def answer_late(sock: Any) -> None:
    """Say nothing before the end of input; then how much it was, and its hash."""
    digest, count = digest_of(sock)
    sock.sendall(f"{count} {digest}\n".encode())


def digest_of(sock: Any) -> tuple[str, int]:
    """Read to the end; SHA-256 in hex, and the number of bytes."""
    digest, count = hashlib.sha256(), 0
    block = bytearray(BLOCK)
    view = memoryview(block)
    while got := sock.recv_into(block):
        digest.update(view[:got])
        count += got
    return digest.hexdigest(), count


def connect(port: int, host: str = "127.0.0.1") -> socket.socket:
    """A connection whose every call ends after ``LONG``.

    A server can accept and reset before the caller gets to run again. The next call
    on the socket tells of that, as if it had come a moment later.
    """
    try:
        sock = socket.create_connection((host, port), LONG)
    except ConnectionResetError:
        return _reset_socket()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _reset_socket() -> socket.socket:
    """A connection that the peer has reset."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sock = socket.create_connection(listener.getsockname(), LONG)
        reset(listener.accept()[0])
    return sock


def read_to_end(sock: Any) -> bytes:
    """Everything up to EOF; a reset raises ConnectionResetError."""
    data = bytearray()
    while chunk := sock.recv(BLOCK):
        data += chunk
    return bytes(data)


def read_exactly(sock: Any, count: int) -> bytes:
    """``count`` bytes; fails at an earlier end."""
    data = bytearray()
    while len(data) < count:
        chunk = sock.recv(count - len(data))
        assert chunk, f"ended after {len(data)} of {count} bytes"
        data += chunk
    return bytes(data)


def ask(sock: Any, message: bytes) -> bytes:
    """Send ``message`` and read as many bytes."""
    sock.sendall(message)
    return read_exactly(sock, len(message))


def reset(sock: socket.socket) -> None:
    """Close so that the peer sees a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def ends_with_reset(sock: socket.socket) -> bool:
    """Whether the stream ends by a reset, whatever comes before."""
    try:
        read_to_end(sock)
    except ConnectionResetError:
        return True
    return False


def is_reset_by(port: int) -> bool:
    """Whether a client that says nothing is reset."""
    with connect(port) as sock:
        return ends_with_reset(sock)


def is_silent(sock: socket.socket, seconds: float = UNIT) -> bool:
    """Whether nothing comes for a while, neither bytes nor an end."""
    before = sock.gettimeout()
    sock.settimeout(seconds)
    try:
        sock.recv(70000)
    except TimeoutError:
        return True
    finally:
        sock.settimeout(before)
    return False


class Bystander:
    """A connection that must not notice anything."""

    def __init__(self, say: Callable[[bytes], bytes]) -> None:
        self.say = say
        self.number = 0

    def check(self) -> None:
        self.number += 1
        message = b"still here %d" % self.number
        assert self.say(message) == message


def odd_chunks(total: int, seed: int) -> Iterator[memoryview]:
    """``total`` pseudo-random bytes in chunks of uneven sizes, 1 byte to 200 KB."""
    rng = random.Random(seed)
    noise = memoryview(rng.randbytes(1 << 20))
    left = total
    while left:
        size = min(left, rng.choice((1, 7, 125, 126, 1000, 4093, 65537, 200_003)))
        start = rng.randrange(len(noise) - size)
        yield noise[start : start + size]
        left -= size


def pump_through(sock: Any, total: int, seed: int, end: bool = True) -> str:
    """Send odd chunks through an echo and compare what returns.

    Args:
        sock: connected to an echo; plain, or TLS.
        total: bytes.
        seed: of the bytes and of the chunk sizes.
        end: finish by half-close, and read the echo's end.

    Returns:
        The SHA-256 of what was sent, which is that of what came back.
    """
    sent = hashlib.sha256()

    def send() -> None:
        for chunk in odd_chunks(total, seed):
            sock.sendall(chunk)
            sent.update(chunk)
        if end:
            sock.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    received, left = hashlib.sha256(), total
    block = bytearray(BLOCK)
    view = memoryview(block)
    while left:
        count = sock.recv_into(view[: min(left, BLOCK)])
        assert count, f"ended {left} bytes early"
        received.update(view[:count])
        left -= count
    if end:
        assert sock.recv(1) == b""
    sender.join(SHORT)
    assert not sender.is_alive()
    assert received.hexdigest() == sent.hexdigest(), f"seed {seed}"
    return sent.hexdigest()
