"""Log lines of the commands: one line per event on stderr, for people or as JSON.

The library itself never configures logging; only the commands call :func:`setup`.
"""

import logging
import os
import sys
import time
from typing import TextIO

from fastws.cli.flood import FloodFilter

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_COLOURS = {
    logging.DEBUG: "\x1b[2m",
    logging.WARNING: "\x1b[33m",
    logging.ERROR: "\x1b[31m",
    logging.CRITICAL: "\x1b[31m",
}
_RESET = "\x1b[0m"
_LONGEST = 4000
"""Characters of a message: peers may send a status reason of 16 KiB."""
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


def shorten(text: str) -> str:
    """Cut a message that a peer made long, and say how long it was."""
    if len(text) <= _LONGEST:
        return text
    return f"{text[:_LONGEST]}… ({len(text)} characters)"


def one_line(text: str) -> str:
    r"""Escape what could forge a line or drive a terminal: ``\n`` becomes ``\\n``.

    Peers choose parts of our messages (a status reason, a header, a file name).
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode()
        for char in text
    )


class HumanFormatter(logging.Formatter):
    """``2026-01-31 12:00:00.123 INFO    message``, local time.

    Args:
        colour: mark the level with ANSI colours.
    """

    def __init__(self, *, colour: bool) -> None:
        super().__init__()
        self._colour = colour
        self._second = -1
        self._stamp = ""

    def format(self, record: logging.LogRecord) -> str:
        second = int(record.created)
        if second != self._second:
            self._second = second
            self._stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
        level = f"{record.levelname:<7}"
        colour = _COLOURS.get(record.levelno) if self._colour else None
        if colour:
            level = f"{colour}{level}{_RESET}"
        millis = int(record.created * 1000) % 1000
        message = one_line(shorten(record.getMessage()))
        line = f"{self._stamp}.{millis:03d} {level} {message}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, and every extra."""

    def __init__(self) -> None:
        super().__init__()
        import json  # noqa: PLC0415 (no other start should wait for it)

        self._encode = json.dumps

    def format(self, record: logging.LogRecord) -> str:
        millis = int(record.created * 1000) % 1000
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        entry: dict[str, object] = {
            "time": f"{stamp}.{millis:03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": shorten(record.getMessage()),
        }
        for name, value in vars(record).items():
            if name not in _STANDARD and name not in entry:
                entry[name] = value
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return self._encode(entry, default=str)


def wants_colour(stream: TextIO) -> bool:
    """Whether to colour: a terminal, and no ``NO_COLOR`` (https://no-color.org)."""
    return not os.environ.get("NO_COLOR") and stream.isatty()


def setup(
    level: str, form: str, stream: TextIO | None = None, *, limit: int = 0
) -> None:
    """Send every log line of the process to ``stream``, once.

    Args:
        level: a name of :data:`LEVELS`, for the loggers of fastws; others log
            from warnings on.
        form: ``human`` or ``json``.
        stream: where to; stderr by default. Retained.
        limit: equal warnings and refusals a minute, 0 for all of them; on level
            ``debug`` there is no limit.
    """
    out = sys.stderr if stream is None else stream
    handler = logging.StreamHandler(out)
    if form == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(HumanFormatter(colour=wants_colour(out)))
    if limit and level != "debug":
        handler.addFilter(FloodFilter(handler, limit))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("fastws").setLevel(LEVELS[level])
    # Nobody reads these fields, and gathering them costs as much as the line
    # (logging HOWTO, "Optimization"). A broken stderr must not end connections.
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.raiseExceptions = False
