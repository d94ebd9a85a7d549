"""What a runner has read from files, and can read again while it runs."""

import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from fastws.config.schema import ModeSpec
from fastws.config.secret_file import SecretFile
from fastws.exceptions import ConfigError
from fastws.net.tls import explain_os


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

    def _look(self) -> list[tuple[object, ...]]:
        return [state_of(path) for path in self.paths]


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
