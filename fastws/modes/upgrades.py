"""What every mode that takes WebSockets in does with a connection at first.

A request is read and judged; health checks and refusals are answered: 400, 401, 403,
404, 405, 408, 426, 431, 503. What an upgrade becomes is the mode's own.
"""

import asyncio
import ssl
from collections.abc import Coroutine
from typing import Any

from fastws._consts import OVERFLOW, Side
from fastws.config.endpoint import is_loopback
from fastws.config.proxy_server import ProxyServer
from fastws.config.schema import WsToTcp
from fastws.exceptions import RemoteProtocolError
from fastws.http.answers import (
    RETRY_AFTER,
    Refusal,
    build_health,
    build_refusal,
    level_of,
)
from fastws.modes.gate import Gate, Visit
from fastws.modes.parts import LargePart
from fastws.modes.runner import Runner, naming_options, new_id
from fastws.net.stream import describe, kind_of
from fastws.net.tls import server_context
from fastws.net.upgrade import HeadHold
from fastws.net.websocket import Peer, WebSocketStream
from fastws.wire import announce
from fastws.wire.handshake import (
    Upgrade,
    build_accept,
    check_upgrade,
    choose_subprotocol,
    host_matches,
    is_upgrade,
    loopback_host_allowed,
    origin_allowed,
)
from fastws.wire.head import Head


