"""Who is believed about the address of a client, as text to check. Pure."""

import ipaddress

from fastws.config.endpoint import is_ip
from fastws.config.fields import check_header

UNIX = "unix"


def parse_network(text: str) -> str:
    """Check a network: ``10.0.0.0/8``, one address, or ``unix``.

    IPv4 as a socket for both versions shows it, ``::ffff:10.0.0.1``, is IPv4.

    Raises:
        ValueError: another form, or an address with a prefix that cuts it.
    """
    bare = text.strip().lower()
    if bare == UNIX:
        return bare
    try:
        network = ipaddress.ip_network(bare, strict=False)
    except ValueError:
        raise ValueError(
            f"{text!r} is not a network; write 10.0.0.0/8, an address or unix"
        ) from None
    if not is_ip(bare) and str(network.network_address) != _address_of(bare):
        raise ValueError(f"{text!r} cuts its address; write {network}")
    return str(_unmapped(network))


def _unmapped(
    network: ipaddress.IPv4Network | ipaddress.IPv6Network,
) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """The IPv4 network in ``::ffff:0:0/96`` (RFC 4291 section 2.5.5.2), or itself."""
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= 96:
        inner = network.network_address.ipv4_mapped
        if inner is not None:
            return ipaddress.IPv4Network((inner, network.prefixlen - 96))
    return network


def _address_of(text: str) -> str:
    return str(ipaddress.ip_address(text.partition("/")[0]))


def parse_field_name(text: str) -> str:
    """Check the name of an HTTP field; ``ValueError``: it is none."""
    name = text.strip().removesuffix(":")
    try:
        return check_header(name, "")[0]
    except ValueError:
        raise ValueError(
            f"{name!r} is not a header name; write X-Real-IP or the like"
        ) from None
