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


# Errors and calls that end in front of a user, and which argument the reason is.
REFUSALS = dict.fromkeys(
    (
        *("Misconfigured", "Failure", "UsageError", "BadParameter", "Refusal"),
        *("NoUpstream", "DialTimeout", "DialError", "Denied", "_refuse"),
    ),
    0,
)
REFUSALS |= {"ConfigError": 1, "ListenError": 1, "NoTarget": 1, "refuse": 1}
OTHERS = {"ws", "wire", "upstream", "_copyloop_py.py"}  # a library; what peers break


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


def called(node: ast.Call) -> str:
    """The name that is called."""
    function = node.func
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def written(node: ast.expr) -> str:
    """A text with its holes; what is no text is one hole."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return skeleton(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(
            str(part.value) if isinstance(part, ast.Constant) else HOLE
            for part in node.values
        )
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return written(node.left) + written(node.right)
    return HOLE


def refused() -> Iterator[str]:
    """What the command line, a start, a dial and a request are refused with."""
    for path in sorted((ROOT / "fastws").rglob("*.py")):
        if path.relative_to(ROOT / "fastws").parts[0] in OTHERS:
            continue
        for function in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from refused_by(function)


def refused_by(function: ast.AST) -> Iterator[str]:
    """The same of one function; a reason may have got a name before."""
    nodes = list(ast.walk(function))
    named = [
        (target.id, node.value)
        for node in nodes
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    ]
    for node in nodes:
        if not isinstance(node, ast.Call) or called(node) not in REFUSALS:
            continue
        arguments = [*node.args, *(word.value for word in node.keywords)]
        arguments = arguments[REFUSALS[called(node)] :]
        names = {value.id for value in arguments if isinstance(value, ast.Name)}
        arguments += [value for name, value in named if name in names]
        for text in map(written, arguments):
            if " " in text and pieces(text):  # else a name
                yield text


def is_covered(text: str, messages: list[str]) -> bool:
    """Whether a message of the page says the same, or has a hole for it."""
    for message in messages:
        if all(piece.strip() in message for piece in pieces(text)):
            return True
        pattern = ".*".join(map(re.escape, message.split(HOLE)))
        if len(message) > 6 and re.fullmatch(pattern, text) is not None:
            return True
        # The option or file stands in front.
        if len(message) > 6 and re.fullmatch(pattern, f"x: {text}") is not None:
            return True
    return False


def documented() -> list[str]:
    """The messages of the tables."""
    found = []
    for line in PAGE.splitlines():
        if line.startswith("| `"):
            found += re.findall(r"`([^`]+)`", line.split(" | ")[0])
    return found


def test_every_refusal_is_explained() -> None:
    messages = documented()
    texts = sorted(set(refused()))
    assert len(texts) > 80
    assert [text for text in texts if not is_covered(text, messages)] == []


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
    system += (
        "too many open files",
        "Broken pipe",
        "Invalid value for '",
    )  # the latter of click
    wrong = [
        (message, piece)
        for message in documented()
        for piece in pieces(message.replace(": ", HOLE))
        if piece.strip(" :,;") not in source
        and piece.strip(" :,;") not in system
        and not re.match(r"the server answered HTTP \d+|proxy ", piece)
    ]
    assert wrong == []
