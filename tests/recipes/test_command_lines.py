"""Every command line in README, docs/ and examples/ is one that fastws takes."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from fastws.cli.main import cli
from fastws.cli.options import ModeCommand

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = [path for path in sorted((ROOT / "examples").rglob("*")) if path.is_file()]
PROCESS = ("log_level", "log_format", "log_limit", "workers")
START = re.compile(
    r"(?:^|[\s'\"/=])fastws "
    r"((?:stw|wts|proxy|proxy-server|websockify|ws-proxy|hash-password) [^#|>]*)"
)


def blocks(path: Path) -> Iterator[str]:
    """The code of a page, or the whole of an example, without continued lines."""
    text = path.read_text("utf-8")
    if path.suffix == ".md":
        text = "\n".join(re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S))
    yield from re.sub(r"\\\n\s*", " ", text).splitlines()


def command_lines() -> Iterator[tuple[str, str]]:
    """File and arguments, where nothing is left out of them."""
    for path in [*PAGES, *EXAMPLES]:
        for line in blocks(path):
            found = START.search(line)
            if found and not re.search("…|[.]{3}|──", found[1]):
                text = found[1].partition("   ")[0].rstrip("' ")
                yield path.relative_to(ROOT).as_posix(), text


LINES = sorted(set(command_lines()))


def test_command_lines_found() -> None:
    names = {name for name, _ in LINES}
    assert {"README.md", "docs/tutorial.md", "docs/howto/ssh.md"} <= names
    assert {"examples/nginx/fastws.conf", "examples/ssh/config"} <= names
    assert len(LINES) >= 20


@pytest.mark.parametrize(("name", "text"), LINES)
def test_command_line(name: str, text: str) -> None:
    word, *arguments = shlex.split(text)
    command = cli.get_command(click.Context(cli), word)
    assert command is not None
    ctx = command.make_context(word, arguments)
    if isinstance(command, ModeCommand):
        values = dict(ctx.params)
        process = {name: values.pop(name) for name in PROCESS}
        pairs = values.pop("also", ())
        with ctx:
            more = command.prepare(ctx, values, process)
            specs = command.specs(ctx, values, more, pairs)
        assert len(specs) == 1 + len(pairs)
