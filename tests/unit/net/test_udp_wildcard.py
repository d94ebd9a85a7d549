"""Datagrams to a socket of all addresses: answers leave from the one that was asked."""

import asyncio
import errno
import socket
import sys
from typing import Any

import pytest

from fastws.exceptions import ListenError
from fastws.net import udp_listen as module
from fastws.net.bind_udp import bind_udp, local_address, tells_local
from fastws.net.udp_listen import UdpListener, UdpPeer
from tests.support.datagrams import ask, udp_client
from tests.support.machine import has_ipv6
from tests.support.servers import both_loops, run_on
from tests.support.timing import SHORT

ALL = ("0.0.0.0", "::")


class Echo:
    """A sink that sends each datagram back."""

    def __init__(self, peer: UdpPeer) -> None:
        self._peer = peer

    def datagram_received(self, data: memoryview) -> bool:
        self._peer.send(data)
        return False

    def flush(self) -> None:
        pass


class Flows:
    """A handler that echoes until told to end; one entry a flow."""

    def __init__(self) -> None:
        self.sources: list[str] = []
        self.may_end = asyncio.Event()

    async def __call__(self, peer: UdpPeer) -> None:
        self.sources.append(str(peer))
        peer.attach(Echo(peer))
        await self.may_end.wait()


def listen(flows: Flows) -> tuple[UdpListener, int]:
    listener = UdpListener(bind_udp(ALL, 0, optional=ALL), flows)
    listener.start()
    return listener, int(listener.addresses[0].rpartition(":")[2])


async def finish(listener: UdpListener, flows: Flows) -> None:
    flows.may_end.set()
    listener.close()
    assert await listener.wait_idle(SHORT)
    await asyncio.sleep(0)


async def exchange(sock: socket.socket, data: bytes) -> bytes:
    return await asyncio.to_thread(ask, sock, data)


@both_loops
def test_answer_leaves_from_the_address_that_was_asked(loop_name: str) -> None:
    """A connected client hears nobody else."""

    async def main() -> None:
        flows = Flows()
        listener, port = listen(flows)
        hosts = ["127.0.0.1", "127.0.0.2", "127.255.255.254"]
        hosts += ["::1"] * has_ipv6()
        for host in hosts:
            with udp_client(port, host) as sock:
                for data in (b"first", b"second"):
                    assert await exchange(sock, data) == data
        assert len(flows.sources) == len(hosts)
        socks = [*listener._wide, *listener._twins.values()]
        assert len(listener._twins) == len(hosts)
        await finish(listener, flows)
        assert {sock.fileno() for sock in socks} == {-1}

    run_on(loop_name, main())


@both_loops
def test_one_source_and_two_addresses_are_two_flows(loop_name: str) -> None:
    async def main() -> None:
        flows = Flows()
        listener, port = listen(flows)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(SHORT)
            sock.bind(("127.0.0.1", 0))
            for host in ("127.0.0.2", "127.0.0.3") * 2:
                sock.sendto(host.encode(), (host, port))
                answer = await asyncio.to_thread(sock.recvfrom, 100)
                assert answer == (host.encode(), (host, port))
            assert flows.sources == [f"127.0.0.1:{sock.getsockname()[1]}"] * 2
        await finish(listener, flows)

    run_on(loop_name, main())


@both_loops
def test_only_the_first_datagram_takes_the_slow_way(loop_name: str) -> None:
    async def main() -> None:
        flows = Flows()
        listener, port = listen(flows)
        with udp_client(port, "127.0.0.2") as one, udp_client(port, "127.0.0.2") as two:
            assert await exchange(one, b"first") == b"first"
            for sock in listener._wide:
                asyncio.get_running_loop().remove_reader(sock.fileno())
            assert await exchange(one, b"second") == b"second"
            assert await exchange(two, b"other source") == b"other source"
        await finish(listener, flows)

    run_on(loop_name, main())


@both_loops
def test_sockets_of_addresses_are_bounded(
    loop_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond that the system chooses the address, as it does elsewhere."""
    monkeypatch.setattr(module, "_MAX_TWINS", 1)

    async def main() -> None:
        flows = Flows()
        listener, port = listen(flows)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(SHORT)
            sock.bind(("127.0.0.1", 0))
            for host, chosen in (("127.0.0.2",) * 2, ("127.0.0.3", "127.0.0.1")):
                sock.sendto(b"x", (host, port))
                answer = await asyncio.to_thread(sock.recvfrom, 100)
                assert answer == (b"x", (chosen, port))
        await finish(listener, flows)

    run_on(loop_name, main())


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.2"])
def test_port_is_not_shared_with_others(host: str) -> None:
    (sock,) = bind_udp(("0.0.0.0",), 0)
    with sock:
        assert tells_local(sock)
        with pytest.raises(ListenError) as caught:
            bind_udp((host,), sock.getsockname()[1])
        assert caught.value.errno == errno.EADDRINUSE


def test_socket_of_one_address_says_nothing() -> None:
    (sock,) = bind_udp(("127.0.0.1",), 0)
    with sock:
        assert not tells_local(sock)


V4, V6 = socket.IPPROTO_IP, socket.IPPROTO_IPV6
INDEX = (3).to_bytes(4, sys.byteorder)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ([], None),
        ([(V4, 2, bytes(4))], None),
        ([(V4, 8, INDEX + bytes([10, 0, 0, 7, 255, 255, 255, 255]))], ("10.0.0.7", 9)),
        ([(V4, 8, INDEX)], None),  # cut
        (
            [(V6, socket.IPV6_PKTINFO, bytes(15) + b"\1" + INDEX)],
            ("::1", 9, 0, 0),
        ),
        (
            [(V6, socket.IPV6_PKTINFO, b"\xfe\x80" + bytes(13) + b"\1" + INDEX)],
            ("fe80::1", 9, 0, 3),
        ),
        ([(V6, socket.IPV6_PKTINFO, b"\xff\x02" + bytes(13) + b"\1" + INDEX)], None),
        ([(V6, socket.IPV6_PKTINFO, b"\xfe\x80")], None),
    ],
)
def test_local_address(said: Any, expected: tuple[Any, ...] | None) -> None:
    assert local_address(said, 9) == expected
