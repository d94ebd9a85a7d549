"""``fastws wts LISTEN TARGET``."""

from fastws.cli.options import ModeArgument, ModeCommand
from fastws.cli.serve import run_specs
from fastws.config.endpoint import Listen, Target

wts = ModeCommand(
    "wts",
    [
        ModeArgument(
            "listen",
            "LISTEN",
            Listen.parse,
            "PORT (this machine only), :PORT (all), HOST:PORT, unix:/PATH, fd:3,"
            " inetd:",
        ),
        ModeArgument(
            "target",
            "TARGET",
            Target.parse,
            "HOST:PORT, tls://HOST:PORT, unix:/PATH or udp:HOST:PORT; left out where"
            " --route or --token-file say it all",
            unless=("route", "token_file"),
        ),
        ModeArgument(
            "more_targets",
            "[TARGET]...",
            Target.parse,
            "more of them, which share the connections",
            many=True,
        ),
    ],
    run_specs,
    about="WebSocket to TCP: each WebSocket at LISTEN becomes one TARGET connection.",
    examples=[
        "fastws wts :8080 127.0.0.1:22 --path /ssh",
        "fastws wts :443 127.0.0.1:5900 --cert site.pem",
    ],
)
