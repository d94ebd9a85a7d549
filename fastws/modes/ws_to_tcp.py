"""``fastws wts``: each WebSocket becomes one TCP connection to a fixed target.

The target is dialled before the upgrade is answered, so that a front end sees 502 or
504 and may try elsewhere. Every other answer stands in DESIGN's words in
docs/wire.md: 400, 403, 404, 405, 426, 431, 503, and the two health checks.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from fastws._consts import OVERFLOW, Side
from fastws.config.endpoint import Target, is_loopback
from fastws.config.schema import WsToTcp
from fastws.exceptions import DialError, DialTimeout, RemoteProtocolError
from fastws.http import static
from fastws.http.answers import (
    RETRY_AFTER,
    Refusal,
    build_health,
    build_refusal,
    level_of,
)
from fastws.modes.gate import Gate, Visit, make_gate
from fastws.modes.parts import Part
from fastws.modes.runner import Runner, naming_options, new_id
from fastws.modes.targets import NoTarget, Targets
from fastws.modes.udp import UdpFlow, flow_options
from fastws.net import sockopt
from fastws.net.arrived import ArrivedHold
from fastws.net.dial import Dialer
from fastws.net.stream import ByteStream, describe, kind_of
from fastws.net.tls import client_context, server_context
from fastws.net.udp import UdpDialer, UdpStream
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


class WsToTcpRunner(Runner):
    """Runs one :class:`WsToTcp`."""

    name = "wts"
    upstream = "target"
    overflow = OVERFLOW
    takes_first = False  # a health check is not what --oneshot waits for
    spec: WsToTcp

    def __init__(self, spec: WsToTcp) -> None:
        super().__init__(spec, spec.listen)
        self.admitted = 0  # upgrades that passed every check and have not ended
        self.flow_options = flow_options(self.options, spec.udp_idle)

    def listener_options(self) -> dict[str, Any]:
        spec = self.spec
        self.tls = self._target_tls()
        self.targets: Targets | None = None
        if spec.route or spec.more_targets or spec.token_file is not None:
            self.targets = Targets(spec, self._make_dialer)
            if self.targets.tokens is not None:
                load = self.targets.load_tokens
                self.parts.append(Part("tokens", (spec.token_file,), load))
        else:
            self.dialer = self._make_dialer(spec.targets[0])
        tls = self._listen_tls()
        self.gate = gate = make_gate(spec)
        if gate is not None and gate.users is not None:
            self.parts.append(Part("users", (spec.auth_basic,), gate.load_users))
        factory = HeadHold if gate is None else gate.make_hold
        prelude = None if gate is None else gate.prelude
        return {"protocol_factory": factory, "tls": tls, "prelude": prelude}

    def open(self, workers: int = 1) -> None:
        super().open(workers)
        if self.gate is not None and self.gate.limit is not None:
            limit = self.gate.limit
            limit.limit = max(1, (limit.limit + workers - 1) // workers)

    def _make_dialer(self, target: Target) -> Dialer:
        spec = self.spec
        make: type[Dialer] = UdpDialer if target.udp else Dialer
        return make(
            target.address,
            tls=self.tls if target.tls else None,
            server_hostname=spec.server_name_of(target),
            connect_timeout=spec.connect_timeout,
            handshake_timeout=spec.handshake_timeout,
            linger=spec.linger,
            tcp_user_timeout=spec.tcp_user_timeout,
        )

    def _target_tls(self) -> ssl.SSLContext | None:
        spec = self.spec
        if not spec.may_use_tls:
            return None
        with naming_options(spec, "ca", "target_cert", "target_key"):
            return client_context(
                ca=spec.ca,
                cert=spec.target_cert,
                key=spec.target_key,
                insecure=spec.insecure,
                alpn=(),
            )

    def _listen_tls(self) -> ssl.SSLContext | None:
        spec = self.spec
        if spec.cert is None:
            return None
        with naming_options(spec, "client_ca", "cert", "key"):
            return server_context(spec.cert, spec.key, client_ca=spec.client_ca)

    def tls_files(self) -> tuple[str | None, ...]:
        spec = self.spec
        ours = (spec.cert, spec.key, spec.client_ca)
        return *ours, spec.ca, spec.target_cert, spec.target_key

    def load_tls(self) -> None:
        self.tls, listen = self._target_tls(), self._listen_tls()
        dialers = [self.dialer] if self.targets is None else self.targets.dialers
        for dialer in dialers:
            if dialer.tls is not None:
                dialer.tls = self.tls
        for listener in self.listeners:
            listener.tls = listen

    def adopt(self, spec: WsToTcp) -> None:  # type: ignore[override]
        if self.gate is not None:
            self.gate.set_tokens(spec.auth_token)
        self.spec = spec

    def describe(self) -> str:
        spec = self.spec
        parts = [str(target) for target in spec.targets]
        parts += [str(route) for route in spec.route]
        if spec.token_file is not None:
            parts.append(f"the targets of {spec.token_file}")
        return ", ".join(parts)

    def handle(self, transport: Any, protocol: Any) -> Coroutine[Any, Any, None]:
        if self.gate is None:
            return self._serve(transport, protocol, None)
        return self._visited(transport, protocol, self.gate)

    async def _visited(self, transport: Any, hold: ArrivedHold, gate: Gate) -> None:
        """Serve a connection that comes through the gate."""
        visit = Visit(gate, transport, hold)
        try:
            await self._serve(transport, hold, visit)
        finally:
            visit.leave()

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
                await self._answer_plain(protocol, head, client)
                return
            upgrading = self._upgrade(
                transport, protocol, self._check(head, visit), visit
            )
            del head  # an idle connection keeps nothing it does not need
            await upgrading
        except RemoteProtocolError as error:
            who = describe(transport, protocol.peer) if visit is None else visit.who
            await self._answer_refusal(protocol, error, who)

    async def _upgrade(
        self, transport: Any, hold: HeadHold, upgrade: Upgrade, visit: Visit | None
    ) -> None:
        """Dial, answer 101 and serve; counted against ``--max-connections``."""
        leave: Callable[[], None] | None = None
        preface = b""
        try:
            if visit is not None:
                await visit.admit(upgrade)
                preface = visit.preface()
            if self.once is not None:
                self._take_once(transport)
            if self.targets is None:
                up = await self._dial(self.dialer, preface)
            else:
                up, leave = await self._dial_choice(self.targets, upgrade, preface)
            who = describe(transport, hold.peer) if visit is None else visit.who
            if hold.lost or transport.is_closing():
                sockopt.reset(up.transport)
                self.refuse(who, "left before the target was connected", logging.INFO)
                return
            name = "udp" if isinstance(up, UdpStream) else "tcp"
            down, ident = self._accept(transport, hold, upgrade, name)
            del upgrade
            await self._join(down, up, who, ident)
        finally:
            self.admitted -= 1
            if leave is not None:
                leave()

    def _join(
        self, down: WebSocketStream, up: ByteStream, who: str, ident: str
    ) -> Coroutine[Any, Any, object]:
        """What serves a WebSocket from now on: bytes, or a message a datagram."""
        if isinstance(up, UdpStream):
            flow = UdpFlow(down, up.end, self.flow_options)
            return self.converse(flow, who, ident)
        return self.copy(down, up, who, ident)

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

    def _take_once(self, transport: Any) -> None:
        """An upgrade that may go on is the one to serve, and the last."""
        if not self.take(transport):
            raise Refusal(
                "one is being served (--oneshot)",
                http_status=503,
                headers=RETRY_AFTER,
            )

    # -- requests that are no upgrade ----------------------------------------------

    async def _answer_plain(self, hold: HeadHold, head: Head, client: str) -> None:
        """Answer what is no upgrade: a health check, a file, or a refusal.

        Raises:
            RemoteProtocolError: with the status to answer.
        """
        path = head.target.partition("?")[0]
        if path in ("/healthz", "/readyz") and head.method in ("GET", "HEAD"):
            ready = path == "/healthz" or (self.is_ready and not self._is_full)
            answer = build_health(ready, head.method == "HEAD")
            await hold.finish(answer, self.spec.linger)
            return
        has_site = self.gate is not None and self.gate.site is not None
        if isinstance(hold, ArrivedHold) and has_site:
            if await self._answer_file(hold, head, client):
                return
        # With files, a path that nobody named is one that has none.
        named = self.spec.path is not None or self.targets is not None
        if (named or not has_site) and self._upgrades_at(head.get("host") or "", path):
            check_upgrade(head)  # raises 405 or 426
        raise Refusal(f"nothing at {path}", http_status=404)

    async def _answer_file(self, hold: ArrivedHold, head: Head, client: str) -> bool:
        """Send the file that is asked for; ``False`` without one."""
        assert self.gate is not None
        if self._is_full:
            raise Refusal("full", http_status=503, headers=RETRY_AFTER)
        self._check_host(head.get("host") or "")
        answer = await self.gate.find(head, client)
        if answer is None:
            return False
        await static.send(hold, answer, self.spec.linger)
        return True

    def _upgrades_at(self, host: str, path: str) -> bool:
        if self.targets is not None:
            return self.targets.has_path(host, path)
        return self.spec.path is None or path == self.spec.path

    @property
    def _is_full(self) -> bool:
        return (
            self.listener is not None and self.admitted >= self.listener.max_connections
        )

    # -- upgrades ------------------------------------------------------------------

    def _check(self, head: Head, visit: Visit | None = None) -> Upgrade:
        """Everything that is known before the target is dialled.

        Raises:
            RemoteProtocolError: with the status to answer.
        """
        upgrade = check_upgrade(head)
        if self.is_draining:
            raise Refusal("draining", http_status=503, headers=RETRY_AFTER)
        if self._is_full and self.listener is not None:
            limit = self.listener.max_connections
            raise Refusal(
                f"full: --max-connections {limit}", http_status=503, headers=RETRY_AFTER
            )
        self._check_host(upgrade.host)
        path = upgrade.target.partition("?")[0]
        if self.targets is None and not self._upgrades_at(upgrade.host, path):
            raise Refusal(f"nothing at {path} (--path)", http_status=404)
        self._check_origin(upgrade, "" if visit is None else visit.client.asked_host)
        self.admitted += 1  # until _upgrade ends
        return upgrade

    def _check_host(self, host: str) -> None:
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
        if self._is_on_loopback() and not loopback_host_allowed(
            upgrade.head, spec.allow_host, spec.allow_origin
        ):
            raise Refusal(
                f"Host {upgrade.host!r} is no loopback name, and the request has an "
                "Origin (--allow-host)",
                http_status=403,
            )

    def _is_on_loopback(self) -> bool:
        """Pages of this machine's browser can reach us, and nobody else can.

        The bound addresses tell, also of inherited sockets.
        """
        hosts = [where.rpartition(":")[0].strip("[]") for where in self.endpoints]
        return bool(hosts) and all(is_loopback(host) for host in hosts)

    async def _dial(self, dialer: Dialer, preface: bytes) -> ByteStream:
        try:
            return await dialer.dial(preface=preface)
        except DialError as error:
            raise unreachable(error) from error

    async def _dial_choice(
        self, targets: Targets, upgrade: Upgrade, preface: bytes
    ) -> tuple[ByteStream, Callable[[], None] | None]:
        """Dial where the request is to go; what to call when that has ended."""
        try:
            way = targets.choose(upgrade.host, upgrade.target)
        except NoTarget as error:
            raise Refusal(error.reason, http_status=error.status) from None
        if isinstance(way, Dialer):
            return await self._dial(way, preface), None
        try:
            up, member = await way.dial(preface)
        except DialError as error:
            raise unreachable(error) from error
        return up, partial(way.release, member)

    def _accept(
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


def unreachable(error: DialError) -> Refusal:
    """What a client hears of a target that could not be reached."""
    status = 504 if isinstance(error, DialTimeout) else 502
    return Refusal(f"target {error}", http_status=status)
