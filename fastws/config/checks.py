"""What the schemas check of each field. Pure.

Each function takes the spec and the name of its attribute; a wrong value raises
:class:`ConfigError` with that name as ``path``.
"""

import math
from collections.abc import Callable
from typing import Any

from msgspec.structs import force_setattr

from fastws.config import fields as f
from fastws.config import trust
from fastws.config.endpoint import Listen, is_ip
from fastws.config.endpoint import is_loopback as loops_back
from fastws.exceptions import ConfigError


def parse_field(spec: Any, name: str, kind: type[Any]) -> None:
    """Replace text by the parsed value; anything but text and ``kind`` raises."""
    value = getattr(spec, name)
    if isinstance(value, str):
        try:
            force_setattr(spec, name, kind.parse(value))
        except ValueError as error:
            raise ConfigError(name, str(error)) from None
    elif not isinstance(value, kind):
        raise ConfigError(name, f"must be text or {kind.__name__}")


def parse_fields(spec: Any, name: str, kind: type[Any]) -> None:
    """Replace the texts of a sequence by parsed values."""
    values = getattr(spec, name)
    if isinstance(values, str):
        raise ConfigError(name, "must be a sequence, not one text")
    parsed = []
    for value in values:
        if not isinstance(value, str | kind):
            raise ConfigError(name, f"must hold text or {kind.__name__}")
        try:
            parsed.append(kind.parse(value) if isinstance(value, str) else value)
        except ValueError as error:
            raise ConfigError(name, str(error)) from None
    force_setattr(spec, name, tuple(parsed))


def check_text(spec: Any, name: str, parse: Callable[[str], str]) -> None:
    """Check a text, or ``None``, and keep what ``parse`` makes of it."""
    value = getattr(spec, name)
    if value is not None:
        force_setattr(spec, name, _checked(name, value, parse))


def check_texts(spec: Any, name: str, parse: Callable[[str], str]) -> None:
    """The same for each of a sequence."""
    value = getattr(spec, name)
    if isinstance(value, str):
        raise ConfigError(name, "must be a sequence of texts, not one text")
    force_setattr(spec, name, tuple(_checked(name, item, parse) for item in value))


def _checked(name: str, value: object, parse: Callable[[str], str]) -> str:
    if not isinstance(value, str):
        raise ConfigError(name, "must be text")
    try:
        return parse(value)
    except ValueError as error:
        raise ConfigError(name, str(error)) from None


def check_headers(spec: Any, *, request: bool) -> None:
    """Check extra HTTP fields: none may be one that fastws sends itself."""
    fields = []
    for name, value in spec.headers:
        try:
            fields.append(f.check_header(name, value))
        except ValueError as error:
            raise ConfigError("headers", str(error)) from None
        reason = f.header_owner(name, request=request)
        if reason is not None:
            raise ConfigError("headers", reason)
    force_setattr(spec, "headers", tuple(fields))


def check_unique(spec: Any, name: str) -> None:
    """Refuse what is named twice."""
    seen = set()
    for item in getattr(spec, name):
        if item in seen:
            raise ConfigError(name, f"{item} is named twice")
        seen.add(item)


def is_count(value: object) -> bool:
    """A whole number, and no truth value."""
    return isinstance(value, int) and not isinstance(value, bool)


def check_limit(spec: Any, name: str) -> None:
    """Check a number that 0 switches off."""
    value = getattr(spec, name)
    if not is_count(value) or value < 0:
        raise ConfigError(name, "must be a whole number, 0 for no limit")


def check_seconds(spec: Any, name: str, *, zero: bool) -> None:
    """Check a time."""
    value = getattr(spec, name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(name, "must be a number of seconds")
    if not math.isfinite(value) or value < 0 or (value == 0 and not zero):
        raise ConfigError(name, "must be 0 or more" if zero else "must be more than 0")


def refuse(spec: Any, names: tuple[str, ...], reason: str) -> None:
    """Refuse options that have no meaning here."""
    for name in names:
        if getattr(spec, name):
            raise ConfigError(name, reason)


def check_pair(spec: Any, cert: str, key: str) -> None:
    """A key needs its certificate."""
    if getattr(spec, key) is not None and getattr(spec, cert) is None:
        flag = "--" + cert.replace("_", "-")
        raise ConfigError(key, f"needs {flag}: the certificate this key belongs to")


def check_trust(spec: Any) -> None:
    """Whom to trust, or nobody to be verified: not both."""
    if spec.insecure and spec.ca is not None:
        raise ConfigError("insecure", "contradicts --ca; give one of the two")


def check_way_in(spec: Any) -> None:
    """What every listener for WebSockets has: HTTP, TLS, tokens, front ends."""
    check_headers(spec, request=False)
    check_text(spec, "path", f.parse_path)
    check_texts(spec, "allow_host", f.parse_host)
    check_texts(spec, "allow_origin", f.parse_origin)
    check_pair(spec, "cert", "key")
    if spec.client_ca is not None and spec.cert is None:
        raise ConfigError("client_ca", "needs --cert: only TLS asks for certificates")
    if spec.plain_too and spec.cert is None:
        raise ConfigError("plain_too", "needs --cert: without TLS all is plain")
    if spec.plain_too and spec.client_ca is not None:
        reason = "contradicts --client-ca: without TLS nobody shows a certificate"
        raise ConfigError("plain_too", reason)
    check_texts(spec, "auth_token", f.parse_bearer)
    check_texts(spec, "trust", trust.parse_network)
    check_text(spec, "client_ip_header", trust.parse_field_name)
    if spec.client_ip_header is not None and not spec.trust:
        reason = "needs --trust: nobody else's headers are believed"
        raise ConfigError("client_ip_header", reason)
    check_limit(spec, "max_per_ip")
    if spec.proxy_protocol not in ("off", "accept", "require"):
        raise ConfigError("proxy_protocol", "must be off, accept or require")


def check_loop(listen: Listen, address: tuple[str, int] | str) -> None:
    """Refuse to connect to our own listener: one client would make endless ones."""
    if isinstance(address, str):
        same = listen.kind == "unix" and address == listen.path
    else:
        host, port = address
        same = (
            listen.kind == "tcp"
            and port == listen.port
            and any(_answers(own, host) for own in listen.hosts)
        )
    if same:
        raise ConfigError("listen", "is the address to connect to: an endless loop")


def _answers(own: str, host: str) -> bool:
    """Whether a socket bound to ``own`` answers for the loopback name ``host``."""
    if own.lower() == host.lower():
        return True
    if not loops_back(host):
        return False
    if not is_ip(host):  # localhost
        return own in ("127.0.0.1", "::1", "0.0.0.0", "::")
    return own == ("::" if ":" in host else "0.0.0.0")
