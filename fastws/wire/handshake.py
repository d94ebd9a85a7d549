"""The opening handshake of RFC 6455 section 4, both sides, and who may start one.

Strict where the RFC is: what a browser would refuse, a client refuses here, and what
a server must answer is in the error. Extensions are negotiated by the caller.
"""

import binascii
import hashlib
import re
from collections.abc import Sequence

from fastws._consts import GUID
from fastws.exceptions import (
    InvalidHeader,
    InvalidStatus,
    InvalidUpgrade,
    LocalProtocolError,
    NegotiationError,
    RemoteProtocolError,
)
from fastws.typing import HeaderList
from fastws.wire.head import Head, build_request, encode_fields, is_token

_RESERVED = frozenset(
    {
        "connection",
        "content-length",
        "host",
        "sec-websocket-accept",
        "sec-websocket-extensions",
        "sec-websocket-key",
        "sec-websocket-protocol",
        "sec-websocket-version",
        "transfer-encoding",
        "upgrade",
    }
)
_UPGRADE_NEEDED = (("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"))
_FORWARDED = ("x-forwarded-for", "forwarded", "via")
_DEFAULT_PORTS = {"http": ":80", "https": ":443", "ws": ":80", "wss": ":443"}

# 16 bytes are 22 base64 digits, the last of which carries 2 bits, and "==".
_is_key = re.compile(r"[A-Za-z0-9+/]{21}[AQgw]==").fullmatch
_is_loopback = re.compile(
    r"(?:localhost|[^:\[\]]+\.localhost|127(?:\.\d{1,3}){3}|\[::1\])\.?(?::\d*)?"
).fullmatch
_port = re.compile(r":\d*\Z").search


class Upgrade:
    """A request to become a WebSocket that passed every check.

    Attributes:
        key: Sec-WebSocket-Key, for ``build_accept``.
        target: path and query, without scheme and authority.
        host: the Host, or the authority of an absolute target, as sent.
        origin: the Origin field, ``None`` without one.
        subprotocols: offered names in order.
        head: the whole request.
    """

    __slots__ = ("head", "host", "key", "origin", "subprotocols", "target")

    def __init__(
        self,
        key: str,
        target: str,
        host: str,
        origin: str | None,
        subprotocols: list[str],
        head: Head,
    ) -> None:
        self.key = key
        self.target = target
        self.host = host
        self.origin = origin
        self.subprotocols = subprotocols
        self.head = head


def accept_key(key: str) -> str:
    """Return the Sec-WebSocket-Accept for ``key`` (RFC 6455 section 4.2.2)."""
    digest = hashlib.sha1(key.encode("ascii") + GUID, usedforsecurity=False).digest()
    return binascii.b2a_base64(digest, newline=False).decode("ascii")


def make_key(random16: bytes) -> str:
    """Return a Sec-WebSocket-Key from 16 fresh random bytes (RFC 6455 section 4.1).

    Raises:
        LocalProtocolError: not exactly 16 bytes.
    """
    if len(random16) != 16:
        raise LocalProtocolError("a Sec-WebSocket-Key is made of 16 bytes")
    return binascii.b2a_base64(random16, newline=False).decode("ascii")


