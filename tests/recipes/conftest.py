"""Fixtures of tests of the documentation."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A directory that other users can get to: those above pytest's are closed."""
    with tempfile.TemporaryDirectory(
        prefix="fastws-", ignore_cleanup_errors=True
    ) as name:
        yield Path(name)
