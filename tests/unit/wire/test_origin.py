"""Which pages may reach a server: the rules on Origin and Host of ``handshake``."""

import pytest

from fastws.wire.handshake import host_matches, loopback_host_allowed, origin_allowed
from fastws.wire.head import Head


@pytest.mark.parametrize(
    ("origin", "host", "allowed"),
    [
        (None, "h", []),
        ("http://h", "h", []),
        ("http://H", "h", []),
        ("http://h", "H:80", []),
        ("http://h:80", "h", []),
        ("https://h", "h:443", []),
        ("https://h:8443", "h:8443", []),
        ("http://[::1]:8080", "[::1]:8080", []),
        ("http://[::1]", "[::1]", []),
        ("http://evil", "h", ["*"]),
        ("null", "h", ["*"]),
        ("null", "h", ["null"]),
        ("https://a.example", "h", ["b", "https://a.example"]),
        ("https://a.example", "h", ["https://A.example/"]),
        ("https://a.example:443", "h", ["https://a.example"]),
        ("https://a.example", "h", ["https://a.example:443"]),
        ("https://a.example", "h", ["a.example"]),
        ("http://a.example:81", "h", ["A.example"]),
        ("http://a.example:81", "h", ["a.example:81"]),
    ],
)
def test_accept_origin(origin, host, allowed):
    assert origin_allowed(origin, host, allowed)


@pytest.mark.parametrize(
    ("origin", "host", "allowed"),
    [
        ("http://evil", "h", []),
        ("http://h.evil", "h", []),
        ("http://evilh", "h", []),
        ("http://h:81", "h", []),
        ("http://h", "h:81", []),
        ("https://h", "h:80", []),
        ("http://h", "h:443", []),
        ("null", "h", []),
        ("null", "null", []),
        ("", "h", []),
        ("", "", []),
        ("http://", "", []),
        ("h", "h", []),
        ("http://evil", "h", ["https://evil"]),
        ("https://evil:444", "h", ["https://evil"]),
        ("https://a.evil", "h", ["evil", "https://evil"]),
        ("http://a.example:82", "h", ["a.example:81"]),
    ],
)
def test_reject_origin(origin, host, allowed):
    assert not origin_allowed(origin, host, allowed)


@pytest.mark.parametrize(
    ("host", "names", "matches"),
    [
        ("a.example", ["a.example"], True),
        ("A.Example:81", ["b", "a.example"], True),
        ("a.example:81", ["A.EXAMPLE:81"], True),
        ("[::1]:81", ["[::1]"], True),
        ("[::1]", ["[::1]"], True),
        ("a.example:82", ["a.example:81"], False),
        ("a.example", ["a.example:81"], False),
        ("a.example", ["example"], False),
        ("a.example", [], False),
        ("", ["a"], False),
    ],
)
def test_host_matches(host, names, matches):
    assert host_matches(host, names) is matches


def request(*fields: tuple[str, str]) -> Head:
    return Head("GET", "/", headers=list(fields))


def browser_request(host: str, *more: tuple[str, str]) -> Head:
    return request(("Host", host), ("Origin", f"http://{host}"), *more)


class TestLoopbackHost:
    """A page on a name that was rebound to 127.0.0.1 must not get in."""

    @pytest.mark.parametrize(
        "host",
        [
            "localhost",
            "LOCALHOST:8080",
            "localhost.",
            "app.localhost:8080",
            "127.0.0.1",
            "127.0.0.1:8080",
            "127.1.2.3",
            "[::1]",
            "[::1]:8080",
        ],
    )
    def test_accept_loopback(self, host):
        assert loopback_host_allowed(browser_request(host), [], [])

    @pytest.mark.parametrize(
        "host",
        [
            "evil.example",
            "evil.example:8080",
            "localhost.evil",
            "evillocalhost",
            "127.0.0.1.evil",
            "128.0.0.1",
            "127.evil",
            "[::2]",
            "localhost:80:80",
        ],
    )
    def test_reject_other(self, host):
        assert not loopback_host_allowed(browser_request(host), [], [])

    def test_reject_none(self):
        head = request(("Origin", "http://a"))
        assert not loopback_host_allowed(head, [], [])

    def test_accept_without_origin(self):
        assert loopback_host_allowed(request(("Host", "evil.example")), [], [])

    @pytest.mark.parametrize("name", ["X-Forwarded-For", "Forwarded", "Via"])
    def test_accept_forwarded(self, name):
        head = browser_request("evil.example", (name, "x"))
        assert loopback_host_allowed(head, [], [])

    @pytest.mark.parametrize(
        ("hosts", "origins", "allowed"),
        [
            (["a.example"], [], True),
            ([], ["https://a.example"], True),
            ([], ["a.example"], True),
            ([], ["*"], True),
            (["a.example:9"], ["https://b.example"], False),
        ],
    )
    def test_named(self, hosts, origins, allowed):
        head = browser_request("a.example:8080")
        assert loopback_host_allowed(head, hosts, origins) is allowed
