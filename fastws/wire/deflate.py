"""permessage-deflate: what is offered and answered, and the messages themselves.

Source: RFC 7692; the grammar of the field is that of RFC 6455 section 9.1. Nothing
here is shared between connections except compressors that remember nothing.
"""

import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from fastws._backend import Unpacker
from fastws.exceptions import NegotiationError, RemoteProtocolError
from fastws.typing import BytesLike
from fastws.wire.head import TCHAR

NAME = "permessage-deflate"
WINDOW_BITS = 12  # by default, of what we compress: 32 KiB of memory with MEM_LEVEL
MEM_LEVEL = 5
_MAX_IDLE = 8  # compressors without memory that are kept for each set of parameters

# Each matches one token, so that no field takes more than linear time.
_name = re.compile(rf"[ \t]*({TCHAR}+)[ \t]*").match
_value = re.compile(rf'[ \t]*(?:({TCHAR}+)|"((?:\\?{TCHAR})+)")[ \t]*').match
_empty = re.compile(r"[ \t]*(?:,|\Z)").match
_is_bits = re.compile(r"[89]|1[0-5]").fullmatch


class Extension(NamedTuple):
    """One element of Sec-WebSocket-Extensions.

    Attributes:
        name: of the extension.
        params: name and value in wire order, ``""`` for one without a value.
    """

    name: str
    params: list[tuple[str, str]]


def parse_extensions(values: list[str]) -> list[Extension]:
    """Read the fields of a request or an answer (RFC 6455 section 9.1).

    Args:
        values: of all fields called Sec-WebSocket-Extensions, as ``Head.get_all``
            returns them. Empty elements of the list count for nothing.

    Raises:
        RemoteProtocolError: the grammar is broken, with 400 for a request.
    """
    found = []
    for value in values:
        at = 0
        while at < len(value):
            if match := _empty(value, at):
                at = match.end()
                continue
            extension, at = _read_extension(value, at)
            found.append(extension)
    return found


def _read_extension(value: str, at: int) -> tuple[Extension, int]:
    """The element that starts at ``at``, and where the next one does."""
    name, at = _read(_name, value, at)
    params = []
    while value[at : at + 1] == ";":
        key, at = _read(_name, value, at + 1)
        text = ""
        if value[at : at + 1] == "=":
            text, at = _read(_value, value, at + 1)
        params.append((key, text))
    if at < len(value) and value[at] != ",":
        raise _malformed()
    return Extension(name, params), at + 1


def _read(
    match: Callable[[str, int], re.Match[str] | None], value: str, at: int
) -> tuple[str, int]:
    """One token without white space around it, and where it ends."""
    if (found := match(value, at)) is None:
        raise _malformed()
    text = found[1] or found[2].replace("\\", "")
    return text, found.end()


def _malformed() -> RemoteProtocolError:
    return RemoteProtocolError("Sec-WebSocket-Extensions is malformed", http_status=400)


class _Terms(NamedTuple):
    """The parameters of one offer or answer, understood.

    Bits are 0 when the parameter is absent; ``client_bits`` is 15 for one without
    a value.
    """

    server_forgets: bool
    client_forgets: bool
    server_bits: int
    client_bits: int


def _understand(params: list[tuple[str, str]], is_answer: bool) -> _Terms:
    """Hold parameters to RFC 7692 section 7.1.

    Raises:
        ValueError: one is unknown, repeated, or has a wrong value.
    """
    given = dict(params)
    if len(given) != len(params):
        raise ValueError("a parameter stands twice")
    flags = {}
    for name in ("server_no_context_takeover", "client_no_context_takeover"):
        flags[name] = name in given
        if given.pop(name, ""):
            raise ValueError(f"{name} has a value")
    bits = {}
    for name in ("server_max_window_bits", "client_max_window_bits"):
        text = given.pop(name, None)
        if text == "" and name == "client_max_window_bits" and not is_answer:
            text = "15"  # section 7.1.2.2: whatever the server wants
        if text is not None and not _is_bits(text):
            raise ValueError(f"{name} is not a number from 8 to 15")
        bits[name] = int(text or 0)
    if given:
        raise ValueError(f"{next(iter(given))} is unknown")
    return _Terms(*flags.values(), *bits.values())


