"""Which target a request goes to: a route, a token, or the TARGETs themselves.

Routes come first, those that name a Host before others, exact paths before prefixes,
longer prefixes before shorter ones. Then tokens. Made only when one of these is in
use: a single TARGET needs no choice.
"""

import hashlib
import logging
import os
from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeAlias
from urllib.parse import parse_qs, unquote

from fastws.config.endpoint import Target
from fastws.config.routes import BrokenLine, Route, parse_tokens
from fastws.config.schema import WsToTcp
from fastws.exceptions import ConfigError
from fastws.modes.parts import files_of
from fastws.net.dial import Dialer
from fastws.net.tls import explain_os
from fastws.upstream.group import Group
from fastws.wire.handshake import host_matches

logger = logging.getLogger("fastws.modes")

Way: TypeAlias = Dialer | Group
"""What a request is dialled through."""

_MAX_TOKENS = 1_000_000
_MAX_REPORTED = 20  # broken lines of one reading that are logged


class NoTarget(Exception):
    """The request names no target.

    Attributes:
        status: what HTTP calls it: 403 for a token, 404 for a path.
        reason: for the log; repeats neither token nor query.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Tokens:
    """The targets of a token file. One event loop.

    Tokens are looked up by a keyed hash: how long that takes says nothing about how
    much of a guess was right.

    Args:
        path: the file, or a directory of files.
    """

    __slots__ = ("_key", "_targets", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self._key = os.urandom(32)
        self._targets: dict[bytes, Target] = {}

    def __len__(self) -> int:
        return len(self._targets)

    @property
    def targets(self) -> Iterable[Target]:
        """Every target that a token leads to."""
        return self._targets.values()

    def find(self, token: str) -> Target | None:
        """The target of ``token``."""
        return self._targets.get(self._hash(token))

    def _hash(self, token: str) -> bytes:
        text = token.encode("utf-8", "surrogateescape")
        return hashlib.blake2b(text, key=self._key, digest_size=32).digest()

    def read(self) -> dict[bytes, Target]:
        """What the file holds, for :meth:`use`; any thread may call it.

        Broken lines are logged, the good ones count.

        Raises:
            ConfigError: it cannot be read, or has lines and not a usable one among
                them.
        """
        found: dict[bytes, Target] = {}
        broken = 0
        for name, text in self._texts():
            for item in parse_tokens(text):
                if isinstance(item, BrokenLine):
                    broken += 1
                    if broken <= _MAX_REPORTED:
                        where = f"--token-file {name}: line {item.number}"
                        logger.warning("%s: %s", where, item.reason)
                    continue
                found[self._hash(item[0])] = item[1]
        if broken and not found:
            raise ConfigError(f"--token-file {self.path}", "has no usable line")
        if len(found) > _MAX_TOKENS:
            raise ConfigError(f"--token-file {self.path}", "has over 1000000 tokens")
        return found

    def use(self, found: dict[bytes, Target]) -> dict[bytes, Target]:
        """Lead by these tokens, and no others, from now on; returns the old ones."""
        old, self._targets = self._targets, found
        return old

    def _texts(self) -> list[tuple[str, str]]:
        name = self.path
        texts = []
        try:
            for name in files_of(self.path):
                with open(name, encoding="utf-8", errors="surrogateescape") as file:
                    texts.append((name, file.read()))
        except OSError as error:
            reason = f"cannot be read: {explain_os(error)}"
            raise ConfigError(f"--token-file {name}", reason) from error
        return texts


class Targets:
    """Chooses the way of each request. One event loop.

    Args:
        spec: with routes, a token file, or several targets.
        make_dialer: a dialer for one target.

    Attributes:
        tokens: those of the token file.
        ways: every way made so far, by the target; several share the empty tuple's.
    """

    def __init__(self, spec: WsToTcp, make_dialer: Callable[[Target], Dialer]) -> None:
        self.path = spec.path
        self.tokens = Tokens(spec.token_file) if spec.token_file is not None else None
        self._make_dialer = make_dialer
        self._dialers: dict[Target, Dialer] = {}
        self._default: Way | None = None
        if len(spec.targets) > 1:
            self._default = Group([make_dialer(target) for target in spec.targets])
        elif spec.targets:
            self._default = self._dialer(spec.targets[0])
        self._routes = [
            (route, self._dialer(route.target)) for route in in_order(spec.route)
        ]
        if self.tokens is not None:
            self.tokens.use(self.tokens.read())

    def _dialer(self, target: Target) -> Dialer:
        dialer = self._dialers.get(target)
        if dialer is None:
            dialer = self._dialers[target] = self._make_dialer(target)
        return dialer

    @property
    def dialers(self) -> list[Dialer]:
        """Every dialer made so far."""
        group = self._default if isinstance(self._default, Group) else None
        members = [] if group is None else group.balancer.members
        return [*self._dialers.values(), *(member.item for member in members)]

    def read_tokens(self) -> Callable[[], dict[bytes, Target]]:
        """Read the token file again; to be called: puts it into use, returns the old.

        Raises:
            ConfigError: see :meth:`Tokens.read`.
        """
        assert self.tokens is not None
        found = self.tokens.read()
        gone = set(self._dialers) - {route.target for route, _ in self._routes}
        for target in found.values():
            gone.discard(target)
        return partial(self._use_tokens, found, gone)

    def _use_tokens(
        self, found: dict[bytes, Target], gone: set[Target]
    ) -> dict[bytes, Target]:
        assert self.tokens is not None
        old = self.tokens.use(found)
        for target in gone:
            if self._dialers.get(target) is not self._default:
                self._dialers.pop(target, None)
        logger.info("--token-file %s: %d tokens", self.tokens.path, len(self.tokens))
        return old

    def has_path(self, host: str, path: str) -> bool:
        """Whether an upgrade of ``path`` could lead anywhere."""
        if self._routed(host, path) is not None:
            return True
        if self.path is not None and path != self.path:
            return False
        return self._default is not None or self.tokens is not None

    def choose(self, host: str, target: str) -> Way:
        """The way of a request.

        Args:
            host: the Host that it names.
            target: path and query, as sent.

        Raises:
            NoTarget: there is none.
        """
        path, _, query = target.partition("?")
        way: Way | None = self._routed(host, path)
        if way is not None:
            return way
        if self.path is not None and path != self.path:
            where = "there" if self.tokens is not None else f"at {path}"
            raise NoTarget(404, f"nothing {where} (--path, --route)")
        if self.tokens is not None:
            way = self._by_token(self.tokens, path, query)
        way = way or self._default
        if way is None:
            if self.tokens is not None:
                raise NoTarget(403, "the request names no token (--token-file)")
            raise NoTarget(404, f"nothing at {path} (--route)")
        return way

    def _routed(self, host: str, path: str) -> Dialer | None:
        for route, dialer in self._routes:
            if path == route.path or (route.is_prefix and path.startswith(route.path)):
                if not route.host or host_matches(host, (route.host,)):
                    return dialer
        return None

    def _by_token(self, tokens: Tokens, path: str, query: str) -> Dialer | None:
        """The target of the token in the query, else of the path's first element.

        A wrong token in the query is refused even where TARGET takes the rest.
        """
        given = parse_qs(query).get("token") if "token" in query else None
        if given:
            target = tokens.find(given[0].rstrip("\n"))
            if target is None:
                raise NoTarget(403, "its token is not known (--token-file)")
            return self._dialer(target)
        first = unquote(path.split("/", 2)[1])
        target = tokens.find(first) if first and self.path is None else None
        if target is None and first and self._default is None:
            raise NoTarget(403, "its token is not known (--token-file)")
        return None if target is None else self._dialer(target)


def in_order(routes: Iterable[Route]) -> list[Route]:
    """Routes in the order in which to try them."""
    return sorted(
        routes, key=lambda route: (not route.host, route.is_prefix, -len(route.path))
    )
