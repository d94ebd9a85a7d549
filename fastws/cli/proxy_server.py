"""``fastws proxy-server LISTEN``."""

from fastws.cli.options import ModeArgument, ModeCommand
from fastws.cli.serve import run_specs
from fastws.config.endpoint import Listen

proxy_server = ModeCommand(
    "proxy-server",
    [
        ModeArgument(
            "listen",
            "LISTEN",
            Listen.parse,
            "PORT (this machine only), :PORT (all), HOST:PORT, unix:/PATH, fd:3",
        ),
    ],
    run_specs,
    about=(
        "Far end of fastws proxy --via, and of rust-proxy clients: dials for them."
        " Private addresses, this machine's own too, only where an --allow names them."
    ),
    examples=[
        "fastws proxy-server :443 --cert site.pem --auth-token SECRET",
        "fastws proxy-server 8080 --auth-token SECRET    # behind a web server",
        "fastws proxy-server :8443 --cert site.pem --auth-token S --allow intra.corp",
    ],
)
