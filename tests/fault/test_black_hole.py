"""A path on which nothing passes any more: no FIN, no RST, only silence.

The far ends live in a network namespace of their own, joined by a veth pair; its far
end is set down. Needs root and Linux.
"""

import asyncio
import contextlib
import ctypes
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from fastws.net.ends import CopyOptions
from fastws.net.stream import Kind
from tests.support.copying import noise, relay, send_all
from tests.support.ends import STW, TCP, WTS, WTS_FASTWS, Spec
from tests.support.servers import LOOPS, both_loops, eventually

CLONE_NEWNET = 0x40000000
WITHIN = 60.0  # seconds, with default options
NEAR, FAR = "10.213.77.1", "10.213.77.2"
KINDS = [TCP, WTS, WTS_FASTWS, STW, Spec(Kind.TLS), Spec(Kind.TLS, WTS.side)]


class Veth:
    """Two hosts on one cable."""

    def __init__(self) -> None:
        self.name = f"fws{os.getpid()}"
        self.near, self.far = f"{self.name}a", f"{self.name}b"
        ip("netns", "add", self.name)
        ip("link", "add", self.near, "type", "veth", "peer", "name", self.far)
        ip("link", "set", self.far, "netns", self.name)
        ip("addr", "add", f"{NEAR}/30", "dev", self.near)
        ip("link", "set", self.near, "up")
        ip("-n", self.name, "addr", "add", f"{FAR}/30", "dev", self.far)
        ip("-n", self.name, "link", "set", self.far, "up")

    def pull(self) -> None:
        """Pull the cable."""
        ip("-n", self.name, "link", "set", self.far, "down")

    def remove(self) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            ip("link", "del", self.near)
        ip("netns", "del", self.name)

    def listen(self) -> socket.socket:
        """A listening socket on the far host."""
        libc = ctypes.CDLL(None, use_errno=True)
        own = os.open("/proc/self/ns/net", os.O_RDONLY)
        other = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
        try:
            if libc.setns(other, CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
            try:
                return socket.create_server((FAR, 0))
            finally:
                libc.setns(own, CLONE_NEWNET)
        finally:
            os.close(own)
            os.close(other)

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """A connection between the hosts, the near socket first."""
        with self.listen() as listener:
            near = socket.create_connection(listener.getsockname(), timeout=5)
            far, _ = listener.accept()
        return near, far


def ip(*args: str) -> None:
    subprocess.run(["ip", *args], check=True, capture_output=True, timeout=10)


@pytest.fixture
def veth() -> Iterator[Veth]:
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("needs root and ip(8) on Linux")
    try:
        cable = Veth()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespaces here: {error.stderr.decode().strip()}")
    yield cable
    cable.remove()


async def vanish(veth: Veth, spec: Spec, stalled: bool, pulled: asyncio.Event) -> str:
    """Upload into the cable; when it is pulled, say how the copy ended."""
    loop = asyncio.get_running_loop()
    options = CopyOptions()
    async with relay(spec, options=options, buffers=1 << 18, pair=veth.pair()) as r:
        r.x.answers_pings = False
        pieces = [noise(50_000)] * (40 if stalled else 100_000)
        sending = asyncio.create_task(send_all(r.y, pieces))

        async def read() -> None:
            while True:
                await r.x.read(100_000)

        reading = None if stalled else asyncio.create_task(read())
        if stalled:
            await eventually(lambda: not r.copy.b.is_reading)
        else:
            await eventually(lambda: r.copy.b.payload_in > 1_000_000)
        pulled.set()
        await pulled.wait()
        start = loop.time()
        reason = (await r.result(2 * WITHIN)).reason
        took = loop.time() - start
        for task in (sending, reading):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
    assert took < WITHIN, f"{spec}: {took:.0f} s, {reason}"
    return reason


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("stalled", [False, True], ids=["upload", "stall"])
@both_loops
def test_black_hole_ends_in_a_reset(loop_name: str, stalled: bool, veth: Veth) -> None:
    async def main() -> None:
        ready = [asyncio.Event() for _ in KINDS]
        tasks = [
            asyncio.create_task(vanish(veth, kind, stalled, event))
            for kind, event in zip(KINDS, ready, strict=True)
        ]
        await asyncio.gather(*(event.wait() for event in ready))
        veth.pull()
        reasons = await asyncio.gather(*tasks)
        assert set(reasons) <= {"a: dead path", "a: ping timeout"}

    with asyncio.Runner(loop_factory=LOOPS[loop_name]) as runner:
        runner.run(main())
