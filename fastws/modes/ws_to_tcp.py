"""``fastws wts``: each WebSocket becomes one TCP connection to a fixed target.

The target is dialled before the upgrade is answered, so that a front end sees 502 or
504 and may try elsewhere. Every other answer stands in DESIGN's words in
docs/wire.md: 400, 403, 404, 405, 426, 431, 503, and the two health checks.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any

from fastws._consts import OVERFLOW, Side
from fastws.config.endpoint import Target
from fastws.config.schema import WsToTcp
from fastws.exceptions import DialError, DialTimeout, RemoteProtocolError
from fastws.modes.parts import Part
from fastws.modes.runner import Runner, naming_options, new_id
from fastws.modes.targets import NoTarget, Targets
from fastws.net import sockopt
from fastws.net.dial import Dialer
from fastws.net.stream import ByteStream, describe, kind_of
from fastws.net.tls import client_context, server_context
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
from fastws.wire.http1 import build_response

RETRY_AFTER = (("Retry-After", "5"),)


class Refusal(RemoteProtocolError):
    """An answer other than 101 that is no fault of the peer's grammar."""


class WsToTcpRunner(Runner):
    """Runs one :class:`WsToTcp`."""

    name = "wts"
    upstream = "target"
    overflow = OVERFLOW
    spec: WsToTcp

    def __init__(self, spec: WsToTcp) -> None:
        super().__init__(spec, spec.listen)

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
        return {"protocol_factory": HeadHold, "tls": self._listen_tls()}

    def _make_dialer(self, target: Target) -> Dialer:
        spec = self.spec
        return Dialer(
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

    def describe(self) -> str:
        spec = self.spec
        parts = [str(target) for target in spec.targets]
        parts += [str(route) for route in spec.route]
        if spec.token_file is not None:
            parts.append(f"the targets of {spec.token_file}")
        return ", ".join(parts)

    async def handle(self, transport: Any, protocol: HeadHold) -> None:
        who = describe(transport)
        leave: Callable[[], None] | None = None
        try:
            head = await protocol.read_head(self.spec.handshake_timeout)
            answer = self._answer_plain(head)
            if answer is not None:
                await protocol.finish(answer, self.spec.linger)
                return
            upgrade = self._check(head)
            if self.targets is None:
                up = await self._dial(self.dialer)
            else:
                up, leave = await self._dial_choice(self.targets, upgrade)
        except RemoteProtocolError as error:
            self.refuse(who, error.reason, level_of(error))
            if error.http_status is not None:
                is_head = protocol.head is not None and protocol.head.method == "HEAD"
                answer = build_refusal(error, is_head)
                await protocol.finish(answer, self.spec.linger)
            return
        try:
            if protocol.lost or transport.is_closing():
                sockopt.reset(up.transport)
                self.refuse(who, "left before the target was connected", logging.INFO)
                return
            await self._convert(transport, protocol, upgrade, up, who)
        finally:
            if leave is not None:
                leave()

    # -- requests that are no upgrade ----------------------------------------------

    def _answer_plain(self, head: Head) -> bytes | None:
        """The answer to a plain request; ``None``: it is an upgrade."""
        if is_upgrade(head):
            return None
        path = head.target.partition("?")[0]
        if path in ("/healthz", "/readyz") and head.method in ("GET", "HEAD"):
            ready = path == "/healthz" or (self.is_ready and not self._is_full)
            return build_health(ready, head.method == "HEAD")
        if self._upgrades_at(head.get("host") or "", path):
            check_upgrade(head)  # raises 405 or 426
        raise Refusal(f"nothing at {path}", http_status=404)

    def _upgrades_at(self, host: str, path: str) -> bool:
        if self.targets is not None:
            return self.targets.has_path(host, path)
        return self.spec.path is None or path == self.spec.path

    @property
    def _is_full(self) -> bool:
        return self.listener is not None and self.listener.is_full

    # -- upgrades ------------------------------------------------------------------

    def _check(self, head: Head) -> Upgrade:
        """Everything that is known before the target is dialled.

        Raises:
            RemoteProtocolError: with the status to answer.
        """
        spec = self.spec
        upgrade = check_upgrade(head)
        if self.is_draining:
            raise Refusal("draining", http_status=503, headers=RETRY_AFTER)
        if self._is_full and self.listener is not None:
            limit = self.listener.max_connections
            raise Refusal(
                f"full: --max-connections {limit}", http_status=503, headers=RETRY_AFTER
            )
        if spec.allow_host and not host_matches(upgrade.host, spec.allow_host):
            raise Refusal(
                f"Host {upgrade.host!r} is not admitted (--allow-host)", http_status=400
            )
        path = upgrade.target.partition("?")[0]
        if self.targets is None and not self._upgrades_at(upgrade.host, path):
            raise Refusal(f"nothing at {path} (--path)", http_status=404)
        self._check_origin(upgrade)
        return upgrade

    def _check_origin(self, upgrade: Upgrade) -> None:
        origin = upgrade.origin
        if origin is None:
            return
        spec = self.spec
        if not origin_allowed(origin, upgrade.host, spec.allow_origin):
            raise Refusal(
                f"Origin {origin!r} is not this host (--allow-origin)", http_status=403
            )
        loopback = spec.listen.kind == "tcp" and spec.listen.is_loopback
        if loopback and not loopback_host_allowed(
            upgrade.head, spec.allow_host, spec.allow_origin
        ):
            raise Refusal(
                f"Host {upgrade.host!r} is no loopback name, and the request has an "
                "Origin (--allow-host)",
                http_status=403,
            )

    async def _dial(self, dialer: Dialer) -> ByteStream:
        try:
            return await dialer.dial()
        except DialError as error:
            raise unreachable(error) from error

    async def _dial_choice(
        self, targets: Targets, upgrade: Upgrade
    ) -> tuple[ByteStream, Callable[[], None] | None]:
        """Dial where the request is to go; what to call when that has ended."""
        try:
            way = targets.choose(upgrade.host, upgrade.target)
        except NoTarget as error:
            raise Refusal(error.reason, http_status=error.status) from None
        if isinstance(way, Dialer):
            return await self._dial(way), None
        try:
            up, member = await way.dial()
        except DialError as error:
            raise unreachable(error) from error
        return up, partial(way.release, member)

    async def _convert(
        self,
        transport: Any,
        hold: HeadHold,
        upgrade: Upgrade,
        up: ByteStream,
        who: str,
    ) -> None:
        """Answer 101 and copy."""
        headers = list(self.spec.headers)
        peer = Peer.STRANGER
        ident = ""
        if self.spec.fastws:
            offer = announce.parse_offer(upgrade.head.get_all(announce.HEADER))
            if offer is not None and offer.name == "tcp":
                peer = Peer.UNCONFIRMED
                ident = offer.id
                headers.append((announce.HEADER, announce.format_answer(offer)))
        chosen = choose_subprotocol(upgrade.subprotocols, self.spec.subprotocol)
        transport.write(build_accept(upgrade.key, subprotocol=chosen, headers=headers))
        down = WebSocketStream(
            transport,
            kind_of(transport),
            hold,
            side=Side.SERVER,
            peer=peer,
            opened_at=asyncio.get_running_loop().time(),
        )
        hold.head = None
        del upgrade, headers
        await self.copy(down, up, who, ident or new_id())


def unreachable(error: DialError) -> Refusal:
    """What a client hears of a target that could not be reached."""
    status = 504 if isinstance(error, DialTimeout) else 502
    return Refusal(f"target {error}", http_status=status)


def build_health(ready: bool, is_head: bool) -> bytes:
    """The answer to a health check."""
    status, body = (200, b"ok\n") if ready else (503, b"not ready\n")
    headers = [("Content-Type", "text/plain"), ("Cache-Control", "no-store")]
    if not ready:
        headers += RETRY_AFTER
    answer = build_response(status, headers, body)
    return answer.removesuffix(body) if is_head else answer


def build_refusal(error: RemoteProtocolError, is_head: bool = False) -> bytes:
    """The answer to a request that is refused; details stay in the log."""
    status = error.http_status or 400
    public = "" if isinstance(error, Refusal) else error.reason
    headers = [("Content-Type", "text/plain"), *error.headers]
    body = f"{status} {public}".strip().encode() + b"\n"
    answer = build_response(status, headers, body)
    return answer.removesuffix(body) if is_head else answer


def level_of(error: RemoteProtocolError) -> int:
    """Clients that vanish are no news, scanners are little; refusals are."""
    if error.http_status is None:
        return logging.DEBUG
    plain = error.http_status in (404, 405, 408, 426)
    return logging.INFO if plain else logging.WARNING
