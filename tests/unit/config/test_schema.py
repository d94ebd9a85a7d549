"""The specs of stw and wts: defaults, contradictions, masking."""

import inspect
import math
from typing import Any

import msgspec
import pytest

from fastws import ConfigError, ConnectTo, Listen, Target, TcpToWs, WsToTcp, WsUrl
from fastws.config.schema import ModeSpec


def stw(upstream: str = "ws://h/", **options: Any) -> TcpToWs:
    return TcpToWs(**{"listen": "7000", "upstream": upstream} | options)


def wts(target: str = "h:22", **options: Any) -> WsToTcp:
    return WsToTcp(**{"listen": "8080", "target": target} | options)


def refusal(build: Any, *arguments: Any, **options: Any) -> tuple[str, str]:
    with pytest.raises(ConfigError) as caught:
        build(*arguments, **options)
    return caught.value.path, caught.value.reason


def test_text_is_parsed() -> None:
    spec = stw("wss://h/x", connect_to="[::1]:443")
    assert spec.listen == Listen.parse("7000")
    assert spec.upstream == WsUrl.parse("wss://h/x")
    assert spec.connect_to == ConnectTo("::1", 443)
    assert wts().target == Target.parse("h:22")


def test_parsed_values_are_taken_as_they_are() -> None:
    listen, target = Listen.parse("unix:/x"), Target.parse("h:22")
    spec = WsToTcp(listen=listen, target=target)
    assert spec.listen is listen
    assert spec.target is target


def test_defaults_are_those_of_the_design() -> None:
    for spec in (stw(), wts()):
        assert (spec.ping, spec.ping_deadline) == (20.0, 20.0)
        assert (spec.connect_timeout, spec.handshake_timeout) == (5.0, 10.0)
        assert (spec.linger, spec.half_close_timeout) == (5.0, 600.0)
        assert (spec.idle_timeout, spec.tcp_user_timeout) == (0.0, 0.0)
        assert (spec.drain_delay, spec.drain_timeout) == (0.0, 30.0)
        assert (spec.max_message, spec.max_connections) == (32768, None)
        assert (spec.headers, spec.subprotocol, spec.fastws) == ((), (), True)
    assert stw().on_eof == "hold"
    assert (wts().path, wts().allow_host, wts().allow_origin) == (None, (), ())


def test_spec_is_frozen_hashable_and_comparable() -> None:
    spec = stw()
    with pytest.raises(AttributeError):
        spec.ping = 1.0  # type: ignore[misc]
    assert hash(spec) == hash(stw())
    assert spec == stw()
    assert spec != stw(ping=1)


def test_unknown_option_is_an_error() -> None:
    with pytest.raises(TypeError, match="pong"):
        stw(pong=1)


def test_missing_end_is_an_error() -> None:
    with pytest.raises(TypeError, match="upstream"):
        TcpToWs(listen="7000")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("listen", "x", "write PORT (loopback)"),
        ("listen", 7000, "must be text or Listen"),
        ("target", "22", "write 127.0.0.1:22"),
        ("target", 22, "must be text or Target"),
    ],
)
def test_reject_bad_end(name: str, value: Any, hint: str) -> None:
    options = {"listen": "8080", "target": "h:22", name: value}
    path, reason = refusal(WsToTcp, **options)
    assert path == name
    assert hint in reason


@pytest.mark.parametrize(
    "name",
    [
        "ping_deadline",
        "linger",
        "half_close_timeout",
        "connect_timeout",
        "handshake_timeout",
    ],
)
def test_time_that_must_be_positive(name: str) -> None:
    tiny: dict[str, Any] = {name: 0.001}
    assert refusal(wts, **{name: 0}) == (name, "must be more than 0")
    assert getattr(wts(**tiny), name) == 0.001


@pytest.mark.parametrize(
    "name",
    ["ping", "idle_timeout", "tcp_user_timeout", "drain_delay", "drain_timeout"],
)
def test_time_that_may_be_zero(name: str) -> None:
    off: dict[str, Any] = {name: 0}
    assert getattr(stw(**off), name) == 0
    assert refusal(stw, **{name: -0.001}) == (name, "must be 0 or more")


@pytest.mark.parametrize("value", ["20s", None, True])
def test_reject_what_is_no_number(value: Any) -> None:
    assert refusal(stw, ping=value) == ("ping", "must be a number of seconds")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_reject_what_is_no_time(value: float) -> None:
    assert refusal(stw, ping=value) == ("ping", "must be 0 or more")


