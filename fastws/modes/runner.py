"""What the converting modes share: accept, count, log one line, drain.

A runner belongs to one spec and one event loop. A mode subclasses :class:`Runner`
with what it does with one accepted connection.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar, Protocol

from fastws._backend import default_keys
from fastws._consts import DRAIN_SPREAD, MAX_CONNECTIONS
from fastws.config.endpoint import Listen
from fastws.config.schema import ModeSpec
from fastws.config.secret_file import SecretFile
from fastws.exceptions import ConfigError
from fastws.modes.parts import LargePart, Part, read_for
from fastws.net.ageing import Ageing
from fastws.net.bind import open_listeners, share_listeners
from fastws.net.copy import CopyResult, copy_bidirectional
from fastws.net.descriptors import take_socket
from fastws.net.ends import CopyOptions
from fastws.net.listen import Listener
from fastws.net.sockopt import raise_nofile_limit, reset
from fastws.net.stdio import GivenListener
from fastws.net.stream import ByteStream

logger = logging.getLogger("fastws.modes")

SPARE_DESCRIPTORS = 24  # of a process beside its connections

HANG_UP = 1.0
"""Seconds that ``-`` has for its end after a signal: its user has gone."""


class Session(Protocol):
    """A connection that is being served: a copy, or what moves messages."""

    loop: asyncio.AbstractEventLoop
    done: "asyncio.Future[CopyResult]"

    @property
    def payload(self) -> int: ...
    def go_away(self, reason: str) -> None: ...
    def abort(self, reason: str) -> None: ...


class Once:
    """The only connection that is served, where there is to be one.

    Attributes:
        owner: its transport, once it is taken.
        is_clean: it ended in order; ``None`` while nobody knows.
        on_end: called when it has ended.
    """

    __slots__ = ("is_clean", "is_over", "on_end", "owner")

    def __init__(self) -> None:
        self.owner: Any = None
        self.is_clean: bool | None = None
        self.is_over = False
        self.on_end: Callable[[], object] = lambda: None

    @property
    def status(self) -> int:
        """The exit status: 0, or 1 for a connection that did not end in order."""
        was_served = self.owner is not None or self.is_over
        return int(was_served and not self.is_clean)

    def finish(self) -> None:
        """It is over, however it ended. Idempotent."""
        if not self.is_over:
            self.is_over = True
            self.on_end()


class Stats:
    """Counters of one runner, since its start.

    Attributes:
        open: connections that are being copied now.
        total: connections that were copied or are.
        refused: connections that ended before that.
        unauthorized: those of them without the right token or password.
        bytes_in: payload from the listening side.
        bytes_out: payload to the listening side.
    """

    __slots__ = ("bytes_in", "bytes_out", "open", "refused", "total", "unauthorized")

    def __init__(self) -> None:
        self.open = self.total = self.refused = self.unauthorized = 0
        self.bytes_in = self.bytes_out = 0

    def __repr__(self) -> str:
        fields = ", ".join(f"{k}={v}" for k, v in self.as_fields().items())
        return f"Stats({fields})"

    def __str__(self) -> str:
        """For the last line of a log."""
        return (
            f"{self.total} connections, {self.refused} refused"
            f" ({self.unauthorized} unauthorized), in={self.bytes_in}"
            f" out={self.bytes_out}"
        )

    def as_fields(self) -> dict[str, int]:
        """Name and number of each counter, for logs that machines read."""
        return {name: getattr(self, name) for name in self.__slots__}


class Runner:
    """Runs one spec: opens, starts, drains.

    Attributes:
        stats: counters.
        is_ready: ``/readyz`` answers 200.
        is_draining: accepting has stopped.
        copies: the connections that are being served.
        once: where there is only one to serve.
        parts: what was read from files, and can be read again.
        secrets: files with values of the spec.
        listeners: one for each worker.
        listener: the one of this process.
    """

    name: ClassVar[str] = ""
    upstream: ClassVar[str] = "server"  # what log lines call the end that is dialled
    overflow: ClassVar[int] = 0
    takes_first: ClassVar[bool] = True  # with oneshot, whatever it is

    def __init__(self, spec: ModeSpec, listen: Listen) -> None:
        self.spec = spec
        self.listen = listen
        self.stats = Stats()
        self.is_ready = False
        self.is_draining = False
        self.copies: set[Any] = set()  # of Session
        if spec.max_connection_age:
            self.copies = Ageing(spec.max_connection_age, spec.linger)
        self.parts: list[Part] = []
        self.secrets: Sequence[SecretFile] = ()
        self.listeners: list[Any] = []
        self.listener: Any = None
        self.is_given = listen.kind in ("stdio", "inetd")
        self.once = Once() if spec.oneshot or self.is_given else None
        self.options = CopyOptions(
            linger=spec.linger,
            half_close_timeout=spec.half_close_timeout,
            idle_timeout=spec.idle_timeout,
            ping=spec.ping,
            ping_deadline=spec.ping_deadline,
            max_message=spec.max_message,
            on_eof=getattr(spec, "on_eof", "hold"),
        )

    # -- what a mode adds ----------------------------------------------------------

    def listener_options(self) -> dict[str, Any]:
        """Further arguments of the listener: protocol, TLS."""
        return {}

    def describe(self) -> str:
        """What stands behind the addresses in the start line."""
        raise NotImplementedError

    async def handle(self, transport: Any, protocol: Any) -> None:
        """Serve one accepted connection until it is over."""
        raise NotImplementedError

    def tls_files(self) -> Sequence[str | None]:
        """The files that :meth:`load_tls` reads."""
        raise NotImplementedError

    def load_tls(self) -> None:
        """Read certificates and keys again, for connections from now on.

        Raises:
            ConfigError: one cannot be used; nothing was changed.
        """
        raise NotImplementedError

    def adopt(self, spec: ModeSpec) -> None:
        """Use a spec with other secrets, for connections from now on.

        Raises:
            ConfigError: it cannot be used; nothing was changed.
        """
        self.spec = spec

    # -- life ----------------------------------------------------------------------

    def open(self, workers: int = 1) -> None:
        """Bind the sockets and read every file: fails before anything runs.

        Args:
            workers: processes that will share the work; each calls :meth:`become`.

        Raises:
            ConfigError: a file is unreadable or does not fit.
            OSError: an address cannot be bound; the text names it.
        """
        options = self.listener_options()
        self.parts.append(
            Part("certificates and keys", self.tls_files(), self.load_tls)
        )
        for secret in self.secrets:
            name = f"the value of {secret.option.flag}"
            read = partial(read_for, self, secret)
            self.parts.append(LargePart(name, secret.path, read))
        limit = self._limit_connections(raise_nofile_limit())
        self.listeners = self.make_listeners(limit, workers, options)
        self.listener = self.listeners[0]

    def _limit_connections(self, descriptors: int) -> int:
        """How many connections at once: as asked, if there are descriptors for them."""
        most = max(1, (descriptors - SPARE_DESCRIPTORS) // 2)
        asked = self.spec.max_connections
        if asked is None:
            return min(default_connections(descriptors), most)
        if asked > most:
            logger.warning(
                "--max-connections %d: the limit of %d open files has room for %d; "
                "raise it (ulimit -n)",
                asked,
                descriptors,
                most,
            )
        return min(asked, most)

    def make_listeners(
        self, limit: int, workers: int, options: dict[str, Any]
    ) -> list[Any]:
        """A listener for each worker; ``limit`` connections in all."""
        options["linger"] = self.spec.linger
        options["handshake_timeout"] = self.spec.handshake_timeout
        options["tcp_user_timeout"] = self.spec.tcp_user_timeout
        options["overflow"] = min(self.overflow, raise_nofile_limit() // 8)
        listen = self.listen
        handler = self.handle if self.once is None else self._handle_once
        if self.once is not None and self.is_given:
            conn = take_socket() if listen.kind == "inetd" else None
            return [GivenListener(handler, conn, self.once.finish, **options)]
        socks = open_listeners(
            hosts=listen.hosts,
            port=listen.port,
            optional=listen.optional,
            path=listen.path or None,
            fd=listen.fd if listen.kind == "fd" else None,
        )
        return [
            Listener(
                share,
                handler,
                max_connections=max(1, (limit + workers - 1 - number) // workers),
                **options,
            )
            for number, share in enumerate(share_listeners(socks, workers))
        ]

    def become(self, number: int) -> None:
        """Be worker ``number`` in this process: the sockets of the others go."""
        self.listener = keep = self.listeners[number]
        for listener in self.listeners:
            if listener is not keep:
                listener.forsake(keep)
        self.listeners = [keep]

    @property
    def endpoints(self) -> list[str]:
        """The bound addresses."""
        return [] if self.listener is None else list(self.listener.addresses)

    def start(self) -> None:
        """Begin to accept, on the running loop."""
        assert self.listener is not None
        self.listener.start()
        self.is_ready = True

    async def drain(self) -> None:
        """Fail readiness, stop accepting, let connections end, then end them."""
        assert self.listener is not None
        self.is_ready = False
        patience = self.spec.drain_timeout
        if self.listen.kind == "stdio":
            patience = min(patience, HANG_UP)
        elif self.once is None or not self.once.is_over:
            await asyncio.sleep(self.spec.drain_delay)
        self.listener.close()
        self.is_draining = True
        self.stop_requests()
        if not await self.wait_served(patience):
            await self.say_goodbye()
        await self.close()

    async def wait_served(self, patience: float) -> bool:
        """Wait until nothing is left to serve; ``False`` after so many seconds."""
        return await self.listener.wait_idle(patience)  # type: ignore[no-any-return]

    def stop_requests(self) -> None:
        """Accepting has stopped: who only waits for more to do can go."""

    async def say_goodbye(self) -> None:
        """Close 1001 in random order over ``DRAIN_SPREAD`` seconds."""
        leaving = self.leaving()
        random.shuffle(leaving)
        pause = DRAIN_SPREAD / len(leaving) if len(leaving) > 1 else 0.0
        loop = asyncio.get_running_loop()
        for number, one in enumerate(leaving):
            loop.call_later(number * pause, one.go_away, "draining")
        assert self.listener is not None
        await self.listener.wait_idle(len(leaving) * pause + min(1.0, self.spec.linger))

    def leaving(self) -> list[Any]:
        """What has to go away at the end of a drain, in a list of its own."""
        return list(self.copies)

    async def close(self) -> None:
        """Reset whatever is open and stop at once."""
        assert self.listener is not None
        self.is_ready = False
        self.listener.close()
        copies = list(self.copies)
        for copy in copies:
            copy.abort("stopped")
        if copies:  # so that each still logs its line
            await asyncio.wait([copy.done for copy in copies], timeout=1.0)
            await asyncio.sleep(0)
        await self.listener.abort()

    # -- one connection ------------------------------------------------------------

    async def _handle_once(self, transport: Any, protocol: Any) -> None:
        """Serve the only connection; any other one is reset."""
        once, refused = self.once, self.stats.refused
        assert once is not None
        if (self.takes_first or self.is_given) and not self.take(transport):
            reset(transport)
            return
        try:
            await self.handle(transport, protocol)
        finally:
            if once.owner is transport:
                if once.is_clean is None:  # answered, and nothing more
                    once.is_clean = self.stats.refused == refused
                once.finish()

    def take(self, transport: Any) -> bool:
        """Whether this connection is, from now on, the only one to serve."""
        once = self.once
        assert once is not None
        if once.owner is None:
            once.owner = transport
            self.listener.close()
        return once.owner is transport

    async def converse(self, session: Session, who: str, ident: str) -> None:
        """Wait for what moves messages, as :meth:`copy` does for bytes."""
        stats = self.stats
        stats.open += 1
        stats.total += 1
        started = time.monotonic()
        self.copies.add(session)
        try:
            result = await session.done
        except asyncio.CancelledError:
            session.abort("stopped")
            raise
        finally:
            stats.open -= 1
            self.copies.discard(session)
        self._count(result, who, ident, started)

    async def copy(
        self, down: ByteStream, up: ByteStream, who: str, ident: str
    ) -> CopyResult:
        """Join the accepted stream and the dialled one; count and log the end."""
        stats = self.stats
        stats.open += 1
        stats.total += 1
        started = time.monotonic()
        options, copies = self.options, self.copies
        try:
            result = await copy_bidirectional(down, up, options, group=copies)
        finally:
            stats.open -= 1
        self._count(result, who, ident, started)
        return result

    def _count(self, result: CopyResult, who: str, ident: str, started: float) -> None:
        """Count what a connection moved, and log its end."""
        stats = self.stats
        stats.bytes_in += result.a_to_b
        stats.bytes_out += result.b_to_a
        if self.once is not None:
            self.once.is_clean = result.is_clean
        level = logging.INFO
        if self.listen.kind == "stdio" and self.is_ready and not result.is_clean:
            level = logging.WARNING  # else status 1 would come without a word
        if logger.isEnabledFor(level):
            self._log_end(result, who, ident, time.monotonic() - started, level)

    def _log_end(
        self, result: CopyResult, who: str, ident: str, seconds: float, level: int
    ) -> None:
        reason = result.reason
        for end, name in (("a: ", "client: "), ("b: ", f"{self.upstream}: ")):
            if reason.startswith(end):
                reason = name + reason.removeprefix(end)
        fields = {
            "mode": self.name,
            "client": who,
            "id": ident,
            "bytes_in": result.a_to_b,
            "bytes_out": result.b_to_a,
            "seconds": round(seconds, 3),
            "reason": reason,
        }
        logger.log(
            level,
            "%s %s id=%s in=%d out=%d %.3fs %s",
            *fields.values(),
            extra=fields | self.describe_client(who),
        )

    def describe_client(self, who: str) -> dict[str, str]:
        """Fields for logs that machines read, where ``who`` says more than one."""
        return {}

    def refuse(
        self, who: str, reason: str, level: int = logging.WARNING, ident: str = ""
    ) -> None:
        """Count and log a connection that got nowhere; ``ident`` is in both logs."""
        self.stats.refused += 1
        fields = {"mode": self.name, "client": who, "reason": reason}
        if ident:
            fields["id"] = ident
            who += f" id={ident}"
        logger.log(level, "%s %s: %s", self.name, who, reason, extra=fields)

    def served(
        self, who: str, what: str, ident: str, bytes_in: int, bytes_out: int
    ) -> None:
        """Count and log what was done without :meth:`copy`: requests, datagrams."""
        self.stats.total += 1
        self.stats.bytes_in += bytes_in
        self.stats.bytes_out += bytes_out
        if logger.isEnabledFor(logging.INFO):
            fields = {
                "mode": self.name,
                "client": who,
                "target": what,
                "id": ident,
                "bytes_in": bytes_in,
                "bytes_out": bytes_out,
            }
            text = "%s %s %s id=%s in=%d out=%d"
            logger.info(text, *fields.values(), extra=fields)


def new_id() -> str:
    """A fresh connection ID: 16 lower-case hex digits."""
    draw = default_keys()  # random in blocks, without a system call for each
    return (draw() + draw()).hex()


@contextmanager
def naming_options(spec: ModeSpec, *names: str) -> Iterator[None]:
    """Put the option in front of the file that a ConfigError names.

    Args:
        spec: what holds the file names.
        names: the attributes to look at; the last one is that of the key, which
            texts call ``--key``.
    """
    try:
        yield
    except ConfigError as error:
        flags = {name: "--" + name.replace("_", "-") for name in names}
        for name, flag in flags.items():
            if getattr(spec, name) == error.path:
                reason = error.reason.replace("with --key", f"with {flags[names[-1]]}")
                raise ConfigError(f"{flag} {error.path}", reason) from error
        raise


def default_connections(descriptors: int) -> int:
    """8192, or a quarter of ``descriptors``, whichever is smaller."""
    return max(1, min(MAX_CONNECTIONS, descriptors // 4))
