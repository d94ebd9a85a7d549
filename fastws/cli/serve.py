"""Hands a spec to :mod:`fastws.app`, which is loaded only now: it brings asyncio."""

import os
import signal
from types import FrameType
from typing import TYPE_CHECKING

import fastws.exceptions  # binds ``fastws``, whose ``app`` resolves when first used
from fastws.cli import log
from fastws.config.schema import ModeSpec

if TYPE_CHECKING:
    import fastws.app


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


def run_one(spec: ModeSpec, level: str, form: str) -> int:
    """Run one spec until it ends; returns the exit status.

    The loop of the application has its own signal handlers: ours cover the time
    before, in which the address is bound already, and the exit after it.
    """
    log.setup(level, form)
    on_stop(leave)
    try:
        return fastws.app.run([spec], log_level=level, log_format=form)
    finally:
        on_stop(signal.SIG_IGN)
