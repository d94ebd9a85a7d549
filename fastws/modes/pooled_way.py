"""How the forward proxy reaches a server of pooled WebSockets; helper of that mode."""

import asyncio
from ssl import SSLContext

from fastws.config import fields as f
from fastws.config.endpoint import WsUrl
from fastws.config.forward import ForwardProxy
from fastws.config.via import dial_address
from fastws.exceptions import Denied, DialError, FastwsError, InvalidStatus, NoUpstream
from fastws.modes.runner import naming_options, new_id
from fastws.modes.way_out import describe_refusal, make_outlet, may_pass
from fastws.net import sockopt
from fastws.net.access import Access
from fastws.net.dial import Dialer
from fastws.net.ends import CopyOptions
from fastws.net.tls import client_context
from fastws.net.upgrade import NO_HEAD, Upgrader
from fastws.net.websocket import Peer, WebSocketStream
from fastws.proxy.pooled import PooledOptions, PooledWay
from fastws.upstream.waiting import PoolLimits


class Opener:
    """Opens one pooled WebSocket after the other.

    Args:
        spec: with a ``ws://`` or ``wss://`` URL in ``via``.

    Raises:
        ConfigError: a file of certificates cannot be used.
    """

    def __init__(self, spec: ForwardProxy) -> None:
        url = spec.pool_url
        assert url is not None
        self._url: WsUrl = url
        self.adopt(spec)

    def adopt(self, spec: ForwardProxy) -> None:
        """Use ``spec`` for connections from now on.

        Raises:
            ConfigError: it cannot be used; nothing was changed.
        """
        dialer = self._make_dialer(spec)
        self._must_be_fastws = spec.via_protocol == "fastws"
        self._upgrader = Upgrader(
            self._url.target,
            spec.host or self._url.host_header,
            headers=_authorization(spec),
            fastws=self._must_be_fastws,
            name="pool",
        )
        self._dialer = dialer
        self._timeout = spec.handshake_timeout

    def _make_dialer(self, spec: ForwardProxy) -> Dialer:
        url = self._url
        return Dialer(
            dial_address(spec),
            tls=_client_tls(spec) if url.secure else None,
            server_hostname=(spec.sni or url.host) if url.secure else None,
            connect_timeout=spec.connect_timeout,
            handshake_timeout=spec.handshake_timeout,
            linger=spec.linger,
            tcp_user_timeout=spec.tcp_user_timeout,
            outlet=make_outlet(spec),
        )

    async def open(self) -> WebSocketStream:
        """Dial, upgrade, and see whom we speak with.

        Raises:
            Denied: it would be no other way if asked again: the server does not let
                us in, or one of us will not have the other's certificate.
            DialError: says why not.
        """
        try:
            return await self._open()
        except DialError as error:
            if isinstance(error, Denied) or may_pass(error):
                raise
            raise Denied(str(error)) from error

    async def _open(self) -> WebSocketStream:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._dialer.connect_timeout + self._timeout
        stream = await self._dialer.dial()
        timeout = min(self._timeout, deadline - loop.time())
        try:
            upgraded = await self._upgrader.upgrade(stream, new_id(), timeout)
        except InvalidStatus as error:
            hint = "; see --via-token" if error.status == 401 else ""
            raise NoUpstream(describe_refusal(error) + hint) from error
        except DialError:
            raise
        except (FastwsError, OSError) as error:
            raise NoUpstream(self._explain(str(error))) from error
        if self._must_be_fastws and upgraded.peer is not Peer.FASTWS:
            sockopt.reset(upgraded.transport)
            raise Denied(
                "it did not prove to be a fastws proxy-server; if it is a rust-proxy"
                " server, say --via-protocol rust-proxy"
            )
        return upgraded

    def _explain(self, text: str) -> str:
        if text != NO_HEAD:
            return text
        if not self._url.secure:
            return f"{text}; if it speaks TLS, write wss://"
        if not self._must_be_fastws:
            return f"{text}; a rust-proxy server closes when --via-token is not its own"
        return text


def _authorization(spec: ForwardProxy) -> list[tuple[str, str]]:
    """The token as the server reads it: rust-proxy knows no schemes."""
    if spec.via_token is None:
        return []
    scheme = "Bearer " if spec.via_protocol == "fastws" else ""
    return [("Authorization", f.Secret(scheme + spec.via_token))]


def _client_tls(spec: ForwardProxy) -> SSLContext:
    with naming_options(spec, "ca"):
        return client_context(ca=spec.ca, insecure=spec.insecure)


def make_pooled(
    spec: ForwardProxy, opener: Opener, copy: CopyOptions, access: Access | None
) -> PooledWay:
    """The way out for ``spec``; needs the running loop.

    Args:
        spec: sizes and times.
        opener: for ``spec``.
        copy: how streams are copied.
        access: what may be asked for.
    """
    assert spec.pool_url is not None
    limits = PoolLimits(
        max_idle=spec.pool_keep,
        max_total=spec.pool_size,
        max_opening=spec.pool_opening,
        min_idle=spec.pool_warm,
        idle_time=spec.pool_idle,
        max_age=spec.pool_age,
        attempts=max(1, spec.retry),
        retry_delay=spec.retry_delay,
    )
    options = PooledOptions(
        limits=limits,
        copy=copy,
        connect_timeout=spec.connect_timeout,
        open_timeout=spec.connect_timeout + spec.handshake_timeout,
        max_data=spec.max_data,
        tcp_user_timeout=spec.tcp_user_timeout,
        probe=spec.pool_probe if spec.via_protocol == "rust-proxy" else 0.0,
        retry_pooled=spec.retry_pooled,
        retry_data=spec.retry_data,
        connect_only=spec.retry_mode == "connect-only",
    )
    name = spec.pool_url.display
    return PooledWay(name, opener.open, options, access=access)
