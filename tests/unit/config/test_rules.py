"""Access rules as text."""

from ipaddress import ip_address, ip_network

import pytest

from fastws.config.rules import Rule


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("*", Rule(text="*")),
        (":443", Rule(ports=(443, 443), text=":443")),
        ("*:80-90", Rule(ports=(80, 90), text="*:80-90")),
        ("Private", Rule(is_private=True, text="Private")),
        ("*.Example.com.", Rule(name="*.example.com", text="*.Example.com.")),
        ("a.b:22", Rule(name="a.b", ports=(22, 22), text="a.b:22")),
        ("10.0.0.0/8", Rule(network=ip_network("10.0.0.0/8"), text="10.0.0.0/8")),
        (
            "10.1.2.3:0-99",
            Rule(network=ip_network("10.1.2.3"), ports=(0, 99), text="10.1.2.3:0-99"),
        ),
        ("::1", Rule(network=ip_network("::1"), text="::1")),
        ("fd00::/8", Rule(network=ip_network("fd00::/8"), text="fd00::/8")),
        (
            "[fd00::/8]:80",
            Rule(network=ip_network("fd00::/8"), ports=(80, 80), text="[fd00::/8]:80"),
        ),
        ("[::1]", Rule(network=ip_network("::1"), text="[::1]")),
    ],
)
def test_rule_is_read(text: str, rule: Rule) -> None:
    assert Rule.parse(text) == rule
    assert str(rule) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "host:", "*:", "host:x", "host:70000", "host:9-1", "[::1"),
        *("[::1]80", "[::1]:", "10.0.0.1/8", "10.0.0/99", "1.2.3", "a b", "a/b"),
        *("host:1-2-3", "http://host", "fd00::g"),
    ],
)
def test_what_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"rule|write|port|cuts|is no"):
        Rule.parse(text)


@pytest.mark.parametrize(
    ("rule", "name", "takes"),
    [
        ("*", "a.example", True),
        ("*", "", True),
        ("*.example", "a.b.example", True),
        ("*.example", "example", False),
        ("*.example", "", False),
        ("a.example", "a.example", True),
        ("a.example", "xa.example", False),
        ("private", "a.example", False),
        ("10.0.0.0/8", "", False),
    ],
)
def test_rule_takes_names(rule: str, name: str, takes: bool) -> None:
    assert Rule.parse(rule).takes_name(name) is takes


def test_rule_takes_addresses_and_ports() -> None:
    rule = Rule.parse("10.0.0.0/8:80-81")
    assert rule.takes_address(ip_address("10.255.0.1"))
    assert not rule.takes_address(ip_address("11.0.0.0"))
    assert not rule.takes_address(ip_address("::10.0.0.1"))
    assert [rule.takes_port(port) for port in (79, 80, 81, 82)] == [0, 1, 1, 0]


@pytest.mark.parametrize(
    ("rule", "is_specific"),
    [
        *(("*", False), (":80", False), ("0.0.0.0/0", False), ("::/0", False)),
        *(("**", False), ("*.*", False), ("private", True), ("10.0.0.0/8", True)),
        *(("*.example", True), ("db", True)),
    ],
)
def test_only_rules_that_say_which_hosts_open_what_is_private(
    rule: str, is_specific: bool
) -> None:
    assert Rule.parse(rule).is_specific is is_specific
