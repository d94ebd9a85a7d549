"""``fastws.broadcast``: one message to many WebSockets, without waiting."""

from collections.abc import Iterable

from fastws.exceptions import ConcurrencyError
from fastws.ws.connection import Connection
from fastws.ws.facts import State
from fastws.ws.fragments import DataLike, opcode_of


def broadcast(
    connections: Iterable[Connection],
    message: DataLike,
    *,
    text: bool | None = None,
    raise_exceptions: bool = False,
) -> None:
    """Send a message to each connection that is open, waiting for none.

    What a peer does not read piles up, until ``max_unsent`` cuts its connection.

    Args:
        connections: of either side, as ``server.connections``.
        message: text as ``str``, binary as ``bytes``, ``bytearray`` or ``memoryview``
            (copied).
        text: ``True`` sends bytes as text, ``False`` a ``str`` as binary.
        raise_exceptions: raise an ``ExceptionGroup`` once all have been served;
            otherwise connections that cannot be sent to have a line in the log.

    Raises:
        TypeError: ``message`` is none.
    """
    if not isinstance(message, str | bytes | bytearray | memoryview):
        raise TypeError(f"cannot send {type(message).__name__}")
    opcode = opcode_of(message, text)
    payload = message.encode() if isinstance(message, str) else message
    failures: list[Exception] = []
    for connection in list(connections):
        if connection.state is not State.OPEN:
            continue
        if connection.is_sending_fragments:
            if raise_exceptions:
                failures.append(
                    ConcurrencyError(f"{connection!r} is sending a fragmented message")
                )
            else:
                connection.logger.warning(
                    "skipped broadcast: sending a fragmented message"
                )
            continue
        connection._ws.send(payload, opcode)
    if failures:
        raise ExceptionGroup("skipped broadcast", failures)
