"""How stw reaches its server: dialer, request, attempts. Helpers of that mode."""

import asyncio
import logging
import os
import re
from collections.abc import Awaitable, Callable
from ssl import SSLContext
from typing import Any, TypeVar

from fastws.config.forward import ForwardProxy
from fastws.config.proxy import ProxyUrl, proxy_from_environment
from fastws.config.proxy_server import ProxyServer
from fastws.config.schema import TcpToWs
from fastws.exceptions import (
    ConfigError,
    Denied,
    DialError,
    FastwsError,
    InvalidStatus,
    NoUpstream,
)
from fastws.modes.header_file import HeaderFile
from fastws.modes.runner import naming_options
from fastws.net.backoff import Backoff
from fastws.net.dial import Dialer, Outlet
from fastws.net.proxy import ProxyDialer
from fastws.net.tls import client_context, may_pass_tls
from fastws.net.upgrade import Upgrader
from fastws.typing import HeaderList

T = TypeVar("T")

logger = logging.getLogger("fastws.modes")

_QUOTED = ("server", "via", "location", "cf-ray", "retry-after")


def make_dialer(spec: TcpToWs, tls: SSLContext | None) -> Dialer:
    """The dialer for ``spec``, through a proxy where one is named.

    Raises:
        ConfigError: a variable names no proxy, or an option asks for what this
            system does not have.
    """
    options: dict[str, Any] = {
        "tls": tls,
        "server_hostname": spec.server_name,
        "connect_timeout": spec.connect_timeout,
        "handshake_timeout": spec.handshake_timeout,
        "linger": spec.linger,
        "tcp_user_timeout": spec.tcp_user_timeout,
        "outlet": make_outlet(spec),
    }
    host, port = spec.dial_address
    proxy = spec.proxy
    if proxy is None:
        proxy = proxy_from_environment(os.environ, spec.upstream, host)
    if proxy is None or proxy.is_off:
        return Dialer((host, port), **options)
    return ProxyDialer(
        (host, port),
        scheme=proxy.scheme,
        proxy=proxy.address,
        user=proxy.user,
        password=proxy.password,
        proxy_tls=_proxy_tls(spec, proxy),
        **options,
    )


def _proxy_tls(spec: TcpToWs, proxy: ProxyUrl) -> SSLContext | None:
    if proxy.scheme != "https" or spec.proxy_ca is None:
        return None
    with naming_options(spec, "proxy_ca"):
        return client_context(ca=spec.proxy_ca)


def make_outlet(spec: TcpToWs | ForwardProxy | ProxyServer) -> Outlet | None:
    """Where dials start from, ``None`` for anywhere.

    Raises:
        ConfigError: there is no such device, or it cannot be named.
    """
    if spec.source is None and spec.bind_device is None:
        return None
    try:
        return Outlet(spec.source, spec.bind_device)
    except NoUpstream as error:
        raise ConfigError("--bind-device", str(error)) from error


def open_header_file(spec: TcpToWs) -> HeaderFile | None:
    """The ``--header-file`` of ``spec``, read for the first time.

    Raises:
        ConfigError: it is unusable.
    """
    if spec.header_file is None:
        return None
    taken = {"authorization"} if spec.authorization is not None else set()
    taken |= {name.lower() for name, _ in spec.headers} & {"authorization"}
    return HeaderFile(spec.header_file, taken)


def make_upgrader(spec: TcpToWs, fields: HeaderList = ()) -> Upgrader:
    """What asks for the WebSocket, with further ``fields`` in the request."""
    headers = [*spec.headers, *fields]
    if spec.authorization is not None:
        headers.insert(0, ("Authorization", spec.authorization))
    return Upgrader(
        spec.upstream.target,
        spec.host or spec.upstream.host_header,
        origin=spec.origin,
        subprotocols=spec.subprotocol,
        headers=headers,
        fastws=spec.fastws and not spec.text,  # signals are text messages
        name="udp" if spec.listen.kind == "udp" else "tcp",
    )


async def insist(
    attempt: Callable[[float], Awaitable[T]], times: int, limit: float, who: str = ""
) -> T:
    """Try until one attempt succeeds, with growing random pauses.

    Args:
        attempt: gets the seconds that are left; a failure that will not pass, such
            as a refused password, ends it all.
        times: attempts at most.
        limit: seconds within which the last one has to begin.
        who: in front of the log line of an attempt.

    Raises:
        DialError: the last attempt's error, and how many there were.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + limit
    backoff = Backoff()
    number = 0
    while True:
        number += 1
        try:
            return await attempt(deadline - clock())
        except (FastwsError, OSError) as error:
            pause = backoff.next_delay()
            is_last = number == times or clock() + pause >= deadline
            if is_last or not may_pass(error):
                if number == 1:
                    raise
                raise DialError(f"{error} ({number} attempts)") from error
            text = "%s: attempt %d: %s; again in %.3f s"
            logger.debug(text, who, number, error, pause)
        await asyncio.sleep(pause)


def may_pass(error: Exception) -> bool:
    """Whether the same attempt can succeed a moment later."""
    refusal = error.__cause__
    if isinstance(refusal, InvalidStatus):
        return refusal.status >= 500
    return not isinstance(error, Denied) and may_pass_tls(refusal)


def guess(spec: TcpToWs) -> str:
    """Why a server may close instead of answering; its alert comes too late for us.

    Since TLS 1.3 a client has finished its handshake before the server has looked at
    its certificate (RFC 8446 section 4.4.2.4), and neither event loop reports the
    alert.
    """
    if not spec.upstream.secure:
        return "if it speaks TLS, write wss://"
    if spec.cert is None:
        return "it may ask for a client certificate (--cert)"
    return "it may refuse our certificate (--cert)"


def _mask_location(url: str) -> str:
    """A URL without what may be secret: user, password and query."""
    path, mark, _ = url.partition("?")
    path = re.sub(r"(?<=//)[^/]*@", "…@", path)
    return path + ("?…" if mark else "")


def describe_refusal(error: InvalidStatus) -> str:
    """Status, who said so, where to, and the first line of the body."""
    text = f"the server answered {error}"
    for name, value in error.fields:
        if name.lower() in _QUOTED:
            if name.lower() == "location":
                value = _mask_location(value)
            text += f", {name}: {value}"
    line = error.body.strip().partition(b"\n")[0].strip()[:200]
    if line:
        text += f", body: {line.decode('utf-8', 'replace')!r}"
    if 300 <= error.status < 400:
        text += "; redirects are not followed: give the URL it points to"
    return text
