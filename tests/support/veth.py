"""Another host: a network namespace at the end of a veth pair. Needs root and Linux.

What is switched off there says nothing any more: no FIN, no RST, only silence.
"""

import contextlib
import ctypes
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator

CLONE_NEWNET = 0x40000000


class Veth:
    """Two hosts on one cable.

    The addresses are of the range for benchmarks (RFC 2544), each process its own.

    Attributes:
        near: address of this host.
        far: address of the other one.
    """

    def __init__(self) -> None:
        number = os.getpid() % 512
        self._net = f"198.{18 + number // 256}.{number % 256}"
        self.near, self.far = f"{self._net}.1", f"{self._net}.2"
        self.name = f"fws{os.getpid()}"
        self._ends = f"{self.name}a", f"{self.name}b"

    def lay(self) -> None:
        """Make both ends of it."""
        here, there = self._ends
        ip("netns", "add", self.name)
        ip("link", "add", here, "type", "veth", "peer", "name", there)
        ip("link", "set", there, "netns", self.name)
        ip("addr", "add", f"{self.near}/30", "dev", here)
        ip("link", "set", here, "up")
        self.there("addr", "add", f"{self.far}/30", "dev", there)
        self.there("link", "set", there, "up")
        self.there("link", "set", "lo", "up")
        ip("route", "add", f"{self._net}.0/24", "via", self.far)

    def there(self, *args: str) -> None:
        """ip(8) on the far host."""
        ip("-n", self.name, *args)

    def pull(self) -> None:
        """Pull the cable."""
        self.there("link", "set", self._ends[1], "down")

    def remove(self) -> None:
        """Take everything away."""
        for what in (("link", "del", self._ends[0]), ("netns", "del", self.name)):
            with contextlib.suppress(subprocess.CalledProcessError):
                ip(*what)

    # -- hosts behind the far one ----------------------------------------------------

    def host(self, number: int) -> str:
        """Address of a further host, 0 to 199; it is there from now on."""
        address = f"{self._net}.{10 + number}"
        self.there("addr", "add", f"{address}/32", "dev", "lo")
        return address

    def switch_off(self, address: str) -> None:
        """Nothing comes from that host any more, and what goes to it is lost."""
        self.there("route", "add", "blackhole", f"{address}/32")
        self.there("addr", "del", f"{address}/32", "dev", "lo")

    def switch_on(self, address: str) -> None:
        """It is there again, and knows nothing of what was before."""
        self.there("addr", "add", f"{address}/32", "dev", "lo")
        self.there("route", "del", "blackhole", f"{address}/32")

    # -- its sockets -----------------------------------------------------------------

    def open_socket(self) -> socket.socket:
        """A TCP socket of the far host."""
        libc = ctypes.CDLL(None, use_errno=True)
        own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        other = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
        try:
            if libc.setns(other, CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
            try:
                return socket.socket()
            finally:
                libc.setns(own, CLONE_NEWNET)
        finally:
            os.close(own)
            os.close(other)

    def listen(self) -> socket.socket:
        """A listening socket on the far host."""
        sock = self.open_socket()
        sock.bind((self.far, 0))
        sock.listen()
        return sock

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """A connection between the hosts, the near socket first."""
        with self.listen() as listener:
            near = socket.create_connection(listener.getsockname(), timeout=5)
            far, _ = listener.accept()
        return near, far


def ip(*args: str) -> None:
    """Run ip(8)."""
    subprocess.run(["ip", *args], check=True, capture_output=True, timeout=10)


class NoVeth(Exception):
    """There can be no other host here; the text says why."""


@contextlib.contextmanager
def veth() -> Iterator[Veth]:
    """A cable.

    Raises:
        NoVeth: this machine, or this user, has none.
    """
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("ip") is None:
        raise NoVeth("needs root and ip(8) on Linux")
    cable = Veth()
    try:
        try:
            cable.lay()
        except subprocess.CalledProcessError as error:
            said = error.stderr.decode("utf-8", "replace").strip()
            raise NoVeth(f"no network namespaces here: {said}") from error
        yield cable
    finally:
        cable.remove()
