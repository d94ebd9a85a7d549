"""Parking a transport: nothing is read on purpose, nothing is lost by accident."""

import asyncio

from fastws.net.stream import ByteStream, Hold, Kind, describe, kind_of
from tests.support.copying import LINGER
from tests.support.ends import UNIT_KINDS, Spec, every_end, open_end
from tests.support.servers import both_loops, eventually, run_on
from tests.support.timing import UNIT


@every_end(*UNIT_KINDS)
def test_parked_transport_reads_at_most_once(loop_name: str, spec: Spec) -> None:
    async def main() -> None:
        stream, peer = await open_end(spec, linger=LINGER)
        sending = asyncio.create_task(peer.wire.send(bytes(20_000_000)))
        await asyncio.sleep(UNIT)
        assert not sending.done()
        assert len(stream.hold.leftover) <= 1 << 18
        sending.cancel()
        await asyncio.wait([sending])
        peer.wire.reset()
        stream.transport.abort()
        await eventually(lambda: stream.hold.lost)
        assert stream.hold.transport is None

    run_on(loop_name, main())


@both_loops
def test_kinds_and_addresses_are_told(loop_name: str) -> None:
    async def main() -> None:
        for spec in UNIT_KINDS:
            stream, peer = await open_end(spec, linger=LINGER)
            assert kind_of(stream.transport) is spec.kind
            if spec.kind is Kind.UNIX:
                assert describe(stream.transport) == "unix"
            else:
                assert describe(stream.transport).startswith("127.0.0.1:")
            assert spec.kind.value in repr(stream)
            peer.wire.close()
            stream.transport.abort()
            await eventually(lambda hold=stream.hold: hold.lost)

    run_on(loop_name, main())


class Transport:
    """A transport without a socket, as those of tunnel streams."""

    def __init__(self, half_closes: bool = True) -> None:
        self.pauses = 0
        self.half_closes = half_closes

    def pause_reading(self) -> None:
        self.pauses += 1

    def can_write_eof(self) -> bool:
        return self.half_closes

    def get_extra_info(self, name: str, default: object = None) -> object:
        return ("::1", 80, 0, 0) if name == "peername" else default


def test_transport_without_a_socket_is_a_stream() -> None:
    transport = Transport()
    assert kind_of(transport) is Kind.STREAM  # type: ignore[arg-type]
    assert describe(transport) == "[::1]:80"  # type: ignore[arg-type]


def test_hold_keeps_bytes_eof_and_loss() -> None:
    hold, transport = Hold(), Transport()
    hold.connection_made(transport)  # type: ignore[arg-type]
    hold.data_received(b"one ")
    hold.data_received(b"two")
    assert (hold.leftover, transport.pauses) == (b"one two", 3)
    assert hold.eof_received() is True
    assert hold.eof
    error = ConnectionResetError()
    hold.connection_lost(error)
    assert (hold.lost, hold.error, hold.transport) == (True, error, None)


def test_hold_does_not_keep_an_ended_tls_transport_open() -> None:
    """asyncio warns about protocols that ask for it."""
    hold = Hold()
    hold.connection_made(Transport(half_closes=False))  # type: ignore[arg-type]
    assert hold.eof_received() is False


def test_unread_bytes_come_first() -> None:
    hold = Hold()
    hold.leftover = b"late"
    stream = ByteStream(Transport(), Kind.STREAM, hold)  # type: ignore[arg-type]
    stream.unread(memoryview(b"early "))
    assert hold.leftover == b"early late"
