"""What the parts of the proxy share: its options, and one client's visit."""

import logging
from dataclasses import dataclass, field
from typing import Protocol

from fastws import _consts
from fastws.net.ends import CopyOptions
from fastws.net.stream import ByteStream
from fastws.proxy.users import Accounts

PROTOCOLS = frozenset({"http", "https", "socks5"})
"""``https`` is CONNECT, ``http`` every other request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyOptions:
    """How clients are served. Times in seconds.

    Attributes:
        protocols: what is spoken.
        accounts: who may use it; ``None``: everybody.
        handshake_timeout: for a client to say what it wants, each time.
        connect_timeout: for the target.
        linger: patience while an end is completed.
        copy: of streams.
        udp_idle: seconds without a datagram until a UDP target is forgotten.
    """

    protocols: frozenset[str] = PROTOCOLS
    accounts: Accounts | None = None
    handshake_timeout: float = _consts.HANDSHAKE_TIMEOUT
    connect_timeout: float = _consts.CONNECT_TIMEOUT
    linger: float = _consts.LINGER
    copy: CopyOptions = field(default_factory=CopyOptions)
    udp_idle: float = _consts.UDP_IDLE


class Visit(Protocol):
    """One client: counts and logs what becomes of it."""

    async def join(
        self, down: ByteStream, up: ByteStream, what: str, ident: str = ""
    ) -> None:
        """Copy between the two until both have ended; both are used up.

        Args:
            down: towards the client.
            up: towards the target.
            what: protocol and target for the log, ``socks5 example.com:443``.
            ident: names it in the log of the far end too; empty: only here.
        """

    def refuse(
        self, reason: str, level: int = logging.WARNING, status: int | None = None
    ) -> None:
        """Count and log that the client, or a request of it, got nowhere.

        Args:
            reason: why.
            level: of the log line.
            status: as HTTP has it, where there is one: 407 is also counted apart.
        """

    def served(self, what: str, bytes_in: int, bytes_out: int, ident: str = "") -> None:
        """Count and log what was done without :meth:`join`: requests, datagrams."""
