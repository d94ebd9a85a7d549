"""The only way out: opens an upstream, plain or TLS, TCP or unix socket.

A literal address, or a name with a single one, takes the loop's own connect; names
with several race them (RFC 8305). Whatever fails is one :class:`DialError` whose
text says what, where and why, and leaves nothing open.
"""

import asyncio
import errno
import socket
import ssl
import sys
from collections.abc import Coroutine, Sequence
from typing import Any

from fastws._address import join_host_port
from fastws._consts import (
    ATTEMPT_DELAY,
    CONNECT_TIMEOUT,
    HANDSHAKE_TIMEOUT,
    LINGER,
    RESOLVE_TIMEOUT,
)
from fastws.exceptions import (
    ConnectRefused,
    DialError,
    DialTimeout,
    NetworkUnreachable,
    NoUpstream,
    Unreachable,
)
from fastws.net.access import Access
from fastws.net.deadlines import Limit, start_limit
from fastws.net.resolve import AddrInfo, parse_literal, resolve
from fastws.net.sockopt import let_go, tune, tune_transport
from fastws.net.stream import ByteStream, Hold, Kind
from fastws.net.tls import explain_os, explain_tls, fast_tls
from fastws.typing import Address

# A unix listener with a full backlog refuses at once; asked again after this, s.
_UNIX_RETRY = 0.01
_IP_BIND_ADDRESS_NO_PORT = 24  # Linux; the socket module has it from 3.12 on

_FAILURES: dict[int, type[NoUpstream]] = {
    errno.ECONNREFUSED: ConnectRefused,
    errno.ENETUNREACH: NetworkUnreachable,
    errno.EHOSTUNREACH: Unreachable,
    errno.EADDRNOTAVAIL: Unreachable,
}


class Deadline:
    """A time limit for a block of one task, as ``asyncio.timeout`` but cheaper.

    A plain context manager: ``with Deadline(loop, seconds):`` around awaits. When the
    time is over the task is cancelled and the block raises ``TimeoutError``, whose
    ``errno`` is ``None``. A cancellation from elsewhere passes through.

    Args:
        loop: the running loop.
        seconds: from now; 0 or less ends the block at its next await.
        is_usual: it is an option's value, not what is left of one.
    """

    __slots__ = ("_cancelling", "_has_fired", "_task", "_timer")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, seconds: float, is_usual: bool = False
    ) -> None:
        task = asyncio.current_task(loop)
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._has_fired = False
        self._timer: Limit | asyncio.TimerHandle
        if is_usual:
            self._timer = start_limit(loop, seconds, self._fire)
        else:
            self._timer = loop.call_later(seconds, self._fire)

    def _fire(self) -> None:
        self._has_fired = True
        self._task.cancel()

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, exc: BaseException | None, _: object) -> None:
        self._timer.cancel()
        if self._has_fired and self._task.uncancel() <= self._cancelling:
            if isinstance(exc, asyncio.CancelledError):
                raise TimeoutError from exc


class Outlet:
    """Where connections leave this machine.

    Args:
        source: address of this machine to connect from, an IPv6 one without brackets.
        device: network interface to connect through (Linux).

    Raises:
        NoUpstream: this system cannot bind sockets to an interface.
        ValueError: ``source`` is no address.
    """

    __slots__ = ("_device", "_sockaddr", "family", "source")

    def __init__(self, source: str | None = None, device: str | None = None) -> None:
        info = None if source is None else parse_literal(source, 0)
        if source is not None and info is None:
            raise ValueError(f"{source!r} is not an address")
        if device is not None and not hasattr(socket, "SO_BINDTODEVICE"):
            raise NoUpstream("this system cannot bind to an interface")
        self.source = source
        self.family = None if info is None else info.family
        self._sockaddr = None if info is None else info.sockaddr
        self._device = device

    def usable(self, infos: Sequence[AddrInfo]) -> Sequence[AddrInfo]:
        """Those of ``infos`` that can be reached from ``source``.

        Raises:
            OSError: none can.
        """
        if self.family is None:
            return infos
        found = [info for info in infos if info.family == self.family]
        if not found:
            kind = "IPv6" if self.family == socket.AF_INET6 else "IPv4"
            raise OSError(f"no {kind} address to reach from --source {self.source}")
        return found

    def apply(self, sock: socket.socket) -> None:
        """Bind a fresh socket; an OSError names the option."""
        option = f"--bind-device {self._device}"
        try:
            if self._device is not None:
                # Not on every system, hence not in every stub file.
                number: int = getattr(socket, "SO_BINDTODEVICE", 0)
                sock.setsockopt(socket.SOL_SOCKET, number, self._device.encode())
            if self._sockaddr is not None:
                option = f"--source {self.source}"
                if sys.platform == "linux":  # the port is taken as late as by connect
                    sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
                sock.bind(self._sockaddr)
        except OSError as exc:
            raise OSError(f"{option}: {explain_os(exc)}") from exc


