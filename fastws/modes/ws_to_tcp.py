"""``fastws wts``: each WebSocket becomes one TCP connection to a fixed target.

The target is dialled before the upgrade is answered, so that a front end sees 502 or
504 and may try elsewhere. Every other answer stands in DESIGN's words in
docs/wire.md: 400, 403, 404, 405, 426, 431, 503, and the two health checks.
"""

import logging
import ssl
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from fastws.config.endpoint import Target
from fastws.config.schema import WsToTcp
from fastws.exceptions import DialError, DialTimeout
from fastws.http import static
from fastws.http.answers import RETRY_AFTER, Refusal
from fastws.modes.gate import Visit, make_gate
from fastws.modes.parts import LargePart
from fastws.modes.runner import naming_options
from fastws.modes.targets import NoTarget, Targets, Way
from fastws.modes.udp import UdpFlow, end_quiet, flow_options
from fastws.modes.upgrades import UpgradeRunner
from fastws.net import sockopt
from fastws.net.arrived import ArrivedHold
from fastws.net.dial import Dialer
from fastws.net.stream import ByteStream, describe
from fastws.net.tls import client_context
from fastws.net.udp import UdpDialer, UdpStream
from fastws.net.upgrade import HeadHold
from fastws.net.websocket import WebSocketStream
from fastws.upstream.group import Group
from fastws.wire.handshake import Upgrade
from fastws.wire.head import Head


class WsToTcpRunner(UpgradeRunner):
    """Runs one :class:`WsToTcp`."""

    name = "wts"
    upstream = "target"
    takes_first = False  # a health check is not what --oneshot waits for
    spec: WsToTcp

    def __init__(self, spec: WsToTcp) -> None:
        super().__init__(spec)
        self.flow_options = flow_options(self.options, spec.udp_idle)

    def listener_options(self) -> dict[str, Any]:
        spec = self.spec
        self.tls = self._target_tls()
        self.targets: Targets | None = None
        if spec.route or spec.more_targets or spec.token_file is not None:
            self.targets = Targets(spec, self._make_dialer)
            if self.targets.tokens is not None:
                path, read = self.targets.tokens.path, self.targets.read_tokens
                self.parts.append(LargePart("tokens", path, read))
        else:
            self.dialer = self._make_dialer(spec.targets[0])
        return self.open_gate(make_gate(spec))

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

    def tls_files(self) -> tuple[str | None, ...]:
        spec = self.spec
        ours = (spec.cert, spec.key, spec.client_ca)
        return *ours, spec.ca, spec.target_cert, spec.target_key

    def load_tls(self) -> None:
        self.tls, listen = self._target_tls(), self.listen_tls()
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

    async def upgrade(
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
            way = self.dialer if self.targets is None else self._choose(upgrade)
            if isinstance(way, Dialer):
                up = await self._dial(way, preface)
            else:
                up, leave = await self._dial_any(way, preface)
            who = describe(transport, hold.peer) if visit is None else visit.who
            if hold.lost or transport.is_closing():
                sockopt.reset(up.transport)
                self.refuse(who, "left before the target was connected", logging.INFO)
                return
            name = "udp" if isinstance(up, UdpStream) else "tcp"
            down, ident = self.accept(transport, hold, upgrade, name)
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
            if self.is_draining:
                flow.go_when_quiet()
            return self.converse(flow, who, ident)
        return self.copy(down, up, who, ident)

    def stop_requests(self) -> None:
        end_quiet(self.copies)

    def _take_once(self, transport: Any) -> None:
        """An upgrade that may go on is the one to serve, and the last."""
        if not self.take(transport):
            raise Refusal(
                "one is being served (--oneshot)",
                http_status=503,
                headers=RETRY_AFTER,
            )

    # -- requests that are no upgrade ----------------------------------------------

    async def answer_file(self, hold: HeadHold, head: Head, client: str) -> bool:
        if not isinstance(hold, ArrivedHold) or self.gate is None:
            return False
        if self.is_full:
            raise Refusal("full", http_status=503, headers=RETRY_AFTER)
        self.check_host(head.get("host") or "")
        answer = await self.gate.find(head, client)
        if answer is None:
            return False
        await static.send(hold, answer, self.spec.linger)
        return True

    @property
    def names_paths(self) -> bool:
        return self.targets is not None

    def upgrades_at(self, host: str, path: str) -> bool:
        if self.targets is not None:
            return self.targets.has_path(host, path)
        return super().upgrades_at(host, path)

    def check_path(self, host: str, path: str) -> None:
        if self.targets is None:  # else it is found, or not, when it is dialled
            super().check_path(host, path)

    async def _dial(self, dialer: Dialer, preface: bytes) -> ByteStream:
        try:
            return await dialer.dial(preface=preface)
        except DialError as error:
            raise unreachable(error) from error

    def _choose(self, upgrade: Upgrade) -> Way:
        """Where the request is to go."""
        assert self.targets is not None
        try:
            return self.targets.choose(upgrade.host, upgrade.target)
        except NoTarget as error:
            raise Refusal(error.reason, http_status=error.status) from None

    async def _dial_any(
        self, group: Group, preface: bytes
    ) -> tuple[ByteStream, Callable[[], None]]:
        """Dial one of several; what to call when that has ended."""
        try:
            up, member = await group.dial(preface)
        except DialError as error:
            raise unreachable(error) from error
        return up, partial(group.release, member)


def unreachable(error: DialError) -> Refusal:
    """What a client hears of a target that could not be reached."""
    status = 504 if isinstance(error, DialTimeout) else 502
    return Refusal(f"target {error}", http_status=status)
