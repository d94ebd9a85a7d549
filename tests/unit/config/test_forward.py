"""The spec of the forward proxy."""

from typing import Any

import pytest

from fastws import ConfigError, ForwardProxy
from fastws.config.forward import Forward, parse_protocols, parse_user
from fastws.config.proxy import ProxyUrl
from fastws.config.rules import Rule


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("http", ("http",)),
        ("socks5,http", ("http", "socks5")),
        (" HTTPS | socks5 ", ("https", "socks5")),
        ("1", ("http",)),
        ("2", ("https",)),
        ("4", ("socks5",)),
        ("7", ("http", "https", "socks5")),
    ],
)
def test_protocols_are_words_or_a_sum(text: str, names: tuple[str, ...]) -> None:
    assert parse_protocols(text) == names


@pytest.mark.parametrize("text", ["", "0", "8", "16", "http;https", "ftp", "9999999"])
def test_other_protocols_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"write http|the sum of"):
        parse_protocols(text)


@pytest.mark.parametrize("text", ["", "alice", ":pw", "a\n:pw", "a:" + "x" * 256])
def test_user_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(ValueError, match=r"write|carries|control|USER:PASSWORD") as e:
        parse_user(text)
    assert "x" * 256 not in str(e.value)


def test_forward_is_read() -> None:
    forward = Forward.parse("2222=host.corp:22")
    assert (forward.listen.port, forward.target.address) == (2222, ("host.corp", 22))
    for text in ("2222", "=h:1", "2222=", "2222=h", "x=h:1"):
        with pytest.raises(ValueError, match=r"."):
            Forward.parse(text)


def test_texts_are_parsed() -> None:
    spec = ForwardProxy(
        listen="1080",
        allow=("*.example:443",),  # type: ignore[arg-type]
        via="socks5h://gate:1080",
        protocols="socks5",  # type: ignore[arg-type]
        user=("alice:pw",),
    )
    assert spec.allow == (Rule.parse("*.example:443"),)
    assert spec.via == ProxyUrl("socks5h", "gate", 1080)
    assert spec.protocols == ("socks5",)
    assert "pw" not in repr(spec)


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"listen": ":1080"}, "listen"),
        ({"listen": "0.0.0.0:1080"}, "listen"),
        ({"listen": "-"}, "listen"),
        ({"listen": "udp:53"}, "listen"),
        ({"no_auth": True, "user": ("a:b",)}, "user"),
        ({"no_auth": True, "users": "file"}, "users"),
        ({"user": ("alice",)}, "user"),
        ({"protocols": ()}, "protocols"),
        ({"protocols": ("ftp",)}, "protocols"),
        ({"allow": ("10.0.0.1/8",)}, "allow"),
        ({"deny": "10.0.0.0/8"}, "deny"),
        ({"via": "ftp://x"}, "via"),
        ({"via": "http://127.0.0.1:1080"}, "listen"),
        ({"proxy_ca": "ca.pem"}, "proxy_ca"),
        ({"via_name": "a b"}, "via_name"),
        ({"via_name": ""}, "via_name"),
        ({"key": "key.pem"}, "key"),
        ({"source": "eth0"}, "source"),
        ({"target": "127.0.0.1:1080"}, "listen"),
    ],
)
def test_wrong_value_is_named(options: dict[str, Any], path: str) -> None:
    with pytest.raises(ConfigError) as error:
        ForwardProxy(**{"listen": "1080"} | options)
    assert error.value.path == path


@pytest.mark.parametrize(
    "options",
    [
        {"listen": ":1080", "user": ("a:b",)},
        {"listen": ":1080", "users": "file"},
        {"listen": ":1080", "no_auth": True},
        {"listen": ":2222", "target": "host:22"},
        {"listen": "unix:/run/proxy"},
        {"listen": "fd:3"},
        {"listen": "1080", "via": "none"},
        {"listen": "1080", "via_name": "edge-1:1080"},
    ],
)
def test_these_may_start(options: dict[str, Any]) -> None:
    ForwardProxy(**options)
