"""The read buffer of one event loop, pure twin."""

from collections.abc import Callable
from typing import Any

from fastws._consts import HEADROOM, READ_MIN


class Scratch:
    """The read buffer of one event loop, replaced while a transport keeps it.

    Args:
        call_soon: of that loop; with it, ends that read much take turns.

    Attributes:
        lent: buffers that transports still hold.
    """

    __slots__ = ("_memory", "call_soon", "lent")

    def __init__(self, call_soon: Callable[..., Any] | None = None) -> None:
        self.call_soon = call_soon
        self._memory: bytearray | None = None
        self.lent = 0

    @property
    def memory(self) -> bytearray:
        """The current buffer: headroom, then room for one read."""
        if self._memory is None:
            self._memory = bytearray(HEADROOM + READ_MIN)
        return self._memory

    def grow(self, size: int) -> memoryview:
        """The writable part of the buffer, ``size`` bytes long."""
        if len(self.memory) < HEADROOM + size:
            self._memory = bytearray(HEADROOM + size)
        return memoryview(self.memory)[HEADROOM : HEADROOM + size]

    def lend(self) -> bytearray:
        """Give the current buffer away; the next read gets a fresh one."""
        memory = self.memory
        self._memory = None
        self.lent += 1
        return memory

    def trim(self) -> None:
        """Give back memory around unsent bytes; here nothing can be given back."""
