"""Files that hold secrets, named by variables: read again while a process runs."""

import os
import re
import signal
from pathlib import Path

import pytest

from tests.support import rawws
from tests.support.certs import certs, plain_server_context
from tests.support.cli import Fastws, eventually, stw, wts
from tests.support.proxies import ConnectProxy
from tests.support.rawws import BINARY, upgraded
from tests.support.services import Service, ask, connect, is_reset_by

pytestmark = pytest.mark.e2e


def put(file: Path, text: str) -> Path:
    """Put another file there, at once and whole."""
    new = file.with_suffix(".new")
    new.write_text(text)
    return new.replace(file)


def reread(process: Fastws, file: Path, text: str) -> None:
    """Change a file and say so; what was logged before counts no more."""
    process.mark = len(process.lines)
    put(file, text)
    process.signal(signal.SIGHUP)


def status(port: int, token: str) -> int:
    """What a bearer of ``token`` is answered."""
    with connect(port) as sock:
        sock.sendall(rawws.request(Authorization=f"Bearer {token}"))
        return rawws.Reader(sock).head().status


def test_tokens_that_come_in(service: Service, tmp_path: Path) -> None:
    file = put(tmp_path / "token", "old\nolder\n")
    variables = {"FASTWS_AUTH_TOKEN_FILE": str(file)}
    with wts(service.port, **variables) as process:
        assert [status(process.port, word) for word in ("old", "older")] == [101, 101]
        with upgraded(process.port, Authorization="Bearer old") as running:
            put(file, "new\n")  # seen by itself
            process.wait_for("INFO.*wts: the value of --auth-token reloaded")
            assert [status(process.port, word) for word in ("old", "new")] == [401, 101]
            reread(process, file, "two words\n")
            line = process.wait_for("ERROR.*nothing reloaded")
            assert f": FASTWS_AUTH_TOKEN_FILE {file}: the token must be one" in line
            assert "two words" not in process.text
            assert status(process.port, "new") == 101
            running.send(BINARY, b"x")
            assert running.message(1) == b"x"
        reread(process, file, "\n")
        process.wait_for(f"nothing reloaded: .* {file}: holds no value")
        file.unlink()
        process.signal(signal.SIGHUP)
        process.wait_for(f"nothing reloaded: .* {file}: cannot be read: no such file")
        assert status(process.port, "new") == 101


def test_every_worker_and_every_pair_reads_again(
    service: Service, tmp_path: Path
) -> None:
    file = put(tmp_path / "token", "old")
    also = ("--also", f"127.0.0.1:0=127.0.0.1:{service.port}", "--workers", "2")
    with wts(service.port, *also, FASTWS_AUTH_TOKEN_FILE=str(file)) as process:
        starts = r" on \S+:(\d+) to"
        eventually(lambda: process.count(starts) == 2)
        ports = [int(found) for found in re.findall(starts, process.text)]
        many = ports * 8  # that each worker is met

        def answers(token: str) -> set[int]:
            return {status(port, token) for port in many}

        assert answers("old") == {101}
        reread(process, file, "newer")
        eventually(lambda: answers("old") == {401})
        assert answers("newer") == {101}


def test_token_of_stw(service: Service, tmp_path: Path) -> None:
    file = put(tmp_path / "token", "old\n")
    with wts(service.port, "--auth-token", "new") as far:
        with stw(far.url, FASTWS_BEARER_FILE=str(file)) as near:
            assert is_reset_by(near.port)
            near.wait_for("the server answered HTTP 401")
            reread(near, file, "new\n")
            near.wait_for("stw: the value of --bearer reloaded")
            with connect(near.port) as sock:
                assert ask(sock, b"hello") == b"hello"


def test_fields_of_the_answer(service: Service, tmp_path: Path) -> None:
    file = put(tmp_path / "fields", "X-Colour: red\n")

    def fields(process: Fastws) -> tuple[str | None, str | None]:
        with upgraded(process.port) as peer:
            found = peer.answer.fields
            return found.get("x-colour"), found.get("x-shape")

    with wts(service.port, FASTWS_HEADER_FILE=str(file)) as process:
        assert fields(process) == ("red", None)
        reread(process, file, "X-Colour: green\nX-Shape: round\n")
        process.wait_for("the value of --header reloaded")
        assert fields(process) == ("green", "round")
        reread(process, file, "Upgrade: h2c\n")
        process.wait_for("nothing reloaded: FASTWS_HEADER_FILE .*: Upgrade belongs to")
        assert fields(process) == ("green", "round")


def test_proxy_and_its_authorities(service: Service, tmp_path: Path) -> None:
    """Those of stw's server are no matter of the proxy's."""
    context = plain_server_context(certs().server)
    file = put(tmp_path / "proxy", "https://127.0.0.1:1\n")
    ca = put(tmp_path / "ca.pem", Path(certs().other_ca).read_text("ascii"))
    with (
        wts(service.port) as far,
        ConnectProxy(far.port, tls=context) as proxy,
        stw(
            *("ws://edge.example/", "--proxy-ca", str(ca)),
            FASTWS_PROXY_FILE=str(file),
        ) as near,
    ):
        assert is_reset_by(near.port)
        near.wait_for("proxy https://127.0.0.1:1: connection refused")
        reread(near, file, f"https://localhost:{proxy.port}\n")
        near.wait_for("the value of --proxy reloaded")
        assert is_reset_by(near.port)
        near.wait_for(f"proxy https://localhost:{proxy.port}: TLS: unknown CA")
        reread(near, ca, "no certificate")
        near.wait_for(f"nothing reloaded: --proxy-ca {ca}: ")
        reread(near, ca, Path(certs().ca).read_text("ascii"))
        near.wait_for("certificates and keys reloaded")
        with connect(near.port) as sock:
            assert ask(sock, b"hello") == b"hello"
        reread(near, file, "ftp://localhost\n")
        near.wait_for(r"--proxy: nothing reloaded: FASTWS_PROXY_FILE .*: ftp:// is no")


def test_pipe_is_read_once(service: Service) -> None:
    """As of a shell's <(pass show token): to open it again would wait for ever."""
    readable, writable = os.pipe()
    os.write(writable, b"word\n")
    os.close(writable)
    try:
        with Fastws(
            *("wts", "127.0.0.1:0", f"127.0.0.1:{service.port}"),
            fds=(readable,),
            FASTWS_AUTH_TOKEN_FILE=f"/dev/fd/{readable}",
        ) as process:
            process.signal(signal.SIGHUP)
            process.wait_for("the value of --auth-token: nothing reloaded: a pipe is")
            assert status(process.port, "word") == 101
    finally:
        os.close(readable)
