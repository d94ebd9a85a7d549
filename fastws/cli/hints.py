"""What to write instead of an option or command that does not exist. Pure."""

from collections.abc import Iterable

_INSTEAD = {
    ("stw", "--path"): "the path stands in the URL",
    ("stw", "--auth-token"): "use --bearer",
    ("stw", "--auth-basic"): "use --basic",
    ("stw", "--client-ca"): "use --ca",
    ("stw", "--token"): "use --bearer",
    ("stw", "--user"): "use --basic",
    ("stw", "--tls"): "write wss:// in the URL",
    ("stw", "--ssl"): "write wss:// in the URL",
    ("stw", "--via"): "use --proxy",
    ("proxy", "--auth-token"): "use --user",
    ("proxy", "--auth-basic"): "use --users",
    ("proxy", "--basic"): "use --user",
    ("proxy", "--bearer"): "use --via-token",
    ("proxy", "--proxy"): "use --via",
    ("proxy", "--path"): "the path stands in the URL of --via",
    ("proxy-server", "--bearer"): "use --auth-token",
    ("proxy-server", "--users"): "use --auth-token",
    ("proxy-server", "--user"): "use --auth-token",
    ("wts", "--bearer"): "use --auth-token",
    ("wts", "--basic"): "use --auth-basic",
    ("wts", "--user"): "use --auth-basic",
    ("wts", "--users"): "use --auth-basic",
    ("wts", "--host"): "use --allow-host",
    ("wts", "--origin"): "use --allow-origin",
    ("wts", "--header-file"): "use -H, or FASTWS_HEADER_FILE",
}
"""Mode, and an option that it does not have: what does the same there."""

_ANYWHERE = {
    "--verbose": "use --log-level debug",
    "--debug": "use --log-level debug",
    "-v": "use --log-level debug",
    "--quiet": "use --log-level error",
    "-q": "use --log-level error",
    "--version": "use fastws --version",
    "-V": "use fastws --version",
    "--tls": "use --cert",
    "--ssl": "use --cert",
    "--port": "the port is part of LISTEN",
    "--listen": "the address is an argument of its own, LISTEN",
}
"""The same for options that other programs have, in any mode."""

_ALIKE = 0.76
_MOST = 5


def instead_of(mode: str, flag: str) -> str:
    """What does the same as ``flag`` in ``mode``, an imperative; empty: unknown."""
    return _INSTEAD.get((mode, flag)) or _ANYWHERE.get(flag, "")


def closest(word: str, known: Iterable[str]) -> list[str]:
    """Those of ``known`` that ``word`` may have been meant to be, the likeliest first.

    Args:
        word: as typed, with its dashes.
        known: names in the same form.
    """
    found = [(likeness(word, name), name) for name in known]
    found.sort(key=lambda pair: (-pair[0], pair[1]))
    return [name for score, name in found if score >= _ALIKE][:_MOST]


def likeness(word: str, name: str) -> float:
    """From 0 to 1; part of a long name, spelt almost right, counts nearly as the whole.

    ``--tokn`` is like ``--auth-token``; ``--verbose`` is not like ``--route``.
    """
    word, name = (text.lower().replace("_", "-") for text in (word, name))
    whole = _ratio(word, name)
    if not name.startswith("-"):  # a command: short, and its letters change places
        return max(whole, 0.9 if sorted(word) == sorted(name) else 0.0)
    if len(name) > 5 and word.startswith(name):  # --certificate
        return max(whole, 0.9)
    bare = word.strip("-")
    parts = [_ratio(bare, part) for part in name.strip("-").split("-")]
    return max(whole, 0.95 * max(parts))


def _ratio(one: str, other: str) -> float:
    from difflib import SequenceMatcher  # noqa: PLC0415 (only for who mistypes)

    return SequenceMatcher(None, one, other, autojunk=False).ratio()


def did_you_mean(names: list[str]) -> str:
    """A sentence with these names, empty without any."""
    if not names:
        return ""
    if len(names) == 1:
        return f" Did you mean {names[0]}?"
    return f" Did you mean {', '.join(names[:-1])} or {names[-1]}?"
