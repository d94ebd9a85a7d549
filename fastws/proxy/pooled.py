"""The way out through a pool of WebSockets to a server that connects.

Source: docs/pool.md. Each carries one stream after the other; between two it waits in
a :class:`fastws.upstream.edge.Pool`.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from fastws import _consts
from fastws.exceptions import (
    DialError,
    DialTimeout,
    LocalProtocolError,
    NoConnection,
    NoUpstream,
    Unsupported,
)
from fastws.net.access import Access
from fastws.net.ends import CopyOptions
from fastws.net.pooled import PooledSocket
from fastws.net.stream import ByteStream
from fastws.net.websocket import WebSocketStream
from fastws.proxy.outgoing import DatagramWay, Receive, error_of
from fastws.upstream.edge import Lease, Pool
from fastws.upstream.waiting import PoolLimits
from fastws.wire.pool import MAX_DATA, Status

_WORDS = {
    Status.FAILED: "failed",
    Status.DENIED: "denied",
    Status.NETWORK_UNREACHABLE: "network unreachable",
    Status.HOST_UNREACHABLE: "host unreachable",
    Status.REFUSED: "connection refused",
    Status.TIMED_OUT: "timed out",
    Status.NOT_SUPPORTED: "not supported",
    Status.UNKNOWN_NAME: "unknown name",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PooledOptions:
    """How a pool is kept and used. Times in seconds.

    Attributes:
        limits: of the pool.
        copy: of streams, and of the connections between them.
        connect_timeout: for a connection of the pool, and again for the target.
        open_timeout: for one handshake, dial and TLS included.
        max_data: payload of one packet to a stranger, bytes.
    """

    limits: PoolLimits = field(default_factory=PoolLimits)
    copy: CopyOptions = field(default_factory=CopyOptions)
    connect_timeout: float = _consts.CONNECT_TIMEOUT
    open_timeout: float = _consts.CONNECT_TIMEOUT + _consts.HANDSHAKE_TIMEOUT
    max_data: int = MAX_DATA


class PooledWay:
    """Opens streams through WebSockets that wait in a pool. One event loop.

    Args:
        name: of the server, for errors.
        upgrade: opens one WebSocket; raises :class:`DialError`.
        options: sizes and times.
        access: what may be asked for; ``None``: everything.

    Attributes:
        pool: of the connections.
    """

    def __init__(
        self,
        name: str,
        upgrade: Callable[[], Awaitable[WebSocketStream]],
        options: PooledOptions,
        *,
        access: Access | None = None,
    ) -> None:
        self._name = name
        self._upgrade = upgrade
        self._options = options
        self._access = access
        self._leases: dict[PooledSocket, Lease[PooledSocket]] = {}
        self.pool: Pool[PooledSocket] = Pool(
            self._open_socket,
            PooledSocket.close,
            options.limits,
            open_timeout=options.open_timeout,
            is_reusable=_is_idle,
        )

    async def open(self, host: str, port: int) -> ByteStream:
        """See :class:`fastws.proxy.outgoing.Outgoing`."""
        if self._access is not None:
            self._access.check_asked(host, port)
        lease = await self._borrow(self._options.connect_timeout)
        return await self._connect(lease, host, port)

    async def associate(self, receive: Receive) -> DatagramWay:
        """See :class:`fastws.proxy.outgoing.Outgoing`."""
        raise Unsupported("no UDP through --via")

    async def aclose(self) -> None:
        """Close what is idle now, and the rest when its stream ends."""
        await self.pool.aclose()

    # -- one stream ----------------------------------------------------------------

    async def _borrow(
        self, timeout: float, *, fresh: bool = False
    ) -> Lease[PooledSocket]:
        """A connection of the pool; what keeps us from it is not the target's fault.

        Raises:
            NoConnection: none in time.
            NoUpstream: none can be had.
        """
        try:
            return await self.pool.acquire(timeout, fresh=fresh)
        except DialTimeout as error:
            raise NoConnection(f"{self._name}: {error}") from error
        except DialError as error:
            raise NoUpstream(f"{self._name}: {error}") from error

    async def _connect(
        self, lease: Lease[PooledSocket], host: str, port: int
    ) -> ByteStream:
        socket = lease.connection
        self._leases[socket] = lease
        try:
            result = await socket.connect(host, port, self._options.connect_timeout)
        except LocalProtocolError as error:
            self._put_back(socket)
            raise DialError(f"{host}: {error}") from error
        if isinstance(result, Status):
            text = f"{_format(host, port)}: {_WORDS.get(result, 'failed')}"
            raise error_of(result, f"{text} (says {self._name})")
        return result

    # -- one connection ------------------------------------------------------------

    async def _open_socket(self) -> PooledSocket:
        stream = await self._upgrade()
        socket = PooledSocket(
            stream,
            self._options.copy,
            max_data=self._options.max_data,
            on_idle=self._put_back,
            on_end=self._forget,
        )
        if socket.reason:
            raise NoUpstream(f"closed at once: {socket.reason}")
        return socket

    def _put_back(self, socket: PooledSocket) -> None:
        """Its stream is over, or never began."""
        lease = self._leases.pop(socket, None)
        if lease is not None:
            lease.release()

    def _forget(self, socket: PooledSocket) -> None:
        """It can carry no stream any more."""
        lease = self._leases.pop(socket, None)
        if lease is not None:
            lease.release(fit=False)
        else:
            self.pool.lost(socket)


def _is_idle(socket: PooledSocket) -> bool:
    return socket.is_idle


def _format(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
