"""The only way in: owns the listening sockets and accepts from them.

Every accepted connection gets one task, which shakes hands (TLS) and then runs the
handler, so nobody waits for anybody else's handshake. When descriptors or memory run
out, or the listener is full, the reader is taken away for ``ACCEPT_PAUSE``: clients
wait in the backlog and no CPU is burnt.
"""

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from fastws._address import join_host_port
from fastws._consts import (
    ACCEPT_BATCH,
    ACCEPT_PAUSE,
    HANDSHAKE_TIMEOUT,
    LINGER,
    MAX_CONNECTIONS,
)
from fastws.exceptions import FastwsError
from fastws.net.bind import (
    adopt_fd,
    bind_tcp,
    bind_unix,
    describe_listener,
    open_listeners,
)
from fastws.net.prelude import Prelude
from fastws.net.serving import Serving
from fastws.net.sockopt import tune
from fastws.net.stream import Hold
from fastws.net.tls import explain_os, explain_tls, fast_tls

__all__ = ["Handler", "Listener", "adopt_fd", "bind_tcp", "bind_unix", "open_listeners"]

logger = logging.getLogger("fastws.net")

Handler: TypeAlias = Callable[[Any, Any], Awaitable[None]]
"""``handler(transport, protocol)``: returns when the connection is over."""

# The same warning is repeated no sooner than this, seconds.
_WARN_EVERY = 60.0
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
# accept(2): errors of the new connection, not of the listening socket.
_ABORTED = {
    getattr(errno, name)
    for name in (
        "ECONNABORTED",
        "EHOSTDOWN",
        "EHOSTUNREACH",
        "EINTR",
        "ENETDOWN",
        "ENETUNREACH",
        "ENONET",
        "ENOPROTOOPT",
        "EOPNOTSUPP",
        "EPERM",
        "EPROTO",
    )
    if hasattr(errno, name)
}


class Accepted(socket.socket):
    """A socket whose family and type are plain numbers.

    ``socket.accept`` and the event loop look both up several times a connection; as
    enum members each look-up costs more than a system call.
    """

    __slots__ = ()

    family = socket.SocketType.family  # type: ignore[assignment]
    type = socket.SocketType.type  # type: ignore[assignment]


