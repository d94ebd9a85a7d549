"""Dialling: plain, TLS, unix, several addresses; errors in words; nothing leaks."""

import asyncio
import socket
import ssl
import sys
from pathlib import Path

import pytest

from fastws.exceptions import DialTimeout, NoUpstream
from fastws.net import dial as module
from fastws.net.dial import Dialer
from fastws.net.resolve import AddrInfo
from fastws.net.stream import ByteStream, Kind
from fastws.net.tls import client_context
from tests.support.certs import certs, plain_server_context
from tests.support.servers import (
    black_hole,
    both_loops,
    closing,
    echo,
    eventually,
    failure,
    free_port,
    run_on,
    silent,
    tcp_server,
)
from tests.support.timing import LONG, SHORT, UNIT

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="full backlog")
unix_only = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="unix sockets")


async def read(stream: ByteStream, size: int) -> bytes:
    """Exactly ``size`` bytes, through the Hold that parks the stream."""
    stream.transport.resume_reading()
    await eventually(lambda: _again(stream, size))
    return stream.hold.leftover


def _again(stream: ByteStream, size: int) -> bool:
    if len(stream.hold.leftover) < size:
        stream.transport.resume_reading()  # Hold pauses after each read
        return False
    return True


def trusting(port: int, host: str = "localhost", **options: float) -> Dialer:
    context = client_context(ca=certs().ca)
    return Dialer((host, port), tls=context, **options)  # type: ignore[arg-type]


@both_loops
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_plain_stream(loop_name: str, host: str) -> None:
    async def main() -> None:
        async with tcp_server(echo) as port:
            stream = await Dialer((host, port)).dial()
            assert stream.kind is Kind.TCP
            assert not stream.transport.is_reading()
            sock = stream.transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            stream.transport.write(b"ping")
            assert await read(stream, 4) == b"ping"
            stream.transport.abort()

    run_on(loop_name, main())


@both_loops
def test_ipv6_literal(loop_name: str) -> None:
    async def main() -> None:
        try:
            server = tcp_server(echo, host="::1")
            port = await server.__aenter__()
        except OSError:
            pytest.skip("no ::1 here")
        dialer = Dialer(("::1", port))
        assert dialer.name == f"[::1]:{port}"
        stream = await dialer.dial()
        stream.transport.write(b"six")
        assert await read(stream, 3) == b"six"
        stream.transport.abort()
        await server.__aexit__(None, None, None)

    run_on(loop_name, main())


@linux_only
@both_loops
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_user_timeout_is_set(loop_name: str, tls: bool) -> None:
    async def main() -> None:
        context = plain_server_context(certs().server) if tls else None
        async with tcp_server(echo, tls=context) as port:
            dialer = Dialer(
                ("127.0.0.1", port),
                tls=client_context(insecure=True) if tls else None,
                tcp_user_timeout=3.0,
            )
            stream = await dialer.dial()
            sock = stream.transport.get_extra_info("socket")
            option = socket.TCP_USER_TIMEOUT
            assert sock.getsockopt(socket.IPPROTO_TCP, option) == 3000
            stream.transport.abort()

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_server_that_speaks_first_is_heard(loop_name: str, tls: bool) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready\r\n")
        await silent(reader, writer)

    async def main() -> None:
        context = plain_server_context(certs().server) if tls else None
        async with tcp_server(greet, tls=context) as port:
            dialer = trusting(port) if tls else Dialer(("127.0.0.1", port))
            for _ in range(20):
                stream = await dialer.dial()
                await asyncio.sleep(0)
                assert not stream.transport.is_reading()
                assert await read(stream, 11) == b"220 ready\r\n"
                stream.transport.abort()

    run_on(loop_name, main())


@both_loops
def test_bytes_after_eof_are_all_there(loop_name: str) -> None:
    async def say_and_go(_: object, writer: asyncio.StreamWriter) -> None:
        writer.write(b"bye")
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        async with tcp_server(say_and_go) as port:
            stream = await Dialer(("127.0.0.1", port)).dial()
            assert await read(stream, 3) == b"bye"
            stream.transport.resume_reading()
            await eventually(lambda: stream.hold.eof)
            assert not stream.hold.lost  # half-closed, not closed
            stream.transport.abort()

    run_on(loop_name, main())


@both_loops
def test_tls_stream(loop_name: str) -> None:
    async def main() -> None:
        async with tcp_server(echo, tls=plain_server_context(certs().server)) as port:
            stream = await trusting(port).dial()
            assert stream.kind is Kind.TLS
            stream.transport.write(b"secret")
            assert await read(stream, 6) == b"secret"
            stream.transport.abort()

    run_on(loop_name, main())


