"""Opening handshakes in any state of health: read alike however they are cut.

Whatever arrives, nothing but ``RemoteProtocolError`` is raised, with a status that a
server can answer; and what passed every check makes an answer that our client takes.
"""

from typing import Any

from fastws._consts import Side
from fastws.exceptions import InvalidStatus, RemoteProtocolError
from fastws.wire.announce import parse_answer, parse_offer
from fastws.wire.deflate import Deflate, parse_extensions
from fastws.wire.handshake import (
    Upgrade,
    build_accept,
    check_answer,
    check_upgrade,
    choose_subprotocol,
    host_matches,
    loopback_host_allowed,
    origin_allowed,
)
from fastws.wire.head import Head
from fastws.wire.http1 import HeadReader
from tests.fuzz.frames import cuts

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
REQUEST = (
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + KEY.encode() + b"\r\n"
)
ANSWER = (
    b"HTTP/1.1 101 Go\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
)
TERMS = (
    Deflate(),
    Deflate(server_no_context_takeover=True, client_no_context_takeover=True),
    Deflate(server_max_window_bits=8, client_max_window_bits=9),
)


def read(side: Side, pieces: list[bytes]) -> Any:
    """The head, what follows it, or what is wrong."""
    reader = HeadReader(side, max_head=2048, max_fields=20)
    for number, piece in enumerate(pieces):
        try:
            head = reader.receive_data(piece)
        except RemoteProtocolError as error:
            return "refused", error.http_status
        if head is not None:
            rest = bytes(reader.leftover) + b"".join(pieces[number + 1 :])
            return head, rest
    return None


def facts(result: Any) -> Any:
    """What can be compared of it."""
    if not isinstance(result, tuple) or not isinstance(result[0], Head):
        return result
    head, rest = result
    return head.method, head.target, head.status, head.version, head.headers, rest


def answer(head: Head, terms: Deflate) -> None:
    """A server's side, up to an answer that a client of ours takes."""
    try:
        upgrade = check_upgrade(head)
        agreed = terms.accept(head.get_all("sec-websocket-extensions"))
    except RemoteProtocolError as error:
        if error.http_status not in (400, 405, 426):
            raise
        return
    assert isinstance(upgrade, Upgrade)
    origin_allowed(upgrade.origin, upgrade.host, ["https://a.example", "*"])
    host_matches(upgrade.host, ["a.example"])
    loopback_host_allowed(upgrade.head, upgrade.host, [])
    parse_offer(head.get_all("x-fastws"))
    chosen = choose_subprotocol(upgrade.subprotocols, [])
    field = None if agreed is None else agreed[0]
    wire = build_accept(upgrade.key, subprotocol=chosen, extensions=field)
    reader = HeadReader(Side.CLIENT)
    got = reader.receive_data(wire)
    assert got is not None
    assert chosen == check_answer(
        got,
        upgrade.key,
        subprotocols=upgrade.subprotocols,
        extensions=agreed is not None,
    )
    if agreed is not None:
        assert len(parse_extensions([agreed[0]])) == 1


def confirm(head: Head, terms: Deflate) -> None:
    """A client's side."""
    try:
        check_answer(head, KEY, subprotocols=["chat", "b"], extensions=True)
        terms.confirm(head.get_all("sec-websocket-extensions"))
        parse_answer(head.get_all("x-fastws"), "0123456789abcdef")
    except (InvalidStatus, RemoteProtocolError):
        pass


def run(data: bytes) -> None:
    """One input."""
    if len(data) < 2:
        return
    mode, seed = data[:2]
    wire = data[2:]
    side = Side(mode & 1)
    if mode & 2:  # fields of a handshake that is good so far
        wire = (REQUEST if side is Side.SERVER else ANSWER) + wire
    if mode & 4:
        wire += b"\r\n\r\n"
    whole = read(side, [wire])
    if side is Side.SERVER and isinstance(whole, tuple) and whole[0] == "refused":
        assert whole[1] in range(400, 600)
    assert facts(whole) == facts(read(side, cuts(wire, seed)))
    if isinstance(whole, tuple) and isinstance(whole[0], Head):
        terms = TERMS[(mode >> 3) % 3]
        (answer if side is Side.SERVER else confirm)(whole[0], terms)
