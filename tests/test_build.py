"""The three build modes, what the sdist carries, and what git must not.

Each build runs in a copy of the sources, so that it neither uses nor leaves
anything in the checkout.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastws

ROOT = Path(__file__).parent.parent
NEEDED = ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE")
WARNING = "fastws is built without its compiled twin"
BROKEN_CC = {"CC": "false", "CXX": "false"}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what a build reads, without anything already built."""
    copy = tmp_path / "tree"
    copy.mkdir()
    for name in NEEDED:
        shutil.copy(ROOT / name, copy)
    built = shutil.ignore_patterns("__pycache__", "*.so", "*.pyd", "*.c")
    shutil.copytree(ROOT / "fastws", copy / "fastws", ignore=built)
    return copy


def setup_py(
    tree: Path, mode: str | None, *arguments: str, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run ``setup.py`` with one build mode; ``None`` leaves the variable unset."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("FASTWS_")}
    chosen = {} if mode is None else {"FASTWS_BUILD_EXTENSION": mode}
    return subprocess.run(
        [sys.executable, "setup.py", *arguments],
        cwd=tree,
        env=clean | chosen | env,
        capture_output=True,
        text=True,
    )


def backend(tree: Path, library: str = "lib") -> str:
    """The backend of what was built into ``library``.

    ``-S``: an editable install would lend the checkout's extension to it.
    """
    code = "import fastws; print(fastws.__file__, fastws.BACKEND)"
    result = subprocess.run(
        [sys.executable, "-S", "-c", code],
        cwd=tree / library,
        env={k: v for k, v in os.environ.items() if not k.startswith("FASTWS_")},
        capture_output=True,
        text=True,
        check=True,
    )
    file, name = result.stdout.split()
    assert Path(file) == tree / library / "fastws" / "__init__.py"
    return name


def extensions(tree: Path) -> list[str]:
    return sorted(
        path.name.partition(".")[0]
        for path in (tree / "lib").rglob("*")
        if path.suffix in {".so", ".pyd"}
    )


def test_build_no_makes_no_extension(tree: Path) -> None:
    result = setup_py(tree, "no", "build", "--build-lib=lib")
    assert result.returncode == 0, result.stderr
    assert WARNING not in result.stderr
    assert extensions(tree) == []
    assert backend(tree) == "python"


@pytest.mark.parametrize("mode", ["auto", None])
def test_build_auto_without_compiler_warns_once(tree: Path, mode: str | None) -> None:
    result = setup_py(tree, mode, "build", "--build-lib=lib", **BROKEN_CC)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count(WARNING) == 1
    assert extensions(tree) == []
    assert backend(tree) == "python"


def test_build_yes_without_compiler_fails(tree: Path) -> None:
    (tree / "fastws" / "_speedups.pyx").write_text("value = 1\n")
    (tree / "fastws" / "_speedups.pxd").write_text("")
    result = setup_py(tree, "yes", "build", "--build-lib=lib", **BROKEN_CC)
    assert result.returncode != 0
    assert extensions(tree) == []


def test_build_auto_with_broken_source_fails(tree: Path) -> None:
    """The probe passes, so the mistake is ours and must not end in a pure build."""
    (tree / "fastws" / "_speedups.pyx").write_text("cdef int broken(:\n")
    result = setup_py(tree, "auto", "build", "--build-lib=lib")
    assert result.returncode != 0
    assert WARNING not in result.stderr


def test_build_mode_unknown_is_refused(tree: Path) -> None:
    result = setup_py(tree, "maybe", "build", "--build-lib=lib")
    assert result.returncode != 0
    assert "FASTWS_BUILD_EXTENSION=maybe: use auto, yes or no" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["auto", "yes"])
def test_build_makes_extension(tree: Path, mode: str) -> None:
    result = setup_py(tree, mode, "build", "--build-lib=lib")
    assert result.returncode == 0, result.stderr
    assert WARNING not in result.stderr
    assert extensions(tree) == ["_speedups"]
    assert backend(tree) == "cython"


