"""``fastws ws-proxy --from --to --mode``: stw and wts as a wmproxy user types them."""

from typing import Any

import click

from fastws.cli.options import (
    ForeignOption,
    ModeCommand,
    RefusedOption,
    Text,
)
from fastws.cli.serve import run_specs
from fastws.config.endpoint import Listen
from fastws.config.fields import parse_host
from fastws.config.kinds import choice
from fastws.config.options import options_of
from fastws.config.schema import ModeSpec, TcpToWs, WsToTcp

_MODES = ("tcp2ws", "tcp2wss", "ws2tcp")
_OFFERED = ("chat", "superchat")
"""What wmproxy's own client offers: its server answers ``chat`` to everybody."""

_FOREIGN = [
    ForeignOption(
        ["--from", "-f", "listen"],
        ["listen"],
        type=Text("LISTEN", Listen.parse),
        default="127.0.0.1:8869",
        show_default=True,
        help="where to listen",
    ),
    ForeignOption(
        ["--to", "-t", "to"],
        ["upstream", "target"],
        metavar="ADDRESS",
        required=True,
        help="HOST:PORT of the service or of the WebSocket server",
    ),
    ForeignOption(
        ["--mode"],
        type=Text("MODE", choice("MODE", *_MODES).parse),
        required=True,
        help="tcp2ws, tcp2wss or ws2tcp",
    ),
    ForeignOption(
        ["--domain"],
        ["host", "sni", "allow_host"],
        type=Text("NAME", parse_host),
        help="Host to send and name to verify; with ws2tcp the only Host admitted",
    ),
]
_NAMES = [param.name or "" for param in _FOREIGN]


class WsProxy(ModeCommand):
    """One command for both directions; ``--mode`` says which."""

    foreign = "As in wmproxy"

    def prepare(
        self, ctx: click.Context, values: dict[str, Any], process: dict[str, Any]
    ) -> dict[str, Any]:
        given = {name: values.pop(name) for name in _NAMES}
        mode, domain, to = given["mode"], given["domain"], given["to"]
        more: dict[str, Any] = {"listen": given["listen"]}
        if mode == "ws2tcp":
            more["target"] = to
            if domain is not None:
                more["allow_host"] = (domain,)
            return more
        scheme = "ws" if mode == "tcp2ws" else "wss"
        more["upstream"] = to if "://" in to else f"{scheme}://{to}/"
        if domain is not None:
            more["host"] = domain
            if scheme == "wss":
                more["sni"] = domain.rpartition(":")[0] or domain
        if not values["subprotocol"]:
            more["subprotocol"] = _OFFERED
        return more

    def make(self, given: dict[str, Any]) -> ModeSpec:
        """stw with an upstream, wts with a target."""
        return TcpToWs(**given) if "upstream" in given else WsToTcp(**given)


_SHARED = {row.flag for row in options_of("wts")} - {"--also"}

ws_proxy = WsProxy(
    "stw",
    [],
    run_specs,
    name="ws-proxy",
    rows=[row for row in options_of("stw") if row.flag in _SHARED],
    more=[
        *_FOREIGN,
        RefusedOption(
            ["--access-log"],
            "redirect the error stream: 2>FILE",
            "wmproxy",
            is_flag=False,
        ),
        RefusedOption(
            ["--ws"], "leave it out, it did nothing", "wmproxy", is_flag=True
        ),
    ],
    about="TCP to WebSocket or back with wmproxy's options; the shared ones work too.",
    examples=[
        "fastws ws-proxy --from 127.0.0.1:2222 --to edge.example:443 --mode tcp2wss",
        "fastws ws-proxy -f :8080 -t 127.0.0.1:22 --mode ws2tcp --domain edge.example",
    ],
)
