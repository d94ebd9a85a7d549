"""Where a proxy request wants to go, read from its request line.

Source: RFC 9112 section 3.2 (forms of a request target), RFC 3986 section 3.2.
"""

import ipaddress
import re
from typing import NamedTuple

from fastws.exceptions import RemoteProtocolError

_absolute = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^#]*)").fullmatch
_authority = re.compile(
    r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]+)(?::([0-9]{0,5}))?"
).fullmatch

_MAX_NAME = 255  # as in SOCKS5; names that resolve have 253 (RFC 1035 section 2.3.4)


class Target(NamedTuple):
    """What an absolute-form target says.

    Attributes:
        host: name or IP literal, without brackets, as written.
        port: 1 to 65535.
        authority: for the Host field.
        path: for the request line towards the origin.
    """

    host: str
    port: int
    authority: str
    path: str


def parse_absolute(target: str, method: str) -> Target:
    """Read ``http://host:port/path?query``.

    Args:
        target: as in the request line.
        method: an ``OPTIONS`` without a path asks for ``*``.

    Raises:
        RemoteProtocolError: it is none, with ``http_status`` 400.
    """
    match = _absolute(target)
    if match is None:
        raise _bad("this is a proxy: the target must be an absolute URL")
    scheme, authority, path = match.groups()
    if scheme.lower() != "http":
        raise _bad(f"scheme {scheme[:16]!r} is not proxied, use CONNECT")
    if "@" in authority:
        # RFC 9110 section 4.2.4: a password here would end up in logs.
        raise _bad("the target holds user information")
    host, port, literal = _split(authority)
    if not path.startswith("/"):
        # RFC 9112 section 3.2.4: asterisk-form for OPTIONS, else the root.
        path = "*" if method == "OPTIONS" and not path else "/" + path
    named = literal if port is None else f"{literal}:{port}"
    return Target(host, 80 if port is None else port, named, path)


def parse_authority(target: str) -> tuple[str, int]:
    """Read the ``host:port`` of a CONNECT (RFC 9112 section 3.2.3).

    Raises:
        RemoteProtocolError: it is none, with ``http_status`` 400.
    """
    host, port, _ = _split(target)
    if port is None:
        raise _bad("CONNECT needs HOST:PORT")
    return host, port


def _split(authority: str) -> tuple[str, int | None, str]:
    """Host without brackets, port, and the host as written."""
    match = _authority(authority)
    if match is None:
        raise _bad(f"malformed host or port: {authority[:64]!r}")
    literal, digits = match.groups()
    host = literal
    if literal.startswith("["):
        host = literal[1:-1]
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise _bad(f"not an IPv6 address: {host[:64]!r}") from None
    elif len(host) > _MAX_NAME:
        raise _bad(f"a host name of {len(host)} characters: {host[:64]!r}")
    port = int(digits) if digits else None
    if port is not None and not 1 <= port <= 65535:
        raise _bad(f"port {port} is not from 1 to 65535")
    return host, port, literal


def _bad(reason: str) -> RemoteProtocolError:
    return RemoteProtocolError(reason, http_status=400)
