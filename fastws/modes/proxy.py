"""``fastws proxy``: HTTP, CONNECT and SOCKS5 on one port.

What clients say is read by :mod:`fastws.proxy`; this module opens the port, builds the
way out, and counts and logs. With a ``target`` nothing is read: the port leads there.
"""

import logging
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any

from fastws._address import join_host_port
from fastws.config.endpoint import is_loopback
from fastws.config.forward import NO_USERS, ForwardProxy
from fastws.config.proxy import ProxyUrl
from fastws.exceptions import ConfigError, DialError
from fastws.http.auth import Users
from fastws.http.limit import Attempts
from fastws.http.password import PasswordHash
from fastws.modes.parts import LargePart
from fastws.modes.pooled_way import Opener, make_pooled
from fastws.modes.runner import Runner, naming_options, new_id
from fastws.modes.way_out import make_outlet
from fastws.net import sockopt
from fastws.net.access import Access
from fastws.net.stream import ByteStream, Hold, describe, kind_of
from fastws.net.tls import client_context, server_context
from fastws.proxy.direct import Direct, Through
from fastws.proxy.http import HttpProxy, HttpSettings, leads_back
from fastws.proxy.outgoing import Outgoing
from fastws.proxy.pooled import PooledWay
from fastws.proxy.serve import serve
from fastws.proxy.users import Accounts
from fastws.proxy.visit import ProxyOptions

logger = logging.getLogger("fastws.modes")