def test_tcp_user_timeout_fits_the_kernel() -> None:
    assert stw(tcp_user_timeout=24 * 86400).tcp_user_timeout == 2073600
    path, _ = refusal(stw, tcp_user_timeout=25 * 86400)
    assert path == "tcp_user_timeout"


@pytest.mark.parametrize("value", [1024, 16 * 1024 * 1024])
def test_accept_max_message_at_the_limits(value: int) -> None:
    assert stw(max_message=value).max_message == value


@pytest.mark.parametrize("value", [1023, 16 * 1024 * 1024 + 1, 2048.0, "32KiB", True])
def test_reject_max_message(value: Any) -> None:
    expected = ("max_message", "must be from 1KiB to 16MiB")
    assert refusal(stw, max_message=value) == expected


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "5"])
def test_reject_max_connections(value: Any) -> None:
    assert refusal(stw, max_connections=value)[0] == "max_connections"
    assert stw(max_connections=1).max_connections == 1


@pytest.mark.parametrize(
    "options",
    [{"sni": "a"}, {"ca": "f"}, {"cert": "f"}, {"key": "f"}, {"insecure": True}],
    ids=lambda options: next(iter(options)),
)
def test_stw_tls_option_needs_wss(options: dict[str, Any]) -> None:
    name = next(iter(options))
    assert refusal(stw, **options) == (name, "only means something with a wss:// URL")
    stw("wss://h/", **{"cert": "f", **options})


def test_authorities_of_a_proxy_need_one_with_tls() -> None:
    reason = "only means something with an https proxy"
    for proxy in ("http://h:1", "socks5://h:1", "none"):
        assert refusal(stw, proxy=proxy, proxy_ca="f") == ("proxy_ca", reason)
    assert stw(proxy="https://h:1", proxy_ca="f").proxy_ca == "f"
    assert stw(proxy_ca="f").proxy_ca == "f"  # a variable may name the proxy


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"sni": "a"}, "sni"),
        ({"ca": "f"}, "ca"),
        ({"insecure": True}, "insecure"),
        ({"target_cert": "f"}, "target_cert"),
        ({"target_cert": "f", "target_key": "f"}, "target_cert"),
    ],
)
def test_wts_tls_option_needs_a_tls_target(options: dict[str, Any], path: str) -> None:
    reason = "only means something with a tls:// target"
    assert refusal(wts, **options) == (path, reason)
    wts("tls://h:22", **options)


@pytest.mark.parametrize(
    ("key", "cert"), [("key", "cert"), ("target_key", "target_cert")]
)
def test_key_needs_its_certificate(key: str, cert: str) -> None:
    path, reason = refusal(wts, "tls://h:22", **{key: "f"})
    assert path == key
    assert reason.startswith(f"needs --{cert.replace('_', '-')}: ")
    wts("tls://h:22", **{cert: "f"})  # the key may stand in the same file
    wts("tls://h:22", **{cert: "f", key: "g"})


def test_client_ca_needs_a_certificate() -> None:
    path, reason = refusal(wts, client_ca="f")
    assert (path, reason[:13]) == ("client_ca", "needs --cert:")
    assert wts(client_ca="f", cert="g").client_ca == "f"


def test_insecure_contradicts_ca() -> None:
    assert refusal(stw, "wss://h/", insecure=True, ca="f")[0] == "insecure"
    assert refusal(wts, "tls://h:1", insecure=True, ca="f")[0] == "insecure"


@pytest.mark.parametrize(
    ("listen", "target"),
    [
        ("8080", "127.0.0.1:8080"),
        ("8080", "localhost:8080"),
        ("8080", "[::1]:8080"),
        (":8080", "127.0.0.1:8080"),
        (":8080", "localhost:8080"),
        ("h:8080", "H:8080"),
        ("unix:/x", "unix:/x"),
    ],
)
def test_reject_endless_loop(listen: str, target: str) -> None:
    path, reason = refusal(WsToTcp, listen=listen, target=target)
    assert (path, "endless loop" in reason) == ("listen", True)


@pytest.mark.parametrize(
    ("listen", "target"),
    [
        ("8080", "127.0.0.1:8081"),
        ("8080", "127.0.0.2:8080"),
        ("8080", "h:8080"),
        ("192.0.2.1:8080", "localhost:8080"),
        ("[::]:8080", "127.0.0.1:8080"),
        (":8080", "h:8080"),
        ("unix:/x", "unix:/y"),
        ("fd:3", "127.0.0.1:8080"),
    ],
)
def test_same_port_elsewhere_is_no_loop(listen: str, target: str) -> None:
    assert WsToTcp(listen=listen, target=target).listen == Listen.parse(listen)


