"""Access rules for destinations, as text: ``--allow`` and ``--deny``. Pure.

::

    RULE  = HOST [":" PORTS] / ":" PORTS
    HOST  = "*" / "private" / NAME / ADDRESS / NETWORK / "[" V6 "]"
    PORTS = PORT ["-" PORT]

``NAME`` may hold ``*``, which stands for any characters, dots too; it is compared
with the name that was asked for. ``ADDRESS`` and ``NETWORK`` (``10.0.0.0/8``) are
compared with the address that would be dialled. ``private`` is every address that
is not globally reachable, and this machine's own. Only IPv6 needs the brackets, and
only with a port.
"""

import re
from fnmatch import fnmatchcase
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_network,
)
from typing import Self

import msgspec

_NAME = re.compile(r"[A-Za-z0-9_*.-]+")
_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_HINT = "write *.example.com, 10.0.0.0/8, [fd00::/8], private or *, each with :PORT"


class Rule(msgspec.Struct, frozen=True):
    """One rule.

    Attributes:
        name: pattern for names in lower case; empty: any host.
        network: for addresses.
        is_private: for all private addresses.
        ports: first and last.
        text: as written.
    """

    name: str = ""
    network: IPv4Network | IPv6Network | None = None
    is_private: bool = False
    ports: tuple[int, int] = (0, 65535)
    text: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read one rule.

        Raises:
            ValueError: not of that form.
        """
        bare = text.strip()
        host, ports = _split(bare)
        span = _parse_ports(ports, bare)
        if host in ("", "*"):
            if not bare:
                raise ValueError(f"a rule is empty; {_HINT}")
            return cls(ports=span, text=bare)
        if host.lower() == "private":
            return cls(is_private=True, ports=span, text=bare)
        network = _parse_network(host, bare)
        if network is not None:
            return cls(network=network, ports=span, text=bare)
        if not _NAME.fullmatch(host):
            raise ValueError(f"{text!r} is no rule; {_HINT}")
        return cls(name=host.lower().rstrip("."), ports=span, text=bare)

    @property
    def needs_address(self) -> bool:
        """Whether a name alone cannot tell if the rule applies."""
        return self.network is not None or self.is_private

    @property
    def is_specific(self) -> bool:
        """Says which hosts it means: such a rule may open what is private."""
        if self.network is not None:
            return self.network.prefixlen > 0
        return self.is_private or bool(self.name.strip("*."))

    def takes_port(self, port: int) -> bool:
        """Whether it is about this port."""
        return self.ports[0] <= port <= self.ports[1]

    def takes_name(self, name: str) -> bool:
        """Whether it is about this name (lower case, no last dot), or any host."""
        if self.needs_address:
            return False
        return not self.name or (bool(name) and fnmatchcase(name, self.name))

    def takes_address(self, address: IPv4Address | IPv6Address) -> bool:
        """Whether its network holds this address."""
        network = self.network
        return network is not None and address in network

    def __str__(self) -> str:
        return self.text


def _split(text: str) -> tuple[str, str]:
    """Host and ports; IPv6 leaves its brackets."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")) or rest == ":":
            raise ValueError(f"{text!r} is no rule; {_HINT}")
        return host, rest[1:]
    if text.count(":") > 1:
        return text, ""
    host, colon, ports = text.partition(":")
    if colon and not ports:
        raise ValueError(f"{text!r} has no port behind its colon")
    return host, ports


def _parse_ports(text: str, rule: str) -> tuple[int, int]:
    if not text:
        return 0, 65535
    found = _PORTS.fullmatch(text)
    first = int(found[1]) if found else -1
    last = int(found[2] or first) if found else -1
    if not 0 <= first <= last <= 65535:
        raise ValueError(f"{rule!r}: {text!r} is no port and no range such as 80-90")
    return first, last


def _parse_network(host: str, rule: str) -> IPv4Network | IPv6Network | None:
    """The network or address; ``None``: it is a name."""
    if ":" not in host and "/" not in host and not re.fullmatch(r"[0-9.]+", host):
        return None
    try:
        network = ip_network(host, strict=False)
    except ValueError:
        raise ValueError(f"{rule!r} is no address and no network; {_HINT}") from None
    try:
        return ip_network(host)
    except ValueError:
        raise ValueError(f"{rule!r} cuts its address; write {network}") from None
