"""Several dialers for one service: the next one is tried before anybody sees a failure.

The choice is :mod:`fastws.upstream.balance`'s; here it meets the clock and the network.
"""

import asyncio
import logging
from collections.abc import Sequence

from fastws.exceptions import DialError
from fastws.net.dial import Dialer
from fastws.net.stream import ByteStream
from fastws.upstream.balance import Balancer, Member
from fastws.upstream.health import REST

logger = logging.getLogger("fastws.upstream")


class Group:
    """Opens a connection to whichever of several upstreams is best. One event loop.

    Args:
        dialers: at least one; retained.
        rest: seconds that a failed one is left alone.
    """

    __slots__ = ("balancer",)

    def __init__(self, dialers: Sequence[Dialer], rest: float = REST) -> None:
        self.balancer = Balancer(dialers, rest)

    def __repr__(self) -> str:
        names = ", ".join(member.item.name for member in self.balancer.members)
        return f"<{type(self).__name__} {names}>"

    async def dial(self, preface: bytes = b"") -> tuple[ByteStream, Member[Dialer]]:
        """Open a connection to the best upstream that answers.

        Args:
            preface: what it hears first, see :meth:`Dialer.dial`.

        Returns:
            The stream, the caller's; and who it goes to: hand that to
            :meth:`release` when the stream has ended.

        Raises:
            DialError: of the last one, when none could be reached.
        """
        clock = asyncio.get_running_loop().time
        order = self.balancer.order(clock())
        for member in order:
            self.balancer.take(member)
            was_resting = member.health.is_resting(clock())
            member.health.tried(clock())
            try:
                stream = await member.item.dial(preface=preface)
            except DialError as error:
                self.release(member)
                member.health.failed(clock())
                if not was_resting and len(order) > 1:
                    rest = f"rests {member.health.rest:g} s"
                    logger.warning("target %s: %s", error, rest)
                if member is order[-1]:
                    raise
            except BaseException:
                self.release(member)
                raise
            else:
                if member.health.failures:
                    logger.info("target %s: works again", member.item.name)
                member.health.worked()
                return stream, member
        raise AssertionError("unreachable")

    def release(self, member: Member[Dialer]) -> None:
        """The connection to ``member`` has ended."""
        self.balancer.release(member)
