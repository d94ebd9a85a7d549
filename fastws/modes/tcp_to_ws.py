"""``fastws stw``: each TCP connection becomes one WebSocket.

TCP is accepted first, then the WebSocket is dialled; if that fails the TCP side is
reset and one line says what the server answered.
"""

import asyncio
import ssl
from typing import Any

from fastws.config.schema import TcpToWs
from fastws.exceptions import DialError, FastwsError, InvalidStatus
from fastws.modes.runner import Runner, naming_options, new_id
from fastws.net import sockopt
from fastws.net.dial import Dialer
from fastws.net.stream import ByteStream, Hold, describe, kind_of
from fastws.net.tls import client_context
from fastws.net.upgrade import Upgrader
from fastws.net.websocket import WebSocketStream


class TcpToWsRunner(Runner):
    """Runs one :class:`TcpToWs`."""

    name = "stw"
    spec: TcpToWs

    def __init__(self, spec: TcpToWs) -> None:
        super().__init__(spec, spec.listen)
        url = spec.upstream
        self.upgrader = Upgrader(
            url.target,
            spec.host or url.host_header,
            origin=spec.origin,
            subprotocols=spec.subprotocol,
            headers=spec.headers,
            fastws=spec.fastws,
        )

    def listener_options(self) -> dict[str, Any]:
        spec = self.spec
        self.dialer = Dialer(
            spec.dial_address,
            tls=self._tls(),
            server_hostname=spec.server_name,
            connect_timeout=spec.connect_timeout,
            handshake_timeout=spec.handshake_timeout,
            linger=spec.linger,
            tcp_user_timeout=spec.tcp_user_timeout,
        )
        return {}

    def _tls(self) -> ssl.SSLContext | None:
        spec = self.spec
        if not spec.upstream.secure:
            return None
        with naming_options(spec, "ca", "cert", "key"):
            return client_context(
                ca=spec.ca, cert=spec.cert, key=spec.key, insecure=spec.insecure
            )

    def reload(self) -> None:
        self.dialer.tls = self._tls()

    def describe(self) -> str:
        return self.spec.upstream.display

    async def handle(self, transport: Any, protocol: Hold) -> None:
        transport.pause_reading()
        who = describe(transport)
        down = ByteStream(transport, kind_of(transport), protocol)
        ident = new_id()
        try:
            up = await self._connect(ident)
        except (FastwsError, OSError) as error:
            sockopt.reset(transport)
            self.refuse(who, f"id={ident} {self.spec.upstream.display}: {error}")
            return
        except BaseException:
            sockopt.reset(transport)
            raise
        await self.copy(down, up, who, ident)

    async def _connect(self, ident: str) -> WebSocketStream:
        """Dial and upgrade; both together take no longer than their two limits."""
        spec = self.spec
        clock = asyncio.get_running_loop().time
        deadline = clock() + spec.connect_timeout + spec.handshake_timeout
        stream = await self.dialer.dial()
        timeout = min(spec.handshake_timeout, deadline - clock())
        try:
            return await self.upgrader.upgrade(stream, ident, timeout)
        except InvalidStatus as error:
            raise DialError(describe_refusal(error)) from error


def describe_refusal(error: InvalidStatus) -> str:
    """Status, who said so, where to, and the first line of the body."""
    text = f"the server answered {error}"
    for name, value in error.fields:
        if name.lower() in ("server", "via", "location", "cf-ray", "retry-after"):
            text += f", {name}: {value}"
    line = error.body.strip().partition(b"\n")[0].strip()[:200]
    if line:
        text += f", body: {line.decode('utf-8', 'replace')!r}"
    return text
