"""Who mistypes a command or an option is told what to write."""

import re

import pytest
from click.testing import CliRunner

from fastws.cli.main import cli
from tests.support.cli import run_fastws

STW = ("stw", "7000", "wss://edge.example/t")
WTS = ("wts", "8080", "127.0.0.1:22")
PROXY = ("proxy", "1080")
SERVER = ("proxy-server", "1080")


def said(*arguments: str) -> list[str]:
    result = CliRunner().invoke(cli, arguments, prog_name="fastws")
    assert result.exit_code == 2
    assert isinstance(result.exception, SystemExit)
    return result.output.splitlines()


@pytest.mark.parametrize(
    ("arguments", "end"),
    [
        (("wst", "1", "h:1"), "command 'wst'. Did you mean stw or wts?"),
        (("WTS", "1", "h:1"), "command 'WTS'. Did you mean wts or stw?"),
        (("proxyserver",), "command 'proxyserver'. Did you mean proxy-server?"),
        (("bogus",), "command 'bogus'."),
        (("help",), "'help'. Write fastws --help, or fastws COMMAND --help."),
        (("help", "wts"), "'help'. Write fastws --help, or fastws COMMAND --help."),
    ],
)
def test_unknown_command(arguments: tuple[str, ...], end: str) -> None:
    assert said(*arguments)[-1].endswith(end)
    assert said(*arguments)[1] == "Try 'fastws --help' for help."


@pytest.mark.parametrize(
    ("arguments", "end"),
    [
        ((*WTS, "--tokn", "x"), "Did you mean --auth-token or --token-file?"),
        ((*WTS, "--auth_token", "x"), "Did you mean --auth-token?"),
        ((*WTS, "--Ping", "3s"), "Did you mean --ping or --ping-deadline?"),
        ((*WTS, "--certificate", "x"), "Did you mean --cert?"),
        (
            (*WTS, "--log", "x"),
            "Did you mean --log-format, --log-level or --log-limit?",
        ),
        ((*WTS, "--no-oneshot"), "Did you mean --oneshot?"),
        ((*SERVER, "--tokn", "x"), "Did you mean --auth-token?"),
        ((*PROXY, "--usr", "x"), "Did you mean --user, --users or --tcp-user-timeout?"),
        ((*WTS, "--password", "x"), "No such option '--password'."),
    ],
)
def test_misspelt_option(arguments: tuple[str, ...], end: str) -> None:
    assert said(*arguments)[-1].endswith(end)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((*WTS, "--verbose"), "'--verbose': use --log-level debug."),
        ((*PROXY, "-q"), "'-q': use --log-level error."),
        ((*STW, "--tls"), "'--tls': write wss:// in the URL."),
        ((*WTS, "--ssl"), "'--ssl': use --cert."),
        ((*STW, "--token", "x"), "'--token': use --bearer."),
        (
            (*WTS, "--users", "x"),
            "'--users': it is one of fastws proxy; use --auth-basic.",
        ),
    ],
)
def test_option_of_other_programs(arguments: tuple[str, ...], line: str) -> None:
    assert said(*arguments)[-1] == f"Error: No such option {line}"


@pytest.mark.parametrize("value", [("x",), ()])
def test_one_dash_too_few_does_not_repeat_the_value(value: tuple[str, ...]) -> None:
    given = ("-auth-token", *value) if value else ("-auth-token=x",)
    assert said(*WTS, *given)[-1] == (
        "Error: No such option '-auth-token': write --auth-token with two dashes."
    )


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((*WTS, "--ping"), "Option '--ping' requires an argument. Write --ping TIME."),
        ((*STW, "-H"), "Option '-H' requires an argument. Write -H 'NAME: VALUE'."),
        ((*WTS, "--oneshot=1"), "Option '--oneshot' does not take a value."),
    ],
)
def test_missing_or_needless_value(arguments: tuple[str, ...], line: str) -> None:
    first, *_, last = said(*arguments)
    assert first.startswith(f"Usage: fastws {arguments[0]} ")
    assert last == f"Error: {line}"


def warned(*arguments: str) -> list[str]:
    """The warnings of a start that fails for its address."""
    done = run_fastws(*arguments)
    assert done.returncode == 1
    return re.findall(" WARNING (.*)", done.stderr)


def test_option_of_one_value_given_twice_is_warned_of() -> None:
    nowhere = ("wts", "unix:/nonexistent/x", "127.0.0.1:9")
    assert warned(*nowhere, "--ping", "3s", "--linger", "1s", "--ping", "4s") == [
        "--ping is given 2 times: the last one counts"
    ]


def test_options_that_may_be_repeated_are_not_warned_of() -> None:
    nowhere = ("wts", "unix:/nonexistent/x", "127.0.0.1:9")
    twice = ("--auth-token", "x", "--no-fastws", "--auth-token", "y", "--no-fastws")
    assert warned(*nowhere, *twice) == []
