"""Who may say what on a pooled WebSocket: docs/pool.md, rule by rule."""

import re
from pathlib import Path

import pytest

from fastws._consts import Side
from fastws.exceptions import LocalProtocolError, RemoteProtocolError
from fastws.wire import announce
from fastws.wire.pool import (
    Answer,
    Associate,
    Close,
    Connect,
    Data,
    Datagram,
    Packet,
    Reset,
    Status,
    decode_packet,
    encode_packet,
)
from fastws.wire.pool_track import Fate, Track

DOCUMENT = (Path(__file__).parents[3] / "docs" / "pool.md").read_text("utf-8")
REFUSED = Status.REFUSED


def data(payload: bytes) -> Data:
    return Data(memoryview(payload))


def tracks(is_extended: bool) -> tuple[Track, Track]:
    client = Track(Side.CLIENT, is_extended=is_extended)
    return client, Track(Side.SERVER, is_extended=is_extended)


def give(track: Track, packet: Packet) -> Packet | None:
    """Hand a packet to a track, through its bytes."""
    encoded = encode_packet(packet, is_extended=track.is_extended)
    return track.receive(encoded[0], encoded[1:])


def pass_on(track: Track, encoded: bytes) -> Packet | None:
    assert encoded, "nothing was said"
    return track.receive(encoded[0], encoded[1:])


def open_stream(client: Track, server: Track) -> None:
    packet = pass_on(server, client.connect("a", 80))
    assert packet == Connect("a", 80, client.stream if client.is_extended else 0)
    answer = server.answer(Status.CONNECTED)
    if client.is_extended:
        expected = Answer(client.stream, Status.CONNECTED)
        assert pass_on(client, answer) == expected
    else:
        assert answer == b""


BOTH = pytest.mark.parametrize("is_extended", [False, True], ids=["plain", "pool1"])


@BOTH
@pytest.mark.parametrize("first", [Side.CLIENT, Side.SERVER])
def test_streams_follow_each_other_whoever_ends_first(
    is_extended: bool, first: Side
) -> None:
    client, server = tracks(is_extended)
    for number in (1, 2, 3):
        assert client.is_idle
        assert server.is_idle
        open_stream(client, server)
        number = number if is_extended else 0
        ends = [client, server] if first is Side.CLIENT else [server, client]
        assert pass_on(ends[1], ends[0].close()) == Close(number)
        assert (ends[0].fate, ends[1].fate) == (Fate.DELIVER, Fate.REFUSE)
        assert not client.is_idle
        assert not server.is_idle
        assert give(ends[0], data(b"late")) == data(b"late")
        assert pass_on(ends[0], ends[1].close()) == Close(number)
    assert client.stream == server.stream == 3


def test_r11_half_close() -> None:
    client, server = tracks(False)
    said = [client.connect("127.0.0.1", 7007)]
    assert pass_on(server, said[-1]) == Connect("127.0.0.1", 7007)
    assert server.answer(Status.CONNECTED) == b""
    said.append(encode_packet(data(b"12345"), is_extended=False))
    assert pass_on(server, said[-1]) == data(b"12345")
    said.append(client.close())
    assert pass_on(server, said[-1]) == Close()
    said.append(encode_packet(data(b"GOT 5"), is_extended=False))
    assert pass_on(client, said[-1]) == data(b"GOT 5")
    said.append(server.close())
    assert pass_on(client, said[-1]) == Close()
    assert [packet.hex(" ") for packet in said] == [
        "01 01 5f 1b 7f 00 00 01",
        "02 31 32 33 34 35",
        "03",
        "02 47 4f 54 20 35",
        "03",
    ]
    assert client.is_idle
    assert server.is_idle


# -- strangers: docs/pool.md, "With a stranger" ----------------------------------------


def test_stranger_3_failed_dial_is_one_close_and_data_are_dropped() -> None:
    client, server = tracks(False)
    pass_on(server, client.connect("a", 80))
    assert server.answer(REFUSED) == b"\x03"
    assert server.fate is Fate.DROP
    assert give(server, data(b"GET /")) is None
    assert give(server, Close()) is None
    assert server.is_idle
    assert give(server, Connect("b", 80)) == Connect("b", 80)


@pytest.mark.parametrize("is_dialing", [True, False])
def test_stranger_3_target_reset_is_one_close(is_dialing: bool) -> None:
    client, server = tracks(False)
    pass_on(server, client.connect("a", 80))
    if not is_dialing:
        server.answer(Status.CONNECTED)
    assert server.reset() == b"\x03"
    assert server.reset() == b""
    assert server.fate is Fate.DROP
    assert give(server, data(b"more")) is None
    assert give(server, Close()) is None
    assert server.is_idle


