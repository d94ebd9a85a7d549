"""One client of a proxy on any stream: finds out what it speaks, and serves it.

HTTP and SOCKS5 share a port: their first bytes have nothing in common.
"""

import asyncio
import logging

from fastws.http.answers import Refusal, build_refusal
from fastws.net import sockopt
from fastws.net.dial import Deadline
from fastws.net.inbox import Inbox
from fastws.net.stream import ByteStream
from fastws.proxy.connect import serve_connect
from fastws.proxy.http import DEFAULTS, HttpSettings, serve_http
from fastws.proxy.outgoing import Outgoing
from fastws.proxy.socks import serve_socks
from fastws.proxy.visit import ProxyOptions, Visit
from fastws.wire.sniff import Sniffed, sniff
from fastws.wire.socks5 import VERSION, Method

_SOCKS4 = 4
_SOCKS4_REJECTED = bytes((0, 0x5B)) + bytes(6)


async def serve(
    stream: ByteStream,
    outgoing: Outgoing,
    options: ProxyOptions,
    visit: Visit,
    *,
    settings: HttpSettings = DEFAULTS,
) -> None:
    """Serve one client until its end; ``stream`` is used up.

    Args:
        stream: fresh and parked, of any kind.
        outgoing: the way to the targets.
        options: what is spoken, who may ask, and how long that may take.
        visit: counts and logs it.
        settings: what only HTTP has.
    """
    inbox = Inbox.take(stream)
    try:
        with Deadline(asyncio.get_running_loop(), options.handshake_timeout, True):
            first = await inbox.receive()
    except TimeoutError:
        limit = f"{options.handshake_timeout:g} s (--handshake-timeout)"
        visit.refuse(f"no byte within {limit}", logging.INFO)
        await inbox.finish(b"", 0)
        return
    if not first:
        visit.refuse("closed before its first byte", logging.DEBUG)
        sockopt.reset(stream.transport)
        return
    stream.unread(first)
    kind = sniff(first)
    if kind is Sniffed.SOCKS5 and "socks5" in options.protocols:
        await serve_socks(stream, inbox, outgoing, options, visit)
    elif kind is Sniffed.HTTP and options.protocols & {"http", "https"}:
        connect = await serve_http(stream, outgoing, options, visit, settings=settings)
        if connect is not None:
            await serve_connect(connect, outgoing, visit)
    else:
        await _refuse(inbox, kind, first, options, visit)


async def _refuse(
    inbox: Inbox,
    kind: Sniffed | None,
    first: bytes,
    options: ProxyOptions,
    visit: Visit,
) -> None:
    """Turn away what is not spoken here, in its own words where it has some."""
    answer = b""
    if kind is Sniffed.HTTP:
        reason = "HTTP is off (--protocols)"
        answer = build_refusal(Refusal(reason, http_status=403))
    elif kind is Sniffed.SOCKS5:
        reason = "SOCKS5 is off (--protocols)"
        answer = bytes((VERSION, Method.NONE_ACCEPTABLE))
    elif kind is Sniffed.TLS:
        reason = "TLS on a plain port (--cert)"
    elif first[0] == _SOCKS4:
        reason = "SOCKS4 is not spoken; use SOCKS5"
        answer = _SOCKS4_REJECTED
    else:
        reason = f"neither HTTP nor SOCKS5: {first[:16]!r}"
    visit.refuse(reason, logging.INFO)
    await inbox.finish(answer, options.linger)
