"""The proxy on the way out: its URL, and the variables that may name one. Pure.

``HTTPS_PROXY``, ``HTTP_PROXY`` and ``NO_PROXY`` mean what they mean to curl and
to most other programs; the differences stand at :func:`proxy_from_environment`.
"""

import ipaddress
import re
from collections.abc import Mapping
from typing import Literal, Self
from urllib.parse import unquote

import msgspec

from fastws._address import join_host_port
from fastws.config.endpoint import (
    ConnectTo,
    WsUrl,
    is_ip,
    is_loopback,
)
from fastws.config.fields import Secret
from fastws.exceptions import ConfigError

Scheme = Literal["none", "http", "https", "socks5", "socks5h"]

_PORTS: dict[str, tuple[Scheme, int]] = {
    "http": ("http", 80),
    "https": ("https", 443),
    "socks5": ("socks5", 1080),
    "socks5h": ("socks5h", 1080),
}
_OFF = ("", "none")
_HINT = "write http://, https://, socks5:// or socks5h://[USER:PASSWORD@]HOST:PORT"
_HAS_PORT = re.compile(r":[^\]]*$")
_MAX_SOCKS = 255  # bytes of a user name or password, RFC 1929 section 2


class ProxyUrl(msgspec.Struct, frozen=True):
    """A proxy that connects on our behalf.

    Attributes:
        scheme: ``http`` and ``https`` (TLS to the proxy itself) ask by CONNECT,
            ``socks5`` resolves names here, ``socks5h`` lets the proxy resolve them;
            ``none`` is no proxy, whatever variables say.
        host: name or literal, without brackets.
        port: 1 to 65535.
        user: decoded, empty for none.
        password: decoded.
    """

    scheme: Scheme
    host: str = ""
    port: int = 0
    user: str = ""
    password: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``[scheme://][user[:password]@]host[:port][/]``.

        Without a scheme it is an http proxy, as with curl; an empty text or ``none``
        is no proxy. User and password may be percent-encoded.

        Raises:
            ValueError: none of these forms; the text never repeats the password.
        """
        bare = text.strip()
        if bare.lower() in _OFF:
            return cls("none")
        before, mark, rest = bare.partition("://")
        name = before.lower() if mark else "http"
        if name not in _PORTS:
            known = re.fullmatch(r"[A-Za-z0-9+.-]+", before)
            what = f"{before}:// is" if known else "this is"
            raise ValueError(f"{what} no kind of proxy known here; {_HINT}")
        scheme, port = _PORTS[name]
        userinfo, _, place = (rest if mark else bare).rpartition("@")
        place = place.removesuffix("/")
        if not _HAS_PORT.search(place):
            place = f"{place}:{port}"
        try:
            where = ConnectTo.parse(place)
        except ValueError:  # whose text may hold the password, if the @ is missing
            raise ValueError(f"the proxy has no valid HOST:PORT; {_HINT}") from None
        user, password = _credentials(userinfo, scheme)
        return cls(scheme, where.host, where.port, user, password)

    @property
    def address(self) -> tuple[str, int]:
        """``(host, port)`` of the proxy."""
        return self.host, self.port

    @property
    def is_off(self) -> bool:
        """No proxy is to be used."""
        return self.scheme == "none"

    def __str__(self) -> str:
        """The URL for logs, without user and password."""
        if self.is_off:
            return "none"
        return f"{self.scheme}://{join_host_port(self.host, self.port)}"

    def __repr__(self) -> str:
        return f"ProxyUrl({str(self)!r})"


def _credentials(userinfo: str, scheme: str) -> tuple[str, str]:
    """User and password, decoded; what the protocol cannot carry is refused."""
    if not userinfo:
        return "", ""
    name, _, word = userinfo.partition(":")
    user, password = unquote(name), Secret(unquote(word))
    if not user:
        raise ValueError("the proxy's URL has a password without a user")
    if not (user + password).isprintable():
        raise ValueError("user or password of the proxy holds a control character")
    if scheme.startswith("socks"):
        if not (user + password).isascii():
            raise ValueError("user and password of a SOCKS proxy must be ASCII")
        if not password or max(len(user), len(password)) > _MAX_SOCKS:
            raise ValueError(
                "a SOCKS proxy takes a user and a password of 1 to 255 characters each"
            )
    elif ":" in user:
        raise ValueError("the user of an HTTP proxy cannot hold a colon (RFC 7617)")
    elif not _is_latin1(user + password):
        raise ValueError("user and password of an HTTP proxy must be Latin-1")
    return user, password


def _is_latin1(text: str) -> bool:
    return all(ord(char) < 256 for char in text)


def proxy_from_environment(
    environment: Mapping[str, str], url: WsUrl, host: str
) -> ProxyUrl | None:
    """The proxy that the usual variables name for ``url``.

    ``https_proxy`` or ``HTTPS_PROXY`` for wss, ``http_proxy`` or ``HTTP_PROXY`` for
    ws, which is tunnelled with CONNECT as well. Nothing on this machine is reached
    through a proxy, nor what ``no_proxy`` or ``NO_PROXY`` names. Of two spellings
    the lower-case one counts, an empty variable is as good as none.

    Args:
        environment: variables.
        url: the WebSocket server.
        host: what would be dialled, name or literal.

    Raises:
        ConfigError: the variable holds no proxy; ``path`` is its name.
    """
    name = "https_proxy" if url.secure else "http_proxy"
    for variable in (name, name.upper()):
        text = environment.get(variable, "").strip()
        if text:
            break
    else:
        return None
    if is_loopback(host):
        return None
    exceptions = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    if any(is_excepted(exceptions, name, url.port) for name in {url.host, host}):
        return None
    try:
        proxy = ProxyUrl.parse(text)
    except ValueError as error:
        raise ConfigError(variable, str(error)) from None
    return None if proxy.is_off else proxy


def is_excepted(exceptions: str, host: str, port: int) -> bool:
    """Whether ``NO_PROXY`` names ``host``.

    Its items stand between commas or spaces: ``*`` for everything, ``example.com``
    or ``.example.com`` for the domain and all names below it, an address, or a
    network as ``10.0.0.0/8``; each of them but a network may end in ``:port``.
    """
    wanted = _plain(host)
    for item in re.split(r"[\s,]+", exceptions.lower()):
        if item == "*" or _is_network_of(item, wanted):
            return True
        name, colon, number = item.rpartition(":")
        if not colon or is_ip(item) or item.endswith("]"):
            name, number = item, str(port)
        name = _plain(name.strip("[]").removeprefix("*").strip("."))
        if not name or number != str(port):
            continue
        if wanted == name or (wanted.endswith("." + name) and not is_ip(wanted)):
            return True
    return False


def _plain(host: str) -> str:
    """A name in lower case, or an address in its shortest form."""
    if is_ip(host):
        return str(ipaddress.ip_address(host))
    return host.rstrip(".").lower()


def _is_network_of(item: str, host: str) -> bool:
    if "/" not in item or not is_ip(host):
        return False
    try:
        network = ipaddress.ip_network(item, strict=False)
    except ValueError:
        return False
    return ipaddress.ip_address(host) in network
