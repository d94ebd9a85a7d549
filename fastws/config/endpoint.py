"""Addresses as people write them: where to listen, and where to connect. Pure.

Every class is frozen and has ``parse(text)``, which raises ``ValueError`` saying
what would be right, and ``str()``, which parses back to an equal value.
"""

import ipaddress
import re
from typing import Literal, Self

import msgspec

from fastws._address import join_host_port
from fastws.typing import Address

_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^#]*)(#.*)?", re.DOTALL)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_UNSAFE = re.compile(r"[\x00-\x20\x7f]")
_MAX_PATH = 107  # bytes of a socket path on Linux, without its NUL
_LISTEN_HINT = (
    "write PORT (loopback), :PORT (all interfaces), HOST:PORT, [V6]:PORT,"
    " unix:/PATH, fd:NUMBER or inetd:, for stw also udp:PORT or - (standard input"
    " and output)"
)
_UDP_HINT = "write udp:PORT (loopback), udp::PORT (all interfaces) or udp:HOST:PORT"
_TARGET_HINT = (
    "write HOST:PORT, tcp://HOST:PORT, tls://HOST:PORT, unix:/PATH or udp:HOST:PORT"
)


def is_ip(host: str) -> bool:
    """Whether ``host`` is an IPv4 or IPv6 literal, without brackets."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether ``host`` can only mean this machine: 127.0.0.0/8, ::1, localhost."""
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def _port(text: str, *, low: int) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or not low <= int(text) <= 65535:
        raise ValueError(f"{text!r} is not a port; write {low} to 65535")
    return int(text)


def _host(text: str) -> str:
    """Check one host; IPv6 comes in brackets and leaves without."""
    if text.startswith("[") and text.endswith("]"):
        literal = text[1:-1]
        if ":" not in literal or not is_ip(literal):
            raise ValueError(f"{text!r} is not an IPv6 address in brackets")
        return literal
    if ":" in text:
        raise ValueError(f"{text!r}: put IPv6 addresses in brackets, [::1]:8080")
    if not text.isascii():
        try:
            text = text.encode("idna").decode("ascii")
        except UnicodeError:
            raise ValueError(f"{text!r} is not a host name") from None
    if not _NAME.fullmatch(text) or len(text) > 254:
        raise ValueError(f"{text!r} is not a host name or address")
    return text


def _host_port(text: str, *, low: int = 1) -> tuple[str, int]:
    """Split ``host:port``; both are needed, the port is at least ``low``."""
    host, colon, port = text.rpartition(":")
    if not colon or (text.startswith("[") and text.endswith("]")):
        raise ValueError(f"{text!r} has no port; write HOST:PORT")
    if not host:
        raise ValueError(f"{text!r} has no host; write 127.0.0.1{text} for this host")
    return _host(host), _port(port, low=low)


def _socket_path(text: str) -> str:
    """The path of ``unix:/path`` or ``unix:///path``."""
    path = text.removeprefix("unix:")
    if path.startswith("///"):
        path = path[2:]
    if not path or "\0" in path or path.startswith("//"):
        raise ValueError(f"{text!r} is not a socket path; write unix:/PATH")
    if len(path.encode()) > _MAX_PATH:
        raise ValueError(f"the path of {text!r} is longer than {_MAX_PATH} bytes")
    return path


