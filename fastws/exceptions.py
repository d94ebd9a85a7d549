"""Every error that fastws raises on purpose.

::

    FastwsError
    ├── ConfigError            a value names something wrong: path, reason
    ├── ProtocolError
    │   ├── LocalProtocolError     our own call was wrong
    │   └── RemoteProtocolError    the peer was: carries what to answer
    │       ├── InvalidStatus      the server answered something other than 101
    │       ├── InvalidMessage     no valid answer to the opening handshake
    │       ├── InvalidHeader      a field of it is missing or wrong: name, value
    │       │   └── InvalidUpgrade     Upgrade or Connection
    │       ├── NegotiationError   no agreement on subprotocol or extensions
    │       └── PayloadTooBig      a message over ``max_size``
    ├── InvalidHandshake       base of the first five of these, and of
    │   └── SecurityError          a redirect that must not be followed
    ├── InvalidURI             no WebSocket URL; also a ValueError
    ├── InvalidProxy           no URL of a proxy; also a ValueError
    ├── ConnectionClosed       the WebSocket is closed: rcvd, sent, rcvd_then_sent
    │   ├── ConnectionClosedOK     with 1000, 1001 or no code, both ways
    │   └── ConnectionClosedError  with an error, or without a Close
    ├── StreamReset            a byte stream broke; also a ConnectionResetError
    ├── ConcurrencyError       two calls that exclude each other; also a RuntimeError
    ├── LimitExceeded          a configured limit was reached
    ├── ListenError            an address could not be listened on; also an OSError
    └── DialError              an upstream could not be opened; also an OSError
        ├── DialTimeout        nothing answered in time
        │   ├── OpenTimeout        within ``open_timeout``; also a TimeoutError
        │   └── NoConnection       a pool of connections had none
        ├── NoUpstream         refused, unreachable, unknown name, TLS failure
        │   ├── UnknownName        the name cannot be resolved
        │   ├── ConnectRefused     nobody listens there; also a ConnectionRefusedError
        │   └── Unreachable        no way to the host
        │       └── NetworkUnreachable  nor to its network
        ├── Denied             an access rule forbids the destination
        └── Unsupported        the way out cannot carry that

Those of the coroutine API have the names and attributes of ``websockets.exceptions``;
``WebSocketException`` is another name of :class:`FastwsError`.

Imports nothing of fastws.
"""

from typing import Any, Protocol


class FastwsError(Exception):
    """Base of all errors of this package."""


WebSocketException = FastwsError


class ConfigError(FastwsError):
    """A value in an option, variable or file is wrong.

    Attributes:
        path: where it stands (``--ping``, ``FASTWS_PING``, ``file.toml: a.b``).
        reason: what is wrong and what would be right.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}" if self.path else self.reason


class ProtocolError(FastwsError):
    """A protocol was broken, by us or by the peer."""


class LocalProtocolError(ProtocolError):
    """A call asked for something the protocol forbids now."""


class RemoteProtocolError(ProtocolError):
    """The peer broke the protocol; carries what to answer.

    Attributes:
        close_code: WebSocket close code to send (RFC 6455 section 7.4), or ``None``.
        http_status: HTTP status to answer with, or ``None``.
        headers: extra fields for that answer (426 needs ``Sec-WebSocket-Version``).
        socks_reply: SOCKS5 reply to answer with (RFC 1928 section 6), or ``None``.
    """

    def __init__(
        self,
        reason: str,
        *,
        close_code: int | None = None,
        http_status: int | None = None,
        headers: tuple[tuple[str, str], ...] = (),
        socks_reply: int | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.close_code = close_code
        self.http_status = http_status
        self.headers = headers
        self.socks_reply = socks_reply

    def __str__(self) -> str:
        return self.reason


class InvalidHandshake(FastwsError):
    """The opening handshake of a WebSocket failed."""


class InvalidMessage(RemoteProtocolError, InvalidHandshake):
    """The answer to the opening handshake is none, or breaks RFC 6455."""


class InvalidHeader(RemoteProtocolError, InvalidHandshake):
    """A field of the answer to the opening handshake is missing or wrong.

    Attributes:
        name: of the field.
        value: as received, ``None`` if there is none.
    """

    def __init__(self, name: str, value: str | None = None, reason: str = "") -> None:
        super().__init__(reason or f"{name} is {value!r}")
        self.name = name
        self.value = value


class InvalidUpgrade(InvalidHeader):
    """Upgrade or Connection do not say that this is a WebSocket now."""


class NegotiationError(RemoteProtocolError, InvalidHandshake):
    """No agreement on a subprotocol or on extensions.

    Raised by ``select_subprotocol`` it is answered with 400.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason, http_status=400)


class SecurityError(InvalidHandshake):
    """The server redirects to where a client must not follow."""


