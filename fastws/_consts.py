"""Numbers that both twins and every layer share. Imports nothing of fastws.

Sizes are bytes, times are seconds. Every limit here is a default that an option
or argument of the same name overrides.
"""

from enum import IntEnum
from typing import NamedTuple


class Side(IntEnum):
    """Our end of a connection: a server expects masked frames, a client unmasked."""

    CLIENT = 0
    SERVER = 1


class FrameHeader(NamedTuple):
    """One frame header as read from the wire (RFC 6455 section 5.2).

    Attributes:
        fin: the FIN bit.
        rsv: the reserved bits, in place (``RSV1 | RSV2 | RSV3``).
        opcode: 0..15, reserved ones included.
        key: the masking key, or ``None`` for an unmasked frame.
        length: payload bytes, as sent: not checked for its shortest form.
        size: bytes of the header itself.
    """

    fin: bool
    rsv: int
    opcode: int
    key: bytes | None
    length: int
    size: int


# RFC 6455 section 5.2: opcodes.
OP_CONT = 0x0
OP_TEXT = 0x1
OP_BINARY = 0x2
OP_CLOSE = 0x8
OP_PING = 0x9
OP_PONG = 0xA

# RFC 6455 section 5.2: bits of the first and second header byte.
FIN = 0x80
RSV1 = 0x40
RSV2 = 0x20
RSV3 = 0x10
RSV_MASK = 0x70
OPCODE_MASK = 0x0F
MASK = 0x80
LENGTH_MASK = 0x7F
LENGTH_16 = 126
LENGTH_64 = 127
MAX_HEADER = 14
MAX_CONTROL_PAYLOAD = 125

# Flags of a part that FrameDecoder yields.
FRAME_START = 1
FRAME_END = 2
MESSAGE_END = 4
PART_RSV1 = 8

# RFC 6455 section 1.3: appended to Sec-WebSocket-Key.
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

# RFC 6455 section 7.4.1 and the IANA registry: close codes.
CLOSE_NORMAL = 1000
CLOSE_GOING_AWAY = 1001
CLOSE_PROTOCOL_ERROR = 1002
CLOSE_UNSUPPORTED = 1003
CLOSE_NO_STATUS = 1005
CLOSE_ABNORMAL = 1006
CLOSE_INVALID_PAYLOAD = 1007
CLOSE_POLICY = 1008
CLOSE_TOO_BIG = 1009
CLOSE_INTERNAL_ERROR = 1011
CLOSE_RESTARTING = 1012
CLOSE_TRY_LATER = 1013

# The pump.
SCRATCH_SIZE = 2 * 1024 * 1024  # one read, at most
READ_MIN = 64 * 1024  # one read, to start with and after each remainder
HEADROOM = 16  # in front of a read, for the first frame header
MAX_MESSAGE = 32 * 1024  # one outgoing frame, its header included
MAX_MESSAGE_LOW = 1024
MAX_MESSAGE_HIGH = 16 * 1024 * 1024
MAX_INCOMING = 16 * 1024 * 1024  # message API only

# What a compressed frame may have above its content, which a limit is about: DEFLATE
# adds up to an eighth (all literals of 9 bits) and each fragment ends on a byte.
PACKED_SHIFT = 3
PACKED_EXTRA = 64

# What a text message from the other end is (DESIGN: between fastws ends).
TEXT_FORWARD = 0  # payload of a stranger, checked to be UTF-8
TEXT_SIGNAL = 1  # a signal of a fastws peer
TEXT_CONFIRM = 2  # the first one decides: ``C``, or a stranger

# Pooled WebSockets: what becomes of a message that begins with the data kind.
DATA_DELIVER = 0  # it is payload for the peer, held while there is none
DATA_DROP = 1
DATA_REFUSE = 2  # it is handed out like any other packet
MAX_PACKET = 260 + 65507  # bytes of a whole packet that is no payload: a datagram

# HTTP heads.
MAX_HEAD = 16 * 1024
MAX_FIELDS = 100

# Who may guess a token or a password: wrong ones of an address in a minute.
AUTH_ATTEMPTS = 20

# Times.
CONNECT_TIMEOUT = 5.0
RESOLVE_TIMEOUT = 5.0
HANDSHAKE_TIMEOUT = 10.0
LINGER = 5.0
HALF_CLOSE_TIMEOUT = 600.0
IDLE_TIMEOUT = 0.0  # off
UDP_IDLE = 60.0
PING = 20.0
PING_DEADLINE = 20.0
PING_JITTER = 0.1
DRAIN_DELAY = 0.0
DRAIN_TIMEOUT = 30.0
DRAIN_SPREAD = 2.0  # seconds over which a drain sends its Close 1001
RECONNECT_MIN = 0.2
RECONNECT_MAX = 30.0
RECONNECT_STABLE = 60.0
ATTEMPT_DELAY = 0.25  # RFC 8305 section 5

# Listening.
BACKLOG = 1024
ACCEPT_BATCH = 64
ACCEPT_PAUSE = 1.0
OVERFLOW = 64  # connections past max_connections that wts still answers
MAX_CONNECTIONS = 8192
RESOLVER_THREADS = 32
RESOLVER_PER_HOST = 4  # threads that one slow name may hold
RESOLVER_IDLE = 10.0  # a thread without work ends after this

# TCP keepalive: a peer that answers nothing is dead after idle + probes * interval.
KEEPALIVE_IDLE = 60
KEEPALIVE_INTERVAL = 15
KEEPALIVE_PROBES = 4
