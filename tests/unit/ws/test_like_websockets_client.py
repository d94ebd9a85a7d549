"""Clients behave as those of ``websockets``: errors, ways out, arguments."""

import asyncio
import logging
import socket
from pathlib import Path
from typing import Any

import pytest

import fastws
from fastws.exceptions import (
    DialError,
    InvalidHandshake,
    InvalidHeader,
    InvalidMessage,
    InvalidProxy,
    InvalidStatus,
    InvalidUpgrade,
    InvalidURI,
    NegotiationError,
    OpenTimeout,
    SecurityError,
    UnknownName,
)
from fastws.wire.handshake import accept_key
from fastws.ws.connect import ClientConnection, connect, unix_connect
from fastws.ws.heads import PRODUCT, Headers, Request
from fastws.ws.open_stream import open_stream
from fastws.ws.serve import ServerConnection, unix_serve
from tests.support.certs import certs, plain_client_context, plain_server_context
from tests.support.coroutines import echo, serving, stay
from tests.support.proxies import ConnectProxy
from tests.support.servers import (
    both_loops,
    free_port,
    run_on,
    silent,
    tcp_server,
)
from tests.support.timing import UNIT


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own proxies are none of a test's."""
    for name in ("http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def port_of(server: fastws.Server) -> int:
    return int(server.sockets[0].getsockname()[1])


async def hear(url: str, **options: Any) -> str:
    """Open, have one message echoed, close."""
    async with connect(url, **options) as ws:
        await ws.send("hello")
        return await ws.recv(decode=True)


# -- errors ------------------------------------------------------------------------


@both_loops
def test_a_refused_connection_is_an_os_error(loop_name: str) -> None:
    port = free_port()

    async def main() -> None:
        with pytest.raises(OSError, match="refused") as caught:
            await connect(f"ws://127.0.0.1:{port}/")
        assert isinstance(caught.value, ConnectionRefusedError)
        assert isinstance(caught.value, DialError)
        assert caught.value.errno is not None

    run_on(loop_name, main())


def test_errors_of_connecting_have_the_kinds_that_programs_expect() -> None:
    assert issubclass(UnknownName, OSError)
    assert issubclass(OpenTimeout, TimeoutError)
    assert issubclass(fastws.ConcurrencyError, RuntimeError)
    for kind in (InvalidStatus, InvalidMessage, InvalidHeader, NegotiationError):
        assert issubclass(kind, InvalidHandshake)
    assert issubclass(InvalidUpgrade, InvalidHeader)
    assert issubclass(SecurityError, InvalidHandshake)
    assert str(DialError("what happened")) == "what happened"


@both_loops
@pytest.mark.parametrize(
    ("change", "kind", "name"),
    [
        ("Upgrade: websocket\r\n", InvalidUpgrade, "Upgrade"),
        ("Connection: Upgrade\r\n", InvalidUpgrade, "Connection"),
        ("Sec-WebSocket-Accept: ", InvalidHeader, "Sec-WebSocket-Accept"),
        ("\r\n\r\n", NegotiationError, "was not offered"),
    ],
    ids=["upgrade", "connection", "accept", "subprotocol"],
)
def test_a_wrong_field_of_the_answer_is_named(
    loop_name: str, change: str, kind: type[Exception], name: str
) -> None:
    async def answer(reader: Any, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        key = head.partition("Sec-WebSocket-Key: ")[2].partition("\r\n")[0]
        text = (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Accept: {accept_key(key)}\r\n\r\n"
        )
        extra = {"\r\n\r\n": "\r\nSec-WebSocket-Protocol: x\r\n\r\n"}
        if change.endswith(": "):
            extra[change] = f"{change}no"
        writer.write(text.replace(change, extra.get(change, "")).encode())
        await reader.read()

    async def main() -> None:
        async with tcp_server(answer) as port:
            with pytest.raises(kind, match=name) as caught:
                await connect(f"ws://127.0.0.1:{port}/")
            if isinstance(caught.value, InvalidHeader):
                assert caught.value.name == name
            assert not isinstance(caught.value, InvalidMessage)

    run_on(loop_name, main())


@both_loops
def test_a_server_that_closes_in_place_of_an_answer(loop_name: str) -> None:
    async def leave(reader: asyncio.StreamReader, writer: Any) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Sw")

    async def main() -> None:
        async with tcp_server(leave) as port:
            with pytest.raises(InvalidMessage, match="closed before") as caught:
                await connect(f"ws://127.0.0.1:{port}/")
            assert isinstance(caught.value.__cause__, EOFError)

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_a_server_that_says_nothing_is_a_timeout(loop_name: str, scheme: str) -> None:
    async def main() -> None:
        async with tcp_server(silent) as port:
            with pytest.raises(TimeoutError) as caught:
                await connect(f"{scheme}://127.0.0.1:{port}/", open_timeout=UNIT)
            assert isinstance(caught.value, OpenTimeout)

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize("how", ["name", "authority", "plain"])
def test_tls_that_fails_is_an_os_error(loop_name: str, how: str) -> None:
    async def main() -> None:
        tls = None if how == "plain" else plain_server_context(certs().server)
        async with serving(echo, ssl=tls) as (server, _):
            url = f"wss://localhost:{port_of(server)}/"
            options: dict[str, Any] = {"ssl": plain_client_context()}
            if how == "authority":
                options = {"ssl": True}
            if how == "name":
                options["server_hostname"] = "elsewhere.example"
            with pytest.raises(OSError, match="TLS") as caught:
                await connect(url, **options)
            assert isinstance(caught.value, DialError)
            if tls is not None:
                good = {"ssl": plain_client_context(), "server_hostname": "localhost"}
                assert await hear(url.replace("localhost", "127.0.0.1"), **good)

    run_on(loop_name, main())


@both_loops
def test_messages_may_come_right_behind_the_101(loop_name: str) -> None:
    async def speak(reader: asyncio.StreamReader, writer: Any) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        key = head.partition("Sec-WebSocket-Key: ")[2].partition("\r\n")[0]
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Accept: "
            + accept_key(key).encode()
            + b"\r\n\r\n\x81\x05hello\x88\x02\x03\xe8"
        )
        await reader.readexactly(8)  # the Close in answer

    async def main() -> None:
        async with tcp_server(speak) as port:
            async with connect(f"ws://127.0.0.1:{port}/") as ws:
                assert [message async for message in ws] == ["hello"]

    run_on(loop_name, main())


# -- the way out -------------------------------------------------------------------


@both_loops
def test_the_proxy_of_the_environment_is_used(
    loop_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with serving(echo) as (server, _):
            port = port_of(server)
            with ConnectProxy(port) as proxy:
                monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
                assert await hear("ws://server.example/") == "hello"
                assert proxy.seen == ["server.example:80"]
                direct = f"ws://127.0.0.1:{port}/"
                assert await hear(direct) == "hello"  # nothing here needs a proxy
                at = {"host": "127.0.0.1", "port": port}
                assert await hear("ws://a.example/", proxy=None, **at) == "hello"
                assert len(proxy.seen) == 1
                proxy_url = f"http://127.0.0.1:{proxy.port}"
                assert await hear("ws://b.example/", proxy=proxy_url) == "hello"
                assert proxy.seen[1:] == ["b.example:80"]

    run_on(loop_name, main())


def test_reject_a_variable_that_holds_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "ftp://user:secret@proxy.example")
    with pytest.raises(InvalidProxy, match="http_proxy") as caught:
        connect("ws://server.example/")
    assert "secret" not in str(caught.value)
    connect("wss://server.example/")  # it is not asked for that


@both_loops
def test_host_and_port_change_only_what_is_connected_to(loop_name: str) -> None:
    async def main() -> None:
        hosts: list[str] = []

        def note(ws: ServerConnection, request: Request) -> None:
            hosts.append(request.headers["Host"])

        async with serving(echo, process_request=note) as (server, _):
            port = port_of(server)
            url = "ws://far.example:8765/"
            assert await hear(url, host="127.0.0.1", port=port) == "hello"
            assert await hear(f"ws://127.0.0.1:{port}/") == "hello"
        assert hosts == ["far.example:8765", f"127.0.0.1:{port}"]

    run_on(loop_name, main())


@both_loops
@pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
def test_a_socket_may_be_given(loop_name: str, secure: bool) -> None:
    async def main() -> None:
        context = plain_server_context(certs().server) if secure else None
        async with serving(echo, ssl=context) as (server, _):
            sock = socket.create_connection(("127.0.0.1", port_of(server)))
            url = "wss://localhost/" if secure else "ws://localhost/"
            ssl = plain_client_context() if secure else None
            way = connect(url, sock=sock, ssl=ssl)
            async with way as ws:
                await ws.send("hello")
                assert await ws.recv() == "hello"
            with pytest.raises(ValueError, match="connects only once"):
                await way

    run_on(loop_name, main())


@both_loops
def test_unix_functions_reach_each_other(loop_name: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with unix_serve(echo, tmp_path / "s"), unix_connect(tmp_path / "s") as ws:
            assert ws.request.headers["Host"] == "localhost"
            await ws.send("hello")
            assert await ws.recv() == "hello"

    run_on(loop_name, main())


def test_reject_arguments_that_exclude_each_other() -> None:
    context = plain_client_context()
    with pytest.raises(ValueError, match="wss://"):
        connect("ws://127.0.0.1/", ssl=context)
    with socket.socket() as sock, pytest.raises(ValueError, match="unix socket"):
        connect("ws://127.0.0.1/", sock=sock, host="127.0.0.1")
    with pytest.raises(TypeError, match="extensions"):
        connect("ws://127.0.0.1/", extensions=[])  # type: ignore[call-arg]


@both_loops
def test_fields_of_the_request(loop_name: str) -> None:
    async def main() -> None:
        seen: list[Headers] = []

        def note(ws: ServerConnection, request: Request) -> None:
            seen.append(request.headers)

        async with serving(stay, process_request=note) as (server, url):
            async with connect(url) as ws:
                assert ws.request.headers["user-agent"] == PRODUCT
            async with connect(url, user_agent_header=None):
                pass
            async with connect(url, additional_headers={"user-agent": "mine"}):
                pass
            place = f"us%20er:pass%3A@127.0.0.1:{port_of(server)}"
            async with connect(f"ws://{place}/?a=b@c"):
                pass
        agents = [headers.get("User-Agent") for headers in seen]
        assert agents == [PRODUCT, None, "mine", PRODUCT]
        basic = [headers.get("Authorization") for headers in seen]
        assert basic == [None, None, None, "Basic dXMgZXI6cGFzczo="]


@both_loops
@pytest.mark.parametrize("call", [connect, open_stream])
def test_a_client_knows_what_it_asked_for(loop_name: str, call: Any) -> None:
    async def main() -> None:
        seen: list[Headers] = []

        def note(ws: ServerConnection, request: Request) -> None:
            seen.append(request.headers)

        options: dict[str, Any] = {
            "origin": "https://a.example",
            "subprotocols": ["a", "b"],
            "additional_headers": [("X-A", "1"), ("X-A", "2")],
        }
        if call is connect:
            options["compression"] = "deflate"
        async with serving(stay, process_request=note) as (_, url):
            async with call(url, **options) as ws:
                asked = list(ws.request.headers.raw_items())
        of_every_upgrade = {"upgrade", "connection", "sec-websocket-key"}
        of_every_upgrade.add("sec-websocket-version")
        (sent,) = seen
        assert asked == [
            (name, value)
            for name, value in sent.raw_items()
            if name.lower() not in of_every_upgrade
        ]
        assert dict(asked)["Origin"] == "https://a.example"

    run_on(loop_name, main())


def test_reject_a_url_without_its_password() -> None:
    with pytest.raises(InvalidURI) as caught:
        connect("ws://user:secret@/")
    assert "secret" not in str(caught.value) + caught.value.uri


@both_loops
def test_a_subclass_may_stand_for_the_connection(
    loop_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Mine(ClientConnection):
        async def greet(self) -> None:
            await self.send("hello")
            self.logger.info("said hello")

    async def main() -> None:
        mine = logging.getLogger("tests.mine")
        async with serving(echo) as (_, url):
            way = connect(url, create_connection=Mine, logger=mine)
            async with way as ws:
                assert isinstance(ws, Mine)
                await ws.greet()
                assert await ws.recv() == "hello"
                assert ws.id == ws.id
                async with connect(url) as other:
                    assert other.id != ws.id
                with pytest.raises(RuntimeError, match="in use"):
                    await way.__aenter__()
                (record,) = caplog.records
                assert record.name == "tests.mine"
                assert record.websocket is ws  # type: ignore[attr-defined]

    with caplog.at_level(logging.INFO, "tests.mine"):
        run_on(loop_name, main())
