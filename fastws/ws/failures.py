"""What is logged when a program that uses fastws raises in its own code."""

import logging

from fastws.typing import LoggerLike


def log_failure(logger: LoggerLike, exc: Exception) -> None:
    """Say in one line that a handler or a hook raised; at debug level with the stack.

    Args:
        logger: of the server or client that it belongs to.
        exc: what was raised; not retained.
    """
    logger.error(
        "WebSocket handler failed: %s: %s",
        type(exc).__name__,
        exc,
        exc_info=exc if logger.isEnabledFor(logging.DEBUG) else None,
    )
