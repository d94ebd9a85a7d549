"""Several targets behind one port, and several ports in one process."""

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from fastws.cli.main import cli
from tests.support import rawws
from tests.support.cli import Fastws, eventually, run_fastws, stw, wts
from tests.support.rawws import BINARY, upgraded
from tests.support.servers import free_port
from tests.support.services import Service, ask, connect, echo, read_to_end
from tests.support.timing import UNIT, units

pytestmark = pytest.mark.e2e


@contextlib.contextmanager
def saying(word: bytes, path: str | None = None) -> Iterator[Service]:
    """A service that says ``word`` and waits for the end."""

    def handle(sock: socket.socket) -> None:
        sock.sendall(word)
        read_to_end(sock)

    with Service(handle, path=path) as running:
        yield running


def heard(process: Fastws, path: str, **fields: str) -> bytes:
    """What an upgrade of ``path`` leads to; the status where it is refused."""
    with connect(process.port) as sock:
        sock.sendall(rawws.request(path, **fields))
        reader = rawws.Reader(sock)
        status = reader.head().status
        if status != 101:
            return b"%d" % status
        return reader.frame().payload


def plain(process: Fastws, path: str) -> int:
    """The status of a plain GET."""
    text = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    return rawws.exchange(process.port, text.encode())[0].status


# --route


def test_routes(tmp_path: Path) -> None:
    sock_path = str(tmp_path / "s")
    with saying(b"one") as one, saying(b"two", sock_path), saying(b"rest") as rest:
        options = (
            *("--route", f"/one=127.0.0.1:{one.port}"),
            *("--route", f"/two/*=unix:{sock_path}"),
            *("--route", f"h.example/*=127.0.0.1:{one.port}"),
        )
        with wts(rest.port, *options) as process:
            assert heard(process, "/one?x=1") == b"one"
            assert heard(process, "/two/a/b") == b"two"
            assert heard(process, "/two") == b"rest"
            assert heard(process, "/") == b"rest"
            assert heard(process, "/two/x", Host="h.example:80") == b"one"


def test_without_target_only_routes_upgrade() -> None:
    with saying(b"one") as one:
        listen = ("wts", "127.0.0.1:0", "--route", f"/one=127.0.0.1:{one.port}")
        with Fastws(*listen) as process:
            assert heard(process, "/one") == b"one"
            assert heard(process, "/other") == b"404"
            assert plain(process, "/one") == 426
            assert plain(process, "/other") == 404
            assert plain(process, "/healthz") == 200
            process.wait_for(r"INFO.*nothing at /other \(--route\)")


def test_routes_by_variable() -> None:
    with saying(b"one") as one, saying(b"two") as two:
        lines = f"/1=127.0.0.1:{one.port}\n/2=127.0.0.1:{two.port}\n"
        with Fastws("wts", "127.0.0.1:0", FASTWS_ROUTE=lines) as process:
            assert (heard(process, "/1"), heard(process, "/2")) == (b"one", b"two")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("--route", "/a=h:1", "--route", "/a=h:2"), 78, "--route: /a is named twice"),
        (("--route", "/a"), 2, "'/a' is not a route; write /PATH=TARGET"),
        ((), 2, "Missing argument 'TARGET'."),
        (("h:1", "h"), 2, "Invalid value for 'TARGET': 'h' has no port"),
        (("h:1", "--also", "9=h:2", "--also", "9=h:3"), 78, "--also: 9 is listened on"),
        (("h:1", "--also", "9"), 2, "a pair has two sides"),
    ],
)
def test_reject_targets(arguments: tuple[str, ...], status: int, message: str) -> None:
    done = CliRunner().invoke(cli, ["wts", "127.0.0.1:0", *arguments])
    assert done.exit_code == status
    assert message in done.output.splitlines()[-1]


def test_unreadable_token_file() -> None:
    done = run_fastws("wts", "127.0.0.1:0", "--token-file", "/nonexistent")
    assert done.returncode == 78
    (line,) = done.stderr.splitlines()
    expected = "--token-file /nonexistent: cannot be read: no such file or directory"
    assert line.endswith(expected)


# --token-file