class Dialer:
    """Opens one upstream, any number of times, also at the same time.

    Args:
        address: ``(host, port)``, an IPv6 literal without brackets; or the path of
            a unix socket.
        tls: a client context (retained) to speak TLS with.
        server_hostname: the name to ask for and to verify, the host if not given;
            a unix socket with TLS needs one.
        connect_timeout: seconds for resolving and connecting together.
        handshake_timeout: seconds for the TLS handshake after that.
        linger: seconds a closing TLS transport waits for its peer.
        tcp_user_timeout: seconds, see :func:`fastws.net.sockopt.tune`; 0 is off.
        outlet: address and interface to leave by; unix sockets have none.
        access: what may be dialled, asked for every address; unix sockets are not.
    """

    __slots__ = (
        "_literal",
        "access",
        "address",
        "connect_timeout",
        "handshake_timeout",
        "linger",
        "name",
        "outlet",
        "server_hostname",
        "tcp_user_timeout",
        "tls",
    )

    def __init__(
        self,
        address: Address,
        *,
        tls: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
        connect_timeout: float = CONNECT_TIMEOUT,
        handshake_timeout: float = HANDSHAKE_TIMEOUT,
        linger: float = LINGER,
        tcp_user_timeout: float = 0.0,
        outlet: Outlet | None = None,
        access: Access | None = None,
    ) -> None:
        self._literal: tuple[AddrInfo, ...] = ()
        if isinstance(address, str):
            self.name = f"unix:{address}"
            if tls is not None and server_hostname is None:
                raise ValueError("TLS over a unix socket needs a server_hostname")
        else:
            host, port = address
            self.name = join_host_port(host, port)
            literal = parse_literal(host, port)
            self._literal = (literal,) if literal else ()
            if server_hostname is None:
                server_hostname = host
        self.address = address
        self.tls = tls
        self.server_hostname = server_hostname
        self.connect_timeout = connect_timeout
        self.handshake_timeout = handshake_timeout
        self.linger = linger
        self.tcp_user_timeout = tcp_user_timeout
        self.outlet = outlet
        self.access = access

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}{' TLS' if self.tls else ''}>"

    async def dial(
        self, timeout: float | None = None, preface: bytes = b""
    ) -> ByteStream:
        """Open the upstream.

        Args:
            timeout: seconds, in place of ``connect_timeout``.
            preface: what the upstream hears first, before TLS: a PROXY header.

        Returns:
            A connected stream, owned by the caller: options set, reading paused, its
            protocol a fresh :class:`Hold` with what the server may have said already.

        Raises:
            Denied: an access rule forbids it.
            DialTimeout: not connected within ``connect_timeout``, or the TLS
                handshake not finished within ``handshake_timeout``.
            NoUpstream: refused, unreachable, unknown name, TLS failure.
        """
        loop = asyncio.get_running_loop()
        limit = self.connect_timeout if timeout is None else timeout
        infos: Sequence[AddrInfo] = self._literal
        if self.access is not None or not infos:
            started = loop.time()
            infos = await self.find(limit)
            limit -= loop.time() - started if not self._literal else 0.0
        try:
            with Deadline(loop, limit, limit == self.connect_timeout):
                if len(infos) == 1 and self.tls is None and self.outlet is None:
                    return await self._open_one(loop, infos[0], preface)
                sock = await self._connect(infos)
                if preface:
                    await loop.sock_sendall(sock, preface)
                if self.tls is None:
                    return await open_stream(loop, sock)
        except TimeoutError as exc:
            text = f"not connected within {self.connect_timeout:g} s"
            if exc.errno is not None:  # the system gave up before we did
                text = explain_os(exc)
            raise DialTimeout(f"{self.name}: {text}") from exc
        except DialError:
            raise
        except OSError as exc:
            raise failure(f"{self.name}: {explain_os(exc)}", exc) from exc
        return await self.start_tls(sock, self.tls)

    async def _open_one(
        self, loop: asyncio.AbstractEventLoop, info: AddrInfo, preface: bytes
    ) -> ByteStream:
        """A plain TCP stream to the only address: the loop connects by itself."""
        # Cancelled, create_connection closes transport and socket on both loops.
        transport, hold = await loop.create_connection(
            Hold, info.sockaddr[0], info.sockaddr[1]
        )
        transport.pause_reading()  # uvloop reads since connection_made
        tune_transport(transport, tcp_user_timeout=self.tcp_user_timeout)
        if preface:
            transport.write(preface)
        return ByteStream(transport, Kind.TCP, hold)

    async def _connect(self, infos: Sequence[AddrInfo]) -> socket.socket:
        """A connected socket, for a path, several addresses, or TLS."""
        if isinstance(self.address, str):
            return await _connect_unix(self.address)
        outlet = self.outlet
        if outlet is not None:
            infos = outlet.usable(infos)
        if len(infos) == 1:
            return await _connect_tcp(infos[0], self.tcp_user_timeout, outlet)
        return await _race(_interleave(infos), self.tcp_user_timeout, outlet)

    async def find(self, timeout: float) -> Sequence[AddrInfo]:
        """The addresses that may be dialled, within ``timeout`` seconds.

        Raises:
            Denied: an access rule forbids them all.
            DialTimeout: the name was not resolved in time.
            UnknownName: it cannot be resolved.
        """
        infos: Sequence[AddrInfo] = self._literal
        if not isinstance(self.address, tuple):
            return infos
        access = self.access
        if not infos:
            if access is not None:
                access.check_name(*self.address)
            limit = min(timeout, RESOLVE_TIMEOUT)
            infos = await resolve(*self.address, timeout=limit)
        return infos if access is None else access.admit(*self.address, infos)

    async def connect(self) -> socket.socket:
        """Resolve and connect, no more; the caller limits the time.

        Returns:
            A connected, non-blocking socket, owned by the caller.

        Raises:
            DialError: the name cannot be resolved.
            OSError: no connection; :func:`fastws.net.tls.explain_os` says why.
        """
        return await self._connect(await self.find(self.connect_timeout))

    async def start_tls(
        self, sock: socket.socket, context: ssl.SSLContext
    ) -> ByteStream:
        """Shake hands over a connected socket, which the transport then owns."""
        hold = Hold()
        try:
            try:
                transport, _ = await self._tls_transport(hold, sock, context)
            except BaseException:
                let_go(asyncio.get_running_loop(), sock)
                raise
        except ConnectionAbortedError as exc:
            if exc.errno is not None:
                raise NoUpstream(f"{self.name}: TLS: {explain_tls(exc)}") from exc
            limit = f"{self.handshake_timeout:g} s"
            raise DialTimeout(
                f"{self.name}: TLS: handshake not finished within {limit}"
            ) from exc
        except OSError as exc:
            text = explain_tls(exc, self.server_hostname)
            raise NoUpstream(f"{self.name}: TLS: {text}") from exc
        except BaseException:
            if hold.transport is not None:
                hold.transport.abort()  # close() would wait for the peer
            raise
        transport.pause_reading()
        return ByteStream(transport, Kind.TLS, hold)

    def _tls_transport(
        self, hold: Hold, sock: socket.socket, context: ssl.SSLContext
    ) -> Coroutine[Any, Any, tuple[asyncio.Transport, Hold]]:
        """The call of the loop, or of aiofastnet, that makes a TLS client."""
        loop = asyncio.get_running_loop()
        module = fast_tls(loop)
        target: Any = loop
        args: tuple[Any, ...] = (lambda: hold,)
        if module is not None:
            target = module
            args = (loop, *args)
        # uvloop's create_connection drops the time-outs of unix sockets.
        create = target.create_connection
        if not isinstance(self.address, tuple):
            create = target.create_unix_connection
        call: Coroutine[Any, Any, tuple[asyncio.Transport, Hold]] = create(
            *args,
            sock=sock,
            ssl=context,
            server_hostname=self.server_hostname,
            ssl_handshake_timeout=self.handshake_timeout,
            ssl_shutdown_timeout=self.linger,
        )
        return call


