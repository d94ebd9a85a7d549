"""Micro benchmarks: one piece of the codec, grouped by size, rivals beside the twins.

``pytest bench/micro --benchmark-only`` runs them. A number here never stands for an
end-to-end one; those are in ``bench/e2e``. picows has no codec that Python could call
and takes part only there.
"""

from types import ModuleType

import pytest

from bench.data import SIZES, payload, size_name
from fastws import _backend


@pytest.fixture(params=["cython", "python"])
def backend(request: pytest.FixtureRequest) -> ModuleType:
    """Each twin; a missing extension is an error: half a report helps nobody."""
    return _backend.load(request.param)


@pytest.fixture(params=SIZES, ids=size_name)
def data(request: pytest.FixtureRequest) -> bytes:
    """The seeded payload of each size."""
    return payload(request.param)
