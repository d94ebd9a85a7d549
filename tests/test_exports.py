"""The public surface: a name appears or disappears only on purpose."""

import subprocess
import sys

import pytest

import fastws

PUBLIC = {
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
}


def test_exports_are_these() -> None:
    assert set(fastws.__all__) == PUBLIC
    assert len(fastws.__all__) == len(PUBLIC)


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_export_resolves(name: str) -> None:
    assert getattr(fastws, name) is not None
    assert name in dir(fastws)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"'fastws' has no attribute 'nonsense'"):
        _ = fastws.nonsense


def test_backend_is_one_of_the_twins() -> None:
    assert fastws.BACKEND in {"cython", "python"}


def test_errors_share_one_base() -> None:
    errors = [getattr(fastws, name) for name in fastws.__all__]
    errors = [e for e in errors if isinstance(e, type) and issubclass(e, Exception)]
    assert len(errors) == 28
    assert all(issubclass(error, fastws.FastwsError) for error in errors)


def test_import_loads_nothing_heavy() -> None:
    """Names resolve lazily: ``import fastws`` alone starts no other library."""
    code = (
        "import sys; before = set(sys.modules); import fastws; "
        "print(*sorted({n.split('.')[0] for n in set(sys.modules) - before}))"
    )
    command = [sys.executable, "-S", "-c", f"import typing, importlib; {code}"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["fastws"]
