"""What every source file keeps to, beyond what the linters see."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = {".py", ".pyi", ".pyx", ".pxd", ".pxi", ".c", ".h", ".md", ".toml", ".yml"}
TEXT |= {".yaml", ".json", ".in", ".txt", ".sh", ""}
MAX_LINES = {".py": 500, ".pyi": 500, ".pyx": 900, ".pxi": 900, ".pxd": 500}
MAX_FUNCTION = 40  # lines, without its docstring

# Functions that may be longer, each with the reason.
LONG_FUNCTIONS: dict[str, str] = {}

# Written in pieces, so that this file does not contain what it looks for.
UNFINISHED = re.compile(r"\b(TO" + "DO|FIX" + "ME|XX" + "X)\\b")
PLACES = ("roo" + "t", r"home/\w+", "wor" + "k", "tmp/ven" + "v")
MACHINE_PATH = re.compile(rf"(?<![\w.~$)}}])/({'|'.join(PLACES)})/")


def listed_files() -> list[Path]:
    """The files of the project: what git knows or would add, else all."""
    if (ROOT / ".git").exists():
        mine = f"safe.directory={ROOT}"  # whoever owns the checkout
        command = ["git", "-c", mine, "ls-files", "-z", "-co", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        paths = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    else:
        paths = list(ROOT.rglob("*"))
    return sorted({path for path in paths if path.is_file()})


# What the fuzzer keeps are bytes, whatever they look like.
CORPUS = ROOT / "tests" / "fuzz" / "corpus"
FILES = [
    path
    for path in listed_files()
    if path.suffix in TEXT and CORPUS not in path.parents
]
SOURCES = [path for path in FILES if path.suffix in MAX_LINES]
MODULES = [path for path in SOURCES if path.suffix == ".py"]


def label(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_files_found() -> None:
    names = {label(path) for path in FILES}
    assert {"pyproject.toml", "fastws/exceptions.py", "tests/conftest.py"} <= names
    assert len(MODULES) > 20


@pytest.mark.parametrize("path", SOURCES, ids=label)
def test_file_is_short(path: Path) -> None:
    lines = len(path.read_text("utf-8").splitlines())
    assert lines <= MAX_LINES[path.suffix]


def function_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from ``def`` to the end, less those of the docstring."""
    assert node.end_lineno is not None
    total = node.end_lineno - node.lineno + 1
    first = node.body[0]
    if ast.get_docstring(node, clean=False) is not None:
        assert first.end_lineno is not None
        total -= first.end_lineno - first.lineno + 1
    return total


def long_functions(path: Path) -> dict[str, int]:
    """The functions of a file that are longer than they may be, and how long."""
    found = {}
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = function_lines(node)
            if lines > MAX_FUNCTION:
                found[f"{label(path)}:{node.name}"] = lines
    return found


@pytest.mark.parametrize("path", MODULES, ids=label)
def test_functions_are_short(path: Path) -> None:
    found = long_functions(path)
    assert {k: v for k, v in found.items() if k not in LONG_FUNCTIONS} == {}


def test_exceptions_for_long_functions_are_needed() -> None:
    needed = {name for path in MODULES for name in long_functions(path)}
    assert set(LONG_FUNCTIONS) <= needed


@pytest.mark.parametrize("path", FILES, ids=label)
def test_file_is_finished_and_portable(path: Path) -> None:
    text = path.read_text("utf-8")
    for number, line in enumerate(text.splitlines(), 1):
        assert not UNFINISHED.search(line), f"line {number}: {line.strip()}"
        assert not MACHINE_PATH.search(line), f"line {number}: {line.strip()}"
    assert text.endswith("\n") or not text, "no newline at the end"
    assert "\r" not in text


@pytest.mark.parametrize("path", MODULES, ids=label)
def test_no_test_or_function_is_defined_twice(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    for scope in ast.walk(tree):
        if not isinstance(scope, ast.Module | ast.ClassDef):
            continue
        names = [
            node.name
            for node in scope.body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and not node.decorator_list
        ]
        assert len(names) == len(set(names)), sorted(names)


@pytest.mark.parametrize(
    "line",
    ["cd /roo" + "t/x", "see '/wor" + "k/main'", "open('/home/" + "me/x')"],
)
def test_machine_path_is_recognised(line: str) -> None:
    assert MACHINE_PATH.search(line)


@pytest.mark.parametrize("line", ["~/wor" + "k/", "https://a.example/roo" + "t/"])
def test_other_path_is_not_taken_for_one(line: str) -> None:
    assert not MACHINE_PATH.search(line)
