"""Request targets of a proxy: RFC 9112 section 3.2."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastws.exceptions import RemoteProtocolError
from fastws.proxy.target import parse_absolute, parse_authority


@pytest.mark.parametrize(
    ("target", "parsed"),
    [
        ("http://a.test/", ("a.test", 80, "a.test", "/")),
        ("HTTP://A.test:81/x?y=/#"[:-1], ("A.test", 81, "A.test:81", "/x?y=/")),
        ("http://a.test", ("a.test", 80, "a.test", "/")),
        ("http://a.test:", ("a.test", 80, "a.test", "/")),
        ("http://a.test?q", ("a.test", 80, "a.test", "/?q")),
        ("http://a_b-c~.test:00080/", ("a_b-c~.test", 80, "a_b-c~.test:80", "/")),
        ("http://[::1]:8080/", ("::1", 8080, "[::1]:8080", "/")),
        ("http://[2001:DB8::7f00:1]/", ("2001:DB8::7f00:1", 80, None, "/")),
        ("http://[::ffff:127.0.0.1]/", ("::ffff:127.0.0.1", 80, None, "/")),
        ("http://127.0.0.1:65535/", ("127.0.0.1", 65535, "127.0.0.1:65535", "/")),
        ("http://a.test//b@c:d", ("a.test", 80, "a.test", "//b@c:d")),
        ("http://" + "a." * 127 + "a", ("a." * 127 + "a", 80, "a." * 127 + "a", "/")),
    ],
)
def test_absolute(target, parsed):
    host, port, authority, path = parsed
    found = parse_absolute(target, "GET")
    assert found == (host, port, authority or f"[{host}]", path)


def test_options_without_a_path_asks_for_the_server():
    assert parse_absolute("http://a.test", "OPTIONS").path == "*"
    assert parse_absolute("http://a.test/", "OPTIONS").path == "/"
    assert parse_absolute("http://a.test?q", "OPTIONS").path == "/?q"


@pytest.mark.parametrize(
    "target",
    [
        *("/", "*", "a.test:80", "http:/a.test/", "//a.test/", "http://", "http:///x"),
        *("https://a.test/", "ws://a.test/", "http://:80/", "http://a.test:x/"),
        *("http://a.test:0/", "http://a.test:65536/", "http://a.test:000080/"),
        *("http://a.test:80:81/", "http://u@a.test/", "http://a.test/#f"),
        *("http://[::1/", "http://::1/", "http://[::1]x/", "http://[::1%25lo]/"),
        *("http://[127.0.0.1]/", "http://a b/", "http://a\\b/", "http://a\x00b/"),
        *("http://" + "a." * 127 + "ab/", "http://" + "a" * 15000 + "/"),
        *("http://a.test:-1/", "http://a.test:８０/", "http://ä.test/"),
    ],
)
def test_reject_absolute(target):
    with pytest.raises(RemoteProtocolError) as caught:
        parse_absolute(target, "GET")
    assert caught.value.http_status == 400
    assert len(caught.value.reason) < 160


def test_authority():
    assert parse_authority("a.test:443") == ("a.test", 443)
    assert parse_authority("[::1]:1") == ("::1", 1)


@pytest.mark.parametrize(
    "target",
    [
        *("a.test", "a.test:", ":443", "a.test:0", "a.test:65536", "[::1]", "::1:443"),
        *("http://a.test:443", "a.test:443/", "u@a.test:443", "[::g]:1", ""),
    ],
)
def test_reject_authority(target):
    with pytest.raises(RemoteProtocolError) as caught:
        parse_authority(target)
    assert caught.value.http_status == 400


@given(st.text() | st.from_regex(r"http://[^/]*(/.*)?", fullmatch=True))
def test_garbage_is_refused_or_whole(target):
    """Whatever passes can stand in a request line and in a Host field."""
    try:
        found = parse_absolute(target, "GET")
    except RemoteProtocolError:
        return
    assert 1 <= found.port <= 65535
    assert found.authority.isascii()
    assert not set(found.authority) & set(" \t\r\n/?#@\\")
    assert found.path.startswith("/")
    assert target.lower().startswith(f"http://{found.host.lower()}") or "[" in target
