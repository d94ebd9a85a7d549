"""Which destinations may be dialled."""

import asyncio
import socket
from collections.abc import Sequence
from ipaddress import ip_address

import pytest

from fastws.config.rules import Rule
from fastws.exceptions import Denied
from fastws.net import access as module
from fastws.net import resolve
from fastws.net.access import Access, why_private
from fastws.net.dial import Dialer
from fastws.net.resolve import AddrInfo


def rules(*texts: str) -> list[Rule]:
    return [Rule.parse(text) for text in texts]


def infos(*hosts: str) -> list[AddrInfo]:
    family = {True: socket.AF_INET6, False: socket.AF_INET}
    return [AddrInfo(family[":" in host], (host, 80)) for host in hosts]


def judge(access: Access, host: str, *addresses: str, port: int = 80) -> list[str]:
    """The addresses that may be dialled."""
    found = access.admit(host, port, infos(*(addresses or (host,))))
    return [str(info.sockaddr[0]) for info in found]


@pytest.mark.parametrize(
    "host",
    [
        *("0.0.0.0", "0.1.2.3", "10.0.0.0", "10.255.255.255", "100.64.0.0"),
        *("100.127.255.255", "127.0.0.1", "127.255.255.255", "169.254.169.254"),
        *("172.16.0.0", "172.31.255.255", "192.0.0.1", "192.0.0.8", "192.0.0.11"),
        *("192.0.2.1", "192.88.99.1", "192.168.0.1", "198.18.0.1", "198.19.255.255"),
        *("198.51.100.1", "203.0.113.9", "224.0.0.1", "239.255.255.255"),
        *("240.0.0.1", "255.255.255.255", "::", "::1", "100::1", "2001::1"),
        *("2001:2::1", "2001:10::1", "2001:1ff::1", "2001:db8::1", "3fff::1"),
        *("5f00::1", "fc00::1", "fdff::1", "fe80::1", "fec0::1", "ff02::1"),
        *("64:ff9b:1::1", "4000::1", "::10.0.0.1", "::8.8.8.8"),
        *("::ffff:10.0.0.1", "::ffff:127.0.0.1", "64:ff9b::10.0.0.1"),
        *("64:ff9b::7f00:1", "2002:7f00:1::", "2002:a00:1::5", "::ffff:0:8.8.8.8"),
    ],
)
def test_private_address_is_refused(host: str) -> None:
    assert why_private(ip_address(host))
    with pytest.raises(Denied, match=r"forbidden: .* is .*, and no --allow names it"):
        judge(Access(), host)
    assert judge(Access(may_be_private=True), host) == [host]


@pytest.mark.parametrize(
    "host",
    [
        *("1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0"),
        *("172.15.255.255", "172.32.0.0", "192.0.0.9", "192.0.0.10", "192.0.1.0"),
        *("192.31.196.1", "192.52.193.1", "192.175.48.1", "198.17.255.255"),
        *("198.20.0.0", "223.255.255.255", "2001:1::1", "2001:1::2", "2001:3::1"),
        *("2001:4:112::1", "2001:20::1", "2001:30::1", "2001:200::1", "2606:4700::1"),
        *("2620:4f:8000::1", "64:ff9b::8.8.8.8", "::ffff:8.8.8.8", "2002:808:808::"),
    ],
)
def test_global_address_passes(host: str) -> None:
    assert why_private(ip_address(host)) == ""
    assert judge(Access(), host) == [host]


def test_own_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "is_own", lambda address: str(address) == "1.1.1.1")
    with pytest.raises(Denied, match=r"1\.1\.1\.1 is this machine's own"):
        judge(Access(), "1.1.1.1")
    with pytest.raises(Denied, match=r"1\.1\.1\.1 is this machine's own"):
        judge(Access(), "::ffff:1.1.1.1")
    assert judge(Access(), "1.0.0.1") == ["1.0.0.1"]


def test_own_addresses_are_known() -> None:
    assert module.is_own(ip_address("127.0.0.1"))
    assert not module.is_own(ip_address("192.0.2.1"))


