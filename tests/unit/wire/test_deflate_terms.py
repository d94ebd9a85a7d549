"""permessage-deflate: what is offered, answered and refused (RFC 7692 section 7.1)."""

import itertools
import re
import time
from typing import Any

import pytest

from fastws.exceptions import RemoteProtocolError
from fastws.wire.deflate import Deflate, parse_extensions
from tests.support.timing import UNIT


def accept(offer: str, **settings: Any) -> str | None:
    agreed = Deflate(**settings).accept([offer])
    return None if agreed is None else agreed[0]


# -- the field ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], []),
        (["", " , ,"], []),
        (["a"], [("a", [])]),
        (["a, b", "c"], [("a", []), ("b", []), ("c", [])]),
        (["a;x;y=1 ; z = 2\t,b;x"], [("a", [*"xyz"]), ("b", ["x"])]),
        (['a; x="10"; y="\\1\\0"'], [("a", ["x", "y"])]),
    ],
)
def test_parse_extensions(values, expected):
    found = parse_extensions(values)
    assert [(name, [key for key, _ in params]) for name, params in found] == expected


def test_parse_values_of_parameters():
    (found,) = parse_extensions(['a;w;x=1 ; y = 2\t; z="\\1\\0"'])
    assert found.params == [("w", ""), ("x", "1"), ("y", "2"), ("z", "10")]


@pytest.mark.parametrize(
    "value",
    [
        *("a b", "a;", "a;;b", ";a", "=", "a;x=", "a;x=;y", "a;=1", "a=1", "a;x=1=2"),
        *('a;x=""', 'a;x="1', 'a;x="1,2"', 'a;x="a b"', 'a;x="1"2', "a;x y", "a@b"),
    ],
)
def test_reject_malformed_extensions(value):
    for text in (value, f"b, {value}", f"{value}, b"):
        with pytest.raises(RemoteProtocolError) as caught:
            parse_extensions([text])
        assert caught.value.http_status == 400


@pytest.mark.parametrize(
    "value",
    [
        "a" * 16000 + "@",
        "a" + " " * 16000 + "@",
        "a;" + " " * 8000 + "b" + " " * 8000 + "@",
        "a" + ";b=1" * 4000 + "@",
        'a;b="' + "\\a" * 8000,
        "," * 16000 + "@",
        "a" + "; b" * 5000 + " " * 1000 + "=",
    ],
)
def test_malformed_extensions_take_no_time(value):
    started = time.thread_time()
    with pytest.raises(RemoteProtocolError):
        parse_extensions([value])
    assert time.thread_time() - started < UNIT


# -- the server's choice ------------------------------------------------------------

P = "permessage-deflate"


@pytest.mark.parametrize(
    ("offer", "answer"),
    [
        (P, f"{P}; server_max_window_bits=12"),
        (
            f"{P}; client_max_window_bits",
            f"{P}; server_max_window_bits=12; client_max_window_bits=12",
        ),
        (
            f"{P}; client_max_window_bits=10; server_max_window_bits=9",
            f"{P}; server_max_window_bits=9; client_max_window_bits=10",
        ),
        (
            f"{P}; server_max_window_bits=8; client_max_window_bits=8",
            f"{P}; server_max_window_bits=8; client_max_window_bits=8",
        ),
        (
            f'{P}; client_max_window_bits="15"; server_max_window_bits="\\1\\5"',
            f"{P}; server_max_window_bits=12; client_max_window_bits=12",
        ),
        (
            f"{P}; client_no_context_takeover; server_no_context_takeover",
            f"{P}; server_no_context_takeover; client_no_context_takeover"
            "; server_max_window_bits=12",
        ),
        (f"x-other; a=b, {P}", f"{P}; server_max_window_bits=12"),
        (
            f"{P}; foo, {P}; server_max_window_bits=11",
            f"{P}; server_max_window_bits=11",
        ),
        (f"{P}; server_max_window_bits=9, {P}", f"{P}; server_max_window_bits=9"),
    ],
)
def test_server_answers(offer, answer):
    assert accept(offer) == answer


@pytest.mark.parametrize(
    "offer",
    [
        "",
        "x-webkit-deflate-frame",
        "Permessage-Deflate",
        f"{P}; unknown",
        f"{P}; unknown=1",
        f"{P}; server_no_context_takeover; server_no_context_takeover",
        f"{P}; server_max_window_bits=9; server_max_window_bits=9",
        f"{P}; server_max_window_bits=9; server_max_window_bits=10",
        f"{P}; client_max_window_bits; client_max_window_bits=10",
        f"{P}; server_no_context_takeover=1",
        f"{P}; client_no_context_takeover=true",
        f"{P}; server_max_window_bits",
        *(f"{P}; server_max_window_bits={n}" for n in ("7", "16", "08", "8.", "x")),
        *(f"{P}; client_max_window_bits={n}" for n in ("0", "7", "16", "015", "+9")),
    ],
)
def test_server_declines(offer):
    assert accept(offer) is None


@pytest.mark.parametrize(
    ("settings", "offer", "answer"),
    [
        ({"server_max_window_bits": 15}, P, P),
        (
            {"server_max_window_bits": 15},
            f"{P}; server_max_window_bits=15",
            f"{P}; server_max_window_bits=15",
        ),
        (
            {"server_max_window_bits": 15, "client_max_window_bits": 15},
            f"{P}; client_max_window_bits",
            f"{P}; client_max_window_bits=15",
        ),
        (
            {"server_max_window_bits": 9, "client_max_window_bits": 9},
            P,
            f"{P}; server_max_window_bits=9",
        ),
        (
            {"server_no_context_takeover": True, "client_no_context_takeover": True},
            P,
            f"{P}; server_no_context_takeover; client_no_context_takeover"
            "; server_max_window_bits=12",
        ),
    ],
)
def test_server_settings_shape_the_answer(settings, offer, answer):
    assert accept(offer, **settings) == answer


