"""SOCKS5, the side of the proxy; and the header of its datagrams. Written by hand.

Source: RFC 1928, RFC 1929. No kept library offers a server that takes bytes as they
come and opens no sockets. Two habits of clients in the field are allowed for: reserved
bytes are not looked at, and user and password may be empty.
"""

import re
from collections.abc import Callable
from enum import IntEnum
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple, TypeAlias

from fastws.exceptions import LocalProtocolError, RemoteProtocolError
from fastws.typing import BytesLike
from fastws.wire.machine import SEND_EOF

VERSION = 5
MAX_NAME = 255
"""Bytes of a host name: its length is one byte."""

KEPT = 1024
"""Hosts whose bytes or text are remembered: datagrams name the same again and again."""

MAX_DATAGRAM_HEADER = 4 + 1 + MAX_NAME + 2

_LOGIN_VERSION = 1  # RFC 1929 section 2
_IPV4, _NAME, _IPV6 = 1, 3, 4
_SIZES = {_IPV4: 4, _IPV6: 16}
_KNOWN = (_IPV4, _NAME, _IPV6)

_bad_name = re.compile(r"[\x00-\x20\x7f]").search


class Method(IntEnum):
    """RFC 1928 section 3: how the client shows who it is."""

    NO_LOGIN = 0x00
    USER_PASSWORD = 0x02
    NONE_ACCEPTABLE = 0xFF


class Command(IntEnum):
    """RFC 1928 section 4: what the client wants."""

    CONNECT = 1
    BIND = 2
    UDP_ASSOCIATE = 3


class Reply(IntEnum):
    """RFC 1928 section 6: what became of it."""

    SUCCEEDED = 0
    GENERAL_FAILURE = 1
    NOT_ALLOWED = 2
    NETWORK_UNREACHABLE = 3
    HOST_UNREACHABLE = 4
    CONNECTION_REFUSED = 5
    TTL_EXPIRED = 6
    COMMAND_NOT_SUPPORTED = 7
    ADDRESS_TYPE_NOT_SUPPORTED = 8


class Login(NamedTuple):
    """User and password; :meth:`Socks5Server.admit` or ``deny`` has to follow."""

    user: str
    password: str

    def __repr__(self) -> str:
        return f"Login(user={self.user!r}, password='***')"


class Request(NamedTuple):
    """What the client wants; :meth:`Socks5Server.reply` has to follow.

    Attributes:
        command: what.
        host: an IP literal or a name; not checked beyond having no white space.
        port: 0 to 65535.
    """

    command: Command
    host: str
    port: int


Event: TypeAlias = Login | Request


class Datagram(NamedTuple):
    """A datagram between client and proxy (RFC 1928 section 7).

    Attributes:
        host: an IP literal or a name; from the proxy: the source.
        port: 0 to 65535.
        fragment: 0: stands alone. Others may be dropped, as the RFC allows.
        payload: a view of what was decoded.
    """

    host: str
    port: int
    fragment: int
    payload: memoryview