@pytest.mark.parametrize(
    ("allow", "deny", "host", "address", "reason"),
    [
        ((), ("*.example",), "a.example", "1.1.1.1", "--deny *.example"),
        ((), ("*.example",), "A.Example.", "1.1.1.1", "--deny *.example"),
        ((), ("1.1.0.0/16",), "a.example", "1.1.1.1", "--deny 1.1.0.0/16"),
        ((), ("1.1.0.0/16",), "h", "64:ff9b::1.1.1.1", "--deny 1.1.0.0/16"),
        ((), (":80",), "1.1.1.1", "1.1.1.1", "--deny :80"),
        ((), ("private",), "h", "10.0.0.1", "--deny private"),
        (("*",), ("1.1.1.1",), "h", "1.1.1.1", "--deny 1.1.1.1"),
        (("h",), ("h",), "h", "1.1.1.1", "--deny h"),
        (("*.example",), (), "other", "1.1.1.1", "no --allow names 1.1.1.1"),
        ((":443",), (), "other", "1.1.1.1", "no --allow names 1.1.1.1"),
        (("*",), (), "h", "10.0.0.1", "10.0.0.1 is not global, and no --allow names"),
        (("0.0.0.0/0",), (), "h", "127.0.0.1", "127.0.0.1 is loopback"),
        (("10.0.0.0/8:443",), (), "h", "10.0.0.1", "10.0.0.1 is not global"),
        (("10.0.0.0/8",), (), "h", "64:ff9b::10.0.0.1", "64:ff9b::a00:1 is not global"),
    ],
)
def test_rule_refuses(
    allow: Sequence[str], deny: Sequence[str], host: str, address: str, reason: str
) -> None:
    with pytest.raises(Denied) as error:
        judge(Access(rules(*allow), rules(*deny)), host, address)
    assert f"{host}:80: forbidden: {reason}" in str(error.value)


@pytest.mark.parametrize(
    ("allow", "deny", "host", "address"),
    [
        ((), ("*.example",), "example", "1.1.1.1"),
        ((), (":81",), "h", "1.1.1.1"),
        (("*.example:80",), (), "a.example", "1.1.1.1"),
        (("10.0.0.0/8",), (), "h", "10.0.0.1"),
        (("10.0.0.0/8",), (), "h", "::ffff:10.0.0.1"),
        (("private",), (), "h", "10.0.0.1"),
        (("*.corp.example",), (), "db.corp.example", "10.0.0.1"),
        (("*", "10.0.0.0/8"), (), "h", "1.1.1.1"),
    ],
)
def test_rule_lets_pass(
    allow: Sequence[str], deny: Sequence[str], host: str, address: str
) -> None:
    assert judge(Access(rules(*allow), rules(*deny)), host, address) == [address]


def test_each_address_of_a_name_is_judged() -> None:
    hosts = ("10.0.0.1", "1.1.1.1", "::1", "2606:4700::1")
    assert judge(Access(), "mixed.example", *hosts) == ["1.1.1.1", "2606:4700::1"]


def test_name_is_refused_before_it_is_resolved() -> None:
    access = Access(rules("*.good", ":22"), rules("bad.good"))
    for host, port in (("bad.good", 80), ("x.other", 80)):
        with pytest.raises(Denied):
            access.check_name(host, port)
    access.check_name("x.good", 80)
    access.check_name("x.other", 22)
    Access(rules("10.0.0.0/8")).check_name("may.be", 80)


def test_foreign_letters_do_not_hide_a_name() -> None:
    with pytest.raises(Denied):
        Access(deny=rules("bad.example")).check_name("ｂａｄ.example", 80)


def test_whoever_does_not_resolve_judges_literals() -> None:
    with pytest.raises(Denied, match="loopback"):
        Access().check_asked("127.1", 80)
    Access().check_asked("name.example", 80)


@pytest.mark.parametrize(
    "host",
    [
        *("10.0.0.10", "10.10", "0xa.10", "0xA00000A", "0x0a.0x0.0x0.0xA"),
        *("10.0.0.10.", "0xA00000A.", "012.0.0.10", "167772170", "10.0.0.１"),
        *("::ffff:10.0.0.10", "64:ff9b::a00:a", "2002:a00:a::1"),
    ],
)
def test_whoever_does_not_resolve_knows_each_spelling(host: str) -> None:
    """The next proxy's resolver would take it for the address that is denied."""
    access = Access(deny=[Rule.parse("10.0.0.0/8")], may_be_private=True)
    with pytest.raises(Denied, match=r"--deny 10\.0\.0\.0/8"):
        access.check_asked(host, 80)


def test_dialer_asks_for_every_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with a private and two forbidden addresses leads nowhere."""

    def look_up(*_: object, **__: object) -> list[tuple[object, ...]]:
        hosts = ("127.0.0.1", "192.0.2.1")
        return [(socket.AF_INET, 1, 6, "", (host, 0)) for host in hosts]

    resolver = resolve.Resolver(getaddrinfo=look_up)
    monkeypatch.setattr(resolve, "_resolver", resolver)

    async def dial() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            server.setblocking(False)
            for name in ("rebound.example", "127.0.0.1", "127.1", "::ffff:127.0.0.1"):
                with pytest.raises(Denied, match="forbidden"):
                    await Dialer((name, port), access=Access()).dial()
                with pytest.raises(Denied, match="forbidden"):
                    await Dialer((name, port), access=Access()).connect()
            with pytest.raises(BlockingIOError):
                server.accept()
            allowed = Access(rules("127.0.0.1"))
            stream = await Dialer(("rebound.example", port), access=allowed).dial()
            stream.transport.abort()

    asyncio.run(dial())
