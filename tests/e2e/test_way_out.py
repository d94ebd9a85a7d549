"""stw on its way out: attempts, credentials, fields from a file, source, redirects."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import Fastws, eventually, run_fastws, stw
from tests.support.rawws import Answer, accept
from tests.support.servers import free_port
from tests.support.services import (
    Service,
    Switch,
    connect,
    is_reset_by,
    read_to_end,
    reset,
)
from tests.support.timing import units

pytestmark = pytest.mark.e2e

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="Linux option")
STW = ("stw", "127.0.0.1:0", "ws://127.0.0.1:9/")


def serve(sock: Any) -> Answer:
    """Accept a WebSocket and read to its end."""
    _, asked = accept(sock)
    read_to_end(sock)
    return asked


@contextlib.contextmanager
def recorder() -> Iterator[Service]:
    """A WebSocket server that keeps each request, and where it came from."""

    def handle(sock: Any) -> None:
        _, asked = accept(sock)
        running.seen.append((asked, sock.getpeername()[0]))
        read_to_end(sock)

    with Service(handle) as running:
        yield running


def ask_once(near: Fastws, server: Service) -> dict[str, str]:
    """The fields of the request that one more connection makes."""
    count = len(server.seen)
    with connect(near.port):
        eventually(lambda: len(server.seen) > count)
    return server.seen[count][0].fields  # type: ignore[no-any-return]


def fields_of(*options: str, **variables: str) -> dict[str, str]:
    """The fields that stw sends with these options."""
    with recorder() as server:
        with stw(f"ws://127.0.0.1:{server.port}/", *options, **variables) as near:
            fields = ask_once(near, server)
        assert "hunter2" not in near.text
    return fields


def failure(*options: str, **variables: str) -> tuple[int, str]:
    """Exit status and last line of stw with these options."""
    done = run_fastws(*STW, *options, **variables)
    assert "hunter2" not in done.stderr
    return done.returncode, done.stderr.splitlines()[-1]


# Credentials


def test_bearer() -> None:
    assert fields_of("--bearer", "hunter2")["authorization"] == "Bearer hunter2"


def test_basic_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "login"
    file.write_text("bob:hunter2:ü\n", "utf-8")
    sent = fields_of(FASTWS_BASIC_FILE=str(file))
    assert sent["authorization"] == "Basic Ym9iOmh1bnRlcjI6w7w="


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (("--bearer", "hunter2", "--basic", "a:hunter2"), 78, "--basic: contradicts"),
        (
            ("--bearer", "hunter2", "-H", "authorization: hunter2"),
            78,
            "--bearer: contradicts the header Authorization",
        ),
        (("--bearer", "hunter2 x"), 2, "'--bearer': the token must be one word"),
        (("--basic", "hunter2"), 2, "'--basic': user and password have no colon"),
    ],
)
def test_credentials_that_contradict_or_break(
    options: tuple[str, ...], status: int, words: str
) -> None:
    code, line = failure(*options)
    assert code == status
    assert words in line


# Fields from a file


def test_header_file_is_read_at_each_dial(tmp_path: Path) -> None:
    file = tmp_path / "fields"
    file.write_text("# a token\n\nAuthorization: Bearer one\nX-A: 1\n")
    with recorder() as server:
        url = f"ws://127.0.0.1:{server.port}/"
        with stw(url, "--header-file", str(file), "-H", "X-B: 2") as near:
            sent = ask_once(near, server)
            assert (sent["authorization"], sent["x-a"]) == ("Bearer one", "1")
            assert sent["x-b"] == "2"
            assert "x-fastws" in sent
            file.write_text("Authorization: Bearer two\r\n")
            sent = ask_once(near, server)
            assert sent["authorization"] == "Bearer two"
            assert "x-a" not in sent
            file.write_text("Authorization: Bearer three\nhunter2\n")
            for _ in range(2):
                assert ask_once(near, server)["authorization"] == "Bearer two"
            file.unlink()
            for _ in range(2):
                assert ask_once(near, server)["authorization"] == "Bearer two"
            file.write_text("Authorization: Bearer four")
            assert ask_once(near, server)["authorization"] == "Bearer four"
        where = f"--header-file {file}"
        words = "the fields read before are sent"
        warnings = [line for line in near.lines if " WARNING " in line]
        assert len(warnings) == 2
        assert f"{where}: line 2: a header has no colon; write 'Name:" in warnings[0]
        assert warnings[0].endswith(words)
        assert f"{where}: cannot be read: no such file or directory" in warnings[1]
        assert "hunter2" not in near.text


def test_header_file_as_a_variable(tmp_path: Path) -> None:
    file = tmp_path / "fields"
    file.write_text("X-A: 1")
    variables = {"FASTWS_HEADER_FILE": str(file), "FASTWS_HEADER": "X-B: 2"}
    sent = fields_of(**variables)
    assert (sent["x-a"], sent["x-b"]) == ("1", "2")


@pytest.mark.parametrize(
    ("text", "more", "words"),
    [
        (None, (), "cannot be read: no such file or directory"),
        ("A: b\n\nHost: x", (), "line 3: use --host for Host"),
        (
            "Authorization: x",
            ("--bearer", "y"),
            "line 1: Authorization is given by another option too",
        ),
    ],
)
def test_bad_header_file(
    tmp_path: Path, text: str | None, more: tuple[str, ...], words: str
) -> None:
    file = tmp_path / "fields"
    if text is not None:
        file.write_text(text, "utf-8")
    status, line = failure("--header-file", str(file), *more)
    assert status == 78
    assert f"--header-file {file}: {words}" in line


def test_pipe_is_no_header_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    status, line = failure("--header-file", str(pipe))
    assert status == 78
    assert line.endswith(f"--header-file {pipe}: is not a regular file")


# Attempts


class Flaky(Service):
    """Refuses its first ``failures`` connections in some way."""

    def __init__(self, failures: int, refuse: Any = reset) -> None:
        def handle(sock: Any) -> None:
            self.seen.append(None)
            if len(self.seen) <= failures:
                refuse(sock)
            else:
                serve(sock)

        super().__init__(handle)


def refuse_with(status: str) -> Any:
    """A handler that answers an upgrade so."""

    def handle(sock: Any) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            data += sock.recv(65536)
        sock.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())

    return handle


@pytest.mark.parametrize("refuse", [reset, refuse_with("503 Busy")], ids=["cut", "503"])
def test_retry(refuse: Any) -> None:
    options = ("--connect-timeout", "10s", "--on-eof", "close")
    with Flaky(2, refuse) as server:
        url = f"ws://127.0.0.1:{server.port}/"
        with stw(url, "--retry", "3", *options, "--log-level", "debug") as near:
            with connect(near.port):
                eventually(lambda: len(server.seen) == 3)
            near.wait_for(" DEBUG +stw id=[0-9a-f]{16}: attempt 2: .*; again in 0")
    with Flaky(2, refuse) as server:
        url = f"ws://127.0.0.1:{server.port}/"
        with stw(url, "--retry", "2", *options) as near:
            assert is_reset_by(near.port)
            assert near.wait_for("WARNING stw ").endswith(" (2 attempts)")
        assert len(server.seen) == 2


def test_one_attempt_without_retry() -> None:
    with Flaky(1) as server:
        with stw(f"ws://127.0.0.1:{server.port}/") as near:
            assert is_reset_by(near.port)
            assert "attempts" not in near.wait_for("WARNING stw ")
        assert len(server.seen) == 1


def test_refusal_that_stays_is_not_tried_again() -> None:
    with Flaky(9, refuse_with("403 Forbidden")) as server:
        with stw(f"ws://127.0.0.1:{server.port}/", "--retry", "5") as near:
            assert is_reset_by(near.port)
            assert "HTTP 403 Forbidden" in near.wait_for("WARNING stw ")
        assert len(server.seen) == 1


def test_attempts_end_with_the_connect_timeout() -> None:
    options = ("--retry", "100", "--connect-timeout", units(20))
    with stw(f"ws://127.0.0.1:{free_port()}/", *options) as near:
        assert is_reset_by(near.port)
        line = near.wait_for("WARNING stw ")
    assert "connection refused (" in line
    attempts = int(line.rpartition("(")[2].split(" ")[0])
    assert 2 <= attempts < 100


def test_bad_retry() -> None:
    status, line = failure("--retry", "0")
    assert status == 78
    assert line.endswith("--retry: must be a whole number from 1 to 100")


# Source and interface


@linux_only  # 127.0.0.0/8 is ours there
def test_source() -> None:
    with recorder() as server:
        url = f"ws://localhost:{server.port}/"
        with stw(url, "--source", "127.0.0.5") as near:
            ask_once(near, server)
            ask_once(near, server)
        assert [peer for _, peer in server.seen] == ["127.0.0.5"] * 2


def test_bad_source() -> None:
    url = f"ws://127.0.0.1:{free_port()}/"
    with stw(url, "--source", "192.0.2.9") as near:
        assert is_reset_by(near.port)
        line = near.wait_for("WARNING stw ")
        assert "--source 192.0.2.9: cannot assign requested address" in line
    with stw(url, "--source", "::1") as near:
        assert is_reset_by(near.port)
        line = near.wait_for("WARNING stw ")
        assert line.endswith("no IPv6 address to reach from --source ::1")
    status, line = failure("--source", "eth0")
    assert status == 2
    assert "'--source': 'eth0' is not an IP address" in line


@linux_only
def test_bind_device() -> None:
    with recorder() as server:
        url = f"ws://127.0.0.1:{server.port}/"
        with stw(url, "--bind-device", "lo") as near:
            ask_once(near, server)
        with stw(url, "--bind-device", "nosuch0") as near:
            assert is_reset_by(near.port)
            line = near.wait_for("WARNING stw ")
            assert line.endswith("--bind-device nosuch0: no such device")
        assert len(server.seen) == 1
    status, line = failure("--bind-device", "sixteen-letters0")
    assert status == 2
    assert "'--bind-device': 'sixteen-letters0' is not a network interface" in line


# Redirects


def test_redirect_is_named_not_followed() -> None:
    with Switch(serve) as server, Service(serve) as other:
        place = f"127.0.0.1:{other.port}/login"
        where = f"http://joe:hunter3@{place}?token=hunter2"
        server.next = refuse_with(f"302 Found\r\nLocation: {where}")
        with stw(f"ws://127.0.0.1:{server.port}/") as near:
            assert is_reset_by(near.port)
            line = near.wait_for("WARNING stw ")
        assert f"HTTP 302 Found, Location: http://…@{place}?…" in line
        assert line.endswith("redirects are not followed: give the URL it points to")
        assert "hunter" not in near.text
        assert other.accepted == 0
