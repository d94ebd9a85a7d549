"""From the table of options to click commands, and from values to a spec."""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from gettext import gettext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from fastws.cli import hints
from fastws.cli.completion import complete
from fastws.cli.variables import misspelt
from fastws.config.kinds import FLAG
from fastws.config.modes import MODES
from fastws.config.options import OPTIONS, Option, options_of
from fastws.config.pairs import expand
from fastws.config.schema import ModeSpec
from fastws.config.secret_file import NOTHING, SecretFile
from fastws.exceptions import ConfigError, FastwsError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    ParamType = click.ParamType[Any]
else:
    ParamType = click.ParamType

_WIDTH = 88
_REPEATED = "fastws.repeated"  # in the meta of a context
_SECRET = {
    "stw": "BEARER",
    "wts": "AUTH_TOKEN",
    "proxy": "USER",
    "proxy-server": "AUTH_TOKEN",
}


class Failure(click.ClickException):
    """Something failed at run time: one line on stderr, exit status 1."""

    exit_code = 1


class Misconfigured(click.ClickException):
    """A well-formed value names something wrong: one line, status 78 (EX_CONFIG)."""

    exit_code = 78


def describe(error: Exception) -> str:
    """An error as one line without numbers: ``127.0.0.1:80: address in use``."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return where + error.strerror
    return str(error) or type(error).__name__


class Text(ParamType):
    """A click type around one of our parsers; a bad value exits with status 2.

    Args:
        name: stands for the value in help and usage.
        parse: raises ``ValueError`` saying what would be right.
    """

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self.parse = parse

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self.parse(value)
        except UnicodeError:
            self.fail("this is not UTF-8", param, ctx)
        except ValueError as error:
            self.fail(str(error), param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> "list[CompletionItem]":
        """What a shell offers: the words to choose from, or names of files."""
        return complete(self.name, incomplete)

    def split_envvar_value(self, rv: str) -> Sequence[str]:
        """A variable holds one value a line; blank lines do not count."""
        return [line.strip() for line in rv.splitlines() if line.strip()]


class ModeOption(click.Option):
    """A click option made from a row of the table.

    Args:
        row: the row.
        mode: the command it belongs to.
    """

    def __init__(self, row: Option, mode: str) -> None:
        self.row = row
        self.mode = mode
        names = [row.flag, *([row.short] if row.short else []), row.attribute]
        if row.kind is FLAG:
            more: dict[str, Any] = {"is_flag": True, "default": False}
        else:
            more = {"metavar": row.kind.metavar, "multiple": row.many}
            more["default"] = row.default
            more["type"] = Text(row.kind.metavar, row.kind.parse)
        super().__init__(names, help=_sentence(row, mode), envvar=row.variable, **more)

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """The variable, or for a secret the contents of the file it may name."""
        value = super().resolve_envvar_value(ctx)
        variable = self.row.file_variable(self.mode)
        if not variable:
            return value
        name = os.environ.get(variable)
        if not name:
            return value
        if value is not None:
            raise Misconfigured(f"{variable}: {self.row.variable} is set too")
        try:
            text = Path(name).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "is not UTF-8"
            raise Misconfigured(f"{variable}: {name}: {reason}") from None
        if not text.strip():
            raise Misconfigured(f"{variable}: {name}: {NOTHING}")
        return text

    def file_of(self, ctx: click.Context) -> SecretFile | None:
        """The file that the value came from, if it came from one."""
        variable = self.row.file_variable(self.mode)
        if not variable or self.place(ctx) != variable:
            return None
        return SecretFile(self.row, variable, os.environ[variable])

    def place(self, ctx: click.Context | None) -> str:
        """Where the value came from: the flag or the variable."""
        if ctx is None or self.name is None:
            return self.row.flag
        if ctx.get_parameter_source(self.name) is not ParameterSource.ENVIRONMENT:
            return self.row.flag
        file_variable = self.row.file_variable(self.mode)
        if file_variable and not os.environ.get(self.row.variable):
            return file_variable
        return self.row.variable

    def get_error_hint(self, ctx: click.Context | None) -> str:
        return f"'{self.place(ctx)}'"


def _sentence(row: Option, mode: str) -> str:
    default = row.default_text(mode)
    return row.help_in(mode) + (f" [{default}]" if default else "")


def _owner(ctx: click.Context, flag: str) -> str:
    """The first other command that shows ``flag`` in its help, or empty."""
    if ctx.parent is None or not isinstance(group := ctx.parent.command, click.Group):
        return ""
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        for param in command.get_params(ctx) if command is not None else ():
            if flag in param.opts and not getattr(param, "hidden", False):
                return name
    return ""


class ModeArgument(click.Argument):
    """LISTEN, URL or TARGET, with a line of its own in the help.

    Args:
        name: attribute of the schema.
        metavar: as shown.
        parse: text to value.
        help: one line for the help text.
        unless: options that make it superfluous.
        many: takes all that is left, be it nothing.
    """

    def __init__(
        self,
        name: str,
        metavar: str,
        parse: Callable[[str], Any],
        help: str,
        *,
        unless: Sequence[str] = (),
        many: bool = False,
    ) -> None:
        super().__init__(
            [name],
            metavar=metavar,
            type=Text(metavar, parse),
            required=not unless and not many,
            nargs=-1 if many else 1,
        )
        self.line = help
        self.unless = unless

    def place(self, ctx: click.Context | None) -> str:
        """How the argument is called in messages."""
        name = (self.metavar or "").removesuffix("...")
        return name[1:-1] if name.endswith("]") else name

    def get_error_hint(self, ctx: click.Context | None) -> str:
        return f"'{self.place(ctx)}'"


class ForeignOption(click.Option):
    """An option as another program spells it.

    Args:
        names: of the option, and the parameter's own.
        fields: attributes of the schema that it decides about.
        more: as for ``click.Option``.
    """

    def __init__(
        self, names: Sequence[str], fields: Sequence[str] = (), **more: Any
    ) -> None:
        super().__init__(names, **more)
        self.fields = fields

    def shell_complete(
        self, ctx: click.Context, incomplete: str
    ) -> "list[CompletionItem]":
        """As for an option of ours with the same metavariable."""
        return complete(self.metavar or "", incomplete)


class RefusedOption(click.Option):
    """An option of another program that has no counterpart here.

    Args:
        names: of the option.
        instead: what to do in its place, an imperative.
        program: whose option it is.
        is_flag: it takes no value.
    """

    def __init__(
        self, names: Sequence[str], instead: str, program: str, *, is_flag: bool
    ) -> None:
        self.instead = instead
        self.program = program
        super().__init__(
            [*names, "refused_" + names[0].strip("-").replace("-", "_")],
            is_flag=is_flag,
            hidden=True,
            expose_value=False,
            callback=self.refuse,
        )

    def refuse(self, ctx: click.Context, param: click.Parameter, value: Any) -> None:
        """Name what to use, if the option was given."""
        if value:
            text = f"{self.opts[0]} is not taken over from {self.program}"
            raise click.UsageError(f"{text}: {self.instead}.", ctx)


class ModeCommand(click.Command):
    """A command of one converting mode: its arguments, and its rows of the table.

    Args:
        mode: key of :data:`fastws.config.options.MODES`.
        arguments: in order.
        run: gets the specs, and by name the options of the process; returns the exit
            status.
        about: first line of the help.
        examples: command lines for the end of the help.
        name: of the command, where it is not the mode's.
        rows: of the table, where it is not all of the mode.
        more: parameters that no table has; :meth:`prepare` uses them up.

    Attributes:
        foreign: heading of options as another program has them.
    """

    foreign = ""

    def __init__(
        self,
        mode: str,
        arguments: Sequence[ModeArgument],
        run: Callable[..., int],
        *,
        about: str,
        examples: Sequence[str],
        name: str = "",
        rows: Sequence[Option] | None = None,
        more: Sequence[click.Parameter] = (),
    ) -> None:
        self.mode = mode
        self.run = run
        self.examples = examples
        self._rows = options_of(mode) if rows is None else rows
        super().__init__(
            name or mode,
            params=[*arguments, *more],
            callback=self.start,
            help=about,
            options_metavar="[OPTION]...",
            context_settings={
                "help_option_names": ["-h", "--help"],
                "max_content_width": _WIDTH,
            },
        )

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """All parameters; options are made here, only for the command that runs."""
        rows, self._rows = self._rows, ()
        self.params += [ModeOption(row, self.mode) for row in rows]
        return super().get_params(ctx)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse; who takes an option of another command is told whose it is."""
        given = list(args)  # parsing takes away from the other one
        try:
            rest = super().parse_args(ctx, args)
            ctx.meta[_REPEATED] = self._repeated(ctx, given)
            return rest
        except click.NoSuchOption as error:
            flag = error.option_name
            text = self._explain(ctx, flag, given)
        except click.BadOptionUsage as error:
            flag, text = error.option_name, error.message
            for param in self.params:
                if flag in param.opts and text.endswith("requires an argument."):
                    text += f" Write {flag} {param.make_metavar(ctx)}."
            raise click.BadOptionUsage(flag, text, ctx=ctx) from None
        raise click.NoSuchOption(flag, text, ctx=ctx) from None

    def _repeated(self, ctx: click.Context, given: list[str]) -> list[str]:
        """A warning for each option that takes one value and was given several."""
        order = self.make_parser(ctx).parse_args(given)[2]
        return [
            f"{param.row.flag} is given {count} times: the last one counts"
            for param, count in Counter(order).items()
            if count > 1 and isinstance(param, ModeOption) and param.row.is_single
        ]

    def _explain(self, ctx: click.Context, flag: str, given: Sequence[str]) -> str:
        """Whose option ``flag`` is, or which one may have been meant."""
        known = [
            name
            for param in self.params
            if not getattr(param, "hidden", False)
            for name in param.opts
            if name.startswith("--")
        ]
        for word in given:  # click takes -ping for -p -i -n -g
            name = word.partition("=")[0]
            if f"-{name}" in known and word.startswith(flag):
                return f"No such option {name!r}: write -{name} with two dashes."
        text = f"No such option {flag!r}"
        instead = hints.instead_of(self.mode, flag)
        if owner := _owner(ctx, flag):
            text += f": it is one of fastws {owner}"
            return f"{text}; {instead}." if instead else f"{text}."
        if instead:
            return f"{text}: {instead}."
        return f"{text}.{hints.did_you_mean(hints.closest(flag, known))}"

    def start(self, /, **values: Any) -> None:
        """Build the spec from what was given, run it, exit with its status."""
        ctx = click.get_current_context()
        names = ("log_level", "log_format", "log_limit", "workers")
        process = {name: values.pop(name) for name in names}
        pairs = values.pop("also", ())
        rows = (param for param in self.params if isinstance(param, ModeOption))
        files = (row.file_of(ctx) for row in rows)
        if secrets := [file for file in files if file is not None]:
            process["secrets"] = secrets
        try:
            more = self.prepare(ctx, values, process)
            self.require(ctx, {**values, **more})
            specs = self.specs(ctx, values, more, pairs)
            if wrong := [*misspelt(os.environ), *ctx.meta[_REPEATED]]:
                process["warnings"] = [*process.get("warnings", ()), *wrong]
            if self.is_quiet(ctx, values):
                process["log_level"] = "warning"
            ctx.exit(self.run(specs, **process))
        except ConfigError as error:
            message = f"{self.place(ctx, error.path)}: {error.reason}"
            raise Misconfigured(message if error.path else error.reason) from None
        except (FastwsError, OSError) as error:
            raise Failure(describe(error)) from None

    def prepare(
        self, ctx: click.Context, values: dict[str, Any], process: dict[str, Any]
    ) -> dict[str, Any]:
        """Turn parameters that no schema has into attributes of the spec.

        Args:
            ctx: of the command.
            values: what was parsed; what is used up is taken out.
            process: named arguments of ``run``, to be changed in place.
        """
        return {}

    def make(self, given: dict[str, Any]) -> ModeSpec:
        """The spec for these attributes."""
        return MODES[self.mode](**given)

    def is_quiet(self, ctx: click.Context, values: Mapping[str, Any]) -> bool:
        """Whether somebody else's terminal would get lines nobody asked for."""
        if ctx.get_parameter_source("log_level") is not ParameterSource.DEFAULT:
            return False
        return getattr(values.get("listen"), "kind", "") in ("stdio", "inetd")

    def require(self, ctx: click.Context, values: Mapping[str, Any]) -> None:
        """Refuse to go without an argument that no option replaces."""
        for param in self.params:
            if isinstance(param, ModeArgument) and param.unless:
                if not any(values.get(name) for name in (param.name, *param.unless)):
                    raise click.MissingParameter(ctx=ctx, param=param)

    def spec(
        self, ctx: click.Context, values: Mapping[str, Any], more: Mapping[str, Any]
    ) -> ModeSpec:
        """Build the spec; what was not given keeps the schema's default."""
        given: dict[str, Any] = {}
        for param in self.params:
            name = param.name or ""
            if ctx.get_parameter_source(name) is ParameterSource.DEFAULT:
                continue
            if name in values:
                negates = isinstance(param, ModeOption) and param.row.negates
                given[name] = not values[name] if negates else values[name]
        return self.make({**given, **more})

    def specs(
        self,
        ctx: click.Context,
        values: Mapping[str, Any],
        more: Mapping[str, Any],
        pairs: Sequence[Any],
    ) -> list[ModeSpec]:
        """All that this process is to run."""
        return expand(self.spec(ctx, values, more), pairs)

    def place(self, ctx: click.Context, name: str) -> str:
        """How the user wrote the attribute ``name``; other names come back as is."""
        for param in self.params:
            if isinstance(param, ForeignOption) and name in param.fields:
                return param.opts[0]
            if param.name == name and isinstance(param, ModeOption | ModeArgument):
                return param.place(ctx)
        return name

    def heading(self, param: click.Parameter) -> str:
        """The group of an option; --help stands in the last one."""
        if isinstance(param, ForeignOption):
            return self.foreign
        row = param.row if isinstance(param, ModeOption) else OPTIONS[-1]
        return row.group_in(self.mode)

    def format_options(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """Write the arguments, then each group under its heading."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            if isinstance(param, ModeArgument):
                row = (param.metavar or "", param.line)
                groups.setdefault("Arguments", []).append(row)
                continue
            record = param.get_help_record(ctx)
            if record is not None:
                groups.setdefault(self.heading(param), []).append(record)
        for heading, rows in groups.items():
            with formatter.section(gettext(heading)):
                formatter.write_dl(rows, col_max=32)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Say how to use variables, then show examples."""
        secret = f"FASTWS_{_SECRET[self.mode]}"
        text = (
            "Each option can be set as a variable: FASTWS_PING=30s for --ping 30s,"
            " one value a line where it repeats."
        )
        rows = (param.row for param in self.params if isinstance(param, ModeOption))
        if any(row.variable == secret for row in rows):
            text += f" A secret may stand in a file: {secret}_FILE."
        with formatter.section("Variables"):
            formatter.write_text(text)
        with formatter.section("Examples"):
            for example in self.examples:
                formatter.write(f"  {example}\n")
