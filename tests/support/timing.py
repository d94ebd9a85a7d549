"""One unit of time for every time-out of the tests.

A slow or busy machine multiplies all of them at once:
``FASTWS_TEST_TIME_SCALE=4 make test``. Time-outs are only ever reached by a test
that fails; nothing here is slept to wait for something to become ready.
"""

import os
import statistics
import time
from collections.abc import Callable

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


DELAYED_ACK = 0.040
"""Seconds: what Nagle's algorithm adds to an exchange (Linux TCP_DELACK_MIN)."""


def never_waits_for_an_ack(exchange: Callable[[], float]) -> bool:
    """Whether most of 11 exchanges in a row are quicker than a delayed ACK.

    With Nagle's algorithm they never are. A busy machine makes many slow, but not for
    as long as is sought here.

    Args:
        exchange: does one; the seconds of it that count.
    """
    end, spent = time.monotonic() + LONG, [exchange() for _ in range(11)]
    while statistics.median(spent[-11:]) > 0.75 * DELAYED_ACK:
        if time.monotonic() > end:
            return False
        spent.append(exchange())
    return True


def units(count: float) -> str:
    """``count`` units as the value of an option: ``500ms``."""
    return f"{round(count * UNIT * 1000)}ms"