class InvalidStatus(RemoteProtocolError, InvalidHandshake):
    """The server answered the upgrade with something other than 101.

    Attributes:
        response: the answer as a ``fastws.Response``, from ``fastws.connect``.
        status: the HTTP status received.
        phrase: behind it in the status line; may be empty.
        fields: the fields of the answer.
        body: the first bytes of its body, without their framing.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        fields: tuple[tuple[str, str], ...] = (),
        body: bytes = b"",
    ) -> None:
        super().__init__(f"HTTP {status} {reason}".rstrip())
        self.status = status
        self.phrase = reason
        self.fields = fields
        self.body = body
        self.response: Any = None


class PayloadTooBig(RemoteProtocolError):
    """A message is longer than ``max_size``: cause of a ``ConnectionClosedError``."""


class InvalidURI(FastwsError, ValueError):
    """A URL is no WebSocket URL.

    Attributes:
        uri: as given.
        msg: what is wrong.
    """

    def __init__(self, uri: str, msg: str) -> None:
        super().__init__(uri, msg)
        self.uri = uri
        self.msg = msg

    def __str__(self) -> str:
        return self.msg


class InvalidProxy(FastwsError, ValueError):
    """A URL is no URL of a proxy.

    Attributes:
        proxy: as given; it may hold a password, so ``str()`` leaves it out.
        msg: what is wrong.
    """

    def __init__(self, proxy: str, msg: str) -> None:
        super().__init__(proxy, msg)
        self.proxy = proxy
        self.msg = msg

    def __str__(self) -> str:
        return self.msg


class ConcurrencyError(FastwsError, RuntimeError):
    """A call excludes another one that has not ended, such as two ``recv``."""


class _Close(Protocol):
    """A Close frame: :class:`fastws.wire.frames.Close`."""

    @property
    def code(self) -> int: ...

    @property
    def reason(self) -> str: ...


class ConnectionClosed(FastwsError):
    """A WebSocket is closed, so that nothing can be sent or received.

    Attributes:
        rcvd: the peer's Close, ``None`` when none came.
        sent: our Close, ``None`` when none was sent.
        rcvd_then_sent: which of both came first; ``None`` unless there are both.
    """

    def __init__(
        self,
        rcvd: _Close | None,
        sent: _Close | None,
        rcvd_then_sent: bool | None = None,
    ) -> None:
        super().__init__(rcvd, sent, rcvd_then_sent)
        self.rcvd = rcvd
        self.sent = sent
        self.rcvd_then_sent = rcvd_then_sent

    def __str__(self) -> str:
        if self.rcvd is None and self.sent is None:
            return "no close frame received or sent"
        if self.rcvd is None:
            return f"sent {self.sent}; no close frame received"
        if self.sent is None:
            return f"received {self.rcvd}; no close frame sent"
        if self.rcvd_then_sent:
            return f"received {self.rcvd}; then sent {self.sent}"
        return f"sent {self.sent}; then received {self.rcvd}"

    @property
    def code(self) -> int:
        """Of the peer's Close, 1006 when none came."""
        return 1006 if self.rcvd is None else int(self.rcvd.code)

    @property
    def reason(self) -> str:
        """Of the peer's Close, empty when none came."""
        return "" if self.rcvd is None else self.rcvd.reason


class ConnectionClosedOK(ConnectionClosed):
    """Closed in order: both Close frames have 1000, 1001 or no code."""


class ConnectionClosedError(ConnectionClosed):
    """Closed with an error code, or lost without a Close of each side."""


class StreamReset(FastwsError, ConnectionResetError):
    """A byte stream through a WebSocket ended otherwise than in order.

    Attributes:
        reason: what happened, in a few words.
        close_code: of the peer's Close, ``None`` when none came.
    """

    def __init__(self, reason: str, close_code: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.close_code = close_code


class LimitExceeded(FastwsError):
    """A configured limit was reached; the text names it."""


class ListenError(FastwsError, OSError):
    """An address could not be listened on: ``ListenError(errno, text)``.

    ``str()`` is the text alone, which names the address; ``errno`` is the system's.
    """

    def __str__(self) -> str:
        return str(self.strerror)


class DialError(FastwsError, OSError):
    """An upstream could not be opened; the text says which and why.

    ``errno`` is the system's where it gave one.
    """


class DialTimeout(DialError):
    """Nothing answered within the connect or handshake time-out."""


class OpenTimeout(DialTimeout, TimeoutError):
    """The opening handshake was not done within ``open_timeout``."""


class NoConnection(DialTimeout):
    """No connection of a pool was to be had in time; asking later may help."""


class NoUpstream(DialError):
    """Refused, unreachable, unresolvable, or TLS failed."""


class UnknownName(NoUpstream):
    """The name cannot be resolved."""


class ConnectRefused(NoUpstream, ConnectionRefusedError):
    """Nobody listens on that port."""


class Unreachable(NoUpstream):
    """There is no way to the host."""


class NetworkUnreachable(Unreachable):
    """There is no way to its network."""


class Denied(DialError):
    """An access rule forbids this destination."""


class Unsupported(DialError):
    """The way out cannot carry what was asked for."""
