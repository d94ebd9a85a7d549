"""The way out through a pool of WebSockets to a server that connects.

Source: docs/pool.md. Each carries one stream after the other; between two it waits in
a :class:`fastws.upstream.edge.Pool`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

from fastws import _consts
from fastws._address import join_host_port
from fastws.exceptions import (
    DialError,
    DialTimeout,
    LocalProtocolError,
    NoConnection,
    NoUpstream,
)
from fastws.net.access import Access
from fastws.net.ends import CopyOptions
from fastws.net.pool_end import PooledStream
from fastws.net.pool_watch import guard, prove
from fastws.net.pooled import PooledSocket
from fastws.net.replay import ReplayStream
from fastws.net.stream import ByteStream
from fastws.net.websocket import Peer, WebSocketStream
from fastws.proxy.outgoing import DatagramWay, Receive, error_of
from fastws.proxy.udp import JudgedWay
from fastws.upstream.edge import Lease, Pool
from fastws.upstream.waiting import PoolLimits
from fastws.wire.pool import MAX_DATA, Status

logger = logging.getLogger("fastws.proxy")

_GOODBYE = 1.0  # seconds in which a server answers our Close at the end

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
        tcp_user_timeout: of connections while they carry a stream; 0: the system's.
        probe: between probes of idle connections to a stranger; 0: none.
        retry_pooled: used connections that are tried for a stream before a fresh
            one; 0: nothing is tried twice.
        retry_data: bytes of a client to keep for that.
        connect_only: nothing is tried twice once a client's bytes were sent.
    """

    limits: PoolLimits = field(default_factory=PoolLimits)
    copy: CopyOptions = field(default_factory=CopyOptions)
    connect_timeout: float = _consts.CONNECT_TIMEOUT
    open_timeout: float = _consts.CONNECT_TIMEOUT + _consts.HANDSHAKE_TIMEOUT
    max_data: int = MAX_DATA
    tcp_user_timeout: float = 0.0
    probe: float = 0.0
    retry_pooled: int = 2
    retry_data: int = 64 * 1024
    connect_only: bool = False


class _Ended(Exception):
    """A connection ended before it was known what became of the stream's target.

    Attributes:
        is_safe: the same stream may be begun on another one.
    """

    def __init__(self, reason: str, *, is_safe: bool) -> None:
        super().__init__(reason)
        self.is_safe = is_safe


