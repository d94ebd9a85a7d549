"""The spec of the far end of pooled WebSockets."""

from typing import Any

import msgspec
import pytest

from fastws import ConfigError, ProxyServer
from fastws.config.proxy_server import NO_TOKEN
from fastws.config.rules import Rule


def spec(**given: Any) -> ProxyServer:
    return ProxyServer(**{"listen": "0", "auth_token": ("secret",)} | given)


def test_texts_are_parsed() -> None:
    made = spec(listen=":8443", allow=("*.example:443",), deny=("private",))
    assert made.listen.port == 8443
    assert made.allow == (Rule.parse("*.example:443"),)
    assert made.deny == (Rule.parse("private"),)
    assert (made.max_data, made.pool_idle, made.auth_attempts) == (2048, 600.0, 20)
    assert "secret" not in repr(made)


def test_a_secret_can_be_replaced() -> None:
    made = msgspec.structs.replace(spec(), auth_token=("other",))
    assert made.auth_token == ("other",)


@pytest.mark.parametrize("listen", ["0", ":0", "unix:/run/fastws.sock", "fd:3"])
def test_nobody_is_let_in_by_oversight(listen: str) -> None:
    """On loopback neither: what stands in front may not ask for anything."""
    with pytest.raises(ConfigError) as caught:
        ProxyServer(listen=listen)
    assert (caught.value.path, caught.value.reason) == ("listen", NO_TOKEN)
    assert ProxyServer(listen=listen, no_auth=True).auth_token == ()


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({"no_auth": True}, "auth_token"),
        ({"auth_token": ("two words",)}, "auth_token"),
        ({"auth_token": ("",)}, "auth_token"),
        ({"listen": "-"}, "listen"),
        ({"listen": "inetd:"}, "listen"),
        ({"listen": "udp:53"}, "listen"),
        ({"path": "no-slash"}, "path"),
        ({"allow": ("a b",)}, "allow"),
        ({"deny": "private"}, "deny"),
        ({"source": "localhost"}, "source"),
        ({"bind_device": "a/b"}, "bind_device"),
        ({"key": "key.pem"}, "key"),
        ({"client_ca": "ca.pem"}, "client_ca"),
        ({"plain_too": True}, "plain_too"),
        ({"trust": ("nobody",)}, "trust"),
        ({"client_ip_header": "X-Real-IP"}, "client_ip_header"),
        ({"proxy_protocol": "v2"}, "proxy_protocol"),
        ({"max_per_ip": -1}, "max_per_ip"),
        ({"auth_attempts": True}, "auth_attempts"),
        ({"max_data": 0}, "max_data"),
        ({"max_data": 65537}, "max_data"),
        ({"pool_idle": -1}, "pool_idle"),
        ({"linger": 0}, "linger"),
        ({"headers": (("Upgrade", "x"),)}, "headers"),
    ],
)
def test_wrong_values_are_named(given: dict[str, Any], path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        spec(**given)
    assert caught.value.path == path


@pytest.mark.parametrize("value", [1, 2048, 65536])
def test_limits_of_max_data(value: int) -> None:
    assert spec(max_data=value).max_data == value
