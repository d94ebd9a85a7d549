"""Datagrams through a proxy: the client's side, and the direct way out."""

import asyncio
import socket
from typing import Any

import pytest

from fastws.config.rules import Rule
from fastws.net import resolve
from fastws.net.access import Access
from fastws.net.dial import Outlet
from fastws.proxy import udp as module
from fastws.proxy.udp import Association, DirectDatagrams
from fastws.wire.socks5 import encode_datagram
from tests.support.servers import both_loops, eventually, run_on
from tests.support.timing import LONG, UNIT


class Far:
    """A UDP socket that keeps what it gets.

    Attributes:
        got: payloads with their sources.
    """

    def __init__(self) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.setblocking(False)
        self.port: int = self.sock.getsockname()[1]
        self.got: list[tuple[bytes, Any]] = []

    async def receive(self) -> tuple[bytes, Any]:
        def ready() -> bool:
            try:
                self.got.append(self.sock.recvfrom(70000))
            except BlockingIOError:
                return False
            return True

        await eventually(ready)
        return self.got[-1]

    def __enter__(self) -> "Far":
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()


class Way:
    """A ``DatagramWay`` that remembers."""

    ident = ""

    def __init__(self) -> None:
        self.sent: list[tuple[str, int, bytes]] = []
        self.dropped = self.denied = 0
        self.reason = ""
        self.is_closed = False
        self.done: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def send(self, host: str, port: int, payload: memoryview) -> None:
        self.sent.append((host, port, bytes(payload)))

    def close(self) -> None:
        self.is_closed = True


def look_up(monkeypatch: pytest.MonkeyPatch, **hosts: str) -> None:
    """Make names known, ``a`` for ``a.test``; all others are not."""

    def find(host: str, *_: object, **__: object) -> list[tuple[Any, ...]]:
        name = host.removesuffix(".test")
        if name not in hosts:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [(socket.AF_INET, 1, 6, "", (hosts[name], 0))]

    monkeypatch.setattr(resolve, "_resolver", resolve.Resolver(getaddrinfo=find))


@both_loops
def test_association_passes_on_both_ways(loop_name: str) -> None:
    async def main() -> None:
        way = Way()
        association = Association(("127.0.0.1", 1080), "127.0.0.1", 0)
        association.way = way
        with Far() as client:
            for host, port in (("a.test", 1), ("::1", 2), ("127.0.0.1", 65535)):
                data = encode_datagram(host, port, b"hello")
                client.sock.sendto(data, association.address)
            await eventually(lambda: len(way.sent) == 3)
            assert way.sent[0] == ("a.test", 1, b"hello")
            assert way.sent[1:] == [
                ("::1", 2, b"hello"),
                ("127.0.0.1", 65535, b"hello"),
            ]
            association.to_client("127.0.0.1", 7, memoryview(b"answer"))
            data, source = await client.receive()
            assert data == b"\0\0\0\1\x7f\0\0\1\0\7answer"
            assert source == association.address
            assert (association.bytes_in, association.bytes_out) == (15, 6)
        association.close()
        association.close()
        assert way.is_closed

    run_on(loop_name, main())


def test_association_hears_its_client_only() -> None:
    async def main() -> None:
        way = Way()
        with Far() as client, Far() as other:
            association = Association(
                ("127.0.0.1", 1080), "127.0.0.1", port=client.port
            )
            association.way = way
            data = encode_datagram("a.test", 1, b"other")
            other.sock.sendto(data, association.address)
            await eventually(lambda: association.foreign == 1)
            data = encode_datagram("a.test", 1, b"own")
            client.sock.sendto(data, association.address)
            await eventually(lambda: way.sent)
            assert way.sent == [("a.test", 1, b"own")]
            association.close()
            elsewhere = Association(("127.0.0.1", 1080), "127.0.0.2", 0)
            client.sock.sendto(data, elsewhere.address)
            await eventually(lambda: elsewhere.foreign == 1)
            elsewhere.close()

    run_on("uvloop", main())


def test_association_says_nothing_before_its_client_did() -> None:
    async def main() -> None:
        association = Association(("127.0.0.1", 1080), "127.0.0.1", 0)
        association.to_client("127.0.0.1", 7, memoryview(b"early"))
        assert association.dropped == 1
        association.close()

    run_on("uvloop", main())


@both_loops
def test_direct_sends_and_hears_known_targets(loop_name: str) -> None:
    async def main() -> None:
        got: list[tuple[str, int, bytes]] = []
        way = DirectDatagrams(lambda h, p, data: got.append((h, p, bytes(data))))
        with Far() as one, Far() as stranger:
            way.send("127.0.0.1", one.port, memoryview(b"ping"))
            data, source = await one.receive()
            assert data == b"ping"
            stranger.sock.sendto(b"forged", source)
            await eventually(lambda: way.dropped == 1)
            one.sock.sendto(b"pong", source)
            await eventually(lambda: got)
            assert got == [("127.0.0.1", one.port, b"pong")]
        way.close()
        way.send("127.0.0.1", 9, memoryview(b"late"))

    run_on(loop_name, main())


