"""``fastws websockify [source:]port target:port``: wts as its users type it."""

import os
from collections.abc import Callable
from typing import Any

import click

from fastws.cli.daemon import daemonize, fill
from fastws.cli.options import (
    ForeignOption,
    ModeArgument,
    ModeCommand,
    RefusedOption,
    Text,
)
from fastws.cli.serve import run_specs
from fastws.config.endpoint import Listen
from fastws.config.options import options_of
from fastws.config.routes import parse_target
from fastws.config.units import parse_duration
from fastws.exceptions import ConfigError
from fastws.http.password import hash_password

_DEFAULT_CERT = "self.pem"
_AUTHORITIES = (  # where systems keep them
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
)
_TOKEN_PLUGINS = ("TokenFile", "ReadOnlyTokenFile")
_AUTH_PLUGIN = "BasicHTTPAuth"

_REFUSED = (
    (("--verbose", "-v"), True, "use --log-level debug"),
    (("--traffic",), True, "use --log-level debug, or tcpdump for the bytes"),
    (("--record",), False, "record with tcpdump or Wireshark"),
    (("--timeout",), False, "use timeout(1): timeout 60 fastws websockify ..."),
    (("--key-password",), False, "decrypt it: openssl pkey -in KEY -out plain.pem"),
    (("--ssl-target",), True, "write the target as tls://HOST:PORT"),
    (("--ssl-version",), False, "leave it out, TLS 1.2 is the oldest spoken"),
    (("--ssl-ciphers",), False, "leave it out, OpenSSL's own choice is used"),
    (("--unix-listen",), False, "write unix:/PATH in the place of the port"),
    (("--unix-listen-mode",), False, "use umask(1) and a directory of its own"),
    (("--inetd",), True, "write fd:0 in the place of the port"),
    (("--web-auth",), True, "leave it out, a password guards the files too"),
    (("--wrap-mode",), False, "start the program by itself and name its port"),
    (("--prefer-ipv6", "-6"), True, "name the address: [::1]:PORT or [::]:PORT"),
    (("--libserver",), True, "leave it out, there is one server"),
    (("--target-config",), False, "use --token-plugin TokenFile --token-source FILE"),
    (("--host-token",), True, "use --route 'HOST/*=TARGET' for each host"),
    (("--log-file",), False, "redirect the error stream: 2>FILE"),
    (("--syslog",), False, "pipe the error stream to logger(1): 2>&1 | logger"),
    (("--legacy-syslog",), True, "pipe the error stream to logger(1): 2>&1 | logger"),
    (("--file-only",), True, "leave it out, directories are never listed"),
)

_SECONDS = Text("SECONDS", parse_duration)
_FOREIGN = [
    ForeignOption(["--heartbeat"], ["ping"], type=_SECONDS, help="ping so often"),
    ForeignOption(
        ["--idle-timeout", "idle_exit"],
        type=_SECONDS,
        help="exit after that long without a connection",
    ),
    ForeignOption(
        ["--ssl-only"], ["plain_too"], is_flag=True, help="refuse clients without TLS"
    ),
    ForeignOption(
        ["--verify-client"],
        ["client_ca"],
        is_flag=True,
        help="demand client certificates, and so TLS",
    ),
    ForeignOption(["--cafile"], metavar="FILE", help="their authorities (PEM)"),
    ForeignOption(
        ["--unix-target"], ["target"], metavar="FILE", help="connect to a unix socket"
    ),
    ForeignOption(["--token-plugin"], metavar="CLASS", help="TokenFile"),
    ForeignOption(
        ["--token-source"],
        ["token_file"],
        metavar="FILE",
        help="'token: host:port' lines, or a directory of such files",
    ),
    ForeignOption(["--auth-plugin"], metavar="CLASS", help="BasicHTTPAuth"),
    ForeignOption(["--auth-source"], metavar="USER:PASSWORD", help="who may come in"),
    ForeignOption(
        ["--run-once"],
        ["oneshot"],
        is_flag=True,
        help="serve one connection, then exit",
    ),
    ForeignOption(
        ["--daemon", "-D"], is_flag=True, help="go to the background when listening"
    ),
]
_NAMES = [param.name or "" for param in _FOREIGN]


def parse_source(text: str) -> Listen:
    """Read ``[source:]port``: a bare port means all interfaces, as in websockify."""
    bare = text.strip()
    return Listen.parse(f":{bare}" if bare.isdigit() else bare)