def test_stranger_3_target_reset_after_our_close_says_nothing_more() -> None:
    client, server = tracks(False)
    open_stream(client, server)
    assert server.close() == b"\x03"
    assert server.reset() == b""
    assert server.fate is Fate.DROP
    assert give(server, Close()) is None
    assert server.is_idle


def test_stranger_4_user_reset_leaves_the_connection_unfit() -> None:
    client, server = tracks(False)
    open_stream(client, server)
    assert client.reset() == b""
    assert client.is_broken
    assert not client.is_idle
    with pytest.raises(LocalProtocolError, match="no new stream now"):
        client.connect("b", 80)


def test_stranger_5_server_ignores_data_and_close_while_idle() -> None:
    _, server = tracks(False)
    assert server.fate is Fate.DROP
    assert give(server, data(b"x")) is None
    assert give(server, Close()) is None
    assert server.is_idle


@pytest.mark.parametrize("packet", [data(b"x"), Close(), Connect("a", 1)])
def test_stranger_5_client_takes_nothing_while_idle(packet: Packet) -> None:
    client, server = tracks(False)
    open_stream(client, server)
    pass_on(server, client.close())
    pass_on(client, server.close())
    assert client.fate is Fate.REFUSE
    with pytest.raises(RemoteProtocolError, match="out of turn") as caught:
        give(client, packet)
    assert caught.value.close_code == 1002
    assert client.is_broken
    assert client.fate is Fate.REFUSE
    assert give(client, packet) is None


@pytest.mark.parametrize("packet", [Close(), data(b"x")], ids=["close", "data"])
@pytest.mark.parametrize("hears", [Side.CLIENT, Side.SERVER])
def test_stranger_2_nothing_follows_a_close(packet: Packet, hears: Side) -> None:
    client, server = tracks(False)
    open_stream(client, server)
    track = client if hears is Side.CLIENT else server
    assert give(track, Close()) == Close()
    with pytest.raises(RemoteProtocolError, match="out of turn"):
        give(track, packet)


def test_stranger_7_second_connect_is_a_fault() -> None:
    client, server = tracks(False)
    open_stream(client, server)
    with pytest.raises(RemoteProtocolError, match="Connect out of turn"):
        give(server, Connect("b", 80))


# -- fastws ends: docs/pool.md, "Between fastws ends" ----------------------------------


def test_rule_1_numbers_grow_by_one() -> None:
    for number in (0, 2, 2**32 - 1):
        _, server = tracks(True)
        with pytest.raises(RemoteProtocolError):
            server.receive(1, number.to_bytes(4, "little") + b"\x03\x50\x00a")
        assert server.is_broken


def test_rule_1_last_number() -> None:
    client, _ = tracks(True)
    client.stream = 2**32 - 2
    client.connect("a", 80)
    client.is_open = False
    with pytest.raises(LocalProtocolError, match="stream number 4294967296"):
        client.connect("a", 80)
    assert not client.is_open


def test_rule_1_data_may_come_before_the_answer() -> None:
    client, server = tracks(True)
    pass_on(server, client.connect("a", 80))
    assert server.fate is Fate.DELIVER
    assert give(server, data(b"GET /")) == data(b"GET /")


@pytest.mark.parametrize("packet", [data(b"x"), Close(1)], ids=["data", "close"])
def test_rule_2_nothing_comes_before_the_answer(packet: Packet) -> None:
    client, _ = tracks(True)
    client.connect("a", 80)
    assert client.fate is Fate.REFUSE
    with pytest.raises(RemoteProtocolError, match="out of turn"):
        give(client, packet)


def test_rule_2_server_cannot_close_before_its_answer() -> None:
    client, server = tracks(True)
    pass_on(server, client.connect("a", 80))
    with pytest.raises(LocalProtocolError, match="no Close now"):
        server.close()


@pytest.mark.parametrize("client_ends_first", [True, False])
def test_rule_2_failure_is_the_servers_last_packet(client_ends_first: bool) -> None:
    client, server = tracks(True)
    pass_on(server, client.connect("a", 80))
    said = [client.close()] if client_ends_first else []
    answer = server.answer(REFUSED)
    assert answer == bytes.fromhex("04 01 00 00 00 05")
    assert pass_on(client, answer) == Answer(1, REFUSED)
    assert client.is_idle is client_ends_first
    said = said or [client.close()]
    assert client.is_idle
    with pytest.raises(LocalProtocolError, match="no Close now"):
        server.close()
    assert pass_on(server, said[0]) is None
    assert server.is_idle


def test_rule_2_second_answer_is_a_fault() -> None:
    client, server = tracks(True)
    open_stream(client, server)
    with pytest.raises(RemoteProtocolError, match="Answer of stream 1 out of turn"):
        give(client, Answer(1, Status.CONNECTED))
    with pytest.raises(LocalProtocolError, match="no answer now"):
        server.answer(Status.CONNECTED)


