"""Names for the shapes that cross module borders. Imports nothing of fastws."""

from collections.abc import Sequence
from typing import TypeAlias

BytesLike: TypeAlias = bytes | bytearray | memoryview
"""Read-only use; one-dimensional, C-contiguous, itemsize 1."""

WritableBuffer: TypeAlias = bytearray | memoryview
"""Written in place; one-dimensional, C-contiguous, itemsize 1."""

HeaderList: TypeAlias = Sequence[tuple[str, str]]
"""HTTP fields in wire order, names as written, values without outer white space."""

Address: TypeAlias = tuple[str, int] | str
"""``(host, port)`` for TCP, a path for a unix socket."""
