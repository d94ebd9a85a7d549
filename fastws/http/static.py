"""Files of one directory, for GET and HEAD: no listing, and no way out of it.

Source: RFC 9110. A path is taken as browsers send it: what is not plainly the name of
a regular file below the directory is not found. Dot files are not served, except
``.well-known`` (RFC 8615); symbolic links only where they end inside.
"""

import asyncio
import mimetypes
import os
import re
import stat
import time
from functools import cache
from pathlib import Path
from typing import BinaryIO, NamedTuple
from urllib.parse import unquote_to_bytes

from fastws.exceptions import ConfigError, RemoteProtocolError
from fastws.net import sockopt
from fastws.net.arrived import ArrivedHold
from fastws.net.stream import Kind, kind_of
from fastws.wire.head import Head
from fastws.wire.http1 import build_response

INDEX = "index.html"
_BLOCK = 64 * 1024  # what a client that takes nothing costs
# A client that takes nothing for so long loses its download, seconds.
STALL = 30.0
# Where systems disagree, or know nothing.
_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".ico": "image/x-icon",
    ".js": "text/javascript",
    ".json": "application/json",
    ".map": "application/json",
    ".mjs": "text/javascript",
    ".oga": "audio/ogg",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
}
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = tuple("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split())
_TEXTUAL = ("text/", "application/json", "application/manifest+json", "image/svg+xml")

_etag = re.compile(r'(?:W/)?("[^"]*")').findall


class Answer(NamedTuple):
    """What to send.

    Attributes:
        head: a whole answer, or the head of one.
        file: what follows it, owned by whoever has the answer.
        size: bytes of that.
    """

    head: bytes
    file: BinaryIO | None = None
    size: int = 0


class Site:
    """A directory whose files are served. Safe for any number of threads.

    Args:
        root: the directory.

    Raises:
        ConfigError: it is none, or cannot be read.
    """

    __slots__ = ("root",)

    def __init__(self, root: str) -> None:
        self.root = os.path.realpath(root)
        try:
            os.listdir(self.root)
        except OSError as error:
            raise ConfigError(root, f"cannot be served: {error.strerror}") from error

    def answer(self, head: Head) -> Answer | None:
        """Answer a request for a file; ``None``: there is no such file.

        Blocks for as long as the file system does.

        Raises:
            RemoteProtocolError: 405 for a method other than GET and HEAD.
        """
        path, mark, query = head.target.partition("?")
        name = self._locate(path)
        if name is None:
            return None
        if head.method not in ("GET", "HEAD"):
            raise RemoteProtocolError(
                f"{head.method} of a file",
                http_status=405,
                headers=(("Allow", "GET, HEAD"),),
            )
        if os.path.isdir(name):
            if not path.endswith("/"):
                where = f"{path}/{mark}{query}"
                return Answer(build_response(308, [("Location", where)]))
            name = self._locate(path + INDEX) or ""
        try:
            return self._open(head, name)
        except OSError:
            return None

    def _locate(self, path: str) -> str | None:
        """The real name of what ``path`` says, if it lies inside."""
        names = parse_path(path)
        if names is None:
            return None
        found = os.path.realpath(os.path.join(self.root, *names))
        if found != self.root and not Path(found).is_relative_to(self.root):
            return None
        if names and names[-1] and path.endswith("/") and not os.path.isdir(found):
            return None
        return found if os.path.exists(found) else None

    def _open(self, head: Head, name: str) -> Answer | None:
        """Open a file whose links are resolved; anything else is not found."""
        flags = os.O_RDONLY
        for extra in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"):
            flags |= getattr(os, extra, 0)
        file = os.fdopen(os.open(name, flags), "rb", buffering=0)
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            file.close()
            return None
        tag = f'"{status.st_mtime_ns:x}-{status.st_size:x}"'
        fields = [
            ("ETag", tag),
            ("Last-Modified", format_date(status.st_mtime)),
            ("Cache-Control", "no-cache"),  # that is: ask again, by its ETag
            ("X-Content-Type-Options", "nosniff"),
        ]
        if matches(head, tag):
            file.close()
            return Answer(build_response(304, fields))
        fields.append(("Content-Type", type_of(name)))
        fields.append(("Content-Length", str(status.st_size)))
        answer = build_response(200, fields)
        if head.method == "HEAD":
            file.close()
            return Answer(answer)
        return Answer(answer, file, status.st_size)


def parse_path(path: str) -> list[str] | None:
    """Split and decode a request path, once; ``None`` for what names no file.

    ``.`` and ``..`` are resolved by clients (RFC 3986 section 5.2.4); here, as well
    as an encoded slash, a backslash, a colon of Windows, NUL and dot files, they
    name nothing.
    """
    if not path.startswith("/"):
        return None
    names = []
    parts = path[1:].split("/")
    for number, part in enumerate(parts):
        name = os.fsdecode(unquote_to_bytes(part))
        if not name and number == len(parts) - 1:
            break
        if not name or (name.startswith(".") and name != ".well-known"):
            return None
        if set(name) & {*"/\\\0"} or (os.name == "nt" and ":" in name):
            return None
        names.append(name)
    return names


@cache
def _known() -> mimetypes.MimeTypes:
    """The types that Python and the system know: 1 000 lines, read when needed."""
    return mimetypes.MimeTypes()


def type_of(name: str) -> str:
    """The media type of a file, by its name."""
    ending = os.path.splitext(name)[1].lower()
    kind = _TYPES.get(ending)
    if kind is None:
        kind, encoding = _known().guess_type(name)
        if encoding is not None:
            kind = f"application/{encoding}"
    if kind is None:
        return "application/octet-stream"
    return f"{kind}; charset=utf-8" if kind.startswith(_TEXTUAL) else kind


def format_date(seconds: float) -> str:
    """A time as a field gives it (RFC 9110 section 5.6.7), whatever the locale."""
    at = time.gmtime(seconds)
    day, month = _DAYS[at.tm_wday], _MONTHS[at.tm_mon - 1]
    return time.strftime(f"{day}, %d {month} %Y %H:%M:%S GMT", at)


def matches(head: Head, tag: str) -> bool:
    """Whether the client has this version (RFC 9110 section 13.1.2)."""
    wanted = head.get("if-none-match")
    if wanted is None:
        return False
    return wanted.strip() == "*" or tag in _etag(wanted)


async def send(hold: ArrivedHold, answer: Answer, linger: float) -> None:
    """Send an answer and end its connection.

    Memory: one block. A client that takes nothing for ``STALL`` seconds, or a file
    that became shorter, ends in a reset.

    Args:
        hold: has read the request.
        answer: its file is closed.
        linger: seconds that the client has to close, once it got everything.
    """
    if answer.file is None:
        await hold.finish(answer.head, linger)
        return
    with answer.file:
        if not await _send_file(hold, answer):
            if hold.transport is not None:
                sockopt.reset(hold.transport)
            return
    await hold.finish(b"", linger)


async def _send_file(hold: ArrivedHold, answer: Answer) -> bool:
    transport = hold.transport
    file = answer.file
    if transport is None or transport.is_closing() or file is None:
        return False
    # As for the pump: 0 would never resume over TLS.
    is_tls = kind_of(transport) is Kind.TLS
    transport.set_write_buffer_limits(high=1 if is_tls else 0, low=0)
    transport.write(answer.head)
    loop = asyncio.get_running_loop()
    left = answer.size
    while left:
        if not await hold.drain(STALL):
            return False
        block = await loop.run_in_executor(None, file.read, min(left, _BLOCK))
        if not block or hold.lost:
            return False
        transport.write(block)
        left -= len(block)
    return await hold.drain(STALL)
