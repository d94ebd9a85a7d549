"""``fastws proxy LISTEN``."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from fastws.cli.options import ModeArgument, ModeCommand
from fastws.cli.serve import run_specs
from fastws.config.endpoint import Listen
from fastws.config.forward import Forward
from fastws.config.schema import ModeSpec
from fastws.exceptions import ConfigError


class ProxyCommand(ModeCommand):
    """The command, and the ports that lead to one destination each."""

    def specs(
        self,
        ctx: click.Context,
        values: Mapping[str, Any],
        more: Mapping[str, Any],
        pairs: Sequence[Any],
    ) -> list[ModeSpec]:
        """The proxy, if there is a LISTEN for it, and one spec for each forward."""
        forwards: Sequence[Forward] = values["forward"]
        rest = {name: value for name, value in values.items() if name != "forward"}
        specs = []
        if rest.get("listen") is not None:
            specs.append(self.spec(ctx, rest, more))
        shared = {**rest, "users": None, "user": (), "no_auth": False}
        for forward in forwards:
            given = {"listen": forward.listen, "target": forward.target}
            try:
                specs.append(self.spec(ctx, shared, {**more, **given}))
            except ConfigError as error:
                if error.path != "listen":
                    raise
                reason = f"{forward.listen}: {error.reason}"
                raise ConfigError("forward", reason) from None
        return specs


proxy = ProxyCommand(
    "proxy",
    [
        ModeArgument(
            "listen",
            "LISTEN",
            Listen.parse,
            "PORT (this machine only), :PORT (all), HOST:PORT, unix:/PATH, fd:3,"
            " inetd:; left out where --forward says it all",
            unless=("forward",),
        ),
    ],
    run_specs,
    about="Forward proxy: HTTP, CONNECT and SOCKS5 with UDP, on one port.",
    examples=[
        "fastws proxy 1080                          # this machine only",
        "fastws proxy :1080 --users users.txt",
        "fastws proxy 1080 --via http://proxy.corp:3128",
        "fastws proxy 1080 --via wss://pool.example/ --via-token SECRET",
        "fastws proxy --forward 2222=host.corp:22 --via socks5h://gate:1080",
    ],
)
