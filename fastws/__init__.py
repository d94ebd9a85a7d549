"""TCP over WebSocket and back, proxies, and WebSockets for programs.

Names resolve when first used (PEP 562), so that ``import fastws`` stays cheap.
What is not in ``__all__`` is private.
"""

import importlib
from typing import TYPE_CHECKING, Any

from fastws._version import __version__

if TYPE_CHECKING:
    from fastws import asgi as asgi
    from fastws import testing as testing
    from fastws._backend import BACKEND, FrameDecoder, Side
    from fastws.config.endpoint import ConnectTo, Listen, Target, WsUrl
    from fastws.config.forward import ForwardProxy
    from fastws.config.proxy_server import ProxyServer
    from fastws.config.schema import TcpToWs, WsToTcp
    from fastws.exceptions import (
        ConcurrencyError,
        ConfigError,
        ConnectionClosed,
        ConnectionClosedError,
        ConnectionClosedOK,
        Denied,
        DialError,
        DialTimeout,
        FastwsError,
        InvalidHandshake,
        InvalidHeader,
        InvalidMessage,
        InvalidProxy,
        InvalidStatus,
        InvalidUpgrade,
        InvalidURI,
        LimitExceeded,
        LocalProtocolError,
        NegotiationError,
        NoConnection,
        NoUpstream,
        OpenTimeout,
        PayloadTooBig,
        ProtocolError,
        RemoteProtocolError,
        SecurityError,
        StreamReset,
        WebSocketException,
    )
    from fastws.net.copy import CopyResult
    from fastws.upstream.edge import Lease, Pool, PoolStats
    from fastws.upstream.waiting import PoolLimits
    from fastws.wire.deflate import Deflate
    from fastws.wire.frames import Close, CloseCode
    from fastws.ws.basic_auth import basic_auth
    from fastws.ws.broadcast import broadcast
    from fastws.ws.connect import (
        ClientConnection,
        connect,
        process_exception,
        unix_connect,
    )
    from fastws.ws.connection import Connection
    from fastws.ws.facts import State
    from fastws.ws.forward import forward
    from fastws.ws.heads import Headers, Request, Response
    from fastws.ws.join import copy_bidirectional
    from fastws.ws.open import open_websocket
    from fastws.ws.open_stream import open_stream, open_transport
    from fastws.ws.protocol import WebSocket
    from fastws.ws.serve import Server, ServerConnection, serve, unix_serve
    from fastws.ws.serve_streams import StreamServer, serve_streams
    from fastws.ws.server import serve_callbacks
    from fastws.ws.stream import Stream

_HOMES = {
    "fastws.net.copy": ("CopyResult",),
    "fastws.upstream.edge": ("Lease", "Pool", "PoolStats"),
    "fastws.upstream.waiting": ("PoolLimits",),
    "fastws.ws.forward": ("forward",),
    "fastws.ws.join": ("copy_bidirectional",),
    "fastws.ws.open_stream": ("open_stream", "open_transport"),
    "fastws.ws.serve_streams": ("StreamServer", "serve_streams"),
    "fastws.ws.stream": ("Stream",),
    "fastws._backend": ("BACKEND", "FrameDecoder", "Side"),
    "fastws.config.endpoint": ("ConnectTo", "Listen", "Target", "WsUrl"),
    "fastws.config.forward": ("ForwardProxy",),
    "fastws.config.proxy_server": ("ProxyServer",),
    "fastws.config.schema": ("TcpToWs", "WsToTcp"),
    "fastws.exceptions": (
        "ConcurrencyError",
        "ConfigError",
        "ConnectionClosed",
        "ConnectionClosedError",
        "ConnectionClosedOK",
        "Denied",
        "DialError",
        "DialTimeout",
        "FastwsError",
        "InvalidHandshake",
        "InvalidHeader",
        "InvalidMessage",
        "InvalidProxy",
        "InvalidStatus",
        "InvalidURI",
        "InvalidUpgrade",
        "LimitExceeded",
        "LocalProtocolError",
        "NegotiationError",
        "NoConnection",
        "NoUpstream",
        "OpenTimeout",
        "PayloadTooBig",
        "ProtocolError",
        "RemoteProtocolError",
        "SecurityError",
        "StreamReset",
        "WebSocketException",
    ),
    "fastws.wire.frames": ("Close", "CloseCode"),
    "fastws.ws.basic_auth": ("basic_auth",),
    "fastws.ws.broadcast": ("broadcast",),
    "fastws.ws.connect": (
        "ClientConnection",
        "connect",
        "process_exception",
        "unix_connect",
    ),
    "fastws.ws.connection": ("Connection",),
    "fastws.ws.facts": ("State",),
    "fastws.ws.heads": ("Headers", "Request", "Response"),
    "fastws.wire.deflate": ("Deflate",),
    "fastws.ws.open": ("open_websocket",),
    "fastws.ws.protocol": ("WebSocket",),
    "fastws.ws.serve": ("Server", "ServerConnection", "serve", "unix_serve"),
    "fastws.ws.server": ("serve_callbacks",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
_SUBMODULES = frozenset({"app", "asgi", "exceptions", "testing"})

__all__ = [
    "BACKEND",
    "ClientConnection",
    "Close",
    "CloseCode",
    "ConcurrencyError",
    "ConfigError",
    "ConnectTo",
    "Connection",
    "ConnectionClosed",
    "ConnectionClosedError",
    "ConnectionClosedOK",
    "CopyResult",
    "Deflate",
    "Denied",
    "DialError",
    "DialTimeout",
    "FastwsError",
    "ForwardProxy",
    "FrameDecoder",
    "Headers",
    "InvalidHandshake",
    "InvalidHeader",
    "InvalidMessage",
    "InvalidProxy",
    "InvalidStatus",
    "InvalidURI",
    "InvalidUpgrade",
    "Lease",
    "LimitExceeded",
    "Listen",
    "LocalProtocolError",
    "NegotiationError",
    "NoConnection",
    "NoUpstream",
    "OpenTimeout",
    "PayloadTooBig",
    "Pool",
    "PoolLimits",
    "PoolStats",
    "ProtocolError",
    "ProxyServer",
    "RemoteProtocolError",
    "Request",
    "Response",
    "SecurityError",
    "Server",
    "ServerConnection",
    "Side",
    "State",
    "Stream",
    "StreamReset",
    "StreamServer",
    "Target",
    "TcpToWs",
    "WebSocket",
    "WebSocketException",
    "WsToTcp",
    "WsUrl",
    "__version__",
    "basic_auth",
    "broadcast",
    "connect",
    "copy_bidirectional",
    "forward",
    "open_stream",
    "open_transport",
    "open_websocket",
    "process_exception",
    "serve",
    "serve_callbacks",
    "serve_streams",
    "unix_connect",
    "unix_serve",
]


def __getattr__(name: str) -> Any:
    """Import the module that defines ``name``, once."""
    if name in _SUBMODULES:
        return importlib.import_module(f"fastws.{name}")
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'fastws' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