class ForwardProxyRunner(Runner):
    """Runs one :class:`ForwardProxy`."""

    name = "proxy"
    upstream = "target"
    spec: ForwardProxy
    outgoing: Outgoing

    def __init__(self, spec: ForwardProxy) -> None:
        super().__init__(spec, spec.listen)
        self.users: Users | None = None
        self.attempts = Attempts(spec.auth_attempts) if spec.auth_attempts else None
        self.clients: set[HttpProxy] = set()
        self.opener: Opener | None = None
        self.pooled: PooledWay | None = None

    def listener_options(self) -> dict[str, Any]:
        spec = self.spec
        if spec.users is not None:
            self.users = Users(spec.users)
            self.read_users()()
            self.parts.append(LargePart("users", spec.users, self.read_users))
        self.proxy_options = self._make_options(spec)
        if spec.pool_url is not None:
            self.opener = Opener(spec)
        return {"tls": self._listen_tls()}

    def read_users(self) -> Callable[[], dict[str, PasswordHash]]:
        """Read the users file; to be called: puts it into use, returns the old.

        Raises:
            ConfigError: it is broken.
        """
        assert self.users is not None
        with naming_options(self.spec, "users"):
            return partial(self.users.use, self.users.read())

    def _make_options(self, spec: ForwardProxy) -> ProxyOptions:
        accounts = None
        if spec.user or self.users is not None:
            accounts = Accounts(spec.user, self.users, self.attempts)
        return ProxyOptions(
            protocols=frozenset(spec.protocols),
            accounts=accounts,
            handshake_timeout=spec.handshake_timeout,
            connect_timeout=spec.connect_timeout,
            linger=spec.linger,
            copy=self.options,
            udp_idle=spec.udp_idle,
        )

    def open(self, workers: int = 1) -> None:
        super().open(workers)
        if self.attempts is not None:
            self.attempts.divide(workers)
        # The bound addresses tell, also of inherited sockets.
        hosts = [_end_of(where)[0] for where in self.endpoints]
        is_local = bool(hosts) and all(map(_is_local, hosts))
        if not is_local and not self.spec.is_open:
            self.listener.close()
            raise ConfigError("LISTEN", NO_USERS)
        self._access = self._make_access(self.spec, is_local)
        if self.opener is None:
            self.outgoing = self._make_outgoing(self.spec)
        ends = frozenset(map(_end_of, self.endpoints))
        self.http_settings = HttpSettings(
            via=self.spec.via_name,
            health=lambda: self.is_ready,
            is_own=partial(leads_back, ends),
            connections=self.clients,
        )

    def start(self) -> None:
        if self.opener is not None:
            options, access = self.options, self._access
            self.pooled = make_pooled(self.spec, self.opener, options, access)
            self.outgoing = self.pooled
        super().start()

    async def close(self) -> None:
        await super().close()
        if self.pooled is not None:
            pool = self.pooled.pool
            if not pool.is_closed:
                extra = {"mode": self.name, **pool.stats.as_fields()}
                logger.info("pool of %s: %s", self.pooled.name, pool.stats, extra=extra)
            await self.pooled.aclose()

    def stop_requests(self) -> None:
        for client in list(self.clients):
            client.drain()

    @staticmethod
    def _make_access(spec: ForwardProxy, is_local: bool) -> Access | None:
        if spec.target is None and (spec.allow or spec.deny or not is_local):
            return Access(spec.allow, spec.deny, may_be_private=is_local)
        return None

    def _make_outgoing(self, spec: ForwardProxy) -> Outgoing:
        options: dict[str, Any] = {
            "access": self._access,
            "outlet": make_outlet(spec),
            "connect_timeout": spec.connect_timeout,
            "handshake_timeout": spec.handshake_timeout,
            "linger": spec.linger,
            "tcp_user_timeout": spec.tcp_user_timeout,
        }
        via = spec.via
        if not isinstance(via, ProxyUrl) or via.is_off:
            return Direct(udp_idle=spec.udp_idle, **options)
        return Through(
            scheme=via.scheme,
            proxy=via.address,
            user=via.user,
            password=via.password,
            proxy_tls=self._via_tls(via),
            **options,
        )

    def _via_tls(self, via: ProxyUrl) -> ssl.SSLContext | None:
        """Made once: to read the system's authorities takes longer than a dial."""
        if via.scheme != "https":
            return None
        with naming_options(self.spec, "proxy_ca"):
            return client_context(ca=self.spec.proxy_ca)

    def _listen_tls(self) -> ssl.SSLContext | None:
        spec = self.spec
        if spec.cert is None:
            return None
        with naming_options(spec, "cert", "key"):
            return server_context(spec.cert, spec.key)

    def tls_files(self) -> tuple[str | None, ...]:
        return self.spec.cert, self.spec.key, self.spec.ca

    def load_tls(self) -> None:
        tls = self._listen_tls()
        if self.opener is not None:
            self.opener.adopt(self.spec)
        for listener in self.listeners:
            listener.tls = tls

    def adopt(self, spec: ForwardProxy) -> None:  # type: ignore[override]
        if self.opener is not None:
            self.opener.adopt(spec)
        self.proxy_options = self._make_options(spec)
        self.spec = spec

    def describe(self) -> str:
        spec = self.spec
        text = ", ".join(spec.protocols)
        if spec.target is not None:
            text = str(spec.target)
        if spec.pool_url is not None:
            text += f" through {spec.pool_url.display}"
        elif isinstance(spec.via, ProxyUrl) and not spec.via.is_off:
            text += f" through {spec.via}"
        return text

    async def handle(self, transport: Any, protocol: Hold) -> None:
        transport.pause_reading()
        who = describe(transport, protocol.peer)
        stream = ByteStream(transport, kind_of(transport), protocol)
        visit = RunnerVisit(self, who)
        target = self.spec.target
        if target is None:
            await serve(
                stream,
                self.outgoing,
                self.proxy_options,
                visit,
                settings=self.http_settings,
            )
        else:
            await self._forward(stream, visit, *target.address)

    async def _forward(
        self, stream: ByteStream, visit: "RunnerVisit", host: str, port: int
    ) -> None:
        what = f"forward {join_host_port(host, port)}"
        try:
            up = await self.outgoing.open(host, port)
        except DialError as error:
            sockopt.reset(stream.transport)
            visit.refuse(str(error))
            return
        except BaseException:
            sockopt.reset(stream.transport)
            raise
        await visit.join(stream, up, what, up.ident)

    def describe_client(self, who: str) -> dict[str, str]:
        client, _, target = who.partition(" ")
        return {"client": client, "target": target}


class RunnerVisit:
    """One client of a runner, see :class:`fastws.proxy.visit.Visit`."""

    __slots__ = ("_ident", "_runner", "_who")

    def __init__(self, runner: ForwardProxyRunner, who: str) -> None:
        self._runner = runner
        self._who = who
        self._ident = new_id()

    async def join(
        self, down: ByteStream, up: ByteStream, what: str, ident: str = ""
    ) -> None:
        who, ident = f"{self._who} {what}", ident or self._ident
        await self._runner.copy(down, up, who, ident)

    def refuse(
        self, reason: str, level: int = logging.WARNING, status: int | None = None
    ) -> None:
        if status == 407:
            self._runner.stats.unauthorized += 1
        self._runner.refuse(self._who, reason, level, self._ident)

    def served(self, what: str, bytes_in: int, bytes_out: int, ident: str = "") -> None:
        ident = ident or self._ident
        self._runner.served(self._who, what, ident, bytes_in, bytes_out)


def _end_of(where: str) -> tuple[str, int]:
    """Host without brackets and port of a bound address; a path has port 0."""
    host, _, port = where.rpartition(":")
    return host.strip("[]"), int(port) if port.isdecimal() else 0


def _is_local(host: str) -> bool:
    """A bound address that only this machine reaches; a path has no host."""
    return host == "unix" or is_loopback(host)
