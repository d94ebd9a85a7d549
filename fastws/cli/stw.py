"""``fastws stw LISTEN URL``."""

from fastws.cli.options import ModeArgument, ModeCommand
from fastws.cli.serve import run_specs
from fastws.config.endpoint import Listen, WsUrl

stw = ModeCommand(
    "stw",
    [
        ModeArgument(
            "listen",
            "LISTEN",
            Listen.parse,
            "PORT (this machine only), :PORT (all), HOST:PORT, unix:/PATH, fd:3;"
            " - for standard input and output, inetd:, udp:PORT for datagrams",
        ),
        ModeArgument(
            "upstream",
            "URL",
            WsUrl.parse,
            "ws://HOST[:PORT]/PATH or wss://HOST[:PORT]/PATH",
        ),
    ],
    run_specs,
    about="TCP to WebSocket: each connection to LISTEN becomes one WebSocket to URL.",
    examples=[
        "fastws stw 2222 wss://edge.example/ssh     # then: ssh -p 2222 localhost",
        "fastws stw 5432 wss://edge.example/db --connect-to 203.0.113.7:443",
        "ssh -o ProxyCommand='fastws stw - wss://edge.example/ssh' localhost",
        "fastws stw udp:51820 wss://edge.example/wg",
    ],
)
