"""Write docs/reference.md and man/fastws.1 from the table of options.

``python docs/generate.py`` writes both; with ``--check`` it writes nothing and ends
with status 1 when a file is not what it would write.
"""

import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import fields
from itertools import groupby
from pathlib import Path
from typing import Any

import click

from fastws.cli.main import cli
from fastws.cli.options import ModeArgument, ModeCommand, ModeOption, RefusedOption
from fastws.config.kinds import FLAG
from fastws.config.modes import MODES
from fastws.config.options import OPTIONS, Option, options_of
from fastws.ws.connect import connect
from fastws.ws.limits import Options
from fastws.ws.server import serve_callbacks

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "docs" / "reference.md"
MANUAL = ROOT / "man" / "fastws.1"

_HEAD = """\
# Reference

Made by `docs/generate.py` from the table that the command line itself is made
from; change that, not this page.

Values: *TIME* is `20s`, `1.5m`, `500ms`, `2h` or a number of seconds; *SIZE* is
`32KiB`, `1MiB` or a number of bytes. Addresses and exit status: see
[the first page](index.md).

Every option is also a variable: `FASTWS_PING=30s` for `--ping 30s`. A flag takes
`1` or `0`; an option that may be repeated takes one value a line. The command line
wins over the variable. Where two variables are named, the second one names a file
that holds the value; give one of the two.
"""

_SIGNALS = (
    ("SIGTERM, SIGINT", "drain: fail readiness, let connections end, then stop"),
    ("the same again", "end at once"),
    ("SIGHUP", "read certificates, keys, users, tokens and header files again"),
)
_BESIDES = {"ws-proxy": "options that `stw` and `wts` share"}
"""What a command with options of its own takes, where it is not all of its mode."""

_STATUS = (
    ("0", "a normal end or a drain"),
    ("1", "something failed while running, or could not be listened on"),
    ("2", "the command line cannot be parsed"),
    ("78", "a value names something wrong, such as an unreadable certificate"),
)
_LIBRARY = """\
## In Python

`fastws.connect` (c), `fastws.serve` (s) and the callback layer have the names of
`websockets`, in seconds and bytes; see
[the page on it](howto/migrate-from-websockets.md). Mode objects (`fastws.TcpToWs`)
have those of the options, with `_` for `-`.

| argument | of | default | option | its default |
| --- | --- | --- | --- | --- |
"""
# Argument, whose it is, and the options that say the same to commands.
_ARGUMENTS = (
    ("origin", "c", "--origin"),
    ("origins", "s", "--allow-origin"),
    ("subprotocols", "c, s", "--subprotocol"),
    ("additional_headers", "c, s", "--header"),
    ("proxy", "c", "--proxy"),
    ("host, port", "c", "--connect-to"),
    ("ssl", "c, s", "--ca, --cert, --key, --client-ca, --insecure"),
    ("server_hostname", "c", "--sni"),
    ("open_timeout", "c, s", "--connect-timeout, --handshake-timeout"),
    ("ping_interval", "c, s", "--ping"),
    ("ping_timeout", "c, s", "--ping-deadline"),
    ("close_timeout", "c, s", "--linger"),
    ("reconnect_delays", "c", "--retry"),
    ("compression", "c, s", ""),
    ("max_size", "c, s", ""),
    ("max_queue", "c, s", ""),
    ("write_limit", "c, s", ""),
    ("max_unsent", "c, s", ""),
    ("max_connections", "s", "--max-connections"),
    ("backlog", "s", ""),
)


def commands() -> Iterator[tuple[str, click.Command]]:
    """The commands in the order of the group, without hidden ones."""
    ctx = click.Context(cli)
    for name in cli.list_commands(ctx):
        command = cli.get_command(ctx, name)
        if command is not None and not command.hidden:
            yield name, command


def usage(name: str, command: click.Command) -> str:
    """``fastws stw [OPTION]... LISTEN URL``."""
    ctx = click.Context(command, info_name=name)
    return " ".join([f"fastws {name}", *command.collect_usage_pieces(ctx)])


