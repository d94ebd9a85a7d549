"""``fastws``: the group of all commands, its version and its first page."""

import os
import platform
import sys

import click

import fastws.exceptions  # binds ``fastws``, whose ``BACKEND`` resolves when first used
from fastws._version import __version__
from fastws.cli.demo import demo
from fastws.cli.hash_password import hash_password_command
from fastws.cli.proxy import proxy
from fastws.cli.proxy_server import proxy_server
from fastws.cli.stw import stw
from fastws.cli.websockify import websockify
from fastws.cli.ws_proxy import ws_proxy
from fastws.cli.wts import wts

_FIRST_PAGE = """\
fastws {version}: TCP through WebSocket, and back.

Where the TCP service is, let WebSockets in (here: ssh, behind a web server or CDN):
  fastws wts 8080 127.0.0.1:22

Where the user is, turn a local port into that WebSocket:
  fastws stw 2222 wss://your.site/ssh
  ssh -p 2222 localhost

See it work on this machine:   fastws demo
All options of a command:      fastws stw --help, fastws wts --help
Version, backend, event loop:  fastws --version
"""


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


cli.add_command(stw)
cli.add_command(wts)
cli.add_command(proxy)
cli.add_command(proxy_server)
cli.add_command(websockify)
cli.add_command(ws_proxy)
cli.add_command(demo)
cli.add_command(hash_password_command)


def main() -> None:
    """Entry point of the ``fastws`` script; exits with the command's status."""
    sys.exit(cli.main(prog_name="fastws"))
