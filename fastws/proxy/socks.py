"""SOCKS5 for one client: CONNECT, and UDP ASSOCIATE. BIND is refused.

Source: RFC 1928, RFC 1929; the bytes are those of :mod:`fastws.wire.socks5`.
"""

import asyncio
import logging

from fastws._address import join_host_port
from fastws.exceptions import DialError, RemoteProtocolError, Unsupported
from fastws.http.answers import Refusal, level_of
from fastws.net import sockopt
from fastws.net.dial import Deadline
from fastws.net.inbox import Inbox
from fastws.net.stream import AttachedStream, ByteStream, host_of
from fastws.proxy.connect import leave, level_of_failure
from fastws.proxy.outgoing import DatagramWay, Outgoing, status_of
from fastws.proxy.udp import Association
from fastws.proxy.users import Accounts
from fastws.proxy.visit import ProxyOptions, Visit
from fastws.wire.machine import SEND_EOF
from fastws.wire.socks5 import Command, Login, Reply, Request, Socks5Server


async def serve_socks(
    stream: ByteStream,
    inbox: Inbox,
    outgoing: Outgoing,
    options: ProxyOptions,
    visit: Visit,
) -> None:
    """Serve a client until its end; ``stream`` is used up.

    Args:
        stream: parked; nothing of what it has read is used up.
        inbox: its protocol.
        outgoing: the way to the targets.
        options: who may ask, and how long that may take.
        visit: counts and logs it.
    """
    machine = Socks5Server(needs_login=options.accounts is not None)
    try:
        with Deadline(asyncio.get_running_loop(), options.handshake_timeout, True):
            request = await _read_request(machine, inbox, options.accounts)
    except TimeoutError:
        limit = f"{options.handshake_timeout:g} s (--handshake-timeout)"
        visit.refuse(f"no whole SOCKS5 request within {limit}", logging.INFO)
        await inbox.finish(b"", 0)
        return
    except RemoteProtocolError as error:
        has_left = inbox.lost or inbox.eof
        level = level_of(error) if isinstance(error, Refusal) else logging.WARNING
        visit.refuse(
            error.reason, logging.INFO if has_left else level, error.http_status
        )
        await inbox.finish(_taken(machine), options.linger)
        return
    if request.command is Command.CONNECT:
        await _connect(stream, machine, request, outgoing, options, visit)
    else:
        await _associate(stream, machine, request, outgoing, options, visit)


async def _read_request(
    machine: Socks5Server, inbox: Inbox, accounts: Accounts | None
) -> Request:
    """Shake hands up to the request.

    Raises:
        RemoteProtocolError: there is none; what to answer waits in ``machine``.
    """
    user = ""
    request: Request | None = None
    while True:
        while events := machine.events_received():  # one brings the next
            for event in events:
                if isinstance(event, Request):
                    request = event
                else:
                    # What is no name of ours may be a password in the wrong field.
                    await _log_in(machine, event, accounts, host_of(inbox.peer))
                    user = event.user
        if machine.error is not None:
            text = f" ({user!r})" if user else ""
            raise RemoteProtocolError(machine.error.reason + text)
        answer = _taken(machine)
        if answer and inbox.transport is not None:
            inbox.transport.write(answer)
        if request is not None:
            return request
        data = await inbox.receive()
        if data:
            machine.receive_data(data)
        else:
            machine.receive_eof()


async def _log_in(
    machine: Socks5Server, login: Login, accounts: Accounts | None, client: str
) -> None:
    """Let a client pass, or not.

    Raises:
        Refusal: it is wrong, or was not looked at; the statuses are those of HTTP.
    """
    try:
        is_right = accounts is None or await accounts.admit(*login, client)
    except Refusal:
        machine.deny()
        raise
    if not is_right:
        machine.deny()
        raise Refusal("SOCKS5 user or password is wrong", http_status=407)
    machine.admit()