class Listener(Serving):
    """Accepts connections and runs a handler for each, in its own task.

    For one event loop. The sockets are owned from the start and closed by
    :meth:`close`.

    Args:
        socks: listening, non-blocking.
        handler: awaited with transport and protocol once the connection stands. It
            owns both and returns when the connection is over; a transport it leaves
            open is aborted.
        protocol_factory: makes the protocol of each connection.
        tls: a server context (retained); assign :attr:`tls` to change it for new
            connections.
        handshake_timeout: seconds for the TLS handshake.
        linger: seconds a closing TLS transport waits for its peer.
        max_connections: from here on the listener is full.
        overflow: connections past that which are accepted all the same: the
            handler, which counts for itself, turns them away.
        tcp_user_timeout: seconds, see :func:`fastws.net.sockopt.tune`; 0 is off.
        prelude: looks at every socket first; protocols then need ``arrival``, and
            connections that it refuses are handed over plain.

    Attributes:
        accepted: connections accepted since the start.
    """

    def __init__(
        self,
        socks: Sequence[socket.socket],
        handler: Handler,
        *,
        protocol_factory: Callable[[], asyncio.BaseProtocol] = Hold,
        tls: ssl.SSLContext | None = None,
        handshake_timeout: float = HANDSHAKE_TIMEOUT,
        linger: float = LINGER,
        max_connections: int = MAX_CONNECTIONS,
        overflow: int = 0,
        tcp_user_timeout: float = 0.0,
        prelude: Prelude | None = None,
    ) -> None:
        super().__init__()
        self.accepted = 0
        self.max_connections = max_connections
        self.overflow = overflow
        self.tls = tls
        self.addresses = [describe_listener(sock) for sock in socks]
        self._socks = list(socks)
        self._family = {sock: int(sock.family) for sock in socks}
        self._handler = handler
        self._factory = protocol_factory
        self._handshake_timeout = handshake_timeout
        self._linger = linger
        self._prelude = prelude
        self._loop: Any = None
        self._pause: asyncio.TimerHandle | None = None
        self._waits_for_room = False
        self._warned: dict[str, float] = {}
        for sock in socks:
            tune(sock, tcp_user_timeout=tcp_user_timeout)  # accepted ones inherit it

    def __repr__(self) -> str:
        where = ", ".join(self.addresses)
        return f"<{type(self).__name__} {where} active={self.active}>"

    @property
    def is_closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return not self._socks

    def start(self) -> None:
        """Begin to accept, on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._resume()

    def close(self) -> None:
        """Stop accepting and close the sockets; connections run on. Idempotent."""
        self._suspend()
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        for sock in self._socks:
            sock.close()
        self._socks.clear()

    def forsake(self, other: "Listener") -> None:
        """Close the sockets that ``other`` does not share; for forked workers."""
        kept = {sock.fileno() for sock in other._socks}
        for sock in self._socks:
            if sock.fileno() not in kept:
                sock.close()
        self._socks.clear()

    def _suspend(self) -> None:
        """Take the readers away."""
        if self._loop is not None:
            for sock in self._socks:
                self._loop.remove_reader(sock.fileno())

    def _resume(self) -> None:
        """Put the readers back."""
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        self._waits_for_room = False
        for sock in self._socks:
            self._loop.add_reader(sock.fileno(), self._accept, sock)

    def _rest(self, reason: str) -> None:
        """Stop accepting for ``ACCEPT_PAUSE`` and say so, not too often."""
        self._suspend()
        self._pause = self._loop.call_later(ACCEPT_PAUSE, self._resume)
        now = self._loop.time()
        if now - self._warned.get(reason, -_WARN_EVERY) >= _WARN_EVERY:
            self._warned[reason] = now
            where = ", ".join(self.addresses)
            logger.warning("%s: accepting pauses: %s", where, reason)

    def _accept(self, sock: socket.socket) -> None:
        """Accept what waits, at most ``ACCEPT_BATCH``."""
        tasks = self._tasks
        for _ in range(ACCEPT_BATCH):
            if self.active >= self.max_connections + self.overflow:
                self._waits_for_room = True
                self._rest(f"all {self.max_connections} connections are in use")
                return
            try:
                fd, peer = sock._accept()  # type: ignore[attr-defined]
            except BlockingIOError:
                return
            except OSError as exc:
                if exc.errno in _ABORTED:
                    continue
                self._rest(explain_os(exc))
                return
            self.accepted += 1
            conn = Accepted(self._family[sock], socket.SOCK_STREAM, 0, fd)
            task = self._loop.create_task(self._serve(conn, peer))
            tasks.add(task)
            task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        """Forget a connection; there is room for another."""
        self._tasks.discard(task)
        if self._waits_for_room:
            self._resume()

    async def _serve(self, conn: socket.socket, peer: Any) -> None:
        """Run one connection; whatever the handler does, nothing stays open."""
        try:
            if self._prelude is not None:
                transport, protocol = await self._arrive(conn, peer, self._prelude)
            elif self.tls is None:
                transport, protocol = await self._loop.connect_accepted_socket(
                    self._factory, conn
                )
            else:
                protocol = self._factory()
                transport = await self._shake_hands(conn, self.tls, protocol)
        except OSError as exc:
            who = join_host_port(*peer[:2]) if isinstance(peer, tuple) else "unix"
            what = "TLS handshake" if self.tls is not None else "connection"
            logger.info("%s: %s failed: %s", who, what, explain_tls(exc))
            return
        if isinstance(protocol, Hold):
            protocol.peer = peer
        del conn, peer  # an idle connection keeps nothing it does not need
        try:
            await self._handler(transport, protocol)
        except (FastwsError, OSError) as exc:
            logger.warning("connection failed: %s", exc)
        except Exception as exc:
            logger.error(
                "connection failed: %s: %s",
                type(exc).__name__,
                exc,
                exc_info=logger.isEnabledFor(logging.DEBUG),
            )
        finally:
            if not transport.is_closing():
                transport.abort()

    async def _arrive(
        self, conn: socket.socket, peer: Any, prelude: Prelude
    ) -> tuple[Any, Any]:
        """Read what comes before TLS or HTTP, then make the transport it needs."""
        protocol: Any = self._factory()
        timeout = self._handshake_timeout
        started = self._loop.time()
        try:
            if peer is None:  # handed over connected, not accepted here
                peer = conn.getpeername()
            host = peer[0] if isinstance(peer, tuple) else ""
            arrival = await prelude.read(conn, host, timeout)
            protocol.arrival = arrival
            if arrival.is_tls and self.tls is not None:
                timeout -= self._loop.time() - started
                # uvloop has no time-outs of 0 or less.
                timeout = max(timeout, 0.001)
                transport = await self._shake_hands(conn, self.tls, protocol, timeout)
                return transport, protocol
            transport, _ = await self._loop.connect_accepted_socket(
                lambda: protocol, conn
            )
        except BaseException:
            conn.close()
            raise
        return transport, protocol

    async def _shake_hands(
        self,
        conn: socket.socket,
        context: ssl.SSLContext,
        protocol: asyncio.BaseProtocol,
        timeout: float | None = None,
    ) -> Any:
        """Make a TLS transport with our protocol on it."""
        module = fast_tls(self._loop)
        accept: Any = self._loop.connect_accepted_socket
        args: tuple[Any, ...] = (lambda: protocol, conn)
        if module is not None:
            accept = module.connect_accepted_socket
            args = (self._loop, *args)
        # The second thing that uvloop returns is not our protocol but its own.
        transport, _ = await accept(
            *args,
            ssl=context,
            ssl_handshake_timeout=timeout or self._handshake_timeout,
            ssl_shutdown_timeout=self._linger,
        )
        return transport
