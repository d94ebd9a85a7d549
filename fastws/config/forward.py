"""What the forward proxy needs to know. Pure."""

import re
from typing import Literal, Self

import msgspec
from msgspec.structs import fields as fields_of
from msgspec.structs import force_setattr

from fastws import _consts
from fastws.config import fields as f
from fastws.config.checks import (
    check_limit,
    check_loop,
    check_pair,
    check_text,
    check_texts,
    parse_field,
    parse_fields,
    refuse,
)
from fastws.config.endpoint import ConnectTo, Listen, WsUrl
from fastws.config.rules import Rule
from fastws.config.schema import ModeSpec, Parsed
from fastws.config.via import ViaUrl, check_via
from fastws.exceptions import ConfigError

PROTOCOLS = ("http", "https", "socks5")
"""``https`` is CONNECT, ``http`` every other request."""

_PSEUDONYM = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}(?::[0-9]{1,5})?")
_MASK = {1: "http", 2: "https", 4: "socks5"}


def parse_protocols(text: str) -> tuple[str, ...]:
    """Read ``http,https,socks5``, or their sum of 1, 2 and 4 as wmproxy has it.

    Raises:
        ValueError: another word or number.
    """
    bare = text.strip().lower()
    if bare.isascii() and bare.isdigit():
        number = int(bare) if len(bare) < 4 else 0
        if not 0 < number < 8:
            raise ValueError(
                f"{text!r}: the sum of http 1, https 2, socks5 4 is 1 to 7"
            )
        return tuple(name for bit, name in _MASK.items() if number & bit)
    words = {word for word in re.split(r"[\s,|]+", bare) if word}
    if not words or not words <= set(PROTOCOLS):
        raise ValueError(f"{text!r}: write http, https and socks5 with commas between")
    return tuple(name for name in PROTOCOLS if name in words)


def parse_user(text: str) -> str:
    """Check ``NAME:PASSWORD``; error texts never repeat it."""
    pair = f.parse_basic(text)
    name, _, password = pair.partition(":")
    if not name:
        raise ValueError("a user has no name; write NAME:PASSWORD")
    if max(len(name.encode()), len(password.encode())) > 255:
        raise ValueError("SOCKS5 carries names and passwords of up to 255 bytes")
    return pair


def parse_pseudonym(text: str) -> str:
    """Check a name for Via fields (RFC 9110 section 7.6.3).

    Raises:
        ValueError: it is none.
    """
    if not _PSEUDONYM.fullmatch(text):
        raise ValueError(f"{text!r} is no name for Via fields; write one as edge-1")
    return text