def test_stw_loop_counts_the_address_it_dials() -> None:
    url = "ws://127.0.0.1:7000/"
    assert refusal(stw, url)[0] == "listen"
    assert stw(url, connect_to="127.0.0.1:7001").dial_address == ("127.0.0.1", 7001)
    assert refusal(stw, "ws://h/", connect_to="127.0.0.1:7000")[0] == "listen"


def test_headers_become_pairs_and_secrets_are_masked() -> None:
    spec = stw(headers=[["Authorization", "Basic hunter2"], ("A", "b")])
    assert spec.headers == (("Authorization", "Basic hunter2"), ("A", "b"))
    assert "hunter2" not in repr(spec)


@pytest.mark.parametrize(
    "header", [("Upgrade", "x"), ("Host", "x"), ("A", "b\r\nC: d"), ("A b", "c")]
)
def test_reject_header(header: tuple[str, str]) -> None:
    assert refusal(stw, headers=[header])[0] == "headers"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("host", "a b"),
        ("host", 5),
        ("origin", "a"),
        ("connect_to", "h"),
        ("on_eof", "wait"),
        ("subprotocol", "binary"),
        ("subprotocol", ["a b"]),
        ("subprotocol", ["a", "a"]),
        ("subprotocol", ["base64"]),
    ],
)
def test_stw_rejects(name: str, value: Any) -> None:
    assert refusal(stw, **{name: value})[0] == name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("path", "ssh"),
        ("allow_host", ["a/b"]),
        ("allow_origin", ["*"]),
        ("allow_origin", "https://a"),
        ("subprotocol", ["base64"]),
    ],
)
def test_wts_rejects(name: str, value: Any) -> None:
    assert refusal(wts, **{name: value})[0] == name


def test_lists_become_tuples() -> None:
    spec = wts(allow_host=["a", "b"], allow_origin=["null"], subprotocol=["x", "y"])
    assert spec.allow_host == ("a", "b")
    assert spec.allow_origin == ("null",)
    assert spec.subprotocol == ("x", "y")


def test_server_name() -> None:
    assert stw().server_name is None
    assert stw("wss://h/").server_name == "h"
    assert stw("wss://h/", sni="other").server_name == "other"
    assert wts().server_name is None
    assert wts("tls://h:1").server_name == "h"
    assert wts("tls://h:1", sni="other").server_name == "other"


def test_every_attribute_is_documented() -> None:
    for schema in (TcpToWs, WsToTcp):
        docs = (schema.__doc__ or "", ModeSpec.__doc__ or "")
        text = "".join(map(inspect.cleandoc, docs))
        for field in msgspec.structs.fields(schema):
            assert f"    {field.name}: " in text, field.name


# Standard input, inetd, datagrams


@pytest.mark.parametrize(
    ("build", "options", "path", "reason"),
    [
        (stw, {"listen": "1", "text": True}, "text", "needs - as LISTEN"),
        (stw, {"listen": "udp:1", "text": True}, "text", "needs - as LISTEN"),
        (stw, {"listen": "udp:1", "oneshot": True}, "oneshot", "has no end"),
        (stw, {"listen": "udp:1", "idle_timeout": 9.0}, "idle_timeout", "--udp-idle"),
        (stw, {"udp_idle": 0.0}, "udp_idle", "must be more than 0"),
        (wts, {"listen": "-"}, "listen", "wts takes a socket as inetd:"),
        (wts, {"listen": "udp:1"}, "listen", "udp: is for TARGET"),
    ],
)
def test_reject_what_such_addresses_cannot_do(
    build: Any, options: dict[str, Any], path: str, reason: str
) -> None:
    found = refusal(build, **options)
    assert found[0] == path
    assert reason in found[1]


def test_accept_what_such_addresses_can_do() -> None:
    assert stw(listen="-", text=True, oneshot=True).text
    assert stw(listen="inetd:").listen.kind == "inetd"
    assert wts(listen="inetd:").listen.kind == "inetd"
    assert stw(listen="udp:1", udp_idle=0.5).udp_idle == 0.5
    same = wts(listen="8080", target="udp:127.0.0.1:8080", oneshot=True)
    assert same.target.udp  # a datagram never comes back as a WebSocket