def build_upgrade(
    target: str,
    host: str,
    key: str,
    *,
    origin: str | None = None,
    subprotocols: Sequence[str] = (),
    extensions: str | None = None,
    headers: HeaderList = (),
) -> bytes:
    """Return the client's request (RFC 6455 section 4.1).

    Args:
        target: path and query, starting with ``/``.
        host: value of the Host field; the port only where it is not the default.
        key: from ``make_key``.
        origin: value of the Origin field.
        subprotocols: names in order of preference, tokens, each once.
        extensions: value of Sec-WebSocket-Extensions, ``None`` offers none.
        headers: further fields, placed last.

    Raises:
        LocalProtocolError: a value is malformed, or ``headers`` names a field of the
            handshake itself.
    """
    fields = [
        ("Host", host),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", key),
        ("Sec-WebSocket-Version", "13"),
    ]
    if origin is not None:
        fields.append(("Origin", origin))
    if subprotocols:
        bad = [name for name in subprotocols if not is_token(name)]
        if bad or len(set(subprotocols)) != len(subprotocols):
            raise LocalProtocolError(
                f"subprotocols must be distinct tokens: {', '.join(subprotocols)!r}"
            )
        fields.append(("Sec-WebSocket-Protocol", ", ".join(subprotocols)))
    if extensions is not None:
        fields.append(("Sec-WebSocket-Extensions", extensions))
    _check_extra(headers)
    if not target.startswith("/"):
        raise LocalProtocolError(f"WebSocket target {target!r} does not start with /")
    return build_request("GET", target, [*fields, *headers])


def check_answer(
    head: Head,
    key: str,
    *,
    subprotocols: Sequence[str] = (),
    extensions: bool = False,
    body: bytes = b"",
) -> str | None:
    """Check a server's answer; return the subprotocol it chose (RFC 6455 section 4.1).

    Args:
        head: the answer, as read on the client side.
        key: the one that was sent.
        subprotocols: the names that were offered.
        extensions: some were offered; the caller checks what was accepted.
        body: what came after the head, only carried by ``InvalidStatus``.

    Raises:
        InvalidStatus: the status is not 101.
        InvalidHeader: a field is missing or wrong.
        NegotiationError: an extension or subprotocol was not offered.
        RemoteProtocolError: base of these; the answer does not complete the handshake.
    """
    if head.status != 101:
        status = head.status or 0
        raise InvalidStatus(status, head.reason, tuple(head.headers), body)
    if head.version != "1.1":
        raise RemoteProtocolError(f"101 in HTTP/{head.version}")
    if _one(head, "Upgrade").lower() != "websocket":
        upgrade = head.get("upgrade")
        reason = f"Upgrade is {upgrade!r}, not websocket"
        raise InvalidUpgrade("Upgrade", upgrade, reason)
    if not head.has_token("connection", "upgrade"):
        connection = head.get("connection")
        reason = f"Connection is {connection!r}, without Upgrade"
        raise InvalidUpgrade("Connection", connection, reason)
    accept = _one(head, "Sec-WebSocket-Accept")
    if accept != accept_key(key):
        reason = "Sec-WebSocket-Accept does not match the key sent"
        raise InvalidHeader("Sec-WebSocket-Accept", accept, reason)
    if not extensions and head.get_tokens("sec-websocket-extensions"):
        accepted = head.get("sec-websocket-extensions")
        raise NegotiationError(f"extension was not offered: {accepted}")
    chosen = head.get_all("sec-websocket-protocol")
    if not chosen:
        return None
    if len(chosen) > 1:
        raise NegotiationError("more than one Sec-WebSocket-Protocol")
    if chosen[0] not in subprotocols:
        raise NegotiationError(f"subprotocol was not offered: {chosen[0]!r}")
    return chosen[0]


def is_upgrade(head: Head) -> bool:
    """Tell whether a request asks for a WebSocket at all (RFC 6455 section 4.2.1)."""
    return head.has_token("upgrade", "websocket") and head.has_token(
        "connection", "upgrade"
    )