class Socks5Server:
    """The proxy's side of one SOCKS5 handshake. One task at a time.

    Waits for :meth:`admit` after a :class:`Login` and for :meth:`reply` after the
    :class:`Request`: stop reading meanwhile, what comes is kept. After an error all
    further input is dropped; the reply, if the client could understand one, and
    ``SEND_EOF`` are queued by then.

    Args:
        needs_login: user and password are asked for; otherwise none are accepted.
        commands: what is supported; another one is refused with 07.

    Attributes:
        error: what the client did wrong, or ``None``; its ``socks_reply`` is the code
            that was sent, ``None`` before the request.
        request: as it came, or ``None``; kept also when its command is refused.
    """

    __slots__ = (
        "_buffer",
        "_commands",
        "_eof_received",
        "_events",
        "_needs_login",
        "_out",
        "_step",
        "error",
        "request",
    )

    def __init__(
        self,
        *,
        needs_login: bool = False,
        commands: tuple[Command, ...] = (Command.CONNECT, Command.UDP_ASSOCIATE),
    ) -> None:
        self.error: RemoteProtocolError | None = None
        self.request: Request | None = None
        self._needs_login = needs_login
        self._commands = commands
        self._buffer = b""
        self._events: list[Event] = []
        self._out: list[BytesLike] = []
        self._eof_received = False
        # Reads one message and says so; ``None`` while the client has to wait.
        self._step: Callable[[], bool] | None = self._read_greeting

    @property
    def leftover(self) -> bytes:
        """What came behind the request: the first bytes for its target."""
        return self._buffer if self.request is not None else b""

    @property
    def eof_received(self) -> bool:
        """The client sends nothing any more; before its request that is its end."""
        return self._eof_received

    def receive_data(self, data: BytesLike) -> None:
        """Take bytes from the client; copied."""
        if self.error is None:
            self._buffer += bytes(data)
            self._run()

    def receive_eof(self) -> None:
        """Take note that the client sends nothing any more; idempotent."""
        if self._eof_received:
            return
        self._eof_received = True
        if self._step is not None and self.error is None:
            self._fail("SOCKS5 client ended before its request", b"")

    def events_received(self) -> list[Event]:
        """Take and clear what happened."""
        events, self._events = self._events, []
        return events

    def data_to_send(self) -> list[BytesLike]:
        """Take and clear what to write, in order; ``SEND_EOF`` can only be last."""
        out, self._out = self._out, []
        return out

    # -- what the proxy decides ------------------------------------------------------

    def admit(self) -> None:
        """The login is right: the request may come.

        Raises:
            LocalProtocolError: no login waits.
        """
        self._expect(self._step is None and self.request is None, "login")
        self._out.append(bytes((_LOGIN_VERSION, 0)))
        self._step = self._read_request
        self._run()
        if self._eof_received and self.request is None and self.error is None:
            self._fail("SOCKS5 client ended before its request", b"")

    def deny(self) -> None:
        """The login is wrong: the client is told, and that is the end.

        Raises:
            LocalProtocolError: no login waits.
        """
        self._expect(self._step is None and self.request is None, "login")
        self._refuse_login("SOCKS5 user or password is wrong")

    def reply(self, code: int, host: str = "0.0.0.0", port: int = 0) -> None:
        """Say what became of the request; any code but 0 is the end.

        Args:
            code: a :class:`Reply`.
            host: an IP literal: where we connect from, or take datagrams.
            port: of it.

        Raises:
            LocalProtocolError: no request waits.
        """
        self._expect(self.request is not None and self._step is None, "request")
        self._out.append(encode_reply(code, host, port))
        self._step = self._never
        if code != Reply.SUCCEEDED:
            self._out.append(SEND_EOF)

    def _expect(self, waits: bool, what: str) -> None:
        if self.error is not None or not waits:
            raise LocalProtocolError(f"no SOCKS5 {what} waits for an answer")

    # -- what the client says --------------------------------------------------------

    def _run(self) -> None:
        while self._step is not None and self.error is None and self._step():
            pass

    def _never(self) -> bool:
        """The handshake is over: bytes are for the target."""
        return False

    def _read_greeting(self) -> bool:
        """RFC 1928 section 3: version, methods."""
        data = self._buffer
        if data and data[0] != VERSION:
            return self._fail(f"SOCKS version {data[0]} in place of 5", b"")
        if len(data) < 2 or len(data) < 2 + data[1]:
            return False
        methods = data[2 : 2 + data[1]]
        wanted = Method.USER_PASSWORD if self._needs_login else Method.NO_LOGIN
        if wanted not in methods:
            offered = methods.hex(" ") or "none"
            answer = bytes((VERSION, Method.NONE_ACCEPTABLE))
            reason = f"SOCKS5 client wants to log in (methods {offered})"
            if self._needs_login:
                reason = f"SOCKS5 client offers no password (methods {offered})"
            return self._fail(reason, answer)
        self._buffer = data[2 + data[1] :]
        self._out.append(bytes((VERSION, wanted)))
        self._step = self._read_login if self._needs_login else self._read_request
        return True

    def _read_login(self) -> bool:
        """RFC 1929 section 2: user, password."""
        data = self._buffer
        if data and data[0] != _LOGIN_VERSION:
            return self._refuse_login(f"SOCKS5 login version {data[0]} in place of 1")
        if len(data) < 2 or len(data) < 3 + data[1]:
            return False
        middle = 2 + data[1]
        end = middle + 1 + data[middle]
        if len(data) < end:
            return False
        self._buffer = data[end:]
        try:
            login = Login(data[2:middle].decode(), data[middle + 1 : end].decode())
        except UnicodeDecodeError:
            return self._refuse_login("SOCKS5 user or password is not UTF-8")
        self._events.append(login)
        self._step = None
        return True

    def _refuse_login(self, reason: str) -> bool:
        # RFC 1929 section 2: any status but 0, and the server must close.
        return self._fail(reason, bytes((_LOGIN_VERSION, 1)))

    def _read_request(self) -> bool:
        """RFC 1928 section 4: command, address."""
        data = self._buffer
        if data and data[0] != VERSION:
            code = Reply.GENERAL_FAILURE
            return self._refuse(code, f"SOCKS version {data[0]} in a request")
        try:
            found = _decode_address(data, 3)
        except RemoteProtocolError as error:
            return self._refuse(error.socks_reply or 1, error.reason)
        if found is None:
            return False
        host, port, end = found
        self._buffer = data[end:]
        # The whole request is read before its command is judged: closing with
        # unread bytes would reset the connection and could destroy the reply.
        if data[1] not in self._commands:
            code = Reply.COMMAND_NOT_SUPPORTED
            target = f"{host!r} port {port}"
            return self._refuse(code, f"SOCKS5 command {data[1]} for {target}")
        self.request = Request(Command(data[1]), host, port)
        self._events.append(self.request)
        self._step = None
        return True

    def _refuse(self, code: int, reason: str) -> bool:
        self._fail(reason, encode_reply(code), code)
        return True

    def _fail(self, reason: str, answer: bytes, code: int | None = None) -> bool:
        self._step = self._never
        self._buffer = b""
        if answer:
            self._out.append(answer)
        self._out.append(SEND_EOF)
        self.error = RemoteProtocolError(reason, socks_reply=code)
        return True


