"""The way out through a proxy: CONNECT over http and https, SOCKS 5.

python-socks knows the protocols (RFC 9110 section 9.3.6, RFC 1928, RFC 1929); the
sockets, names, time limits and words for failures are those of
:mod:`fastws.net.dial`. It is imported when the first proxy is used.
"""

import asyncio
import socket
import ssl
from typing import Any, NoReturn

from fastws._consts import RESOLVE_TIMEOUT, Side
from fastws.exceptions import (
    ConnectRefused,
    Denied,
    DialError,
    DialTimeout,
    NetworkUnreachable,
    NoUpstream,
    RemoteProtocolError,
    Unreachable,
)
from fastws.net.dial import Deadline, Dialer, open_stream
from fastws.net.inbox import Inbox
from fastws.net.sockopt import let_go
from fastws.net.stream import ByteStream, Hold, Kind
from fastws.net.tls import client_context, explain_os, explain_tls, lower_first
from fastws.wire.head import Head
from fastws.wire.http1 import HeadReader

_READ = 16 * 1024
_INNER_HIGH = 64 * 1024  # bytes that the TLS to a proxy may hold unsent
_NOT_ALLOWED = 2  # RFC 1928 section 6: by ruleset
_REPLIES: dict[int, type[DialError]] = {
    3: NetworkUnreachable,
    4: Unreachable,
    5: ConnectRefused,
    6: DialTimeout,
}
_NEVER = 86400.0  # python-socks insists on a limit; ours ends first