def check_upgrade(head: Head) -> Upgrade:
    """Check a client's request (RFC 6455 section 4.2.1); strict.

    Raises:
        RemoteProtocolError: with ``http_status`` and ``headers`` of the answer: 405
            for a method other than GET, 426 for a request that is no upgrade or of
            another version, 400 for everything malformed.
    """
    if head.method != "GET":
        what = "a WebSocket upgrade" if is_upgrade(head) else "no WebSocket upgrade"
        raise RemoteProtocolError(
            f"{what}, by {head.method}",
            http_status=405,
            headers=(("Allow", "GET"),),
        )
    if not is_upgrade(head):
        raise _upgrade_needed("not a WebSocket upgrade")
    if head.version != "1.1":
        raise _bad_request("WebSocket upgrade in HTTP/1.0")
    version = head.get_all("sec-websocket-version")
    if len(version) > 1:
        raise _bad_request("more than one Sec-WebSocket-Version")
    if version != ["13"]:
        sent = version[0] if version else "missing"
        raise _upgrade_needed(f"Sec-WebSocket-Version is {sent}, not 13")
    keys = head.get_all("sec-websocket-key")
    if len(keys) != 1:
        raise _bad_request(f"{len(keys)} Sec-WebSocket-Key fields, not 1")
    if not _is_key(keys[0]):
        raise _bad_request("Sec-WebSocket-Key is not base64 of 16 bytes")
    origins = head.get_all("origin")
    if len(origins) > 1:
        raise _bad_request("more than one Origin")
    subprotocols = head.get_tokens("sec-websocket-protocol")
    for name in subprotocols:
        if not is_token(name):
            raise _bad_request(f"subprotocol {name!r} is not a token")
    target, host = _split_target(head)
    origin = origins[0] if origins else None
    return Upgrade(keys[0], target, host, origin, subprotocols, head)


def choose_subprotocol(offered: Sequence[str], wanted: Sequence[str]) -> str | None:
    """Choose what to answer: the first offered that ``wanted`` names.

    Without ``wanted``: ``binary`` if offered, else the first offered. ``base64`` is
    never chosen: it would promise an encoding that nothing here does.
    """
    usable = [name for name in offered if name != "base64"]
    if wanted:
        return next((name for name in usable if name in wanted), None)
    if "binary" in usable:
        return "binary"
    return usable[0] if usable else None


def build_accept(
    key: str,
    *,
    subprotocol: str | None = None,
    extensions: str | None = None,
    headers: HeaderList = (),
) -> bytes:
    """Return the server's 101 answer (RFC 6455 section 4.2.2).

    Args:
        key: of the request, checked.
        subprotocol: one of those offered, or ``None``.
        extensions: value of Sec-WebSocket-Extensions, as negotiated.
        headers: further fields, placed last.

    Raises:
        LocalProtocolError: the subprotocol is no token, or ``headers`` is malformed
            or names a field of the handshake itself.
    """
    more = ""
    if subprotocol is not None:
        if not is_token(subprotocol):
            raise LocalProtocolError(f"subprotocol {subprotocol!r} is not a token")
        more = f"Sec-WebSocket-Protocol: {subprotocol}\r\n"
    if extensions is not None:
        more += encode_fields([("Sec-WebSocket-Extensions", extensions)])
    if headers:
        _check_extra(headers)
        more += encode_fields(headers)
    return (
        "HTTP/1.1 101 Switching Protocols\r\n"
        "Upgrade: websocket\r\n"
        "Connection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept_key(key)}\r\n{more}\r\n"
    ).encode("latin-1")


def origin_allowed(origin: str | None, host: str, allowed: Sequence[str]) -> bool:
    """Tell whether a page from ``origin`` may open a WebSocket to ``host``.

    Source: RFC 6454, RFC 6455 section 10.2. No Origin passes: no browser sent it.
    An Origin whose host and port are the request's passes (the scheme's default port
    may be left out); any other only when ``allowed`` names it.

    Args:
        origin: value of the Origin field.
        host: the Host of the request, or the forwarded host if that is believed.
        allowed: ``*``, whole origins (``https://a.example``), or hosts, which match
            every scheme and, without a port, every port.
    """
    if origin is None:
        return True
    scheme, _, authority = origin.lower().rpartition("://")
    site = _without_port(authority, scheme)
    if scheme and site and site == _without_port(host.lower(), scheme):
        return True
    for entry in allowed:
        if entry == "*":
            return True
        entry_scheme, separator, name = entry.lower().rstrip("/").rpartition("://")
        if not separator:
            if host_matches(authority, (name,)):
                return True
        elif entry_scheme == scheme and _without_port(name, scheme) == site:
            return True
    return False