def _taken(machine: Socks5Server) -> bytes:
    """What to write; the end that may follow is the caller's."""
    return b"".join(bytes(p) for p in machine.data_to_send() if p is not SEND_EOF)


async def _connect(
    stream: ByteStream,
    machine: Socks5Server,
    request: Request,
    outgoing: Outgoing,
    options: ProxyOptions,
    visit: Visit,
) -> None:
    what = f"socks5 {join_host_port(request.host, request.port)}"
    stream.unread(machine.leftover)
    try:
        up = await outgoing.open(request.host, request.port)
    except DialError as error:
        await _refuse(stream, machine, error, options, visit)
        return
    address = None
    if not isinstance(up, AttachedStream):  # whose far end alone knows
        address = up.transport.get_extra_info("sockname")
    if isinstance(address, tuple):
        machine.reply(Reply.SUCCEEDED, address[0].partition("%")[0], address[1])
    else:
        machine.reply(Reply.SUCCEEDED)
    if stream.hold.lost or stream.transport.is_closing():
        leave(up, what, visit)
        return
    stream.transport.write(_taken(machine))
    await visit.join(stream, up, what, up.ident)


async def _refuse(
    stream: ByteStream,
    machine: Socks5Server,
    error: DialError,
    options: ProxyOptions,
    visit: Visit,
) -> None:
    """Say in the reply what became of the request."""
    visit.refuse(f"socks5: {error}", level_of_failure(error))
    machine.reply(status_of(error).socks_reply)
    inbox = stream.hold
    assert isinstance(inbox, Inbox)
    await inbox.finish(_taken(machine), options.linger)


async def _associate(
    stream: ByteStream,
    machine: Socks5Server,
    request: Request,
    outgoing: Outgoing,
    options: ProxyOptions,
    visit: Visit,
) -> None:
    """Relay datagrams until the TCP connection ends (RFC 1928 section 7)."""
    inbox = stream.hold
    assert isinstance(inbox, Inbox)
    association: Association | None = None
    try:
        try:
            association = _open_association(stream, inbox, request)
            association.way = await outgoing.associate(association.to_client)
        except DialError as error:
            await _refuse(stream, machine, error, options, visit)
            return
        except OSError as error:
            failed = DialError(f"UDP: {error.strerror}")
            await _refuse(stream, machine, failed, options, visit)
            return
        machine.reply(Reply.SUCCEEDED, *association.address)
        stream.transport.write(_taken(machine))
        try:
            await _wait_for_end(inbox, association.way)
        finally:
            why = association.way.done.result() if association.way.done.done() else ""
            what = f"socks5 udp {association}{why and ': ' + why}"
            count = association.bytes_in, association.bytes_out
            visit.served(what, *count, association.way.ident)
    finally:
        if association is not None:
            association.close()
    await inbox.finish(b"", options.linger)


async def _wait_for_end(inbox: Inbox, way: DatagramWay) -> None:
    """Until the client's TCP connection ends, or no datagram can go out any more."""

    def cut(done: asyncio.Future[str]) -> None:
        if inbox.transport is None:
            return
        if done.result():
            sockopt.reset(inbox.transport)
        else:
            inbox.transport.close()

    way.done.add_done_callback(cut)
    try:
        while await inbox.receive():
            pass
    finally:
        way.done.remove_done_callback(cut)


def _open_association(
    stream: ByteStream, inbox: Inbox, request: Request
) -> Association:
    local = stream.transport.get_extra_info("sockname")
    peer = inbox.peer or stream.transport.get_extra_info("peername")
    if not isinstance(local, tuple) or not isinstance(peer, tuple):
        raise Unsupported("UDP needs a client that comes over TCP")
    # RFC 1928 section 6: where the client will send from, or zeroes. Behind a NAT it
    # cannot know, so its port counts only beside its own address.
    is_known = request.host == host_of(peer)
    return Association(local, peer[0], request.port if is_known else 0)