def failure(text: str, exc: OSError) -> NoUpstream:
    """The error for what the system said, with ``text``."""
    error = _FAILURES.get(exc.errno or 0, NoUpstream)(text)
    error.errno = exc.errno
    return error


async def open_stream(
    loop: asyncio.AbstractEventLoop, sock: socket.socket
) -> ByteStream:
    """A plain stream over a connected socket, which the transport then owns."""
    create: Any = loop.create_connection
    kind = Kind.TCP
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        create, kind = loop.create_unix_connection, Kind.UNIX
    try:
        transport, hold = await create(Hold, sock=sock)
    except BaseException:
        let_go(loop, sock)
        raise
    transport.pause_reading()
    return ByteStream(transport, kind, hold)


async def _connect_unix(path: str) -> socket.socket:
    """A connected, non-blocking unix socket; waits while the backlog is full."""
    if not hasattr(socket, "AF_UNIX"):
        raise NoUpstream(f"unix:{path}: this system has no unix sockets")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        while True:
            try:
                sock.connect(path)
            except BlockingIOError:
                await asyncio.sleep(_UNIX_RETRY)
            else:
                return sock
    except BaseException:
        sock.close()
        raise


async def _connect_tcp(
    info: AddrInfo, tcp_user_timeout: float, outlet: Outlet | None
) -> socket.socket:
    """A connected, non-blocking TCP socket with its options set."""
    sock = socket.socket(info.family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setblocking(False)
        tune(sock, tcp_user_timeout=tcp_user_timeout)
        if outlet is not None:
            outlet.apply(sock)
        await asyncio.get_running_loop().sock_connect(sock, info.sockaddr)
    except BaseException:
        sock.close()
        raise
    return sock


def _interleave(infos: Sequence[AddrInfo]) -> list[AddrInfo]:
    """Alternate the families, the first one's first (RFC 8305 section 4)."""
    first = [info for info in infos if info.family == infos[0].family]
    other = [info for info in infos if info.family != infos[0].family]
    mixed: list[AddrInfo] = []
    for i in range(max(len(first), len(other))):
        mixed += first[i : i + 1] + other[i : i + 1]
    return mixed


async def _race(
    infos: Sequence[AddrInfo], tcp_user_timeout: float, outlet: Outlet | None
) -> socket.socket:
    """Connect to the first address that answers (RFC 8305 section 5).

    The next attempt starts after ``ATTEMPT_DELAY``, or at once when one has failed;
    earlier ones go on. Losers are closed within the next turn of the loop.

    Raises:
        OSError: of the first address, when all have failed.
    """
    waiting = list(infos)
    attempts: list[asyncio.Task[socket.socket]] = []
    running: set[asyncio.Task[socket.socket]] = set()
    winner: asyncio.Task[socket.socket] | None = None
    try:
        while winner is None and (waiting or running):
            if waiting:
                connect = _connect_tcp(waiting.pop(0), tcp_user_timeout, outlet)
                attempts.append(asyncio.create_task(connect))
                running.add(attempts[-1])
            _, running = await asyncio.wait(
                running,
                timeout=ATTEMPT_DELAY if waiting else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            winner = next((task for task in attempts if _has_won(task)), None)
        if winner is None:
            raise attempts[0].exception() or OSError("no address")
        return winner.result()
    finally:
        for task in attempts:
            if task is not winner:
                task.add_done_callback(_close_loser)
                task.cancel()


def _has_won(task: asyncio.Task[socket.socket]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


def _close_loser(task: asyncio.Task[socket.socket]) -> None:
    if _has_won(task):  # a moment after the winner
        task.result().close()