@both_loops
def test_server_hostname_is_verified_instead_of_the_host(loop_name: str) -> None:
    async def main() -> None:
        context = plain_server_context(certs().elsewhere)
        async with tcp_server(echo, tls=context) as port:
            dialer = Dialer(
                ("127.0.0.1", port),
                tls=client_context(ca=certs().ca),
                server_hostname="elsewhere.example",
            )
            stream = await dialer.dial()
            stream.transport.abort()

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize(
    ("served", "ca", "text"),
    [
        ("expired", "ca", "the certificate has expired"),
        ("elsewhere", "ca", "the certificate is for another name than localhost"),
        ("stranger", "ca", "unknown CA"),
        ("server", None, "unknown CA"),
    ],
)
def test_reject_certificate(
    loop_name: str, served: str, ca: str | None, text: str
) -> None:
    async def main() -> None:
        context = plain_server_context(getattr(certs(), served))
        async with tcp_server(echo, tls=context) as port:
            trusted = client_context(ca=getattr(certs(), ca) if ca else None)
            error = await failure(Dialer(("localhost", port), tls=trusted))
            assert isinstance(error, NoUpstream)
            assert str(error) == f"localhost:{port}: TLS: {text}"

    run_on(loop_name, main())


@both_loops
def test_reject_tls_on_plain_port(loop_name: str) -> None:
    async def main() -> None:
        async def http(reader: asyncio.StreamReader, writer: object) -> None:
            assert isinstance(writer, asyncio.StreamWriter)
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await silent(reader, writer)

        async with tcp_server(http) as port:
            error = await failure(trusting(port))
            text = "TLS: the peer does not speak TLS on this port"
            assert str(error) == f"localhost:{port}: {text}"

    run_on(loop_name, main())


@both_loops
def test_reject_close_during_handshake(loop_name: str) -> None:
    async def close_at_once(reader: asyncio.StreamReader, _: object) -> None:
        await reader.read(1)

    async def main() -> None:
        async with tcp_server(close_at_once) as port:
            error = await failure(trusting(port))
            assert isinstance(error, NoUpstream)
            assert str(error) == f"localhost:{port}: TLS: closed during the handshake"

    run_on(loop_name, main())


@both_loops
def test_handshake_timeout(loop_name: str) -> None:
    async def main() -> None:
        async with tcp_server(silent) as port:
            error = await failure(trusting(port, handshake_timeout=0.05))
            assert isinstance(error, DialTimeout)
            text = "TLS: handshake not finished within 0.05 s"
            assert str(error) == f"localhost:{port}: {text}"

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_refused(loop_name: str, tls: bool) -> None:
    port = free_port()
    context = client_context() if tls else None
    error = run_on(loop_name, failure(Dialer(("127.0.0.1", port), tls=context)))
    assert isinstance(error, NoUpstream)
    assert str(error) == f"127.0.0.1:{port}: connection refused"


