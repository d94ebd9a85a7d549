"""Options that belong to another command, and variables that belong to none."""

import pytest
from click.testing import CliRunner

from fastws.cli.main import cli
from tests.support.cli import run_fastws

STW = ("stw", "7000", "wss://edge.example/t")
WTS = ("wts", "8080", "127.0.0.1:22")


def last_line(*arguments: str) -> str:
    result = CliRunner().invoke(cli, arguments, prog_name="fastws")
    assert result.exit_code == 2
    return result.output.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "end"),
    [
        ((*STW, "--path", "/x"), "fastws wts; the path stands in the URL."),
        ((*WTS, "--bearer", "x"), "fastws stw; use --auth-token."),
        ((*WTS, "--retry", "3"), "fastws stw."),
        ((*WTS, "--from", "1"), "fastws ws-proxy."),
        ((*STW, "--heartbeat", "1"), "fastws websockify."),
        (("websockify", "1", "h:1", "--proxy", "h:1"), "fastws stw."),
    ],
)
def test_option_of_another_command_says_whose(
    arguments: tuple[str, ...], end: str
) -> None:
    flag = arguments[3]
    expected = f"Error: No such option '{flag}': it is one of {end}"
    assert last_line(*arguments) == expected


def test_option_that_nobody_has_gets_no_owner() -> None:
    assert last_line(*WTS, "--bogus") == "Error: No such option '--bogus'."


def test_refused_option_of_websockify_has_no_owner() -> None:
    assert "one of fastws" not in last_line(*WTS, "--traffic")


def test_misspelt_variable_is_warned_of() -> None:
    done = run_fastws("wts", "unix:/nonexistent/x", "127.0.0.1:9", FASTWS_PNG="3s")
    first, second = done.stderr.splitlines()
    assert first.endswith(
        " WARNING FASTWS_PNG: no option reads this; FASTWS_PING is one"
    )
    assert "/nonexistent/x" in second


def test_right_variable_is_not_warned_of() -> None:
    done = run_fastws("wts", "unix:/nonexistent/x", "127.0.0.1:9", FASTWS_PING="3s")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (("stw", "7000", "ws://h/\udcff"), "URL"),
        (("stw", "unix:/\udcff", "ws://h/"), "LISTEN"),
        ((*WTS, "--route", "/x=unix:/\udcff"), "--route"),
    ],
)
def test_bytes_that_are_no_text_are_called_so(
    arguments: tuple[str, ...], name: str
) -> None:
    expected = f"Error: Invalid value for '{name}': this is not UTF-8"
    assert last_line(*arguments) == expected
