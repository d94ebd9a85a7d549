"""What the converting modes share: limits, words, log lines, closing."""

import asyncio
import logging

import pytest

from fastws.config.schema import TcpToWs, WsToTcp
from fastws.exceptions import (
    ConfigError,
    InvalidStatus,
    RemoteProtocolError,
)
from fastws.http.answers import Refusal, build_health, build_refusal, level_of
from fastws.modes.runner import Stats, default_connections, naming_options, new_id
from fastws.modes.tcp_to_ws import TcpToWsRunner, describe_refusal
from fastws.modes.ws_to_tcp import WsToTcpRunner
from fastws.net.copy import CopyResult


@pytest.mark.parametrize(
    ("descriptors", "connections"),
    [(1, 1), (4, 1), (1024, 256), (32_768, 8192), (1 << 20, 8192)],
)
def test_default_connections(descriptors: int, connections: int) -> None:
    assert default_connections(descriptors) == connections


def test_limit_of_the_spec_reaches_the_listener() -> None:
    runner = WsToTcpRunner(
        WsToTcp(listen="127.0.0.1:0", target="127.0.0.1:9", max_connections=7)
    )
    runner.open()
    assert runner.listener is not None
    assert runner.listener.max_connections == 7
    assert runner.listener.overflow == 64
    runner.listener.close()


def test_ids_are_fresh() -> None:
    ids = {new_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(len(one) == 16 and int(one, 16) >= 0 for one in ids)


def test_stats_show_themselves() -> None:
    names = ("bytes_in", "bytes_out", "open", "refused", "total", "unauthorized")
    stats = Stats()
    stats.total, stats.refused, stats.unauthorized = 3, 2, 1
    stats.bytes_in, stats.bytes_out = 5, 6
    assert str(stats) == "3 connections, 2 refused (1 unauthorized), in=5 out=6"
    assert repr(Stats()) == f"Stats({', '.join(f'{name}=0' for name in names)})"


# Options named in errors


TLS = WsToTcp(
    listen="0", target="tls://h:1", target_cert="cert.pem", target_key="key.pem"
)


@pytest.mark.parametrize(
    ("path", "reason", "text"),
    [
        ("cert.pem", "is bad", "--target-cert cert.pem: is bad"),
        ("key.pem", "is bad", "--target-key key.pem: is bad"),
        ("other.pem", "is bad", "other.pem: is bad"),
        (
            "cert.pem",
            "name it with --key",
            "--target-cert cert.pem: name it with --target-key",
        ),
    ],
)
def test_error_names_the_option(path: str, reason: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        with naming_options(TLS, "ca", "target_cert", "target_key"):
            raise ConfigError(path, reason)
    assert str(caught.value) == text


# The line of a connection that got nowhere


@pytest.mark.parametrize(
    ("ident", "line"),
    [
        ("", "wts 127.0.0.1:5: nothing at /"),
        ("00ff00ff00ff00ff", "wts 127.0.0.1:5 id=00ff00ff00ff00ff: nothing at /"),
    ],
)
def test_refusal_names_the_id_that_both_logs_have(
    ident: str, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    far = WsToTcpRunner(WsToTcp(listen="0", target="h:1"))
    far.refuse("127.0.0.1:5", "nothing at /", ident=ident)
    (record,) = caplog.records
    assert record.getMessage() == line
    assert record.__dict__.get("id", "") == ident
    assert record.__dict__["client"] == "127.0.0.1:5"


# The line at the end


@pytest.mark.parametrize(
    ("reason", "stw", "wts"),
    [
        ("closed", "closed", "closed"),
        ("a: reset", "client: reset", "client: reset"),
        ("b: Close 1011", "server: Close 1011", "target: Close 1011"),
        ("idle time-out", "idle time-out", "idle time-out"),
    ],
)
def test_line_names_the_end_that_broke(
    reason: str, stw: str, wts: str, caplog: pytest.LogCaptureFixture
) -> None:
    result = CopyResult(3, 4, reason, reason == "closed")
    near = TcpToWsRunner(TcpToWs(listen="0", upstream="ws://h/"))
    far = WsToTcpRunner(WsToTcp(listen="0", target="h:1"))
    with caplog.at_level(logging.INFO, "fastws.modes"):
        near._log_end(result, "127.0.0.1:5", "id", 1.23456, logging.INFO)
        far._log_end(result, "127.0.0.1:5", "id", 1.23456, logging.INFO)
    assert [record.getMessage() for record in caplog.records] == [
        f"stw 127.0.0.1:5 id=id in=3 out=4 1.235s {stw}",
        f"wts 127.0.0.1:5 id=id in=3 out=4 1.235s {wts}",
    ]
    assert caplog.records[1].__dict__["bytes_in"] == 3
    assert caplog.records[1].__dict__["reason"] == wts


# What strangers are told, and what the log is


def test_refusal_of_the_server_in_one_line() -> None:
    fields = (("Server", "nginx"), ("Date", "x"), ("CF-Ray", "8f"), ("via", "1.1 p"))
    error = InvalidStatus(502, "Bad Gateway", fields, b"\n <html>\nmore\n")
    assert describe_refusal(error) == (
        "the server answered HTTP 502 Bad Gateway,"
        " Server: nginx, CF-Ray: 8f, via: 1.1 p, body: '<html>'"
    )


def test_long_body_is_cut() -> None:
    error = InvalidStatus(500, "", (), b"x" * 1000)
    assert len(describe_refusal(error)) < 300


@pytest.mark.parametrize(
    ("error", "line", "body"),
    [
        (
            RemoteProtocolError("no Upgrade", http_status=426, headers=(("A", "b"),)),
            b"HTTP/1.1 426 Upgrade Required\r\n",
            b"426 no Upgrade\n",
        ),
        (
            Refusal("target 10.0.0.1:22: refused", http_status=502),
            b"HTTP/1.1 502 Bad Gateway\r\n",
            b"502\n",
        ),
    ],
)
def test_answer_to_a_refused_request(
    error: RemoteProtocolError, line: bytes, body: bytes
) -> None:
    answer = build_refusal(error)
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert head.startswith(line)
    assert rest == body
    assert b"\r\nContent-Length: %d" % len(body) in head
    assert b"\r\nConnection: close" in head
    assert build_refusal(error, is_head=True) == head + b"\r\n\r\n"


def test_health_answers() -> None:
    assert build_health(True, False).endswith(b"\r\n\r\nok\n")
    assert build_health(True, True).endswith(b"\r\n\r\n")
    assert b"\r\nRetry-After: 5\r\n" in build_health(False, False)
    assert build_health(False, False).startswith(b"HTTP/1.1 503 ")


@pytest.mark.parametrize(
    ("status", "level"),
    [
        (None, logging.DEBUG),
        (404, logging.INFO),
        (426, logging.INFO),
        (400, logging.WARNING),
        (403, logging.WARNING),
        (502, logging.WARNING),
        (503, logging.WARNING),
    ],
)
def test_level(status: int | None, level: int) -> None:
    assert level_of(RemoteProtocolError("x", http_status=status)) == level


def test_close_of_an_idle_runner() -> None:
    async def main() -> None:
        runner = WsToTcpRunner(WsToTcp(listen="127.0.0.1:0", target="127.0.0.1:9"))
        runner.open()
        runner.start()
        assert runner.is_ready
        await runner.close()
        await runner.close()
        assert not runner.is_ready

    asyncio.run(main())
