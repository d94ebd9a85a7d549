"""``fastws proxy-server``: streams out of pooled WebSockets, to where clients ask.

The far end of ``fastws proxy --via``, and of rust-proxy's clients (docs/pool.md). A
WebSocket is one task; each stream it carries is another, because the target of one may
still be read or written when the next stream begins.
"""

import asyncio
import logging
from functools import partial
from typing import Any

from fastws._address import join_host_port
from fastws._consts import CLOSE_GOING_AWAY, CLOSE_NORMAL
from fastws.config.proxy_server import ProxyServer
from fastws.exceptions import DialError
from fastws.http.auth import Auth, BareAuth
from fastws.http.limit import Attempts
from fastws.modes.gate import Gate, Visit
from fastws.modes.upgrades import UpgradeRunner
from fastws.modes.way_out import make_outlet
from fastws.net import sockopt
from fastws.net.access import Access
from fastws.net.deadlines import start_limit
from fastws.net.pooled import PooledSocket, Request
from fastws.net.stream import describe
from fastws.net.upgrade import HeadHold
from fastws.net.websocket import Peer, WebSocketStream
from fastws.proxy.connect import level_of_failure
from fastws.proxy.direct import Direct
from fastws.proxy.outgoing import Outgoing, status_of
from fastws.proxy.served_udp import Exchange
from fastws.wire.handshake import Upgrade
from fastws.wire.pool import Connect, Status

logger = logging.getLogger("fastws.modes")

LEFT = "left before the target was connected"


class ProxyServerRunner(UpgradeRunner):
    """Runs one :class:`ProxyServer`.

    Attributes:
        outgoing: how targets are reached.
        streams: how many are open, or being opened.
        sockets: the pooled WebSockets.
    """

    name = "proxy-server"
    upstream = "target"
    spec: ProxyServer
    outgoing: Outgoing

    def __init__(self, spec: ProxyServer) -> None:
        super().__init__(spec)
        self.streams = 0
        self.sockets: set[ServedSocket] = set()
        self._no_stream: asyncio.Future[None] | None = None

    # -- life ----------------------------------------------------------------------

    def listener_options(self) -> dict[str, Any]:
        spec = self.spec
        self.outgoing = Direct(
            access=Access(spec.allow, spec.deny),
            outlet=make_outlet(spec),
            udp_idle=spec.udp_idle,
            connect_timeout=spec.connect_timeout,
            handshake_timeout=spec.handshake_timeout,
            linger=spec.linger,
            tcp_user_timeout=spec.tcp_user_timeout,
        )
        gate = Gate(spec)
        self.attempts = Attempts(spec.auth_attempts) if spec.auth_attempts else None
        gate.auth = self._make_auth(spec)
        return self.open_gate(gate)

    def open(self, workers: int = 1) -> None:
        super().open(workers)
        if self.attempts is not None:
            self.attempts.divide(workers)

    def _make_auth(self, spec: ProxyServer) -> Auth | None:
        return BareAuth(spec.auth_token, self.attempts) if spec.auth_token else None

    def tls_files(self) -> tuple[str | None, ...]:
        return self.spec.cert, self.spec.key, self.spec.client_ca

    def load_tls(self) -> None:
        tls = self.listen_tls()
        for listener in self.listeners:
            listener.tls = tls

    def adopt(self, spec: ProxyServer) -> None:  # type: ignore[override]
        if self.gate is not None:
            self.gate.auth = self._make_auth(spec)
        self.spec = spec

    def describe(self) -> str:
        rules = [f"--allow {rule}" for rule in self.spec.allow]
        rules += [f"--deny {rule}" for rule in self.spec.deny]
        return ", ".join(rules) or "all public addresses"

    def describe_client(self, who: str) -> dict[str, str]:
        client, _, target = who.partition(" ")
        return {"client": client, "target": target}

    # -- the end ---------------------------------------------------------------------

    async def wait_served(self, patience: float) -> bool:
        """Wait until no stream is open; a WebSocket without is what ends last.

        A rust-proxy client pays with a failed request for each that is closed. A
        fastws one is told: its WebSockets go as soon as their stream is over.
        """
        if self.streams:
            self._no_stream = asyncio.get_running_loop().create_future()
            await asyncio.wait((self._no_stream,), timeout=patience)
        return not self.listener.active

    def leaving(self) -> list[Any]:
        return list(self.sockets)

    def stream_ended(self) -> None:
        """One less."""
        self.streams -= 1
        waiter = self._no_stream
        if not self.streams and waiter is not None and not waiter.done():
            waiter.set_result(None)

    # -- one WebSocket ---------------------------------------------------------------

    async def upgrade(
        self, transport: Any, hold: HeadHold, upgrade: Upgrade, visit: Visit | None
    ) -> None:
        try:
            if visit is not None:
                await visit.admit(upgrade)
            who = describe(transport, hold.peer) if visit is None else visit.who
            if hold.lost or transport.is_closing():
                self.refuse(who, LEFT, logging.INFO)
                return
            down, ident = self.accept(transport, hold, upgrade, "pool")
            del upgrade
            await Visitor(self, down, who, ident).serve()
        finally:
            self.admitted -= 1


class ServedSocket(PooledSocket):
    """A pooled WebSocket that can be sent away."""

    __slots__ = ()

    def go_away(self, reason: str) -> None:
        """End it, and the stream that is open: Close 1001 where one is understood."""
        owner: Any = self.end.owner
        if owner is self:
            self.close(CLOSE_GOING_AWAY, reason)
        else:
            owner.go_away(reason)


