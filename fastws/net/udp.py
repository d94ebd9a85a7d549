"""Datagrams: what both sides of a flow share, and a socket to one target.

Datagrams are lost on the way, and nobody waits for room: whatever finds a queue full
is dropped and counted, and what ICMP reports is counted and ends nothing. Reads come
in batches; a sink that collects what it got is flushed once a batch.
"""

import asyncio
import errno
import socket
from collections.abc import Sequence
from typing import Any, Protocol

from fastws._consts import RESOLVE_TIMEOUT
from fastws.exceptions import NoUpstream
from fastws.net.bind_udp import udp_socket
from fastws.net.dial import Dialer
from fastws.net.resolve import AddrInfo, resolve
from fastws.net.stream import ByteStream, Hold, Kind
from fastws.net.tls import explain_os

MAX_DATAGRAM = 65535  # bytes of the largest UDP payload there is, and some to spare
BATCH = 64  # datagrams read before others get their turn
_PATIENCE = 8  # turns until a small batch is tried larger


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
        if self._is_reading:
            self._loop.remove_reader(self._sock.fileno())
            self._loop.add_reader(self._sock.fileno(), self._read)

    def send(self, data: memoryview) -> bool:
        try:
            self._sock.send(data)
        except ConnectionRefusedError as exc:  # met by an earlier one (udp(7))
            self.count(exc)
            # Later in this turn the loop may find an answer where it saw an error.
            self._loop.call_soon(self._rearm)
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
