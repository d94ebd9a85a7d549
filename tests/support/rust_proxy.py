"""A rust-proxy client made of bytes: what the real one sends, and what it takes.

The request, the packets and the refusal of everything else are as captured from the
real program; no code of fastws is in it. It can also break every rule.
"""

import base64
import contextlib
import hashlib
import ipaddress
import os
import ssl
from collections.abc import Iterator
from typing import Any

from tests.support.certs import certs, plain_client_context
from tests.support.cli import Fastws
from tests.support.rawws import BINARY, GUID, Frame, Peer
from tests.support.services import connect

MAX_DATA = 2048
CLOSE = b"\x03"
TOKEN = "tok"
LOOPBACK = ("--allow", "127.0.0.0/8", "--allow", "::1")


@contextlib.contextmanager
def proxy_server(
    *options: str, listen: str = "127.0.0.1:0", tls: bool = True, **variables: str
) -> Iterator[Fastws]:
    """``fastws proxy-server`` that may reach this machine; with the token ``tok``."""
    cert = ("--cert", certs().server) if tls else ()
    auth = () if "--no-auth" in options else ("--auth-token", TOKEN)
    if "FASTWS_AUTH_TOKEN_FILE" in variables:
        auth = ()
    arguments = (listen, *cert, *auth, *LOOPBACK, *options)
    with Fastws("proxy-server", *arguments, **variables) as process:
        yield process


def plain_server(
    *options: str, **variables: str
) -> contextlib.AbstractContextManager[Fastws]:
    """:func:`proxy_server` without TLS."""
    return proxy_server(*options, tls=False, **variables)


def connect_packet(host: str, port: int) -> bytes:
    """Connect to a name, or to an address of either family."""
    number = port.to_bytes(2, "little")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return b"\x01\x03" + number + host.encode()
    kind = b"\x01" if address.version == 4 else b"\x04"
    return b"\x01" + kind + number + address.packed


def head(key: str, path: str = "/", token: str | None = TOKEN) -> bytes:
    """The upgrade request, field by field as captured."""
    lines = [
        f"GET {path} HTTP/1.1",
        "Host: localhost:9444",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {key}",
    ]
    if token is not None:
        lines.append(f"authorization: {token}")
    return "\r\n".join([*lines, "", ""]).encode()


def client_tls(version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """TLS as the real client has it: a name, verified, and no ALPN."""
    context = plain_client_context()
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


class RustProxyClient(Peer):
    """One pooled WebSocket of the real client.

    Attributes:
        sent: Connect packets.
        longest: length of the longest message that came.
    """

    def __init__(self, sock: Any, answer: Any) -> None:
        super().__init__(sock, answer)
        self.sent = 0
        self.longest = 0

    # -- packets -------------------------------------------------------------------

    def say(self, *packets: bytes) -> None:
        """Send packets, one message each."""
        for packet in packets:
            self.send(BINARY, packet)

    def dial(self, host: str, port: int) -> None:
        """Begin a stream."""
        self.sent += 1
        self.say(connect_packet(host, port))

    def give(self, data: bytes) -> None:
        """Data, in packets of what the real one sends at most."""
        for start in range(0, len(data), MAX_DATA):
            self.say(b"\x02" + data[start : start + MAX_DATA])

    def packet(self) -> bytes:
        """The next packet; the real one lives on nothing else.

        Fails at any other frame, which would have ended its stream or its task.
        """
        frame = self.frame()
        assert frame == Frame(BINARY, frame.payload, True, False), frame
        packet = frame.payload
        assert packet[:1] in (b"\x02", b"\x03"), packet
        if packet[0] == 2:
            assert 1 < len(packet) <= MAX_DATA + 1, len(packet)
        else:
            assert packet == CLOSE
        self.longest = max(self.longest, len(packet))
        return packet

    def take_until_close(self) -> bytes:
        """All data up to the server's Close."""
        data = bytearray()
        while (packet := self.packet()) != CLOSE:
            data += packet[1:]
        return bytes(data)

    def take_data(self, count: int) -> bytes:
        """``count`` bytes of the stream, and no more."""
        data = bytearray()
        while len(data) < count:
            packet = self.packet()
            assert packet != CLOSE, f"Close after {len(data)} of {count} bytes"
            data += packet[1:]
        assert len(data) == count
        return bytes(data)

    def ask(self, port: int, data: bytes, host: str = "127.0.0.1") -> bytes:
        """A whole stream: Connect, data, Close; what came up to the other Close."""
        self.dial(host, port)
        self.give(data)
        self.say(CLOSE)
        return self.take_until_close()

    # -- the connection ------------------------------------------------------------

    def is_quiet(self, seconds: float) -> bool:
        """Nothing comes for so long, no end either."""
        if isinstance(self.sock, ssl.SSLSocket) and self.sock.pending():
            return False
        limit = self.sock.gettimeout()
        self.sock.settimeout(seconds)
        try:
            data = self.sock.recv(1)
        except TimeoutError:
            return True
        finally:
            self.sock.settimeout(limit)
        raise AssertionError(f"{data!r} came")

    def is_closed(self) -> bool:
        """The server ends TCP next, without another word on the WebSocket."""
        try:
            return self.at_end()
        except ConnectionResetError:
            return True


@contextlib.contextmanager
def opened(
    port: int,
    path: str = "/",
    *,
    token: str | None = TOKEN,
    tls: ssl.SSLContext | None = None,
    plain: bool = False,
    glued: bytes = b"",
) -> Iterator[RustProxyClient]:
    """A WebSocket to 127.0.0.1 as the real client opens it.

    Args:
        port: of the server.
        path: of the request.
        token: for the authorization field, ``None`` for no such field.
        tls: context; the usual one without it.
        plain: without TLS, which the real one cannot do.
        glued: sent in one write with the request.
    """
    with connect(port) as raw:
        sock: Any = raw
        if not plain:
            context = tls or client_tls()
            sock = context.wrap_socket(
                raw, server_hostname="localhost", suppress_ragged_eofs=False
            )
        with sock:
            client = RustProxyClient(sock, None)
            key = base64.b64encode(os.urandom(16)).decode()
            sock.sendall(head(key, path, token) + glued)
            answer = client.answer = client.head()
            if answer.status == 101:
                digest = hashlib.sha1(key.encode() + GUID).digest()
                fields = answer.fields
                assert fields["sec-websocket-accept"] == (
                    base64.b64encode(digest).decode()
                )
                assert fields["connection"].lower() == "upgrade"  # exactly
                assert fields["upgrade"].lower() == "websocket"
                assert "sec-websocket-extensions" not in fields
            yield client


def status_of(port: int, token: str | None, path: str = "/", **how: Any) -> int:
    """What a client with that token is answered."""
    with opened(port, path, token=token, **how) as client:
        status: int = client.answer.status
        if status != 101:
            with contextlib.suppress(ConnectionResetError):
                client.body(client.answer)
                assert client.sock.recv(1) == b""
        return status
