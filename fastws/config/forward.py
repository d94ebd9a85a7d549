"""What the forward proxy needs to know. Pure."""

import re
from dataclasses import dataclass
from typing import Self

from msgspec.structs import force_setattr

from fastws.config import fields as f
from fastws.config.checks import (
    check_loop,
    check_pair,
    check_text,
    check_texts,
    parse_field,
    parse_fields,
    refuse,
)
from fastws.config.endpoint import ConnectTo, Listen
from fastws.config.proxy import ProxyUrl
from fastws.config.rules import Rule
from fastws.config.schema import ModeSpec, Parsed
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


@dataclass(frozen=True, slots=True)
class Forward:
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
        no_auth: everybody may use it, although others than this machine can connect.
        protocols: of http, https (CONNECT) and socks5; text is parsed.
        allow: rules, see :mod:`fastws.config.rules`; with them only what one names
            passes; texts are parsed.
        deny: rules that refuse; texts are parsed.
        via: another proxy that connects; text is parsed.
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
    no_auth: bool = False
    protocols: tuple[str, ...] = PROTOCOLS
    allow: tuple[Rule, ...] = ()
    deny: tuple[Rule, ...] = ()
    via: Parsed[ProxyUrl | None] = None  # type: ignore[assignment]
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
        if self.no_auth:
            refuse(self, ("user", "users"), "contradicts --no-auth")
        may_be_reached = self.listen.kind == "tcp" and not self.listen.is_loopback
        if may_be_reached and not self.is_open:
            raise ConfigError("listen", NO_USERS)

    def _check_way_out(self) -> None:
        check_text(self, "via_name", parse_pseudonym)
        check_text(self, "source", f.parse_source)
        check_text(self, "bind_device", f.parse_device)
        if self.via is not None:
            parse_field(self, "via", ProxyUrl)
            if not self.via.is_off:
                check_loop(self.listen, self.via.address)
        if self.via is None or self.via.scheme != "https":
            refuse(self, ("proxy_ca",), "only means something with an https:// --via")

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
