"""Specs to runners: start all, wait for a signal, drain, stop.

``run`` is what the command line calls; ``start`` is the same for a program that has
a loop of its own.
"""

import asyncio
import importlib
import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from types import FrameType
from typing import TYPE_CHECKING

from fastws._backend import BACKEND
from fastws._version import __version__
from fastws.config.schema import ModeSpec, TcpToWs, WsToTcp
from fastws.exceptions import ConfigError, FastwsError

if TYPE_CHECKING:
    from fastws.modes.runner import Runner

logger = logging.getLogger("fastws.app")

# Which module runs a spec; loaded when first needed.
_MODES = {
    TcpToWs: ("fastws.modes.tcp_to_ws", "TcpToWsRunner"),
    WsToTcp: ("fastws.modes.ws_to_tcp", "WsToTcpRunner"),
}

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_CONFIG = 78


def make_runner(spec: ModeSpec) -> "Runner":
    """The runner for one spec; nothing is opened yet."""
    module, name = _MODES[type(spec)]
    runner: Runner = getattr(importlib.import_module(module), name)(spec)
    return runner


def run(
    specs: Sequence[ModeSpec],
    *,
    log_level: str = "info",
    log_format: str = "human",
    stop: asyncio.Event | None = None,
) -> int:
    """Run specs until a signal or ``stop``; the command line's main loop.

    Args:
        specs: what to run, at least one.
        log_level: as set up already by the caller.
        log_format: likewise.
        stop: ends everything as SIGTERM does.

    Returns:
        The exit status: 0 after a drain, 78 when a value names something wrong, 1
        when something failed at run time.
    """
    runners = [make_runner(spec) for spec in specs]
    try:
        for runner in runners:
            runner.open()
    except ConfigError as error:
        logger.error("%s", error)
        return EXIT_CONFIG
    except (FastwsError, OSError) as error:
        logger.error("%s", error)
        return EXIT_FAILED
    with asyncio.Runner(loop_factory=loop_factory()) as loop:
        loop.run(_serve(runners, stop))
    return EXIT_OK


@asynccontextmanager
async def start(*specs: ModeSpec) -> AsyncIterator[list["Runner"]]:
    """Run specs inside the current loop; leaving the block closes them.

    Yields:
        One runner for each spec: ``endpoints``, ``stats``, ``drain()``.

    Raises:
        ConfigError: a value names something wrong.
        OSError: an address cannot be bound.
    """
    runners = [make_runner(spec) for spec in specs]
    try:
        for runner in runners:
            runner.open()
            runner.start()
        yield runners
    finally:
        for runner in runners:
            if runner.listener is not None:
                await runner.close()


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it is installed, unless ``FASTWS_LOOP=asyncio``."""
    if sys.platform == "win32" or os.environ.get("FASTWS_LOOP") == "asyncio":
        return None
    try:
        module = importlib.import_module("uvloop")
    except ImportError:
        return None
    return module.new_event_loop  # type: ignore[no-any-return]


class Signals:
    """What signals ask for: a drain, then a reset; SIGHUP reads files again.

    The handlers outlive the loop, so that a late signal is never the system's own
    "terminate". Only the main thread may have handlers: elsewhere nothing is set.

    Args:
        first: set by the first SIGTERM or SIGINT.
        reload: called in the loop for a SIGHUP.
    """

    def __init__(self, first: asyncio.Event, reload: Callable[[], None]) -> None:
        self.first = first
        self.second = asyncio.Event()
        self._reload = reload
        self._loop = asyncio.get_running_loop()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._stop)
            if hasattr(signal, "SIGHUP"):  # not on Windows
                signal.signal(signal.SIGHUP, self._hang_up)

    def _in_loop(self, call: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:
            pass  # the loop is closed: everything has ended already

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._in_loop(self._set_next)

    def _set_next(self) -> None:
        (self.second if self.first.is_set() else self.first).set()

    def _hang_up(self, number: int, frame: FrameType | None) -> None:
        self._in_loop(self._reload)


def reload(runners: Sequence["Runner"]) -> None:
    """Read certificates and keys again; what cannot be read changes nothing."""
    for runner in runners:
        try:
            runner.reload()
        except ConfigError as error:
            logger.error("%s: nothing reloaded: %s", runner.name, error)
        else:
            logger.info("%s: certificates and keys reloaded", runner.name)


async def _serve(runners: list["Runner"], stop: asyncio.Event | None) -> None:
    """Start all, wait for the first signal, drain; a second one resets."""
    signals = Signals(stop or asyncio.Event(), lambda: reload(runners))
    for runner in runners:
        runner.start()
        announce(runner)
    await signals.first.wait()
    logger.info("draining: a second signal ends it at once")
    drained = asyncio.gather(*(runner.drain() for runner in runners))
    forced = asyncio.create_task(signals.second.wait())
    await asyncio.wait((drained, forced), return_when=asyncio.FIRST_COMPLETED)
    if drained.done():
        drained.result()
    else:
        drained.cancel()
        await asyncio.gather(drained, return_exceptions=True)
        for runner in runners:
            await runner.close()
    forced.cancel()
    for runner in runners:
        logger.info("stopped %s: %r", runner.name, runner.stats)


def announce(runner: "Runner") -> None:
    """The start line: version, addresses, TLS, ping, backend."""
    spec = runner.spec
    ping = f"{spec.ping:g}s" if spec.ping else "off"
    cert = isinstance(spec, WsToTcp) and spec.cert is not None
    secure = cert or (isinstance(spec, TcpToWs) and spec.upstream.secure)
    logger.info(
        "fastws %s %s on %s to %s, TLS %s, ping %s, %s, %s",
        __version__,
        runner.name,
        ", ".join(runner.endpoints),
        runner.describe(),
        "on" if secure else "off",
        ping,
        BACKEND,
        type(asyncio.get_running_loop()).__module__.partition(".")[0],
    )
    if getattr(spec, "insecure", False):
        logger.warning(
            "--insecure: the certificate of %s is NOT verified", runner.describe()
        )
