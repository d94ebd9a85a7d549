"""The pipe between a protocol and the pump, with a pump that only takes notes."""

import asyncio
from typing import Any

import pytest

from fastws.net.stream import Kind, kind_of
from fastws.ws.pipe import _EMPTY, HELD, PIECE, PipeTransport
from tests.support.servers import both_loops, run_on
from tests.support.streams import Recorder


class Pump(asyncio.BaseProtocol):
    """Takes what it is fed, and says what it hears.

    Attributes:
        pauses_after: bytes after which it stops reading, as often as they come.
    """

    def __init__(self, pipe: PipeTransport) -> None:
        self.side = pipe.pump_side
        self.side.set_protocol(self)
        self.data = bytearray()
        self.calls: list[str] = []
        self.pauses_after = 1 << 62

    def feed(self, data: bytes | memoryview) -> None:
        assert 0 < len(data) <= PIECE
        self.data += data
        if len(self.data) >= self.pauses_after:
            self.side.pause_reading()

    def eof_received(self) -> bool:
        self.calls.append("eof")
        return True

    def pause_writing(self) -> None:
        self.calls.append("pause")

    def resume_writing(self) -> None:
        self.calls.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.calls.append("lost")


def make() -> tuple[PipeTransport, Recorder, Pump]:
    protocol = Recorder()
    pipe = PipeTransport(protocol)
    protocol.connection_made(pipe)
    return pipe, protocol, Pump(pipe)


def on_both(check: Any) -> Any:
    @both_loops
    def test(loop_name: str) -> None:
        run_on(loop_name, check())

    test.__doc__ = check.__doc__
    return test


@on_both
async def test_writes_keep_their_order() -> None:
    """What is written between a resumption and its turn stands behind what waits."""
    pipe, _, pump = make()
    pipe.write(b"one ")
    assert pipe.get_write_buffer_size() == 4
    pump.side.resume_reading()
    pipe.write(b"two ")
    assert pump.data == b""
    await asyncio.sleep(0)
    assert pump.data == b"one two "
    pipe.write(b"three")
    assert pump.data == b"one two three"
    assert pipe.get_write_buffer_size() == 0


@on_both
async def test_idle_pipe_keeps_no_queue() -> None:
    """One of its own takes 0.7 KiB, and most connections are idle."""
    pipe, protocol, pump = make()
    pipe.write(b"early")
    pump.side.write(b"data")
    assert (list(pipe._outgoing), list(pipe._incoming)) == ([b"early"], [b"data"])
    pump.side.resume_reading()
    await asyncio.sleep(0)
    assert (pump.data, protocol.data) == (b"early", b"data")
    assert pipe._outgoing is pipe._incoming is _EMPTY
    assert not _EMPTY


@on_both
async def test_end_is_told_behind_what_waits() -> None:
    for call in ("write_eof", "close"):
        for resumes_first in (False, True):
            pipe, _, pump = make()
            pipe.write(b"last")
            if resumes_first:
                pump.side.resume_reading()
            getattr(pipe, call)()
            assert (pump.data, pump.calls) == (b"", [])
            if not resumes_first:
                await asyncio.sleep(0)
                assert pump.calls == []
                pump.side.resume_reading()
            await asyncio.sleep(0)
            assert (pump.data, pump.calls) == (b"last", ["eof"])


@on_both
async def test_pump_takes_what_it_can() -> None:
    pipe, protocol, pump = make()
    data = bytes(range(256)) * 8192  # 2 MiB
    pump.pauses_after = 2 * PIECE
    pump.side.resume_reading()
    pipe.write(data)
    assert len(pump.data) == 2 * PIECE
    assert pipe.get_write_buffer_size() == len(data) - 2 * PIECE
    assert protocol.calls == ["made", "pause"]
    pump.pauses_after = 1 << 62
    pump.side.resume_reading()
    await asyncio.sleep(0)
    assert pump.data == data
    assert protocol.calls == ["made", "pause", "resume"]


@on_both
async def test_protocol_is_called_in_a_later_turn() -> None:
    """Never from within the pump, whose memory a write of it would overwrite."""
    _, protocol, pump = make()
    memory = bytearray(b"data")
    pump.side.write(memoryview(memory))
    memory[:] = b"gone"
    pump.side.write_eof()
    pump.side.abort()
    assert protocol.calls == ["made"]
    assert pump.calls == []
    await asyncio.sleep(0)
    assert protocol.data == b"data"
    assert protocol.calls == ["made", "data", "eof", "lost"]
    assert pump.calls == ["lost"]


@on_both
async def test_protocol_that_has_paused_is_full_some_time() -> None:
    pipe, protocol, pump = make()
    pipe.pause_reading()
    pump.side.write(bytes(HELD))
    assert pump.side.get_write_buffer_size() == 0  # copied: that memory is free
    assert pump.calls == []
    pump.side.write(b"x")
    assert pump.side.get_write_buffer_size() == HELD + 1
    assert pump.calls == ["pause"]
    await asyncio.sleep(0)
    assert protocol.calls == ["made"]
    pipe.resume_reading()
    await asyncio.sleep(0)
    assert len(protocol.data) == HELD + 1
    assert pump.side.get_write_buffer_size() == 0
    assert pump.calls == ["pause", "resume"]


@on_both
async def test_lent_pipe_calls_no_pump_from_within_one() -> None:
    pipe, _, pump = make()
    pump.side.resume_reading()
    await asyncio.sleep(0)
    pipe.lend()
    memory = bytearray(b"data")
    pipe.write(memory)
    memory[:] = b"gone"
    pipe.write_eof()
    assert (pump.data, pump.calls) == (b"", [])
    await asyncio.sleep(0)
    assert (pump.data, pump.calls) == (b"data", ["eof"])
    pipe.write(b"too late")  # as EPIPE: both sides have to know
    assert pump.calls == ["eof", "lost"]


@on_both
async def test_pump_hears_of_an_end_once() -> None:
    for calls in (("close", "abort"), ("abort", "close"), ("abort", "abort")):
        pipe, protocol, pump = make()
        for call in calls:
            getattr(pump.side, call)()
        pipe.abort()
        pipe.abort()
        pipe.close()
        pump.side.write(b"dropped")
        pump.side.resume_reading()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert pump.calls == ["lost"]
        assert protocol.calls == ["made", "lost"]
        assert pump.side.is_closing()
        assert not pump.side.is_reading()


@on_both
async def test_faces() -> None:
    pipe, _, pump = make()
    assert kind_of(pump.side) is Kind.STREAM
    assert pump.side.get_protocol() is pump
    assert pump.side.can_write_eof()
    assert pipe.can_write_eof()
    assert pump.side.get_write_buffer_limits() == (0, 0)
    pump.side.writelines([b"a", b"b"])
    assert pipe.held == 2
    assert type(pipe.error()) is ConnectionResetError
    assert pipe.linger == 0
    with pytest.raises(TypeError):
        pipe.write(5)  # type: ignore[arg-type]
    pipe.abort()
    await asyncio.sleep(0)
