"""What hears of a WebSocket."""

from typing import Any, Protocol

from fastws.ws.protocol import WebSocket


class Handler(Protocol):
    """What hears of one WebSocket. All calls come from the event loop.

    A call that raises closes the connection with 1011 and is logged in one line.
    There may be more methods: ``on_ping(payload)`` and ``on_pong(payload)`` with
    bytes (pings are answered anyway), and ``on_pause()`` with ``on_resume()``: more
    than ``write_limit`` bytes are unsent, and none is any more. Without ``on_pause``
    nothing is read meanwhile, so that a peer which does not read is not answered.
    """

    def on_open(self, ws: WebSocket) -> None:
        """The opening handshake is done; comes first."""

    def on_message(self, payload: Any, opcode: int, final: bool) -> None:
        """A message has come: a ``memoryview``, or as ``ws.copies`` says.

        Args:
            payload: stays valid for as long as it is held, and holds up to 256 KiB.
            opcode: ``OP_TEXT``, which is valid UTF-8, or ``OP_BINARY``.
            final: the message ends here; always set unless ``ws.assembles`` is off.
        """

    def on_close(self, code: int, reason: str) -> None:
        """The connection is gone; comes last, and once.

        Args:
            code: of the peer's Close, 1005 for an empty one; 1006: none came.
            reason: of the peer's Close, else what happened.
        """
