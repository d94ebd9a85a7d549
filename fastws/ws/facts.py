"""What a connection of the coroutine API can tell of itself."""

import logging
import uuid
from enum import IntEnum
from typing import Any

from fastws._consts import CLOSE_ABNORMAL
from fastws.typing import LoggerLike
from fastws.ws.flag import Flag
from fastws.ws.heads import Request, Response


class State(IntEnum):
    """Of a connection (RFC 6455 section 4 and 7.1)."""

    CONNECTING = 0
    OPEN = 1
    CLOSING = 2
    CLOSED = 3


class Facts:
    """Names and meanings are those of ``websockets``.

    Attributes:
        latency: seconds until the last pong that was measured, 0 before it: of
            ``ping`` and of the keepalive.
    """

    latency: float = 0.0
    _id: uuid.UUID | None = None
    _logger: LoggerLike = logging.getLogger("fastws.ws")
    _ws: Any  # the WebSocket, None before it is open
    _opening: Any = None  # of a server's end, until it is open
    _gone: Flag

    @property
    def state(self) -> State:
        """Whether it is open."""
        if self._gone.is_set():
            return State.CLOSED
        if self._ws is None:
            return State.CONNECTING
        return State.OPEN if self._ws.is_open else State.CLOSING

    @property
    def id(self) -> uuid.UUID:
        """One of its own, for log lines."""
        if self._id is None:
            self._id = uuid.uuid4()
        return self._id

    @property
    def logger(self) -> "logging.LoggerAdapter[Any]":
        """The logger that was given; records have this object as ``websocket``."""
        return logging.LoggerAdapter(self._logger, {"websocket": self})

    @property
    def transport(self) -> Any:
        """The asyncio transport, ``None`` before and after: for ``get_extra_info``."""
        return None if self._ws is None else self._ws.transport

    @property
    def subprotocol(self) -> str | None:
        """Agreed on, or ``None``."""
        ws = self._ws if self._opening is None else self._opening
        name: str | None = None if ws is None else ws.subprotocol
        return name

    @property
    def remote_address(self) -> Any:
        """The peer's, ``None`` where there is none."""
        return self._ws.remote_address

    @property
    def local_address(self) -> Any:
        """Ours; ``None`` once the connection is gone."""
        transport = self.transport
        return None if transport is None else transport.get_extra_info("sockname")

    @property
    def close_code(self) -> int | None:
        """Of the peer's Close, 1006 without one; ``None`` until it is closed."""
        if not self._gone.is_set():
            return None
        rcvd = self._ws.close_rcvd
        return CLOSE_ABNORMAL if rcvd is None else int(rcvd.code)

    @property
    def close_reason(self) -> str | None:
        """Of the peer's Close; ``None`` until it is closed."""
        if not self._gone.is_set():
            return None
        rcvd = self._ws.close_rcvd
        return "" if rcvd is None else rcvd.reason

    @property
    def request(self) -> Request | None:
        """Of the opening handshake."""
        raise NotImplementedError

    @property
    def response(self) -> Response | None:
        """Of the opening handshake; ``None`` until it is sent."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.state.name.lower()}>"
