"""Where a forward proxy goes, and the pool of WebSockets on the way."""

from typing import Any

import pytest

from fastws import ConfigError, ForwardProxy, WsUrl
from fastws.config.proxy import ProxyUrl
from fastws.config.via import dial_address, parse_via

POOL = "wss://pool.example/p?k=secret"


def proxy(via: Any = POOL, **options: Any) -> ForwardProxy:
    return ForwardProxy(listen="1080", via=via, **options)


def test_urls_of_both_kinds() -> None:
    spec = proxy()
    assert spec.pool_url == WsUrl.parse(POOL)
    assert (spec.has_pings, dial_address(spec)) == (True, ("pool.example", 443))
    assert proxy("http://gate:3128").via == ProxyUrl.parse("http://gate:3128")
    assert proxy("http://gate:3128").pool_url is None
    assert proxy(parse_via(" WS://h ")).pool_url == WsUrl.parse("WS://h")
    assert proxy("none").pool_url is None
    assert not proxy(via_protocol="rust-proxy").has_pings
    elsewhere = proxy(connect_to="127.0.0.1:444")
    assert dial_address(elsewhere) == ("127.0.0.1", 444)


@pytest.mark.parametrize(
    "text", ["wss://me:secret@h/", "wss://secret@h", "ws:x", "ftp://h", "ws://h/#f"]
)
def test_url_is_refused(text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        proxy(text)
    assert refused.value.path == "via"
    assert "secret" not in str(refused.value)
    with pytest.raises(ValueError, match=refused.value.reason[:10]):
        parse_via(text)


def test_secrets_do_not_show() -> None:
    spec = proxy(via_token="hush")
    assert spec.via_token == "hush"
    assert "hush" not in repr(spec)
    assert "secret" not in repr(spec)


@pytest.mark.parametrize(
    ("options", "path", "reason"),
    [
        ({"via_protocol": "wsp"}, "via_protocol", "must be fastws or rust-proxy"),
        ({"retry_mode": "x"}, "retry_mode", "must be replay or connect-only"),
        ({"via_token": "two words"}, "via_token", "one word"),
        ({"pool_keep": -1}, "pool_keep", "from 0"),
        ({"pool_size": 0}, "pool_size", "from 1"),
        ({"pool_opening": 0}, "pool_opening", "from 1"),
        ({"pool_warm": 11}, "pool_warm", "not be more than --pool-keep"),
        ({"pool_idle": -1.0}, "pool_idle", "0 or more"),
        ({"pool_age": -1.0}, "pool_age", "0 or more"),
        ({"pool_probe": True}, "pool_probe", "number of seconds"),
        ({"retry_delay": -1.0}, "retry_delay", "0 or more"),
        ({"retry": -1}, "retry", "from 0"),
        ({"retry_pooled": 1.5}, "retry_pooled", "from 0"),
        ({"retry_data": -1}, "retry_data", "from 0"),
        ({"max_data": 0}, "max_data", "from 1"),
        ({"max_data": 65537}, "max_data", "from 1 to 64KiB"),
        ({"sni": "1.2.3.4"}, "sni", "not a server name"),
        ({"host": "a b"}, "host", "not a Host"),
        ({"insecure": True, "ca": "x.pem"}, "insecure", "contradicts --ca"),
        ({"connect_to": "localhost:1080"}, "listen", "endless loop"),
        ({"proxy_ca": "x.pem"}, "proxy_ca", "https:// --via"),
    ],
)
def test_value_is_refused(options: dict[str, Any], path: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        proxy(**options)
    assert caught.value.path == path


@pytest.mark.parametrize("via", [None, "none", "http://gate:3128"])
@pytest.mark.parametrize(
    "options",
    [{"via_token": "t"}, {"pool_keep": 9}, {"retry": 5}, {"ca": "x"}, {"host": "h"}],
)
def test_options_of_the_pool_need_one(via: Any, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="ws:// or wss:// --via") as caught:
        proxy(via, **options)
    assert caught.value.path in options


@pytest.mark.parametrize("options", [{"sni": "h"}, {"ca": "x"}, {"insecure": True}])
def test_options_of_tls_need_it(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="wss:// --via") as caught:
        proxy("ws://h", **options)
    assert caught.value.path in options


def test_a_proxy_is_not_its_own_way_out() -> None:
    with pytest.raises(ConfigError, match="endless loop"):
        proxy("ws://localhost:1080/")
