"""Peers that would make an echo of the WebSocket library hold ever more memory.

The echo runs in a process of its own, as server and client, by callbacks and by
coroutines; what it holds is looked at while its peers, made of bytes, do their worst.
"""

import contextlib
import select
import socket
import sys
import time
import zlib
from collections.abc import Callable, Iterator

import pytest

from tests.support.autobahn import Message, Peer
from tests.support.echoing import Process, echoing
from tests.support.rawws import BINARY, CONT, PING, PONG, answer_101, request
from tests.support.timing import LONG, UNIT

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="/proc says what a process holds"
)

COUNT = 8  # peers at once
MIB = 1 << 20
LIMIT = 1 << 20  # max_size of the echo
OFFER = "permessage-deflate"
BOTH = (
    "server-callbacks",
    "server-coroutines",
    "client-callbacks",
    "client-coroutines",
)


class Ring:
    """An echo and its peers, after an exchange each."""

    def __init__(self, echo: Process, peers: list[Peer], packed: bool) -> None:
        self.echo = echo
        self.peers = peers
        for peer in peers:
            peer.send(BINARY, b"first")
            if packed:
                assert peer.event()[::2] == (BINARY, 4)
            else:
                peer.gets(Message(BINARY, b"first"))
        self.before = echo.resident()
        self.most = 0

    def look(self) -> None:
        """Note what is held now, beyond the beginning."""
        self.most = max(self.most, self.echo.resident() - self.before)

    def wait_idle(self) -> None:
        """Until it has done everything that it can do now."""
        deadline, seen = time.monotonic() + LONG, -1.0
        while (now := self.echo.cpu()) != seen:
            assert time.monotonic() < deadline
            seen = now
            self.look()
            time.sleep(UNIT)


@contextlib.contextmanager
def ring(name: str, *, packed: bool = False) -> Iterator[Ring]:
    """Start it; with ``packed`` messages may be compressed."""
    is_server = name.startswith("server")
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        listener.settimeout(LONG)
        port = listener.getsockname()[1]
        echo = stack.enter_context(echoing(name, str(port), str(COUNT)))
        peers = []
        for _ in range(COUNT):
            if is_server:
                sock = socket.create_connection(("127.0.0.1", echo.port))
            else:
                sock, _ = listener.accept()
            stack.enter_context(sock)
            sock.settimeout(LONG)
            peers.append(shake_hands(sock, is_server, packed))
        yield Ring(echo, peers, packed)


def shake_hands(sock: socket.socket, is_client: bool, packed: bool) -> Peer:
    peer = Peer(sock, is_client)
    if is_client:
        sock.sendall(request("/", Sec_WebSocket_Extensions=OFFER if packed else None))
    peer.opening = peer.head()
    if not is_client:
        key = peer.opening.fields["sec-websocket-key"]
        more = [f"Sec-WebSocket-Extensions: {OFFER}"] if packed else []
        sock.sendall(answer_101(key, *more))
    return peer


def push(peer: Peer, data: bytes, most: int, look: Callable[[], None]) -> int:
    """Send ``data`` again and again without reading, until it does not go any more.

    Returns:
        The bytes that went, ``most`` at most.
    """
    peer.sock.setblocking(False)
    sent, view, rest = 0, memoryview(data), memoryview(b"")
    while sent < most and select.select([], [peer.sock], [], 2 * UNIT)[1]:
        rest = rest or view
        try:
            size = peer.sock.send(rest)
        except ConnectionError:
            break
        sent += size
        rest = rest[size:]
        look()
    peer.sock.settimeout(LONG)
    return sent


@pytest.mark.parametrize("name", BOTH)
def test_tiny_fragments(name: str) -> None:
    """10 000 of one byte, and the message goes on."""
    with ring(name) as attack:
        for peer in attack.peers:
            tiny = peer.wire(CONT, b"y", fin=False)
            peer.write(peer.wire(BINARY, b"x", fin=False) + tiny * 10_000)
        for peer in attack.peers:
            assert peer.is_alive()
        attack.look()
        assert attack.most < 6 * MIB
        for peer in attack.peers:
            peer.send(CONT, b"z")
            peer.gets(Message(BINARY, b"x" + b"y" * 10_000 + b"z"))


@pytest.mark.parametrize("name", BOTH)
def test_message_without_end(name: str) -> None:
    """Ended at the limit; and empty fragments, which never reach it, cost nothing."""
    with ring(name) as attack:
        *full, empty = attack.peers
        for peer in full[:2]:
            peer.send(BINARY, bytes(1000), fin=False)
            peer.write(peer.wire(CONT, bytes(1000), fin=False) * (LIMIT // 1000 + 1))
            attack.look()
            peer.fails(1009)
        empty.send(BINARY, fin=False)
        for _ in range(10):
            empty.write(empty.wire(CONT, fin=False) * 20_000)
            attack.look()
        assert empty.is_alive()
        assert attack.most < 8 * MIB


@pytest.mark.parametrize("name", BOTH)
def test_flood_of_pings(name: str) -> None:
    """From a peer that reads no pong; once it reads, the newest is answered."""
    with ring(name) as attack:
        for peer in attack.peers[:4]:
            pings = peer.wire(PING, b"p" * 125) * 500
            push(peer, pings, 4 * MIB, attack.look)
        attack.wait_idle()
        assert attack.most < 8 * MIB
        assert attack.peers[-1].is_alive()
        for peer in attack.peers[:1]:
            seen = 0
            while select.select([peer.sock], [], [], 4 * UNIT if seen else LONG)[0]:
                assert peer.frame()[:2] == (PONG, b"p" * 125)
                seen += 1
            assert seen


@pytest.mark.parametrize("name", BOTH)
def test_decompression_bomb(name: str) -> None:
    """64 MiB in 64 KiB, whole and in fragments."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = packer.compress(bytes(64 * MIB)) + packer.flush(zlib.Z_SYNC_FLUSH)
    with ring(name, packed=True) as attack:
        for number, peer in enumerate(attack.peers):
            if number % 2:
                peer.send(BINARY, bomb[:-4], rsv=4)
            else:
                wire = bytearray(peer.fragments(BINARY, bomb[:-4], 1000))
                wire[0] |= 0x40
                peer.write(bytes(wire))
            attack.look()
            peer.fails(1009)
        attack.look()
        assert attack.most < 24 * MIB  # one of them: 64 MiB


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("size", [100, 60_000])
def test_peer_that_never_reads(name: str, size: int) -> None:
    """Its echo stops reading from it, and still answers others."""
    with ring(name) as attack:
        *deaf, good = attack.peers
        for peer in deaf:
            data = peer.wire(BINARY, bytes(size)) * (120_000 // size)
            assert push(peer, data, 64 * MIB, attack.look) < 64 * MIB
        attack.wait_idle()
        queue = 17 * size if name.endswith("coroutines") else 0
        assert attack.most < len(deaf) * (MIB + queue)
        assert good.is_alive()
        deaf[0].gets(*[Message(BINARY, bytes(size))] * 50)
