"""Ways out that need nothing at the far end: directly, or through other proxies."""

import ssl
from typing import Any

from fastws._consts import UDP_IDLE
from fastws.exceptions import Unsupported
from fastws.net.access import Access
from fastws.net.dial import Dialer, Outlet
from fastws.net.proxy import ProxyDialer
from fastws.net.stream import ByteStream
from fastws.proxy.outgoing import DatagramWay, Receive
from fastws.proxy.udp import DirectDatagrams


class Direct:
    """Connects from this machine.

    Args:
        access: what may be dialled; ``None``: everything.
        outlet: where to leave this machine.
        udp_idle: seconds after which a silent target of datagrams is forgotten.
        options: further ones of :class:`fastws.net.dial.Dialer`.
    """

    def __init__(
        self,
        *,
        access: Access | None = None,
        outlet: Outlet | None = None,
        udp_idle: float = UDP_IDLE,
        **options: Any,
    ) -> None:
        self._access = access
        self._outlet = outlet
        self._udp_idle = udp_idle
        self._options = options

    async def open(self, host: str, port: int, via: str = "") -> ByteStream:
        """See :class:`fastws.proxy.outgoing.Outgoing`; ``via`` has no place here."""
        dialer = Dialer(
            (host, port), access=self._access, outlet=self._outlet, **self._options
        )
        return await dialer.dial()

    async def associate(self, receive: Receive) -> DatagramWay:
        """See :class:`fastws.proxy.outgoing.Outgoing`."""
        return DirectDatagrams(
            receive, access=self._access, outlet=self._outlet, idle=self._udp_idle
        )


class Through:
    """Asks another proxy to connect.

    Args:
        scheme: as for :class:`fastws.net.proxy.ProxyDialer`. With ``socks5`` names
            are resolved here and access rules see addresses; otherwise they see what
            the client asked for, and the other proxy has to judge the rest.
        proxy: host and port of the proxy.
        user: for it, empty for none.
        password: for it.
        proxy_tls: what an https proxy is verified with.
        access: what may be asked for.
        options: further ones of :class:`fastws.net.dial.Dialer`.
    """

    def __init__(
        self,
        *,
        scheme: str,
        proxy: tuple[str, int],
        user: str = "",
        password: str = "",
        proxy_tls: ssl.SSLContext | None = None,
        access: Access | None = None,
        **options: Any,
    ) -> None:
        self._access = access
        self._scheme = scheme
        self._options = options | {
            "scheme": scheme,
            "proxy": proxy,
            "user": user,
            "password": password,
            "proxy_tls": proxy_tls,
        }

    async def open(self, host: str, port: int, via: str = "") -> ByteStream:
        """See :class:`fastws.proxy.outgoing.Outgoing`."""
        access = self._access
        if access is not None and self._scheme != "socks5":
            access.check_asked(host, port)
        dialer = ProxyDialer((host, port), access=access, via=via, **self._options)
        return await dialer.dial()

    async def associate(self, receive: Receive) -> DatagramWay:
        """Other proxies are asked for streams only."""
        raise Unsupported("no UDP through another proxy (--via)")
