"""The byte queue of the pure twin; ``_speedups_py`` re-exports it.

This is the specification of ``BinaryMut`` in ``_speedups.pyx``.
"""

from operator import index
from typing import Final, final

from fastws.typing import BytesLike

_MIN_STORE: Final = 64


def byte_view(buf: BytesLike, *, writable: bool) -> memoryview:
    """A one-dimensional view of plain bytes.

    Raises:
        TypeError: ``buf`` holds no bytes.
        BufferError: ``buf`` is read-only but should be ``writable``, or is not
            contiguous.
    """
    view = memoryview(buf)
    if writable and view.readonly:
        raise BufferError("the buffer is read-only")
    if not view.c_contiguous:
        raise BufferError("the buffer is not contiguous")
    return view if view.format == "B" and view.ndim == 1 else view.cast("B")


class _Store:
    """The memory of one or more BinaryMut."""

    __slots__ = ("memory",)

    def __init__(self, size: int) -> None:
        try:
            self.memory = bytearray(size)
        except OverflowError:
            raise MemoryError from None

    def is_viewed(self) -> bool:
        """Whether a view is alive: then, and only then, a resize is refused."""
        try:
            self.memory.append(0)
        except BufferError:
            return True
        self.memory.pop()
        return False


@final
class BinaryMut:
    """A growable byte queue whose parts can be viewed and split without a copy.

    The names are those of the Rust crate ``bytes``. Memory is one block: bytes in
    front were consumed by :meth:`advance`, then come the readable ones (``len()``),
    then the spare ones. Views stay valid for as long as they are held: growing or
    compacting under a live view moves to a fresh block and leaves the old one to its
    views. BinaryMut made by :meth:`split_to` share one block, each its own part.

    The readable bytes are exported through the buffer protocol, writable (from
    Python 3.12 on in this twin; :meth:`chunk` works everywhere).

    Args:
        capacity: bytes to allocate at once.

    Raises:
        ValueError: ``capacity`` is negative.
        MemoryError: there is not so much memory.
    """

    __slots__ = ("_base", "_head", "_limit", "_store", "_tail")

    def __init__(self, capacity: int = 0) -> None:
        size = index(capacity)
        if size < 0:
            raise ValueError("capacity must be at least 0")
        self._store = _Store(size)
        self._base = self._head = self._tail = 0
        self._limit = size

    def __len__(self) -> int:
        return self._tail - self._head

    def __repr__(self) -> str:
        return f"<BinaryMut {len(self)} bytes, room for {self.spare}>"

    def __bytes__(self) -> bytes:
        return bytes(self.chunk())

    def __buffer__(self, flags: int) -> memoryview:
        return self.chunk()

    @property
    def spare(self) -> int:
        """Bytes that can be added without growing."""
        return self._limit - self._tail

    def chunk(self) -> memoryview:
        """The readable bytes, viewed; writable, valid while the view is held."""
        return memoryview(self._store.memory)[self._head : self._tail]

    def advance(self, n: int) -> None:
        """Drop the first ``n`` readable bytes.

        Raises:
            ValueError: ``n`` is negative or more than ``len()``; nothing changed.
        """
        n = index(n)
        if not 0 <= n <= len(self):
            raise ValueError(f"advance needs 0..{len(self)} bytes")
        self._head += n

    def chunk_mut(self, n: int) -> memoryview:
        """All spare bytes, viewed for writing; grows until there are ``n``.

        What was written becomes readable with :meth:`advance_mut`. Content of spare
        bytes is undefined before.

        Raises:
            ValueError: ``n`` is negative.
            MemoryError: there is not so much memory; nothing changed.
        """
        self.reserve(n)
        return memoryview(self._store.memory)[self._tail : self._limit]

    def advance_mut(self, n: int) -> None:
        """Make the first ``n`` spare bytes readable.

        Raises:
            ValueError: ``n`` is negative or more than ``spare``; nothing changed.
        """
        n = index(n)
        if not 0 <= n <= self.spare:
            raise ValueError(f"advance_mut needs 0..{self.spare} bytes")
        self._tail += n

    def reserve(self, n: int) -> None:
        """Make room for ``n`` more bytes.

        Reuses the bytes in front when that moves at most as many as it frees,
        else at least doubles the block: adding is linear in the bytes added.

        Raises:
            ValueError: ``n`` is negative.
            MemoryError: there is not so much memory; nothing changed.
        """
        n = index(n)
        if n < 0:
            raise ValueError("reserve needs at least 0 bytes")
        if n <= self.spare:
            return
        size = len(self)
        capacity = self._limit - self._base
        if size + n > capacity or self._head - self._base < size:
            capacity = max(_MIN_STORE, size + n, 2 * capacity)
        elif not self._store.is_viewed():
            memory = self._store.memory
            memory[self._base : self._base + size] = memory[self._head : self._tail]
            self._head = self._base
            self._tail = self._base + size
            return
        store = _Store(capacity)
        store.memory[:size] = self.chunk()
        self._store = store
        self._base = self._head = 0
        self._tail = size
        self._limit = capacity

    def split_to(self, n: int) -> "BinaryMut":
        """Move the first ``n`` readable bytes into a BinaryMut of their own.

        Nothing is copied: both share the block. The new one has no spare bytes.

        Raises:
            ValueError: ``n`` is negative or more than ``len()``; nothing changed.
        """
        n = index(n)
        if not 0 <= n <= len(self):
            raise ValueError(f"split_to needs 0..{len(self)} bytes")
        front = BinaryMut.__new__(BinaryMut)
        front._store = self._store
        front._base = self._base
        front._head = self._head
        self._head += n
        self._base = front._tail = front._limit = self._head
        return front

    def clear(self) -> None:
        """Drop every readable byte; memory is kept for what comes next."""
        self._head = self._tail

    def extend(self, data: BytesLike) -> None:
        """Append a copy of ``data``, which may be a view of this very object.

        Raises:
            TypeError: ``data`` holds no bytes.
            BufferError: ``data`` is not contiguous; nothing changed.
        """
        view = byte_view(data, writable=False)
        size = len(view)
        self.reserve(size)
        self._store.memory[self._tail : self._tail + size] = view
        self._tail += size