def test_rule_3_reset_is_answered_with_reset() -> None:
    for breaks_off in (Side.CLIENT, Side.SERVER):
        client, server = tracks(True)
        open_stream(client, server)
        one, two = (client, server) if breaks_off is Side.CLIENT else (server, client)
        assert pass_on(two, one.reset()) == Reset(1)
        assert not two.is_idle
        answer = two.reset()
        assert answer == bytes.fromhex("05 01 00 00 00")
        assert pass_on(one, answer) is None
        assert client.is_idle
        assert server.is_idle


@pytest.mark.parametrize("packet", [Reset(1), Close(1), data(b"x")])
def test_rule_3_nothing_follows_a_reset(packet: Packet) -> None:
    client, server = tracks(True)
    open_stream(client, server)
    assert give(server, Reset(1)) == Reset(1)
    with pytest.raises(RemoteProtocolError, match="out of turn"):
        give(server, packet)


def test_rule_3_reset_after_both_closes_passed_is_not_answered() -> None:
    client, server = tracks(True)
    open_stream(client, server)
    close = server.close()
    reset = client.reset()
    assert pass_on(server, reset) == Reset(1)
    assert server.is_idle
    assert server.reset() == b""
    assert pass_on(client, close) is None
    assert client.is_idle


def test_rule_3_reset_while_dialing_takes_the_place_of_the_answer() -> None:
    client, server = tracks(True)
    pass_on(server, client.connect("a", 80))
    assert pass_on(server, client.reset()) == Reset(1)
    assert pass_on(client, server.reset()) is None
    assert client.is_idle
    assert server.is_idle
    with pytest.raises(LocalProtocolError, match="no answer now"):
        server.answer(REFUSED)


def test_rule_5_what_was_on_its_way_is_dropped_after_reset() -> None:
    client, server = tracks(True)
    pass_on(server, client.connect("a", 80))
    assert client.reset() == bytes.fromhex("05 01 00 00 00")
    assert client.reset() == b""
    assert client.fate is Fate.DROP
    assert pass_on(client, server.answer(Status.CONNECTED)) is None
    assert give(client, data(b"x")) is None
    assert pass_on(client, server.close()) is None
    assert client.is_idle


def test_rule_6_late_reset_is_ignored_once() -> None:
    client, server = tracks(True)
    open_stream(client, server)
    from_server = [server.close(), server.reset()]
    from_client = client.close()
    assert pass_on(client, from_server[0]) == Close(1)
    assert client.is_idle
    connect = client.connect("b", 80)
    assert pass_on(client, from_server[1]) is None
    assert client.is_open
    assert pass_on(server, from_client) is None
    assert server.is_idle
    assert pass_on(server, connect) == Connect("b", 80, 2)
    with pytest.raises(RemoteProtocolError, match="Reset of stream 1 out of turn"):
        give(client, Reset(1))


@pytest.mark.parametrize(
    "packet", [Reset(1), Reset(2), Close(1), Answer(1, REFUSED), data(b"x")]
)
def test_rule_11_nothing_comes_between_streams(packet: Packet) -> None:
    client, server = tracks(True)
    open_stream(client, server)
    reset = client.reset()
    pass_on(server, reset)
    pass_on(client, server.reset())
    for track in (client, server):
        with pytest.raises(RemoteProtocolError, match="out of turn"):
            give(track, packet)
        assert track.is_broken


@pytest.mark.parametrize("number", [2, 3], ids=["of-the-next", "of-another"])
def test_rule_11_cross_talk_is_a_fault(number: int) -> None:
    for packet in (Close(number), Reset(number), Answer(number, REFUSED)):
        client, server = tracks(True)
        open_stream(client, server)
        with pytest.raises(RemoteProtocolError, match=f"of stream {number} out of"):
            give(client, packet)


def test_rule_11_client_is_not_connected_to() -> None:
    client, _ = tracks(True)
    with pytest.raises(RemoteProtocolError, match="Connect of stream 1 out of turn"):
        give(client, Connect("a", 80, 1))


def test_rule_7_datagrams() -> None:
    client, server = tracks(True)
    ping, pong = b"ping", memoryview(b"pong")
    packet = pass_on(server, client.associate())
    assert packet == Associate(1)
    sent = client.datagram("a", 53, ping)
    assert pass_on(server, sent) == Datagram("a", 53, memoryview(ping))
    assert server.datagram("192.0.2.1", 53, pong) == b""  # before its answer
    pass_on(client, server.answer(Status.CONNECTED))
    received = pass_on(client, server.datagram("192.0.2.1", 53, pong))
    assert received == Datagram("192.0.2.1", 53, pong)
    assert client.fate is server.fate is Fate.REFUSE  # for Data
    close = client.close()
    assert client.datagram("a", 53, ping) == b""
    assert pass_on(client, server.datagram("192.0.2.1", 53, pong)) == received
    pass_on(server, close)
    pass_on(client, server.close())
    assert client.is_idle
    assert client.datagram("a", 53, ping) == b""


