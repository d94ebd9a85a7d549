"""Proxies made of bytes: http with CONNECT and SOCKS 5. No code of fastws in them."""

import base64
import contextlib
import select
import socket
import ssl
import threading
from typing import Any

from tests.support.relay import copy
from tests.support.services import (
    Handler,
    Service,
    connect,
    read_exactly,
    read_to_end,
)
from tests.support.timing import LONG

OK = b"HTTP/1.1 200 Connection established\r\n\r\n"


class _Shared:
    """A TLS socket that one thread reads while another one writes.

    OpenSSL allows only one call at a time.
    """

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self._sock = sock
        self._lock = threading.Lock()
        sock.setblocking(False)

    def _call(self, method: Any, argument: Any) -> Any:
        while True:
            try:
                with self._lock:
                    return method(argument)
            except ssl.SSLWantReadError:
                wanted: Any = ([self._sock], [], [], LONG)
            except ssl.SSLWantWriteError:
                wanted = ([], [self._sock], [], LONG)
            if not any(select.select(*wanted)):
                raise TimeoutError

    def recv(self, count: int) -> bytes:
        data: bytes = self._call(self._sock.recv, count)
        return data

    def sendall(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._call(self._sock.send, view) :]

    def shutdown(self, how: int) -> None:
        self._sock.shutdown(how)


class _Proxy(Service):
    """Connects everything to ``port`` of 127.0.0.1, whatever it is asked for.

    Attributes:
        seen: ``host:port`` of each request.
        peers: addresses that connected.
    """

    def __init__(
        self, port: int, user: str = "", tls: ssl.SSLContext | None = None
    ) -> None:
        self._target = port
        self._user = user  # user:password
        self.peers: list[Any] = []
        super().__init__(self._relay, tls=tls)

    def _relay(self, sock: Any) -> None:
        self.peers.append(sock.getpeername()[0])
        granted = self._agree(sock)
        if granted is None:
            return
        with connect(self._target) as up:
            sock.sendall(granted)
            is_tls = isinstance(sock, ssl.SSLSocket)
            if is_tls:
                sock = _Shared(sock)
            back = threading.Thread(target=copy, args=(up, sock), daemon=True)
            back.start()
            copy(sock, up)
            with contextlib.suppress(OSError):  # after a reset too
                # The EOF of TLS was both directions'.
                up.shutdown(socket.SHUT_RDWR if is_tls else socket.SHUT_WR)
            back.join()

    def _agree(self, sock: Any) -> bytes | None:
        """Read the request; the answer if it is granted."""
        raise NotImplementedError


class ConnectProxy(_Proxy):
    """http, or https with ``tls``.

    Attributes:
        answer: what a granted request gets, the tunnel behind it.
        pieces: the answer is sent a byte at a time.
    """

    answer = OK
    pieces = False

    def _agree(self, sock: Any) -> bytes | None:
        data = b""
        while b"\r\n\r\n" not in data:
            byte = sock.recv(1)
            if not byte:
                return None  # the client has left
            data += byte
        line, *fields = data.decode("latin-1").split("\r\n")
        method, where, _ = line.split(" ")
        assert method == "CONNECT", line
        assert f"Host: {where}" in fields
        self.seen.append(where)
        token = base64.b64encode(self._user.encode("latin-1")).decode()
        if self._user and f"Proxy-Authorization: Basic {token}" not in fields:
            sock.sendall(
                b"HTTP/1.1 407 Proxy Authentication Required\r\n"
                b'Proxy-Authenticate: Basic realm="corp"\r\n'
                b"Content-Length: 0\r\n\r\n"
            )
            return None
        if not self.pieces:
            return self.answer
        for byte in self.answer[:-1]:
            sock.sendall(bytes([byte]))
        return self.answer[-1:]


def _read(sock: Any, count: int) -> bytes:
    """A part of a request; a client may have left instead."""
    try:
        return read_exactly(sock, count)
    except AssertionError as error:
        raise ConnectionError(str(error)) from None


class SocksProxy(_Proxy):
    """SOCKS 5: RFC 1928, RFC 1929.

    Attributes:
        reply: code of the answer to each request.
    """

    reply = 0

    def _agree(self, sock: Any) -> bytes | None:
        version, count = _read(sock, 2)
        assert version == 5
        methods = _read(sock, count)
        wanted = 2 if self._user else 0
        if wanted not in methods:
            sock.sendall(b"\x05\xff")
            return None
        sock.sendall(bytes([5, wanted]))
        if wanted:
            assert _read(sock, 1) == b"\x01"
            user = _read(sock, _read(sock, 1)[0]).decode()
            password = _read(sock, _read(sock, 1)[0]).decode()
            if f"{user}:{password}" != self._user:
                sock.sendall(b"\x01\x01")
                return None
            sock.sendall(b"\x01\x00")
        assert _read(sock, 3) == b"\x05\x01\x00"
        self.seen.append(self._where(sock))
        if self.reply:
            sock.sendall(bytes([5, self.reply, 0, 1]) + bytes(6))
            return None
        return b"\x05\x00\x00\x03\x05proxy\x00\x50"

    @staticmethod
    def _where(sock: Any) -> str:
        kind = _read(sock, 1)[0]
        if kind == 3:
            host = _read(sock, _read(sock, 1)[0]).decode()
        elif kind == 1:
            host = socket.inet_ntop(socket.AF_INET, _read(sock, 4))
        else:
            host = f"[{socket.inet_ntop(socket.AF_INET6, _read(sock, 16))}]"
        return f"{host}:{int.from_bytes(_read(sock, 2), 'big')}"


def say(data: bytes) -> Handler:
    """Says ``data`` once something has come, and reads to the end."""

    def handle(sock: Any) -> None:
        sock.recv(1)
        sock.sendall(data)
        read_to_end(sock)

    return handle


def hang_up(sock: Any) -> None:
    """Closes once something has come."""
    sock.recv(65536)
    sock.shutdown(socket.SHUT_WR)
    read_to_end(sock)
