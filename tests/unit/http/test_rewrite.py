"""Which fields are passed on: RFC 9110 sections 6.5.1, 7.6.1, 7.8."""

import pytest

from fastws.http.rewrite import asked_upgrade, clean_trailers, end_to_end
from fastws.wire.head import Head

ALWAYS = (
    *("Connection", "Keep-Alive", "Proxy-Connection", "TE", "Upgrade"),
    *("Transfer-Encoding", "Content-Length", "HTTP2-Settings"),
    *("Proxy-Authorization", "Proxy-Authentication-Info", "Proxy-Authenticate"),
)


def head(*fields: tuple[str, str], version: str = "1.1") -> Head:
    return Head("GET", "/", version, None, "", list(fields))


@pytest.mark.parametrize("name", ALWAYS)
@pytest.mark.parametrize("change", [str, str.lower, str.upper])
def test_fields_of_one_hop_go(name, change):
    fields = [("A", "b"), (change(name), "x"), ("C", "d")]
    assert end_to_end(head(*fields)) == [("A", "b"), ("C", "d")]


def test_named_fields_go_and_others_keep_their_order():
    fields = [("b", "1"), ("A", "2"), ("B", "3"), ("c", "4"), ("D", "5")]
    connection = [("Connection", "close, a"), ("connection", ",C ,")]
    assert end_to_end(head(*fields, *connection)) == [
        ("b", "1"),
        ("B", "3"),
        ("D", "5"),
    ]
    assert end_to_end(head(*fields), frozenset({"b"})) == [*fields[1:2], *fields[3:]]


def test_upgrade_counts_with_its_option_only():
    both = [("Connection", "keep-alive, Upgrade"), ("Upgrade", "a, b")]
    assert asked_upgrade(head(*both)) == "a, b"
    assert asked_upgrade(head(*both, version="1.0")) is None
    assert asked_upgrade(head(both[1])) is None
    assert asked_upgrade(head(both[0])) is None


def test_trailers_that_would_deceive_go():
    trailers = [("Sum", "1"), ("host", "x"), ("Content-Length", "1"), ("Cookie", "a")]
    assert clean_trailers([*trailers, ("Digest", "2")]) == [
        ("Sum", "1"),
        ("Digest", "2"),
    ]
