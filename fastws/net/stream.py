"""The byte stream that every mode hands to the pump, and how one is parked.

A stream is a transport plus the bytes that were read before the pump took over.
Between opening and :func:`fastws.net.copy.copy_bidirectional` its protocol is a
:class:`Hold`, which reads nothing on purpose and loses nothing by accident.
"""

import asyncio
import socket
import sys
from contextlib import suppress
from enum import Enum
from typing import Any, cast

from fastws._address import join_host_port
from fastws.typing import BytesLike

_FORGETS = sys.version_info < (3, 11, 7)


class Kind(Enum):
    """What a transport can carry besides bytes (DESIGN: ends)."""

    TCP = "tcp"  # half-close and reset
    UNIX = "unix"  # half-close, no reset
    TLS = "tls"  # neither half-close nor, everywhere, a visible cut
    STREAM = "stream"  # a tunnel stream: half-close and reset, no descriptor
    UDP = "udp"  # datagrams: only for what moves messages, never for the pump
    STDIO = "stdio"  # half-close, no reset, no descriptor


def pause_from_start(transport: Any) -> None:
    """Pause reading from ``connection_made`` on.

    asyncio of older patch releases (seen in 3.11.2, not in 3.11.7) starts to read
    after that call although it paused: there it is done once more.
    """
    transport.pause_reading()
    if _FORGETS and type(transport).__module__.startswith("asyncio."):
        asyncio.get_running_loop().call_soon(_pause_again, transport)


def _pause_again(transport: Any) -> None:
    # Pipes of those releases have no is_reading().
    if not transport.is_closing() and getattr(transport, "_paused", False):
        transport.resume_reading()
        transport.pause_reading()


class Hold(asyncio.Protocol):
    """Parks a transport: pauses reading, keeps what arrived all the same.

    uvloop starts reading after ``connection_made`` whatever that call did, so some
    bytes can arrive; they are kept for the pump. At most one read is kept, because
    the first one pauses the transport.

    Attributes:
        leftover: bytes read so far, in order.
        eof: the peer's EOF was seen.
        lost: the transport is gone; ``error`` says why, ``None`` for a clean end.
        peer: the address that was accepted, also of a connection that is gone.
    """

    __slots__ = ("eof", "error", "leftover", "lost", "peer", "transport")

    def __init__(self) -> None:
        self.peer: Any = None
        self.transport: asyncio.Transport | None = None
        self.leftover = b""
        self.eof = False
        self.lost = False
        self.error: Exception | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop has its own
        pause_from_start(self.transport)

    def data_received(self, data: bytes) -> None:
        self.leftover += data
        if self.transport is not None:
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        self.eof = True
        # Over TLS the answer has no effect: both directions have ended.
        return self.transport is not None and self.transport.can_write_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self.error = exc
        self.transport = None


class ByteStream:
    """A transport, its kind, and the bytes read from it so far.

    Args:
        transport: reading is paused and the protocol is a :class:`Hold`.
        kind: what it can carry.
        hold: that protocol; its leftover, EOF and loss are delivered first.

    Attributes:
        ident: names it in the log of the far end too; empty: not known there.
    """

    __slots__ = ("hold", "kind", "transport")

    ident: str = ""

    def __init__(self, transport: asyncio.Transport, kind: Kind, hold: Hold) -> None:
        self.transport = transport
        self.kind = kind
        self.hold = hold

    def unread(self, data: BytesLike) -> None:
        """Put ``data`` (copied) in front of what will be read next."""
        self.hold.leftover = bytes(data) + self.hold.leftover

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.kind.value} {describe(self.transport)}>"


class AttachedStream(ByteStream):
    """A stream of a connection that carries others after it.

    Its end is the transport's protocol already, and outlives the copy: it parts from
    it with ``owner.part``. Nothing is left over in ``hold``.
    """

    __slots__ = ()

    def join(self, owner: Any) -> Any:
        """Return the end, which holds what comes, with ``owner`` as its owner."""
        raise NotImplementedError

    def joined(self) -> None:
        """The end has its peer: pass on what was held, an EOF and a reset too."""
        raise NotImplementedError

    def discard(self) -> None:
        """Nobody will join it: break it off."""
        raise NotImplementedError

    def forgo_replay(self) -> None:
        """What will be written must not reach the target twice."""


def write_eof(transport: Any) -> None:
    """Send our end, if the peer has not reset: asyncio's transports raise then.

    They do where nothing is being read, and will tell of the reset themselves.
    """
    with suppress(OSError):
        transport.write_eof()


def write_last(transport: asyncio.Transport, answer: bytes) -> None:
    """Send ``answer``, which may be empty, and our end; reading goes on."""
    if answer:
        transport.write(answer)
    if transport.can_write_eof():
        write_eof(transport)
    elif not transport.get_write_buffer_size():
        transport.close()  # TLS: reads on by itself until the peer's end


def write_limits(high: int | None, low: int | None, default: int) -> tuple[int, int]:
    """Marks of a write buffer in bytes: asks to pause above the first.

    Args:
        high: as given to ``set_write_buffer_limits``.
        low: likewise, at which writing goes on.
        default: the high mark where neither is given.

    Raises:
        ValueError: not high >= low >= 0.
    """
    if high is None:
        high = default if low is None else 4 * low
    if low is None:
        low = high // 4
    if not high >= low >= 0:
        raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
    return high, low


def kind_of(transport: asyncio.BaseTransport) -> Kind:
    """Tell what an asyncio transport of the running loop can carry."""
    if transport.get_extra_info("sslcontext") is not None:
        return Kind.TLS
    sock = transport.get_extra_info("socket")
    if sock is None:
        kind: Kind = transport.get_extra_info("kind", Kind.STREAM)
        return kind
    if hasattr(socket, "AF_UNIX") and sock.family == socket.AF_UNIX:
        return Kind.UNIX
    return Kind.TCP


def describe(transport: asyncio.BaseTransport, peer: object = None) -> str:
    """The peer's address as text, for log lines; never raises.

    Args:
        transport: asked when ``peer`` is ``None``; one that is gone cannot tell.
        peer: the address as accepted.
    """
    peer = peer or transport.get_extra_info("peername")
    if isinstance(peer, tuple):
        host, port = peer[:2]
        return join_host_port(host, port)
    return str(peer) if peer else "unix"


def host_of(peer: Any) -> str:
    """The host of an address as accepted, empty for one without."""
    return peer[0].partition("%")[0] if isinstance(peer, tuple) else ""
