"""Every error that fastws raises on purpose.

::

    FastwsError
    ├── ConfigError            a value names something wrong: path, reason
    ├── ProtocolError
    │   ├── LocalProtocolError     our own call was wrong
    │   └── RemoteProtocolError    the peer was: carries what to answer
    │       └── InvalidStatus      the server answered something other than 101
    ├── LimitExceeded          a configured limit was reached
    ├── ListenError            an address could not be listened on; also an OSError
    └── DialError              an upstream could not be opened
        ├── DialTimeout        nothing answered in time
        ├── NoUpstream         refused, unreachable, unknown name, TLS failure
        │   ├── UnknownName        the name cannot be resolved
        │   ├── ConnectRefused     nobody listens there
        │   └── Unreachable        no way to the host
        │       └── NetworkUnreachable  nor to its network
        ├── Denied             an access rule forbids the destination
        └── Unsupported        the way out cannot carry that

Imports nothing.
"""


class FastwsError(Exception):
    """Base of all errors of this package."""


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


class InvalidStatus(RemoteProtocolError):
    """The server answered the upgrade with something other than 101.

    Attributes:
        status: the HTTP status received.
        fields: the fields of the answer.
        body: the first bytes of its body, at most one line is worth showing.
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
        self.fields = fields
        self.body = body


class LimitExceeded(FastwsError):
    """A configured limit was reached; the text names it."""


class ListenError(FastwsError, OSError):
    """An address could not be listened on: ``ListenError(errno, text)``.

    ``str()`` is the text alone, which names the address; ``errno`` is the system's.
    """

    def __str__(self) -> str:
        return str(self.strerror)


class DialError(FastwsError):
    """An upstream could not be opened; the text says which and why."""


class DialTimeout(DialError):
    """Nothing answered within the connect or handshake time-out."""


class NoUpstream(DialError):
    """Refused, unreachable, unresolvable, or TLS failed."""


class UnknownName(NoUpstream):
    """The name cannot be resolved."""


class ConnectRefused(NoUpstream):
    """Nobody listens on that port."""


class Unreachable(NoUpstream):
    """There is no way to the host."""


class NetworkUnreachable(Unreachable):
    """There is no way to its network."""


class Denied(DialError):
    """An access rule forbids this destination."""


class Unsupported(DialError):
    """The way out cannot carry what was asked for."""
