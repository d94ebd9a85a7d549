"""The group of commands: its list, and its first page."""

import click
import pytest
from click.testing import CliRunner

from fastws.cli.main import cli


@pytest.mark.parametrize("arguments", [["--help"], []])
def test_pages_fit_a_narrow_terminal(arguments: list[str]) -> None:
    text = CliRunner().invoke(cli, arguments, terminal_width=80).output
    assert not [line for line in text.splitlines()[1:] if line.endswith("...")]
    assert max(map(len, text.splitlines())) <= 84  # as wide as the first page is


def test_help_lists_every_command_and_loads_none() -> None:
    text = CliRunner().invoke(cli, ["--help"]).output
    _, _, listed = text.partition("Commands:\n")
    names = [line.split()[0] for line in listed.splitlines()]
    assert names == cli.list_commands(click.Context(cli))
