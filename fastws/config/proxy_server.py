"""What the far end of pooled WebSockets needs to know. Pure."""

from typing import ClassVar, Literal

from fastws import _consts
from fastws.config import fields as f
from fastws.config.checks import (
    check_limit,
    check_seconds,
    check_text,
    check_way_in,
    is_count,
    parse_field,
    parse_fields,
)
from fastws.config.endpoint import Listen
from fastws.config.rules import Rule
from fastws.config.schema import ModeSpec, Parsed
from fastws.exceptions import ConfigError

MAX_DATA = 2048
MAX_DATA_LIMIT = 64 * 1024
POOL_IDLE = 600.0


class ProxyServer(ModeSpec, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``fastws proxy-server LISTEN``: the far end of pooled WebSockets.

    Attributes:
        listen: where to accept; text is parsed.
        auth_token: tokens, one of which lets in.
        auth_attempts: wrong tokens of one address in a minute, 0 for any number.
        no_auth: everybody may use it.
        path: the only path that upgrades; without it all do.
        allow_host: the only Hosts admitted; without it all are.
        allow_origin: origins admitted besides those of the request's own Host.
        allow: rules, see :mod:`fastws.config.rules`; with them only what one names
            passes; texts are parsed. Private addresses pass only by name.
        deny: rules that refuse; texts are parsed.
        source: address to connect from.
        bind_device: network interface to connect through (Linux).
        cert: PEM file to listen with TLS, its key may stand in it.
        key: PEM file of that key.
        client_ca: PEM file of authorities; clients must show a certificate of one.
        plain_too: serve clients without TLS on the same port.
        trust: networks whose word about client addresses is taken, or ``unix``.
        client_ip_header: the only HTTP field that they say it in.
        max_per_ip: WebSockets of one client address at once, 0 for no limit.
        proxy_protocol: ``accept`` PROXY headers on ``listen``, or ``require`` them.
        max_data: payload of one packet to a rust-proxy client, bytes.
        pool_idle: seconds until a WebSocket without a stream is closed.
    """

    auth_basic: ClassVar[None] = None  # what the ways in of wts have besides
    send_proxy_protocol: ClassVar[None] = None
    web: ClassVar[None] = None

    listen: Parsed[Listen]
    auth_token: tuple[str, ...] = ()
    auth_attempts: int = _consts.AUTH_ATTEMPTS
    no_auth: bool = False
    path: str | None = None
    allow_host: tuple[str, ...] = ()
    allow_origin: tuple[str, ...] = ()
    allow: tuple[Rule, ...] = ()
    deny: tuple[Rule, ...] = ()
    source: str | None = None
    bind_device: str | None = None
    cert: str | None = None
    key: str | None = None
    client_ca: str | None = None
    plain_too: bool = False
    trust: tuple[str, ...] = ()
    client_ip_header: str | None = None
    max_per_ip: int = 0
    proxy_protocol: Literal["off", "accept", "require"] = "off"
    max_data: int = MAX_DATA
    pool_idle: float = POOL_IDLE

    def __post_init__(self) -> None:
        ModeSpec.__post_init__(self)
        parse_field(self, "listen", Listen)
        if self.listen.kind in ("stdio", "udp", "inetd"):
            raise ConfigError("listen", "must be a port, unix:/PATH or fd:3")
        check_way_in(self)
        parse_fields(self, "allow", Rule)
        parse_fields(self, "deny", Rule)
        check_text(self, "source", f.parse_source)
        check_text(self, "bind_device", f.parse_device)
        if self.no_auth and self.auth_token:
            raise ConfigError("auth_token", "contradicts --no-auth")
        if not self.no_auth and not self.auth_token:
            raise ConfigError("listen", NO_TOKEN)
        check_limit(self, "auth_attempts")
        if not is_count(self.max_data) or not 1 <= self.max_data <= MAX_DATA_LIMIT:
            raise ConfigError("max_data", "must be from 1 to 64KiB")
        check_seconds(self, "pool_idle", zero=True)


NO_TOKEN = "whoever reaches it could use the proxy: give --auth-token, or say --no-auth"
"""Why a server without a token does not start."""
