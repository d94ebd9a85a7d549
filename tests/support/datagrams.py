"""UDP sockets and services for processes under test."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

from tests.support.timing import SHORT


def udp_client(port: int, host: str = "127.0.0.1") -> socket.socket:
    """A connected socket whose every call ends after ``SHORT``."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.settimeout(SHORT)
    sock.connect((host, port))
    return sock


def ask(sock: socket.socket, data: bytes) -> bytes:
    """Send one datagram and return the next one that comes."""
    sock.send(data)
    return sock.recv(70000)


class UdpService:
    """Answers datagrams in a thread.

    Args:
        answer: gets a datagram; what it returns is sent back, ``None`` for nothing.
        port: 0 for a free one.

    Attributes:
        seen: datagrams with their sources.
    """

    def __init__(
        self, answer: Callable[[bytes], bytes | None] = lambda data: data, port: int = 0
    ) -> None:
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind(("127.0.0.1", port))
        self.port: int = self._sock.getsockname()[1]
        self.seen: list[tuple[bytes, Any]] = []
        self._answer = answer
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                data, source = self._sock.recvfrom(70000)
                if source is None:  # shut down
                    return
                self.seen.append((data, source))
                answer = self._answer(data)
                if answer is not None:
                    self._sock.sendto(answer, source)

    def send(self, data: bytes, source: Any) -> None:
        """Send a datagram of its own accord."""
        self._sock.sendto(data, source)

    def __enter__(self) -> "UdpService":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()


@contextlib.contextmanager
def free_udp_port() -> Iterator[int]:
    """A port that nobody has bound a moment ago."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    yield port
