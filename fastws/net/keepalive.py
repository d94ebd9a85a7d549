"""Pings and pongs of a WebSocket end, both ways.

Source: RFC 6455 sections 5.5.2 and 5.5.3. Control frames wait for nothing but what the
transport already holds, and are sent while payload is stalled; at most one ping and
one pong of ours are unsent at any time.

While we do not read, because the other end takes nothing, we cannot see what the peer
answers, and it cannot see us answer. So we ping more often then: a peer with the same
limits hears from us before its own deadline passes.
"""

import random

from fastws import _consts
from fastws._backend import FrameDecoder, Scratch, default_keys, encode_frame
from fastws._consts import Side
from fastws.net.ends import End, Owner
from fastws.net.stream import Kind


def after_ping(now: float, ping: float) -> float:
    """When the ping after one at ``now`` is due: ``ping`` seconds later, ±10 %."""
    jitter = 1 + _consts.PING_JITTER * (2 * random.random() - 1)
    return now + ping * jitter


class PingingEnd(End):
    """The part of a WebSocket end that keeps it alive, or finds that it is not.

    Attributes:
        side: ours.
    """

    __slots__ = (
        "_next_ping",
        "_ping_reads",
        "_ping_since",
        "_pong",
        "_unsent_ping",
        "_unsent_pong",
        "side",
    )

    def __init__(
        self,
        owner: Owner,
        kind: Kind,
        side: Side,
        scratch: Scratch,
        vectored: bool,
        *,
        max_message: int = 0,
        data_kind: int = -1,
    ) -> None:
        super().__init__(
            owner,
            kind,
            scratch,
            decoder=FrameDecoder(side),
            keys=default_keys() if side is Side.CLIENT else None,
            vectored=vectored,
            max_message=max_message,
            data_kind=data_kind,
        )
        self.side = side
        self._pong: bytes | None = None  # newest ping that is not answered yet
        self._unsent_pong = self._unsent_ping = False
        self._ping_since = 0.0  # the deadline counts from here; 0: no ping is open
        self._ping_reads = 0
        self._next_ping = after_ping(owner.loop.time(), owner.options.ping)

    def write_frame(self, opcode: int, payload: bytes) -> None:
        """Write a control frame or a signal behind what the transport holds."""
        if not self.lost:
            key = None if self.keys is None else self.keys()
            self.transport.write(encode_frame(opcode, payload, key=key))

    def answer_ping(self, payload: bytes) -> None:
        """One pong at most is unsent; of later pings the newest is answered."""
        if self.lost:
            return
        if self._unsent_pong:
            self._pong = payload
            return
        self.write_frame(_consts.OP_PONG, payload)
        if self.unsent:
            self._unsent_pong = self.wants_drained = True

    def drained(self) -> None:
        self.wants_drained = self._unsent_pong = self._unsent_ping = False
        payload, self._pong = self._pong, None
        if payload is not None and self.may_ping:
            self.answer_ping(payload)

    @property
    def unsent(self) -> bool:
        """The transport holds something that the kernel has not taken."""
        return bool(self.transport.get_write_buffer_size())

    @property
    def may_ping(self) -> bool:
        """Neither side has sent its Close."""
        raise NotImplementedError

    def next_due(self) -> float:
        """When :meth:`tick_ping` has to look again although nothing happens."""
        if self._ping_since:
            return 0.0
        return self._next_ping if self.owner.options.ping else float("inf")

    def tick_ping(self, now: float) -> None:
        """Send a ping when one is due; call after :meth:`observe`."""
        options = self.owner.options
        if not options.ping:
            return
        if not self.is_reading:
            often = min(options.ping, options.ping_deadline) / 2
            self._next_ping = min(self._next_ping, now + often)
        if self._ping_since and self.reads != self._ping_reads:
            self._ping_since = 0.0
        elif self._ping_since and (self.is_stuck or not self.is_reading):
            self._ping_since = now
        elif self._ping_since and now - self._ping_since > options.ping_deadline:
            self.abort()
            self.owner.received_reset(self, "ping timeout")
            return
        is_free = not self._ping_since or not self.is_reading
        if now >= self._next_ping and is_free and not self._unsent_ping:
            self._send_ping(now)

    def _send_ping(self, now: float) -> None:
        self._next_ping = after_ping(now, self.owner.options.ping)
        self._ping_since = now
        self._ping_reads = self.reads
        self.write_frame(_consts.OP_PING, b"")
        if self.unsent:
            self._unsent_ping = self.wants_drained = True
