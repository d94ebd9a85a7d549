"""The application: exit statuses, signals, the loop it runs on."""

import asyncio
import os
import signal
import socket
import sys
import threading
from types import SimpleNamespace
from typing import Any

import pytest

import fastws
from fastws import app
from fastws.config.schema import TcpToWs, WsToTcp
from fastws.exceptions import ConfigError, ListenError
from fastws.modes.parts import Part
from fastws.modes.tcp_to_ws import TcpToWsRunner
from fastws.modes.ws_to_tcp import WsToTcpRunner
from fastws.signals import Signals, waking
from tests.support.certs import certs
from tests.support.servers import free_port
from tests.support.timing import LONG, SHORT, UNIT

unix_only = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGHUP")


def spec(**options: Any) -> WsToTcp:
    return WsToTcp(listen="127.0.0.1:0", target="127.0.0.1:9", **options)


@pytest.fixture(autouse=True)
def handlers() -> Any:
    """Signal handlers as they were."""
    numbers = [signal.SIGTERM, signal.SIGINT]
    numbers += [signal.SIGHUP] if hasattr(signal, "SIGHUP") else []
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_each_spec_has_its_runner() -> None:
    stw = TcpToWs(listen="127.0.0.1:0", upstream="ws://h/")
    assert type(app.make_runner(stw)) is TcpToWsRunner
    assert type(app.make_runner(spec())) is WsToTcpRunner


# Exit statuses


def test_run_ends_with_0_when_asked() -> None:
    stop = asyncio.Event()
    stop.set()
    assert app.run([spec()], stop=stop) == 0


def test_run_ends_with_78_for_a_wrong_file(caplog: pytest.LogCaptureFixture) -> None:
    assert app.run([spec(cert="/nonexistent")]) == 78
    (record,) = caplog.records
    expected = "--cert /nonexistent: cannot be read: no such file or directory"
    assert record.getMessage() == expected


def test_run_ends_with_1_for_a_port_in_use(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        taken = WsToTcp(listen=f"127.0.0.1:{port}", target="127.0.0.1:9")
        assert app.run([taken]) == 1
    (record,) = caplog.records
    assert record.getMessage() == f"127.0.0.1:{port}: address already in use"


def test_run_works_outside_the_main_thread() -> None:
    """No signal handlers can be set there, and none are."""
    before = signal.getsignal(signal.SIGTERM)
    stop, statuses = asyncio.Event(), []
    stop.set()
    thread = threading.Thread(
        target=lambda: statuses.append(app.run([spec()], stop=stop))
    )
    thread.start()
    thread.join(LONG)
    assert statuses == [0]
    assert signal.getsignal(signal.SIGTERM) is before


# start()


def test_start_opens_and_closes() -> None:
    async def main() -> None:
        async with app.start(spec()) as (runner,):
            (endpoint,) = runner.endpoints
            host, _, port = endpoint.rpartition(":")
            _, writer = await asyncio.open_connection(host, int(port))
            writer.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(host, int(port))

    asyncio.run(main())


def test_start_closes_what_was_open_when_the_next_fails() -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as sock:
            taken = f"127.0.0.1:{sock.getsockname()[1]}"
            port = free_port()
            first = WsToTcp(listen=f"127.0.0.1:{port}", target="127.0.0.1:9")
            second = WsToTcp(listen=taken, target="127.0.0.1:9")
            with pytest.raises(ListenError):
                async with app.start(first, second):
                    pass
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", port)

    asyncio.run(main())


# Signals


@unix_only
def test_signals_are_counted_and_outlive_the_loop() -> None:
    calls: list[str] = []

    async def main() -> None:
        signals = Signals(asyncio.Event(), lambda: calls.append("reload"))
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(signals.first.wait(), SHORT)
        assert not signals.second.is_set()
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.wait_for(signals.second.wait(), SHORT)

    asyncio.run(main())
    assert calls == ["reload"]
    for name in ("SIGTERM", "SIGINT", "SIGHUP"):
        os.kill(os.getpid(), getattr(signal, name))  # nothing happens any more


@unix_only
def test_a_signal_ends_the_wait_of_the_loop_whenever_it_comes() -> None:
    """One that does not interrupt the wait: here another thread gets it."""

    async def main() -> None:
        signals = Signals(asyncio.Event(), lambda: None)
        over = threading.Event()
        thread = threading.Thread(target=over.wait)
        thread.start()
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        loop = asyncio.get_running_loop()
        timer = threading.Timer(UNIT, signal.pthread_kill, (thread.ident, 15))
        late: list[int] = []
        slow = loop.call_later(SHORT, late.append, 1)
        try:
            with waking(loop):
                timer.start()
                await signals.first.wait()
            assert not late
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
            slow.cancel()
            over.set()

    asyncio.run(main())


def test_reload_goes_on_after_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise ConfigError("--cert x.pem", "holds no certificate (PEM)")

    done: list[str] = []
    what = "certificates and keys"
    bad: Any = SimpleNamespace(name="stw", parts=[Part(what, [], fail)])
    parts = [Part(what, [], lambda: done.append("wts"))]
    good: Any = SimpleNamespace(name="wts", parts=parts)
    with caplog.at_level("INFO"):
        app.reload([bad, good])
    assert done == ["wts"]
    assert [record.getMessage() for record in caplog.records] == [
        "stw: certificates and keys: nothing reloaded:"
        " --cert x.pem: holds no certificate (PEM)",
        "wts: certificates and keys reloaded",
    ]


def test_reload_replaces_both_contexts_or_none() -> None:
    async def main() -> None:
        pair = {"cert": certs().server, "ca": certs().ca}
        secure = WsToTcp(listen="127.0.0.1:0", target="tls://127.0.0.1:9", **pair)
        async with app.start(secure) as (runner,):
            before = runner.listener.tls, runner.dialer.tls
            runner.load_tls()
            after = runner.listener.tls, runner.dialer.tls
            assert not set(before) & set(after)
            object.__setattr__(runner, "spec", _with_cert(secure, "/nonexistent"))
            with pytest.raises(ConfigError, match="--cert /nonexistent"):
                runner.load_tls()
            assert (runner.listener.tls, runner.dialer.tls) == after

    asyncio.run(main())


def _with_cert(old: WsToTcp, cert: str) -> WsToTcp:
    return WsToTcp(listen=old.listen, target=old.target, ca=old.ca, cert=cert)


# The loop


def test_loop_is_the_one_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTWS_LOOP", "asyncio")
    assert app.loop_factory() is None


@pytest.mark.skipif(sys.platform == "win32", reason="uvloop is not for Windows")
def test_loop_is_uvloop_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FASTWS_LOOP", raising=False)
    factory = app.loop_factory()
    assert factory is not None
    assert factory.__module__.startswith("uvloop")
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert app.loop_factory() is None


def test_application_is_reached_by_the_public_name() -> None:
    assert fastws.app is app


@pytest.mark.parametrize(
    ("cpus", "most"), [(1, 64), (2, 64), (16, 64), (17, 68), (384, 1536), (None, 64)]
)
def test_workers_are_bounded_by_the_machine(
    monkeypatch: pytest.MonkeyPatch, cpus: int | None, most: int
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: cpus)
    app.check_workers([], most, 0.0)
    with pytest.raises(ConfigError) as caught:
        app.check_workers([], most + 1, 0.0)
    assert str(caught.value) == (
        f"--workers: must be at most {most} here ({cpus or 1} CPUs);"
        " one for each CPU is enough"
    )