def test_tokens_are_read_again_when_the_file_changes(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    with saying(b"one") as one, saying(b"two") as two:
        file.write_text(f"a: 127.0.0.1:{one.port}\nbroken\nb: 127.0.0.1:{two.port}\n")
        with Fastws("wts", "127.0.0.1:0", "--token-file", str(file)) as process:
            process.wait_for(
                r"WARNING.*tokens: line 2: write 'token: host:port'", start=0
            )
            assert heard(process, "/websockify?token=a") == b"one"
            assert heard(process, "/b") == b"two"
            assert heard(process, "/?token=secret") == b"403"
            process.wait_for(r"WARNING.*its token is not known \(--token-file\)")
            with upgraded(process.port, "/?token=a") as kept:
                assert kept.frame().payload == b"one"
                file.write_text(f"c: 127.0.0.1:{two.port}\n")
                process.wait_for(r"INFO.*tokens reloaded")
                assert heard(process, "/?token=a") == b"403"
                assert heard(process, "/?token=c") == b"two"
                file.write_text("nothing good\n")
                process.signal(signal.SIGHUP)
                process.wait_for(r"ERROR.*tokens: nothing reloaded: .*no usable line")
                assert heard(process, "/?token=c") == b"two"
                file.unlink()
                process.signal(signal.SIGHUP)
                process.wait_for(r"nothing reloaded: .*cannot be read: no such file")
                assert heard(process, "/?token=c") == b"two"
                assert one.accepted == 2
            assert "secret" not in process.text


def test_sighup_reads_tokens_again(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    with saying(b"one") as one:
        file.write_text("# nobody\n")
        with Fastws("wts", "127.0.0.1:0", "--token-file", str(file)) as process:
            assert heard(process, "/?token=a") == b"403"
            stamp = os.stat(file)
            file.write_text(f"a: 127.0.0.1:{one.port}\n")
            os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
            process.signal(signal.SIGHUP)
            process.wait_for(r"tokens reloaded")
            assert heard(process, "/?token=a") == b"one"


# Several TARGETs


def test_targets_share_the_connections() -> None:
    with saying(b"one") as one, saying(b"two") as two:
        with wts(one.port, f"127.0.0.1:{two.port}") as process:
            with contextlib.ExitStack() as stack:
                for _ in range(10):
                    peer = stack.enter_context(upgraded(process.port))
                    assert peer.frame().payload in (b"one", b"two")
                assert (one.accepted, two.accepted) == (5, 5)


def test_least_connections() -> None:
    with saying(b"one") as one, saying(b"two") as two:
        with wts(one.port, f"127.0.0.1:{two.port}", "--log-level", "info") as process:
            with upgraded(process.port) as first:
                word = first.frame().payload
                for _ in range(3):  # each ends before the next one comes
                    with upgraded(process.port) as peer:
                        other = peer.frame().payload
                        assert other != word
                        ended = process.count("in=0 out=3")
                    eventually(lambda n=ended: process.count("in=0 out=3") > n)


def test_another_target_is_tried_and_the_failed_one_rests() -> None:
    dead = free_port()
    with saying(b"one") as one:
        with wts(dead, f"127.0.0.1:{one.port}") as process:
            for _ in range(4):
                assert heard(process, "/") == b"one"
            line = process.wait_for(r"WARNING target .* rests 10 s")
            assert f"127.0.0.1:{dead}: connection refused" in line
            assert process.count("rests 10 s") == 1


def test_no_target_left() -> None:
    with wts(free_port(), f"127.0.0.1:{free_port()}") as process:
        assert heard(process, "/") == b"502"
        assert heard(process, "/") == b"502"
    assert process.count("rests 10 s") == 2


# --also


def test_also_opens_further_pairs() -> None:
    second, third = free_port(), free_port()
    with saying(b"one") as one, saying(b"two") as two:
        options = (
            *("--also", f"127.0.0.1:{second}=127.0.0.1:{two.port}"),
            *("--also", f"127.0.0.1:{third}=127.0.0.1:{one.port}"),
        )
        with wts(one.port, *options, "--path", "/p") as process:
            process.wait_for(f"127.0.0.1:{third} to")
            assert heard(process, "/p") == b"one"
            for port, word in ((second, b"two"), (third, b"one")):
                with upgraded(port, "/p") as peer:
                    assert peer.frame().payload == word
                head, _ = rawws.exchange(port, rawws.request("/other"))
                assert head.status == 404


def test_also_for_stw() -> None:
    port = free_port()
    with Service(echo) as service, wts(service.port) as far:
        with stw(far.url, "--also", f"127.0.0.1:{port}={far.url}") as near:
            near.wait_for(f"127.0.0.1:{port} to ws://")
            for number in (near.port, port):
                with connect(number) as sock:
                    assert ask(sock, b"hello") == b"hello"


# --max-connection-age


def test_old_connection_ends_as_by_a_drain() -> None:
    with Service(echo) as service:
        with wts(service.port, "--max-connection-age", units(15)) as process:
            with upgraded(process.port) as peer:
                peer.send(BINARY, b"x")
                assert peer.message(1) == b"x"
                frame = peer.frame()
                assert (frame.opcode, frame.code) == (rawws.CLOSE, 1001)
                peer.close()
            line = process.wait_for(r"in=1 out=1")
            assert "connection age (--max-connection-age)" in line


def test_age_is_off_by_default() -> None:
    with Service(echo) as service, wts(service.port) as process:
        with upgraded(process.port) as peer:
            peer.sock.settimeout(5 * UNIT)
            with pytest.raises(TimeoutError):
                peer.frame()