# -- the client's check -------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "offer"),
    [
        ({}, f"{P}; client_max_window_bits"),
        (
            {"server_max_window_bits": 8, "client_max_window_bits": 15},
            f"{P}; server_max_window_bits=8; client_max_window_bits=15",
        ),
        (
            {"server_no_context_takeover": True, "client_no_context_takeover": True},
            f"{P}; server_no_context_takeover; client_no_context_takeover"
            "; client_max_window_bits",
        ),
    ],
)
def test_client_offers(settings, offer):
    assert Deflate(**settings).offer() == offer


@pytest.mark.parametrize(
    ("settings", "answer", "codec"),
    [
        ({}, P, "out: remembers 2^12, in: remembers 2^15"),
        (
            {},
            f"{P}; server_max_window_bits=8; client_max_window_bits=10",
            "out: remembers 2^10, in: remembers 2^8",
        ),
        (
            {},
            f"{P}; client_max_window_bits=8",
            "out: remembers 2^9, in: remembers 2^15",  # 9 of zlib fits into 8
        ),
        (
            {},
            f"{P}; server_no_context_takeover; client_no_context_takeover",
            "out: forgets 2^12, in: forgets 2^15",
        ),
        (
            {"client_no_context_takeover": True, "client_max_window_bits": 15},
            P,
            "out: forgets 2^15, in: remembers 2^15",
        ),
        (
            {"server_max_window_bits": 10},
            f"{P}; server_max_window_bits=10",
            "out: remembers 2^12, in: remembers 2^10",
        ),
    ],
)
def test_client_takes_the_answer(settings, answer, codec):
    assert repr(Deflate(**settings).confirm([answer])) == f"<Codec {codec}>"


@pytest.mark.parametrize("values", [[], [""], [" , "]])
def test_client_takes_a_refusal(values):
    assert Deflate().confirm(values) is None


@pytest.mark.parametrize(
    ("settings", "answer", "reason"),
    [
        ({}, "x-other", "extension was not offered: x-other"),
        ({}, f"{P}, x-other", "extension was not offered: x-other"),
        ({}, f"{P}, {P}", f"{P} twice"),
        ({}, f"{P}; foo", f"{P}: foo is unknown"),
        ({}, f"{P}; server_max_window_bits=9; server_max_window_bits=9", "twice"),
        ({}, f"{P}; client_no_context_takeover=1", "has a value"),
        ({}, f"{P}; server_max_window_bits", "not a number from 8 to 15"),
        ({}, f"{P}; server_max_window_bits=16", "not a number from 8 to 15"),
        ({}, f"{P}; client_max_window_bits", "not a number from 8 to 15"),
        ({}, f"{P};", "malformed"),
        ({"server_no_context_takeover": True}, P, "takeover is missing"),
        ({"server_max_window_bits": 10}, P, "server_max_window_bits is not 10 or less"),
        (
            {"server_max_window_bits": 10},
            f"{P}; server_max_window_bits=11",
            "server_max_window_bits is not 10 or less",
        ),
        (
            {"client_max_window_bits": 10},
            f"{P}; client_max_window_bits=11",
            "client_max_window_bits is not 10 or less",
        ),
    ],
)
def test_client_refuses_the_answer(settings, answer, reason):
    with pytest.raises(RemoteProtocolError, match=re.escape(reason)):
        Deflate(**settings).confirm([answer])


@pytest.mark.parametrize(
    "settings",
    [
        *({"server_max_window_bits": n} for n in (0, 7, 16)),
        *({"client_max_window_bits": n} for n in (7, 16, "12")),
        *({"level": n} for n in (-2, 10)),
        *({"mem_level": n} for n in (0, 10)),
    ],
)
def test_reject_settings(settings):
    with pytest.raises(ValueError, match=rf"{next(iter(settings))} must be"):
        Deflate(**settings)


def test_parse_what_a_user_gives():
    own = Deflate(level=1)
    assert Deflate.parse(None) is None
    assert Deflate.parse("deflate") == Deflate()
    assert Deflate.parse(own) is own
    for bad in ("gzip", "", True, 15):
        with pytest.raises(ValueError, match="compression must be"):
            Deflate.parse(bad)  # type: ignore[arg-type]


BITS = [None, 8, 9, 15]
FLAGS = [False, True]


ALL = list(itertools.product(FLAGS, FLAGS, BITS, BITS))


@pytest.mark.parametrize("theirs", ALL)
def test_every_client_and_every_server_agree(theirs):
    """Both directions have one meaning at both ends, and carry messages."""
    for ours in ALL:
        check_agreement(Deflate(*theirs), Deflate(*ours))


def check_agreement(client: Deflate, server: Deflate) -> None:
    agreed = server.accept([client.offer()])
    assert agreed is not None
    a, b = client.confirm([agreed[0]]), agreed[1]
    assert a is not None
    for sender, receiver in ((a, b), (b, a)):
        assert receiver.in_forgets <= sender.out_forgets
        for text in (b"Hello" * 100, b"Hello" * 100, b""):
            packed = sender.compress(text, True)
            assert receiver.decompress(packed, True, len(text)) == text
