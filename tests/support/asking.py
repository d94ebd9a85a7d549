"""What clients of a forward proxy say, byte by byte."""

import base64
import socket
from typing import Any

from tests.support.cli import Fastws
from tests.support.origin import read_head
from tests.support.services import connect, read_exactly, read_to_end
from tests.support.timing import LONG

NO_LOGIN = b"\5\1\0"


def request(host: str, port: int, command: int = 1) -> bytes:
    """A SOCKS5 request by name, or by address for a literal."""
    if ":" in host:
        address = b"\4" + socket.inet_pton(socket.AF_INET6, host)
    elif host[0].isdigit():
        address = b"\1" + socket.inet_aton(host)
    else:
        address = bytes((3, len(host))) + host.encode()
    return bytes((5, command, 0)) + address + port.to_bytes(2, "big")


def reply(sock: Any) -> tuple[int, str, int]:
    """Code, host and port of a SOCKS5 reply."""
    version, code, _, kind = read_exactly(sock, 4)
    assert version == 5
    family, size = {1: (socket.AF_INET, 4), 4: (socket.AF_INET6, 16)}[kind]
    host = socket.inet_ntop(family, read_exactly(sock, size))
    return code, host, int.from_bytes(read_exactly(sock, 2), "big")


def socks_code(proxy: Fastws, host: str, port: int, command: int = 1) -> int:
    """The reply to a request, after which the proxy closes."""
    with connect(proxy.port) as sock:
        sock.sendall(NO_LOGIN + request(host, port, command))
        assert read_exactly(sock, 2) == b"\5\0"
        code = reply(sock)[0]
        if code:
            assert read_to_end(sock) == b""
        return code


def connect_head(where: str, *fields: str) -> bytes:
    lines = [f"CONNECT {where} HTTP/1.1", f"Host: {where}", *fields, "", ""]
    return "\r\n".join(lines).encode()


def connect_status(proxy: Fastws, where: str, *fields: str) -> int:
    with connect(proxy.port) as sock:
        sock.sendall(connect_head(where, *fields))
        return read_head(sock)[0]


def basic(pair: str) -> str:
    return "Proxy-Authorization: Basic " + base64.b64encode(pair.encode()).decode()


def get(port: int, host: str = "127.0.0.1", path: str = "/", *fields: str) -> bytes:
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"GET http://{where}{path} HTTP/1.1", f"Host: {where}", *fields, "", ""]
    return "\r\n".join(lines).encode()


def log_in(sock: Any, user: str, password: str) -> bytes:
    sock.sendall(b"\5\2\0\2")
    assert read_exactly(sock, 2) == b"\5\2"
    name, word = user.encode(), password.encode()
    sock.sendall(bytes((1, len(name))) + name + bytes((len(word),)) + word)
    return read_exactly(sock, 2)


class Associated:
    """A client of UDP ASSOCIATE."""

    def __init__(self, proxy: Fastws, port: int = 0) -> None:
        self.tcp = connect(proxy.port)
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 0))
        self.udp.settimeout(LONG)
        self.tcp.sendall(NO_LOGIN + request("0.0.0.0", port, command=3))
        assert read_exactly(self.tcp, 2) == b"\5\0"
        code, *address = reply(self.tcp)
        assert code == 0
        self.relay = (address[0], address[1])

    def send(self, host: str, port: int, data: bytes, fragment: int = 0) -> None:
        head = request(host, port)[3:]
        self.udp.sendto(bytes((0, 0, fragment)) + head + data, self.relay)

    def receive(self) -> tuple[str, int, bytes]:
        data, source = self.udp.recvfrom(70000)
        assert source == self.relay
        assert data[:4] == b"\0\0\0\1"
        port = int.from_bytes(data[8:10], "big")
        return socket.inet_ntoa(data[4:8]), port, data[10:]

    def forge(self, port: int, outside: Any) -> None:
        """A stranger sends in its name to ``port``, and to it as if from ``port``.

        Args:
            port: of a service on 127.0.0.1.
            outside: the address that the service is asked from.
        """
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.bind(("127.0.0.1", 0))
            head = b"\0\0\0" + request("127.0.0.1", port)[3:]
            stranger.sendto(head + b"stolen", self.relay)
            stranger.sendto(b"forged", outside)

    def __enter__(self) -> "Associated":
        return self

    def __exit__(self, *_: object) -> None:
        self.tcp.close()
        self.udp.close()
