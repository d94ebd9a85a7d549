"""The way in for datagrams: a listener that tells sources apart."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from fastws._address import join_host_port
from fastws._consts import MAX_CONNECTIONS
from fastws.exceptions import FastwsError
from fastws.net.bind import describe_listener
from fastws.net.bind_udp import ANCILLARY, bind_twin, local_address, tells_local
from fastws.net.serving import Serving
from fastws.net.udp import BATCH, MAX_DATAGRAM, DatagramEnd, Pace, Sink

logger = logging.getLogger("fastws.net")

_PENDING = 64  # datagrams that wait for a flow to open
_PENDING_SIZE = 256 * 1024  # bytes of these
_MAX_TWINS = 64  # addresses of this machine that get a socket of their own
_WARN_EVERY = 60.0  # seconds between two warnings of one kind

FlowHandler: TypeAlias = Callable[["UdpPeer"], Awaitable[None]]
"""``handler(peer)``: returns when the flow is over."""


class UdpPeer(DatagramEnd):
    """One source of a :class:`UdpListener`.

    Attributes:
        address: as the socket gives it.
    """

    __slots__ = ("_listener", "_pending", "_pending_size", "_sock", "address", "sink")

    def __init__(
        self, listener: "UdpListener", sock: socket.socket, address: tuple[Any, ...]
    ) -> None:
        super().__init__()
        self.address = address
        self.sink: Sink | None = None
        self._listener = listener
        self._sock = sock
        self._pending: list[bytes] = []
        self._pending_size = 0

    def __str__(self) -> str:
        return join_host_port(*self.address[:2])

    def hold(self, data: memoryview) -> None:
        """Keep a datagram for the flow that is being opened, or drop it."""
        size = self._pending_size + len(data)
        if len(self._pending) >= _PENDING or size > _PENDING_SIZE:
            self.dropped += 1
        else:
            self._pending.append(bytes(data))
            self._pending_size = size

    def attach(self, sink: Sink) -> None:
        pending, self._pending = self._pending, []
        for data in pending:
            sink.datagram_received(memoryview(data))
        sink.flush()
        self.sink = sink

    def fail(self) -> None:
        """No flow opens: what waits, and what comes until the end, is dropped."""
        self.dropped += len(self._pending)
        self._pending.clear()
        self._pending_size = _PENDING_SIZE

    def send(self, data: memoryview) -> bool:
        try:
            self._sock.sendto(data, self.address)
        except OSError as exc:
            return self.count(exc)
        return True

    def release(self) -> None:
        self._listener.forget(self)

    def close(self) -> None:
        self._listener.forget(self)


class UdpListener(Serving):
    """Accepts datagrams and runs a handler for each source, in its own task.

    It has the face of :class:`fastws.net.listen.Listener`. For one event loop; the
    sockets are owned from the start.

    Args:
        socks: bound, non-blocking.
        handler: awaited with the peer at its first datagram. When it returns, the
            peer's next datagram is a first one again.
        max_connections: flows at once; sources beyond that are dropped.

    Attributes:
        accepted: flows since the start.
        dropped: datagrams of sources that found all flows taken.
    """

    def __init__(
        self,
        socks: Sequence[socket.socket],
        handler: FlowHandler,
        *,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        super().__init__()
        self.accepted = self.dropped = self.errors = 0
        self.max_connections = max_connections
        self.addresses = [f"udp:{describe_listener(sock)}" for sock in socks]
        self.tls = None
        self._socks = list(socks)
        self._open = list(socks)  # those that take new datagrams
        self._handler = handler
        self._peers: dict[socket.socket, dict[Any, UdpPeer]] = {s: {} for s in socks}
        self._wide = {sock for sock in socks if tells_local(sock)}
        self._twins: dict[tuple[socket.socket, Any], socket.socket] = {}
        self._loop: Any = None
        self._memory = bytearray(MAX_DATAGRAM)
        self._view = memoryview(self._memory)
        self._pace = Pace()
        self._warned_at = -_WARN_EVERY

    @property
    def is_full(self) -> bool:
        """Whether a new source would be dropped."""
        return len(self._tasks) >= self.max_connections

    @property
    def is_closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return not self._open

    def start(self) -> None:
        """Begin to receive, on the running loop."""
        self._loop = asyncio.get_running_loop()
        for sock in self._socks:
            self._watch(sock)

    def _watch(self, sock: socket.socket) -> None:
        """Begin to read, or begin anew."""
        self._loop.remove_reader(sock.fileno())
        if sock in self._wide:
            self._loop.add_reader(sock.fileno(), self._read_wide, sock)
        else:
            self._loop.add_reader(sock.fileno(), self._read, sock, self._peers[sock])

    def close(self) -> None:
        """Take no new sources; open flows run on. Idempotent."""
        self._open.clear()
        self._close_socks()

    def _close_socks(self) -> None:
        """The sockets are needed for as long as there are flows."""
        if self._open or self._tasks:
            return
        for sock in self._socks:
            if self._loop is not None:
                self._loop.remove_reader(sock.fileno())
            sock.close()
        self._socks.clear()

    def forget(self, peer: UdpPeer) -> None:
        """The peer's next datagram opens another flow."""
        peers = self._peers.get(peer._sock)
        if peers is not None and peers.get(peer.address) is peer:
            del peers[peer.address]

    def _read(self, sock: socket.socket, peers: dict[Any, UdpPeer]) -> None:
        """Receive what waits, at most ``BATCH``."""
        receive, memory, view = sock.recvfrom_into, self._memory, self._view
        touched: list[Sink] = []
        pace = self._pace
        for count in range(pace.batch):
            try:
                size, address = receive(memory)
            except BlockingIOError:
                pace.fell_short(count)
                break
            except OSError:  # ICMP, where the system tells unconnected sockets
                self.errors += 1
                self._watch(sock)  # libuv stops at an error
                break
            peer = peers.get(address)
            sink = None if peer is None else peer.sink
            if sink is None:
                self._receive_early(sock, address, peer, view[:size])
            elif sink.datagram_received(view[:size]):
                touched.append(sink)
        else:
            pace.reached()
        for sink in touched:
            sink.flush()

    def _read_wide(self, sock: socket.socket) -> None:
        """The same at a socket of all addresses: each gets a socket of its own.

        Answers have to leave from the address that was asked. What comes later to
        that address comes to the new socket.
        """
        touched: list[Sink] = []
        view = self._view
        for _ in range(BATCH):
            try:
                size, said, _, source = sock.recvmsg_into([view], ANCILLARY)
            except BlockingIOError:
                break
            except OSError:
                self.errors += 1
                self._watch(sock)
                break
            own = self._twin(sock, local_address(said, sock.getsockname()[1]))
            peer = self._peers[own].get(source)
            if peer is None or peer.sink is None:
                self._receive_early(own, source, peer, view[:size])
            elif peer.sink.datagram_received(view[:size]):
                touched.append(peer.sink)
        for sink in touched:
            sink.flush()

    def _twin(self, sock: socket.socket, local: Any) -> socket.socket:
        """The socket of one address beside ``sock``, which itself is second best."""
        twin = self._twins.get((sock, local))
        if twin is not None:
            return twin
        if local is None or len(self._twins) >= _MAX_TWINS or not self._open:
            return sock
        try:
            twin = bind_twin(sock.family, local)
        except OSError:  # as of an address that left in this moment
            return sock
        self._twins[sock, local] = twin
        self._peers[twin] = {}
        self._socks.append(twin)
        self._watch(twin)
        return twin

    def _receive_early(
        self,
        sock: socket.socket,
        address: tuple[Any, ...],
        peer: UdpPeer | None,
        data: memoryview,
    ) -> None:
        """A datagram of a flow that is not open yet."""
        if peer is None:
            if self.is_full or not self._open:
                self._refuse()
                return
            peer = self._peers[sock][address] = UdpPeer(self, sock, address)
            self.accepted += 1
            task = self._loop.create_task(self._serve(peer))
            self._tasks.add(task)
            task.add_done_callback(self._end)
        peer.hold(data)

    def _refuse(self) -> None:
        self.dropped += 1
        now = self._loop.time()
        if self._open and now - self._warned_at >= _WARN_EVERY:
            self._warned_at = now
            logger.warning(
                "%s: datagrams of new sources are dropped: all %d flows are in use "
                "(--max-connections)",
                ", ".join(self.addresses),
                self.max_connections,
            )

    async def _serve(self, peer: UdpPeer) -> None:
        """Run one flow."""
        try:
            await self._handler(peer)
        except (FastwsError, OSError) as exc:
            logger.warning("flow failed: %s", exc)
        except Exception as exc:
            logger.error(
                "flow failed: %s: %s",
                type(exc).__name__,
                exc,
                exc_info=logger.isEnabledFor(logging.DEBUG),
            )
        finally:
            self.forget(peer)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._close_socks()