class ProxyDialer(Dialer):
    """Opens one upstream through a proxy.

    Args:
        address: ``(host, port)`` that the proxy is asked for.
        scheme: ``http``, ``https``, ``socks5`` (names are resolved here) or
            ``socks5h``.
        proxy: ``(host, port)`` of the proxy.
        user: for the proxy, empty for none.
        password: for the proxy.
        proxy_tls: what an https proxy is verified with (retained); without it the
            system's authorities.
        via: what the Via field of a CONNECT says, empty for none.
        options: as for :class:`Dialer`; ``connect_timeout`` includes the proxy's
            answer, ``outlet`` is the way to the proxy.
    """

    __slots__ = (
        "_hop",
        "_password",
        "_tls_hop",
        "_user",
        "_via",
        "_where",
        "proxy_name",
        "scheme",
    )

    def __init__(
        self,
        address: tuple[str, int],
        *,
        scheme: str,
        proxy: tuple[str, int],
        user: str = "",
        password: str = "",
        proxy_tls: ssl.SSLContext | None = None,
        via: str = "",
        **options: Any,
    ) -> None:
        super().__init__(address, **options)
        self._hop = Dialer(
            proxy,
            connect_timeout=self.connect_timeout,
            handshake_timeout=self.handshake_timeout,
            linger=self.linger,
            tcp_user_timeout=self.tcp_user_timeout,
            outlet=self.outlet,
        )
        self._tls_hop = (proxy_tls or client_context()) if scheme == "https" else None
        self._user = user
        self._password = password
        self._via = via
        self.scheme = scheme
        self.proxy_name = f"proxy {scheme}://{self._hop.name}"
        self._where = self.name
        self.name = f"{self.name} through {self.proxy_name}"

    async def dial(
        self, timeout: float | None = None, preface: bytes = b""
    ) -> ByteStream:
        if preface:
            raise NotImplementedError("no preface through a proxy")
        limit = self.connect_timeout if timeout is None else timeout
        stream = _ProxyStream(self._hop, self._where, self._via)
        try:
            with Deadline(asyncio.get_running_loop(), limit):
                await self._ask(stream)
                if self.tls is None:
                    return await stream.hand_over()
        except BaseException as exc:
            stream.abort()
            self._fail(exc, stream.waited(limit))
        if stream.leftover:
            stream.abort()
            raise NoUpstream(
                f"{self.proxy_name}: spoke before the TLS handshake:"
                f" {stream.leftover[:16]!r}"
            )
        if stream.sock is not None:
            return await self.start_tls(stream.sock, self.tls)
        return await self._start_inner_tls(stream, self.tls)

    def _fail(self, exc: BaseException, waited: str) -> NoReturn:
        """Raise what a dial raises for ``exc``, with the proxy's name."""
        error: type[DialError] = NoUpstream
        if isinstance(exc, TimeoutError):
            error, text = DialTimeout, waited
            # python-socks puts its own in place of the system's.
            for cause in (exc, exc.__cause__):
                if isinstance(cause, OSError) and cause.errno is not None:
                    text = explain_os(cause)
        elif isinstance(exc, DialError):
            error, text = type(exc), str(exc)
        elif isinstance(exc, ssl.SSLError):
            text = f"TLS: {explain_tls(exc, self._hop.server_hostname)}"
        elif isinstance(exc, OSError):
            text = explain_os(exc)
        else:
            raise exc
        raise error(f"{self.proxy_name}: {text}") from exc

    async def _ask(self, stream: "_ProxyStream") -> None:
        """Have the proxy connect; every failure of python-socks gets our words."""
        # Optional: nothing else needs it.
        import python_socks  # noqa: PLC0415
        import python_socks.async_.asyncio.v2 as client  # noqa: PLC0415

        is_http = self.scheme in ("http", "https")
        kind = python_socks.ProxyType.HTTP if is_http else python_socks.ProxyType.SOCKS5
        # Its own sockets would know nothing of our names, limits and options: as the
        # "proxy before the proxy" ours are used.
        proxy = client.Proxy(
            kind,
            *self._hop_address(),
            username=self._user or None,
            password=self._password,
            rdns=True,
            proxy_ssl=self._tls_hop,
            forward=stream,  # type: ignore[arg-type]
        )
        host, port = await self._destination()
        try:
            await proxy.connect(host, port, timeout=_NEVER)
        except python_socks.ProxyError as exc:
            self._refused(stream.head, exc)
        except OSError:  # TLS errors are ValueErrors as well
            raise
        except (ValueError, IndexError) as exc:  # an answer that is none
            raise NoUpstream(f"no SOCKS 5 proxy: {exc}") from exc

    def _hop_address(self) -> tuple[str, int]:
        address = self._hop.address
        assert isinstance(address, tuple)
        return address

    async def _destination(self) -> tuple[str, int]:
        """What to ask for: for socks5 an address."""
        assert isinstance(self.address, tuple)
        host, port = self.address
        if self.scheme == "socks5":
            try:
                infos = await self.find(RESOLVE_TIMEOUT)
            except Denied:
                raise
            except DialError as exc:
                text = f"{exc}; with socks5h:// the proxy resolves names"
                raise type(exc)(text) from exc
            host = str(infos[0].sockaddr[0])
        elif self.scheme != "socks5h" and ":" in host:
            host = f"[{host}]"  # older python-socks forget the brackets
        return host, port

    def _refused(self, head: Head | None, exc: Exception) -> NoReturn:
        """Say what the proxy answered, and what to do about it."""
        who = f"user {self._user!r}" if self._user else "us"
        hint = f"{self.scheme}://USER:PASSWORD@{self._hop.name}"
        if head is None:
            text = lower_first(str(exc))
            if "authentication" in text:
                text = f"refuses {who} ({text})"
                text += "" if self._user else f"; write --proxy {hint}"
                raise Denied(text) from exc
            if getattr(exc, "error_code", None) == _NOT_ALLOWED:
                raise Denied(f"forbids to connect to {self._where}: {text}") from exc
            code = getattr(exc, "error_code", None)
            if code is not None:
                text = f"does not connect to {self._where}: {text}"
            else:
                text = f"no SOCKS 5 proxy: {text}"
            raise _REPLIES.get(code or 0, NoUpstream)(text) from exc
        status = f"{head.status} {head.reason}".rstrip()
        if head.status not in (401, 407):  # tinyproxy: 401 for a wrong password
            if head.status == 403:
                raise Denied(f"forbids to connect to {self._where}: {status}") from exc
            error = DialTimeout if head.status == 504 else NoUpstream
            raise error(f"does not connect to {self._where}: {status}") from exc
        schemes = [text.split(" ")[0] for text in head.get_all("proxy-authenticate")]
        text = f"refuses {who}: {status}"
        if schemes and "basic" not in map(str.lower, schemes):
            text += f"; it wants {' or '.join(schemes)}, only Basic is known here: "
            text += "run a local helper such as cntlm"
        elif not self._user:
            text += f"; write --proxy {hint}"
        raise Denied(text) from exc

    async def _start_inner_tls(
        self, stream: "_ProxyStream", context: ssl.SSLContext
    ) -> ByteStream:
        """TLS to the server within the TLS to the proxy."""
        outer = stream.transport
        assert outer is not None
        hold = Hold()
        try:
            transport: Any = await asyncio.get_running_loop().start_tls(
                outer,
                hold,
                context,
                server_hostname=self.server_hostname,
                ssl_handshake_timeout=self.handshake_timeout,
                ssl_shutdown_timeout=self.linger,
            )
        except ConnectionAbortedError as exc:
            limit = f"not finished within {self.handshake_timeout:g} s"
            raise DialTimeout(f"{self.name}: TLS: handshake {limit}") from exc
        except OSError as exc:
            text = explain_tls(exc, self.server_hostname)
            raise NoUpstream(f"{self.name}: TLS: {text}") from exc
        except BaseException:
            outer.abort()
            raise
        transport.pause_reading()
        hold.transport = transport
        return ByteStream(transport, Kind.TLS, hold)


