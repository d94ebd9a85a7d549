"""The HTTP side of a forward proxy: requests in absolute-form, and CONNECT.

Source: RFC 9110 sections 7.6 (loops, Max-Forwards) and 11.7 (Proxy-Authenticate),
RFC 9112 section 3.2.2. The loops of :mod:`fastws.http` move the messages; here stands
who may ask, and where requests go. A connection of a client has at most one to an
origin, which is kept while requests go there and replaced when they go elsewhere.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastws.exceptions import DialError, NoConnection, RemoteProtocolError
from fastws.http.answers import Refusal, build_health, build_refusal, level_of
from fastws.http.auth import REALM, credentials_of, decode_basic
from fastws.http.channel import Channel
from fastws.http.client import ClientConnection
from fastws.http.exchange import Exchange
from fastws.http.server import KEEP_ALIVE, Request, ServerConnection, ServerOptions
from fastws.net import sockopt
from fastws.net.detour import detour
from fastws.net.stream import AttachedStream, ByteStream, host_of
from fastws.net.sweep import sweep_of
from fastws.proxy.outgoing import Outgoing, status_of
from fastws.proxy.target import Target, parse_absolute, parse_authority
from fastws.proxy.visit import ProxyOptions, Visit
from fastws.wire.head import Head

CHALLENGE = ("Proxy-Authenticate", f'Basic realm="{REALM}", charset="UTF-8"')

CONNECTED = b"HTTP/1.1 200 Connection established\r\n\r\n"

_FRESH = 1.0  # seconds for which no server closes a connection it has kept
_HEALTH = ("/healthz", "/readyz")


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """What the HTTP side has beside :class:`ProxyOptions`.

    Attributes:
        via: our name in Via fields; a request that bears it is a loop. ``None``: no
            fields, and only ``is_own`` finds loops.
        health: whether we are ready, for ``/healthz`` and ``/readyz`` in origin-form;
            ``None``: no such paths.
        is_own: whether a stream that was opened leads back to us.
        keep_alive: seconds that a client may wait with its next request.
        connections: each is a member while it runs, so that it can be drained.
    """

    via: str | None = None
    health: Callable[[], bool] | None = None
    is_own: Callable[[ByteStream], bool] | None = None
    keep_alive: float = KEEP_ALIVE
    connections: set["HttpProxy"] | None = None


DEFAULTS = HttpSettings()


class Connect:
    """A CONNECT of a client that may ask; nothing was dialled yet.

    Attributes:
        host: name or IP literal without brackets.
        port: 1 to 65535.
        via: the proxies it has passed, this one included.
        stream: of the client, paused, with what came behind the request.
    """

    __slots__ = ("_channel", "_linger", "host", "port", "stream", "via")

    def __init__(
        self, host: str, port: int, via: str, request: Request, linger: float
    ) -> None:
        self.host = host
        self.port = port
        self.via = via
        self._channel: Channel = request.channel
        self._linger = linger
        self.stream = request.take()

    @property
    def is_gone(self) -> bool:
        """The client has left."""
        return self._channel.lost

    def accept(self) -> ByteStream:
        """Answer 200; the client's stream from now on."""
        self._channel.write(CONNECTED)
        return self.stream

    async def refuse(self, error: DialError | RemoteProtocolError) -> None:
        """Answer with what went wrong, and end the connection."""
        if isinstance(error, DialError):
            error = _failed(error)
        self._channel.write(build_refusal(error))
        await self._channel.finish(self._linger)


async def serve_http(
    stream: ByteStream,
    outgoing: Outgoing,
    options: ProxyOptions,
    visit: Visit,
    *,
    settings: HttpSettings = DEFAULTS,
) -> Connect | None:
    """Serve a client that speaks HTTP, until it ends or wants a stream.

    Args:
        stream: used up, unless a ``Connect`` is returned; what it holds is read first.
        outgoing: opens connections to origins.
        options: who may do what.
        visit: counts and logs; an upgrade ends in its ``join``.
        settings: what only HTTP has.

    Returns:
        A CONNECT, which the caller accepts or refuses; else ``None``.

    Raises:
        asyncio.CancelledError: all connections were reset.
    """
    return await HttpProxy(stream, outgoing, options, visit, settings).run()