def test_sdist_carries_cython_sources(tree: Path) -> None:
    result = setup_py(tree, None, "sdist", "--dist-dir=out")
    assert result.returncode == 0, result.stderr
    (archive,) = (tree / "out").glob("fastws-*.tar.gz")
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    cython = {"*.pyx", "*.pxd", "*.pxi", "*.pyi"}
    sources = {p for pattern in cython for p in (ROOT / "fastws").glob(pattern)}
    wanted = {path.relative_to(ROOT).as_posix() for path in sources}
    assert {"fastws/_speedups.pyx", "fastws/_speedups.pxd"} <= wanted
    assert wanted | {*NEEDED, "fastws/py.typed", "fastws/_speedups_py.py"} <= names
    assert not [name for name in names if name.endswith((".c", ".so"))]


def test_wheel_carries_every_package_and_no_sources(tree: Path) -> None:
    result = setup_py(tree, "no", "build", "--build-lib=lib")
    assert result.returncode == 0, result.stderr
    built = {p.relative_to(tree / "lib") for p in (tree / "lib").rglob("*.py")}
    assert built == {p.relative_to(ROOT) for p in (ROOT / "fastws").rglob("*.py")}
    others = {p.name for p in (tree / "lib").rglob("*") if p.is_file()}
    others = {name for name in others if not name.endswith(".py")}
    assert others == {"py.typed", "_speedups.pyi"}


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout")
def test_git_holds_nothing_generated() -> None:
    command = ["git", "-c", f"safe.directory={ROOT}", "ls-files"]
    listed = subprocess.run(
        command, cwd=ROOT, check=True, capture_output=True, text=True
    )
    names = listed.stdout.splitlines()
    assert "setup.py" in names
    generated = (".so", ".pyd", ".o", ".pyc", ".whl", ".tar.gz")
    assert not [name for name in names if name.endswith(generated)]
    c_files = [name for name in names if name.endswith((".c", ".h"))]
    assert not [name for name in c_files if not name.startswith("bench/")]


def test_version_has_one_source() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "version" not in project
    assert project["dynamic"] == ["version"]
    texts = [path.read_text("utf-8") for path in (ROOT / "fastws").rglob("*.py")]
    literal = re.compile(r'^__version__(?:: \w+)? = "(.*)"$', re.MULTILINE)
    (version,) = [found for text in texts for found in literal.findall(text)]
    changes = (ROOT / "CHANGELOG.md").read_text()
    newest = re.search(r"^## (\S+)", changes, re.MULTILINE)
    assert newest is not None
    assert newest[1] == version == fastws.__version__


def test_wheels_are_tested_with_the_pinned_tools() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wheels = tomllib.loads((ROOT / "cibuildwheel.toml").read_text())
    used = wheels["tool"]["cibuildwheel"]["test-requires"]
    assert used
    assert set(used) <= set(project["optional-dependencies"]["test"])


def test_wheels_are_tested_with_all_that_their_tests_import() -> None:
    wheels = tomllib.loads((ROOT / "cibuildwheel.toml").read_text())
    options = wheels["tool"]["cibuildwheel"]
    ours = {re.split("[<>=]", line)[0].replace("-", "_") for line in _required()}
    theirs = {
        line.partition("==")[0].replace("-", "_") for line in options["test-requires"]
    }
    known = {*sys.stdlib_module_names, *ours, *theirs, "fastws", "tests", "yaml"}
    (ignored,) = re.findall(r"--ignore (\S+)", options["test-command"])
    folders = re.findall(r" (tests/\w+)(?= |$)", options["test-command"])
    files = [path for name in folders for path in (ROOT / name).rglob("*.py")]
    assert len(files) > 100
    for path in files:
        if path != ROOT / ignored:
            names = {name.partition(".")[0] for name in _imported(path)}
            assert names <= known, path


def _required() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [line.partition(";")[0] for line in project["dependencies"]]


def _imported(path: Path) -> Iterator[str]:
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None
            yield node.module