def test_direct_resolves_names_once(monkeypatch: pytest.MonkeyPatch) -> None:
    look_up(monkeypatch, a="127.0.0.1")

    async def main() -> None:
        way = DirectDatagrams(lambda *_: None)
        with Far() as one:
            for number in range(3):
                way.send("a.test", one.port, memoryview(b"%d" % number))
            assert [(await one.receive())[0] for _ in range(3)] == [b"0", b"1", b"2"]
            way.send("a.test", one.port, memoryview(b"3"))
            assert (await one.receive())[0] == b"3"
            way.send("b.test", one.port, memoryview(b"lost"))
            await eventually(lambda: way.dropped == 1)
        way.close()

    run_on("uvloop", main())


def test_names_that_take_their_time_do_not_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    look_up(monkeypatch, a="127.0.0.1")

    async def main() -> None:
        way = DirectDatagrams(lambda *_: None)
        for number in range(module.MAX_WAITING + 5):
            way.send(f"n{number % 3}.test", 9, memoryview(b"x"))
        assert way.dropped == 5
        await eventually(lambda: way.dropped == module.MAX_WAITING + 5)
        way.close()

    run_on("uvloop", main())


def test_rules_hold_for_each_target(monkeypatch: pytest.MonkeyPatch) -> None:
    look_up(monkeypatch, a="127.0.0.1", b="127.0.0.1")

    async def main() -> None:
        with Far() as open_, Far() as shut:
            allow = [Rule.parse(f"127.0.0.1:{open_.port}")]
            access = Access(allow, [Rule.parse("b.test")])
            way = DirectDatagrams(lambda *_: None, access=access)
            way.send("127.0.0.1", open_.port, memoryview(b"one"))
            assert (await open_.receive())[0] == b"one"
            way.send("a.test", open_.port, memoryview(b"two"))
            assert (await open_.receive())[0] == b"two"
            way.send("127.0.0.1", shut.port, memoryview(b"no"))
            assert way.denied == 1
            for host, port in (("a.test", shut.port), ("b.test", open_.port)):
                way.send(host, port, memoryview(b"no"))
            await eventually(lambda: way.denied == 3)
            assert f"127.0.0.1:{shut.port}: forbidden: " in way.reason
            with pytest.raises(BlockingIOError):
                shut.sock.recv(10)
            with pytest.raises(BlockingIOError):
                open_.sock.recv(10)
            way.close()

    run_on("uvloop", main())


def test_silent_target_is_forgotten() -> None:
    async def main() -> None:
        got: list[bytes] = []
        way = DirectDatagrams(lambda h, p, data: got.append(bytes(data)), idle=UNIT)
        with Far() as one:
            way.send("127.0.0.1", one.port, memoryview(b"ping"))
            _, source = await one.receive()
            await asyncio.sleep(2 * UNIT)
            one.sock.sendto(b"too late", source)
            await eventually(lambda: way.dropped == 1)
            way.send("127.0.0.1", one.port, memoryview(b"ping"))
            await one.receive()
        assert got == []
        way.close()

    run_on("uvloop", main())


def test_targets_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TARGETS", 2)

    async def main() -> None:
        got: list[bytes] = []
        way = DirectDatagrams(lambda h, p, data: got.append(bytes(data)))
        with Far() as one, Far() as two, Far() as three:
            for far in (one, two, one, three):
                way.send("127.0.0.1", far.port, memoryview(b"ping"))
            _, source = await three.receive()
            for far in (one, two, three):
                far.sock.sendto(b"%d" % far.port, source)
            await eventually(lambda: len(got) == 2 and way.dropped == 1)
            assert got == [b"%d" % one.port, b"%d" % three.port]
        way.close()

    run_on("uvloop", main())


def test_source_address_is_kept() -> None:
    async def main() -> None:
        outlet = Outlet("127.0.0.1")
        way = DirectDatagrams(lambda *_: None, outlet=outlet)
        with Far() as one:
            way.send("127.0.0.1", one.port, memoryview(b"ping"))
            assert (await asyncio.wait_for(one.receive(), LONG))[1][0] == "127.0.0.1"
        way.send("::1", 9, memoryview(b"no IPv6 from there"))
        assert way.dropped == 1
        way.close()

    run_on("uvloop", main())


@pytest.mark.parametrize("port", [0, 9])
def test_what_cannot_be_sent_is_counted(port: int) -> None:
    async def main() -> None:
        way = DirectDatagrams(lambda *_: None)
        way.send("127.0.0.1", port, memoryview(bytes(65530)))
        assert way.dropped == 1
        way.close()

    run_on("uvloop", main())


def test_new_targets_do_not_hold_up_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands fit in one read of a WebSocket, and each asks the rules."""
    monkeypatch.setattr(module, "MAX_NEW", 3)

    async def main() -> None:
        access = Access(deny=[Rule.parse("10.0.0.0/8")], may_be_private=True)
        way = DirectDatagrams(lambda *_: None, access=access)
        with Far() as far:
            way.send("127.0.0.1", far.port, memoryview(b"known"))
            for number in range(5):
                way.send(f"10.0.0.{number}", 7, memoryview(b"new"))
            assert (way.denied, way.dropped) == (2, 3)
            way.send("127.0.0.1", far.port, memoryview(b"as before"))
            await asyncio.sleep(0)
            for number in range(5):
                way.send(f"10.0.0.{number}", 7, memoryview(b"new"))
            assert (way.denied, way.dropped) == (5, 5)
            assert (await far.receive())[0] == b"known"
            assert (await far.receive())[0] == b"as before"
        way.close()

    run_on("uvloop", main())