def modes_of(option: Option) -> list[str]:
    """The modes that have ``option``."""
    return [mode for mode in MODES if option in options_of(mode)]


def told(values: dict[str, str]) -> str:
    """One text for all modes, or one for each where they differ."""
    if len(set(values.values())) == 1:
        return next(iter(values.values()))
    return "; ".join(f"{mode}: {text or 'none'}" for mode, text in values.items())


def meaning(option: Option) -> str:
    """The sentence of the help, per mode where it differs."""
    return told({mode: option.help_in(mode) for mode in modes_of(option)})


def default(option: Option) -> str:
    """The default as written, or empty."""
    return told({mode: option.default_text(mode) for mode in modes_of(option)})


def variables(option: Option) -> list[str]:
    """Names of the variables that set ``option``; the second names a file."""
    modes = modes_of(option)
    having = [mode for mode in modes if option.file_variable(mode)]
    if not having:
        return [option.variable]
    only = "" if having == modes else f" ({', '.join(having)})"
    return [option.variable, option.file_variable(having[0]) + only]


def about(command: click.Command) -> str:
    """The help of a command without its examples."""
    return (command.help or "").partition("\b")[0].strip()


def groups() -> Iterator[tuple[str, list[Option]]]:
    """Heading and options, in the order of the table."""
    rows = [option for option in OPTIONS if modes_of(option)]
    seen: dict[str, list[Option]] = {}
    for key, some in groupby(rows, key=lambda option: str(option.group)):
        seen.setdefault(key, []).extend(some)
    for some_rows in seen.values():
        group = some_rows[0].group
        yield group if isinstance(group, str) else told(dict(group)), some_rows


# Markdown


def cell(text: str) -> str:
    """``text`` as it can stand in a table."""
    return re.sub(r"([*_<])", r"\\\1", text).replace("|", "&#124;")


def markdown_row(option: Option) -> str:
    """One option as a row of its table."""
    names = ", ".join(f"`{name}`" for name in (option.short, option.flag) if name)
    value = "" if option.kind is FLAG else f" {cell(option.kind.metavar)}"
    shown = default(option)
    return " | ".join(
        [
            f"| {names}{value}",
            "<br>".join(f"`{name}`" for name in variables(option)),
            ", ".join(modes_of(option)),
            f"{cell(shown)}" if shown else "–",
            f"{cell(meaning(option))} |",
        ]
    )


def markdown_parameters(command: click.Command) -> Iterator[str]:
    """Arguments and the options that stand in no table, one a line."""
    for param in command.params:
        if isinstance(param, ModeOption | RefusedOption):
            continue
        if isinstance(param, ModeArgument):
            yield f"* {cell(param.metavar or '')}: {cell(param.line)}"
        elif isinstance(param, click.Option) and not param.hidden:
            names = ", ".join(f"`{name}`" for name in param.opts)
            yield f"* {names}: {cell(param.help or '')}"


def argument_default(name: str) -> str:
    """What the library does without that argument."""
    if "," in name or name == "ssl":
        return ""
    known: dict[str, Any] = {}
    for call in (serve_callbacks, connect):
        for parameter in inspect.signature(call).parameters.values():
            known[parameter.name] = parameter.default
    known |= {field.name: field.default for field in fields(Options)}
    value = known.get(name)
    if isinstance(value, float):
        return f"{value:g} s"
    if isinstance(value, int) and value >= 1 << 14:
        return f"{value >> 20} MiB" if value >= 1 << 20 else f"{value >> 10} KiB"
    return "" if value in (None, ()) else f"`{value}`"


def library() -> Iterator[str]:
    """The rows of the library's arguments."""
    flags = {option.flag: option for option in OPTIONS}
    for name, whose, options in _ARGUMENTS:
        named = [flags[flag] for flag in filter(None, options.split(", "))]
        names = ", ".join(f"`{word}`" for word in name.split(", "))
        shown = ", ".join(filter(None, (default(option) for option in named)))
        flagged = ", ".join(f"`{option.flag}`" for option in named)
        cells = [argument_default(name) or "–", flagged or "–", cell(shown) or "–"]
        yield f"| {names} | {whose} | {' | '.join(cells)} |"


