"""The X-Fastws pair and its signals, against docs/wire.md."""

import re
from pathlib import Path

import pytest

from fastws._consts import Side
from fastws.exceptions import LocalProtocolError
from fastws.wire import announce
from fastws.wire.announce import (
    check_answer,
    format_answer,
    format_offer,
    make_id,
    parse_answer,
    parse_offer,
    proof,
)
from fastws.wire.frames import CloseCode
from fastws.wire.handshake import build_accept, build_upgrade
from fastws.wire.websocket import Connection

ID = "0123456789abcdef"
OFFER = f"tcp/1; id={ID}"
ANSWER = "tcp/1; proof=d91c3ae3e564a089"


def test_proof_vector():
    assert proof(ID, "tcp/1") == "d91c3ae3e564a089"


def test_make_id():
    assert make_id(bytes.fromhex(ID)) == ID


@pytest.mark.parametrize("size", [0, 7, 9])
def test_reject_random_bytes(size):
    with pytest.raises(LocalProtocolError):
        make_id(bytes(size))


def test_format_offer():
    assert format_offer(ID) == OFFER
    assert format_offer(ID, "udp", 2, {"a": "b", "c": ""}) == f"udp/2; id={ID}; a=b; c"


@pytest.mark.parametrize("id", ["", ID[:-1], ID + "0", ID.upper(), ID + "\n"])
def test_reject_own_id(id):
    with pytest.raises(LocalProtocolError):
        format_offer(id)


@pytest.mark.parametrize(
    ("name", "version", "params"),
    [
        ("smtp", 1, {}),
        ("tcp", 0, {}),
        ("tcp", 1000, {}),
        ("tcp", 1, {"a b": "c"}),
        ("tcp", 1, {"a": "b c"}),
        ("tcp", 1, {"id": "x"}),
    ],
)
def test_reject_own_offer(name, version, params):
    with pytest.raises(LocalProtocolError):
        format_offer(ID, name, version, params)


@pytest.mark.parametrize("name", ["tcp", "udp", "wsp", "pool", "centre"])
def test_accept_offer(name):
    offer = parse_offer([f"{name}/12; id={ID}"])
    assert offer == (ID, name, 12, {})


@pytest.mark.parametrize(
    "value",
    [
        f"tcp/1;id={ID};credit=5;fin",
        f"tcp/1 ; credit=5\t;\t id={ID} ;fin",
    ],
)
def test_accept_offer_with_white_space_and_parameters(value):
    offer = parse_offer([value])
    assert offer is not None
    assert (offer.id, offer.params) == (ID, {"credit": "5", "fin": ""})


@pytest.mark.parametrize(
    "values",
    [
        [],
        [OFFER, OFFER],
        [""],
        ["tcp/1"],
        ["tcp/1; id"],
        ["tcp/1; id="],
        [f"tcp/1; id={ID[:-1]}"],
        [f"tcp/1; id={ID}0"],
        [f"tcp/1; id={ID.upper()}"],
        [f"tcp/1; id={ID}; id={ID}"],
        [f"tcp/1; id={ID}; a=1; a=1"],
        [f"tcp/1; id={ID};"],
        [f"tcp/1;; id={ID}"],
        [f"tcp/1 id={ID}"],
        [f"tcp/1, id={ID}"],
        [f"{OFFER}, {OFFER}"],
        [f"tcp/1; id = {ID}"],
        [f'tcp/1; id="{ID}"'],
        [f"tcp/1; id={ID}\n"],
        [f" tcp/1; id={ID}"],
        [f"tcp/01; id={ID}"],
        [f"tcp/0; id={ID}"],
        [f"tcp/1000; id={ID}"],
        [f"tcp/\u0661; id={ID}"],
        [f"tcp/-1; id={ID}"],
        [f"tcp/; id={ID}"],
        [f"tcp; id={ID}"],
        [f"TCP/1; id={ID}"],
        [f"quic/1; id={ID}"],
    ],
    ids=repr,
)
def test_reject_offer(values):
    assert parse_offer(values) is None


def offered(version: int = 1, name: str = "tcp") -> announce.Offer:
    offer = parse_offer([f"{name}/{version}; id={ID}"])
    assert offer is not None
    return offer


def test_format_answer():
    assert format_answer(offered()) == ANSWER
    assert format_answer(offered(), params={"a": "b"}) == ANSWER + "; a=b"


