"""UDP ASSOCIATE: a client's datagrams, and the direct way out for them.

Source: RFC 1928 sections 6 and 7. Nobody waits: whatever finds no room is dropped and
counted. Fragments are dropped, as the RFC allows.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from fastws._consts import RESOLVE_TIMEOUT, UDP_IDLE
from fastws.exceptions import (
    Denied,
    DialError,
    LocalProtocolError,
    RemoteProtocolError,
)
from fastws.net.access import Access
from fastws.net.bind_udp import udp_socket
from fastws.net.dial import Dialer, Outlet
from fastws.net.resolve import AddrInfo, parse_literal
from fastws.net.udp import BATCH, MAX_DATAGRAM
from fastws.proxy.outgoing import DatagramWay
from fastws.wire.socks5 import decode_datagram, encode_datagram

MAX_TARGETS = 256
"""Targets that one association remembers; the one unused for longest goes."""

MAX_NEW = 128
"""Targets that are judged in one turn of the loop: each takes some 0.1 ms, which other
clients wait for. What is for further new ones is dropped."""

MAX_WAITING = 16
"""Datagrams of one association that may wait for names to be resolved."""

_memory = bytearray(MAX_DATAGRAM)  # each read is used up before the next one
_view = memoryview(_memory)


class _Reader:
    """Reads datagrams of an unconnected socket, which it owns."""

    __slots__ = ("_give", "_loop", "sock")

    def __init__(
        self, sock: socket.socket, give: Callable[[memoryview, Any], None]
    ) -> None:
        self.sock = sock
        self._give = give
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock.fileno(), self._read)

    def _read(self) -> None:
        for _ in range(BATCH):
            try:
                size, source = self.sock.recvfrom_into(_memory)
            except BlockingIOError:
                return
            except OSError:  # libuv stops watching a descriptor that had an error
                self._loop.remove_reader(self.sock.fileno())
                self._loop.add_reader(self.sock.fileno(), self._read)
                return
            self._give(_view[:size], source)
            if self.sock.fileno() < 0:
                return

    def close(self) -> None:
        if self.sock.fileno() >= 0:
            self._loop.remove_reader(self.sock.fileno())
            self.sock.close()


class Association:
    """The client's side: one socket, which hears the client only.

    Args:
        local: the address that the client's TCP connection reached; a socket beside
            it is bound.
        client: the client's address, without a port.
        port: the client's port where it has said so, otherwise 0: the first
            datagram tells.

    Attributes:
        way: where the datagrams go; set before any can come.
        address: host and port that the socket is bound to.
        received: datagrams of the client that were passed on.
        sent: datagrams that were passed to the client.
        bytes_in: their payload, of received ones.
        bytes_out: likewise of sent ones.
        dropped: datagrams lost, malformed, or fragments.
        foreign: datagrams of somebody else.

    Raises:
        OSError: no such socket can be had.
    """

    def __init__(self, local: Any, client: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in local[0] else socket.AF_INET
        sock = udp_socket(family)
        try:
            sock.bind((local[0], 0, *local[2:]))
        except BaseException:
            sock.close()
            raise
        self.address: tuple[str, int] = sock.getsockname()[:2]
        self.way: DatagramWay | None = None
        self.received = self.sent = self.dropped = self.foreign = 0
        self.bytes_in = self.bytes_out = 0
        self._client = client.partition("%")[0]
        self._port = port
        self._target: Any = None  # sockaddr of the client, once it is known
        self._reader = _Reader(sock, self._from_client)

    def _from_client(self, data: memoryview, source: Any) -> None:
        if source[0].partition("%")[0] != self._client or (
            self._port and source[1] != self._port
        ):
            self.foreign += 1
            return
        try:
            datagram = decode_datagram(data)
        except RemoteProtocolError:
            self.dropped += 1
            return
        if datagram.fragment or self.way is None:
            self.dropped += 1
            return
        self._port, self._target = source[1], source
        self.received += 1
        self.bytes_in += len(datagram.payload)
        self.way.send(datagram.host, datagram.port, datagram.payload)

    def to_client(self, host: str, port: int, payload: memoryview) -> None:
        """Pass on what came from a target."""
        if self._target is None:
            self.dropped += 1
            return
        try:
            data = encode_datagram(host, port, payload)
            self._reader.sock.sendto(data, self._target)
        except (OSError, LocalProtocolError):
            self.dropped += 1
        else:
            self.sent += 1
            self.bytes_out += len(payload)

    def close(self) -> None:
        """Both sides end. Idempotent."""
        self._reader.close()
        if self.way is not None:
            self.way.close()

    def __str__(self) -> str:
        dropped, denied = self.dropped, ""
        if self.way is not None:
            dropped += self.way.dropped
            denied = describe_denied(self.way)
        text = f"{self.received} datagrams received, {self.sent} sent"
        return f"{text}, {dropped} dropped, {self.foreign} foreign{denied}"


class JudgedWay:
    """Asks access rules before a datagram goes a way that others resolve names for.

    Args:
        way: owned.
        access: asked for each target.
    """

    __slots__ = ("_access", "_way", "denied", "reason")

    def __init__(self, way: DatagramWay, access: Access) -> None:
        self._way = way
        self._access = access
        self.denied = 0
        self.reason = ""

    @property
    def dropped(self) -> int:
        """See :class:`fastws.proxy.outgoing.DatagramWay`."""
        return self._way.dropped

    @property
    def ident(self) -> str:
        """See :class:`fastws.proxy.outgoing.DatagramWay`."""
        return self._way.ident

    @property
    def done(self) -> asyncio.Future[str]:
        """See :class:`fastws.proxy.outgoing.DatagramWay`."""
        return self._way.done

    def send(self, host: str, port: int, payload: memoryview) -> None:
        try:
            self._access.check_asked(host, port)
        except Denied as error:
            self.denied += 1
            self.reason = self.reason or str(error)
        else:
            self._way.send(host, port, payload)

    def close(self) -> None:
        self._way.close()


def describe_denied(way: DatagramWay) -> str:
    """How many datagrams rules forbade, for the log; empty for none."""
    return f", {way.denied} denied ({way.reason})" if way.denied else ""


class DirectDatagrams:
    """The direct way out: one socket a family, which hears known targets only.

    Args:
        receive: gets what comes back.
        access: asked for each target.
        outlet: where to leave this machine.
        idle: seconds after which a silent target is forgotten.
    """

    ident = ""  # no far end

    def __init__(
        self,
        receive: Callable[[str, int, memoryview], None],
        *,
        access: Access | None = None,
        outlet: Outlet | None = None,
        idle: float = UDP_IDLE,
    ) -> None:
        self.dropped = self.denied = 0
        self.reason = ""
        self._receive = receive
        self._access = access
        self._outlet = outlet
        self._idle = idle
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[str] = self._loop.create_future()
        self._readers: dict[int, _Reader] = {}
        # As asked for: where that is, and until when this may be believed.
        self._known: dict[tuple[str, int], tuple[AddrInfo, float]] = {}
        # Addresses that may answer, and when they were last sent to.
        self._targets: dict[tuple[str, int], float] = {}
        self._waiting: dict[tuple[str, int], list[bytes]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._new = 0  # targets that were judged in this turn of the loop
        self._is_closed = False

    def send(self, host: str, port: int, payload: memoryview) -> None:
        asked = (host, port)
        known = self._known.get(asked)
        if known is not None and known[1] > self._loop.time():
            self._send_to(known[0], payload)
            return
        if self._new >= MAX_NEW:
            self.dropped += 1
            return
        if not self._new:
            self._loop.call_soon(self._begin_turn)
        self._new += 1
        literal = parse_literal(host, port)
        if literal is None:
            self._wait_for_name(asked, payload)
            return
        try:
            if self._access is not None:
                self._access.admit(host, port, (literal,))
        except Denied as error:
            self._deny(error, 1)
            return
        self._remember(asked, literal)
        self._send_to(literal, payload)

    def _begin_turn(self) -> None:
        self._new = 0

    def _deny(self, error: Denied, count: int) -> None:
        self.denied += count
        self.reason = self.reason or str(error)

    def _remember(self, asked: tuple[str, int], info: AddrInfo) -> None:
        _make_room(self._known)
        self._known[asked] = info, self._loop.time() + self._idle

    def _wait_for_name(self, asked: tuple[str, int], payload: memoryview) -> None:
        """Keep a copy until the name is resolved, if there is room."""
        if sum(map(len, self._waiting.values())) >= MAX_WAITING or self._is_closed:
            self.dropped += 1
            return
        waiting = self._waiting.get(asked)
        if waiting is not None:
            waiting.append(bytes(payload))
            return
        self._waiting[asked] = [bytes(payload)]
        task = self._loop.create_task(self._resolve(asked))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _resolve(self, asked: tuple[str, int]) -> None:
        error: DialError | None = None
        try:
            infos = await Dialer(asked, access=self._access).find(RESOLVE_TIMEOUT)
            if self._outlet is not None:
                infos = self._outlet.usable(infos)
        except DialError as exc:
            error = exc
        except OSError as exc:
            error = DialError(str(exc))
        waiting = self._waiting.pop(asked, [])
        if isinstance(error, Denied):
            self._deny(error, len(waiting))
        elif error is not None:
            self.dropped += len(waiting)
        elif not self._is_closed:
            self._remember(asked, infos[0])
            for payload in waiting:
                self._send_to(infos[0], memoryview(payload))

    def _send_to(self, info: AddrInfo, payload: memoryview) -> None:
        if self._is_closed:
            return
        host, port = info.sockaddr[:2]
        target = str(host).partition("%")[0], int(port)
        try:
            reader = self._readers.get(info.family) or self._open(info.family)
            reader.sock.sendto(payload, info.sockaddr)
        except (OSError, OverflowError):
            self.dropped += 1
            return
        self._targets.pop(target, None)  # the newest stands last
        _make_room(self._targets)
        self._targets[target] = self._loop.time()

    def _open(self, family: int) -> _Reader:
        sock = udp_socket(family)
        try:
            if self._outlet is not None:
                self._outlet.apply(sock)
            # Unbound it would miss an answer that comes before the first send ends.
            if self._outlet is None or self._outlet.family is None:
                sock.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", 0))
        except BaseException:
            sock.close()
            raise
        reader = self._readers[family] = _Reader(sock, self._from_target)
        return reader

    def _from_target(self, data: memoryview, source: Any) -> None:
        target = source[0].partition("%")[0], source[1]
        asked_at = self._targets.get(target)
        if asked_at is None or self._loop.time() - asked_at > self._idle:
            self.dropped += 1
            return
        self._receive(*target, data)

    def close(self) -> None:
        self._is_closed = True
        if not self.done.done():
            self.done.set_result("")
        for task in self._tasks:
            task.cancel()
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()


def _make_room(entries: dict[tuple[str, int], Any]) -> None:
    """Let the oldest entry go when there are as many as may be."""
    if len(entries) >= MAX_TARGETS:
        del entries[next(iter(entries))]
