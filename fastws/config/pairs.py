"""Several pairs in one process: ``--also LISTEN=URL`` or ``LISTEN=TARGET``. Pure."""

import re
from collections.abc import Sequence
from typing import Any, Self

import msgspec

from fastws.config.endpoint import Listen, Target, WsUrl
from fastws.config.schema import ModeSpec, TcpToWs
from fastws.exceptions import ConfigError


class Pair(msgspec.Struct, frozen=True):
    """One more address to listen on, and what stands behind it.

    Attributes:
        listen: where to accept.
        text: what stands behind it, as written: a URL in stw, a TARGET in wts.
    """

    listen: Listen
    text: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``LISTEN=URL`` or ``LISTEN=TARGET``; the first ``=`` divides.

        Raises:
            ValueError: another form.
        """
        listen, equals, other = text.strip().partition("=")
        if not equals or not other.strip():
            raise ValueError("a pair has two sides; write LISTEN=URL or LISTEN=TARGET")
        is_url = re.match(r"wss?://", other.strip(), re.IGNORECASE)
        (WsUrl if is_url else Target).parse(other)
        return cls(Listen.parse(listen), other.strip())


def expand(spec: ModeSpec, pairs: Sequence[Pair]) -> list[ModeSpec]:
    """The spec, and one more like it for each pair: every other option is shared.

    Raises:
        ConfigError: a pair does not fit the mode, or listens where another does.
    """
    specs, listens = [spec], [spec.listen]  # type: ignore[attr-defined]
    for pair in pairs:
        new: dict[str, Any] = {"listen": pair.listen}
        if isinstance(spec, TcpToWs):
            new["upstream"] = pair.text
        else:
            new |= {"target": pair.text, "more_targets": ()}
        if any(_same(pair.listen, other) for other in listens):
            raise ConfigError("also", f"{pair.listen} is listened on twice")
        listens.append(pair.listen)
        try:
            specs.append(msgspec.structs.replace(spec, **new))
        except ConfigError as error:
            raise ConfigError("also", f"{pair.listen}: {error.reason}") from None
    return specs


def _same(a: Listen, b: Listen) -> bool:
    """Whether two addresses cannot both be listened on."""
    if a.kind != b.kind or (a.port == 0 and a.hosts):
        return False
    mine = (a.port, a.path, a.fd)
    return mine == (b.port, b.path, b.fd) and (a.hosts == b.hosts)
