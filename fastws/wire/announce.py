"""How two fastws ends recognise each other: the X-Fastws field pair and its signals.

Source: docs/wire.md, "Announcement" and "Signals". Grammar of the field::

    name "/" version *( OWS ";" OWS token [ "=" token ] )

A field that is repeated, malformed or incomplete counts as absent: the other end is a
stranger then, which is always safe.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import NamedTuple

from fastws.exceptions import LocalProtocolError
from fastws.wire.head import TCHAR

HEADER = "X-Fastws"
"""The field, in request and answer."""

NAMES = frozenset({"tcp", "udp", "wsp", "pool", "centre"})
"""What may be announced; every name is at version 1."""

SIGNAL_CONFIRM = b"C"
"""Client's first data message: the proof arrived, what follows is fastws to fastws."""

SIGNAL_FIN = b"F"
"""No more data from me."""

SIGNAL_RESET = b"R"
"""My side was reset, what I had queued is dropped, Close 1011 follows."""

_is_id = re.compile(r"[0-9a-f]{16}").fullmatch
_split = re.compile(
    rf"([a-z]+)/([1-9][0-9]{{0,2}})((?:[ \t]*;[ \t]*{TCHAR}+(?:={TCHAR}+)?)*)"
).fullmatch
_parameters = re.compile(rf"({TCHAR}+)(?:=({TCHAR}+))?").findall


class Offer(NamedTuple):
    """What a client announced.

    Attributes:
        id: 16 lower-case hex digits, in the logs of both ends.
        name: what the connection carries, one of ``NAMES``.
        version: the highest version the client speaks.
        params: further parameters; ``""`` for one without a value.
    """

    id: str
    name: str
    version: int
    params: Mapping[str, str]


class Answer(NamedTuple):
    """What a server answered, its proof checked.

    Attributes:
        name: the name offered.
        version: at most the one offered.
        params: further parameters; ``""`` for one without a value.
    """

    name: str
    version: int
    params: Mapping[str, str]


def make_id(random8: bytes) -> str:
    """Return the ID of a connection from 8 fresh random bytes.

    Raises:
        LocalProtocolError: not exactly 8 bytes.
    """
    if len(random8) != 8:
        raise LocalProtocolError("an X-Fastws id is made of 8 bytes")
    return random8.hex()


def proof(id: str, name_version: str) -> str:
    """Return what only a server that read ``id`` as an announcement answers.

    The first 16 hex digits of SHA-256 over the ASCII of both, so that a server which
    merely echoes fields is not mistaken for fastws. It is no authentication.
    """
    return hashlib.sha256((id + name_version).encode("ascii")).hexdigest()[:16]


def format_offer(
    id: str,
    name: str = "tcp",
    version: int = 1,
    params: Mapping[str, str] | None = None,
) -> str:
    """Return the value of the client's field.

    Raises:
        LocalProtocolError: a value does not fit the grammar.
    """
    if not _is_id(id):
        raise LocalProtocolError(f"X-Fastws id {id!r} is not 16 lower-case hex digits")
    return _format(name, version, "id", id, params)


def parse_offer(values: list[str]) -> Offer | None:
    """Read the client's field.

    Args:
        values: of all fields called ``X-Fastws``, as ``Head.get_all`` returns them.

    Returns:
        ``None`` when the client is a stranger: no field, two, a malformed one, an
        unknown name, or an id that is not 16 lower-case hex digits.
    """
    found = _parse(values)
    if found is None:
        return None
    name, version, params = found
    id = params.pop("id", "")
    return Offer(id, name, version, params) if _is_id(id) else None


def format_answer(
    offer: Offer, *, version: int = 1, params: Mapping[str, str] | None = None
) -> str:
    """Return the value of the server's field: the same name, with proof.

    Args:
        offer: as parsed; whether its name fits this server is for the caller.
        version: the highest one this server speaks for that name.
        params: further parameters of ours.

    Raises:
        LocalProtocolError: a value does not fit the grammar.
    """
    version = min(version, offer.version)
    evidence = proof(offer.id, f"{offer.name}/{version}")
    return _format(offer.name, version, "proof", evidence, params)


def parse_answer(
    values: list[str], id: str, name: str = "tcp", version: int = 1
) -> Answer | None:
    """Read the server's field and verify its proof.

    Args:
        values: of all fields called ``X-Fastws``.
        id: the one that was offered.
        name: the one that was offered.
        version: the one that was offered, at most this one is accepted.

    Returns:
        ``None`` when the server is a stranger.
    """
    found = _parse(values)
    if found is None:
        return None
    answered, spoken, params = found
    evidence = params.pop("proof", "")
    if answered != name or spoken > version:
        return None
    if evidence != proof(id, f"{answered}/{spoken}"):
        return None
    return Answer(answered, spoken, params)


def check_answer(
    values: list[str], id: str, name: str = "tcp", version: int = 1
) -> tuple[str, int] | None:
    """Return name and version of a valid answer, as ``parse_answer``."""
    answer = parse_answer(values, id, name, version)
    return None if answer is None else (answer.name, answer.version)


def _parse(values: list[str]) -> tuple[str, int, dict[str, str]] | None:
    if len(values) != 1:
        return None
    match = _split(values[0])
    if match is None or match[1] not in NAMES:
        return None
    pairs = _parameters(match[3])
    params: dict[str, str] = dict(pairs)
    if len(params) != len(pairs):  # a parameter twice is malformed
        return None
    return match[1], int(match[2]), params


def _format(
    name: str, version: int, own: str, value: str, params: Mapping[str, str] | None
) -> str:
    text = f"{name}/{version}; {own}={value}"
    for key, item in (params or {}).items():
        text += f"; {key}={item}" if item else f"; {key}"
    if _parse([text]) is None:
        raise LocalProtocolError(f"X-Fastws cannot carry {text!r}")
    return text
