"""A front end that passes everything on but a field of the answer."""

import contextlib
import re
import socket
import threading
from typing import Any

from tests.support.services import BLOCK, Service, connect


def copy(source: socket.socket, sink: socket.socket) -> None:
    """Copy until EOF, then pass that on."""
    with contextlib.suppress(OSError):
        while data := source.recv(BLOCK):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


class HeaderDropper(Service):
    """Relays to ``port`` on 127.0.0.1 and drops ``field`` from each answer's head.

    Attributes:
        seen: a pair of heads for each connection, the answer's before the drop.
    """

    def __init__(self, port: int, field: str) -> None:
        self._port = port
        self._line = re.compile(rf"(?im)^{re.escape(field)}:.*\r\n".encode())
        super().__init__(self._relay)

    def _relay(self, sock: Any) -> None:
        with connect(self._port) as up:
            request = self._head(sock)
            up.sendall(request)
            answer = self._head(up)
            self.seen.append((request, answer))
            sock.sendall(self._line.sub(b"", answer))
            back = threading.Thread(target=copy, args=(up, sock), daemon=True)
            back.start()
            copy(sock, up)
            back.join()

    @staticmethod
    def _head(sock: socket.socket) -> bytes:
        """A head, and what came with it."""
        data = b""
        while b"\r\n\r\n" not in data:
            chunk = sock.recv(BLOCK)
            if not chunk:
                raise ConnectionError("closed within the head")
            data += chunk
        return data