def encode_reply(code: int, host: str = "0.0.0.0", port: int = 0) -> bytes:
    """Return a reply (RFC 1928 section 6).

    Args:
        code: a :class:`Reply`.
        host: the address we connect from; without one all zeroes.
        port: of it.

    Raises:
        LocalProtocolError: ``host`` or ``port`` does not fit.
    """
    return bytes((VERSION, code, 0)) + encode_address(host, port)


def encode_address(host: str, port: int) -> bytes:
    """Return type, host and port as requests, replies and datagrams carry them.

    Args:
        host: an IP literal, whose scope is dropped, or a name of 1 to 255 bytes.
        port: 0 to 65535.

    Raises:
        LocalProtocolError: one of them does not fit.
    """
    if not 0 <= port <= 65535:
        raise LocalProtocolError(f"port {port} is not in 0..65535")
    kind, packed = pack_host(host)
    if kind == _NAME:
        packed = bytes((len(packed),)) + packed
    return bytes((kind,)) + packed + port.to_bytes(2, "big")


def encode_datagram(host: str, port: int, payload: BytesLike) -> bytes:
    """Return a datagram with its header (RFC 1928 section 7); ``payload`` is copied.

    Raises:
        LocalProtocolError: ``host`` or ``port`` does not fit.
    """
    return b"\0\0\0" + encode_address(host, port) + payload


def decode_datagram(data: BytesLike) -> Datagram:
    """Read a datagram with its header.

    Args:
        data: one whole datagram; viewed and retained by the result.

    Raises:
        RemoteProtocolError: the header is malformed or cut short: drop it.
    """
    view = memoryview(data)
    head = bytes(view[:MAX_DATAGRAM_HEADER])
    found = _decode_address(head, 3)
    if found is None:
        raise RemoteProtocolError(f"SOCKS5 datagram of {len(view)} bytes is cut short")
    host, port, end = found
    return Datagram(host, port, head[2], view[end:])


@lru_cache(KEPT)
def pack_host(host: str) -> tuple[int, bytes]:
    """Return address type and bytes of ``host``: an IP literal, or else a name.

    Raises:
        LocalProtocolError: a name that is not 1 to 255 bytes.
    """
    try:
        if ":" in host:
            return _IPV6, IPv6Address(host).packed
        return _IPV4, IPv4Address(host).packed
    except ValueError:
        name = host.encode()
    if not 0 < len(name) <= MAX_NAME:
        raise LocalProtocolError(f"host name of {len(name)} bytes, not 1 to {MAX_NAME}")
    return _NAME, name


@lru_cache(KEPT)
def unpack_host(kind: int, packed: bytes) -> str:
    """Return what :func:`pack_host` took apart, as text.

    Args:
        kind: address type.
        packed: exactly the bytes of the host.

    Raises:
        RemoteProtocolError: an unknown type, a wrong length, or a name that is empty,
            not UTF-8, or holds white space or control characters; ``socks_reply`` is
            what to answer.
    """
    if kind == _NAME:
        try:
            name = packed.decode()
        except UnicodeDecodeError:
            name = ""
        if not name or len(packed) > MAX_NAME or _bad_name(name):
            raise _bad_address(f"host name {packed[:64]!r}", Reply.GENERAL_FAILURE)
        return name
    if kind not in _SIZES:
        code = Reply.ADDRESS_TYPE_NOT_SUPPORTED
        raise _bad_address(f"address type {kind}", code)
    if len(packed) != _SIZES[kind]:
        reason = f"address of {len(packed)} bytes for type {kind}"
        raise _bad_address(reason, Reply.GENERAL_FAILURE)
    return str(IPv4Address(packed) if kind == _IPV4 else IPv6Address(packed))


def _decode_address(data: bytes, at: int) -> tuple[str, int, int] | None:
    """Host, port and end of the address at ``at``; ``None``: more has to come."""
    kind = data[at] if len(data) > at else _NAME
    if len(data) < at + 2 and kind in _KNOWN:
        return None
    # A type that is not known is refused at once: nor is its length.
    start = at + (2 if kind == _NAME else 1)
    end = start + (data[at + 1] if kind == _NAME else _SIZES.get(kind, 0))
    if kind in _KNOWN and len(data) < end + 2:
        return None
    host = unpack_host(kind, data[start:end])
    return host, int.from_bytes(data[end : end + 2], "big"), end + 2


def _bad_address(reason: str, code: Reply) -> RemoteProtocolError:
    return RemoteProtocolError(f"malformed {reason}", socks_reply=code)
