"""Sans-I/O protocol machines: bytes in, events and bytes out.

Nothing below this package opens a socket, reads a clock or draws randomness;
whoever drives a machine passes these in. Peer mistakes are ``RemoteProtocolError``
and carry what to answer; our own mistakes are ``LocalProtocolError``. What is not
named here is private; ``handshake`` and ``announce`` are used as modules.
"""

from fastws.wire import announce, handshake
from fastws.wire.frames import Close, CloseCode, Opcode
from fastws.wire.http1 import Head, HeadReader, build_request, build_response
from fastws.wire.machine import SEND_EOF, Machine
from fastws.wire.websocket import (
    CloseReceived,
    Connection,
    Data,
    Event,
    Ping,
    Pong,
    State,
)

__all__ = [
    "SEND_EOF",
    "Close",
    "CloseCode",
    "CloseReceived",
    "Connection",
    "Data",
    "Event",
    "Head",
    "HeadReader",
    "Machine",
    "Opcode",
    "Ping",
    "Pong",
    "State",
    "announce",
    "build_request",
    "build_response",
    "handshake",
]
