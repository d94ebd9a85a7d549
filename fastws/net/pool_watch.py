"""Whether an idle pooled WebSocket lives, before anybody needs it.

Reading goes on while it is idle, so that an end or a word of the peer is heard at
once; what stands here finds the deaths that say nothing.
"""

import asyncio

from fastws._consts import OP_PING
from fastws.net.pooled import PooledSocket
from fastws.net.sockopt import set_user_timeout
from fastws.net.websocket import Peer
from fastws.wire.pool import Close, encode_packet

IDLE_USER_TIMEOUT = 15.0
"""Seconds without an ACK after which Linux gives up an idle connection. Under a
stream it would end one whose reader is slow."""

_PROBE = encode_packet(Close(), is_extended=False)
_FIRST_LOOK = 0.005
_LAST_LOOK = 0.25


def guard(socket: PooledSocket, timeout: float = IDLE_USER_TIMEOUT) -> None:
    """Change how long the kernel waits for an ACK; seconds, 0: its own limit."""
    if not socket.end.lost:
        set_user_timeout(socket.end.socket, timeout)


async def prove(socket: PooledSocket, patience: float) -> bool:
    """Send something to the peer of an idle WebSocket, and wait for its effect.

    A fastws peer answers a ping. A stranger ignores a Close while no stream is open,
    and its system acknowledges it.

    Args:
        socket: idle; one that is not any more is left alone.
        patience: seconds to wait.

    Returns:
        Whether it lives, as far as anybody can tell.
    """
    end, loop = socket.end, socket.loop
    if not socket.is_idle:
        return not socket.reason
    pings = end.who is Peer.FASTWS
    reads, stream = end.reads, end.track.stream
    if pings:
        end.write_frame(OP_PING, b"")
    else:
        end.write_packet(_PROBE)
    deadline, pause = loop.time() + patience, _FIRST_LOOK
    while loop.time() < deadline:
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LAST_LOOK)
        if socket.reason:
            return False
        if end.track.stream != stream:
            return True  # whoever uses it will hear
        if end.reads != reads if pings else not end.unacked():
            return True
    return False
