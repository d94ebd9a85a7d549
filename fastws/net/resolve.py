"""Names to addresses, in threads of our own.

``socket.getaddrinfo`` cannot be interrupted and the event loops' own pools are
small, so a few dead names stop every other dial. Here each waiting **host** has one
place in the queue, all who wait for a host share the answer, and one host holds at
most ``RESOLVER_PER_HOST`` threads. A lookup that nobody waits for any more is
abandoned: its thread stops counting and ends when the system lets it. Threads are
daemons, started when needed; none is waited for at exit.
"""

import asyncio
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from fastws._consts import (
    RESOLVE_TIMEOUT,
    RESOLVER_IDLE,
    RESOLVER_PER_HOST,
    RESOLVER_THREADS,
)
from fastws.exceptions import DialTimeout, UnknownName

GetAddrInfo: TypeAlias = Callable[..., list[tuple[Any, ...]]]

# A lookup older than this may be stuck: the next one to ask gets a fresh thread.
_STUCK_AFTER = 1.0
# Threads in all, abandoned ones with them.
_THREADS_IN_ALL = 4 * RESOLVER_THREADS

_GAI_TEXTS = {
    getattr(socket, name, None): text
    for name, text in (
        ("EAI_NONAME", "unknown name"),
        ("EAI_NODATA", "the name has no address"),
        ("EAI_ADDRFAMILY", "the name has no address of a usable family"),
        ("EAI_AGAIN", "no name server answers"),
        ("EAI_FAIL", "the name server failed"),
    )
}


class AddrInfo(NamedTuple):
    """One address to connect to.

    Attributes:
        family: ``socket.AF_INET`` or ``socket.AF_INET6``.
        sockaddr: what ``socket.connect`` takes; starts with address and port.
    """

    family: int
    sockaddr: tuple[Any, ...]


def parse_literal(host: str, port: int) -> AddrInfo | None:
    """The address if ``host`` is an IP literal; never asks a name server.

    IPv6 may carry a zone (``fe80::1%eth0``) and stands without brackets.
    """
    if not host or not (host[0].isdigit() or host[-1].isdigit() or ":" in host):
        return None  # cheap: hardly a name of a host looks like that
    try:
        infos = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
        )
    except (OSError, UnicodeError):
        return None
    family, _, _, _, sockaddr = infos[0]
    return AddrInfo(family, sockaddr)


class _Host:
    """All lookups of one host; without waiters they are abandoned ones.

    Guarded by the resolver's lock.
    """

    __slots__ = ("is_queued", "lookups", "started", "waiters")

    def __init__(self) -> None:
        self.waiters: set[asyncio.Future[list[tuple[Any, ...]]]] = set()
        self.lookups = 0  # threads that work on it now
        self.started = 0.0  # monotonic time of the latest
        self.is_queued = False


