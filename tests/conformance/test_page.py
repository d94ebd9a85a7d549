"""docs/conformance.md names a test for every case of the suite."""

import importlib.util
import re
from pathlib import Path

import pytest

from tests.support.autobahn import NAMED

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "conformance.md"

SUITE = """
1.1:8 1.2:8 2:11 3:7 4.1:5 4.2:5 5:20
6.1:3 6.2:4 6.3:2 6.4:4 6.5:5 6.6:11 6.7:4 6.8:2 6.9:4 6.10:3 6.11:5 6.12:8 6.13:5
6.14:10 6.15:1 6.16:3 6.17:5 6.18:5 6.19:5 6.20:7 6.21:8 6.22:34 6.23:7
7.1:6 7.3:6 7.5:1 7.7:13 7.9:9 7.13:2
9.1:6 9.2:6 9.3:9 9.4:9 9.5:6 9.6:6 9.7:6 9.8:6 10.1:1
12.1:18 12.2:18 12.3:18 12.4:18 12.5:18
13.1:18 13.2:18 13.3:18 13.4:18 13.5:18 13.6:18 13.7:18
"""
"""Cases of each family in version 0.8.2: 517 in all."""

COUNTS = {
    family: int(count)
    for family, _, count in (word.partition(":") for word in SUITE.split())
}


@pytest.fixture(scope="module")
def named() -> dict[str, str]:
    """Where each case is met, as the tests themselves say."""
    NAMED.clear()
    for path in sorted(HERE.glob("test_*.py")):
        spec = importlib.util.spec_from_file_location(f"cases.{path.stem}", path)
        assert spec is not None
        assert spec.loader is not None
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    return dict(NAMED)


def rows() -> dict[str, list[str]]:
    """Cases and tests of each family's row on the page."""
    found: dict[str, list[str]] = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if match := re.match(r"\| ([\d.]+) \|", line):
            assert match[1] not in found
            found[match[1]] = re.findall(r"`(test_\w+\.py::test_\w+)`", line)
    return found


def test_every_case_of_the_suite_has_a_test(named: dict[str, str]) -> None:
    expected = {
        f"{family}.{number}"
        for family, count in COUNTS.items()
        for number in range(1, count + 1)
    }
    assert set(named) == expected
    assert len(expected) == 517


def test_page_names_the_tests_of_every_family(named: dict[str, str]) -> None:
    tests: dict[str, list[str]] = {family: [] for family in COUNTS}
    for case, where in named.items():
        tests[case.rpartition(".")[0]].append(where)
    assert rows() == {f: list(dict.fromkeys(found)) for f, found in tests.items()}


def test_tests_of_the_page_exist() -> None:
    for found in rows().values():
        for name in found:
            path, _, function = name.partition("::")
            assert f"\ndef {function}(" in (HERE / path).read_text(encoding="utf-8")
