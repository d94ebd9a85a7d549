"""Routes, token files and further pairs as users write them."""

import pytest

from fastws.config.endpoint import Target
from fastws.config.pairs import Pair, expand
from fastws.config.routes import BrokenLine, Route, find_clash, parse_tokens
from fastws.config.schema import TcpToWs, WsToTcp
from fastws.exceptions import ConfigError


@pytest.mark.parametrize(
    ("text", "host", "path", "is_prefix", "target"),
    [
        ("/ssh=10.0.0.1:22", "", "/ssh", False, "10.0.0.1:22"),
        ("/vnc/*=h:5900", "", "/vnc/", True, "h:5900"),
        ("/*=unix:/run/x", "", "/", True, "unix:/run/x"),
        ("A.example/=tls://h:1", "a.example", "/", False, "tls://h:1"),
        ("a.example:8443/x/*=h:1", "a.example:8443", "/x/", True, "h:1"),
        (" [::1]/x=[::2]:1 ", "[::1]", "/x", False, "[::2]:1"),
        ("/a=unix:/run/a=b", "", "/a", False, "unix:/run/a=b"),
    ],
)
def test_accept_route(
    text: str, host: str, path: str, is_prefix: bool, target: str
) -> None:
    route = Route.parse(text)
    assert (route.host, route.path, route.is_prefix) == (host, path, is_prefix)
    assert route.target == Target.parse(target)
    assert str(route) == text.strip()
    assert Route.parse(str(route)) == route


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("/ssh", "is not a route; write /PATH=TARGET"),
        ("host=h:1", "is not a route"),
        ("/a*=h:1", "a * stands at the end, after /"),
        ("/a/*/b=h:1", "a * stands at the end"),
        ("*.example/a=h:1", "a * stands at the end"),
        ("/a?x=h:1", "is not a path"),
        ("/a b=h:1", "is not a path"),
        ("h!/a=h:1", "is not a Host"),
        ("/a=22", "has no host; write 127.0.0.1:22"),
        ("/a=", "has no port"),
    ],
)
def test_reject_route(text: str, hint: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        Route.parse(text)
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    ("texts", "clash"),
    [
        (("/a=h:1", "/a=h:2"), "/a"),
        (("/a/*=h:1", "/a/*=h:1"), "/a/*"),
        (("H.x/a=h:1", "h.X/a=h:2"), "h.x/a"),
        (("/a=h:1", "/a/*=h:2", "/a/=h:3", "h.x/a=h:4"), None),
    ],
)
def test_clash(texts: tuple[str, ...], clash: str | None) -> None:
    assert find_clash([Route.parse(text) for text in texts]) == clash


# Token files


def test_token_file() -> None:
    text = (
        "\ufeff# a comment\n\na: 10.0.0.1:5900\n  b:\t[::1]:5901  \n"
        "c: unix_socket:/run/vnc.sock\nd: unix:/run/d\ne: tls://h:443\n"
        "f: ::1:5902\n1b2-_.: h:1\r\n"
    )
    assert [(token, str(target)) for token, target in parse_tokens(text)] == [  # type: ignore[misc]
        ("a", "10.0.0.1:5900"),
        ("b", "[::1]:5901"),
        ("c", "unix:/run/vnc.sock"),
        ("d", "unix:/run/d"),
        ("e", "tls://h:443"),
        ("f", "[::1]:5902"),
        ("1b2-_.", "h:1"),
    ]


def test_target_that_was_read_before_is_not_read_again() -> None:
    text = "token: 10.0.0.9:5900"
    (_, first), (_, again) = *parse_tokens(text), *parse_tokens(text + "\n")
    assert first is again


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("secret", "write 'token: host:port'"),
        ("secret:h:1", "write 'token: host:port'"),
        ("secret: h:1: x", "write 'token: host:port'"),
        (": h:1", "write 'token: host:port'"),
        ("secret: h", "'h' has no port; write HOST:PORT"),
        ("secret: h:99999", "'99999' is not a port; write 1 to 65535"),
        ("secret: unix_socket:", "is not a socket path"),
    ],
)
def test_broken_line_is_numbered_and_hides_its_token(line: str, reason: str) -> None:
    items = list(parse_tokens(f"a: h:1\n{line}\nb: h:2\n"))
    broken = items[1]
    assert isinstance(broken, BrokenLine)
    assert broken.number == 2
    assert reason in broken.reason
    assert "secret" not in broken.reason
    assert [item[0] for item in (items[0], items[2])] == ["a", "b"]  # type: ignore[index]


# Several targets in the schema


def wts(**options: object) -> WsToTcp:
    return WsToTcp(listen="127.0.0.1:0", **options)  # type: ignore[arg-type]