class Websockify(ModeCommand):
    """wts with websockify's options before its own."""

    foreign = "As in websockify"

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse to wrap a program, then parse as usual."""
        if "--" in args:
            text = "wrapping a program is not taken over from websockify"
            advice = "start it by itself and name its port"
            raise click.UsageError(f"{text}: {advice}.", ctx)
        return super().parse_args(ctx, args)

    def prepare(
        self, ctx: click.Context, values: dict[str, Any], process: dict[str, Any]
    ) -> dict[str, Any]:
        given = {name: values.pop(name) for name in _NAMES}
        more: dict[str, Any] = {}
        process["idle_exit"] = given["idle_exit"] or 0.0
        process["daemon"] = given["daemon"]
        if given["daemon"]:
            fill(0)  # before anything is opened: these become /dev/null
        if given["heartbeat"] is not None:
            more["ping"] = given["heartbeat"]
        if given["run_once"]:
            more["oneshot"] = True
        more |= _tls(values, given)
        more |= _targets(ctx, values, given)
        more |= _auth(ctx, given)
        process["warnings"] = _warnings(values["listen"], given)
        return more


def _tls(values: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """With a certificate plain clients are served too, unless ``--ssl-only``."""
    more: dict[str, Any] = {}
    cert = values["cert"]
    if cert is None and os.path.exists(_DEFAULT_CERT):
        cert = more["cert"] = _DEFAULT_CERT
    if cert is None and given["ssl_only"]:
        reason = f"needs a certificate: name it with --cert, or have {_DEFAULT_CERT}"
        raise ConfigError("plain_too", reason)
    if given["verify_client"]:
        known = (path for path in _AUTHORITIES if os.path.exists(path))
        more["client_ca"] = given["cafile"] or next(known, None)
        if more["client_ca"] is None:
            raise ConfigError("client_ca", "name your clients' authorities: --cafile")
    elif cert is not None and not given["ssl_only"]:
        more["plain_too"] = True
    return more


def _targets(
    ctx: click.Context, values: dict[str, Any], given: dict[str, Any]
) -> dict[str, Any]:
    """Where requests go: TARGET, a unix socket or a token's target."""
    plugin, source = given["token_plugin"], given["token_source"]
    more: dict[str, Any] = {}
    if plugin is not None:
        if plugin.rpartition(".")[2] not in _TOKEN_PLUGINS:
            text = f"--token-plugin {plugin} is not taken over from websockify"
            raise click.UsageError(f"{text}: TokenFile is the only one.", ctx)
        if source is None:
            raise click.UsageError("--token-plugin needs --token-source FILE.", ctx)
        more["token_file"] = source
    elif source is not None:
        raise click.UsageError("--token-source needs --token-plugin TokenFile.", ctx)
    if given["unix_target"] is not None:
        more["target"] = f"unix:{given['unix_target']}"
    if more and values["target"] is not None:
        raise click.UsageError("Too many arguments: the target is given twice.", ctx)
    return more


def _auth(ctx: click.Context, given: dict[str, Any]) -> dict[str, Any]:
    """One user with a password from the command line."""
    plugin, source = given["auth_plugin"], given["auth_source"]
    if plugin is None:
        if source is not None:
            text = f"--auth-source needs --auth-plugin {_AUTH_PLUGIN}."
            raise click.UsageError(text, ctx)
        return {}
    if plugin.rpartition(".")[2] != _AUTH_PLUGIN:
        text = f"--auth-plugin {plugin} is not taken over from websockify"
        raise click.UsageError(f"{text}: {_AUTH_PLUGIN} is the only one.", ctx)
    user, colon, password = (source or "").partition(":")
    if not colon:
        raise click.UsageError("--auth-plugin needs --auth-source USER:PASSWORD.", ctx)
    line = f"{user}:{hash_password(password, os.urandom(16))}\n"
    return {"auth_basic": keep_private(line.encode())}


def keep_private(data: bytes) -> str:
    """Put ``data`` where only this process and its children can read it.

    Returns:
        A path that is good as long as one of them lives.
    """
    if hasattr(os, "memfd_create"):
        number = os.memfd_create("fastws", 0)
    else:
        # tempfile.mkstemp would do this too, and slow every start down by its imports.
        where = os.environ.get("TMPDIR", "/tmp")
        path = os.path.join(where, f"fastws-{os.urandom(8).hex()}")
        number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        os.unlink(path)
    os.write(number, data)
    return f"/dev/fd/{number}"


def _warnings(listen: Listen, given: dict[str, Any]) -> list[str]:
    """What somebody who comes from websockify has to know."""
    warnings = []
    if listen.hosts == ("0.0.0.0", "::"):
        warnings.append(
            f"port {listen.port} is open on all interfaces, as in websockify;"
            f" write 127.0.0.1:{listen.port} for this machine only"
        )
    if given["cafile"] is not None and not given["verify_client"]:
        warnings.append("--cafile changes nothing without --verify-client")
    return warnings


def run(specs: Any, *, daemon: bool = False, **process: Any) -> int:
    """Run specs, in the background if asked for; returns the exit status."""
    if not daemon:
        return run_specs(specs, **process)
    if not hasattr(os, "fork"):
        raise ConfigError("--daemon", "this system has no background processes")

    def start(ready: Callable[[], None]) -> int:
        return run_specs(specs, ready=ready, **process)

    return daemonize(start)


websockify = Websockify(
    "wts",
    [
        ModeArgument(
            "listen",
            "[SOURCE:]PORT",
            parse_source,
            "where to listen; PORT alone means all interfaces",
        ),
        ModeArgument(
            "target",
            "TARGET:PORT",
            parse_target,
            "where to connect to",
            unless=("route", "token_file"),
        ),
    ],
    run,
    name="websockify",
    rows=[row for row in options_of("wts") if row.flag != "--idle-timeout"],
    more=[
        *_FOREIGN,
        *(
            RefusedOption(names, instead, "websockify", is_flag=is_flag)
            for names, is_flag, instead in _REFUSED
        ),
    ],
    about="WebSocket to TCP with websockify's options; those of wts work too.",
    examples=[
        "fastws websockify --web /usr/share/novnc 6080 127.0.0.1:5900",
        "fastws websockify 6080 --token-plugin TokenFile --token-source tokens.txt",
    ],
)
