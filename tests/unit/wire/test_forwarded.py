"""The right-most untrusted address, in every field that carries one."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastws.wire import forwarded as module
from fastws.wire.forwarded import (
    Client,
    Trust,
    believe,
    network_of,
    parse_address,
    parse_node,
)
from fastws.wire.head import Head

PROXY = ("10.0.0.1", 4000)
TRUST = Trust(["10.0.0.0/8", "2001:db8::/32", "192.0.2.7"])


def head(*fields: tuple[str, str]) -> Head:
    return Head("GET", "/", headers=list(fields))


def host_of(*fields: tuple[str, str], field: str | None = None) -> str:
    return believe(head(*fields), PROXY, TRUST, field).host


@pytest.mark.parametrize(
    ("value", "host"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("6.6.6.6, 203.0.113.9", "203.0.113.9"),
        ("6.6.6.6,203.0.113.9,10.2.3.4", "203.0.113.9"),
        ("6.6.6.6, 203.0.113.9, 192.0.2.7, 10.2.3.4", "203.0.113.9"),
        ("192.0.2.8, 10.2.3.4", "192.0.2.8"),
        ("10.9.9.9, 10.2.3.4", "10.9.9.9"),  # all ours: the farthest
        ("2001:db8:1::1, 2a00::5", "2a00::5"),
        ("2a00::5, [2001:db8:1::1]:80", "2a00::5"),
        ("[2A00:0::5]:443", "2a00::5"),
        ("203.0.113.9:5000", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("::ffff:10.0.0.9", "10.0.0.9"),
        ("unknown", "10.0.0.1"),
        ("6.6.6.6, unknown", "10.0.0.1"),
        ("6.6.6.6, unknown, 10.2.3.4", "10.2.3.4"),
        ("6.6.6.6, ", "10.0.0.1"),
        ("203.0.113.9.1", "10.0.0.1"),
        ("fe80::1%eth0", "10.0.0.1"),
        ("203.0.113.9:70000", "10.0.0.1"),
        ("", "10.0.0.1"),
    ],
)
def test_x_forwarded_for(value: str, host: str) -> None:
    assert host_of(("X-Forwarded-For", value)) == host


def test_several_x_forwarded_for_fields_are_one_list() -> None:
    assert host_of(("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-For", "7.7.7.7")) == (
        "7.7.7.7"
    )


def test_port_of_the_client_is_kept() -> None:
    client = believe(head(("X-Forwarded-For", "[2a00::5]:443")), PROXY, TRUST)
    assert client == Client("2a00::5", 443, "", True)


@pytest.mark.parametrize(
    ("value", "host", "asked"),
    [
        ("for=203.0.113.9", "203.0.113.9", ""),
        ("For=203.0.113.9;Proto=https;Host=a.example", "203.0.113.9", "a.example"),
        ('for="[2a00::5]:4711"', "2a00::5", ""),
        (
            'for="203.0.113.9:80" ; host="a.example:8443"',
            "203.0.113.9",
            "a.example:8443",
        ),
        (
            "for=6.6.6.6;host=evil, for=203.0.113.9;host=a.example",
            *("203.0.113.9", "a.example"),
        ),
        ("for=203.0.113.9;host=a.example, for=10.1.1.1", "203.0.113.9", "a.example"),
        ("for=6.6.6.6, for=unknown", "10.0.0.1", ""),
        ("for=10.9.9.9;host=a.example, for=10.1.1.1", "10.9.9.9", "a.example"),
        ("for=6.6.6.6, for=_hidden, for=10.1.1.1", "10.1.1.1", ""),
        ("by=10.1.1.1", "10.0.0.1", ""),
        ('for="6.6.6.6, for=203.0.113.9', "10.0.0.1", ""),  # a quote left open
        ('for="6.6.6.6, for="[2a00::5]"', "10.0.0.1", ""),
        ('for="203.0.113.\\9"', "203.0.113.9", ""),
        ("for=203.0.113.9,", "203.0.113.9", ""),
        ("for = 203.0.113.9", "10.0.0.1", ""),
        ("nonsense", "10.0.0.1", ""),
    ],
)
def test_forwarded(value: str, host: str, asked: str) -> None:
    client = believe(head(("Forwarded", value)), PROXY, TRUST)
    assert (client.host, client.asked_host) == (host, asked)
    assert client.is_forwarded == (host != PROXY[0])


def test_cf_connecting_ip() -> None:
    assert host_of(("CF-Connecting-IP", "203.0.113.9")) == "203.0.113.9"


def test_the_field_that_front_ends_append_to_comes_first() -> None:
    forged = ("CF-Connecting-IP", "6.6.6.6"), ("Forwarded", "for=7.7.7.7")
    assert host_of(*forged, ("X-Forwarded-For", "203.0.113.9")) == "203.0.113.9"
    assert host_of(*forged) == "7.7.7.7"


def test_named_field_is_the_only_one() -> None:
    fields = ("X-Forwarded-For", "6.6.6.6"), ("Ali-CDN-Real-IP", "203.0.113.9")
    assert host_of(*fields, field="ali-cdn-real-ip") == "203.0.113.9"
    assert host_of(fields[0], field="Ali-CDN-Real-IP") == "10.0.0.1"
    assert host_of(("Forwarded", "for=7.7.7.7"), fields[0], field="Forwarded") == (
        "7.7.7.7"
    )


@pytest.mark.parametrize("name", ["X-Forwarded-For", "CF-Connecting-IP", "X-Real"])
def test_untrusted_peer_is_the_client(name: str) -> None:
    peer = ("203.0.113.5", 1)
    request = head((name, "6.6.6.6"), ("X-Forwarded-Host", "a.example"))
    assert believe(request, peer, TRUST, name) == Client(*peer)
    assert believe(request, peer, Trust([])) == Client(*peer)


def test_unix_socket_is_trusted_by_name_only() -> None:
    request = head(("X-Forwarded-For", "6.6.6.6"))
    assert believe(request, None, TRUST) == Client("", 0)
    assert believe(request, None, Trust(["unix"])).host == "6.6.6.6"


def test_forwarded_host_is_the_first_front_ends() -> None:
    request = head(("X-Forwarded-Host", "a.example, b.internal"))
    assert believe(request, PROXY, TRUST).asked_host == "a.example"


@pytest.mark.parametrize("blank", [" ", "\t"])
def test_blanks_before_garbage_cost_what_others_do(blank: str) -> None:
    garbage = ("Forwarded", f"for=203.0.113.9,{blank * 16_000}@")
    start = time.process_time()
    assert host_of(garbage) == "10.0.0.1"
    # Some 2 ms; the square of it was 2 s and more.
    assert time.process_time() - start < 0.5


def test_trust_knows_mapped_addresses_and_scopes() -> None:
    assert TRUST.trusts("::ffff:10.1.2.3")
    assert TRUST.trusts("2001:db8::1%eth0")
    assert not TRUST.trusts("11.0.0.1")
    assert not TRUST.trusts("nonsense")
    assert not TRUST.trusts("")
    assert repr(Trust(["10.0.0.0/8", "unix"])) == "<Trust 10.0.0.0/8, unix>"


def test_reject_a_network_that_is_none() -> None:
    with pytest.raises(ValueError, match=r"10\.0\.0\.1/8"):
        Trust(["10.0.0.1/8"])


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("2a00:1:2:3:4::5", "2a00:1:2:3::/64"),
        ("::1", "::/64"),
        ("", ""),
    ],
)
def test_what_counts_as_one_address(host: str, network: str) -> None:
    assert network_of(host) == network


def test_parse_address() -> None:
    assert str(parse_address("::ffff:1.2.3.4")) == "1.2.3.4"
    assert parse_address("localhost") is None


@given(st.text(max_size=40))
def test_no_text_is_a_node_by_accident(text: str) -> None:
    node = parse_node(text)
    assert node is None or parse_address(node[0]) is not None


@given(
    st.lists(st.ip_addresses().map(str), max_size=4),
    st.text(max_size=60),
    st.booleans(),
)
def test_what_stands_left_changes_nothing(
    hops: list[str], forged: str, quoted: bool
) -> None:
    """Whatever a client writes, the address that a trusted hop appended counts."""
    forged = forged.replace('"', "") if quoted else forged.replace(",", ";")
    value = ",".join([forged, "203.0.113.9"])
    assert host_of(("X-Forwarded-For", value)) == "203.0.113.9"
    value = ",".join([*hops, "203.0.113.9", "10.3.3.3"])
    assert host_of(("X-Forwarded-For", value)) == "203.0.113.9"


def test_trust_remembers_a_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REMEMBERED", 3)
    trust = Trust(["10.0.0.0/8"])
    assert trust
    assert not Trust([])
    for number in range(20):
        assert trust.trusts(f"10.0.0.{number}")
        assert not trust.trusts(f"11.0.0.{number}")
        assert len(trust._answers) <= 3
