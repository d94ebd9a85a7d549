"""``fastws stw``: each TCP connection becomes one WebSocket.

TCP is accepted first, then the WebSocket is dialled; if that fails the TCP side is
reset and one line says what the server answered.
"""

import asyncio
import ssl
from typing import Any

from fastws.config.schema import TcpToWs
from fastws.exceptions import (
    DialError,
    FastwsError,
    InvalidStatus,
    RemoteProtocolError,
)
from fastws.modes.header_file import HeaderFile
from fastws.modes.runner import Runner, naming_options, new_id
from fastws.modes.text import TextSession
from fastws.modes.udp import REST, UdpFlow, end_quiet, flow_options
from fastws.modes.way_out import (
    describe_refusal,
    guess,
    insist,
    make_dialer,
    make_upgrader,
    open_header_file,
)
from fastws.net import sockopt
from fastws.net.bind_udp import bind_udp
from fastws.net.proxy import ProxyDialer
from fastws.net.stream import ByteStream, Hold, describe, kind_of
from fastws.net.tls import client_context
from fastws.net.udp_listen import UdpListener, UdpPeer
from fastws.net.upgrade import NO_HEAD
from fastws.net.websocket import WebSocketStream


class TcpToWsRunner(Runner):
    """Runs one :class:`TcpToWs`."""

    name = "stw"
    spec: TcpToWs

    def __init__(self, spec: TcpToWs) -> None:
        super().__init__(spec, spec.listen)
        self.upgrader = make_upgrader(spec)
        self.header_file: HeaderFile | None = None

    def listener_options(self) -> dict[str, Any]:
        self.dialer = make_dialer(self.spec, self._tls())
        self.header_file = open_header_file(self.spec)
        if self.header_file is not None:
            self.upgrader = make_upgrader(self.spec, self.header_file.fields)
        return {}

    def make_listeners(
        self, limit: int, workers: int, options: dict[str, Any]
    ) -> list[Any]:
        listen = self.listen
        if listen.kind != "udp":
            return super().make_listeners(limit, workers, options)
        self.options = flow_options(self.options, self.spec.udp_idle)
        socks = bind_udp(listen.hosts, listen.port, optional=listen.optional)
        return [UdpListener(socks, self.handle_source, max_connections=limit)]

    def _tls(self) -> ssl.SSLContext | None:
        spec = self.spec
        if not spec.upstream.secure:
            return None
        with naming_options(spec, "ca", "cert", "key"):
            return client_context(
                ca=spec.ca, cert=spec.cert, key=spec.key, insecure=spec.insecure
            )

    def tls_files(self) -> tuple[str | None, ...]:
        spec = self.spec
        return spec.ca, spec.cert, spec.key, spec.proxy_ca

    def load_tls(self) -> None:
        self.dialer = make_dialer(self.spec, self._tls())

    def adopt(self, spec: TcpToWs) -> None:  # type: ignore[override]
        self.dialer = make_dialer(spec, self.dialer.tls)
        file = self.header_file
        self.upgrader = make_upgrader(spec, file.fields if file is not None else ())
        self.spec = spec

    def describe(self) -> str:
        text = self.spec.upstream.display
        if isinstance(self.dialer, ProxyDialer):
            text += f" through {self.dialer.proxy_name}"
        return text

    async def handle(self, transport: Any, protocol: Hold) -> None:
        transport.pause_reading()
        who = describe(transport, protocol.peer)
        down = ByteStream(transport, kind_of(transport), protocol)
        ident = new_id()
        try:
            up = await self._connect(ident)
        except (FastwsError, OSError) as error:
            sockopt.reset(transport)
            self.refuse(who, f"{self.spec.upstream.display}: {error}", ident=ident)
            return
        except BaseException:
            sockopt.reset(transport)
            raise
        if self.spec.text:
            await self.converse(TextSession(down, up, self.options), who, ident)
        else:
            await self.copy(down, up, who, ident)

    async def handle_source(self, peer: UdpPeer) -> None:
        """Serve one source of datagrams until it is silent."""
        who, ident = str(peer), new_id()
        try:
            up = await self._connect(ident)
        except (FastwsError, OSError) as error:
            peer.fail()
            self.refuse(who, f"{self.spec.upstream.display}: {error}", ident=ident)
            await asyncio.sleep(REST)
            return
        flow = UdpFlow(up, peer, self.options)
        if self.is_draining:
            flow.go_when_quiet()
        await self.converse(flow, who, ident)

    def stop_requests(self) -> None:
        end_quiet(self.copies)

    async def _connect(self, ident: str) -> WebSocketStream:
        """Dial and upgrade, as often as ``--retry`` says."""
        spec = self.spec
        if spec.retry == 1:
            return await self._attempt(ident, spec.connect_timeout)
        return await insist(
            lambda left: self._attempt(ident, left),
            spec.retry,
            spec.connect_timeout,
            f"stw id={ident}",
        )

    async def _attempt(self, ident: str, limit: float) -> WebSocketStream:
        """Dial and upgrade; both together take no longer than their two limits."""
        spec, file = self.spec, self.header_file
        if file is not None and file.refresh():
            self.upgrader = make_upgrader(spec, file.fields)
        clock = asyncio.get_running_loop().time
        deadline = clock() + limit + spec.handshake_timeout
        stream = await self.dialer.dial(limit)
        timeout = min(spec.handshake_timeout, deadline - clock())
        try:
            return await self.upgrader.upgrade(stream, ident, timeout)
        except InvalidStatus as error:
            raise DialError(describe_refusal(error)) from error
        except RemoteProtocolError as error:
            if error.reason != NO_HEAD:
                raise
            raise RemoteProtocolError(f"{NO_HEAD}; {guess(spec)}") from error
