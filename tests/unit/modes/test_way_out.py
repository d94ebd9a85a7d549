"""Fields from a file, attempts, and the way to a server, without a process."""

import asyncio
import logging
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from fastws.config.schema import TcpToWs
from fastws.exceptions import (
    ConfigError,
    Denied,
    DialError,
    InvalidStatus,
    NoUpstream,
    RemoteProtocolError,
)
from fastws.modes.header_file import HeaderFile
from fastws.modes.way_out import insist, make_dialer, may_pass
from fastws.net.dial import Dialer, Outlet
from fastws.net.proxy import ProxyDialer
from fastws.net.resolve import AddrInfo
from tests.support.proxies import ConnectProxy, hang_up, say
from tests.support.servers import both_loops, failure, run_on
from tests.support.services import Service, echo, read_to_end
from tests.support.timing import LONG, SHORT, UNIT


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A: b\nC d", "line 2: a header has no colon"),
        ("\n# A\n: x", "line 3: '' is not a header name"),
        ("A b: x", "line 1: 'A b' is not a header name"),
        ("Upgrade: x", "line 1: Upgrade belongs to the upgrade itself"),
        ("X-Fastws: x", "line 1: X-Fastws belongs to the upgrade itself"),
        ("A: ü", "line 1: the value of A must be one line of printable ASCII"),
        ("A: \0", "line 1: the value of A must be one line of printable ASCII"),
        ("A: " + "b" * (16 * 1024 - 2), "is longer than 16 KiB"),
        ("taken: x", "line 1: taken is given by another option too"),
    ],
)
def test_bad_header_file(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "fields"
    file.write_text(text, "utf-8")
    with pytest.raises(ConfigError) as caught:
        HeaderFile(str(file), {"taken"})
    assert str(caught.value).startswith(f"--header-file {file}: {words}")


def test_header_file_of_the_largest_size(tmp_path: Path) -> None:
    file = tmp_path / "fields"
    file.write_text("A: " + "b" * (16 * 1024 - 3))
    ((name, value),) = HeaderFile(str(file)).fields
    assert (name, len(value)) == ("A", 16 * 1024 - 3)


def test_header_file_tells_of_a_change(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "fields"
    path.write_text("A: 1")
    file = HeaderFile(str(path))
    assert not file.refresh()
    path.write_text("A: 2\r\n\r\nB:3\t\n")
    assert file.refresh()
    assert file.fields == (("A", "2"), ("B", "3"))
    with caplog.at_level(logging.WARNING):
        path.write_text("no colon")
        assert not file.refresh()
        assert not file.refresh()
        assert len(caplog.records) == 1
        path.write_text("A: 2\r\n\r\nB:3\t\n")  # good again: news are logged again
        assert not file.refresh()
        path.write_text("no colon")
        assert not file.refresh()
        assert len(caplog.records) == 2
    assert file.fields == (("A", "2"), ("B", "3"))
    path.write_text("")
    assert file.refresh()
    assert file.fields == ()


def refused(status: int) -> DialError:
    error = DialError("refused")
    error.__cause__ = InvalidStatus(status, "")
    return error


def tls_failed(cause: OSError) -> DialError:
    error = NoUpstream("TLS: failed")
    error.__cause__ = cause
    return error


def tls_error(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, reason)
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (tls_failed(ssl.SSLCertVerificationError("unknown CA")), False),
        (tls_failed(tls_error("WRONG_VERSION_NUMBER")), False),
        (tls_failed(tls_error("TLSV13_ALERT_CERTIFICATE_REQUIRED")), False),
        (tls_failed(tls_error("TLSV1_ALERT_INTERNAL_ERROR")), True),
        (tls_failed(ssl.SSLEOFError("closed")), True),
        (tls_failed(ConnectionResetError("closed")), True),
        (NoUpstream("refused"), True),
        (OSError("reset"), True),
        (RemoteProtocolError("closed"), True),
        (Denied("password"), False),
        (refused(503), True),
        (refused(522), True),
        (refused(499), False),
        (refused(302), False),
    ],
)
def test_what_may_pass(error: Exception, expected: bool) -> None:
    assert may_pass(error) is expected


