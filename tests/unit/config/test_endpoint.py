"""Addresses as people write them."""

import pytest

from fastws.config.endpoint import (
    ConnectTo,
    Listen,
    Target,
    WsUrl,
    is_loopback,
)

LOOPBACK = (("127.0.0.1", "::1"), {"::1"})
EVERYWHERE = (("0.0.0.0", "::"), {"0.0.0.0", "::"})


@pytest.mark.parametrize(
    ("text", "hosts", "optional", "port"),
    [
        ("8080", *LOOPBACK, 8080),
        ("0", *LOOPBACK, 0),
        ("localhost:22", *LOOPBACK, 22),
        (":8080", *EVERYWHERE, 8080),
        ("*:8080", *EVERYWHERE, 8080),
        ("127.0.0.1:80", ("127.0.0.1",), set(), 80),
        ("0.0.0.0:80", ("0.0.0.0",), set(), 80),
        ("[::1]:80", ("::1",), set(), 80),
        ("[::]:80", ("::",), set(), 80),
        ("[fe80::1%lo]:80", ("fe80::1%lo",), set(), 80),
        ("tcp://10.0.0.1:7000", ("10.0.0.1",), set(), 7000),
        ("my_host.example:65535", ("my_host.example",), set(), 65535),
    ],
)
def test_accept_tcp_listen(
    text: str, hosts: tuple[str, ...], optional: set[str], port: int
) -> None:
    listen = Listen.parse(text)
    assert listen == Listen("tcp", hosts, frozenset(optional), port, text=text)
    assert Listen.parse(str(listen)) == listen


@pytest.mark.parametrize(
    ("text", "hosts", "optional", "port"),
    [
        ("udp:51820", *LOOPBACK, 51820),
        ("udp://localhost:51820", *LOOPBACK, 51820),
        ("udp::51820", *EVERYWHERE, 51820),
        ("UDP:*:0", *EVERYWHERE, 0),
        ("udp:192.0.2.1:53", ("192.0.2.1",), set(), 53),
        ("udp:[::1]:53", ("::1",), set(), 53),
    ],
)
def test_accept_udp_listen(
    text: str, hosts: tuple[str, ...], optional: set[str], port: int
) -> None:
    listen = Listen.parse(text)
    assert listen == Listen("udp", hosts, frozenset(optional), port, text=text)
    assert Listen.parse(str(listen)) == listen
    assert listen.is_loopback is (hosts == LOOPBACK[0] or hosts == ("::1",))


@pytest.mark.parametrize(("text", "kind"), [("-", "stdio"), ("inetd:", "inetd")])
def test_accept_what_the_process_was_started_with(text: str, kind: str) -> None:
    listen = Listen.parse(text)
    assert (listen.kind, listen.hosts, str(listen)) == (kind, (), text)
    assert not listen.is_loopback


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("udp:127.0.0.1:51820", ("127.0.0.1", 51820)),
        ("udp://wg.example:1/", ("wg.example", 1)),
        ("udp:[::1]:53", ("::1", 53)),
    ],
)
def test_accept_udp_target(text: str, address: tuple[str, int]) -> None:
    target = Target.parse(text)
    assert target == Target(False, address, address[0], text, udp=True)
    assert Target.parse(str(target)) == target
    assert not Target.parse(f"{text.removeprefix('udp:').strip('/')}").udp


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("unix:/run/x.sock", "/run/x.sock"),
        ("unix:///run/x.sock", "/run/x.sock"),
        ("unix:x.sock", "x.sock"),
        ("unix:/" + "p" * 106, "/" + "p" * 106),
    ],
)
def test_accept_unix_listen(text: str, path: str) -> None:
    listen = Listen.parse(text)
    assert (listen.kind, listen.path, listen.hosts) == ("unix", path, ())
    assert Target.parse(text).address == path


def test_white_space_around_does_not_count() -> None:
    assert Listen.parse(" h:1\n") == Listen.parse("h:1")


