"""What a runner has read from files, and can read again while it runs."""

import asyncio
import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import msgspec

from fastws.config.schema import ModeSpec
from fastws.config.secret_file import SecretFile
from fastws.exceptions import ConfigError
from fastws.net.tls import explain_os

LARGE = 64 * 1024
"""Bytes of a file from which on it is read in a thread: some 2000 lines, 8 ms."""


Report: TypeAlias = Callable[[ConfigError | None], None]


class Part:
    """One thing that comes from files: certificates, tokens, users. One event loop.

    Args:
        name: for the log, in the plural: ``certificates and keys``.
        paths: the files; directories count as changed when an entry comes or goes,
            or when a file in them changes.
        load: reads them and puts the result into use, for connections from now on.
            Raises ``ConfigError`` when they cannot be used, and then changes nothing.
    """

    __slots__ = ("_seen", "load", "name", "paths")

    def __init__(
        self, name: str, paths: Iterable[str | None], load: Callable[[], None]
    ) -> None:
        self.name = name
        self.paths = tuple(path for path in paths if path is not None)
        self.load = load
        self._seen = self._look()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {', '.join(self.paths)}>"

    def has_changed(self) -> bool:
        """Whether a file differs from what it was at the last call."""
        before, self._seen = self._seen, self._look()
        return self._seen != before

    @property
    def is_lasting(self) -> bool:
        """Whether its files can be read again: a pipe gives what it has but once."""
        return not any(map(is_pipe, self.paths))

    def reload(self, report: Report) -> None:
        """Load again; ``report`` hears the error, or ``None``."""
        try:
            self.load()
        except ConfigError as error:
            report(error)
        else:
            report(None)

    def reload_soon(self, report: Report) -> None:
        """The same in a running loop, which a large part does not stop."""
        self.reload(report)

    def _look(self) -> list[tuple[object, ...]]:
        return [state_of(path) for path in self.paths]


class LargePart(Part):
    """A part whose files may have many thousand lines.

    Args:
        name: for the log, in the plural.
        path: of the file or directory.
        read: reads and checks it, and changes nothing; any thread may call it. Returns
            what puts the result into use, to be called in the loop, which returns
            what was used before. Raises ``ConfigError`` when it cannot be used.
    """

    __slots__ = ("_is_again", "_read", "_task")

    def __init__(
        self, name: str, path: str, read: Callable[[], Callable[[], dict[Any, Any]]]
    ) -> None:
        def load() -> None:
            read()()

        super().__init__(name, [path], load)
        self._read = read
        self._task: asyncio.Task[None] | None = None
        self._is_again = False  # it changed while it was read

    def reload_soon(self, report: Report) -> None:
        if self._task is not None:
            self._is_again = True
        elif size_of(self.paths[0]) <= LARGE:
            self.reload(report)
        else:
            self._task = asyncio.create_task(self._reload_beside(report))

    async def _reload_beside(self, report: Report) -> None:
        """Read in a thread; until all is there, the old state serves."""
        self._is_again = True
        try:
            while self._is_again:
                self._is_again = False
                try:
                    use = await asyncio.to_thread(self._read)
                    old = use()
                except ConfigError as error:
                    report(error)
                else:
                    report(None)
                    del use
                    await asyncio.to_thread(forget, old)
        finally:
            self._task = None


def forget(old: dict[Any, Any]) -> None:
    """Give memory back one by one: all at once would stop the other threads, too."""
    while old:
        old.popitem()


def size_of(path: str) -> int:
    """Bytes of the file, or of all files of a directory; 0 if nobody can say."""
    try:
        return sum(os.stat(name).st_size for name in files_of(path))
    except OSError:
        return 0


def files_of(path: str) -> list[str]:
    """The file itself, or the visible files of a directory in order.

    Raises:
        OSError: it cannot be looked at.
    """
    if not os.path.isdir(path):
        return [path]
    names = sorted(name for name in os.listdir(path) if not name.startswith("."))
    return [full for name in names if os.path.isfile(full := os.path.join(path, name))]


def state_of(path: str) -> tuple[object, ...]:
    """What changes when the contents change: time, size and inode."""
    state: list[object] = []
    try:
        for name in files_of(path):
            found = os.stat(name)
            state += (name, found.st_mtime_ns, found.st_size, found.st_ino)
    except OSError as error:  # not there: that too is a state
        state.append(error.errno)
    return tuple(state)


def is_pipe(path: str) -> bool:
    """Whether opening ``path`` once more could wait for a writer."""
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except OSError:
        return False


def read_secret(secret: SecretFile, spec: ModeSpec) -> ModeSpec:
    """The spec with what the file holds now.

    Raises:
        ConfigError: it cannot be read or used; texts never repeat what it holds.
    """
    try:
        text = Path(secret.path).read_text("utf-8")
        value = secret.parse(text)
        return msgspec.structs.replace(spec, **{secret.option.attribute: value})
    except OSError as error:
        reason = f"cannot be read: {explain_os(error)}"
        raise ConfigError(secret.place, reason) from error
    except UnicodeDecodeError:
        raise ConfigError(secret.place, "is not UTF-8") from None
    except ConfigError as error:
        raise ConfigError(secret.place, error.reason) from None
    except ValueError as error:
        raise ConfigError(secret.place, str(error)) from None


class Owner(Protocol):
    """Whoever runs a spec."""

    spec: Any

    def adopt(self, spec: Any) -> None: ...


def read_for(owner: Owner, secret: SecretFile) -> Callable[[], dict[Any, Any]]:
    """Read a secret for ``owner``; to be called: has it adopted.

    Raises:
        ConfigError: as of :func:`read_secret`.
    """
    before = owner.spec
    spec = read_secret(secret, before)

    def use() -> dict[Any, Any]:
        name = secret.option.attribute
        now = spec
        if owner.spec is not before:  # another secret was adopted meanwhile
            now = msgspec.structs.replace(owner.spec, **{name: getattr(spec, name)})
        owner.adopt(now)
        return {}

    return use
