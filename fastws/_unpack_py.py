"""Compressed messages unpacked, pure twin: the specification of ``_unpack.pxi``."""

from collections.abc import Callable
from typing import Any, Final, final

from fastws._consts import CLOSE_INVALID_PAYLOAD, CLOSE_TOO_BIG
from fastws.exceptions import RemoteProtocolError
from fastws.typing import BytesLike

STEP: Final = 1024 * 1024  # bytes of output until the limit is looked at again
TAIL: Final = b"\x00\x00\xff\xff"  # RFC 7692 section 7.2.1: cut off every message
LAST: Final = b"\x03\x00"  # an empty block that ends the stream
MAX_STREAMS: Final = 256  # that may end in one chunk; each costs a new decompressor


@final
class Unpacker:
    """Unpacks the messages of one connection (RFC 7692 section 7.2.2).

    No memory is taken before the first message, and none is kept between messages
    that are forgotten. After an error the connection has to end. One task at a time.

    Args:
        new: ``zlib.decompressobj``, retained.
        error: what it raises.
        wbits: its argument: the window, negative.
        forgets: each message stands alone (no context takeover).
    """

    __slots__ = (
        "_end",
        "_error",
        "_forgets",
        "_inflate",
        "_is_inside",
        "_new",
        "_wbits",
    )

    def __init__(
        self,
        new: Callable[[int], Any],
        error: type[Exception],
        wbits: int,
        forgets: bool,
    ) -> None:
        self._new = new
        self._error = error
        self._wbits = wbits
        self._forgets = forgets
        self._end = TAIL + LAST if forgets else TAIL
        self._inflate: Any = None
        self._is_inside = False  # a message has begun to arrive

    def decompress(self, chunk: BytesLike, final: bool, max_size: int) -> bytes:
        """Return what ``chunk`` unpacks to.

        Memory is taken step by step: a message that unpacks to more than it may costs
        its limit and 2 MiB at most.

        Args:
            chunk: the next bytes of a message, cut anywhere; viewed during the call.
            final: the message ends here.
            max_size: bytes that this message may still have, from 0.

        Raises:
            RemoteProtocolError: 1009 for more than ``max_size`` bytes, 1007 for what
                is not DEFLATE.
        """
        if not chunk and not self._is_inside:
            if final:
                raise _invalid("an empty payload")  # section 7.2.3.6: one byte
            return b""
        inflate = self._inflate
        if inflate is None:
            inflate = self._inflate = self._new(self._wbits)
        data = chunk
        self._is_inside = not final
        if final:
            end = self._end
            data = chunk + end if type(chunk) is bytes else b"".join((chunk, end))
        asked = max_size + 1 if max_size < STEP else STEP
        try:
            out: bytes = inflate.decompress(data, asked)
            if len(out) < asked and not inflate.eof:
                if final and self._forgets:
                    raise _invalid("the last block is not complete")
                return out
            if len(out) == asked or inflate.unused_data:
                out = self._go_on(inflate, out, asked, final, max_size)
                inflate = self._inflate
        except self._error as error:
            raise _invalid(str(error)) from None
        if inflate.eof:  # by LAST, or because the peer ended its stream
            self._inflate = None
            self._is_inside = False
        elif final and self._forgets:
            raise _invalid("the last block is not complete")
        return out

    def _go_on(
        self, inflate: Any, out: bytes, asked: int, final: bool, max_size: int
    ) -> bytes:
        """Take further steps, and go over the ends of streams (section 7.2.3.4)."""
        parts, size, ends = [out], len(out), 0
        while True:
            if size > max_size:
                raise RemoteProtocolError(
                    "decompressed message is too big", close_code=CLOSE_TOO_BIG
                )
            if inflate.eof:
                data = inflate.unused_data
                if not data or (final and data == self._end):
                    break
                ends += 1
                if ends > MAX_STREAMS:
                    raise _invalid("too many final blocks")
                inflate = self._inflate = self._new(self._wbits)
            elif len(out) == asked:
                data = inflate.unconsumed_tail
            else:
                break
            asked = min(max_size - size + 1, STEP)
            out = inflate.decompress(data, asked)
            parts.append(out)
            size += len(out)
        return b"".join(parts) if len(parts) > 1 else out


def _invalid(reason: str) -> RemoteProtocolError:
    return RemoteProtocolError(
        f"compressed message is invalid: {reason}", close_code=CLOSE_INVALID_PAYLOAD
    )
