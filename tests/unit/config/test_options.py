"""The table of options agrees with the schemas and with itself."""

import pytest

from fastws import ForwardProxy, ProxyServer, TcpToWs, WsToTcp
from fastws.config.kinds import choice, parse_count
from fastws.config.modes import MODES, PROCESS, WITHOUT, defaults
from fastws.config.options import OPTIONS, options_of

BOTH = {
    *("--header", "--subprotocol", "--no-fastws", "--cert", "--key", "--ca", "--sni"),
    *("--insecure", "--ping", "--ping-deadline", "--connect-timeout", "--linger"),
    *("--handshake-timeout", "--idle-timeout", "--half-close-timeout"),
    *("--tcp-user-timeout", "--max-connections", "--max-message", "--drain-delay"),
    *("--drain-timeout", "--log-level", "--log-format", "--log-limit"),
    *("--max-connection-age", "--also", "--workers", "--oneshot", "--udp-idle"),
}
STW = BOTH | {"--host", "--origin", "--connect-to", "--on-eof"}
STW |= {"--proxy", "--proxy-ca", "--retry", "--source", "--bind-device"}
STW |= {"--header-file", "--bearer", "--basic", "--text"}
WTS = BOTH | {
    *("--path", "--allow-host", "--allow-origin", "--client-ca"),
    *("--target-cert", "--target-key", "--route", "--token-file"),
}
WTS |= {"--auth-token", "--auth-basic", "--trust", "--client-ip-header", "--web"}
WTS |= {"--max-per-ip", "--proxy-protocol", "--send-proxy-protocol", "--plain-too"}
PROXY = {
    *(
        "--cert",
        "--key",
        "--via",
        "--via-name",
        "--proxy-ca",
        "--source",
        "--bind-device",
    ),
    *("--user", "--users", "--no-auth", "--auth-attempts", "--protocols"),
    *("--allow", "--deny"),
    *("--forward", "--connect-timeout", "--handshake-timeout", "--idle-timeout"),
    *("--udp-idle", "--half-close-timeout", "--linger", "--tcp-user-timeout"),
    *("--max-connections", "--workers", "--drain-delay", "--drain-timeout"),
    *("--log-level", "--log-format", "--log-limit"),
    *("--ping", "--ping-deadline", "--max-message", "--max-data", "--pool-idle"),
    *("--via-protocol", "--via-token", "--host", "--connect-to"),
    *("--sni", "--ca", "--insecure", "--retry", "--retry-delay", "--retry-pooled"),
    *("--retry-mode", "--retry-data", "--pool-keep", "--pool-size", "--pool-warm"),
    *("--pool-opening", "--pool-age", "--pool-probe"),
}


PROXY_SERVER = {
    *("--path", "--allow-host", "--allow-origin", "--no-fastws", "--cert", "--key"),
    *("--client-ca", "--plain-too", "--source", "--bind-device", "--auth-token"),
    *("--no-auth", "--auth-attempts", "--allow", "--deny", "--trust"),
    *("--client-ip-header", "--proxy-protocol", "--ping", "--ping-deadline"),
    *("--connect-timeout", "--handshake-timeout", "--idle-timeout", "--pool-idle"),
    *("--udp-idle", "--half-close-timeout", "--linger", "--tcp-user-timeout"),
    *("--max-connections", "--max-per-ip", "--max-data", "--max-message"),
    *(
        "--workers",
        "--drain-delay",
        "--drain-timeout",
        "--log-level",
        "--log-format",
        "--log-limit",
    ),
}


@pytest.mark.parametrize(
    ("mode", "flags"),
    [
        ("stw", STW),
        ("wts", WTS),
        ("proxy", PROXY),
        ("proxy-server", PROXY_SERVER),
    ],
)
def test_mode_has_these_options(mode: str, flags: set[str]) -> None:
    assert {option.flag for option in options_of(mode)} == flags


def test_modes_fill_these_schemas() -> None:
    assert dict(MODES) == {
        "stw": TcpToWs,
        "wts": WsToTcp,
        "proxy": ForwardProxy,
        "proxy-server": ProxyServer,
    }


@pytest.mark.parametrize("mode", MODES)
def test_every_attribute_of_the_schema_has_a_row(mode: str) -> None:
    rows = {option.attribute for option in options_of(mode)}
    assert rows - PROCESS == set(defaults(MODES[mode])) - WITHOUT[mode]


def test_flags_and_variables_are_unique() -> None:
    assert len({option.flag for option in OPTIONS}) == len(OPTIONS)
    assert len({option.variable for option in OPTIONS}) == len(OPTIONS)
    assert len({option.attribute for option in OPTIONS}) == len(OPTIONS)


@pytest.mark.parametrize("mode", MODES)
def test_every_option_has_group_help_and_default(mode: str) -> None:
    for option in options_of(mode):
        assert option.group_in(mode)
        assert not option.help_in(mode).endswith(".")
        shown = option.default_text(mode)
        if shown not in ("", "off"):
            assert option.kind.parse(shown) == option.default_in(mode)


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        ("--ping", "20s"),
        ("--half-close-timeout", "10m"),
        ("--max-message", "32KiB"),
        ("--idle-timeout", "off"),
        ("--drain-delay", "0s"),
        ("--on-eof", "hold"),
        ("--max-connections", ""),
        ("--header", ""),
        ("--insecure", ""),
        ("--no-fastws", ""),
        ("--log-level", "info"),
    ],
)
def test_default_as_shown(flag: str, text: str) -> None:
    row = next(option for option in OPTIONS if option.flag == flag)
    assert row.default_text("stw") == text


def test_variable_follows_from_the_flag() -> None:
    variables = {option.flag: option.variable for option in OPTIONS}
    assert variables["--ping-deadline"] == "FASTWS_PING_DEADLINE"
    assert variables["--header"] == "FASTWS_HEADER"


def test_count() -> None:
    assert parse_count("10") == 10
    for text in ("", "-1", "1.5", "ten", "٣", "1" * 16):
        with pytest.raises(ValueError, match="is not a whole number"):
            parse_count(text)


def test_choice() -> None:
    kind = choice("A|B", "a", "b")
    assert kind.parse("B") == "b"
    with pytest.raises(ValueError, match="write a or b"):
        kind.parse("c")
