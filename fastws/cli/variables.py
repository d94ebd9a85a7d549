"""Variables that were meant for an option, but spell it wrong. Pure."""

from collections.abc import Iterable, Iterator

from fastws.config.modes import MODES
from fastws.config.options import OPTIONS

_PREFIX = "FASTWS_"
_OTHERS = ("PURE", "LOOP", "BUILD_EXTENSION", "REQUIRE_SPEEDUPS", "TEST_TIME_SCALE")


def misspelt(names: Iterable[str]) -> Iterator[str]:
    """Say of each variable that nothing reads which one was probably meant.

    Those that resemble none say nothing: the prefix is not ours alone (Kubernetes
    sets ``FASTWS_PORT`` and more beside a service of this name).

    Args:
        names: of all variables.

    Yields:
        A line for the log.
    """
    words = {name.removeprefix(_PREFIX) for name in names if name.startswith(_PREFIX)}
    if not words:
        return
    known = set(_OTHERS)
    for option in OPTIONS:
        found = [option.variable, *(option.file_variable(mode) for mode in MODES)]
        known.update(name.removeprefix(_PREFIX) for name in found if name)
    for word in sorted(words - known):
        shapes = _shapes(word)
        for like in sorted(known):
            if abs(len(like) - len(word)) < 2 and not shapes.isdisjoint(_shapes(like)):
                yield f"{_PREFIX}{word}: no option reads this; {_PREFIX}{like} is one"
                break


def _shapes(word: str) -> set[str]:
    """The word, and the word without one letter: a slip leaves two words one."""
    return {word, *(word[:at] + word[at + 1 :] for at in range(len(word)))}
