"""What each mode needs to know, as frozen and validated values. Pure.

One name serves the attribute here, the key in a file and the ``--flag``. Times
are seconds, sizes are bytes. Wrong values raise :class:`ConfigError` with the
attribute's name as ``path``; files are opened later, by the layer that uses them.
"""

import base64
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, TypeVar

import msgspec

from fastws import _consts as c
from fastws.config import fields as f
from fastws.config.checks import (
    check_headers,
    check_loop,
    check_pair,
    check_seconds,
    check_text,
    check_texts,
    check_trust,
    check_unique,
    check_way_in,
    is_count,
    parse_field,
    parse_fields,
    refuse,
)
from fastws.config.endpoint import ConnectTo, Listen, Target, WsUrl
from fastws.config.proxy import ProxyUrl
from fastws.config.routes import Route, find_clash
from fastws.exceptions import ConfigError

T = TypeVar("T")

if TYPE_CHECKING:

    class Parsed(Generic[T]):
        """A field given as text or as ``T``, and read as ``T``."""

        def __get__(self, spec: object, owner: object = None) -> T: ...
        def __set__(self, spec: object, value: T | str) -> None: ...

else:

    class Parsed:
        def __class_getitem__(cls, item: Any) -> Any:
            return Annotated[item, "or text"]


_MAX_USER_TIMEOUT = 2**31 // 1000  # seconds; the kernel counts milliseconds in an int

_POSITIVE = (
    "ping_deadline",
    "linger",
    "half_close_timeout",
    "connect_timeout",
    "handshake_timeout",
    "udp_idle",
)
_NOT_NEGATIVE = (
    "ping",
    "idle_timeout",
    "max_connection_age",
    "tcp_user_timeout",
    "drain_delay",
    "drain_timeout",
)


class ModeSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options that every converting mode has.

    Every mode also has ``listen``, where to accept.

    Attributes:
        headers: extra HTTP fields, of the request in stw and of the 101 in wts.
        subprotocol: offered in this order (stw), or admitted (wts).
        ping: seconds between pings, 0 switches them off.
        ping_deadline: seconds without a byte after a ping until the peer is dead.
        linger: seconds a peer may stay silent while an end is completed.
        half_close_timeout: seconds without a byte until a half-closed one is reset.
        connect_timeout: seconds to resolve and connect, in all.
        handshake_timeout: seconds for TLS and HTTP handshakes, in all.
        idle_timeout: seconds without payload, 0 for no limit.
        max_connection_age: seconds after which a connection ends as by a drain, once
            it is quiet for a second, at the latest at 1.1 times that; 0 for no limit.
        max_connections: at once; ``None`` is 8192 or a quarter of the descriptor
            limit, whichever is smaller.
        max_message: bytes of an outgoing frame with its header.
        tcp_user_timeout: seconds of unacknowledged data, 0 leaves it to the system.
        drain_delay: seconds between the signal and the end of accepting.
        drain_timeout: seconds that open connections have after that.
        fastws: announce this end to the peer, for exact half-close and reset.
        oneshot: serve one connection; the exit status says how it ended.
        udp_idle: seconds without a datagram until a UDP flow ends.
    """

    headers: tuple[tuple[str, str], ...] = ()
    subprotocol: tuple[str, ...] = ()
    ping: float = c.PING
    ping_deadline: float = c.PING_DEADLINE
    linger: float = c.LINGER
    half_close_timeout: float = c.HALF_CLOSE_TIMEOUT
    connect_timeout: float = c.CONNECT_TIMEOUT
    handshake_timeout: float = c.HANDSHAKE_TIMEOUT
    idle_timeout: float = c.IDLE_TIMEOUT
    max_connection_age: float = 0.0
    max_connections: int | None = None
    max_message: int = c.MAX_MESSAGE
    tcp_user_timeout: float = 0.0
    drain_delay: float = c.DRAIN_DELAY
    drain_timeout: float = c.DRAIN_TIMEOUT
    fastws: bool = True
    oneshot: bool = False
    udp_idle: float = c.UDP_IDLE

    def __post_init__(self) -> None:
        check_texts(self, "subprotocol", f.parse_subprotocol)
        if "base64" in self.subprotocol:
            raise ConfigError("subprotocol", "base64 is not spoken; use binary")
        check_unique(self, "subprotocol")
        for name in _POSITIVE:
            check_seconds(self, name, zero=False)
        for name in _NOT_NEGATIVE:
            check_seconds(self, name, zero=True)
        if self.tcp_user_timeout > _MAX_USER_TIMEOUT:
            raise ConfigError("tcp_user_timeout", "must be at most 24d")
        limit = self.max_connections
        if limit is not None and (not is_count(limit) or limit < 1):
            raise ConfigError("max_connections", "must be a whole number from 1")
        low, high = c.MAX_MESSAGE_LOW, c.MAX_MESSAGE_HIGH
        if not is_count(self.max_message) or not low <= self.max_message <= high:
            raise ConfigError("max_message", "must be from 1KiB to 16MiB")


class TcpToWs(ModeSpec, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``fastws stw LISTEN URL``: each TCP connection becomes one WebSocket.

    Attributes:
        listen: where to accept; text is parsed.
        upstream: the WebSocket server; text is parsed.
        host: what the Host field says instead of the URL's host.
        origin: what the Origin field says; without it none is sent.
        sni: TLS server name, also the name that is verified.
        ca: PEM file of authorities to trust instead of the system's.
        cert: PEM file of the client certificate, its key may stand in it.
        key: PEM file of that key.
        insecure: do not verify the server's certificate.
        connect_to: address to dial instead of the URL's; text is parsed.
        on_eof: after a TCP end, ``hold`` the Close for a late answer (strangers
            only) or ``close`` at once.
        proxy: what connects on our behalf; text is parsed. Without it the variables
            of the process may name one, see :mod:`fastws.config.proxy`.
        proxy_ca: PEM file of authorities to trust for an https proxy.
        retry: attempts for one TCP client, within ``connect_timeout``.
        header_file: further fields of the request, read again for each.
        bearer: token of the Authorization field.
        basic: ``user:password`` of that field.
        source: address to connect from.
        bind_device: network interface to connect through (Linux).
        text: a line of standard input is a text message, a message a line of output.
    """

    listen: Parsed[Listen]
    upstream: Parsed[WsUrl]
    host: str | None = None
    origin: str | None = None
    sni: str | None = None
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    insecure: bool = False
    connect_to: Parsed[ConnectTo | None] = None  # type: ignore[assignment]
    on_eof: Literal["hold", "close"] = "hold"
    proxy: Parsed[ProxyUrl | None] = None  # type: ignore[assignment]
    proxy_ca: str | None = None
    retry: int = 1
    header_file: str | None = None
    bearer: str | None = None
    basic: str | None = None
    source: str | None = None
    bind_device: str | None = None
    text: bool = False

    def __post_init__(self) -> None:
        ModeSpec.__post_init__(self)
        parse_field(self, "listen", Listen)
        parse_field(self, "upstream", WsUrl)
        if self.connect_to is not None:
            parse_field(self, "connect_to", ConnectTo)
        check_headers(self, request=True)
        check_text(self, "host", f.parse_host)
        check_text(self, "origin", f.parse_origin)
        check_text(self, "sni", f.parse_server_name)
        if self.on_eof not in ("hold", "close"):
            raise ConfigError("on_eof", "must be hold or close")
        if not self.upstream.secure:
            names = ("sni", "ca", "cert", "key", "insecure")
            refuse(self, names, "only means something with a wss:// URL")
        check_pair(self, "cert", "key")
        check_trust(self)
        self._check_kind()
        self._check_way_out()

    def _check_kind(self) -> None:
        kind = self.listen.kind
        if self.text and kind != "stdio":
            raise ConfigError("text", "needs - as LISTEN: it is for standard input")
        if kind == "udp":
            refuse(self, ("oneshot",), "means nothing for udp:, which has no end")
            refuse(self, ("idle_timeout",), "does not count for udp:; use --udp-idle")

    def _check_way_out(self) -> None:
        if self.proxy is not None:
            parse_field(self, "proxy", ProxyUrl)
            if self.proxy.scheme != "https":
                refuse(self, ("proxy_ca",), "only means something with an https proxy")
        if not is_count(self.retry) or not 1 <= self.retry <= 100:
            raise ConfigError("retry", "must be a whole number from 1 to 100")
        check_text(self, "source", f.parse_source)
        check_text(self, "bind_device", f.parse_device)
        check_text(self, "bearer", f.parse_bearer)
        check_text(self, "basic", f.parse_basic)
        given = [name.lower() for name, _ in self.headers]
        for name in ("bearer", "basic"):
            if getattr(self, name) is not None and "authorization" in given:
                raise ConfigError(name, "contradicts the header Authorization")
        if self.bearer is not None and self.basic is not None:
            raise ConfigError("basic", "contradicts --bearer; give one of the two")
        if self.proxy is None or self.proxy.is_off:
            check_loop(self.listen, self.dial_address)
        else:
            check_loop(self.listen, self.proxy.address)

    @property
    def authorization(self) -> str | None:
        """Value of the Authorization field that ``bearer`` or ``basic`` ask for."""
        if self.bearer is not None:
            return f.Secret(f"Bearer {self.bearer}")
        if self.basic is not None:
            pair = base64.b64encode(self.basic.encode()).decode()
            return f.Secret(f"Basic {pair}")
        return None

    @property
    def dial_address(self) -> tuple[str, int]:
        """``(host, port)`` to dial."""
        if self.connect_to is not None:
            return self.connect_to.address
        return self.upstream.host, self.upstream.port

    @property
    def server_name(self) -> str | None:
        """Name for TLS, sent and verified; ``None`` without TLS."""
        return (self.sni or self.upstream.host) if self.upstream.secure else None


