"""Fixtures of tests beside other programs and libraries."""

from collections.abc import Iterator

import pytest

from tests.support.cli import Fastws, wts
from tests.support.services import Switch, echo


@pytest.fixture(scope="module")
def switch() -> Iterator[Switch]:
    """The service behind everything in a file; a test may change what it does."""
    with Switch(echo) as service:
        yield service


@pytest.fixture(scope="module")
def far(switch: Switch) -> Iterator[Fastws]:
    """wts in front of it; files with a wts of another kind have their own."""
    with wts(switch.port) as process:
        yield process
