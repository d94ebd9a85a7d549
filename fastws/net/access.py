"""Which destinations may be dialled, decided on the address after resolution.

Source: IANA's special-purpose address registries (RFC 6890 and what came later) for
what is not globally reachable; RFC 4291 section 2.5.5, RFC 6052 and RFC 3056 for IPv4
addresses inside of others. ``ipaddress.is_global`` is not used: it differs between
versions of Python.
"""

import socket
from collections.abc import Sequence
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
)
from typing import Protocol, TypeAlias

from fastws._address import join_host_port
from fastws.exceptions import Denied
from fastws.net.resolve import AddrInfo, parse_literal

Ip: TypeAlias = IPv4Address | IPv6Address

_LOCAL4 = tuple(
    map(
        IPv4Network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8"),
            *("169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24"),
            *("192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15"),
            *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        ),
    )
)
_GLOBAL4 = tuple(map(IPv4Network, ("192.0.0.9/32", "192.0.0.10/32")))
# Outside of 2000::/3 nothing is global unicast (RFC 4291 section 2.4).
_UNICAST6 = IPv6Network("2000::/3")
_LOCAL6 = tuple(map(IPv6Network, ("2001::/23", "2001:db8::/32", "3fff::/20")))
_GLOBAL6 = tuple(
    map(
        IPv6Network,
        (
            *("2001:1::1/128", "2001:1::2/128", "2001:1::3/128", "2001:3::/32"),
            *("2001:4:112::/48", "2001:20::/28", "2001:30::/28"),
        ),
    )
)
_NAT64 = IPv6Network("64:ff9b::/96")
_6TO4 = IPv6Network("2002::/16")


class RuleLike(Protocol):
    """One rule, see :mod:`fastws.config.rules`."""

    @property
    def is_private(self) -> bool: ...
    @property
    def is_specific(self) -> bool: ...
    @property
    def needs_address(self) -> bool: ...
    def takes_port(self, port: int) -> bool: ...
    def takes_name(self, name: str) -> bool: ...
    def takes_address(self, address: Ip) -> bool: ...


class Access:
    """The rules of one proxy. Immutable.

    What a ``deny`` rule names is refused. With ``allow`` rules only what one of them
    names passes. Private addresses pass only if a rule that says which hosts it means
    names them, unless ``may_be_private``.

    Args:
        allow: rules that let pass.
        deny: rules that refuse.
        may_be_private: private addresses are like others.
    """

    __slots__ = ("_allow", "_deny", "_may_be_private")

    def __init__(
        self,
        allow: Sequence[RuleLike] = (),
        deny: Sequence[RuleLike] = (),
        *,
        may_be_private: bool = False,
    ) -> None:
        self._allow = tuple(allow)
        self._deny = tuple(deny)
        self._may_be_private = may_be_private

    def check_name(self, host: str, port: int) -> None:
        """Refuse what no address could make admissible: before it is resolved.

        Raises:
            Denied: names the rule.
        """
        name = plain_name(host)
        for rule in self._deny:
            if rule.takes_port(port) and rule.takes_name(name):
                raise _denied(host, port, f"--deny {rule}")
        rules = [rule for rule in self._allow if rule.takes_port(port)]
        if self._allow and not any(
            r.needs_address or r.takes_name(name) for r in rules
        ):
            raise _denied(host, port, "no --allow names it")

    def check_asked(self, host: str, port: int) -> None:
        """The same for a host that others will resolve; literals are judged fully.

        Raises:
            Denied: names the rule.
        """
        # Some resolvers take an address with the last dot of a name.
        literal = parse_literal(host.rstrip("."), port)
        if literal is not None:
            self.admit(host, port, (literal,))
        else:
            self.check_name(host, port)

    def admit(
        self, host: str, port: int, infos: Sequence[AddrInfo]
    ) -> Sequence[AddrInfo]:
        """Those of ``infos`` that may be dialled.

        Args:
            host: as asked for.
            port: of the destination.
            infos: what it was resolved to.

        Raises:
            Denied: none may; names the rule that refused the first.
        """
        name = plain_name(host)
        found, first = [], ""
        for info in infos:
            reason = self._judge(name, address_of(info), port)
            if not reason:
                found.append(info)
            first = first or reason
        if not found:
            raise _denied(host, port, first or "no address")
        return found

    def _judge(self, name: str, address: Ip, port: int) -> str:
        """Why ``address`` is refused; empty if it is not."""
        inner = inner_address(address)
        private: str | None = None
        if not self._may_be_private or any(rule.is_private for rule in self._deny):
            private = why_private(address)
        for rule in self._deny:
            hit = rule.takes_name(name) or rule.takes_address(address)
            hit = hit or (inner is not None and rule.takes_address(inner))
            if rule.takes_port(port) and (hit or (rule.is_private and bool(private))):
                return f"--deny {rule}"
        closed = "" if self._may_be_private else private
        for rule in self._allow:
            if not rule.takes_port(port) or (closed and not rule.is_specific):
                continue
            if rule.takes_name(name) or rule.takes_address(address):
                return ""
            if rule.is_private and (private or why_private(address)):
                return ""
        if closed:
            return f"{address} is {closed}, and no --allow names it"
        return f"no --allow names {address}" if self._allow else ""


def _denied(host: str, port: int, reason: str) -> Denied:
    return Denied(f"{join_host_port(host, port)}: forbidden: {reason}")


def plain_name(host: str) -> str:
    """A name as rules are written: ASCII, lower case; empty for an address."""
    if parse_literal(host, 0) is not None:
        return ""
    if not host.isascii():  # as the resolver will spell it, or refuse to
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError:
            pass
    return host.rstrip(".").lower()


def address_of(info: AddrInfo) -> Ip:
    """The address, without a zone; an IPv4 one out of its IPv6 form."""
    address = ip_address(str(info.sockaddr[0]).partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def inner_address(address: Ip) -> IPv4Address | None:
    """The IPv4 address that a translator would send to, if there is one inside."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
        if address in _6TO4:
            return address.sixtofour
    return None


def why_private(address: Ip) -> str:
    """What makes an address one that strangers must not reach; empty if nothing."""
    inner = inner_address(address)
    if inner is not None:
        reason = why_private(inner)
        if reason or (address not in _6TO4 and address not in _NAT64):
            return reason
    elif address.is_loopback:
        return "loopback"
    elif address.is_multicast:
        return "multicast"
    elif not _is_global(address):
        return "not global"
    return "this machine's own" if is_own(address) else ""


def _is_global(address: Ip) -> bool:
    """Whether IANA calls it globally reachable; IPv6 without IPv4 inside."""
    if isinstance(address, IPv4Address):
        return not _holds(_LOCAL4, address) or _holds(_GLOBAL4, address)
    if address not in _UNICAST6:
        return False
    return not _holds(_LOCAL6, address) or _holds(_GLOBAL6, address)


def _holds(networks: Sequence[IPv4Network | IPv6Network], address: Ip) -> bool:
    return any(address in network for network in networks)


def is_own(address: Ip) -> bool:
    """Whether this machine has the address now: then it would answer from it."""
    is_v6 = isinstance(address, IPv6Address)
    try:
        family = socket.AF_INET6 if is_v6 else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((str(address), 9))  # sends nothing: it is UDP
            return ip_address(sock.getsockname()[0].partition("%")[0]) == address
    except OSError:
        return False
