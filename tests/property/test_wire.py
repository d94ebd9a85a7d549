"""What holds for every input: cuts do not show, garbage raises only what is ours."""

from hypothesis import given
from hypothesis import strategies as st

from fastws._consts import Side
from fastws.exceptions import FastwsError, LocalProtocolError, RemoteProtocolError
from fastws.wire.announce import format_offer, parse_offer
from fastws.wire.frames import Close, is_sendable
from fastws.wire.handshake import (
    build_accept,
    build_upgrade,
    check_answer,
    check_upgrade,
    host_matches,
    loopback_host_allowed,
    make_key,
    origin_allowed,
)
from fastws.wire.http1 import HeadReader, build_response
from fastws.wire.websocket import CloseReceived, Connection, Data, Event, Ping, Pong
from tests.support.drive import Driven, drive, join_data, pieces

CUTS = st.lists(st.integers(0, 200), max_size=12)
SIDES = st.sampled_from(list(Side))
KEYS = st.binary(min_size=4, max_size=4)
CODES = st.integers(1000, 4999).filter(is_sendable)
TOKENS = st.text("abcxyzABC019-_.", min_size=1, max_size=8)
HTTPISH = st.lists(
    st.sampled_from(
        [
            *(b"GET", b" ", b"/", b"HTTP/1.1", b"HTTP/1.0", b"\r\n", b"\n", b"\r"),
            *(b"Host: a\r\n", b"Upgrade: websocket\r\n", b"Connection: Upgrade\r\n"),
            *(
                b"Content-Length: 1\r\n",
                b"Transfer-Encoding: chunked\r\n",
                b": ",
                b"\0",
            ),
            *(b"GET / HTTP/1.1\r\n", b"HTTP/1.1 101 Go\r\n", b"HTTP/1.1 100 \r\n"),
            *(b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b"\r\n\r\n", b"X"),
            *(b"Sec-WebSocket-Version: 13\r\n", b"Origin: http://a\r\n", b"\xff"),
        ]
    ),
    max_size=14,
).map(b"".join)


def machine(side: Side, key: bytes = b"\1\2\3\4", **options: int) -> Connection:
    return Connection(side, key_source=lambda: key, **options)


def conversation(sender: Connection, script: list[tuple[str, bytes]]) -> bytes:
    """What ``sender`` writes when it does all of this."""
    for verb, payload in script:
        if verb == "text":
            sender.send_text(payload.decode("latin-1"))
        elif verb == "fragments":
            sender.send_binary(payload[:3], fin=False)
            sender.send_ping(payload[3:6])
            sender.send_binary(payload[3:])
        elif verb == "binary":
            sender.send_binary(payload)
        elif verb == "ping":
            sender.send_ping(payload[:125])
        else:
            sender.send_pong(payload[:125])
    return b"".join(bytes(chunk) for chunk in sender.data_to_send())


def expected(script: list[tuple[str, bytes]]) -> list[Event]:
    """The events of the other end."""
    events: list[Event] = []
    for verb, payload in script:
        if verb == "text":
            text = payload.decode("latin-1").encode()
            events.append(Data(1, memoryview(text), True))
        elif verb == "fragments":
            if payload[:3]:
                events.append(Data(2, memoryview(payload[:3]), False))
            events.append(Ping(payload[3:6]))
            events.append(Data(2, memoryview(payload[3:]), True))
        elif verb == "binary":
            events.append(Data(2, memoryview(payload), True))
        elif verb == "ping":
            events.append(Ping(payload[:125]))
        else:
            events.append(Pong(payload[:125]))
    return events


SCRIPTS = st.lists(
    st.tuples(
        st.sampled_from(["text", "binary", "fragments", "ping", "pong"]),
        st.binary(max_size=140),
    ),
    max_size=6,
)


@given(SIDES, KEYS, SCRIPTS, CODES, CUTS)
def test_round_trip_at_any_cut(side, key, script, code, cuts):
    sender = machine(side, key)
    sent = conversation(sender, script)
    sender.send_close(code, "end")
    sent += b"".join(bytes(chunk) for chunk in sender.data_to_send())
    receiver = machine(Side(1 - side), key)
    driven = drive(receiver, sent, cuts, join=join_data)
    assert driven.events == [*expected(script), CloseReceived(code, "end")]
    assert driven.error is None
    sender.receive_data(driven.sent)
    assert sender.close_code == receiver.close_code == code


def outcome(side: Side, garbage: bytes, cuts: list[int]) -> Driven:
    return drive(machine(side, max_message=64), garbage, cuts, join=join_data)


@given(SIDES, SCRIPTS, st.binary(max_size=60), CUTS)
def test_cuts_do_not_show_in_garbage(side, script, garbage, cuts):
    start = conversation(machine(Side(1 - side)), script)
    whole = outcome(side, start + garbage, [])
    cut = outcome(side, start + garbage, cuts)
    assert str(cut.error) == str(whole.error)
    assert cut.eof == whole.eof
    if whole.error is not None and whole.error.close_code == 1007:
        # The chunk with the wrong byte is not delivered, smaller ones before it are.
        assert cut.events[: len(whole.events)] == whole.events
        assert len(cut.events) - len(whole.events) in (0, 1)
    else:
        assert cut.events == whole.events


