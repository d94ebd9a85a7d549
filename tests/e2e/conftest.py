"""Fixtures of tests that run processes."""

from collections.abc import Iterator

import pytest

from tests.support.cli import Fastws, wts
from tests.support.origin import Origin
from tests.support.services import Service


@pytest.fixture(scope="module")
def far(service: Service) -> Iterator[Fastws]:
    """wts in front of an echo; files with a wts of another kind have their own."""
    with wts(service.port) as process:
        yield process


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    """A web server for proxies; the tests of one file share it."""
    with Origin() as running:
        yield running
