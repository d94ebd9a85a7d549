"""Who the client is when a front end stands before us: the right-most untrusted rule.

Every front end appends the address it saw to ``X-Forwarded-For`` or ``Forwarded``
(RFC 7239), so a list is true from the right as long as those who wrote it are
trusted: the first address from the right that is not one of ours is the client. What
stands left of it the client may have written itself.
"""

import ipaddress
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from fastws.wire.head import TCHAR, Head

Peer: TypeAlias = tuple[str, int]
_Ip: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

UNIX = "unix"
"""In a list of networks: whoever connects through a unix socket."""

_DEFAULT_FIELDS = ("x-forwarded-for", "forwarded", "cf-connecting-ip")

# A client writes what stands on the left: each part matches once, without going back,
# or blanks in front of garbage would take the square of their number.
_pair = re.compile(
    rf'[ \t]*+(?:({TCHAR}++)=("(?:[^"\\]|\\.)*+"|[^ \t",;]++)[ \t]*+)?([;,]|\Z)'
).match
_node = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::(\d{1,5}))?|([\d.]+)(?::(\d{1,5}))?")
_REMEMBERED = 1024  # front ends are few, and each stands before many clients
_unescape = re.compile(r"\\(.)").sub
# Without leading zeros: what matches is the shortest form already.
_octet = r"(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_ipv4 = re.compile(rf"{_octet}\.{_octet}\.{_octet}\.{_octet}", re.ASCII).fullmatch


class Client(NamedTuple):
    """Who is believed to ask.

    Attributes:
        host: IP literal, empty when unknown (a unix socket).
        port: 0 when unknown.
        asked_host: the Host that a trusted front end was asked for, or empty.
        is_forwarded: a trusted front end said so, not the connection itself.
    """

    host: str
    port: int
    asked_host: str = ""
    is_forwarded: bool = False


class Trust:
    """The networks whose word about addresses is taken. Safe for any number of users.

    Args:
        networks: ``10.0.0.0/8``, single addresses, or ``unix``.

    Raises:
        ValueError: none of these.
    """

    __slots__ = ("_answers", "_ipv4", "_networks", "has_unix")

    def __init__(self, networks: Sequence[str]) -> None:
        self.has_unix = UNIX in networks
        self._answers: dict[str, bool] = {}
        self._networks = [ipaddress.ip_network(n) for n in networks if n != UNIX]
        self._ipv4 = [
            (int(network.network_address), int(network.netmask))
            for network in self._networks
            if network.version == 4
        ]

    def __bool__(self) -> bool:
        return bool(self._networks) or self.has_unix

    def __repr__(self) -> str:
        names = [str(network) for network in self._networks]
        return f"<Trust {', '.join(names + [UNIX] * self.has_unix)}>"

    def trusts(self, host: str) -> bool:
        """Whether ``host`` is one of them; empty stands for a unix socket."""
        answer = self._answers.get(host)
        if answer is None:
            if len(self._answers) >= _REMEMBERED:
                self._answers.clear()
            answer = self._answers[host] = self._decide(host)
        return answer

    def _decide(self, host: str) -> bool:
        if not host:
            return self.has_unix
        octets = _ipv4(host)
        if octets is not None:  # by far the most; ipaddress takes four times as long
            a, b, c, d = octets.groups()
            number = int(a) << 24 | int(b) << 16 | int(c) << 8 | int(d)
            return any(number & mask == network for network, mask in self._ipv4)
        address = parse_address(host)
        return address is not None and any(address in net for net in self._networks)


def believe(
    head: Head, peer: Peer | None, trust: Trust, field: str | None = None
) -> Client:
    """Say who the client of a request is.

    An untrusted peer is the client, whatever its request says. Without ``field`` the
    first of X-Forwarded-For, Forwarded and CF-Connecting-IP that is there counts: a
    front end that writes a later one must not let clients send an earlier one, or
    the operator names it.

    Args:
        head: the request.
        peer: address and port of the connection, or what a PROXY header says;
            ``None`` for a unix socket.
        trust: whose words are believed.
        field: the only field to look at; a list, or one address.
    """
    host, port = peer or ("", 0)
    if not trust.trusts(host):
        return Client(host, port)
    names = _DEFAULT_FIELDS if field is None else (field.lower(),)
    asked = _first(head, "x-forwarded-host")
    for name in names:
        values = head.get_all(name)
        if not values:
            continue
        text = ",".join(values)
        if name == "forwarded":
            return _from_forwarded(text, Client(host, port, asked), trust)
        return _walk(text.split(","), Client(host, port, asked), trust)
    return Client(host, port, asked)


def parse_address(text: str) -> _Ip | None:
    """Read an IP literal without scope; mapped IPv4 becomes IPv4; else ``None``."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address


def parse_node(text: str) -> Peer | None:
    """Read an address with or without port, as list fields hold it; else ``None``.

    IPv6 may lack its brackets, as X-Forwarded-For has it. ``unknown`` and
    ``_hidden`` (RFC 7239 section 6) are no addresses.
    """
    text = text.strip(" \t")
    if _ipv4(text) is not None:
        return text, 0
    port = 0
    found = _node.fullmatch(text)
    if found is not None:
        text = found[1] or found[3]
        port = int(found[2] or found[4] or 0)
    address = parse_address(text) if "%" not in text else None
    return None if address is None or port > 65535 else (str(address), port)


@lru_cache(maxsize=256)
def network_of(host: str) -> str:
    """What counts as one address: itself, and for IPv6 the /64 that a site gets.

    RFC 6177: whoever has one IPv6 address can use all of its /64.
    """
    address = parse_address(host)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, 64), strict=False))
    return host if address is None else str(address)


def _walk(nodes: Sequence[str], client: Client, trust: Trust) -> Client:
    """Go through a list from the right, to the first that is not trusted."""
    for text in reversed(nodes):
        node = parse_node(text)
        if node is None:  # a hop that hides its client: what is known counts
            break
        client = Client(*node, client.asked_host, True)
        if not trust.trusts(client.host):
            break
    return client


def _from_forwarded(text: str, client: Client, trust: Trust) -> Client:
    """The same for RFC 7239, whose elements also say which host was asked for."""
    for element in reversed(_parse_forwarded(text)):
        node = parse_node(element.get("for", ""))
        if node is None:
            break
        client = Client(*node, element.get("host", client.asked_host), True)
        if not trust.trusts(client.host):
            break
    return client


def _parse_forwarded(text: str) -> list[dict[str, str]]:
    """The elements of a Forwarded field; a malformed one has none (section 4)."""
    elements: list[dict[str, str]] = [{}]
    position = 0
    while position < len(text):
        found = _pair(text, position)
        if found is None:
            return []
        if found[1]:
            value = found[2]
            if value.startswith('"'):
                value = _unescape(r"\1", value[1:-1])
            elements[-1][found[1].lower()] = value
        if found[3] == ",":
            elements.append({})
        position = found.end()
    return [element for element in elements if element]


def _first(head: Head, name: str) -> str:
    """The first element of a list field, or empty: the Host that the client used.

    Pages cannot send X-Forwarded-Host, so a browser's request has the first front
    end's word there.
    """
    values = head.get_tokens(name)
    return values[0] if values else ""
