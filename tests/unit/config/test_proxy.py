"""The proxy's URL, and the variables that name one."""

import pytest

from fastws import TcpToWs
from fastws.config.endpoint import WsUrl
from fastws.config.proxy import ProxyUrl, is_excepted, proxy_from_environment
from fastws.exceptions import ConfigError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://h:3128", ("http", "h", 3128, "", "")),
        ("HTTP://h:3128/", ("http", "h", 3128, "", "")),
        ("h:3128", ("http", "h", 3128, "", "")),
        ("http://h", ("http", "h", 80, "", "")),
        ("https://h", ("https", "h", 443, "", "")),
        ("socks5://h", ("socks5", "h", 1080, "", "")),
        ("socks5h://[::1]:9", ("socks5h", "::1", 9, "", "")),
        ("http://[::1]", ("http", "::1", 80, "", "")),
        ("http://u@h:1", ("http", "u", "")),
        ("http://u:p@h:1", ("http", "u", "p")),
        ("u:p@h:1", ("http", "u", "p")),
        ("http://u:p%3A%40%2F@h:1", ("http", "u", "p:@/")),
        ("http://u:p@q/r@h:1", ("http", "u", "p@q/r")),
        ("http://u:%FC@h:1", None),
        ("http://u:%C3%BC@h:1", ("http", "u", "ü")),
        ("", ("none", "", 0, "", "")),
        (" None ", ("none", "", 0, "", "")),
    ],
)
def test_url(text: str, expected: tuple[object, ...] | None) -> None:
    if expected is None:  # no UTF-8: decoded with replacement, which is no Latin-1
        with pytest.raises(ValueError, match="must be Latin-1"):
            ProxyUrl.parse(text)
        return
    got = ProxyUrl.parse(text)
    if len(expected) == 5:
        every = (got.scheme, got.host, got.port, got.user, got.password)
        assert every == expected
    else:
        assert (got.scheme, got.user, got.password) == expected
        assert got.address == ("h", 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ftp://h:1", "ftp:// is no kind of proxy known here; write http://"),
        ("socks4://h:1", "socks4:// is no kind of proxy"),
        ("http://", "no valid HOST:PORT"),
        ("http://h:x", "no valid HOST:PORT"),
        ("http://h:65536", "no valid HOST:PORT"),
        ("http://h:1/path", "no valid HOST:PORT"),
        ("http://::1:80", "no valid HOST:PORT"),
        ("http://user:hunter2", "no valid HOST:PORT"),
        ("http://:hunter2@h:1", "a password without a user"),
        ("http://u:hunter2%0a@h:1", "holds a control character"),
        ("http://u%3Av:hunter2@h:1", "cannot hold a colon"),
        ("http://u:hunter2€@h:1", "must be Latin-1"),
        ("socks5://u:hunter2ü@h:1", "must be ASCII"),
        ("socks5://u@h:1", "1 to 255 characters"),
        ("socks5://u:" + "hunter2" * 37 + "@h:1", "1 to 255 characters"),
        ("hunter2 :// x", "this is no kind of proxy"),
    ],
)
def test_bad_url(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        ProxyUrl.parse(text)
    assert "hunter2" not in str(caught.value)


def test_longest_password_of_socks() -> None:
    assert len(ProxyUrl.parse(f"socks5://u:{'p' * 255}@h").password) == 255


def test_password_is_never_shown() -> None:
    proxy = ProxyUrl.parse("http://bob:hunter2@[::1]:3128")
    assert str(proxy) == "http://[::1]:3128"
    assert repr(proxy) == "ProxyUrl('http://[::1]:3128')"
    spec = TcpToWs(listen="0", upstream="ws://h/", proxy=proxy, bearer="hunter2 ")
    assert "hunter2" not in repr(spec)
    assert spec.authorization == "Bearer hunter2"


def test_contradictions() -> None:
    def broken(**options: object) -> str:
        with pytest.raises(ConfigError) as caught:
            TcpToWs(listen="7080", upstream="ws://h/", **options)  # type: ignore[arg-type]
        return str(caught.value)

    header = (("Authorization", "x"),)
    assert broken(basic="a:b", headers=header).startswith("basic: contradicts")
    assert broken(bearer="b", headers=header).startswith("bearer: contradicts")
    assert broken(bearer="b", basic="a:b").startswith("basic: contradicts --bearer")
    assert broken(basic="a:\x01").endswith("holds a control character")
    assert broken(retry=101).startswith("retry: must be")
    assert broken(retry=True).startswith("retry: must be")
    assert broken(proxy="localhost:7080").startswith("listen: is the address")


def test_a_proxy_may_reach_what_we_listen_on() -> None:
    """127.0.0.1 is another machine there."""
    TcpToWs(listen="7080", upstream="ws://127.0.0.1:7080/", proxy="h:1")
    with pytest.raises(ConfigError, match="endless loop"):
        TcpToWs(listen="7080", upstream="ws://127.0.0.1:7080/", proxy="none")


@pytest.mark.parametrize(
    ("url", "environment", "expected"),
    [
        ("ws://e.example/", {}, None),
        ("ws://e.example/", {"HTTP_PROXY": "h:1"}, "h"),
        ("ws://e.example/", {"http_proxy": "h:1"}, "h"),
        ("ws://e.example/", {"http_proxy": "h:1", "HTTP_PROXY": "g:1"}, "h"),
        ("ws://e.example/", {"http_proxy": "", "HTTP_PROXY": "g:1"}, "g"),
        ("ws://e.example/", {"http_proxy": "none", "HTTP_PROXY": "g:1"}, None),
        ("ws://e.example/", {"HTTPS_PROXY": "h:1", "https_proxy": "h:1"}, None),
        ("wss://e.example/", {"HTTPS_PROXY": "h:1"}, "h"),
        ("wss://e.example/", {"https_proxy": "socks5h://h:1"}, "h"),
        ("wss://e.example/", {"HTTP_PROXY": "h:1", "http_proxy": "h:1"}, None),
        ("ws://e.example/", {"HTTP_PROXY": "h:1", "NO_PROXY": "*"}, None),
        ("ws://e.example/", {"HTTP_PROXY": "h:1", "no_proxy": "e.example"}, None),
        ("ws://127.0.0.2/", {"HTTP_PROXY": "h:1"}, None),
        ("ws://[::1]/", {"HTTP_PROXY": "h:1"}, None),
        ("wss://localhost/", {"HTTPS_PROXY": "h:1"}, None),
        ("wss://127.0.0.1/", {"HTTPS_PROXY": "nonsense://"}, None),
    ],
)
def test_variables(url: str, environment: dict[str, str], expected: str | None) -> None:
    server = WsUrl.parse(url)
    proxy = proxy_from_environment(environment, server, server.host)
    assert (proxy and proxy.host) == expected


def test_either_name_is_excepted() -> None:
    """The URL's, and the address that --connect-to gives."""
    server = WsUrl.parse("ws://e.example/")
    variables = {"HTTP_PROXY": "h:1", "NO_PROXY": "10.0.0.0/8,other.example"}
    assert proxy_from_environment(variables, server, "10.1.2.3") is None
    assert proxy_from_environment(variables, server, "11.1.2.3") is not None
    assert proxy_from_environment(variables, server, "127.0.0.1") is None
    server = WsUrl.parse("ws://other.example/")
    assert proxy_from_environment(variables, server, "11.1.2.3") is None


def test_bad_variable_is_named() -> None:
    server = WsUrl.parse("wss://e.example/")
    with pytest.raises(ConfigError) as caught:
        proxy_from_environment({"HTTPS_PROXY": "ftp://h"}, server, "e.example")
    assert caught.value.path == "HTTPS_PROXY"


@pytest.mark.parametrize(
    ("exceptions", "host", "expected"),
    [
        ("", "a.b", False),
        ("*", "a.b", True),
        ("a.b", "a.b", True),
        ("A.B.", "a.b", True),
        ("a.b", "A.B.", True),
        ("a.b", "x.a.b", True),
        (".a.b", "x.a.b", True),
        (".a.b", "a.b", True),
        ("*.a.b", "x.a.b", True),
        ("a.b", "xa.b", False),
        ("b", "a.b", True),
        ("x, a.b", "a.b", True),
        ("x a.b", "a.b", True),
        (",, ,", "a.b", False),
        ("a.b:443", "a.b", True),
        ("a.b:80", "a.b", False),
        ("10.0.0.1", "10.0.0.1", True),
        ("0.0.1", "10.0.0.1", False),
        ("10.0.0.1:443", "10.0.0.1", True),
        ("10.0.0.1:80", "10.0.0.1", False),
        ("10.0.0.0/8", "10.200.0.1", True),
        ("10.0.0.0/8", "11.0.0.1", False),
        ("10.0.0.0/33", "10.0.0.1", False),
        ("10.0.0.0/8", "ten.example", False),
        ("2001:db8::/32", "2001:db8::1", True),
        ("2001:db8::1", "2001:db8:0::1", True),
        ("[2001:db8::1]", "2001:db8::1", True),
        ("[2001:db8::1]:443", "2001:db8::1", True),
        ("[2001:db8::1]:80", "2001:db8::1", False),
        ("2001:db8::", "2001:db8::1", False),
    ],
)
def test_exceptions(exceptions: str, host: str, expected: bool) -> None:
    assert is_excepted(exceptions, host, 443) is expected
