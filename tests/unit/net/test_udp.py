"""Datagram sockets: sources told apart, bounds, errors, the end of a listener."""

import asyncio
import logging
import socket
from typing import Any

import pytest

from fastws.exceptions import ListenError, NoUpstream
from fastws.net.bind_udp import bind_udp
from fastws.net.udp import (
    BATCH,
    DatagramEnd,
    Pace,
    UdpDialer,
    UdpStream,
)
from fastws.net.udp_listen import UdpListener, UdpPeer
from tests.support.datagrams import ask, udp_client
from tests.support.servers import both_loops, eventually, run_on
from tests.support.services import is_silent
from tests.support.timing import UNIT


class Sink:
    """Keeps datagrams; echoes them at the end of a batch."""

    def __init__(self, end: DatagramEnd | None = None) -> None:
        self.end = end
        self.got: list[bytes] = []
        self.flushes: list[int] = []
        self._batch: list[bytes] = []

    def datagram_received(self, data: memoryview) -> bool:
        self.got.append(bytes(data))
        self._batch.append(bytes(data))
        return len(self._batch) == 1

    def flush(self) -> None:
        self.flushes.append(len(self._batch))
        for data in self._batch:
            if self.end is not None:
                self.end.send(memoryview(data))
        self._batch.clear()


class Flows:
    """A handler: attaches a sink to each peer once let, and ends when told to."""

    def __init__(self, attach: bool = True) -> None:
        self.peers: list[UdpPeer] = []
        self.sinks: list[Sink] = []
        self.may_attach = asyncio.Event()
        self.may_end = asyncio.Event()
        if attach:
            self.may_attach.set()

    async def __call__(self, peer: UdpPeer) -> None:
        self.peers.append(peer)
        await self.may_attach.wait()
        sink = Sink(peer)
        self.sinks.append(sink)
        peer.attach(sink)
        await self.may_end.wait()


def listen(flows: Any, **options: Any) -> tuple[UdpListener, int]:
    listener = UdpListener(bind_udp(("127.0.0.1",), 0), flows, **options)
    listener.start()
    return listener, int(listener.addresses[0].rpartition(":")[2])


async def finish(listener: UdpListener, flows: Flows) -> None:
    flows.may_end.set()
    listener.close()
    assert await listener.wait_idle(UNIT * 20)
    await asyncio.sleep(0)


@both_loops
def test_sources_are_told_apart(loop_name: str) -> None:
    async def main() -> None:
        flows = Flows()
        listener, port = listen(flows)
        with udp_client(port) as one, udp_client(port) as other:
            assert await asyncio.to_thread(ask, one, b"1") == b"1"
            assert await asyncio.to_thread(ask, other, b"2") == b"2"
            assert await asyncio.to_thread(ask, one, b"3") == b"3"
            assert [sink.got for sink in flows.sinks] == [[b"1", b"3"], [b"2"]]
            assert (listener.active, listener.accepted) == (2, 2)
            assert str(flows.peers[0]) == f"127.0.0.1:{one.getsockname()[1]}"
        await finish(listener, flows)

    run_on(loop_name, main())


@both_loops
def test_what_waits_for_a_flow_is_bounded(loop_name: str) -> None:
    """64 datagrams or 256 KiB; what comes then is dropped and counted."""

    async def main() -> None:
        flows = Flows(attach=False)
        listener, port = listen(flows)
        with udp_client(port) as many, udp_client(port) as big:
            for number in range(70):
                many.send(b"%d" % number)
            await eventually(lambda: flows.peers and flows.peers[0].dropped == 6)
            for _ in range(5):
                big.send(bytes(60_000))
            await eventually(lambda: flows.peers[1:] and flows.peers[1].dropped == 1)
            flows.may_attach.set()
            await eventually(lambda: len(flows.sinks) == 2)
            assert flows.sinks[0].got == [b"%d" % number for number in range(64)]
            assert len(flows.sinks[1].got) == 4
        await finish(listener, flows)

    run_on(loop_name, main())


@both_loops
def test_flow_that_fails_drops_what_waits_and_what_comes(loop_name: str) -> None:
    async def main() -> None:
        flows = Flows(attach=False)
        listener, port = listen(flows)
        with udp_client(port) as sock:
            sock.send(b"waits")
            peer = (await eventually(lambda: flows.peers))[0]
            peer.fail()
            assert peer.dropped == 1
            sock.send(b"comes")
            await eventually(lambda: peer.dropped == 2)
            peer.release()
            sock.send(b"new")
            await eventually(lambda: len(flows.peers) == 2)
            flows.may_attach.set()
            await eventually(lambda: len(flows.sinks) == 2)
            assert sorted(sink.got for sink in flows.sinks) == [[], [b"new"]]
        await finish(listener, flows)

    run_on(loop_name, main())