@given(SIDES, st.binary(max_size=300), CUTS)
def test_garbage_never_raises(side, garbage, cuts):
    driven = outcome(side, garbage, cuts)
    if driven.error is not None:
        assert driven.error.close_code in (1002, 1007, 1009)


@given(st.binary(max_size=125))
def test_close_payload_round_trip_or_error(payload):
    close = code = None
    try:
        close = Close.parse(payload)
    except RemoteProtocolError as error:
        code = error.close_code
    assert code in (1002, 1007) if close is None else close.encode() == payload


def read(side: Side, data: bytes, cuts: list[int]) -> tuple[object, ...]:
    """Everything a reader says about ``data``, or whose mistake it is."""
    reader = HeadReader(side, max_head=120)
    parts = list(pieces(data, cuts))
    try:
        for number, piece in enumerate(parts, 1):
            head = reader.receive_data(piece)
            if head is not None:
                rest = reader.leftover + b"".join(parts[number:])
                start = (head.method, head.target, head.version, head.status)
                return (*start, head.reason, head.headers, rest)
    except RemoteProtocolError as error:
        return ("refused", error.http_status is None)
    return ("incomplete",)


@given(SIDES, HTTPISH | st.binary(max_size=200), CUTS)
def test_cuts_do_not_show_in_heads(side, data, cuts):
    whole = read(side, data, [])
    assert read(side, data, cuts) == whole
    if whole[0] == "refused":
        assert whole[1] is (side is Side.CLIENT)


@given(HTTPISH)
def test_any_request_is_upgraded_or_refused_with_a_status(data):
    status = 101
    try:
        head = HeadReader(Side.SERVER).receive_data(data)
        if head is not None:
            loopback_host_allowed(head, ["a"], ["https://b"])
            assert check_upgrade(head).host
    except RemoteProtocolError as error:
        status = error.http_status
    assert status in (101, 400, 405, 426, 431, 501, 505)


@given(HTTPISH)
def test_any_answer_is_accepted_or_refused(data):
    status = None
    try:
        head = HeadReader(Side.CLIENT).receive_data(data)
        if head is not None:
            check_answer(head, "dGhlIHNhbXBsZSBub25jZQ==")
    except RemoteProtocolError as error:
        status = error.http_status
    assert status is None


@given(st.binary(min_size=16, max_size=16), st.lists(TOKENS, unique=True), CUTS)
def test_handshake_round_trip(random16, names, cuts):
    key = make_key(random16)
    request = build_upgrade("/x", "h", key, subprotocols=names)
    upgrade = check_upgrade(feed(Side.SERVER, request, cuts))
    assert (upgrade.key, upgrade.subprotocols) == (key, names)
    chosen = names[-1] if names else None
    answer = feed(Side.CLIENT, build_accept(key, subprotocol=chosen), cuts)
    assert check_answer(answer, key, subprotocols=names) == chosen


def feed(side: Side, data: bytes, cuts: list[int]):
    """The head of ``data``, complete with its last piece."""
    reader = HeadReader(side)
    *early, last = pieces(data, cuts)
    assert [reader.receive_data(piece) for piece in early] == [None] * len(early)
    head = reader.receive_data(last)
    assert head is not None
    return head


@given(st.text(max_size=20), st.text(max_size=20))
def test_a_built_response_holds_the_fields_it_was_given(name, value):
    try:
        data = build_response(200, [(name, value)])
    except LocalProtocolError:
        return
    head = HeadReader(Side.CLIENT).receive_data(data)
    assert head is not None
    added = [("Content-Length", "0"), ("Connection", "close")]
    wanted = [(name, value.strip(" \t"))]
    wanted += [pair for pair in added if pair[0].lower() != name.lower()]
    assert head.headers == wanted


@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=30))
def test_origin_rules_take_any_text(origin, host, name):
    assert origin_allowed(origin, host, ["*"])
    assert origin_allowed(None, host, [])
    assert isinstance(origin_allowed(origin, host, [name]), bool)
    assert host_matches(host, [host])


@given(st.text(max_size=40))
def test_an_offer_is_read_or_absent(text):
    assert parse_offer([text]) is None or "id=" in text


@given(
    st.binary(min_size=8, max_size=8),
    st.sampled_from(["tcp", "udp", "wsp", "pool", "centre"]),
    st.integers(1, 999),
    st.dictionaries(TOKENS, TOKENS | st.just(""), max_size=3),
)
def test_offer_round_trip(random8, name, version, params):
    try:
        value = format_offer(random8.hex(), name, version, params)
    except FastwsError:
        assert "id" in params
        return
    assert parse_offer([value]) == (random8.hex(), name, version, params)
