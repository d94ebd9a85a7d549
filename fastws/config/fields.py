"""Texts that end up in an HTTP head, checked before anything is sent. Pure.

Each ``parse_x`` returns the text to use, or raises ``ValueError`` saying what
would be right. The schema and the command line share them.
"""

import re

from fastws.config.endpoint import is_ip

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 section 5.6.2
_VALUE = re.compile(r"[\x20-\x7e\t]*")
_VISIBLE = re.compile(r"[\x21-\x7e]+")
_AUTHORITY = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")
_ORIGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]+)")
_SENSITIVE = re.compile(r"auth|cookie|token|secret|password|api-?key", re.IGNORECASE)
_DEVICE = re.compile(r"[^\s/\x00-\x1f\x7f]{1,15}")  # Linux IFNAMSIZ less its NUL
_OWN_OPTION = frozenset({"host", "origin"})
_OWN_PREFIX = "sec-websocket-"
_OURS = frozenset(
    {"connection", "upgrade", "content-length", "transfer-encoding", "x-fastws"}
)


class Secret(str):
    """A text whose ``repr`` does not show it; everything else is as with ``str``."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'MASKED'"


def is_sensitive(name: str) -> bool:
    """Whether the value of the HTTP field ``name`` is likely a credential."""
    return _SENSITIVE.search(name) is not None


def parse_header(text: str) -> tuple[str, str]:
    """Read one ``Name: value`` field.

    The value comes back as a :class:`Secret` where the name suggests so. Error
    texts never repeat the value.

    Raises:
        ValueError: no colon, a name that is no token, or a value that is not one
            line of printable ASCII.
    """
    name, colon, value = text.partition(":")
    if not colon:
        raise ValueError("a header has no colon; write 'Name: value'")
    return check_header(name.strip(" \t"), value.strip(" \t"))


def check_header(name: str, value: str) -> tuple[str, str]:
    """Check one field that is already split; see :func:`parse_header`."""
    if not _TOKEN.fullmatch(name):
        raise ValueError(f"{name!r} is not a header name; write 'Name: value'")
    if not _VALUE.fullmatch(value):
        raise ValueError(f"the value of {name} must be one line of printable ASCII")
    return name, Secret(value) if is_sensitive(name) else value


def header_owner(name: str, *, request: bool) -> str | None:
    """Say why ``name`` cannot be an extra field, or ``None`` if it can.

    Args:
        name: of the field, any case.
        request: of the upgrade request; otherwise of the 101 answer.
    """
    lower = name.lower()
    if request and lower in _OWN_OPTION:
        return f"use --{lower} for {name}"
    if lower == "sec-websocket-protocol":
        return f"use --subprotocol for {name}"
    if lower in _OURS or lower.startswith(_OWN_PREFIX):
        return f"{name} belongs to the upgrade itself and cannot be set"
    return None


def parse_subprotocol(text: str) -> str:
    """Check a subprotocol name (RFC 6455 section 4.1: an HTTP token)."""
    if not _TOKEN.fullmatch(text):
        raise ValueError(
            f"{text!r} is not a subprotocol; write one name and repeat the option"
        )
    return text


def parse_path(text: str) -> str:
    """Check a path to compare requests with: no query, no fragment."""
    if not text.startswith("/") or not _VISIBLE.fullmatch(text) or set(text) & {*"?#"}:
        raise ValueError(f"{text!r} is not a path; write /name without a query")
    if text.endswith("/*"):
        raise ValueError(f"{text!r}: a path is this one alone; only --route takes /*")
    return text


def parse_host(text: str) -> str:
    """Check what a Host field may say (RFC 9110 section 7.2): ``host[:port]``."""
    if not _AUTHORITY.fullmatch(text):
        raise ValueError(f"{text!r} is not a Host; write NAME or NAME:PORT")
    return text


def parse_origin(text: str) -> str:
    """Check an origin (RFC 6454 section 6): ``scheme://host[:port]`` or ``null``."""
    match = _ORIGIN.fullmatch(text)
    if text != "null" and (match is None or not _AUTHORITY.fullmatch(match[1])):
        raise ValueError(f"{text!r} is not an origin; write https://NAME or null")
    return text


def parse_server_name(text: str) -> str:
    """Check a TLS server name (RFC 6066 section 3): a DNS name, no address."""
    if is_ip(text) or not _AUTHORITY.fullmatch(text) or set(text) & {*":["}:
        raise ValueError(f"{text!r} is not a server name; write a DNS name")
    return text


def parse_bearer(text: str) -> str:
    """Check a bearer token (RFC 6750 section 2.1); error texts never repeat it."""
    token = text.strip()
    if not _VISIBLE.fullmatch(token):
        raise ValueError("the token must be one word of printable ASCII")
    return Secret(token)


def parse_basic(text: str) -> str:
    """Check ``USER:PASSWORD`` (RFC 7617 section 2); error texts never repeat it."""
    pair = text.strip("\r\n")
    if ":" not in pair:
        raise ValueError("user and password have no colon between them; USER:PASSWORD")
    if not pair.isprintable():
        raise ValueError("user or password holds a control character")
    return Secret(pair)


def parse_source(text: str) -> str:
    """Check a local address to connect from."""
    if not is_ip(text):
        raise ValueError(f"{text!r} is not an IP address of this machine")
    return text


def parse_device(text: str) -> str:
    """Check the name of a network interface."""
    if not _DEVICE.fullmatch(text):
        raise ValueError(f"{text!r} is not a network interface; write one as eth0")
    return text
