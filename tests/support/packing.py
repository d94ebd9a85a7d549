"""permessage-deflate by hand, on zlib alone: the far end's side of RFC 7692."""

import re
import zlib

TAIL = b"\x00\x00\xff\xff"
STEP = 16


class Packing:
    """One end's compression, as an answer in the opening handshake says.

    Windows are exactly as agreed on: what was packed with a larger one fails.

    Args:
        answer: Sec-WebSocket-Extensions of the server.
        is_client: this end.
    """

    def __init__(self, answer: str, is_client: bool) -> None:
        assert answer.split(";")[0] == "permessage-deflate"
        ours, theirs = ("client", "server") if is_client else ("server", "client")
        self.out_bits, self.out_forgets = self._terms(answer, ours)
        self.in_bits, self.in_forgets = self._terms(answer, theirs)
        self.packer = self.unpacker = None

    @staticmethod
    def _terms(answer: str, side: str) -> tuple[int, bool]:
        bits = re.search(rf"; {side}_max_window_bits=(\d+)", answer)
        forgets = f"; {side}_no_context_takeover" in answer
        return int(bits[1]) if bits else 15, forgets

    def pack(self, data: bytes) -> bytes:
        """The payload of a message (section 7.2.1)."""
        if self.packer is None or self.out_forgets:
            # zlib has no raw stream of 8 bits; stored blocks refer to nothing.
            level, bits = (0, 9) if self.out_bits == 8 else (6, self.out_bits)
            self.packer = zlib.compressobj(level, zlib.DEFLATED, -bits, 8)
        packed = self.packer.compress(data) + self.packer.flush(zlib.Z_SYNC_FLUSH)
        assert packed.endswith(TAIL)
        return packed[:-4]

    def unpack(self, payload: bytes) -> bytes:
        """What a payload that came means (section 7.2.2)."""
        if self.unpacker is None or self.in_forgets:
            self.unpacker = zlib.decompressobj(-self.in_bits)
        data = payload + TAIL
        if self.in_bits == 15:
            return self.unpacker.decompress(data)
        # Distances within what one call returns are not looked at: it returns little.
        parts = []
        for at in range(0, len(data), STEP):
            chunk = data[at : at + STEP]
            while chunk or len(parts[-1]) == STEP:
                parts.append(self.unpacker.decompress(chunk, STEP))
                chunk = self.unpacker.unconsumed_tail
        return b"".join(parts)