@dataclass(frozen=True, slots=True)
class Deflate:
    """How we want to compress messages. Immutable; for any number of connections.

    Attributes:
        server_no_context_takeover: the server forgets each message; a server that
            was offered it does anyway.
        client_no_context_takeover: the client forgets each message.
        server_max_window_bits: 8 to 15, the server's window as a power of two. ``None``
            is 12 for a server, and as the server likes for a client.
        client_max_window_bits: likewise of the client; ``None`` is 12, as far as the
            client lets its server choose.
        level: of zlib, 0 to 9; -1 is zlib's own choice.
        mem_level: of zlib, 1 to 9; a compressor takes
            ``2 ** (window_bits + 2) + 2 ** (mem_level + 9)`` bytes.

    Raises:
        ValueError: a number is out of range.
    """

    server_no_context_takeover: bool = False
    client_no_context_takeover: bool = False
    server_max_window_bits: int | None = None
    client_max_window_bits: int | None = None
    level: int = -1
    mem_level: int = MEM_LEVEL

    def __post_init__(self) -> None:
        for name in ("server_max_window_bits", "client_max_window_bits"):
            bits = getattr(self, name)
            if bits is not None and bits not in range(8, 16):
                raise ValueError(f"{name} must be 8 to 15, not {bits!r}")
        if self.level not in range(-1, 10):
            raise ValueError(f"level must be -1 to 9, not {self.level!r}")
        if self.mem_level not in range(1, 10):
            raise ValueError(f"mem_level must be 1 to 9, not {self.mem_level!r}")

    @classmethod
    def parse(cls, compression: "str | Deflate | None") -> "Deflate | None":
        """What a user gave for ``compression``.

        Raises:
            ValueError: neither ``None``, ``"deflate"`` nor one of these.
        """
        if compression is None or isinstance(compression, Deflate):
            return compression
        if compression == "deflate":
            return cls()
        raise ValueError(
            f'compression must be None, "deflate" or Deflate(), not {compression!r}'
        )

    def offer(self) -> str:
        """The client's field (RFC 7692 section 5)."""
        return _format(
            self.server_no_context_takeover,
            self.client_no_context_takeover,
            self.server_max_window_bits,
            self.client_max_window_bits or "",
        )

    def accept(self, values: list[str]) -> "tuple[str, Codec] | None":
        """Choose among a client's offers: the first that is valid.

        Args:
            values: of all its fields.

        Returns:
            The server's field and codec; ``None`` without an offer to accept.

        Raises:
            RemoteProtocolError: the grammar is broken, with 400.
        """
        for extension in parse_extensions(values):
            if extension.name != NAME:
                continue
            try:
                offered = _understand(extension.params, is_answer=False)
            except ValueError:
                continue  # section 7: declined, another offer may do
            return self._agree(offered)
        return None

    def _agree(self, offered: _Terms) -> "tuple[str, Codec]":
        server_forgets = self.server_no_context_takeover or offered.server_forgets
        client_forgets = self.client_no_context_takeover or offered.client_forgets
        server_bits = self.server_max_window_bits or WINDOW_BITS
        server_bits = min(server_bits, offered.server_bits or 15)
        client_bits = 15
        if offered.client_bits:  # section 7.1.2.2: never in an answer otherwise
            client_bits = self.client_max_window_bits or WINDOW_BITS
            client_bits = min(client_bits, offered.client_bits)
        answer = _format(
            server_forgets,
            client_forgets,
            server_bits if server_bits < 15 or offered.server_bits else None,
            client_bits if offered.client_bits else None,
        )
        codec = Codec(
            out_bits=server_bits,
            in_bits=client_bits,
            out_forgets=server_forgets,
            in_forgets=client_forgets,
            level=self.level,
            mem_level=self.mem_level,
        )
        return answer, codec

    def confirm(self, values: list[str]) -> "Codec | None":
        """Check what a server answered to :meth:`offer`.

        Args:
            values: of all its fields.

        Returns:
            The client's codec; ``None`` when the server declined.

        Raises:
            NegotiationError: the answer does not fit the offer.
        """
        extensions = parse_extensions(values)
        if not extensions:
            return None
        name, params = extensions[0]
        if name != NAME or len(extensions) > 1:
            name = next((e.name for e in extensions if e.name != NAME), "")
            raise NegotiationError(
                f"extension was not offered: {name}" if name else f"{NAME} twice"
            )
        try:
            return self._check(_understand(params, is_answer=True))
        except ValueError as error:
            raise NegotiationError(f"{NAME}: {error}") from None

    def _check(self, answer: _Terms) -> "Codec":
        if self.server_no_context_takeover and not answer.server_forgets:
            raise ValueError("server_no_context_takeover is missing")
        wanted = self.server_max_window_bits
        if wanted is not None and not 8 <= answer.server_bits <= wanted:
            raise ValueError(f"server_max_window_bits is not {wanted} or less")
        wanted = self.client_max_window_bits
        if wanted is not None and answer.client_bits > wanted:
            raise ValueError(f"client_max_window_bits is not {wanted} or less")
        return Codec(
            out_bits=min(wanted or WINDOW_BITS, answer.client_bits or 15),
            in_bits=answer.server_bits or 15,
            out_forgets=self.client_no_context_takeover or answer.client_forgets,
            in_forgets=answer.server_forgets,
            level=self.level,
            mem_level=self.mem_level,
        )


