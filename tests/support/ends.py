"""Every kind of end that the pump knows, made on loopback in a few lines.

A test names the two ends of a relay; each comes as a stream for the pump and as the
peer at its far side (:mod:`tests.support.peers`).
"""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from fastws._consts import Side
from fastws.net.stream import ByteStream, Hold, Kind
from fastws.net.tls import fast_tls
from fastws.net.websocket import Peer, WebSocketStream
from tests.support.certs import certs, plain_client_context, plain_server_context
from tests.support.peers import RawPeer, TlsWire, Wire, WsPeer
from tests.support.servers import LOOPS, both_loops, run_on
from tests.support.timing import SHORT

Check = Callable[["Spec"], Awaitable[None]]


@dataclass(frozen=True)
class Spec:
    """One end of a relay.

    Attributes:
        kind: of the transport.
        side: ours, for a WebSocket; ``None`` for raw bytes.
        peer: who is at the far side of a WebSocket.
        stock: TLS of the loop itself, although aiofastnet is there.
    """

    kind: Kind = Kind.TCP
    side: Side | None = None
    peer: Peer = Peer.STRANGER
    stock: bool = False

    def __str__(self) -> str:
        name = self.kind.value + ("-stock" if self.stock else "")
        if self.side is None:
            return name
        return f"ws-{name}-{self.side.name.lower()}-{self.peer.value}"

    @property
    def is_ws(self) -> bool:
        return self.side is not None

    @property
    def is_stranger(self) -> bool:
        return self.is_ws and self.peer is not Peer.FASTWS

    @property
    def half_closes(self) -> bool:
        """EOF from its peer leaves the other direction open."""
        if self.is_ws:
            return self.peer is Peer.FASTWS
        return self.kind is not Kind.TLS


TCP, UNIX, TLS = Spec(), Spec(Kind.UNIX), Spec(Kind.TLS)
STW = Spec(Kind.TCP, Side.CLIENT)  # we are stw, a stranger answers
WTS = Spec(Kind.TCP, Side.SERVER)
STW_FASTWS = replace(STW, peer=Peer.FASTWS)
WTS_FASTWS = replace(WTS, peer=Peer.FASTWS)
WTS_UNCONFIRMED = replace(WTS, peer=Peer.UNCONFIRMED)

UNIT_KINDS = (TCP, UNIX, TLS, STW, WTS_FASTWS)
"""One of each class of end."""


def every_spec() -> Iterator[Spec]:
    """Raw and WebSocket, both sides, both kinds of peer, over every transport."""
    sides = (None, Side.CLIENT, Side.SERVER)
    for kind in (Kind.TCP, Kind.UNIX, Kind.TLS):
        for side in sides:
            for peer in (Peer.STRANGER, Peer.FASTWS)[: 1 if side is None else 2]:
                yield Spec(kind, side, peer)


def cases(*specs: Spec) -> list[Any]:
    """Each loop with each end, and with the loop's own TLS where there are two."""
    found = []
    for loop in LOOPS:
        for spec in specs:
            found.append(pytest.param(loop, spec, id=f"{loop}-{spec}"))
            if spec.kind is Kind.TLS and loop == "asyncio":
                stock = replace(spec, stock=True)
                found.append(pytest.param(loop, stock, id=f"{loop}-{stock}"))
    return found


def every_end(*specs: Spec) -> Any:
    """Parametrises ``loop_name`` and ``spec``: all ends, or those given."""
    chosen = specs or tuple(every_spec())
    return pytest.mark.parametrize(("loop_name", "spec"), cases(*chosen))


def at_once(*specs: Spec) -> Callable[[Check], Any]:
    """Makes one test per loop of ``check(spec)``, which runs for all ends together.

    For checks that mostly wait.
    """

    def decorate(check: Check) -> Any:
        async def noted(spec: Spec) -> None:
            try:
                await check(spec)
            except BaseException as error:
                error.add_note(f"end: {spec}")
                raise

        async def main(loop_name: str) -> None:
            chosen = [
                case.values[1] for case in cases(*specs) if case.values[0] == loop_name
            ]
            await asyncio.gather(*map(noted, chosen))

        @both_loops
        def test(loop_name: str) -> None:
            run_on(loop_name, main(loop_name))

        test.__doc__ = check.__doc__
        return test

    return decorate


def socket_pair(kind: Kind) -> tuple[socket.socket, socket.socket]:
    """Two connected sockets: ours and the far one."""
    if kind is Kind.UNIX:
        return socket.socketpair()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        far = socket.create_connection(listener.getsockname())
        near, _ = listener.accept()
    for sock in (near, far):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return near, far


async def open_plain(near: socket.socket) -> tuple[Any, Hold]:
    loop = asyncio.get_running_loop()
    near.setblocking(False)
    return await loop.connect_accepted_socket(Hold, near)


async def open_tls(near: socket.socket, spec: Spec, linger: float) -> tuple[Any, Hold]:
    """Our TLS transport, server or client as the far side is not."""
    loop = asyncio.get_running_loop()
    hold = Hold()
    near.setblocking(False)
    options: dict[str, Any] = {"ssl_handshake_timeout": SHORT}
    options["ssl_shutdown_timeout"] = linger
    is_client = spec.side is Side.CLIENT
    if is_client:
        options |= {"ssl": plain_client_context(), "server_hostname": "localhost"}
    else:
        options["ssl"] = plain_server_context(certs().server)
    module = None if spec.stock else fast_tls(loop)
    owner: Any = loop if module is None else module
    first = () if module is None else (loop,)
    if is_client:
        call = owner.create_connection(*first, lambda: hold, sock=near, **options)
    else:
        call = owner.connect_accepted_socket(*first, lambda: hold, near, **options)
    transport, _ = await call
    return transport, hold


@contextlib.contextmanager
def small_buffers(*socks: socket.socket, size: int = 65536) -> Iterator[None]:
    """Make both kernel buffers small, so that a stall shows soon."""
    for sock in socks:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
    yield


async def open_end(
    spec: Spec,
    *,
    linger: float,
    buffers: int = 0,
    pair: tuple[socket.socket, socket.socket] | None = None,
) -> tuple[ByteStream, Any]:
    """A stream for the pump and the peer at its far side.

    Args:
        spec: what to make.
        linger: seconds, for the shutdown of TLS.
        buffers: size of the kernel's buffers, 0 as they are.
        pair: connected sockets to use, ours first; a new pair without it.
    """
    near, far = pair or socket_pair(spec.kind)
    if buffers:
        with small_buffers(near, far, size=buffers):
            pass
    is_client = spec.side is not Side.CLIENT  # the far side, over TLS too
    wire: Wire
    if spec.kind is Kind.TLS:
        server = plain_server_context(certs().server)
        context = plain_client_context() if is_client else server
        wire = TlsWire(far, context)
        transport, hold = await open_tls(near, spec, linger)
    else:
        wire = Wire(far)
        transport, hold = await open_plain(near)
    if spec.side is None:
        return ByteStream(transport, spec.kind, hold), RawPeer(wire)
    now = asyncio.get_running_loop().time()
    stream = WebSocketStream(
        transport, spec.kind, hold, side=spec.side, peer=spec.peer, opened_at=now
    )
    is_fastws = spec.peer is Peer.FASTWS
    return stream, WsPeer(wire, is_client=is_client, is_fastws=is_fastws)
