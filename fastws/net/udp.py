"""Datagrams: a listener that tells sources apart, and a socket to one target.

Datagrams are lost on the way, and nobody waits for room: whatever finds a queue full
is dropped and counted, and what ICMP reports is counted and ends nothing. Reads come
in batches; a sink that collects what it got is flushed once a batch.
"""

import asyncio
import errno
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeAlias

from fastws._consts import MAX_CONNECTIONS, RESOLVE_TIMEOUT
from fastws.exceptions import FastwsError, NoUpstream
from fastws.net.bind import describe_listener, format_address
from fastws.net.bind_udp import udp_socket
from fastws.net.dial import Dialer
from fastws.net.resolve import AddrInfo, resolve
from fastws.net.serving import Serving
from fastws.net.stream import ByteStream, Hold, Kind
from fastws.net.tls import explain_os

logger = logging.getLogger("fastws.net")

MAX_DATAGRAM = 65535  # bytes of the largest UDP payload there is, and some to spare
BATCH = 64  # datagrams read before others get their turn
_PATIENCE = 8  # turns until a small batch is tried larger
_PENDING = 64  # datagrams that wait for a flow to open
_PENDING_SIZE = 256 * 1024  # bytes of these
_WARN_EVERY = 60.0  # seconds between two warnings of one kind

FlowHandler: TypeAlias = Callable[["UdpPeer"], Awaitable[None]]
"""``handler(peer)``: returns when the flow is over."""


class Sink(Protocol):
    """Where the datagrams of one flow go."""

    def datagram_received(self, data: memoryview) -> bool:
        """One datagram, valid during the call; true asks for a :meth:`flush`."""

    def flush(self) -> None:
        """The batch has ended."""


class DatagramEnd:
    """The datagram side of one flow.

    Attributes:
        dropped: datagrams lost for want of room, or too large.
        errors: what the system reported instead of taking or giving one.
    """

    __slots__ = ("dropped", "errors")

    def __init__(self) -> None:
        self.dropped = 0
        self.errors = 0

    def attach(self, sink: Sink) -> None:
        """Give every datagram to ``sink``, those that wait already first."""
        raise NotImplementedError

    def send(self, data: memoryview) -> bool:
        """Send one datagram; ``False``: it was dropped, and counted."""
        raise NotImplementedError

    def release(self) -> None:
        """Hand over no more datagrams; sending goes on. Idempotent."""
        raise NotImplementedError

    def close(self) -> None:
        """The flow is over. Idempotent."""
        raise NotImplementedError

    def count(self, exc: OSError) -> bool:
        """Count what the system said; always ``False``."""
        full = isinstance(exc, BlockingIOError)
        if full or exc.errno in (errno.EMSGSIZE, errno.ENOBUFS):
            self.dropped += 1
        else:
            self.errors += 1
        return False


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
        return format_address(*self.address[:2])

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


class Pace:
    """How many datagrams to ask for in one turn: one, or as many as there are.

    To ask once more than there is costs a system call and an exception. So a socket
    whose turns bring single datagrams is asked for one, and now and then for more.

    Attributes:
        batch: 1 or ``BATCH``.
    """

    __slots__ = ("_turns", "batch")

    def __init__(self) -> None:
        self.batch = BATCH
        self._turns = 0

    def reached(self) -> None:
        """All that was asked for has come: there may be more."""
        self._turns += 1
        if self._turns >= _PATIENCE:
            self._turns = 0
            self.batch = BATCH

    def fell_short(self, count: int) -> None:
        """Only ``count`` have come."""
        if count < 2:
            self._turns = 0
            self.batch = 1


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


class UdpSocket(DatagramEnd):
    """A connected UDP socket, the way out of one flow.

    Args:
        sock: connected, non-blocking; owned.
    """

    __slots__ = ("_is_reading", "_loop", "_pace", "_sink", "_sock")

    def __init__(self, sock: socket.socket) -> None:
        super().__init__()
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._sink: Sink | None = None
        self._is_reading = False
        self._pace = Pace()

    def attach(self, sink: Sink) -> None:
        self._sink = sink
        self._is_reading = True
        self._loop.add_reader(self._sock.fileno(), self._read)

    def _read(self) -> None:
        sink = self._sink
        assert sink is not None
        receive = self._sock.recv_into
        memory = _memory
        view, is_dirty = _view, False
        pace = self._pace
        for count in range(pace.batch):
            try:
                size = receive(memory)
            except BlockingIOError:
                pace.fell_short(count)
                if not count:
                    self._rearm()
                break
            except OSError as exc:
                self.count(exc)  # ICMP: nobody listens there now
                self._rearm()
                break
            is_dirty = sink.datagram_received(view[:size]) or is_dirty
            if not self._is_reading:
                return
        else:
            pace.reached()
        if is_dirty:
            sink.flush()

    def _rearm(self) -> None:
        """libuv stops watching a descriptor that had an error: begin anew.

        The error itself may be gone, met by a send that came before this turn.
        """
        self._loop.remove_reader(self._sock.fileno())
        self._loop.add_reader(self._sock.fileno(), self._read)

    def send(self, data: memoryview) -> bool:
        try:
            self._sock.send(data)
        except ConnectionRefusedError as exc:  # met by an earlier one (udp(7))
            self.count(exc)
            return self._send_again(data)
        except OSError as exc:
            return self.count(exc)
        return True

    def _send_again(self, data: memoryview) -> bool:
        try:
            self._sock.send(data)
        except OSError as exc:
            return self.count(exc)
        return True

    def release(self) -> None:
        if self._is_reading:
            self._is_reading = False
            self._loop.remove_reader(self._sock.fileno())

    def close(self) -> None:
        self.release()
        self._sock.close()

    def abort(self) -> None:
        """As of a transport that nobody uses."""
        self.close()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """As of a transport that has nothing to tell."""
        return default


_memory = bytearray(MAX_DATAGRAM)  # each read is used up before the next one
_view = memoryview(_memory)


class UdpStream(ByteStream):
    """What :class:`UdpDialer` opens: its transport can only be given up.

    Attributes:
        end: the datagrams.
    """

    __slots__ = ("end",)

    def __init__(self, end: UdpSocket) -> None:
        transport: Any = end
        super().__init__(transport, Kind.UDP, Hold())
        self.end = end


class UdpDialer(Dialer):
    """Opens a socket of its own for each flow to one target; nothing is sent."""

    __slots__ = ()

    async def dial(
        self, timeout: float | None = None, preface: bytes = b""
    ) -> ByteStream:
        """A :class:`UdpStream`.

        Raises:
            DialTimeout: the name was not resolved in time.
            NoUpstream: unknown name, or no way there.
        """
        assert isinstance(self.address, tuple)
        infos: Sequence[AddrInfo] = self._literal
        if not infos:
            limit = self.connect_timeout if timeout is None else timeout
            limit = min(limit, RESOLVE_TIMEOUT)
            infos = await resolve(*self.address, timeout=limit)
        try:
            sock = udp_socket(infos[0].family)
            try:
                sock.connect(infos[0].sockaddr)
            except OSError:
                sock.close()
                raise
        except OSError as exc:
            raise NoUpstream(f"udp:{self.name}: {explain_os(exc)}") from exc
        return UdpStream(UdpSocket(sock))
