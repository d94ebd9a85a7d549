"""Specs to runners: start all, wait for a signal, drain, stop.

``run`` is what the command line calls; ``start`` is the same for a program that has
a loop of its own.
"""

import asyncio
import gc
import importlib
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from fastws._backend import BACKEND
from fastws._version import __version__
from fastws.config.forward import ForwardProxy
from fastws.config.proxy_server import ProxyServer
from fastws.config.schema import ModeSpec, TcpToWs, WsToTcp
from fastws.config.secret_file import SecretFile
from fastws.exceptions import ConfigError, FastwsError
from fastws.signals import Signals, WorkerSignals, waking
from fastws.watch import Watch, reload, reload_part
from fastws.workers import Crew

if TYPE_CHECKING:
    from fastws.modes.runner import Runner

logger = logging.getLogger("fastws.app")

# Which module runs a spec; loaded when first needed.
_MODES = {
    TcpToWs: ("fastws.modes.tcp_to_ws", "TcpToWsRunner"),
    WsToTcp: ("fastws.modes.ws_to_tcp", "WsToTcpRunner"),
    ForwardProxy: ("fastws.modes.proxy", "ForwardProxyRunner"),
    ProxyServer: ("fastws.modes.proxy_server", "ProxyServerRunner"),
}

MANY_WORKERS = 64
"""What any machine may be asked for; more only where there are CPUs for it."""

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
    workers: int = 1,
    idle_exit: float = 0.0,
    ready: Callable[[], None] | None = None,
    secrets: Sequence[SecretFile] = (),
) -> int:
    """Run specs until a signal or ``stop``; the command line's main loop.

    Args:
        specs: what to run, at least one.
        log_level: as set up already by the caller.
        log_format: likewise.
        stop: ends everything as SIGTERM does.
        workers: processes that share the work.
        idle_exit: seconds without a connection after which to end; 0 for never.
        ready: called when all listen, in the first process.
        secrets: files that values of the specs came from, to be read again.

    Returns:
        The exit status: 0 after a drain, 78 when a value names something wrong, 1
        when something failed at run time.
    """
    runners = [make_runner(spec) for spec in specs]
    try:
        check_workers(specs, workers, idle_exit)
        for runner in runners:
            runner.secrets = secrets
            runner.open(workers) if workers > 1 else runner.open()
    except ConfigError as error:
        logger.error("%s", error)
        return EXIT_CONFIG
    except (FastwsError, OSError) as error:
        logger.error("%s", error)
        return EXIT_FAILED

    def say() -> None:
        for runner in runners:
            announce(runner, workers)
        if ready is not None:
            ready()

    if workers > 1:
        return lead(runners, workers, say)
    with asyncio.Runner(loop_factory=loop_factory()) as loop:
        signals = partial(Signals, stop)
        loop.run(_serve(runners, signals, say, idle_exit))
    return max(0 if runner.once is None else runner.once.status for runner in runners)


def check_workers(specs: Sequence[ModeSpec], workers: int, idle_exit: float) -> None:
    """Refuse what several processes cannot share.

    Raises:
        ConfigError: says what.
    """
    if workers < 1:
        raise ConfigError("--workers", "must be a whole number from 1")
    if workers == 1:
        return
    cpus = os.cpu_count() or 1
    if workers > (most := max(MANY_WORKERS, 4 * cpus)):
        text = f"must be at most {most} here ({cpus} CPUs); one for each CPU is enough"
        raise ConfigError("--workers", text)
    if not hasattr(os, "fork"):
        raise ConfigError("--workers", "this system cannot fork; start more processes")
    if idle_exit:
        raise ConfigError("--workers", "contradicts an end when idle")
    for spec in specs:
        kind = spec.listen.kind  # type: ignore[attr-defined]
        if spec.oneshot:
            raise ConfigError("--workers", "contradicts --oneshot")
        if kind not in ("tcp", "unix", "fd"):
            raise ConfigError("--workers", "shares listening TCP and unix sockets only")
        if spec.max_connections is not None and spec.max_connections < workers:
            few = f"--max-connections {spec.max_connections} is less than one each"
            raise ConfigError("--workers", few)


def lead(runners: list["Runner"], workers: int, say: Callable[[], None]) -> int:
    """Fork workers for runners that are open, and wait until they have drained."""

    def release() -> None:
        for runner in runners:
            for listener in runner.listeners:
                listener.close()

    def work(number: int, orders: int) -> int:
        for runner in runners:
            runner.become(number)
            for part in runner.parts:
                if part.has_changed():  # since the start, before a worker died
                    reload_part(runner.name, part)
        with asyncio.Runner(loop_factory=loop_factory()) as loop:
            signals = partial(WorkerSignals, orders)
            loop.run(_serve(runners, signals))
        return EXIT_OK

    gc.freeze()  # what is there already stays shared
    delay = max(runner.spec.drain_delay for runner in runners)
    Crew(workers, work, release, delay).run(say)
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
    watch: Watch | None = None
    try:
        for runner in runners:
            runner.open()
            runner.start()
        watch = Watch(runners, stop=lambda: None)
        yield runners
    finally:
        if watch is not None:
            watch.close()
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


async def _serve(
    runners: list["Runner"],
    make_signals: Callable[[Callable[[], None]], Signals],
    say: Callable[[], None] | None = None,
    idle_exit: float = 0.0,
) -> None:
    """Start all, wait for the first signal, drain; a second one resets."""

    def hang_up() -> None:
        if any(runner.listen.kind == "stdio" for runner in runners):
            signals.first.set()  # whoever typed, or ssh, has gone
        else:
            reload(runners)

    signals = make_signals(hang_up)
    with waking(asyncio.get_running_loop()):
        await _serve_until(signals, runners, say, idle_exit)


async def _serve_until(
    signals: Signals,
    runners: list["Runner"],
    say: Callable[[], None] | None,
    idle_exit: float,
) -> None:
    for runner in runners:
        if runner.once is not None:
            runner.once.on_end = signals.first.set
        runner.start()
    if say is not None:
        say()
    watch = Watch(runners, idle_exit=idle_exit, stop=signals.first.set)
    await signals.first.wait()
    watch.close()
    if not any(runner.once is not None and runner.once.is_over for runner in runners):
        logger.info("draining: a second signal ends it at once")
    await drain(runners, signals.second)


async def drain(runners: list["Runner"], second: asyncio.Event) -> None:
    """Drain all; ``second`` cuts it short."""
    drained = asyncio.gather(*(runner.drain() for runner in runners))
    forced = asyncio.create_task(second.wait())
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
        fields = {"mode": runner.name, **runner.stats.as_fields()}
        logger.info("stopped %s: %s", runner.name, runner.stats, extra=fields)


def announce(runner: "Runner", workers: int = 1) -> None:
    """The start line: version, addresses, TLS, ping, backend."""
    spec = runner.spec
    ping = f"{spec.ping:g}s" if spec.ping else "off"
    if isinstance(spec, ForwardProxy) and not spec.has_pings:
        ping = "off"
    takes = (WsToTcp, ForwardProxy, ProxyServer)
    cert = isinstance(spec, takes) and spec.cert is not None
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
        ("uvloop" if loop_factory() else "asyncio")
        + (f", {workers} workers" if workers > 1 else ""),
    )
    if isinstance(spec, WsToTcp) and spec.listen.text.isdigit():
        port = spec.listen.text  # all interfaces elsewhere, as in websockify
        logger.info("only this machine can connect: use :%s for all interfaces", port)
    if getattr(spec, "insecure", False):
        logger.warning(
            "--insecure: the certificate of %s is NOT verified", runner.describe()
        )
