"""Opcodes, close codes and control frames. Source: RFC 6455 sections 5 and 7.4."""

from dataclasses import dataclass
from enum import IntEnum

from fastws import _consts
from fastws._backend import encode_frame
from fastws.exceptions import LocalProtocolError, RemoteProtocolError
from fastws.typing import BytesLike

_MAX_REASON = _consts.MAX_CONTROL_PAYLOAD - 2


class Opcode(IntEnum):
    """RFC 6455 section 5.2; what is not named here is reserved."""

    CONT = _consts.OP_CONT
    TEXT = _consts.OP_TEXT
    BINARY = _consts.OP_BINARY
    CLOSE = _consts.OP_CLOSE
    PING = _consts.OP_PING
    PONG = _consts.OP_PONG


class CloseCode(IntEnum):
    """RFC 6455 section 7.4.1 and the IANA registry of close codes."""

    NORMAL_CLOSURE = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    NO_STATUS_RCVD = 1005
    ABNORMAL_CLOSURE = 1006
    INVALID_DATA = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009
    MANDATORY_EXTENSION = 1010
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    BAD_GATEWAY = 1014
    TLS_HANDSHAKE = 1015


_NEVER_SENT = (
    CloseCode.NO_STATUS_RCVD,
    CloseCode.ABNORMAL_CLOSURE,
    CloseCode.TLS_HANDSHAKE,
)
_SENDABLE = frozenset(int(code) for code in CloseCode if code not in _NEVER_SENT)


_MEANINGS = {
    CloseCode.NORMAL_CLOSURE: "OK",
    CloseCode.NO_STATUS_RCVD: "no status received [internal]",
    CloseCode.ABNORMAL_CLOSURE: "abnormal closure [internal]",
    CloseCode.INVALID_DATA: "invalid frame payload data",
    CloseCode.TLS_HANDSHAKE: "TLS handshake failure [internal]",
}


def meaning_of(code: int) -> str:
    """What a close code stands for, in a word or two, as ``websockets`` says it."""
    try:
        known = CloseCode(code)
    except ValueError:
        if 3000 <= code < 5000:
            return "registered" if code < 4000 else "private use"
        return "unknown"
    return _MEANINGS.get(known) or known.name.replace("_", " ").lower()


@dataclass(frozen=True, slots=True)
class Close:
    """What a Close frame says.

    Attributes:
        code: as sent; ``CloseCode.NO_STATUS_RCVD`` (1005) stands for an empty frame.
        reason: at most 123 bytes of UTF-8.
    """

    code: int = CloseCode.NO_STATUS_RCVD
    reason: str = ""

    def __str__(self) -> str:
        """The code, what it means and the reason: ``1001 (going away) bye``."""
        return f"{self.code:d} ({meaning_of(self.code)}) {self.reason}".rstrip()

    @classmethod
    def parse(cls, payload: BytesLike) -> "Close":
        """Read the payload of a Close frame (RFC 6455 section 5.5.1).

        Args:
            payload: at most 125 bytes; copied.

        Raises:
            RemoteProtocolError: 1002 for one byte or a code that must not be sent,
                1007 for a reason that is not UTF-8.
        """
        data = bytes(payload)
        if not data:
            return cls()
        if len(data) == 1:
            raise RemoteProtocolError(
                "Close frame with a payload of 1 byte",
                close_code=CloseCode.PROTOCOL_ERROR,
            )
        code = int.from_bytes(data[:2], "big")
        if not is_sendable(code):
            raise RemoteProtocolError(
                f"Close frame with the forbidden code {code}",
                close_code=CloseCode.PROTOCOL_ERROR,
            )
        try:
            return cls(code, data[2:].decode())
        except UnicodeDecodeError:
            raise RemoteProtocolError(
                "Close frame with a reason that is not UTF-8",
                close_code=CloseCode.INVALID_DATA,
            ) from None

    def encode(self) -> bytes:
        """Return the payload of a Close frame.

        Raises:
            LocalProtocolError: the code must not be sent, an empty frame has a reason,
                or the reason is longer than 123 bytes.
        """
        if self.code == CloseCode.NO_STATUS_RCVD:
            if self.reason:
                raise LocalProtocolError("a Close reason needs a code")
            return b""
        if not is_sendable(self.code):
            raise LocalProtocolError(f"Close code {self.code} must not be sent")
        reason = self.reason.encode()
        if len(reason) > _MAX_REASON:
            raise LocalProtocolError(
                f"Close reason of {len(reason)} bytes, over {_MAX_REASON}"
            )
        return self.code.to_bytes(2, "big") + reason


def is_sendable(code: int) -> bool:
    """Tell whether a Close frame may carry ``code`` (RFC 6455 section 7.4.2).

    These are the registered codes 1000 to 1003 and 1007 to 1014, and 3000 to 4999.
    """
    return code in _SENDABLE or 3000 <= code <= 4999


def encode_control(opcode: int, payload: BytesLike, key: bytes | None) -> bytes:
    """Return a whole control frame.

    Args:
        opcode: CLOSE, PING or PONG.
        payload: copied.
        key: fresh masking key of 4 bytes on the client side, ``None`` on the server's.

    Raises:
        LocalProtocolError: not a control opcode, or a payload over 125 bytes.
    """
    if opcode not in (Opcode.CLOSE, Opcode.PING, Opcode.PONG):
        raise LocalProtocolError(f"opcode {opcode} is not a control frame")
    if len(payload) > _consts.MAX_CONTROL_PAYLOAD:
        raise LocalProtocolError(
            f"control frame with {len(payload)} bytes,"
            f" over {_consts.MAX_CONTROL_PAYLOAD}"
        )
    return encode_frame(opcode, payload, key=key)
