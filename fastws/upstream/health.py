"""Whether an upstream rests after a failure. Pure: the clock is passed in."""

REST = 10.0
"""Seconds that a failed upstream is left alone."""


class Health:
    """What one upstream has shown lately. For use by one event loop.

    Args:
        rest: seconds that it is left alone after a failure.

    Attributes:
        failures: in a row; 0 after a success.
        rests_until: clock time from which on it may be tried again.
    """

    __slots__ = ("failures", "rest", "rests_until")

    def __init__(self, rest: float = REST) -> None:
        self.rest = rest
        self.failures = 0
        self.rests_until = 0.0

    def is_resting(self, now: float) -> bool:
        """Whether it is to be left alone at ``now``."""
        return self.failures > 0 and now < self.rests_until

    def failed(self, now: float) -> None:
        """It could not be reached; the rest begins, or begins again."""
        self.failures += 1
        self.rests_until = now + self.rest

    def tried(self, now: float) -> None:
        """Somebody finds out whether it works again; others leave it alone."""
        if self.failures:
            self.rests_until = now + self.rest

    def worked(self) -> None:
        """It was reached."""
        self.failures = 0
