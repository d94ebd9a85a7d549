"""Hands a spec to :mod:`fastws.app`, which is loaded only now: it brings asyncio."""

from typing import TYPE_CHECKING

import fastws.exceptions  # binds ``fastws``, whose ``app`` resolves when first used
from fastws.cli import log
from fastws.config.schema import ModeSpec

if TYPE_CHECKING:
    import fastws.app


def run_one(spec: ModeSpec, level: str, form: str) -> int:
    """Run one spec until it ends; returns the exit status."""
    log.setup(level, form)
    return fastws.app.run([spec], log_level=level, log_format=form)