class _ProxyStream:
    """What python-socks connects and talks through; its end is that of the dial.

    Attributes:
        sock: the connection, as long as no transport has it.
        transport: TLS to the proxy.
        leftover: bytes behind the proxy's answer.
        head: an HTTP proxy's answer.
    """

    __slots__ = (
        "_hop",
        "_inbox",
        "_via",
        "_where",
        "head",
        "leftover",
        "sock",
        "transport",
    )

    def __init__(self, hop: Dialer, where: str, via: str) -> None:
        self._hop = hop
        self._via = via
        self._where = where
        self._inbox: Inbox | None = None
        self.sock: socket.socket | None = None
        self.transport: Any = None
        self.leftover = b""
        self.head: Head | None = None

    def waited(self, limit: float) -> str:
        """Says for what a dial has waited in vain."""
        what = f"no answer to CONNECT {self._where}"
        if self.transport is None and self._inbox is not None:
            what = "TLS: handshake not finished"
        elif self.transport is None and self.sock is None:
            what = "not connected"
        return f"{what} within {limit:.3g} s (--connect-timeout)"

    # -- as python-socks calls it --------------------------------------------------

    async def connect(self, **_: Any) -> "_ProxyStream":
        """Connect to the proxy."""
        self.sock = await self._hop.connect()
        return self

    async def start_tls(
        self, hostname: str, ssl_context: ssl.SSLContext
    ) -> "_ProxyStream":
        """Speak TLS with the proxy from now on."""
        loop = asyncio.get_running_loop()
        sock, self.sock = self.sock, None
        self._inbox = Inbox()
        try:
            self.transport, _ = await loop.create_connection(
                lambda: self._inbox,
                sock=sock,
                ssl=ssl_context,
                server_hostname=hostname,
                ssl_shutdown_timeout=self._hop.linger,
            )
        except BaseException:
            let_go(loop, sock)
            if self._inbox.transport is not None:
                self._inbox.transport.abort()
            raise
        self.transport.set_write_buffer_limits(_INNER_HIGH, 1)
        return self

    async def write(self, data: bytes) -> None:
        """Send a request; in a CONNECT with the proxies that it has passed."""
        if self._via and data.startswith(b"CONNECT "):
            field = f"Via: {self._via}\r\n\r\n".encode("latin-1")
            data = data.removesuffix(b"\r\n") + field
        if self.sock is None:
            self.transport.write(data)
            return
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def read(self, max_bytes: int = _READ) -> bytes:
        """The first line of an HTTP answer, once its whole head has come.

        python-socks would take the first piece of it for all, and nothing but 200
        for a success.
        """
        reader = HeadReader(Side.CLIENT)
        head = None
        try:
            while head is None:
                head = reader.receive_data(await self._receive(max_bytes))
        except RemoteProtocolError as exc:
            raise NoUpstream(f"no HTTP proxy: {exc}") from exc
        self.head = head
        self.leftover = reader.leftover
        status = 200 if 200 <= (head.status or 0) < 300 else head.status
        return f"HTTP/1.1 {status} {head.reason}\r\n\r\n".encode("latin-1")

    async def read_exactly(self, n: int) -> bytes:
        """A part of a SOCKS answer."""
        data = b""
        while len(data) < n:
            data += await self._receive(n - len(data))
        return data

    async def close(self) -> None:
        """End a dial that failed."""
        self.abort()

    # -- as the dialer does --------------------------------------------------------

    async def _receive(self, count: int) -> bytes:
        if self._inbox is not None:
            data = await self._inbox.receive()
        else:
            assert self.sock is not None
            loop = asyncio.get_running_loop()
            data = await loop.sock_recv(self.sock, count)
        if not data:
            text = f"closed the connection without an answer to CONNECT {self._where}"
            raise NoUpstream(text)
        return data

    def abort(self) -> None:
        """Close whatever is open; a second time does nothing."""
        if self.transport is not None:
            self.transport.abort()
        if self.sock is not None:
            self.sock.close()

    async def hand_over(self) -> ByteStream:
        """The tunnel as a stream; bytes of the server may be in it already."""
        if self.sock is not None:
            loop = asyncio.get_running_loop()
            stream = await open_stream(loop, self.sock)
        else:
            assert self._inbox is not None
            hold = Hold()
            hold.transport = self.transport
            hold.eof, hold.lost = self._inbox.eof, self._inbox.lost
            hold.leftover = self._inbox.leftover
            self.transport.set_protocol(hold)
            stream = ByteStream(self.transport, Kind.TLS, hold)
        if self.leftover:
            stream.unread(self.leftover)
        return stream
