"""``fastws``: the group of all commands, its version and its first page."""

import gc
import importlib
import os
import platform
import sys
from typing import NoReturn

import click

import fastws.exceptions  # binds ``fastws``, whose ``BACKEND`` resolves when first used
from fastws._version import __version__
from fastws.cli import hints
from fastws.cli.daemon import fill

_COMMANDS = {
    "stw": "fastws.cli.stw:stw",
    "wts": "fastws.cli.wts:wts",
    "proxy": "fastws.cli.proxy:proxy",
    "proxy-server": "fastws.cli.proxy_server:proxy_server",
    "rust-proxy": "fastws.cli.rust_proxy:rust_proxy",
    "websockify": "fastws.cli.websockify:websockify",
    "ws-proxy": "fastws.cli.ws_proxy:ws_proxy",
    "demo": "fastws.cli.demo:demo",
    "hash-password": "fastws.cli.hash_password:hash_password_command",
}
"""Module and name of each command; only the one that runs is loaded."""

_SUMMARIES = {
    "stw": "TCP to WebSocket: a local port into a ws:// or wss:// URL",
    "wts": "WebSocket to TCP: what arrives goes on to a service",
    "proxy": "forward proxy: HTTP, CONNECT and SOCKS5 on one port",
    "proxy-server": "far end of proxy --via: dials for those with its token",
    "rust-proxy": "either end of rust-proxy, with its options",
    "websockify": "wts, with the options of websockify",
    "ws-proxy": "stw or wts, with the options of wmproxy",
    "demo": "see it work on this machine",
    "hash-password": "a line for a file of users",
}
"""What ``fastws --help`` says of each, in one line of a narrow terminal."""

_FIRST_PAGE = """\
fastws {version}: TCP through WebSocket, and back.

Where the TCP service is, let WebSockets in (here: ssh, behind a web server or CDN):
  fastws wts 8080 127.0.0.1:22

Where the user is, turn a local port into that WebSocket:
  fastws stw 2222 wss://your.site/ssh
  ssh -p 2222 localhost

See it work on this machine:   fastws demo
A proxy for HTTP and SOCKS5:   fastws proxy 1080
All commands:                  fastws --help
All options of a command:      fastws stw --help, fastws wts --help
Version, backend, event loop:  fastws --version
"""


class Commands(click.Group):
    """A group that imports a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, the most used first."""
        return list(_COMMANDS)

    def format_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """List all commands without loading one."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_SUMMARIES.items()))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        if cmd_name in _COMMANDS and cmd_name not in self.commands:
            module, _, name = _COMMANDS[cmd_name].partition(":")
            self.add_command(getattr(importlib.import_module(module), name), cmd_name)
        return super().get_command(ctx, cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command to run; a misspelt one is told from what it may have been."""
        name = args[0]
        if name in _COMMANDS or name.startswith("-"):
            return super().resolve_command(ctx, args)
        text = f"No such command {name!r}."
        if name == "help":
            text += " Write fastws --help, or fastws COMMAND --help."
        raise click.UsageError(
            text + hints.did_you_mean(hints.closest(name, _COMMANDS)), ctx
        )


def event_loop() -> str:
    """Name and version of the event loop that commands run on."""
    if os.environ.get("FASTWS_LOOP") == "asyncio":
        return "asyncio"
    try:
        import uvloop  # noqa: PLC0415 (optional, and it brings asyncio)
    except ImportError:
        return "asyncio"
    return f"uvloop {getattr(uvloop, '__version__', '')}".rstrip()


def show_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    """Print version, backend, Python and event loop, then exit."""
    if not value or ctx.resilient_parsing:
        return
    python = f"{platform.python_implementation()} {platform.python_version()}"
    click.echo(f"fastws {__version__}")
    click.echo(f"backend {fastws.BACKEND}, {python}, event loop {event_loop()}")
    ctx.exit()


@click.group(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 88},
    help="TCP through WebSocket, and back.",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=show_version,
    help="Show version, backend, Python and event loop.",
)
@click.pass_context
def cli(ctx: click.Context) -> None:
    """The group; alone it shows a newcomer what to type."""
    if ctx.invoked_subcommand is None:
        click.echo(_FIRST_PAGE.format(version=__version__), nl=False)


def main() -> None:
    """Run the command line; exits with the command's status."""
    gc.freeze()
    gc.enable()  # see fastws.__main__
    if sys.stderr is None:  # closed; ``-`` finds out about the other two by itself
        fill(2)
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    try:
        sys.exit(cli.main(prog_name="fastws"))
    except OSError as error:  # of a help text: all else is caught where it happens
        fail(error)


def fail(error: OSError) -> NoReturn:
    """End because standard output takes nothing, and lose what it still holds."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(f"Error: standard output: {error.strerror}")