def refusal(**options: object) -> tuple[str, str]:
    with pytest.raises(ConfigError) as caught:
        wts(**options)
    return caught.value.path, caught.value.reason


def test_targets_of_a_spec() -> None:
    spec = wts(target="a:1", more_targets=("b:2",), route=("/c=tls://c:3",))
    assert [str(target) for target in spec.targets] == ["a:1", "b:2"]
    assert [str(target) for target in spec.all_targets] == ["a:1", "b:2", "tls://c:3"]
    assert spec.server_name is None
    assert spec.server_name_of(spec.route[0].target) == "c"


@pytest.mark.parametrize("options", [{"route": ("/a=h:1",)}, {"token_file": "f"}])
def test_target_may_be_left_out(options: dict[str, object]) -> None:
    assert wts(**options).targets == ()


@pytest.mark.parametrize(
    ("options", "path", "reason"),
    [
        ({}, "target", "is missing"),
        ({"more_targets": ("h:1",), "token_file": "f"}, "more_targets", "needs target"),
        ({"route": "/a=h:1"}, "route", "must be a sequence, not one text"),
        ({"route": (22,)}, "route", "must hold text or Route"),
        ({"route": ("/a",)}, "route", "is not a route"),
        ({"route": ("/a=h:1", "/a=h:2")}, "route", "/a is named twice"),
        (
            {"target": "h:1", "path": "/a", "route": ("/a=h:2",)},
            "route",
            "/a is the path of TARGET already",
        ),
        ({"route": ("/a=h:1",), "sni": "x"}, "sni", "tls:// target"),
        ({"route": ("/a=h:1",), "path": "/b"}, "path", "says its own path"),
        (
            {"target": "h:1", "more_targets": ("udp:h:1",)},
            "more_targets",
            "udp: and other targets",
        ),
    ],
)
def test_reject_targets(options: dict[str, object], path: str, reason: str) -> None:
    where, why = refusal(**options)
    assert where == path
    assert reason in why


def test_path_of_a_route_without_target_is_no_clash() -> None:
    assert wts(path="/a", route=("/a=h:2",), token_file="f").path == "/a"


def test_no_target_may_be_the_listener_itself() -> None:
    for more in ({"more_targets": ("127.0.0.1:7",)}, {"route": ("/=127.0.0.1:7",)}):
        with pytest.raises(ConfigError, match="endless loop"):
            WsToTcp(listen="127.0.0.1:7", target="h:1", **more)  # type: ignore[arg-type]


# Further pairs


def test_pairs_share_every_other_option() -> None:
    first = wts(target="a:1", more_targets=("b:2",), ping=7.0, path="/p")
    pairs = [Pair.parse("127.0.0.1:8081=c:3"), Pair.parse("unix:/tmp/x = tls://d:4")]
    assert expand(first, pairs) == [
        first,
        WsToTcp(listen="127.0.0.1:8081", target="c:3", ping=7.0, path="/p"),
        WsToTcp(listen="unix:/tmp/x", target="tls://d:4", ping=7.0, path="/p"),
    ]


def test_pair_of_stw_ends_in_a_url() -> None:
    first = TcpToWs(listen="127.0.0.1:8080", upstream="ws://a/", linger=2.0)
    (_, second) = expand(first, [Pair.parse("8081=wss://b/x?y=z")])
    assert second == TcpToWs(listen="8081", upstream="wss://b/x?y=z", linger=2.0)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("8081", "a pair has two sides; write LISTEN=URL or LISTEN=TARGET"),
        ("8081=", "a pair has two sides"),
        ("x=h:1", "is not an address"),
        ("8081=wss://u:p@h/", "do not belong in the URL"),
        ("8081=22", "has no host"),
    ],
)
def test_reject_pair(text: str, hint: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        Pair.parse(text)
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("127.0.0.1:8080=h:2", "127.0.0.1:8080 is listened on twice"),
        ("8081=wss://h/", "8081: wss:// does not belong here"),
        ("127.0.0.1:8081=127.0.0.1:8081", "127.0.0.1:8081: is the address"),
    ],
)
def test_reject_pair_that_does_not_fit(text: str, reason: str) -> None:
    first = WsToTcp(listen="127.0.0.1:8080", target="h:1")
    with pytest.raises(ConfigError) as caught:
        expand(first, [Pair.parse(text)])
    assert caught.value.path == "also"
    assert reason in caught.value.reason


def test_free_ports_never_clash() -> None:
    assert len(expand(wts(target="h:1"), [Pair.parse("127.0.0.1:0=h:2")])) == 2
