"""``fastws demo``."""

import click

from fastws.cli.options import Failure, Text
from fastws.config.units import parse_size
from fastws.modes.demo import DemoError, run_demo


@click.command(
    "demo",
    help="Start an echo service, wts and stw on this machine, and push data through.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--size",
    type=Text("SIZE", parse_size),
    metavar="SIZE",
    default="512MiB",
    help="to send through the chain and back [512MiB]",
)
def demo(size: int) -> None:
    """Run the demonstration; exit status 1 if a byte or a process is wrong."""
    try:
        run_demo(size)
    except DemoError as error:
        raise Failure(f"the demo failed: {error}") from None