def test_rule_7_kinds_of_payload_do_not_mix() -> None:
    client, server = tracks(True)
    open_stream(client, server)
    assert client.datagram("a", 53, b"x") == b""
    with pytest.raises(RemoteProtocolError, match="Datagram out of turn"):
        give(server, Datagram("a", 53, memoryview(b"x")))
    client, server = tracks(True)
    pass_on(server, client.associate())
    with pytest.raises(RemoteProtocolError, match="Data out of turn"):
        give(server, data(b"x"))


def test_rule_11_malformed_packet_breaks_the_track_once() -> None:
    _, server = tracks(True)
    with pytest.raises(RemoteProtocolError, match="unknown packet kind 9"):
        server.receive(9, b"")
    assert server.is_broken
    assert server.receive(9, b"") is None
    assert repr(server) == "<Track SERVER pool/1 stream 0 broken>"


def test_repr_shows_the_state() -> None:
    client, server = tracks(True)
    assert repr(client) == "<Track CLIENT pool/1 stream 0 idle>"
    open_stream(client, server)
    client.close()
    state = "open, sent CLOSE, received NOTHING"
    assert repr(client) == f"<Track CLIENT pool/1 stream 1 {state}>"
    assert repr(tracks(False)[1]) == "<Track SERVER plain stream 0 idle>"


def test_stranger_cannot_associate() -> None:
    client, _ = tracks(False)
    with pytest.raises(LocalProtocolError, match="no ASSOCIATE packet"):
        client.associate()
    assert client.is_idle


# -- docs/pool.md itself ---------------------------------------------------------------


def documented_lines() -> list[tuple[str, bytes]]:
    """Every line of the conversations: who, and the payload of the message."""
    part = DOCUMENT.partition("## A stream between fastws ends\n")[2]
    found = re.findall(r"^([cs]) ((?:[0-9a-f]{2} ?)+)$", part, re.MULTILINE)
    return [(who, bytes.fromhex(text)) for who, text in found]


def test_documented_conversations_keep_the_rules() -> None:
    lines = documented_lines()
    assert lines.pop(0) == ("c", announce.SIGNAL_CONFIRM)
    client, server = tracks(True)
    said = {"c": client, "s": server}
    for who, line in lines:
        packet = decode_packet(line, is_extended=True)
        hears = server if who == "c" else client
        assert say(said[who], packet) == line
        pass_on(hears, line)
    assert client.is_idle
    assert server.is_idle
    assert (client.stream, len(lines)) == (4, 18)


def say(track: Track, packet: Packet) -> bytes:
    """Have a track send this packet by its own means."""
    if isinstance(packet, Connect):
        return track.connect(packet.host, packet.port)
    if isinstance(packet, Associate):
        return track.associate()
    if isinstance(packet, Answer):
        return track.answer(packet.status)
    if isinstance(packet, Datagram):
        return track.datagram(*packet)
    if isinstance(packet, Data):
        return encode_packet(packet, is_extended=True)
    return track.close() if isinstance(packet, Close) else track.reset()


def test_documented_plain_packets_and_fields() -> None:
    table = DOCUMENT.partition("## Plain packets with bytes\n")[2].partition("\n## ")[0]
    found = re.findall(r"^\| (\w+).* \| `([0-9a-f ]+)` \|$", table, re.MULTILINE)
    assert len(found) == 6
    for name, text in found:
        packet = decode_packet(bytes.fromhex(text), is_extended=False)
        assert type(packet).__name__ == name
        assert encode_packet(packet, is_extended=False) == bytes.fromhex(text)
    id = "0123456789abcdef"
    offer = announce.parse_offer([announce.format_offer(id, "pool")])
    assert offer is not None
    assert f"| `X-Fastws: {announce.format_offer(id, 'pool')}` |" in DOCUMENT
    assert f"| `X-Fastws: {announce.format_answer(offer)}` |" in DOCUMENT


def test_documented_statuses_are_these() -> None:
    row = re.compile(r"^\| (0\d) \| .* \| (0\d) \| (\d{3}) \|$", re.MULTILINE)
    found = [
        (int(s), int(reply), int(http)) for s, reply, http in row.findall(DOCUMENT)
    ]
    assert found == [(s, s.socks_reply, s.http_status) for s in Status]
