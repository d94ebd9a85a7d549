"""What connects on behalf of the forward proxy: another proxy, or a pool. Pure."""

import re
from typing import Any, TypeAlias

from msgspec.structs import force_setattr

from fastws.config import fields as f
from fastws.config.checks import (
    check_loop,
    check_seconds,
    check_text,
    check_trust,
    is_count,
    parse_field,
    refuse,
)
from fastws.config.endpoint import ConnectTo, WsUrl
from fastws.config.proxy import ProxyUrl
from fastws.exceptions import ConfigError

ViaUrl: TypeAlias = ProxyUrl | WsUrl

MAX_DATA_LIMIT = 64 * 1024
POOLED = (
    *("via_protocol", "via_token", "host", "connect_to", "max_data"),
    *("pool_keep", "pool_size", "pool_warm", "pool_opening"),
    *("pool_idle", "pool_age", "pool_probe"),
    *("retry", "retry_delay", "retry_pooled", "retry_data", "retry_mode"),
    *("sni", "ca", "insecure"),
)
"""Attributes that mean nothing without a ``ws://`` or ``wss://`` URL."""

_SECURE = ("sni", "ca", "insecure")
_COUNTS = (
    ("pool_keep", 0),
    ("pool_size", 1),
    ("pool_warm", 0),
    ("pool_opening", 1),
    ("retry", 0),
    ("retry_pooled", 0),
    ("retry_data", 0),
    ("max_data", 1),
)
_TIMES = ("pool_idle", "pool_age", "pool_probe", "retry_delay")
_MAX_COUNT = 1_000_000


def parse_via(text: str) -> ViaUrl:
    """Read the URL of a WebSocket server, or of an ordinary proxy.

    Raises:
        ValueError: none of both; the text never repeats a password.
    """
    if not re.match(r"\s*wss?:", text, re.IGNORECASE):
        return ProxyUrl.parse(text)
    authority = text.partition("//")[2].partition("/")[0]
    if "@" in authority:
        raise ValueError("a token does not belong in the URL; use --via-token")
    return WsUrl.parse(text)


def check_via(spec: Any, defaults: dict[str, Any]) -> None:
    """Check where a forward proxy goes, and all that belongs to it.

    Args:
        spec: whose ``via`` may be text, and is parsed.
        defaults: of its attributes.

    Raises:
        ConfigError: names the attribute.
    """
    _parse(spec)
    via = spec.via
    if getattr(via, "scheme", "") != "https":
        refuse(spec, ("proxy_ca",), "only means something with an https:// --via")
    if not isinstance(via, WsUrl):
        if via is not None and not via.is_off:
            check_loop(spec.listen, via.address)
        for name in POOLED:
            if getattr(spec, name) != defaults[name]:
                reason = "only means something with a ws:// or wss:// --via"
                raise ConfigError(name, reason)
        return
    _check_pool(spec)
    _check_retry(spec)
    if not via.secure:
        refuse(spec, _SECURE, "only means something with a wss:// --via")
    check_trust(spec)
    check_loop(spec.listen, dial_address(spec))


def dial_address(spec: Any) -> tuple[str, int]:
    """``(host, port)`` to dial for a WebSocket."""
    if spec.connect_to is not None:
        where: tuple[str, int] = spec.connect_to.address
        return where
    return spec.via.host, spec.via.port


def _parse(spec: Any) -> None:
    if isinstance(spec.via, str):
        try:
            force_setattr(spec, "via", parse_via(spec.via))
        except ValueError as error:
            raise ConfigError("via", str(error)) from None
    elif not isinstance(spec.via, ProxyUrl | WsUrl | None):
        raise ConfigError("via", "must be text, ProxyUrl or WsUrl")
    if spec.connect_to is not None:
        parse_field(spec, "connect_to", ConnectTo)
    check_text(spec, "via_token", f.parse_bearer)
    check_text(spec, "host", f.parse_host)
    check_text(spec, "sni", f.parse_server_name)


def _check_pool(spec: Any) -> None:
    if spec.via_protocol not in ("fastws", "rust-proxy"):
        raise ConfigError("via_protocol", "must be fastws or rust-proxy")
    for name, least in _COUNTS:
        value = getattr(spec, name)
        if not is_count(value) or not least <= value <= _MAX_COUNT:
            raise ConfigError(name, f"must be a whole number from {least}")
    for name in _TIMES:
        check_seconds(spec, name, zero=True)
    if spec.pool_warm > spec.pool_keep:
        raise ConfigError("pool_warm", "must not be more than --pool-keep")
    if spec.max_data > MAX_DATA_LIMIT:
        raise ConfigError("max_data", "must be from 1 to 64KiB")


def _check_retry(spec: Any) -> None:
    if spec.retry_mode not in ("replay", "connect-only"):
        raise ConfigError("retry_mode", "must be replay or connect-only")
