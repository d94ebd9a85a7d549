"""Who comes in by WebSocket: the client behind front ends, credentials, limits, files.

A runner has a gate only when an option asks for one; without, nothing here runs.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from fastws._address import join_host_port
from fastws.config.proxy_server import ProxyServer
from fastws.config.schema import WsToTcp
from fastws.http.answers import RETRY_AFTER, Refusal, level_of
from fastws.http.auth import Auth, Users
from fastws.http.limit import PerAddress
from fastws.http.password import PasswordHash
from fastws.http.static import Answer, Site
from fastws.modes.runner import naming_options
from fastws.net.arrived import ArrivedHold
from fastws.net.prelude import Prelude, ProxyRule
from fastws.net.stream import describe
from fastws.wire.forwarded import Client, Peer, Trust, believe
from fastws.wire.handshake import Upgrade
from fastws.wire.head import Head
from fastws.wire.proxy_protocol import encode_header

logger = logging.getLogger("fastws.modes")

_NOBODY = Client("", 0)


class Gate:
    """What stands between the listener of one runner and its targets.

    Args:
        spec: its options.

    Attributes:
        auth: who may ask, ``None``: everybody.
        site: files to serve, ``None``: none.

    Raises:
        ConfigError: the users file or the directory cannot be used.
    """

    def __init__(self, spec: WsToTcp | ProxyServer) -> None:
        self._spec = spec
        self.trust = Trust(spec.trust)
        self.field = spec.client_ip_header
        self.version = spec.send_proxy_protocol
        self.rule: ProxyRule | None = None
        if spec.proxy_protocol != "off":
            required = spec.proxy_protocol == "require"
            self.rule = ProxyRule(required=required, networks=spec.trust)
        self.prelude: Prelude | None = None
        if spec.cert is not None and (self.rule is not None or spec.plain_too):
            self.prelude = Prelude(self.rule, plain_too=spec.plain_too)
        self.limit = PerAddress(spec.max_per_ip) if spec.max_per_ip else None
        self.auth: Auth | None = None
        self.users: Users | None = None
        if spec.auth_basic is not None:
            self.users = Users(spec.auth_basic)
            self.read_users()()
        self.set_tokens(spec.auth_token)
        self.site: Site | None = None
        if spec.web is not None:
            with naming_options(spec, "web"):
                self.site = Site(spec.web)

    def set_tokens(self, tokens: Sequence[str]) -> None:
        """Let these bearer tokens in, and no others, from now on."""
        if tokens or self.users is not None:
            self.auth = Auth(tokens, self.users)

    def read_users(self) -> Callable[[], dict[str, PasswordHash]]:
        """Read the users file again; to be called: puts it into use, returns the old.

        Raises:
            ConfigError: it is broken.
        """
        assert self.users is not None
        with naming_options(self._spec, "auth_basic"):
            return partial(self.users.use, self.users.read())

    def make_hold(self) -> ArrivedHold:
        """The protocol of one connection; reads the PROXY header of a plain one."""
        return ArrivedHold(self.rule if self.prelude is None else None)

    async def find(self, head: Head, client: str = "") -> Answer | None:
        """The file that a plain request asks for, ``None`` without one.

        Args:
            head: the request.
            client: address that it comes from, empty where there is none.

        Raises:
            RemoteProtocolError: with the status to answer.
        """
        if self.site is None:
            return None
        if self.auth is not None and self.auth.guards_files:
            await self.auth.check(head, head.target, client)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, self.site.answer, head)


class Visit:
    """One connection at a gate. Ended by :meth:`leave`.

    Attributes:
        who: the client as log lines name it: what is believed so far.
        client: the same for limits and headers.
    """

    __slots__ = ("_counted", "_gate", "_hold", "_transport", "client", "who")

    def __init__(self, gate: Gate, transport: Any, hold: ArrivedHold) -> None:
        self._gate = gate
        self._transport = transport
        self._hold = hold
        self._counted: str | None = None
        self.who = ""
        self.client = _NOBODY

    def _peer(self) -> Peer | None:
        """Who connected, as a PROXY header says or as the socket does."""
        source = self._hold.arrival.header.source
        if source is None:
            peer = self._hold.peer or self._transport.get_extra_info("peername")
            if not isinstance(peer, tuple):
                return None
            source = peer[0], peer[1]
        return source

    def _see(self, peer: Peer | None) -> None:
        self.client = _NOBODY if peer is None else Client(peer[0], peer[1])
        self.who = name_of(self.client) or describe(self._transport, self._hold.peer)

    async def read_head(self, timeout: float) -> Head:
        """Wait for the head, and find out who asks.

        Raises:
            RemoteProtocolError: no acceptable head or PROXY header came.
        """
        hold = self._hold
        error = hold.arrival.error
        try:
            if error is not None:
                if hold.arrival.is_http:
                    raise error
                raise Refusal(error.reason, http_status=None, level=level_of(error))
            head = await hold.read_head(timeout)
        finally:
            self._see(self._peer())
        self._recognise(head)
        return head

    def _recognise(self, head: Head) -> None:
        """Find out who asks, as front ends say it."""
        gate = self._gate
        if not gate.trust:
            return
        peer = self._peer()
        client = believe(head, peer, gate.trust, gate.field)
        if client.is_forwarded or client.asked_host:
            self.client = client
            self.who = name_of(client) or self.who

    async def admit(self, upgrade: Upgrade) -> None:
        """Let an upgrade pass that is all right otherwise.

        Raises:
            Refusal: 401 without the right credentials, 503 when the client has as
                many connections as one may have. It is no 429 (RFC 6585), which
                means a rate: here room comes when a connection ends, as with
                ``--max-connections``, and front ends know what 503 is.
        """
        gate = self._gate
        limit = gate.limit
        host = self.client.host
        if limit is not None and host:  # first: a check of a password costs much more
            self._counted = limit.take(host)
            if self._counted is None:
                raise Refusal(
                    f"{limit.limit} connections of this address (--max-per-ip)",
                    http_status=503,
                    headers=RETRY_AFTER,
                )
        if gate.auth is not None:
            try:
                await gate.auth.check(upgrade.head, upgrade.target, host)
            except BaseException:
                self.leave()  # now: the answer takes its time
                raise

    def preface(self) -> bytes:
        """What the target is told first: a PROXY header, or nothing."""
        version = self._gate.version
        if version is None:
            return b""
        client = self.client
        if not client.host:
            return encode_header(version, None, None)
        destination = self._hold.arrival.header.destination
        if destination is None:
            own = self._transport.get_extra_info("sockname")
            if isinstance(own, tuple):
                destination = own[0].partition("%")[0], own[1]
        source = client.host.partition("%")[0], client.port
        return encode_header(version, source, destination)

    def leave(self) -> None:
        """The connection is over. Idempotent."""
        counted, self._counted = self._counted, None
        if counted is not None and self._gate.limit is not None:
            self._gate.limit.drop(counted)


def make_gate(spec: WsToTcp | ProxyServer) -> Gate | None:
    """The gate that the options ask for, ``None`` when they ask for none."""
    asked = (
        spec.auth_token,
        spec.auth_basic,
        spec.trust,
        spec.max_per_ip,
        spec.proxy_protocol != "off",
        spec.send_proxy_protocol,
        spec.web,
        spec.plain_too,
    )
    if not any(asked):
        return None
    for network in spec.trust:
        if network.endswith("/0"):
            logger.warning("--trust %s: every client can claim any address", network)
    return Gate(spec)


def name_of(client: Client) -> str:
    """The client for log lines, with its port where that is known."""
    if not client.port:
        return client.host
    return join_host_port(client.host, client.port)