class Visitor:
    """One pooled WebSocket and its streams. One event loop.

    Args:
        runner: whose it is.
        down: the WebSocket; owned from now on.
        who: the client, for log lines.
        ident: the WebSocket's ID in both logs.
    """

    def __init__(
        self, runner: ProxyServerRunner, down: WebSocketStream, who: str, ident: str
    ) -> None:
        self._runner = runner
        self._who = who
        self._ident = ident
        self._tasks: set[asyncio.Task[None]] = set()
        self._dialing: asyncio.Task[None] | None = None
        self._limit: Any = None
        self._streams = 0
        self._socket = ServedSocket(
            down,
            options=runner.options,
            max_data=runner.spec.max_data,
            on_idle=self._rest,
        )

    async def serve(self) -> None:
        """Serve stream after stream until the WebSocket and all of them are gone."""
        runner, socket = self._runner, self._socket
        runner.sockets.add(socket)
        self._rest(socket)
        try:
            while (request := await socket.next_request()) is not None:
                self._stop_waiting()
                self._begin(request)
            self._stop_dialing()
            self._log_end(socket.reason)
            if self._tasks:
                await asyncio.wait(self._tasks)
            await socket.lost
        finally:
            self._stop_waiting()
            runner.sockets.discard(socket)
            socket.abort()
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)

    def _log_end(self, reason: str) -> None:
        """Say why no stream can begin any more; what was the client's fault counts."""
        if reason.startswith("protocol error"):
            self._runner.refuse(self._who, reason, ident=self._ident)
            return
        text = "%s %s id=%s: WebSocket ended after %s: %s"
        fields = {
            "mode": self._runner.name,
            "client": self._who,
            "id": self._ident,
            "streams": self._streams,
            "reason": reason,
        }
        count = f"{self._streams} stream" + "s" * (self._streams != 1)
        logger.info(text, *(fields | {"streams": count}).values(), extra=fields)

    def _begin(self, request: Request) -> None:
        """A task for the stream; one before it that still dials is given up."""
        self._stop_dialing()
        self._streams += 1
        task = asyncio.get_running_loop().create_task(self._serve_stream(request))
        self._dialing = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _stop_dialing(self) -> None:
        task, self._dialing = self._dialing, None
        if task is not None and task is not asyncio.current_task():
            task.cancel()

    # -- time ------------------------------------------------------------------------

    def _rest(self, socket: PooledSocket) -> None:
        """No stream is open: the time of a WebSocket that waits begins."""
        runner = self._runner
        if runner.is_draining and socket.end.who is Peer.FASTWS:
            socket.close(CLOSE_GOING_AWAY, "draining")
            return
        self._stop_waiting()
        self._stop_dialing()
        seconds = runner.spec.pool_idle
        if seconds:
            expire = partial(self._expire, socket)
            self._limit = start_limit(socket.loop, seconds, expire)

    @staticmethod
    def _expire(socket: PooledSocket) -> None:
        if socket.is_idle:
            socket.close(CLOSE_NORMAL, "idle")

    def _stop_waiting(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None

    # -- streams ---------------------------------------------------------------------

    async def _serve_stream(self, request: Request) -> None:
        packet, what = request.packet, "udp"
        if isinstance(packet, Connect):
            what = join_host_port(packet.host, packet.port)
        runner = self._runner
        limit = runner.listener.max_connections
        if runner.streams >= limit:
            reason = f"full: --max-connections {limit}"
            self._refuse(request, Status.FAILED, f"{what}: {reason}")
            return
        runner.streams += 1
        try:
            if isinstance(packet, Connect):
                await self._join(request, what, packet.host, packet.port)
            else:
                await self._relay_datagrams(request)
        finally:
            runner.stream_ended()

    async def _join(self, request: Request, what: str, host: str, port: int) -> None:
        try:
            up = await self._runner.outgoing.open(host, port)
        except DialError as error:
            level = level_of_failure(error)
            self._refuse(request, status_of(error), str(error), level)
            return
        except asyncio.CancelledError:
            self._refuse(request, Status.FAILED, f"{what}: {LEFT}", logging.INFO)
            raise
        stream = self._socket.accept(request)
        if stream is None:
            sockopt.reset(up.transport)
            self._refuse(request, Status.FAILED, f"{what}: {LEFT}", logging.INFO)
            return
        self._dialing = None
        who, ident = f"{self._who} {what}", f"{self._ident}/{request.stream}"
        await self._runner.copy(stream, up, who, ident)

    async def _relay_datagrams(self, request: Request) -> None:
        """Pass datagrams on, each as the rules of the way out allow."""
        runner = self._runner
        exchange = Exchange(runner.options.idle_timeout)
        try:
            is_open = await exchange.open(self._socket, request, runner.outgoing)
        except DialError as error:
            self._refuse(request, status_of(error), f"udp: {error}")
            return
        if not is_open:
            return
        self._dialing = None
        try:
            await exchange.run()
        finally:
            ident = f"{self._ident}/{request.stream}"
            count = exchange.bytes_in, exchange.bytes_out
            runner.served(self._who, f"udp {exchange}", ident, *count)

    def _refuse(
        self,
        request: Request,
        status: Status,
        reason: str,
        level: int = logging.WARNING,
    ) -> None:
        self._socket.refuse(request, status)
        ident = f"{self._ident}/{request.stream}"
        self._runner.refuse(self._who, reason, level, ident)
