"""A transport of its own for a stream of a connection that carries others after it.

What is to read and write such a stream message by message needs a transport whose
protocol it can be. Both ends of the detour lie in this process.
"""

import asyncio

from fastws.net.copy import DEFAULTS, Copy
from fastws.net.ends import CopyOptions
from fastws.net.memory import memory_pair
from fastws.net.stream import AttachedStream, ByteStream, Hold, Kind


def detour(stream: AttachedStream, options: CopyOptions = DEFAULTS) -> ByteStream:
    """Copy between ``stream`` and a transport that nobody shares.

    Args:
        stream: used up; it ends when the new one does, as a TCP connection would.
        options: of the copy.

    Returns:
        A stream of kind ``STREAM``: paused, its protocol a fresh ``Hold``.
    """
    near_hold, far_hold = Hold(), Hold()
    loop = asyncio.get_running_loop()
    near, far = memory_pair(loop, near_hold, far_hold)
    near_hold.transport, far_hold.transport = near, far
    far_stream = ByteStream(far, Kind.STREAM, far_hold)
    copy = Copy(stream, far_stream, options)
    copy.done.add_done_callback(lambda _: copy.release())
    copy.start(stream, far_stream)
    return ByteStream(near, Kind.STREAM, near_hold)