@pytest.mark.parametrize(
    ("ours", "theirs", "spoken"), [(1, 3, 1), (3, 1, 1), (2, 2, 2)]
)
def test_answer_has_the_highest_version_of_both(ours, theirs, spoken):
    value = format_answer(offered(theirs), version=ours)
    assert value == f"tcp/{spoken}; proof={proof(ID, f'tcp/{spoken}')}"
    assert check_answer([value], ID, "tcp", theirs) == ("tcp", spoken)


def test_accept_answer():
    assert check_answer([ANSWER], ID) == ("tcp", 1)
    assert parse_answer([ANSWER + ";x=y"], ID) == ("tcp", 1, {"x": "y"})


@pytest.mark.parametrize(
    "values",
    [
        [],
        [ANSWER, ANSWER],
        [OFFER],
        [f"{OFFER}; proof={ID}"],
        ["tcp/1"],
        ["tcp/1; proof=d91c3ae3e564a08"],
        ["tcp/1; proof=d91c3ae3e564a088"],
        ["tcp/1; proof=D91C3AE3E564A089"],
        ["tcp/2; proof=d91c3ae3e564a089"],
        [f"tcp/2; proof={proof(ID, 'tcp/2')}"],
        [f"udp/1; proof={proof(ID, 'udp/1')}"],
    ],
    ids=repr,
)
def test_reject_answer(values):
    assert check_answer(values, ID) is None


def test_reject_answer_to_another_id():
    assert check_answer([ANSWER], "0123456789abcdee") is None


def documented_dumps(heading: str) -> list[bytes]:
    """Every hex dump of a part of docs/wire.md, in order; both columns must agree."""
    text = (Path(__file__).parents[3] / "docs" / "wire.md").read_text("utf-8")
    text = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    dumps = []
    for block in re.findall(r"```\n(0000  .*?)```", text, re.DOTALL):
        data = b""
        for line in block.splitlines():
            row = bytes.fromhex(line[6:53])
            shown = "".join(chr(c) if 32 <= c < 127 else "." for c in row)
            assert line == f"{len(data):04x}  {row.hex(' '):<47}  |{shown}|"
            data += row
        dumps.append(data)
    return dumps


def test_documented_conversation():
    key = "dGhlIHNhbXBsZSBub25jZQ=="
    fields = [(announce.HEADER, format_offer(ID))]
    request = build_upgrade("/t", "edge.example", key, headers=fields)
    fields = [(announce.HEADER, format_answer(offered()))]
    answer = build_accept(key, headers=fields)
    client = Connection(Side.CLIENT, key_source=lambda: bytes.fromhex("37fa213d"))
    server = Connection(Side.SERVER, answer_close=False)
    client.send_text(announce.SIGNAL_CONFIRM.decode())
    client.send_binary(b"hello\n")
    client.send_text(announce.SIGNAL_FIN.decode())
    server.send_binary(b"HELLO\n")
    server.send_text(announce.SIGNAL_FIN.decode())
    server.send_close()
    from_server = [bytes(frame) for frame in server.data_to_send()]
    for frame in from_server:
        client.receive_data(frame)
    from_client = [bytes(frame) for frame in client.data_to_send()]
    expected = [request, answer, *from_client[:3], *from_server, from_client[3]]
    for side in (Side.CLIENT, Side.SERVER):
        end = Connection(side, key_source=lambda: bytes.fromhex("37fa213d"))
        end.send_text(announce.SIGNAL_RESET.decode())
        end.send_close(CloseCode.INTERNAL_ERROR)
        expected += [bytes(frame) for frame in end.data_to_send()]
    assert documented_dumps("A whole conversation") == expected


def test_documented_datagrams():
    offer = parse_offer([format_offer(ID, "udp")])
    text = (Path(__file__).parents[3] / "docs" / "wire.md").read_text("utf-8")
    assert f"| `X-Fastws: {format_offer(ID, 'udp')}` |" in text
    assert f"| `X-Fastws: {format_answer(offer)}` |" in text
    client = Connection(Side.CLIENT, key_source=lambda: bytes.fromhex("37fa213d"))
    server = Connection(Side.SERVER)
    client.send_text(announce.SIGNAL_CONFIRM.decode())
    client.send_binary(b"ping")
    client.send_binary(b"")
    server.send_binary(b"pong")
    client.send_close()
    *first, close = [bytes(frame) for frame in client.data_to_send()]
    server.receive_data(close)
    answers = [bytes(frame) for frame in server.data_to_send()[:2]]
    expected = [*first, answers[0], close, answers[1]]
    assert documented_dumps("Datagrams") == expected
