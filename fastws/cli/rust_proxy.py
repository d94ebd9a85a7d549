"""``fastws rust-proxy``: proxy and proxy-server as a rust-proxy user types them.

Also with the variables of its container image, each of which may name a file instead:
``AUTHORIZATION_FILE``. Those of certificate and key are files in any case.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from fastws.cli.options import ForeignOption, Misconfigured, ModeCommand, ModeOption
from fastws.cli.options import Text as TextType
from fastws.cli.serve import run_specs
from fastws.config.endpoint import Listen
from fastws.config.fields import parse_bearer
from fastws.config.forward import ForwardProxy
from fastws.config.kinds import choice
from fastws.config.modes import MODES, PROCESS, defaults
from fastws.config.options import OPTIONS, options_of
from fastws.config.proxy_server import ProxyServer
from fastws.config.schema import ModeSpec
from fastws.config.secret_file import NOTHING, SecretFile
from fastws.exceptions import ConfigError

_CLIENT, _SERVER = "proxy", "proxy-server"
_MODES = {"client": _CLIENT, "server": _SERVER}


def parse_token(text: str) -> str:
    """Check a token; an empty one is none, as in rust-proxy."""
    return parse_bearer(text) if text.strip() else ""


class VariableOption(ForeignOption):
    """An option that the container image sets by a variable.

    Args:
        variable: its name; with ``_FILE`` behind it, that of a file with the value.
        is_file: the value is the name of a file, so that both variables mean it.
        more: as for :class:`fastws.cli.options.ForeignOption`.
    """

    def __init__(self, *args: Any, variable: str, is_file: bool = False, **more: Any):
        super().__init__(*args, envvar=variable, **more)
        self.variable = variable
        self.is_file = is_file

    @property
    def file(self) -> str:
        """The file that the value comes from, empty for none."""
        if os.environ.get(self.variable):
            return ""
        return os.environ.get(self.variable + "_FILE", "")

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """The variable, or what stands in the file of the other one."""
        value = super().resolve_envvar_value(ctx)
        place = self.variable + "_FILE"
        name = os.environ.get(place)
        if not name:
            return value
        if value is not None:
            raise Misconfigured(f"{place}: {self.variable} is set too")
        if self.is_file:
            return name
        try:
            text = Path(name).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "is not UTF-8"
            raise Misconfigured(f"{place}: {name}: {reason}") from None
        if not text:
            raise Misconfigured(f"{place}: {name}: {NOTHING}")
        return text


_FOREIGN = [
    VariableOption(
        ["--mode", "-m"],
        type=TextType("MODE", choice("MODE", *_MODES).parse),
        default="server",
        show_default=True,
        variable="MODE",
        help="server or client",
    ),
    VariableOption(
        ["--listen_addr", "-l", "listen"],
        ["listen"],
        type=TextType("LISTEN", Listen.parse),
        default="127.0.0.1:8080",
        show_default=True,
        variable="LISTEN",
        help="where to listen",
    ),
    VariableOption(
        ["--authorization", "-t"],
        ["auth_token", "via_token"],
        type=TextType("TOKEN", parse_token),
        default="",
        variable="AUTHORIZATION",
        help="what the client sends and the server asks for",
    ),
    VariableOption(
        ["--fullchain", "-f"],
        ["cert"],
        metavar="FILE",
        default="fullchain.pem",
        show_default=True,
        variable="FULLCHAIN",
        is_file=True,
        help="server: certificate chain (PEM)",
    ),
    VariableOption(
        ["--private_key", "-k"],
        ["key"],
        metavar="FILE",
        default="private.pem",
        show_default=True,
        variable="PRIVATE_KEY",
        is_file=True,
        help="server: its key (PEM), RSA or EC, PKCS#1, PKCS#8 or SEC1",
    ),
    VariableOption(
        ["--proxy_addr", "-p"],
        ["via"],
        metavar="HOST[:PORT][/PATH]",
        variable="PROXY",
        help="client: the server",
    ),
]
_NAMES = [param.name or "" for param in _FOREIGN]
_TAKEN = {"--auth-token", "--cert", "--key", "--plain-too", "--via", "--via-token"}
_TAKEN |= {"--via-protocol", "--forward"}


class RustProxy(ModeCommand):
    """One command for both ends; ``--mode`` says which."""

    foreign = "As in rust-proxy"

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        if not any(isinstance(param, ModeOption) for param in self.params):
            flags = {
                mode: {row.flag for row in options_of(mode)} - _TAKEN
                for mode in (_SERVER, _CLIENT)
            }
            for row in OPTIONS:
                for mode in (mode for mode in flags if row.flag in flags[mode]):
                    self.params.append(ModeOption(row, mode))
                    break
        return super().get_params(ctx)

    def heading(self, param: click.Parameter) -> str:
        if isinstance(param, ModeOption):
            return param.row.group_in(param.mode)
        return super().heading(param)

    def prepare(
        self, ctx: click.Context, values: dict[str, Any], process: dict[str, Any]
    ) -> dict[str, Any]:
        given = {name: values.pop(name) for name in _NAMES}
        values["listen"] = given["listen"]  # says how loud the log is
        more: dict[str, Any] = {"listen": given["listen"]}
        self.mode = _MODES[given["mode"]]
        self._check_mode(ctx, values)
        token = given["authorization"]
        if self.mode == _CLIENT:
            if not given["proxy_addr"]:
                raise ConfigError("via", "is missing: -m client needs a server")
            where = given["proxy_addr"]
            more["via"] = where if "://" in where else f"wss://{where}"
            more["via_protocol"] = "rust-proxy"
            more |= {"via_token": token} if token else {}
            return more
        if not token and not values["no_auth"]:
            raise ConfigError("auth_token", "is empty: give one, or say --no-auth")
        more |= {"auth_token": (token,)} if token else {}
        more |= {"cert": given["fullchain"], "key": given["private_key"]}
        for name in ("cert", "key"):
            _check_readable(name, more[name])
        self._watch_token(ctx, process)
        return more

    def _check_mode(self, ctx: click.Context, values: Mapping[str, Any]) -> None:
        """Refuse options that only the other end has."""
        known = defaults(MODES[self.mode]).keys() | PROCESS | {"listen"}
        for param in self.params:
            name = param.name or ""
            source = ctx.get_parameter_source(name)
            if not isinstance(param, ModeOption) or name in known:
                continue
            if source is click.core.ParameterSource.COMMANDLINE:
                other = "client" if self.mode == _SERVER else "server"
                raise click.UsageError(f"{param.row.flag} is for -m {other}.", ctx)
            del values[name]  # type: ignore[attr-defined]

    def _watch_token(self, ctx: click.Context, process: dict[str, Any]) -> None:
        """Let the token's file be read again while the server runs."""
        option = next(p for p in _FOREIGN if p.variable == "AUTHORIZATION")
        source = ctx.get_parameter_source("authorization")
        if option.file and source is click.core.ParameterSource.ENVIRONMENT:
            place = option.variable + "_FILE"
            row = next(row for row in OPTIONS if row.flag == "--auth-token")
            secret = SecretFile(row, place, option.file)
            process["secrets"] = [*process.get("secrets", ()), secret]

    def make(self, given: dict[str, Any]) -> ModeSpec:
        """proxy for a client, proxy-server for a server."""
        if self.mode == _CLIENT:
            return ForwardProxy(**given)
        return ProxyServer(**given)


def _check_readable(name: str, path: str) -> None:
    try:
        with open(path, "rb"):
            return
    except OSError as error:
        raise ConfigError(name, f"{path}: cannot be read: {error.strerror}") from None


rust_proxy = RustProxy(
    _SERVER,
    [],
    run_specs,
    name="rust-proxy",
    rows=(),
    more=_FOREIGN,
    about="Either end of rust-proxy with its options; those of fastws work too.",
    examples=[
        "fastws rust-proxy -l :443 -t SECRET -f fullchain.pem -k private.pem",
        "fastws rust-proxy -m client -l 127.0.0.1:1080 -t SECRET -p proxy.example",
    ],
)
