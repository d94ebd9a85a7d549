"""Fixtures of tests that run processes."""

from collections.abc import Iterator

import pytest

from tests.support.cli import Fastws, wts
from tests.support.services import Service


@pytest.fixture(scope="module")
def far(service: Service) -> Iterator[Fastws]:
    """wts in front of an echo; files with a wts of another kind have their own."""
    with wts(service.port) as process:
        yield process