def host_matches(host: str, names: Sequence[str]) -> bool:
    """Tell whether a Host is one of ``names``, in any case.

    A name without a port matches every port, one with a port only that.
    """
    host = host.lower()
    bare = _port_off(host)
    return any(name.lower() in (host, bare) for name in names)


def loopback_host_allowed(
    head: Head, allow_hosts: Sequence[str], allow_origins: Sequence[str]
) -> bool:
    """Tell whether a request on a loopback listener may come from a browser.

    A page whose name was rebound to a loopback address carries that name as Host, so
    a request with an Origin must name a loopback Host or one of the given names.
    Requests without Origin pass, and so do forwarded ones: no page can send
    X-Forwarded-For, Forwarded or Via on an upgrade.

    Args:
        head: the request.
        allow_hosts: names as for ``host_matches``.
        allow_origins: as ``allowed`` of ``origin_allowed``; their hosts count.
    """
    if not head.get_all("origin") or any(head.get_all(name) for name in _FORWARDED):
        return True
    host = (head.get("host") or "").lower()
    if _is_loopback(host) or host_matches(host, allow_hosts):
        return True
    names = [entry.rstrip("/").rpartition("://")[2] for entry in allow_origins]
    return "*" in names or host_matches(host, names)


def _one(head: Head, name: str) -> str:
    """Return the only value of ``name`` in an answer."""
    values = head.get_all(name)
    if len(values) != 1:
        count = "more than one" if values else "no"
        kind = InvalidUpgrade if name == "Upgrade" else InvalidHeader
        raise kind(name, head.get(name), f"{count} {name} in the answer")
    return values[0]


def _split_target(head: Head) -> tuple[str, str]:
    """Return path with query, and host: RFC 9112 section 3.2.2 for absolute targets."""
    target = head.target
    host = head.get("host")
    if not host:
        raise _bad_request("WebSocket upgrade without a Host")
    if "#" in target:  # RFC 6455 section 3: no fragment in a WebSocket URI
        raise _bad_request(f"fragment in the target {_shown(target)!r}")
    if target.startswith("/"):
        return target, host
    scheme, separator, rest = target.partition("://")
    if not separator or scheme.lower() not in _DEFAULT_PORTS:
        raise _bad_request(f"target {_shown(target)!r} is no path")
    split = re.search(r"[/?]", rest)
    end = split.start() if split else len(rest)
    path = rest[end:]
    if not rest[:end] or "@" in rest[:end]:
        raise _bad_request(f"target {_shown(target)!r} names no host")
    return path if path.startswith("/") else f"/{path}", rest[:end]


def _shown(target: str) -> str:
    """A target for log lines: its query may hold a token."""
    return re.split(r"[?#]", target, maxsplit=1)[0]


def _check_extra(headers: HeaderList) -> None:
    for name, _ in headers:
        if name.lower() in _RESERVED:
            raise LocalProtocolError(f"{name} belongs to the WebSocket handshake")


def _without_port(authority: str, scheme: str) -> str:
    """Drop the default port of ``scheme``."""
    return authority.removesuffix(_DEFAULT_PORTS.get(scheme, ":")).removesuffix(":")


def _port_off(host: str) -> str:
    """Drop any port; IPv6 addresses stand in brackets."""
    found = _port(host)
    return host[: found.start()] if found else host


def _bad_request(reason: str) -> RemoteProtocolError:
    return RemoteProtocolError(reason, http_status=400)


def _upgrade_needed(reason: str) -> RemoteProtocolError:
    return RemoteProtocolError(reason, http_status=426, headers=_UPGRADE_NEEDED)
