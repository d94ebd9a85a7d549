"""Header fields from a file that is read again for every connection."""

import errno
import logging
import os
import stat
from collections.abc import Collection

from fastws._consts import MAX_HEAD
from fastws.config import fields as f
from fastws.exceptions import ConfigError

logger = logging.getLogger("fastws.modes")


class HeaderFile:
    """``--header-file``: one ``Name: value`` a line, blank and # lines do not count.

    Args:
        path: of a regular file of at most ``MAX_HEAD`` bytes.
        taken: names, in lower case, that it may not hold: other options send them.

    Attributes:
        fields: as read last; an unusable file leaves the old ones.

    Raises:
        ConfigError: the file is unusable from the start.
    """

    __slots__ = ("_data", "_problem", "_taken", "fields", "path")

    def __init__(self, path: str, taken: Collection[str] = ()) -> None:
        self.path = path
        self._taken = frozenset(taken)
        self._problem = ""
        self._data = self._read()
        self.fields = self._parse(self._data)

    def refresh(self) -> bool:
        """Read the file again; whether ``fields`` are others now.

        Never raises: what is wrong is logged once, until it is something else.
        """
        try:
            data = self._read()
            if data == self._data:
                self._problem = ""
                return False
            fields = self._parse(data)
        except ConfigError as error:
            if error.reason != self._problem:
                self._problem = error.reason
                logger.warning("%s; the fields read before are sent", error)
            return False
        self._problem = ""
        self._data = data
        self.fields = fields
        return True

    def _error(self, reason: str) -> ConfigError:
        return ConfigError(f"--header-file {self.path}", reason)

    def _read(self) -> bytes:
        try:
            # Opening a pipe would wait for its writer.
            fd = os.open(self.path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
            try:
                if not stat.S_ISREG(os.fstat(fd).st_mode):
                    raise self._error("is not a regular file")
                data = os.read(fd, MAX_HEAD + 1)
            finally:
                os.close(fd)
        except OSError as exc:
            text = os.strerror(exc.errno or errno.EIO)
            raise self._error(f"cannot be read: {text[:1].lower()}{text[1:]}") from exc
        if len(data) > MAX_HEAD:
            raise self._error(f"is longer than {MAX_HEAD // 1024} KiB")
        return data

    def _parse(self, data: bytes) -> tuple[tuple[str, str], ...]:
        fields = []
        for number, line in enumerate(data.decode("latin-1").split("\n"), 1):
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            try:
                name, value = f.parse_header(text)
            except ValueError as error:
                raise self._error(f"line {number}: {error}") from None
            reason = f.header_owner(name, request=True)
            if name.lower() in self._taken:
                reason = f"{name} is given by another option too"
            if reason is not None:
                raise self._error(f"line {number}: {reason}")
            fields.append((name, value))
        return tuple(fields)
