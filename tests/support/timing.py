"""One unit of time for every time-out of the tests.

A slow or busy machine multiplies all of them at once:
``FASTWS_TEST_TIME_SCALE=4 make test``. Time-outs are only ever reached by a test
that fails; nothing here is slept to wait for something to become ready.
"""

import os

SCALE = float(os.environ.get("FASTWS_TEST_TIME_SCALE", "1"))
"""How much slower this machine is than a quiet one; 1 unless the variable says so."""

UNIT = 0.1 * SCALE
"""Seconds: what a loopback exchange takes at most on a quiet machine."""

SHORT = 40 * UNIT
"""Seconds: one exchange on loopback, however busy the machine; 4 s unscaled.

Less than the defaults that tests tell from it, such as 5 s to connect or to linger.
"""

LONG = 200 * UNIT
"""Seconds: a whole scenario, or a process from start to listening; 20 s unscaled."""


def units(count: float) -> str:
    """``count`` units as the value of an option: ``500ms``."""
    return f"{round(count * UNIT * 1000)}ms"
