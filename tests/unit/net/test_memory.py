"""Connections in memory: order, half-close, backpressure, resets, stalls."""

import asyncio
from typing import Any

import pytest

from fastws.net.copy import copy_bidirectional
from fastws.net.memory import MemoryTransport, memory_pair
from fastws.net.stream import ByteStream, Hold, kind_of
from tests.support.servers import both_loops, run_on


class Recorder(asyncio.Protocol):
    """Writes down what it hears."""

    def __init__(self, keeps_open: bool = True) -> None:
        self.said: list[Any] = []
        self.keeps_open = keeps_open

    @property
    def data(self) -> bytes:
        return b"".join(item for item in self.said if isinstance(item, bytes))

    def data_received(self, data: bytes) -> None:
        self.said.append(data)

    def eof_received(self) -> bool:
        self.said.append("eof")
        return self.keeps_open

    def connection_lost(self, exc: Exception | None) -> None:
        self.said.append(exc)

    def pause_writing(self) -> None:
        self.said.append("pause")

    def resume_writing(self) -> None:
        self.said.append("resume")


def connected(
    keeps_open: bool = True,
) -> tuple[MemoryTransport, MemoryTransport, Recorder, Recorder]:
    """Two transports that read, and who hears of each."""
    one, other = Recorder(keeps_open), Recorder(keeps_open)
    near, far = memory_pair(asyncio.get_running_loop(), one, other)
    near.resume_reading()
    far.resume_reading()
    return near, far, one, other


async def settle() -> None:
    """Let everything happen that can without a clock."""
    for _ in range(20):
        await asyncio.sleep(0)


@both_loops
def test_each_direction_ends_by_itself(loop_name: str) -> None:
    async def main() -> None:
        near, far, one, other = connected()
        near.write(b"ab")
        near.write_eof()
        await settle()
        assert other.said == [b"ab", "eof"]
        far.writelines([b"c", b"d"])
        far.close()
        await settle()
        assert one.said == [b"cd", "eof"]
        assert other.said == [b"ab", "eof", None]
        near.close()
        await settle()
        assert one.said == [b"cd", "eof", None]

    run_on(loop_name, main())


@both_loops
def test_end_of_one_closes_a_protocol_that_wants_it(loop_name: str) -> None:
    async def main() -> None:
        near, far, one, other = connected(keeps_open=False)
        near.close()
        await settle()
        assert (one.said, other.said) == ([None], ["eof", None])
        assert near.is_closing()
        assert far.is_closing()

    run_on(loop_name, main())


@both_loops
def test_memory_written_may_change_at_once(loop_name: str) -> None:
    async def main() -> None:
        near, _, _, other = connected()
        data = bytearray(b"first")
        near.write(data)
        data[:] = b"wrong"
        await settle()
        assert other.data == b"first"

    run_on(loop_name, main())


@both_loops
def test_writer_pauses_while_nobody_reads(loop_name: str) -> None:
    async def main() -> None:
        near, far, one, other = connected()
        near.set_write_buffer_limits(high=0)
        far.pause_reading()
        near.write(b"x" * 10)
        await settle()
        assert (one.said, near.get_write_buffer_size()) == (["pause"], 10)
        far.resume_reading()
        await settle()
        assert (one.said, near.get_write_buffer_size()) == (["pause", "resume"], 0)
        assert other.data == b"x" * 10

    run_on(loop_name, main())


@both_loops
def test_bytes_under_way_count_as_sent(loop_name: str) -> None:
    async def main() -> None:
        one, other = Recorder(), Recorder()
        near, far = memory_pair(asyncio.get_running_loop(), one, other, capacity=10)
        near.set_write_buffer_limits(high=0)
        near.write(b"x" * 10)
        assert (near.get_write_buffer_size(), one.said) == (0, [])
        near.write(b"yz")
        assert (near.get_write_buffer_size(), one.said) == (2, ["pause"])
        far.resume_reading()
        await settle()
        assert (near.get_write_buffer_size(), one.said) == (0, ["pause", "resume"])
        assert other.data == b"x" * 10 + b"yz"

    run_on(loop_name, main())


@both_loops
def test_bytes_that_the_reader_keeps_count_as_unsent(loop_name: str) -> None:
    async def main() -> None:
        near, far, one, other = connected()
        near.set_write_buffer_limits(high=0)
        near.write(b"abc")
        far.keep(2)
        await settle()
        assert (near.get_write_buffer_size(), one.said) == (2, ["pause"])
        far.keep(0)
        await settle()
        assert (near.get_write_buffer_size(), one.said) == (0, ["pause", "resume"])
        assert other.data == b"abc"

    run_on(loop_name, main())


@both_loops
def test_close_waits_until_everything_is_taken(loop_name: str) -> None:
    async def main() -> None:
        near, far, one, other = connected()
        far.pause_reading()
        near.write(b"late")
        near.close()
        await settle()
        assert (one.said, other.said) == ([], [])
        far.resume_reading()
        await settle()
        assert (one.said, other.said) == ([None], [b"late", "eof"])

    run_on(loop_name, main())


@both_loops
def test_abort_drops_what_is_unsent_and_resets_the_peer(loop_name: str) -> None:
    async def main() -> None:
        near, far, one, other = connected()
        far.pause_reading()
        near.write(b"lost")
        near.abort()
        near.abort()
        await settle()
        assert one.said == [None]
        assert [type(item) for item in other.said] == [ConnectionResetError]

    run_on(loop_name, main())


@both_loops
def test_writing_to_one_that_closed_is_a_reset(loop_name: str) -> None:
    async def main() -> None:
        near, far, one, other = connected()
        far.close()
        await settle()
        assert (one.said, other.said) == (["eof"], [None])
        near.write(b"too late")
        await settle()
        assert [type(item) for item in one.said[1:]] == [ConnectionResetError]

    run_on(loop_name, main())


@both_loops
def test_stall_holds_bytes_and_end(loop_name: str) -> None:
    async def main() -> None:
        near, _, _, other = connected()
        near.stall()
        near.write(b"held")
        near.write_eof()
        await settle()
        assert other.said == []
        near.stall(False)
        await settle()
        assert other.said == [b"held", "eof"]

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize("size", [1, 100_000, 3_000_000])
def test_pump_carries_bytes_between_two_of_them(loop_name: str, size: int) -> None:
    """The pump reads into memory of its own, and waits for each write to be taken."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        data = bytes(range(251)) * (size // 251 + 1)
        users, streams = [], []
        for _ in range(2):
            user, hold = Recorder(), Hold()
            outer, inner = memory_pair(loop, user, hold)
            hold.connection_made(inner)
            outer.resume_reading()
            users.append((outer, user))
            streams.append(ByteStream(inner, kind_of(inner), hold))
        copying = asyncio.create_task(copy_bidirectional(*streams))
        (near, one), (far, other) = users
        near.write(data)
        near.write_eof()
        far.write(data[:5])
        far.write_eof()
        result = await copying
        assert result == (len(data), 5, "closed", True)
        await settle()
        assert (other.data, one.data) == (data, data[:5])
        assert "eof" in one.said
        assert other.said[-1] == "eof"
        near.close()
        far.close()

    run_on(loop_name, main())