class UpgradeRunner(Runner):
    """Runs one spec whose listener takes WebSockets.

    Attributes:
        admitted: upgrades that passed every check and have not ended.
        gate: who comes in, ``None``: everybody.
    """

    overflow = OVERFLOW
    spec: WsToTcp | ProxyServer

    def __init__(self, spec: WsToTcp | ProxyServer) -> None:
        super().__init__(spec, spec.listen)
        self.admitted = 0
        self.gate: Gate | None = None

    # -- what a mode adds ----------------------------------------------------------

    async def upgrade(
        self, transport: Any, hold: HeadHold, upgrade: Upgrade, visit: Visit | None
    ) -> None:
        """Serve what passed every check; takes one off ``admitted`` at its end.

        Raises:
            RemoteProtocolError: with the status to answer.
        """
        raise NotImplementedError

    def upgrades_at(self, host: str, path: str) -> bool:
        """Whether there is a WebSocket at this path."""
        return self.spec.path is None or path == self.spec.path

    async def answer_file(self, hold: HeadHold, head: Head, client: str) -> bool:
        """Send the file that is asked for; ``False`` without one."""
        return False

    # -- life ----------------------------------------------------------------------

    def open_gate(self, gate: Gate | None) -> dict[str, Any]:
        """Put ``gate`` between the listener and the mode: arguments of the former."""
        tls = self.listen_tls()
        self.gate = gate
        if gate is not None and gate.users is not None:
            self.parts.append(LargePart("users", gate.users.path, gate.read_users))
        factory = HeadHold if gate is None else gate.make_hold
        prelude = None if gate is None else gate.prelude
        return {"protocol_factory": factory, "tls": tls, "prelude": prelude}

    def open(self, workers: int = 1) -> None:
        super().open(workers)
        if self.gate is not None and self.gate.limit is not None:
            self.gate.limit.divide(workers)

    def listen_tls(self) -> ssl.SSLContext | None:
        """What to speak TLS with, ``None`` for none."""
        spec = self.spec
        if spec.cert is None:
            return None
        with naming_options(spec, "client_ca", "cert", "key"):
            return server_context(spec.cert, spec.key, client_ca=spec.client_ca)

    # -- one connection ------------------------------------------------------------

    def handle(self, transport: Any, protocol: Any) -> Coroutine[Any, Any, None]:
        gate = self.gate
        visit = None if gate is None else Visit(gate, transport, protocol)
        return self._serve(transport, protocol, visit)

    async def _serve(
        self, transport: Any, protocol: HeadHold, visit: Visit | None
    ) -> None:
        try:
            if visit is None:
                head = await protocol.read_head(self.spec.handshake_timeout)
            else:
                head = await visit.read_head(self.spec.handshake_timeout)
            if not is_upgrade(head):
                client = "" if visit is None else visit.client.host
                await self.answer_plain(protocol, head, client)
                return
            upgrading = self.upgrade(
                transport, protocol, self._check(head, visit), visit
            )
            del head  # an idle connection keeps nothing it does not need
            await upgrading
        except RemoteProtocolError as error:
            who = describe(transport, protocol.peer) if visit is None else visit.who
            await self._answer_refusal(protocol, error, who)
        finally:
            if visit is not None:
                visit.leave()

    async def _answer_refusal(
        self, hold: HeadHold, error: RemoteProtocolError, who: str
    ) -> None:
        """Count, log and answer a request that gets nowhere."""
        head = hold.head
        offer = announce.parse_offer(head.get_all(announce.HEADER)) if head else None
        ident = offer.id if offer is not None else ""
        self.refuse(who, error.reason, level_of(error), ident)
        if error.http_status == 401:
            self.stats.unauthorized += 1
        if error.http_status is not None:
            is_head = head is not None and head.method == "HEAD"
            await hold.finish(build_refusal(error, is_head), self.spec.linger)

    async def answer_plain(self, hold: HeadHold, head: Head, client: str) -> None:
        """Answer what is no upgrade: a health check, a file, or a refusal.

        Raises:
            RemoteProtocolError: with the status to answer.
        """
        path = head.target.partition("?")[0]
        if path in ("/healthz", "/readyz") and head.method in ("GET", "HEAD"):
            ready = path == "/healthz" or (self.is_ready and not self.is_full)
            answer = build_health(ready, head.method == "HEAD")
            await hold.finish(answer, self.spec.linger)
            return
        has_site = self.gate is not None and self.gate.site is not None
        if has_site and await self.answer_file(hold, head, client):
            return
        # With files, a path that nobody named is one that has none.
        named = not has_site or self.spec.path is not None or self.names_paths
        if named and self.upgrades_at(head.get("host") or "", path):
            check_upgrade(head)  # raises 405 or 426
        raise Refusal(f"nothing at {path}", http_status=404)

    @property
    def names_paths(self) -> bool:
        """Whether something besides ``--path`` says which paths upgrade."""
        return False

    @property
    def is_full(self) -> bool:
        """One more upgrade would be too many."""
        return (
            self.listener is not None and self.admitted >= self.listener.max_connections
        )

    def _check(self, head: Head, visit: Visit | None = None) -> Upgrade:
        """Everything that is known before the target is dialled.

        Raises:
            RemoteProtocolError: with the status to answer.
        """
        upgrade = check_upgrade(head)
        if self.is_draining:
            raise Refusal("draining", http_status=503, headers=RETRY_AFTER)
        if self.is_full and self.listener is not None:
            limit = self.listener.max_connections
            raise Refusal(
                f"full: --max-connections {limit}", http_status=503, headers=RETRY_AFTER
            )
        self.check_host(upgrade.host)
        path = upgrade.target.partition("?")[0]
        self.check_path(upgrade.host, path)
        self._check_origin(upgrade, "" if visit is None else visit.client.asked_host)
        self.admitted += 1  # until upgrade() ends
        return upgrade

    def check_path(self, host: str, path: str) -> None:
        """Refuse a path that has no WebSocket."""
        if not self.upgrades_at(host, path):
            raise Refusal(f"nothing at {path} (--path)", http_status=404)

    def check_host(self, host: str) -> None:
        """Refuse a Host that is not admitted."""
        names = self.spec.allow_host
        if names and not host_matches(host, names):
            raise Refusal(
                f"Host {host!r} is not admitted (--allow-host)", http_status=400
            )

    def _check_origin(self, upgrade: Upgrade, asked_host: str) -> None:
        """Refuse pages of other sites; ``asked_host`` is the believed forwarded one."""
        origin = upgrade.origin
        if origin is None:
            return
        spec = self.spec
        hosts = (upgrade.host, asked_host) if asked_host else (upgrade.host,)
        if not any(origin_allowed(origin, host, spec.allow_origin) for host in hosts):
            raise Refusal(
                f"Origin {origin!r} is not this host (--allow-origin)", http_status=403
            )
        if self.is_on_loopback() and not loopback_host_allowed(
            upgrade.head, spec.allow_host, spec.allow_origin
        ):
            raise Refusal(
                f"Host {upgrade.host!r} is no loopback name, and the request has an "
                "Origin (--allow-host)",
                http_status=403,
            )

    def is_on_loopback(self) -> bool:
        """Pages of this machine's browser can reach us, and nobody else can.

        The bound addresses tell, also of inherited sockets.
        """
        hosts = [where.rpartition(":")[0].strip("[]") for where in self.endpoints]
        return bool(hosts) and all(is_loopback(host) for host in hosts)

    def accept(
        self, transport: Any, hold: HeadHold, upgrade: Upgrade, name: str
    ) -> tuple[WebSocketStream, str]:
        """Answer 101 as ``name``; the stream, and the connection's ID."""
        headers = list(self.spec.headers)
        peer = Peer.STRANGER
        ident = ""
        if self.spec.fastws:
            offer = announce.parse_offer(upgrade.head.get_all(announce.HEADER))
            if offer is not None and offer.name == name:
                peer = Peer.UNCONFIRMED
                ident = offer.id
                headers.append((announce.HEADER, announce.format_answer(offer)))
        chosen = choose_subprotocol(upgrade.subprotocols, self.spec.subprotocol)
        transport.write(build_accept(upgrade.key, subprotocol=chosen, headers=headers))
        hold.head = None
        down = WebSocketStream(
            transport,
            kind_of(transport),
            hold,
            side=Side.SERVER,
            peer=peer,
            opened_at=asyncio.get_running_loop().time(),
        )
        return down, ident or new_id()