def markdown() -> str:
    """The page."""
    lines = [_HEAD, "## Commands"]
    for name, command in commands():
        lines += ["", f"### fastws {name}", "", f"    {usage(name, command)}", ""]
        lines += [about(command), "", *markdown_parameters(command)]
        if isinstance(command, ModeCommand) and name not in MODES:
            others = _BESIDES.get(name, f"options of `{command.mode}`")
            lines += ["", f"Besides, {others}; see its `--help`."]
    for heading, rows in groups():
        lines += ["", f"## {heading}", ""]
        lines += ["| option | variable | of | default | meaning |"]
        lines += ["| --- | --- | --- | --- | --- |"]
        lines += [markdown_row(option) for option in rows]
    lines += ["", _LIBRARY.rstrip(), *library()]
    lines += ["", "## Variables without an option", ""]
    lines += ["* `FASTWS_PURE=1`: use the pure Python twin"]
    lines += ["* `FASTWS_LOOP=asyncio`: do without uvloop"]
    lines += ["", "## Signals", ""]
    lines += [f"* {name}: {text}" for name, text in _SIGNALS]
    text = "\n".join(lines)
    return re.sub(r"\n{3,}", "\n\n", text) + "\n"


# Manual page


def roff(text: str) -> str:
    """``text`` as it can stand in a manual page."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^(?=[.'])", r"\\&", text, flags=re.MULTILINE)


def roff_option(option: Option) -> Iterator[str]:
    """One option as a tagged paragraph."""
    names = ", ".join(
        f"\\fB{roff(name)}\\fR" for name in (option.short, option.flag) if name
    )
    value = "" if option.kind is FLAG else f" \\fI{roff(option.kind.metavar)}\\fR"
    yield ".TP"
    yield names + value
    modes = modes_of(option)
    only = "" if len(modes) == len(MODES) else f" ({', '.join(modes)} only)"
    shown = default(option)
    after = f" [{shown}]" if shown else ""
    yield roff(f"{meaning(option)}{after}{only}; {', '.join(variables(option))}")


def manual() -> str:
    """The manual page."""
    lines = ['.TH FASTWS 1 "" fastws "User Commands"', ".SH NAME"]
    lines += ["fastws \\- TCP through WebSocket, and back", ".SH SYNOPSIS"]
    for name, command in commands():
        lines += [f".B {roff(usage(name, command))}", ".br"]
    lines += [".SH COMMANDS"]
    for name, command in commands():
        lines += [".TP", f".B {roff(name)}", roff(about(command))]
        for param in command.params:
            if isinstance(param, ModeArgument) and name in MODES:
                lines += [".br", f"{roff(param.metavar or '')}: {roff(param.line)}"]
    for heading, rows in groups():
        lines += [f".SH {roff(heading).upper()}"]
        for option in rows:
            lines += roff_option(option)
    for title, pairs in (("SIGNALS", _SIGNALS), ("EXIT STATUS", _STATUS)):
        lines += [f".SH {title}"]
        for name, text in pairs:
            lines += [".TP", f".B {roff(name)}", roff(text)]
    lines += [".SH ENVIRONMENT", "Each option names its variable. A variable whose"]
    lines += ["name ends in _FILE names a file that holds the value."]
    lines += [".SH EXAMPLES"]
    for name, command in commands():
        if isinstance(command, ModeCommand) and name in MODES:
            examples = [roff(example) for example in command.examples]
            lines += [".nf", *examples, ".fi"]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write or check; the exit status."""
    status = 0
    for path, text in ((REFERENCE, markdown()), (MANUAL, manual())):
        if "--check" not in sys.argv[1:]:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, "utf-8")
        elif not path.exists() or path.read_text("utf-8") != text:
            print(f"{path.name} is out of date: run python docs/generate.py")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