def _format(
    server_forgets: bool,
    client_forgets: bool,
    server_bits: int | None,
    client_bits: int | str | None,
) -> str:
    text = NAME
    if server_forgets:
        text += "; server_no_context_takeover"
    if client_forgets:
        text += "; client_no_context_takeover"
    if server_bits is not None:
        text += f"; server_max_window_bits={server_bits}"
    if client_bits is not None:
        text += "; client_max_window_bits"
        text += f"={client_bits}" if client_bits else ""
    return text


_idle: dict[tuple[int, int, int], list[Any]] = {}


class Codec:
    """Messages of one connection, packed and unpacked. One task at a time.

    No memory is taken before the first message each way, and none is kept between
    messages by a side that forgets them. After an error the connection has to end.

    Args:
        out_bits: 8 to 15, the window of what we send, a power of two.
        in_bits: of what we receive.
        out_forgets: each message we send stands alone (no context takeover).
        in_forgets: each message we receive does.
        level: of zlib.
        mem_level: of zlib.

    Attributes:
        decompress: unpacks the next bytes of a message, see ``Unpacker.decompress``.
    """

    __slots__ = (
        "_deflate",
        "_flush",
        "_idle",
        "_in_bits",
        "_out_bits",
        "decompress",
        "in_forgets",
        "level",
        "mem_level",
        "out_forgets",
    )

    def __init__(
        self,
        *,
        out_bits: int = 15,
        in_bits: int = 15,
        out_forgets: bool = False,
        in_forgets: bool = False,
        level: int = -1,
        mem_level: int = MEM_LEVEL,
    ) -> None:
        # zlib makes no raw stream with 8 bits. With 9 its distances end at 250
        # (MAX_DIST: the window less MIN_LOOKAHEAD), and 256 are allowed.
        self._out_bits = max(out_bits, 9)
        self._in_bits = in_bits
        self.out_forgets = out_forgets
        self.in_forgets = in_forgets
        self.level = level
        self.mem_level = mem_level
        # A full flush forgets as a new compressor would, and costs less.
        self._flush = zlib.Z_FULL_FLUSH if out_forgets else zlib.Z_SYNC_FLUSH
        self._deflate: Any = None
        self._idle: list[Any] | None = None
        if out_forgets:
            key = (level, self._out_bits, mem_level)
            self._idle = _idle.setdefault(key, [])
        unpacker = Unpacker(zlib.decompressobj, zlib.error, -in_bits, in_forgets)
        self.decompress = unpacker.decompress

    def __repr__(self) -> str:
        out = "forgets" if self.out_forgets else "remembers"
        into = "forgets" if self.in_forgets else "remembers"
        return f"<Codec out: {out} 2^{self._out_bits}, in: {into} 2^{self._in_bits}>"

    def compress(self, data: BytesLike, final: bool) -> bytes:
        """Return the payload of the next frame (RFC 7692 section 7.2.1).

        Each fragment carries all of its data: nothing waits for the next one.

        Args:
            data: the next part of a message, viewed during the call.
            final: the message ends here.
        """
        deflate = self._deflate
        if deflate is None:
            deflate = self._deflate = self._new_compressor()
        head: bytes = deflate.compress(data)
        if not final:
            flushed: bytes = head + deflate.flush(zlib.Z_SYNC_FLUSH)
            return flushed
        # Both end with an empty block, also when there is nothing new: zlib says so
        # after each call of compress().
        tail: bytes = deflate.flush(self._flush)
        if self._idle is not None:
            self._deflate = None
            if len(self._idle) < _MAX_IDLE:
                self._idle.append(deflate)
        return head + tail[:-4] if head else tail[:-4]

    def _new_compressor(self) -> Any:
        if self._idle is not None:
            try:
                return self._idle.pop()
            except IndexError:
                pass  # all are in use
        return zlib.compressobj(
            self.level, zlib.DEFLATED, -self._out_bits, self.mem_level
        )
