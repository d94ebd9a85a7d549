"""Listeners without a task for each connection."""

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from typing import Any

from fastws._address import join_host_port
from fastws.net.listen import Listener
from fastws.net.tls import explain_tls

logger = logging.getLogger("fastws.net")


class HandOff(Listener):
    """A listener whose protocols look after their connections themselves.

    No task outlives the making of the transport. Every protocol counts as a
    connection until :meth:`left` is called for it: once, if its ``connection_made``
    was called.

    Args:
        socks: as for :class:`Listener`.
        make_visitor: called with the address of each peer and the descriptor; what
            it returns has the ``protocol`` to use, and ``transport``, which is
            ``None`` until ``connection_made``.
        options: as for :class:`Listener`, without ``prelude``.
    """

    def __init__(
        self,
        socks: Sequence[socket.socket],
        make_visitor: Callable[[Any, int], Any],
        **options: Any,
    ) -> None:
        super().__init__(socks, _nobody, **options)
        self._kept = 0  # connections whose task has ended
        self._make = make_visitor

    @property
    def active(self) -> int:
        """Connections that have not ended, those still shaking hands with them."""
        return len(self._tasks) + self._kept

    def arrived(self) -> None:
        """A connection came in another way than through the sockets."""
        self._kept += 1

    def left(self) -> None:
        """A connection is gone: there is room for another."""
        self._kept -= 1
        if self._waits_for_room:
            self._resume()

    def _end(self, task: asyncio.Task[None]) -> None:
        self._kept += 1
        super()._end(task)

    async def _serve(self, conn: socket.socket, peer: Any) -> None:
        visitor = self._make(peer, conn.fileno())
        try:
            if self.tls is None:
                await self._loop.connect_accepted_socket(lambda: visitor.protocol, conn)
            else:
                await self._shake_hands(conn, self.tls, visitor.protocol)
        except BaseException as exc:
            if visitor.transport is None:
                self._kept -= 1  # nobody else will say so
            if not isinstance(exc, OSError):
                raise
            who = join_host_port(*peer[:2]) if isinstance(peer, tuple) else "unix"
            what = "TLS handshake" if self.tls is not None else "connection"
            logger.info("%s: %s failed: %s", who, what, explain_tls(exc))


async def _nobody(transport: Any, protocol: Any) -> None:
    """The handler of a listener that needs none."""