class Attempts:
    """Fails ``failures`` times; keeps what it was given."""

    def __init__(self, failures: int, error: Exception) -> None:
        self.failures = failures
        self.error = error
        self.given: list[float] = []

    async def __call__(self, left: float) -> str:
        self.given.append(left)
        if len(self.given) <= self.failures:
            raise self.error
        return "done"


def test_insist_until_it_works() -> None:
    attempts = Attempts(2, NoUpstream("down"))
    assert asyncio.run(insist(attempts, 3, LONG)) == "done"
    assert len(attempts.given) == 3
    assert LONG - SHORT < attempts.given[0] <= LONG
    assert attempts.given == sorted(attempts.given, reverse=True)


def test_insist_gives_up() -> None:
    attempts = Attempts(9, NoUpstream("down"))
    with pytest.raises(DialError, match=r"^down \(2 attempts\)$"):
        asyncio.run(insist(attempts, 2, LONG))
    assert len(attempts.given) == 2


def test_insist_does_not_repeat_a_refusal() -> None:
    attempts = Attempts(9, Denied("password"))
    with pytest.raises(Denied, match=r"^password$"):
        asyncio.run(insist(attempts, 9, LONG))
    assert len(attempts.given) == 1


# The way


def test_outlet_needs_an_address() -> None:
    with pytest.raises(ValueError, match="'eth0' is not an address"):
        Outlet("eth0")


def test_outlet_takes_its_own_family() -> None:
    four = AddrInfo(socket.AF_INET, ("192.0.2.1", 80))
    six = AddrInfo(socket.AF_INET6, ("2001:db8::1", 80, 0, 0))
    assert Outlet("192.0.2.9").usable([six, four]) == [four]
    assert Outlet("::1").usable([six, four]) == [six]
    assert Outlet(None, "lo" if hasattr(socket, "SO_BINDTODEVICE") else None).usable(
        [six, four]
    ) == [six, four]
    with pytest.raises(OSError, match="no IPv6 address to reach from --source ::1"):
        Outlet("::1").usable([four])


def test_system_without_interfaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "SO_BINDTODEVICE", raising=False)
    spec = TcpToWs(listen="0", upstream="ws://h/", bind_device="eth0")
    with pytest.raises(ConfigError, match=r"^--bind-device: this system cannot"):
        make_dialer(spec, None)


def test_direct_dialer_without_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://h:1")
    dialer = make_dialer(TcpToWs(listen="0", upstream="ws://127.0.0.1/"), None)
    assert type(dialer) is Dialer
    assert dialer.outlet is None
    dialer = make_dialer(TcpToWs(listen="0", upstream="ws://e.example/"), None)
    assert isinstance(dialer, ProxyDialer)
    assert repr(dialer) == "<ProxyDialer e.example:80 through proxy http://h:1>"


def through(scheme: str, port: int, **options: Any) -> ProxyDialer:
    place = ("127.0.0.1", port)
    return ProxyDialer(("e.example", 80), scheme=scheme, proxy=place, **options)


@both_loops
def test_server_that_speaks_first_is_heard(loop_name: str) -> None:
    """Its first bytes come in one piece with the proxy's answer."""

    async def main(port: int) -> None:
        stream = await through("http", port).dial()
        assert not stream.transport.is_reading()
        assert stream.hold.leftover == b"220 ready"
        stream.transport.abort()

    with Service(echo) as server, ConnectProxy(server.port) as proxy:
        proxy.answer += b"220 ready"
        run_on(loop_name, main(proxy.port))


@both_loops
@pytest.mark.parametrize("scheme", ["http", "https", "socks5h"])
@pytest.mark.parametrize("handle", [hang_up, say(b"nonsense"), read_to_end])
def test_failures_leave_nothing_behind(
    loop_name: str, scheme: str, handle: Any
) -> None:
    async def main(port: int) -> None:
        dialer = through(scheme, port, connect_timeout=UNIT)
        for _ in range(3):
            error = await failure(dialer)
            name = f"proxy {scheme}://127.0.0.1:{port}: "
            assert str(error).startswith(name)

    with Service(handle) as proxy:
        run_on(loop_name, main(proxy.port))


@both_loops
def test_cancelled_dial_leaves_nothing_behind(loop_name: str) -> None:
    async def main(port: int) -> None:
        task = asyncio.create_task(through("http", port).dial())
        await asyncio.wait([task], timeout=UNIT)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with Service(read_to_end) as proxy:
        run_on(loop_name, main(proxy.port))