class Listen(msgspec.Struct, frozen=True):
    """Where to listen.

    Attributes:
        kind: ``tcp``, ``unix``, ``fd``, ``udp``; ``stdio`` for standard input and
            output, ``inetd`` for a connected socket on descriptor 0.
        hosts: addresses or names to bind, TCP and UDP only; all share ``port``.
        optional: the hosts that may be missing on this machine; at least one of
            ``hosts`` must be bound all the same.
        port: 0 to 65535; 0 takes a free one. TCP and UDP only.
        path: of the socket file, unix only.
        fd: number of an inherited listening socket, fd only.
        text: as written.
    """

    kind: Literal["tcp", "unix", "fd", "udp", "stdio", "inetd"]
    hosts: tuple[str, ...] = ()
    optional: frozenset[str] = frozenset()
    port: int = 0
    path: str = ""
    fd: int = -1
    text: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``port``, ``:port``, ``*:port``, ``host:port``, ``unix:``, ``fd:``.

        A bare port and ``localhost`` mean 127.0.0.1 and, where it exists, ::1;
        ``:port`` and ``*:port`` mean all interfaces, IPv4 and IPv6. ``udp:`` takes
        the same forms; ``-`` and ``inetd:`` name what the process was started with.

        Raises:
            ValueError: none of these forms.
        """
        bare = text.strip()
        if bare == "-":
            return cls("stdio", text=bare)
        if bare == "inetd:":
            return cls("inetd", text=bare)
        if bare[:4].lower() == "udp:":
            return cls._inet(bare[4:].removeprefix("//"), "udp", bare)
        if bare.startswith("unix:"):
            return cls("unix", path=_socket_path(bare), text=bare)
        if bare.startswith("fd:"):
            number = bare[3:]
            if not re.fullmatch(r"[0-9]{1,9}", number):
                raise ValueError(f"{text!r}: write fd:3, the number of a descriptor")
            return cls("fd", fd=int(number), text=bare)
        return cls._inet(_strip_scheme(bare, ("tcp",), _LISTEN_HINT), "tcp", bare)

    @classmethod
    def _inet(cls, short: str, kind: Literal["tcp", "udp"], text: str) -> Self:
        """A port, with or without a host, of either protocol."""
        if short.isdigit():
            host, port = "localhost", short
        else:
            host, colon, port = short.rpartition(":")
            if not colon or short.endswith("]"):
                hint = _UDP_HINT if kind == "udp" else _LISTEN_HINT
                raise ValueError(f"{text!r} is not an address; {hint}")
            host = "*" if not host or host == "*" else _host(host)
        number = _port(port, low=0)
        if host == "*":
            both = ("0.0.0.0", "::")
            return cls(kind, both, frozenset(both), number, text=text)
        if host.lower() == "localhost":
            pair = ("127.0.0.1", "::1")
            return cls(kind, pair, frozenset({"::1"}), number, text=text)
        return cls(kind, (host,), frozenset(), number, text=text)

    @property
    def is_loopback(self) -> bool:
        """Only this machine can connect (never claimed of an inherited socket)."""
        if self.kind in ("tcp", "udp"):
            return all(is_loopback(host) for host in self.hosts)
        return self.kind == "unix"

    def __str__(self) -> str:
        return self.text


class WsUrl(msgspec.Struct, frozen=True):
    """A WebSocket URL (RFC 6455 section 3).

    Attributes:
        secure: ``wss``.
        host: name or literal, without brackets.
        port: 1 to 65535.
        target: path and query as sent in the request line; starts with ``/``.
        text: as written. The query may hold a secret: log ``display``.
    """

    secure: bool
    host: str
    port: int
    target: str
    text: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``ws://host[:port][/path][?query]`` or ``wss://…``.

        Raises:
            ValueError: another scheme, no host, a bad port, user information or a
                fragment. The text never repeats user information.
        """
        bare = text.strip()
        match = _URL.fullmatch(bare)
        if match is None or match[1].lower() not in ("ws", "wss"):
            raise ValueError(f"{_scheme_of(bare)}; write ws://HOST/… or wss://HOST/…")
        secure, authority, target = match[1].lower() == "wss", match[2], match[3]
        if "@" in authority:
            raise ValueError(
                "user and password do not belong in the URL;"
                " write --basic USER:PASSWORD, or set FASTWS_BASIC"
            )
        if match[4] is not None:
            raise ValueError("a WebSocket URL has no #fragment; write # as %23")
        if _UNSAFE.search(target):
            raise ValueError("the URL holds a space or control character; write %20")
        if re.search(r":[^\]]*$", authority):
            host, port = _host_port(authority)
        else:
            host, port = _host(authority), 443 if secure else 80
        return cls(secure, host, port, _target(target), bare)

    @property
    def host_header(self) -> str:
        """What the Host field says: the port only where it is not the default."""
        if self.port == (443 if self.secure else 80):
            return f"[{self.host}]" if ":" in self.host else self.host
        return join_host_port(self.host, self.port)

    @property
    def display(self) -> str:
        """The URL for logs: a query may hold a token, so it shows as ``?…``."""
        path, mark, _ = self.target.partition("?")
        scheme = "wss" if self.secure else "ws"
        return f"{scheme}://{self.host_header}{path}{'?…' if mark else ''}"

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"WsUrl({self.display!r})"


class Target(msgspec.Struct, frozen=True, gc=False):
    """The TCP, unix or UDP service that wts connects to.

    It can be in no cycle, and a token file holds up to a million: the collector, which
    stops every thread, need not look at them.

    Attributes:
        tls: speak TLS to it.
        address: ``(host, port)`` or a path.
        host: name or literal for TLS; empty for unix.
        text: as written.
        udp: datagrams, one a message.
    """

    tls: bool
    address: Address
    host: str
    text: str = ""
    udp: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``host:port``, ``tcp://…``, ``tls://…``, ``unix:/path``, ``udp:…``.

        Raises:
            ValueError: none of these forms.
        """
        bare = text.strip()
        if bare[:4].lower() == "udp:":
            short = bare[4:].removeprefix("//").removesuffix("/")
            if short.isdigit():
                raise ValueError(f"{bare!r} has no host; write udp:127.0.0.1:{short}")
            host, port = _host_port(short)
            return cls(False, (host, port), host, bare, udp=True)
        if bare.startswith("unix:"):
            return cls(False, _socket_path(bare), "", bare)
        if bare.isdigit():
            raise ValueError(f"{bare!r} has no host; write 127.0.0.1:{bare}")
        short = _strip_scheme(bare, ("tcp", "tls"), _TARGET_HINT)
        host, port = _host_port(short.removesuffix("/"))
        return cls(bare[:6].lower() == "tls://", (host, port), host, bare)

    def __str__(self) -> str:
        return self.text


class ConnectTo(msgspec.Struct, frozen=True):
    """Where to connect instead of the URL's own address, as with curl.

    Attributes:
        host: name or literal, without brackets.
        port: 1 to 65535.
    """

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``host:port``.

        Raises:
            ValueError: another form, or no port.
        """
        return cls(*_host_port(text.strip()))

    @property
    def address(self) -> tuple[str, int]:
        """``(host, port)`` to dial."""
        return self.host, self.port

    def __str__(self) -> str:
        return join_host_port(self.host, self.port)


def _strip_scheme(text: str, known: tuple[str, ...], hint: str) -> str:
    """Drop a scheme of ``known``; any other one raises with ``hint``."""
    match = _SCHEME.match(text)
    if match is None:
        return text
    if match[1].lower() not in known:
        raise ValueError(f"{match[0]} does not belong here; {hint}")
    return text[match.end() :]


def _scheme_of(text: str) -> str:
    match = _SCHEME.match(text)
    return f"{match[0]} is no WebSocket scheme" if match else "this is no WebSocket URL"


def _target(text: str) -> str:
    """The origin-form of path and query: ASCII, starting with ``/``."""
    path = text if text.startswith("/") else "/" + text
    if path.isascii():
        return path
    return "".join(
        char if char.isascii() else "".join(f"%{byte:02X}" for byte in char.encode())
        for char in path
    )