class Forward(msgspec.Struct, frozen=True):
    """A port of this machine that leads to one destination, as ``ssh -L``.

    Attributes:
        listen: where to accept.
        target: where to go.
    """

    listen: Listen
    target: ConnectTo

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``LISTEN=HOST:PORT``.

        Raises:
            ValueError: another form.
        """
        listen, equals, target = text.strip().partition("=")
        if not equals:
            raise ValueError("a forward has two sides; write LISTEN=HOST:PORT")
        return cls(Listen.parse(listen), ConnectTo.parse(target))


class ForwardProxy(ModeSpec, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``fastws proxy LISTEN``: HTTP, CONNECT and SOCKS5 on one port.

    Attributes:
        listen: where to accept; text is parsed.
        target: the only destination: clients speak no proxy protocol then, and users
            and rules mean nothing; text is parsed.
        user: ``name:password`` pairs, one of which lets in.
        users: file of ``name:hash`` lines, one of whom lets in.
        auth_attempts: wrong passwords of one address in a minute, 0 for any number.
        no_auth: everybody may use it, although others than this machine can connect.
        protocols: of http, https (CONNECT) and socks5; text is parsed.
        allow: rules, see :mod:`fastws.config.rules`; with them only what one names
            passes; texts are parsed.
        deny: rules that refuse; texts are parsed.
        via: another proxy that connects, or the WebSocket server at whose end streams
            come out of a pool of connections; text is parsed.
        via_protocol: what that server has to be: one of ``fastws``, or any that
            speaks as ``rust-proxy`` does.
        via_token: what it asks for.
        host: what it reads in the Host field instead of the URL's host.
        connect_to: address to dial instead of the URL's; text is parsed.
        sni: its TLS name, sent and verified.
        ca: PEM file of authorities to trust for it instead of the system's.
        insecure: do not verify its certificate.
        max_data: payload of one packet to a stranger, bytes.
        pool_keep: idle connections that are kept.
        pool_size: connections in all.
        pool_warm: idle connections that are opened ahead of need.
        pool_opening: handshakes at the same time.
        pool_idle: seconds until an idle connection is closed, 0 for never.
        pool_age: seconds until one is too old to be used again, 0 for never.
        pool_probe: seconds between probes of idle ones to a stranger, 0 for none.
        retry: handshakes for one client, within ``connect_timeout``.
        retry_delay: seconds before the second one, three times as long each time.
        retry_pooled: used connections that are tried for one stream before a fresh
            one; 0: no stream is tried twice.
        retry_data: bytes of the client that are kept to be sent again.
        retry_mode: ``replay`` sends them again, ``connect-only`` gives up once any
            were sent.
        proxy_ca: PEM file of authorities to trust for an https one.
        via_name: our name in Via fields of HTTP, ``None`` for no such fields.
        source: address to connect from.
        bind_device: network interface to connect through (Linux).
        cert: PEM file to listen with TLS, its key may stand in it.
        key: PEM file of that key.
    """

    listen: Parsed[Listen]
    target: Parsed[ConnectTo | None] = None  # type: ignore[assignment]
    user: tuple[str, ...] = ()
    users: str | None = None
    auth_attempts: int = _consts.AUTH_ATTEMPTS
    no_auth: bool = False
    protocols: tuple[str, ...] = PROTOCOLS
    allow: tuple[Rule, ...] = ()
    deny: tuple[Rule, ...] = ()
    via: Parsed[ViaUrl | None] = None  # type: ignore[assignment]
    via_protocol: Literal["fastws", "rust-proxy"] = "fastws"
    via_token: str | None = None
    host: str | None = None
    connect_to: Parsed[ConnectTo | None] = None  # type: ignore[assignment]
    sni: str | None = None
    ca: str | None = None
    insecure: bool = False
    max_data: int = 2048
    pool_keep: int = 10
    pool_size: int = 1024
    pool_warm: int = 0
    pool_opening: int = 16
    pool_idle: float = 60.0
    pool_age: float = 600.0
    pool_probe: float = 30.0
    retry: int = 3
    retry_delay: float = 0.2
    retry_pooled: int = 2
    retry_data: int = 65536
    retry_mode: Literal["replay", "connect-only"] = "replay"
    proxy_ca: str | None = None
    via_name: str | None = None
    source: str | None = None
    bind_device: str | None = None
    cert: str | None = None
    key: str | None = None

    def __post_init__(self) -> None:
        ModeSpec.__post_init__(self)
        parse_field(self, "listen", Listen)
        if self.listen.kind in ("stdio", "udp"):
            raise ConfigError("listen", "must be a port, unix:/PATH, fd:3 or inetd:")
        if self.target is not None:
            parse_field(self, "target", ConnectTo)
            check_loop(self.listen, self.target.address)
        parse_fields(self, "allow", Rule)
        parse_fields(self, "deny", Rule)
        self._check_ways_in()
        self._check_way_out()

    def _check_ways_in(self) -> None:
        names: object = self.protocols
        words = names if isinstance(names, str) else ",".join(self.protocols)
        try:
            force_setattr(self, "protocols", parse_protocols(words))
        except ValueError as error:
            raise ConfigError("protocols", str(error)) from None
        check_texts(self, "user", parse_user)
        check_pair(self, "cert", "key")
        check_limit(self, "auth_attempts")
        if self.no_auth:
            refuse(self, ("user", "users"), "contradicts --no-auth")
        may_be_reached = self.listen.kind == "tcp" and not self.listen.is_loopback
        if may_be_reached and not self.is_open:
            raise ConfigError("listen", NO_USERS)

    def _check_way_out(self) -> None:
        check_text(self, "via_name", parse_pseudonym)
        check_text(self, "source", f.parse_source)
        check_text(self, "bind_device", f.parse_device)
        check_via(self, {row.name: row.default for row in fields_of(type(self))})

    @property
    def pool_url(self) -> WsUrl | None:
        """The server that ``via`` names, if it is one of pooled WebSockets."""
        return self.via if isinstance(self.via, WsUrl) else None

    @property
    def has_pings(self) -> bool:
        """Whether there are WebSockets, to a server that answers pings."""
        return self.pool_url is not None and self.via_protocol == "fastws"

    @property
    def is_open(self) -> bool:
        """Whether it may be reached by others than this machine."""
        has_users = bool(self.user) or self.users is not None
        return has_users or self.no_auth or self.target is not None


NO_USERS = (
    "others than this machine could use the proxy: give --user or --users, or say"
    " --no-auth"
)
"""Why a proxy without users does not start."""