class PooledWay:
    """Opens streams through WebSockets that wait in a pool. One event loop.

    Args:
        name: of the server, for errors.
        upgrade: opens one WebSocket; raises :class:`DialError`.
        options: sizes and times.
        access: what may be asked for; ``None``: everything.

    Attributes:
        name: as given.
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
        self.name = name
        self._upgrade = upgrade
        self._options = options
        self._access = access
        self._leases: dict[PooledSocket, Lease[PooledSocket]] = {}
        self._sockets: set[PooledSocket] = set()
        self.pool: Pool[PooledSocket] = Pool(
            self._open_socket,
            PooledSocket.close,
            options.limits,
            open_timeout=options.open_timeout,
            is_reusable=_is_idle,
            probe=partial(prove, patience=options.limits.probe_time),
        )
        self._is_down = False
        self._timer: asyncio.TimerHandle | None = None
        if options.probe:
            self._probe()

    async def open(self, host: str, port: int, via: str = "") -> ByteStream:
        """See :class:`fastws.proxy.outgoing.Outgoing`; ``via`` has no place there."""
        if self._access is not None:
            self._access.check_asked(host, port)
        return await self._begin(host, port, 0)

    async def associate(self, receive: Receive) -> DatagramWay:
        """See :class:`fastws.proxy.outgoing.Outgoing`."""
        for fresh in (False, True):
            lease = await self._borrow(self._options.connect_timeout, fresh=fresh)
            try:
                way = await self._associate(lease, receive)
            except _Ended as error:
                if fresh or not error.is_safe:
                    raise NoUpstream(f"{self.name}: {error}") from error
            else:
                return way if self._access is None else JudgedWay(way, self._access)
        raise AssertionError  # the second turn returns or raises

    async def aclose(self) -> None:
        """Close what is idle now, and the rest when its stream ends; soon reset it."""
        if self._timer is not None:
            self._timer.cancel()
        await self.pool.aclose()
        await self._wait_lost()
        for socket in list(self._sockets):
            socket.abort()
        await self._wait_lost()

    async def _wait_lost(self) -> None:
        lost = [socket.lost for socket in self._sockets]
        if lost:
            await asyncio.wait(lost, timeout=_GOODBYE)

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
            raise NoConnection(f"{self.name}: {error}") from error
        except DialError as error:
            raise NoUpstream(f"{self.name}: {error}") from error

    async def _begin(self, host: str, port: int, tried: int) -> PooledStream:
        """Begin a stream; for it, ``tried`` connections turned out dead already."""
        loop, most = self.pool.loop, self._options.retry_pooled
        deadline = loop.time() + self._options.connect_timeout
        while True:
            fresh = 0 < most <= tried
            lease = await self._borrow(deadline - loop.time(), fresh=fresh)
            try:
                return await self._connect(lease, host, port, tried)
            except _Ended as error:
                if not error.is_safe or tried >= most:
                    raise NoUpstream(f"{self.name}: {error}") from error
            tried += 1
            self._note_retry(host, port)

    async def _begin_again(self, host: str, port: int, tried: int) -> PooledStream:
        self._note_retry(host, port)
        return await self._begin(host, port, tried)

    async def _connect(
        self, lease: Lease[PooledSocket], host: str, port: int, tried: int
    ) -> PooledStream:
        socket, options = lease.connection, self._options
        self._take(lease)
        number = socket.end.track.stream + 1
        try:
            result = await socket.connect(host, port, options.connect_timeout)
        except LocalProtocolError as error:
            self._put_back(socket)
            raise DialError(f"{host}: {error}") from error
        except NoUpstream as error:
            # Nothing but Connect was sent. Whoever closes a fresh connection in place
            # of the answer has not acted on it; else it would end the next one too.
            is_safe = not lease.is_fresh or socket.end.close_received != 0
            raise _Ended(str(error), is_safe=is_safe) from error
        if isinstance(result, Status):
            if result is Status.TIMED_OUT and not lease.is_fresh:
                self.pool.doubt()
            text = f"{join_host_port(host, port)}: {_WORDS.get(result, 'failed')}"
            raise error_of(result, f"{text} (says {self._teller(socket, number)})")
        is_stranger = socket.end.who is Peer.STRANGER
        if not is_stranger or lease.is_fresh or tried >= options.retry_pooled:
            return result
        return ReplayStream(
            socket.end,
            partial(self._begin_again, host, port, tried + 1),
            keep=options.retry_data,
            max_data=options.max_data,
            connect_only=options.connect_only,
        )

    def _note_retry(self, host: str, port: int) -> None:
        self.pool.stats.retried += 1
        text = "%s: a connection was dead; the stream to %s is begun again"
        logger.info(text, self.name, join_host_port(host, port))
        self.pool.doubt()

    async def _associate(
        self, lease: Lease[PooledSocket], receive: Receive
    ) -> DatagramWay:
        socket = lease.connection
        self._take(lease)
        number = socket.end.track.stream + 1
        try:
            result = await socket.associate(receive, self._options.connect_timeout)
        except NoUpstream as error:  # asked in vain: to ask again does nothing twice
            raise _Ended(str(error), is_safe=not lease.is_fresh) from error
        if not isinstance(result, Status):
            return result
        if result is Status.TIMED_OUT and not lease.is_fresh:
            self.pool.doubt()
        if socket.is_idle:  # a stranger, which was not even asked
            self._put_back(socket)
        text = f"UDP: {_WORDS.get(result, 'failed')}"
        raise error_of(result, f"{text} (says {self._teller(socket, number)})")

    def _teller(self, socket: PooledSocket, number: int) -> str:
        """Who told what became of a stream, and how its log names that."""
        ident = socket.end.ident
        return self.name + (ident and f", id={ident}/{number}")

    # -- one connection ------------------------------------------------------------

    async def _open_socket(self) -> PooledSocket:
        stream = await self._open_stream()
        socket = PooledSocket(
            stream,
            self._options.copy,
            max_data=self._options.max_data,
            on_idle=self._put_back,
            on_end=self._forget,
        )
        self._sockets.add(socket)
        socket.lost.add_done_callback(lambda _: self._sockets.discard(socket))
        if socket.reason:
            raise NoUpstream(f"closed at once: {socket.reason}")
        guard(socket)
        return socket

    async def _open_stream(self) -> WebSocketStream:
        """Open a WebSocket; the first failure after a success is logged."""
        try:
            stream = await self._upgrade()
        except DialError as error:
            if not self._is_down:
                self._is_down = True
                logger.warning("no WebSocket to %s: %s", self.name, error)
            raise
        if self._is_down:
            self._is_down = False
            logger.info("%s: WebSockets open again", self.name)
        return stream

    def _take(self, lease: Lease[PooledSocket]) -> None:
        """It will carry a stream.

        Raises:
            _Ended: it has ended since it was lent.
        """
        socket = lease.connection
        if not socket.is_idle:
            lease.release(fit=False)
            raise _Ended(socket.reason or "not idle", is_safe=True)
        self._leases[socket] = lease
        guard(socket, self._options.tcp_user_timeout)

    def _put_back(self, socket: PooledSocket) -> None:
        """Its stream is over, or never began."""
        lease = self._leases.pop(socket, None)
        if lease is not None:
            guard(socket)
            lease.release()

    def _forget(self, socket: PooledSocket) -> None:
        """It can carry no stream any more."""
        lease = self._leases.pop(socket, None)
        if lease is not None:
            lease.release(fit=False)
        else:
            self.pool.lost(socket)

    def _probe(self) -> None:
        """Check the idle ones, now and then."""
        self._timer = self.pool.loop.call_later(self._options.probe, self._probe)
        self.pool.check()


def _is_idle(socket: PooledSocket) -> bool:
    return socket.is_idle