@both_loops
def test_unknown_name(loop_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(host: str, port: int, *, timeout: float) -> list[AddrInfo]:
        raise NoUpstream(f"{host}: unknown name")

    monkeypatch.setattr(module, "resolve", unknown)
    error = run_on(loop_name, failure(Dialer(("db.example", 5432))))
    assert str(error) == "db.example: unknown name"


@linux_only
@both_loops
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_connect_timeout(loop_name: str, tls: bool) -> None:
    port, socks = black_hole()
    context = client_context() if tls else None
    dialer = Dialer(("127.0.0.1", port), tls=context, connect_timeout=0.05)
    with closing(*socks):
        error = run_on(loop_name, failure(dialer))
    assert isinstance(error, DialTimeout)
    assert str(error) == f"127.0.0.1:{port}: not connected within 0.05 s"


@both_loops
def test_resolving_counts_as_connecting(
    loop_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited = []

    async def slow(host: str, port: int, *, timeout: float) -> list[AddrInfo]:
        waited.append(timeout)
        await asyncio.sleep(timeout)
        raise DialTimeout(f"{host}: name not resolved within {timeout:g} s")

    monkeypatch.setattr(module, "resolve", slow)
    error = run_on(loop_name, failure(Dialer(("db.example", 1), connect_timeout=0.05)))
    assert str(error) == "db.example: name not resolved within 0.05 s"
    assert waited == [0.05]


@unix_only
@both_loops
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_unix_stream(loop_name: str, tls: bool, tmp_path: Path) -> None:
    path = str(tmp_path / "echo.sock")

    async def main() -> None:
        context: ssl.SSLContext | None = None
        dialer = Dialer(path)
        if tls:
            context = plain_server_context(certs().server)
            trusted = client_context(ca=certs().ca)
            dialer = Dialer(path, tls=trusted, server_hostname="localhost")
        server = await asyncio.start_unix_server(_echo_and_close, path, ssl=context)
        stream = await dialer.dial()
        assert stream.kind is (Kind.TLS if tls else Kind.UNIX)
        assert not stream.transport.is_reading()
        stream.transport.write(b"local")
        assert await read(stream, 5) == b"local"
        stream.transport.abort()
        server.close()

    run_on(loop_name, main())


async def _echo_and_close(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    try:
        await echo(reader, writer)
    except OSError:
        pass
    finally:
        writer.transport.abort()


@unix_only
@both_loops
def test_unix_missing(loop_name: str, tmp_path: Path) -> None:
    path = str(tmp_path / "none.sock")
    error = run_on(loop_name, failure(Dialer(path)))
    assert str(error) == f"unix:{path}: no such file or directory"


@linux_only
@both_loops
def test_unix_waits_for_a_full_backlog(loop_name: str, tmp_path: Path) -> None:
    path = str(tmp_path / "busy.sock")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(0)
    first = socket.socket(socket.AF_UNIX)
    first.connect(path)

    async def main() -> None:
        error = await failure(Dialer(path, connect_timeout=0.05))
        assert str(error) == f"unix:{path}: not connected within 0.05 s"
        task = asyncio.create_task(Dialer(path, connect_timeout=LONG).dial())
        await asyncio.sleep(UNIT / 2)
        assert not task.done()
        accepted, _ = listener.accept()
        stream = await asyncio.wait_for(task, SHORT)
        stream.transport.abort()
        accepted.close()

    with closing(listener, first):
        run_on(loop_name, main())


def test_unix_with_tls_needs_a_name() -> None:
    with pytest.raises(ValueError, match="needs a server_hostname"):
        Dialer("/tmp/x.sock", tls=client_context(insecure=True))


@linux_only
@both_loops
def test_cancel_while_connecting(loop_name: str) -> None:
    port, socks = black_hole()

    async def main() -> None:
        task = asyncio.create_task(Dialer(("127.0.0.1", port)).dial())
        await asyncio.sleep(UNIT / 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with closing(*socks):
        run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_cancel_at_every_turn(loop_name: str, tls: bool) -> None:
    """However far the dial has come, cancelling it leaves no socket behind."""

    async def main() -> None:
        context = plain_server_context(certs().server) if tls else None
        async with tcp_server(silent, tls=context) as port:
            dialer = trusting(port, "127.0.0.1") if tls else Dialer(("127.0.0.1", port))
            finished = 0
            for turns in range(25):
                task = asyncio.create_task(dialer.dial())
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                done = (await asyncio.gather(task, return_exceptions=True))[0]
                if isinstance(done, ByteStream):
                    finished += 1
                    done.transport.abort()
                else:
                    assert isinstance(done, asyncio.CancelledError)
            assert finished < 25

    run_on(loop_name, main())


@both_loops
def test_many_at_once(loop_name: str) -> None:
    async def main() -> None:
        async with tcp_server(echo) as port:
            dialer = Dialer(("127.0.0.1", port))
            streams = await asyncio.gather(*(dialer.dial() for _ in range(100)))
            assert len({id(stream.transport) for stream in streams}) == 100
            for stream in streams:
                stream.transport.abort()

    run_on(loop_name, main())


def test_repr_names_the_upstream() -> None:
    assert repr(Dialer(("::1", 80))) == "<Dialer [::1]:80>"
    context = client_context(insecure=True)
    assert repr(Dialer(("a", 443), tls=context)) == "<Dialer a:443 TLS>"


@both_loops
def test_deadline_turns_its_own_cancellation_into_timeout(loop_name: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(TimeoutError) as caught, module.Deadline(loop, UNIT / 10):
            await asyncio.sleep(LONG)
        assert caught.value.errno is None
        assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]
        with module.Deadline(loop, UNIT):
            pass
        await asyncio.sleep(2 * UNIT)  # the timer is gone

    run_on(loop_name, main())


@both_loops
def test_deadline_lets_other_cancellation_through(loop_name: str) -> None:
    async def limited() -> None:
        with module.Deadline(asyncio.get_running_loop(), LONG):
            await asyncio.sleep(LONG)

    async def main() -> None:
        task = asyncio.create_task(limited())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run_on(loop_name, main())


@both_loops
def test_deadline_and_cancellation_at_once_is_cancellation(loop_name: str) -> None:
    deadlines: list[module.Deadline] = []

    async def limited() -> None:
        deadlines.append(module.Deadline(asyncio.get_running_loop(), LONG))
        with deadlines[0]:
            await asyncio.sleep(LONG)

    async def main() -> None:
        task = asyncio.create_task(limited())
        await asyncio.sleep(0)
        deadlines[0]._fire()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run_on(loop_name, main())
