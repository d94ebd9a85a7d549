"""The troubleshooting page knows every message, and only messages that exist."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
LEVELS = ("info", "warning", "error")
HOLE = "…"

# Said for each connection or start, and explained in prose or by itself.
NOT_LISTED = {
    "fastws … … on … to …, TLS …, ping …, …, …",
    "… … id=… in=… out=… …s …",
    "… …: …",
    "…",
    "…: …",
}


def skeleton(text: str) -> str:
    """A format with its holes as ``…``."""
    return re.sub(r"%[-+.\d]*[a-z]|\{[^}]*\}", HOLE, text)


def pieces(text: str) -> list[str]:
    """What stands between holes, if it tells something."""
    return [piece for piece in re.split("…", text) if len(piece.strip(" :;,.()")) > 3]


def strings() -> Iterator[str]:
    """Every text in the sources, with its holes."""
    for path in sorted((ROOT / "fastws").rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                yield "".join(
                    str(part.value) if isinstance(part, ast.Constant) else HOLE
                    for part in node.values
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield skeleton(node.value)


def logged() -> Iterator[str]:
    """The formats given to loggers, from info on."""
    for path in sorted((ROOT / "fastws").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == "logger"
                and node.func.attr in LEVELS
                and isinstance(node.args[0], ast.Constant)
            ):
                yield skeleton(str(node.args[0].value))


def documented() -> list[str]:
    """The messages of the tables."""
    found = []
    for line in PAGE.splitlines():
        if line.startswith("| `"):
            found += re.findall(r"`([^`]+)`", line.split(" | ")[0])
    return found


def test_every_logged_message_is_explained() -> None:
    messages = documented()
    missing = [
        text
        for text in sorted(set(logged()) - NOT_LISTED)
        if not any(
            all(piece.strip() in message for piece in pieces(text))
            for message in messages
        )
    ]
    assert missing == []


def test_every_explained_message_exists() -> None:
    source = "\n".join(strings())
    system = ("address already in use", "permission denied", "connection refused")
    system += ("too many open files",)
    wrong = [
        (message, piece)
        for message in documented()
        for piece in pieces(message.replace(": ", HOLE))
        if piece.strip(" :,;") not in source
        and piece.strip(" :,;") not in system
        and not re.match(r"the server answered HTTP \d+|proxy ", piece)
    ]
    assert wrong == []