class WsToTcp(ModeSpec, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``fastws wts LISTEN TARGET``: each WebSocket becomes one TCP connection.

    Attributes:
        listen: where to accept; text is parsed.
        target: the service to connect to; text is parsed. Only ``route`` or
            ``token_file`` can do without.
        more_targets: services that share the connections with ``target``; text is
            parsed.
        route: requests that go elsewhere, by path, or by Host and path; text is
            parsed.
        token_file: file of ``token: host:port`` lines, or a directory of such files;
            the request's token decides where it goes.
        path: the only path that upgrades; without it all do.
        allow_host: the only Hosts admitted; without it all are.
        allow_origin: origins admitted besides those of the request's own Host.
        cert: PEM file to listen with TLS, its key may stand in it.
        key: PEM file of that key.
        client_ca: PEM file of authorities; clients must show a certificate of one.
        sni: TLS server name towards a ``tls://`` target, also the one verified.
        ca: PEM file of authorities to trust instead of the system's, for the target.
        insecure: do not verify the target's certificate.
        target_cert: PEM file of the certificate shown to the target.
        target_key: PEM file of that key.
        auth_token: bearer tokens, one of which lets in.
        auth_basic: file of ``user:hash`` lines, one of whom lets in.
        trust: networks whose word about client addresses is taken, or ``unix``.
        client_ip_header: the only HTTP field that they say it in.
        max_per_ip: connections of one client address at once, 0 for no limit.
        proxy_protocol: ``accept`` PROXY headers on ``listen``, or ``require`` them.
        send_proxy_protocol: begin connections to the target with a PROXY header.
        web: directory of files for plain requests.
        plain_too: serve clients without TLS on the same port.
    """

    listen: Parsed[Listen]
    target: Parsed[Target | None] = None  # type: ignore[assignment]
    more_targets: tuple[Target, ...] = ()
    route: tuple[Route, ...] = ()
    token_file: str | None = None
    path: str | None = None
    allow_host: tuple[str, ...] = ()
    allow_origin: tuple[str, ...] = ()
    cert: str | None = None
    key: str | None = None
    client_ca: str | None = None
    sni: str | None = None
    ca: str | None = None
    insecure: bool = False
    target_cert: str | None = None
    target_key: str | None = None
    auth_token: tuple[str, ...] = ()
    auth_basic: str | None = None
    trust: tuple[str, ...] = ()
    client_ip_header: str | None = None
    max_per_ip: int = 0
    proxy_protocol: Literal["off", "accept", "require"] = "off"
    send_proxy_protocol: Literal["v1", "v2"] | None = None
    web: str | None = None
    plain_too: bool = False

    def __post_init__(self) -> None:
        ModeSpec.__post_init__(self)
        parse_field(self, "listen", Listen)
        self._check_targets()
        check_way_in(self)
        check_text(self, "sni", f.parse_server_name)
        check_pair(self, "target_cert", "target_key")
        self._check_preface()
        if not self.may_use_tls:
            names = ("sni", "ca", "insecure", "target_cert", "target_key")
            refuse(self, names, "only means something with a tls:// target")
        check_trust(self)
        if self.listen.kind == "stdio":
            raise ConfigError("listen", "- is for stw; wts takes a socket as inetd:")
        if self.listen.kind == "udp":
            raise ConfigError("listen", "WebSockets come over TCP; udp: is for TARGET")
        for target in self.all_targets:
            if not target.udp:
                check_loop(self.listen, target.address)

    def _check_preface(self) -> None:
        if self.send_proxy_protocol not in (None, "v1", "v2"):
            raise ConfigError("send_proxy_protocol", "must be v1 or v2")
        if self.send_proxy_protocol and any(t.udp for t in self.all_targets):
            reason = "needs a stream: there is no such header for udp: targets"
            raise ConfigError("send_proxy_protocol", reason)

    def _check_targets(self) -> None:
        if self.target is not None:
            parse_field(self, "target", Target)
        elif not self.route and self.token_file is None:
            raise ConfigError(
                "target", "is missing; only --route and --token-file need none"
            )
        parse_fields(self, "more_targets", Target)
        parse_fields(self, "route", Route)
        if self.more_targets and self.target is None:
            raise ConfigError("more_targets", "needs target, the first of them")
        clash = find_clash(self.route)
        if clash is not None:
            raise ConfigError("route", f"{clash} is named twice")
        if len({target.udp for target in self.targets}) > 1:
            reason = "udp: and other targets cannot share connections; use --route"
            raise ConfigError("more_targets", reason)
        if self.path is not None and self.target is None and self.token_file is None:
            raise ConfigError("path", "is for TARGET; a route says its own path")
        if self.target is not None and self.path is not None:
            if any(route.pattern == self.path for route in self.route):
                raise ConfigError("route", f"{self.path} is the path of TARGET already")

    @property
    def targets(self) -> tuple[Target, ...]:
        """The services that requests without a route or token go to."""
        return () if self.target is None else (self.target, *self.more_targets)

    @property
    def all_targets(self) -> tuple[Target, ...]:
        """Those and the targets of routes; token files are read later."""
        return *self.targets, *(route.target for route in self.route)

    @property
    def may_use_tls(self) -> bool:
        """Whether there is, or may be in a token file, a ``tls://`` target."""
        return self.token_file is not None or any(t.tls for t in self.all_targets)

    @property
    def server_name(self) -> str | None:
        """Name for TLS to the target, sent and verified; ``None`` without TLS."""
        return None if self.target is None else self.server_name_of(self.target)

    def server_name_of(self, target: Target) -> str | None:
        """Name for TLS to ``target``, sent and verified; ``None`` without TLS."""
        return (self.sni or target.host) if target.tls else None
