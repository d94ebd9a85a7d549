"""Fixtures of tests that break something."""

from collections.abc import Iterator

import pytest

from tests.support.veth import NoVeth, Veth, veth


@pytest.fixture
def cable() -> Iterator[Veth]:
    """A network of its own that can be pulled; skips where there can be none."""
    try:
        with veth() as found:
            yield found
    except NoVeth as reason:
        pytest.skip(str(reason))