def test_accept_descriptor() -> None:
    listen = Listen.parse("fd:3")
    assert (listen.kind, listen.fd, str(listen)) == ("fd", 3, "fd:3")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "write PORT"),
        ("localhost", "write PORT"),
        ("/run/x.sock", "write PORT"),
        ("[::1]", "write PORT"),
        ("::1:80", "put IPv6 addresses in brackets"),
        ("a:b:1", "put IPv6 addresses in brackets"),
        ("[127.0.0.1]:80", "not an IPv6 address in brackets"),
        ("[::g]:80", "not an IPv6 address in brackets"),
        ("65536", "write 0 to 65535"),
        ("h:-1", "write 0 to 65535"),
        ("h:", "write 0 to 65535"),
        ("h:8_0", "write 0 to 65535"),
        ("²", "write 0 to 65535"),
        ("h h:80", "not a host name"),
        ("-h:80", "not a host name"),
        ("h..x:80", "not a host name"),
        ("http://h:80", "http:// does not belong here"),
        ("fd:x", "write fd:3"),
        ("fd:-1", "write fd:3"),
        ("udp:", "write udp:PORT"),
        ("udp:h", "write udp:PORT"),
        ("udp:65536", "write 0 to 65535"),
        ("stdio", "or - .standard input"),
        ("unix:", "write unix:/PATH"),
        ("unix:/a\0b", "write unix:/PATH"),
        ("unix:/" + "p" * 107, "longer than 107 bytes"),
    ],
)
def test_reject_listen(text: str, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        Listen.parse(text)


@pytest.mark.parametrize(
    ("text", "claim"),
    [
        ("80", True),
        ("127.8.8.8:80", True),
        ("[::1]:80", True),
        ("[::ffff:127.0.0.1]:80", True),
        ("app.localhost:80", True),
        ("unix:/x", True),
        (":80", False),
        ("0.0.0.0:80", False),
        ("192.0.2.1:80", False),
        ("localhost.example:80", False),
        ("fd:3", False),
    ],
)
def test_listen_is_loopback(text: str, claim: bool) -> None:
    assert Listen.parse(text).is_loopback is claim


@pytest.mark.parametrize(
    ("text", "secure", "host", "port", "target", "header"),
    [
        ("ws://a", False, "a", 80, "/", "a"),
        ("wss://a", True, "a", 443, "/", "a"),
        ("WSS://A.b:8443/x/y?z=1", True, "A.b", 8443, "/x/y?z=1", "A.b:8443"),
        ("ws://a:80/", False, "a", 80, "/", "a"),
        ("wss://a:80/", True, "a", 80, "/", "a:80"),
        ("ws://a?q", False, "a", 80, "/?q", "a"),
        ("ws://[::1]/", False, "::1", 80, "/", "[::1]"),
        ("ws://[::1]:81/", False, "::1", 81, "/", "[::1]:81"),
        ("ws://a/é", False, "a", 80, "/%C3%A9", "a"),
        ("ws://tür.example/", False, "xn--tr-xka.example", 80, "/", None),
    ],
)
def test_accept_url(
    text: str, secure: bool, host: str, port: int, target: str, header: str | None
) -> None:
    url = WsUrl.parse(text)
    assert url == WsUrl(secure, host, port, target, text)
    assert url.host_header == (host if header is None else header)
    assert WsUrl.parse(str(url)) == url


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "this is no WebSocket URL; write ws://"),
        ("example.com/x", "this is no WebSocket URL; write ws://"),
        ("https://a/", "https:// is no WebSocket scheme; write ws://"),
        ("ws://", "not a host name"),
        ("ws:///x", "not a host name"),
        ("ws://:80/", "has no host"),
        ("ws://a:0/", "write 1 to 65535"),
        ("ws://a:/", "write 1 to 65535"),
        ("ws://::1/", "put IPv6 addresses in brackets"),
        ("ws://[::1/", "not a host name|brackets"),
        ("ws://a/#x", "no #fragment; write # as %23"),
        ("ws://a/#", "no #fragment"),
        ("ws://a/x y", "write %20"),
        ("ws://a/x\r\nHost: b", "write %20"),
        ("ws://a\nb/", "not a host name"),
    ],
)
def test_reject_url(text: str, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        WsUrl.parse(text)


def test_reject_url_with_password_without_repeating_it() -> None:
    with pytest.raises(ValueError, match="--basic USER") as caught:
        WsUrl.parse("wss://user:hunter2@edge.example/x")
    assert "hunter2" not in str(caught.value)


def test_url_does_not_show_its_query() -> None:
    url = WsUrl.parse("wss://edge.example:444/x?token=hunter2")
    assert url.display == "wss://edge.example:444/x?…"
    assert "hunter2" not in repr(url)


@pytest.mark.parametrize(
    ("text", "tls", "host", "port"),
    [
        ("h:22", False, "h", 22),
        ("tcp://h:22", False, "h", 22),
        ("tls://h:22/", True, "h", 22),
        ("TLS://h:22", True, "h", 22),
        ("[::1]:22", False, "::1", 22),
        ("tls://[2001:db8::1]:22", True, "2001:db8::1", 22),
    ],
)
def test_accept_target(text: str, tls: bool, host: str, port: int) -> None:
    target = Target.parse(text)
    assert target == Target(tls, (host, port), host, text)
    assert Target.parse(str(target)) == target


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("22", "write 127.0.0.1:22"),
        (":22", "write 127.0.0.1:22"),
        ("h", "has no port; write HOST:PORT"),
        ("[::1]", "has no port"),
        ("h:0", "write 1 to 65535"),
        ("h:22/x", "write 1 to 65535"),
        ("ws://h:1", "ws:// does not belong here"),
        ("udp:51820", "write udp:127.0.0.1:51820"),
        ("udp:h:0", "write 1 to 65535"),
        ("", "has no port"),
    ],
)
def test_reject_target(text: str, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        Target.parse(text)


def test_connect_to() -> None:
    there = ConnectTo.parse("[::1]:443")
    assert there.address == ("::1", 443)
    assert str(there) == "[::1]:443"
    assert ConnectTo.parse(str(there)) == there
    with pytest.raises(ValueError, match="has no port"):
        ConnectTo.parse("edge.example")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "127.1.2.3", "::1"])
def test_loopback_host(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["example", "127.0.0.1.example", "128.0.0.1", "::2"])
def test_other_host_is_not_loopback(host: str) -> None:
    assert not is_loopback(host)


def test_reject_host_that_idna_cannot_write() -> None:
    with pytest.raises(ValueError, match="is not a host name"):
        Target.parse("ü" * 64 + ":1")
