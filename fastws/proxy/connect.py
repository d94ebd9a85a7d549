"""From a request to a stream: dial for CONNECT, tell the client, copy.

Source: RFC 9110 section 9.3.6.
"""

import logging

from fastws._address import join_host_port
from fastws.exceptions import DialError
from fastws.net import sockopt
from fastws.net.stream import AttachedStream, ByteStream
from fastws.proxy.http import Connect
from fastws.proxy.outgoing import Outgoing, status_of
from fastws.proxy.visit import Visit
from fastws.wire.pool import Status


def level_of_failure(error: DialError) -> int:
    """Targets that do not answer are no news to whoever runs a proxy."""
    return logging.WARNING if status_of(error) is Status.DENIED else logging.INFO


async def serve_connect(connect: Connect, outgoing: Outgoing, visit: Visit) -> None:
    """Serve a CONNECT until its end.

    Args:
        connect: of a client that may ask; used up.
        outgoing: the way to its target.
        visit: counts and logs it.
    """
    what = f"connect {join_host_port(connect.host, connect.port)}"
    try:
        up = await outgoing.open(connect.host, connect.port, connect.via)
    except DialError as error:
        visit.refuse(f"connect: {error}", level_of_failure(error))
        await connect.refuse(error)
        return
    if connect.is_gone:
        leave(up, what, visit)
        return
    await visit.join(connect.accept(), up, what, up.ident)


def leave(up: ByteStream, what: str, visit: Visit) -> None:
    """Give up a target whose client has gone."""
    if isinstance(up, AttachedStream):
        up.discard()
    else:
        sockopt.reset(up.transport)
    visit.refuse(f"{what}: left before the target was connected", logging.INFO)