class HttpProxy:
    """One client's requests, each to its origin. One task.

    Attributes:
        due: loop time at which a sweep has to look although data flows.
    """

    def __init__(
        self,
        stream: ByteStream,
        outgoing: Outgoing,
        options: ProxyOptions,
        visit: Visit,
        settings: HttpSettings,
    ) -> None:
        self._outgoing = outgoing
        self._options = options
        self._visit = visit
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._up: ClientConnection | None = None
        self._origin: tuple[str, int] | None = None
        self._ident = ""  # of the stream there, as the far end logs it
        self._connect: Connect | None = None
        self._what = ""
        self._requests = 0  # that were passed on, and are not told yet
        self._told = "", ""  # what these asked for, and through which stream
        self._seen = self._counted = 0, 0  # bytes after the last request, and told
        self._moved_seen = -1
        self._moved_at = self._loop.time()
        self._is_busy = False
        self._request: Request | None = None  # that is being passed on
        self._has_stood = False  # for too long
        self.due = 0.0 if options.copy.idle_timeout else float("inf")
        times = ServerOptions(
            head_timeout=options.handshake_timeout,
            keep_alive=settings.keep_alive,
            linger=options.linger,
        )
        self._server = ServerConnection(stream, self._handle, times)
        self._server.on_refused = self._refused

    async def run(self) -> Connect | None:
        """Serve until the client ends or takes its stream out of HTTP."""
        connections = self._settings.connections
        if connections is not None:
            connections.add(self)
        sweep_of(self._loop).add(self, self._options.copy.granularity)
        try:
            await self._server.run()
            await self._drop()
        except BaseException:
            self._server.channel.reset()
            if self._up is not None:
                self._up.abort()
            raise
        finally:
            sweep_of(self._loop).discard(self)
            if connections is not None:
                connections.discard(self)
            self._count(self._moved())
        return self._connect

    def drain(self) -> None:
        """Take no further request: an idle connection closes now. Idempotent."""
        self._server.drain()

    # -- what a sweep looks at -----------------------------------------------------

    @property
    def is_flowing(self) -> bool:
        """Whatever happens to the connections will be heard."""
        return not self._is_busy

    def tick(self, now: float) -> None:
        """Find connections that died while nobody read, and exchanges that stand."""
        if not self._is_busy:
            self._moved_at = now
            return
        channels = [self._server.channel]
        if self._up is not None:
            channels.append(self._up.channel)
        for channel in channels:
            channel.check_alive()
        limit = self._options.copy.idle_timeout
        moved = sum(channel.received + channel.sent for channel in channels)
        if moved != self._moved_seen:
            self._moved_seen = moved
            self._moved_at = now
        elif limit and now - self._moved_at >= limit and self._up is not None:
            self._give_up(self._up)

    def _give_up(self, up: ClientConnection) -> None:
        """Nothing has moved for too long: the client hears it if it can be told."""
        self._has_stood = True
        up.abort()
        if self._request is not None and self._request.has_started:
            self._visit.refuse(f"{self._what}: {self._stood}", logging.INFO)
            self._server.channel.reset()

    @property
    def _stood(self) -> str:
        limit = self._options.copy.idle_timeout
        return f"no byte in either direction for {limit:g} s (--idle-timeout)"

    # -- one request ---------------------------------------------------------------

    async def _handle(self, request: Request) -> None:
        """Answer a request, or take the connection out of HTTP.

        Raises:
            RemoteProtocolError: with the status to answer.
        """
        head = request.head
        if self._settings.health is not None and head.target in _HEALTH:
            await self._answer_health(request, self._settings.health())
            return
        target = host = None
        if head.method == "CONNECT":
            host, port = parse_authority(head.target)
        else:
            target = parse_absolute(head.target, head.method or "")
        await self._admit(head, host_of(request.channel.peer))
        self._check_protocol("http" if host is None else "https")
        self._check_loop(head)
        if host is not None:
            linger = self._options.linger
            self._connect = Connect(host, port, self._passed(head), request, linger)
        elif target is not None:
            _check_expectation(head)
            if not await self._answer_max_forwards(request):
                await self._forward(request, target)

    async def _answer_health(self, request: Request, is_ready: bool) -> None:
        is_ready = is_ready or request.head.target == "/healthz"
        request.keeps_alive = False
        request.has_started = request.is_answered = True
        is_head = request.head.method == "HEAD"
        request.channel.write(build_health(is_ready, is_head))

    async def _admit(self, head: Head, client: str) -> None:
        """Check who asks (RFC 9110 section 11.7, RFC 7617).

        Raises:
            Refusal: with 407; 503 when too many passwords wait to be checked, 429
                when the client has tried too many wrong ones.
        """
        accounts = self._options.accounts
        if accounts is None:
            return
        scheme, credentials = credentials_of(head, "proxy-authorization")
        reason, level = "no credentials", logging.INFO
        if scheme == "basic":
            user, colon, password = decode_basic(credentials).partition(":")
            if colon and await accounts.admit(user, password, client):
                return
            reason, level = "wrong user or password", logging.WARNING
        elif scheme:
            reason = f"{scheme[:16]!r} credentials are not asked for"
        raise Refusal(reason, http_status=407, headers=(CHALLENGE,), level=level)

    def _check_protocol(self, name: str) -> None:
        if name not in self._options.protocols:
            reason = f"{name} is not served here (--protocols)"
            raise RemoteProtocolError(reason, http_status=403)

    def _check_loop(self, head: Head) -> None:
        """Refuse what has been here before (RFC 9110 section 7.6.3)."""
        via = self._settings.via
        if via is not None:
            # received-protocol RWS received-by [ comment ]
            for element in head.get_tokens("via"):
                if element.split()[1:2] == [via]:
                    raise RemoteProtocolError("a loop (Via)", http_status=508)

    def _passed(self, head: Head) -> str:
        """The proxies that a request has passed, this one included, as Via has them."""
        via = self._settings.via
        ours = () if via is None else (f"{head.version} {via}",)
        return ", ".join((*head.get_tokens("via"), *ours))

    async def _answer_max_forwards(self, request: Request) -> bool:
        """Answer for the origin where a request must go no further (section 7.6.2)."""
        head = request.head
        hops = head.get("max-forwards") or ""
        if head.method not in ("OPTIONS", "TRACE") or not hops.isdecimal():
            return False
        if int(hops[:9]) > 0:
            less = str(int(hops[:9]) - 1)
            fields = [
                (name, less if name.lower() == "max-forwards" else value)
                for name, value in head.headers
            ]
            request.head = Head(head.method, head.target, head.version, headers=fields)
            return False
        if head.method == "TRACE":  # would show what other hops have added
            raise RemoteProtocolError("TRACE is not answered here", http_status=405)
        await request.respond(200, [("Allow", "GET, HEAD, POST, PUT, DELETE, OPTIONS")])
        return True

    async def _forward(self, request: Request, target: Target) -> None:
        """Pass a request to its origin, and the answer back."""
        via = self._settings.via
        exchange = Exchange(request, target.path, target.authority, via=via)
        self._what = f"http {target.host}:{target.port}"
        self._is_busy, self._moved_at = True, self._loop.time()
        self._request, self._has_stood = request, False
        streams = None
        try:
            await self._ask(exchange, target)
            self._note_passed()
            streams = await exchange.answer()
        except RemoteProtocolError as error:
            raise self._broken(request, error) from None
        finally:
            self._is_busy = False
            self._request = None
            self._seen = self._moved()
            await exchange.settle()
            if streams is None:
                await self._keep()
        if streams is not None:
            self._up = None
            self._count(self._moved())
            await self._visit.join(*streams, self._what, self._ident)

    async def _ask(self, exchange: Exchange, target: Target) -> None:
        """Ask the origin, on another connection if a kept one proves dead."""
        origin = (target.host.lower(), target.port)
        while True:
            up = self._up = await self._connection(origin, exchange)
            if exchange.request.channel.lost:
                raise RemoteProtocolError("left before its target was connected")
            try:
                await exchange.ask(up)
                return
            except RemoteProtocolError:
                if self._has_stood or not exchange.may_repeat(up):
                    raise
                await exchange.settle()

    async def _connection(
        self, origin: tuple[str, int], exchange: Exchange
    ) -> ClientConnection:
        """The kept connection if it serves, else a new one.

        A kept one may be closed by its server at any moment. What cannot be sent
        twice goes there only if the server answered a moment ago.
        """
        up = self._up
        if up is not None and up.is_usable and self._origin == origin:
            if exchange.is_replayable or self._loop.time() - up.idle_since < _FRESH:
                return up
        await self._drop()
        try:
            via = self._passed(exchange.request.head)
            stream = await self._outgoing.open(*origin, via)
        except DialError as error:
            raise _failed(error) from error
        is_own = self._settings.is_own
        if is_own is not None and is_own(stream):
            sockopt.reset(stream.transport)
            raise RemoteProtocolError("the target is this proxy", http_status=508)
        self._origin, self._ident = origin, stream.ident
        if isinstance(stream, AttachedStream):
            if not exchange.is_replayable:
                stream.forgo_replay()
            stream = detour(stream, self._options.copy)
        return ClientConnection(stream)

    async def _keep(self) -> None:
        """Keep the connection for the next request, if it can take one."""
        if self._up is not None:
            if self._up.is_usable:
                self._up.park()
            else:
                await self._drop()

    async def _drop(self) -> None:
        up, self._up = self._up, None
        if up is not None:
            await up.aclose()

    # -- what is told --------------------------------------------------------------

    def _broken(
        self, request: Request, error: RemoteProtocolError
    ) -> RemoteProtocolError:
        """The error that the client gets: 502 for what the server did."""
        if error.http_status is not None or request.channel.lost:
            return error
        what = self._what.removeprefix("http ")
        if self._has_stood:
            status = 504 if request.body.is_complete else 408
            return RemoteProtocolError(f"{what}: {self._stood}", http_status=status)
        reason = f"{what}: {error.reason}"
        if request.has_started:
            self._visit.refuse(f"answer cut off: {reason}", logging.INFO)
            return RemoteProtocolError(reason)
        return RemoteProtocolError(reason, http_status=502)

    def _refused(self, error: RemoteProtocolError) -> None:
        status = error.http_status
        level = logging.INFO if status in (502, 504) else level_of(error)
        self._visit.refuse(error.reason, level, status)

    def _moved(self) -> tuple[int, int]:
        """Bytes of the client, and to it."""
        channel = self._server.channel
        return channel.received, channel.sent

    def _note_passed(self) -> None:
        """A request went on; those that went elsewhere are told now."""
        told = self._what, self._ident
        if told != self._told:
            self._count(self._seen)
            self._told = told
        self._requests += 1

    def _count(self, moved: tuple[int, int]) -> None:
        """Tell what was moved until then, if a request was passed on; once."""
        requests, self._requests = self._requests, 0
        if requests:
            (what, ident), before, self._counted = self._told, self._counted, moved
            what = f"{what}, {requests} request{'s' * (requests > 1)}"
            size_in, size_out = moved[0] - before[0], moved[1] - before[1]
            self._visit.served(what, size_in, size_out, ident)


def _check_expectation(head: Head) -> None:
    """Refuse expectations nobody knows."""
    expect = head.get("expect")
    if expect and expect.lower() != "100-continue":
        raise RemoteProtocolError(f"Expect: {expect[:32]!r}", http_status=417)


def _failed(error: DialError) -> RemoteProtocolError:
    """What a client hears of a target that could not be reached."""
    status = status_of(error).http_status
    if isinstance(error, NoConnection):
        status = 503
    return RemoteProtocolError(str(error), http_status=status)


def leads_back(endpoints: frozenset[tuple[Any, ...]], stream: ByteStream) -> bool:
    """Whether a stream that was opened ends at one of our own listeners.

    Args:
        endpoints: ``(host, port)`` of each, as bound.
        stream: fresh.
    """
    peer = stream.transport.get_extra_info("peername")
    ours = stream.transport.get_extra_info("sockname")
    if not isinstance(peer, tuple) or not isinstance(ours, tuple):
        return False
    host, port = peer[:2]
    if (host, port) in endpoints:
        return True
    # Every address of this machine, if a listener has all: ours is one of them.
    has_all = ("0.0.0.0", port) in endpoints or ("::", port) in endpoints
    return has_all and (host == ours[0] or host.startswith("127."))