class Resolver:
    """A pool of resolving threads. May be used from several loops at once.

    Args:
        threads: lookups at the same time, not counting abandoned ones.
        per_host: threads one host may hold.
        idle: seconds after which a thread without work ends.
        getaddrinfo: called in the threads as ``socket.getaddrinfo`` is.
    """

    def __init__(
        self,
        threads: int = RESOLVER_THREADS,
        per_host: int = RESOLVER_PER_HOST,
        idle: float = RESOLVER_IDLE,
        getaddrinfo: GetAddrInfo = socket.getaddrinfo,
    ) -> None:
        self._limit = threads
        self._per_host = per_host
        self._idle_time = idle
        self._getaddrinfo = getaddrinfo
        self._wakeup = threading.Condition(threading.Lock())
        self._hosts: dict[str, _Host] = {}
        self._queue: deque[str] = deque()
        self._threads = 0
        self._idle = 0
        self._abandoned = 0

    async def resolve(self, host: str, port: int, timeout: float) -> list[AddrInfo]:
        """See :func:`resolve`."""
        literal = parse_literal(host, port)
        if literal is not None:
            return [literal]
        future: asyncio.Future[list[tuple[Any, ...]]]
        future = asyncio.get_running_loop().create_future()
        self._submit(host, future)
        try:
            async with asyncio.timeout(timeout):
                infos = await future
        except TimeoutError as exc:
            text = f"{host}: name not resolved within {timeout:g} s"
            raise DialTimeout(text) from exc
        except socket.gaierror as exc:
            text = _GAI_TEXTS.get(exc.errno) or str(exc.strerror or exc)
            raise UnknownName(f"{host}: {text}") from exc
        except UnicodeError as exc:
            raise UnknownName(f"{host}: not a valid host name") from exc
        except OSError as exc:
            raise UnknownName(f"{host}: {exc.strerror or exc}") from exc
        finally:
            if future.cancelled():
                self._forget(host, future)
            elif future.done():
                future.exception()  # seen, even if we were cancelled meanwhile
        found = dict.fromkeys(
            AddrInfo(family, (sockaddr[0], port, *sockaddr[2:]))
            for family, _, _, _, sockaddr in infos
            if family in (socket.AF_INET, socket.AF_INET6)
        )
        if not found:
            raise UnknownName(f"{host}: the name has no address")
        return list(found)

    def _submit(self, host: str, future: asyncio.Future[Any]) -> None:
        """Queue ``host`` unless a lookup that may still answer is under way."""
        with self._wakeup:
            entry = self._hosts.get(host)
            if entry is None:
                entry = self._hosts[host] = _Host()
            if not entry.waiters:
                self._abandoned -= entry.lookups  # they have somebody to answer again
            entry.waiters.add(future)
            if entry.is_queued or entry.lookups >= self._per_host:
                return
            if entry.lookups and time.monotonic() - entry.started < _STUCK_AFTER:
                return
            entry.is_queued = True
            self._queue.append(host)
            if self._idle >= len(self._queue):
                self._wakeup.notify()
            else:
                self._add_thread()

    def _add_thread(self) -> None:
        """Start a thread if the limits allow one more. Called with the lock held."""
        working = self._threads - self._abandoned
        if working >= self._limit or self._threads >= _THREADS_IN_ALL:
            return  # the queue is served when a lookup ends or is abandoned
        self._threads += 1
        try:
            threading.Thread(
                target=self._work, name="fastws-resolve", daemon=True
            ).start()
        except RuntimeError:  # the system has no thread left
            self._threads -= 1

    def _forget(self, host: str, future: asyncio.Future[Any]) -> None:
        """Take back a waiter; abandon the lookups that nobody else waits for."""
        with self._wakeup:
            entry = self._hosts.get(host)
            if entry is None or future not in entry.waiters:
                return
            entry.waiters.discard(future)
            if entry.waiters:
                return
            if entry.is_queued:
                entry.is_queued = False
                self._queue.remove(host)
            self._abandoned += entry.lookups
            if not entry.lookups:
                del self._hosts[host]
            for _ in range(min(entry.lookups, len(self._queue) - self._idle)):
                self._add_thread()

    def _work(self) -> None:
        """One thread: serve hosts in turn, end after an idle time."""
        while (job := self._take()) is not None:
            host, entry = job
            infos: list[tuple[Any, ...]] = []
            error: Exception | None = None
            try:
                infos = self._getaddrinfo(
                    host, None, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
                )
            except Exception as exc:
                error = exc
            if not self._finish(host, entry, infos, error):
                return

    def _take(self) -> tuple[str, _Host] | None:
        """The next host, or ``None`` when this thread is to end."""
        with self._wakeup:
            while not self._queue:
                self._idle += 1
                woken = self._wakeup.wait(self._idle_time)
                self._idle -= 1
                if not woken and not self._queue:
                    self._threads -= 1
                    return None
            host = self._queue.popleft()
            entry = self._hosts[host]
            entry.is_queued = False
            entry.lookups += 1
            entry.started = time.monotonic()
            return host, entry

    def _finish(
        self,
        host: str,
        entry: _Host,
        infos: list[tuple[Any, ...]],
        error: Exception | None,
    ) -> bool:
        """Answer all who wait for ``host``; ``False`` if this thread is surplus."""
        with self._wakeup:
            entry.lookups -= 1
            waiters = tuple(entry.waiters)
            entry.waiters.clear()
            if waiters:
                self._abandoned += entry.lookups  # the others answer nobody now
            else:
                self._abandoned -= 1
            if entry.is_queued:
                entry.is_queued = False
                self._queue.remove(host)
            if not entry.lookups:
                del self._hosts[host]
            stays = self._threads - self._abandoned <= self._limit
            if not stays:
                self._threads -= 1
        for future in waiters:
            try:
                future.get_loop().call_soon_threadsafe(_answer, future, infos, error)
            except RuntimeError:
                pass  # that loop was closed: nobody waits any more
        return stays


def _answer(
    future: asyncio.Future[list[tuple[Any, ...]]],
    infos: list[tuple[Any, ...]],
    error: Exception | None,
) -> None:
    """Hand a lookup's outcome to its waiter, in the waiter's loop."""
    if future.done():
        return
    if error is None:
        future.set_result(infos)
    else:
        future.set_exception(error)


_resolver = Resolver()


def _after_fork() -> None:
    """A forked child has none of the parent's threads, and maybe a locked lock."""
    global _resolver
    _resolver = Resolver()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


async def resolve(
    host: str, port: int, *, timeout: float = RESOLVE_TIMEOUT
) -> list[AddrInfo]:
    """The addresses of ``host``, in the order the system prefers (RFC 6724).

    An IP literal never touches a thread.

    Args:
        host: a name or an IP literal without brackets.
        port: goes into each address.
        timeout: seconds, waiting for a free thread included.

    Returns:
        At least one address, each once.

    Raises:
        DialTimeout: no answer in time.
        UnknownName: the name is unknown or malformed, or no server answers.
    """
    return await _resolver.resolve(host, port, timeout)
