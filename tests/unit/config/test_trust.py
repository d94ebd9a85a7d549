"""Networks and field names as options hold them, and what the schema makes of them."""

from typing import Any

import pytest

from fastws import ConfigError, WsToTcp
from fastws.config.trust import parse_field_name, parse_network


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        (" 10.0.0.1 ", "10.0.0.1/32"),
        ("10.0.0.1/32", "10.0.0.1/32"),
        ("2001:DB8::/32", "2001:db8::/32"),
        ("::1", "::1/128"),
        ("10.0.0.0/255.0.0.0", "10.0.0.0/8"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("::ffff:10.0.0.1", "10.0.0.1/32"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::/95", "::/95"),
        ("::fffe:0:0/97", "::fffe:0:0/97"),
        ("unix", "unix"),
        ("UNIX", "unix"),
    ],
)
def test_network(text: str, network: str) -> None:
    assert parse_network(text) == network


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is not a network; write 10.0.0.0/8, an address or unix"),
        ("localhost", "is not a network"),
        ("10.0.0.0/33", "is not a network"),
        ("10.0.0", "is not a network"),
        ("10.0.0.1/8", "cuts its address; write 10.0.0.0/8"),
        ("2001:db8::1/64", "cuts its address; write 2001:db8::/64"),
    ],
)
def test_reject_network(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_network(text)


def test_field_name() -> None:
    assert parse_field_name(" X-Real-IP: ") == "X-Real-IP"
    for text in ("", "X Y", "X:Y", "ü"):
        with pytest.raises(ValueError, match="is not a header name; write X-Real-IP"):
            parse_field_name(text)


def spec(**options: Any) -> WsToTcp:
    return WsToTcp(listen="0", target="127.0.0.1:9", **options)


def test_what_is_accepted() -> None:
    given = spec(
        auth_token=["secret"],
        trust=["10.0.0.1", "unix"],
        client_ip_header="X-Real-IP",
        max_per_ip=3,
        proxy_protocol="require",
        send_proxy_protocol="v2",
        cert="c.pem",
        plain_too=True,
    )
    assert given.trust == ("10.0.0.1/32", "unix")
    assert "secret" not in repr(given)


@pytest.mark.parametrize(
    ("options", "path", "reason"),
    [
        ({"auth_token": "one"}, "auth_token", "a sequence of texts"),
        ({"auth_token": ["a b"]}, "auth_token", "one word"),
        ({"trust": ["x"]}, "trust", "is not a network"),
        ({"client_ip_header": "X"}, "client_ip_header", "needs --trust"),
        ({"client_ip_header": "X Y", "trust": ["::1"]}, "client_ip_header", "write X-"),
        ({"max_per_ip": -1}, "max_per_ip", "whole number"),
        ({"max_per_ip": True}, "max_per_ip", "whole number"),
        ({"proxy_protocol": "on"}, "proxy_protocol", "off, accept or require"),
        ({"send_proxy_protocol": "v3"}, "send_proxy_protocol", "v1 or v2"),
        ({"plain_too": True}, "plain_too", "needs --cert"),
        (
            {"send_proxy_protocol": "v1", "route": ["/a=udp:127.0.0.1:9"]},
            "send_proxy_protocol",
            "needs a stream",
        ),
    ],
)
def test_reject(options: dict[str, Any], path: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        spec(**options)
    assert caught.value.path == path
