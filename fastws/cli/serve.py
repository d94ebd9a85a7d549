"""Hands a spec to :mod:`fastws.app`, which is loaded only now: it brings asyncio."""

import logging
import os
import signal
from collections.abc import Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any

import fastws.exceptions  # binds ``fastws``, whose ``app`` resolves when first used
from fastws.cli import log
from fastws.config.schema import ModeSpec

if TYPE_CHECKING:
    import fastws.app

logger = logging.getLogger("fastws.cli")


def leave(number: int, frame: FrameType | None) -> None:
    """End with status 0 at a signal that comes before the loop handles signals.

    No connection is served yet. An exception could surface anywhere, in the middle
    of building the loop too, and be shown as a traceback; hence at once.
    """
    os._exit(0)


def on_stop(handler: "signal._HANDLER") -> None:
    """Set what SIGTERM and SIGINT do outside the loop."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handler)


def run_specs(
    specs: Sequence[ModeSpec],
    *,
    log_level: str,
    log_format: str,
    log_limit: int = 0,
    warnings: Sequence[str] = (),
    **process: Any,
) -> int:
    """Run specs until they end; returns the exit status.

    Args:
        specs: at least one.
        log_level: of our own loggers.
        log_format: ``human`` or ``json``.
        log_limit: equal warnings and refusals a minute, 0 for all of them.
        warnings: to log first.
        process: further arguments of :func:`fastws.app.run`.

    The loop of the application has its own signal handlers: ours cover the time
    before, in which the address is bound already, and the exit after it.
    """
    log.setup(log_level, log_format, limit=log_limit)
    for text in warnings:
        logger.warning("%s", text)
    on_stop(leave)
    try:
        return fastws.app.run(
            specs, log_level=log_level, log_format=log_format, **process
        )
    finally:
        on_stop(signal.SIG_IGN)
