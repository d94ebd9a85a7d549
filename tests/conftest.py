"""Fixtures for every test: the twins, and a service to reach."""

import gc
import os
import re
from collections.abc import Iterator
from types import ModuleType

import pytest
from hypothesis import HealthCheck, settings

from fastws import _backend
from tests.support.services import Service, echo
from tests.support.surroundings import forget_surroundings

forget_surroundings()
settings.register_profile(
    "busy machine",
    parent=settings(),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("busy machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse names that differ in each run: the processes of a run compare them."""
    for item in items:
        if re.search(r" at 0x|/tmp|/fastws-certs-", item.nodeid):
            raise pytest.UsageError(f"{item.nodeid}: has no lasting name; give ids=")


def pytest_collection_finish() -> None:
    """Keep what stands for all tests out of every garbage collection.

    To go through thousands of tests takes a third of a second of the processor, on a
    busy machine seconds, in the midst of tests that have less.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(params=["python", "cython"])
def backend(request: pytest.FixtureRequest) -> ModuleType:
    """Each twin in turn, whichever this process uses itself.

    A missing extension skips, unless ``FASTWS_REQUIRE_SPEEDUPS`` says it must be there.
    """
    try:
        return _backend.load(request.param)
    except ImportError as error:
        if os.environ.get("FASTWS_REQUIRE_SPEEDUPS", "0") not in ("", "0"):
            raise
        pytest.skip(str(error))


@pytest.fixture
def twins() -> tuple[ModuleType, ModuleType]:
    """Both twins, pure first, for calls that are compared."""
    try:
        return _backend.load("python"), _backend.load("cython")
    except ImportError as error:
        if os.environ.get("FASTWS_REQUIRE_SPEEDUPS", "0") not in ("", "0"):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """Echoes; the tests of one file share it."""
    with Service(echo) as running:
        yield running
