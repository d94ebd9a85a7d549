"""The memory that the WebSockets of one event loop share."""

import asyncio
import sys

from fastws._backend import MessagePool
from fastws.net.sockopt import is_uvloop
from fastws.net.sweep import forget_closed

_pools: dict[asyncio.AbstractEventLoop, MessagePool] = {}


def pool_of(loop: asyncio.AbstractEventLoop) -> MessagePool:
    """The memory of ``loop``, made at its first use.

    Transports that read in the background, as on Windows, need one each.
    """
    if sys.platform == "win32":
        return MessagePool()
    pool = _pools.get(loop)
    if pool is None:
        forget_closed(_pools)
        pool = _pools[loop] = MessagePool(loop.call_soon if is_uvloop(loop) else None)
    return pool