@both_loops
def test_full_listener_drops_new_sources_and_says_so_once(
    loop_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        flows = Flows()
        listener, port = listen(flows, max_connections=1)
        with udp_client(port) as one, udp_client(port) as other:
            assert await asyncio.to_thread(ask, one, b"1") == b"1"
            other.send(b"2")
            other.send(b"3")
            await eventually(lambda: listener.dropped == 2)
            assert await asyncio.to_thread(ask, one, b"4") == b"4"
            assert listener.is_full
        await finish(listener, flows)

    with caplog.at_level(logging.WARNING):
        run_on(loop_name, main())
    (record,) = caplog.records
    assert "all 1 flows are in use (--max-connections)" in record.getMessage()


@both_loops
def test_closed_listener_goes_on_for_its_flows(loop_name: str) -> None:
    async def main() -> None:
        flows = Flows()
        listener, port = listen(flows)
        with udp_client(port) as one, udp_client(port) as other:
            assert await asyncio.to_thread(ask, one, b"1") == b"1"
            listener.close()
            assert listener.is_closed
            assert await asyncio.to_thread(ask, one, b"2") == b"2"
            other.send(b"3")
            assert await asyncio.to_thread(is_silent, other)
            assert not await listener.wait_idle(UNIT / 4)
            await listener.abort()
            await asyncio.sleep(0)
            one.send(b"4")
            with pytest.raises(ConnectionRefusedError):
                await asyncio.to_thread(one.recv, 10)

    run_on(loop_name, main())


@both_loops
def test_failing_handler_frees_its_source(
    loop_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        calls = []

        async def fail(peer: UdpPeer) -> None:
            calls.append(peer)
            raise OSError("no luck")

        listener, port = listen(fail)
        with udp_client(port) as sock:
            sock.send(b"1")
            await eventually(lambda: len(calls) == 1 and not listener.active)
            sock.send(b"2")
            await eventually(lambda: len(calls) == 2 and not listener.active)
        listener.close()

    run_on(loop_name, main())
    assert [r.getMessage() for r in caplog.records] == ["flow failed: no luck"] * 2


@both_loops
def test_dialled_socket_counts_what_icmp_reports(loop_name: str) -> None:
    async def main() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as service:
            service.bind(("127.0.0.1", 0))
            address = service.getsockname()
        stream = await UdpDialer(address).dial()
        assert isinstance(stream, UdpStream)
        end, sink = stream.end, Sink()
        end.attach(sink)
        assert end.send(memoryview(b"nobody"))
        await eventually(lambda: end.errors == 1)
        for number in range(2, 5):  # each one goes out, whatever the last one met
            assert end.send(memoryview(b"nobody"))
            await eventually(lambda count=number: end.errors == count)
        end.errors = 1
        assert not end.send(memoryview(bytes(65_508)))
        assert (end.errors, end.dropped) == (1, 1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as service:
            service.bind(address)
            end.send(memoryview(b"somebody"))
            data, source = await asyncio.to_thread(service.recvfrom, 100)
            assert data == b"somebody"
            for number in range(3):
                service.sendto(b"%d" % number, source)
            await eventually(lambda: sink.got == [b"0", b"1", b"2"])
            end.release()
            end.release()
            service.sendto(b"unheard", source)
            await asyncio.sleep(UNIT / 4)
            assert len(sink.got) == 3
        end.close()
        stream.transport.abort()  # as for a client that has left

    run_on(loop_name, main())


@both_loops
def test_error_that_a_send_meets_leaves_the_socket_heard(loop_name: str) -> None:
    """In one turn of the loop: the error is there, is met by a send, and answered."""

    async def main() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as service:
            service.bind(("127.0.0.1", 0))
            port = service.getsockname()[1]
        end = (await UdpDialer(("127.0.0.1", port)).dial()).transport
        sink = Sink()
        end.attach(sink)
        ours, theirs = socket.socketpair()
        service = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

        def turn() -> None:  # comes first: it was ready first
            ours.recv(1)
            assert end.send(memoryview(b"now"))
            data, source = service.recvfrom(10)
            service.sendto(data, source)

        asyncio.get_running_loop().add_reader(ours.fileno(), turn)
        with ours, theirs, service:
            await asyncio.sleep(0)
            theirs.send(b"x")
            end.send(memoryview(b"to nobody"))
            service.bind(("127.0.0.1", port))
            await eventually(lambda: sink.got == [b"now"])
            assert end.errors == 1
            for number in (b"1", b"2"):
                assert end.send(memoryview(number))
                data, source = service.recvfrom(10)
                service.sendto(data, source)
                await eventually(lambda number=number: sink.got[-1] == number)
            asyncio.get_running_loop().remove_reader(ours.fileno())
            end.close()

    run_on(loop_name, main())


@both_loops
def test_unknown_name_is_named(loop_name: str) -> None:
    async def main() -> None:
        with pytest.raises(NoUpstream, match=r"nobody\.invalid"):
            await UdpDialer(("nobody.invalid", 53)).dial()

    run_on(loop_name, main())


def test_hosts_share_a_port() -> None:
    try:
        socks = bind_udp(("127.0.0.1", "::1"), 0, optional=frozenset({"::1"}))
    except OSError:
        pytest.skip("no loopback")
    ports = {sock.getsockname()[1] for sock in socks}
    assert len(ports) == 1
    assert not any(sock.getblocking() for sock in socks)
    (port,) = ports
    with pytest.raises(ListenError, match=rf"udp:127\.0\.0\.1:{port}: address already"):
        bind_udp(("127.0.0.1",), port)
    for sock in socks:
        sock.close()
    with pytest.raises(ListenError, match=r"udp:nobody\.invalid:1: unknown name"):
        bind_udp(("nobody.invalid",), 1)


def test_pace_asks_for_one_where_ones_come() -> None:
    pace = Pace()
    assert pace.batch == BATCH
    pace.fell_short(5)
    assert pace.batch == BATCH
    pace.fell_short(1)
    assert pace.batch == 1
    for _ in range(7):
        pace.reached()
    assert pace.batch == 1
    pace.reached()
    assert pace.batch == BATCH
