"""What goes wrong at start: one line that says what, where and what to do; the status.

2: the command line cannot be parsed. 78: a value names something wrong. 1: the rest.
"""

import os
import re
import socket
import stat
import sys
from pathlib import Path

import pytest

from tests.support.certs import certs
from tests.support.cli import Fastws, run_fastws, wts

pytestmark = pytest.mark.e2e

WTS = ("wts", "127.0.0.1:0", "127.0.0.1:9")
STW = ("stw", "127.0.0.1:0", "wss://127.0.0.1:9/")
TLS = ("wts", "127.0.0.1:0", "tls://127.0.0.1:9")

NO_FILE = "/nonexistent/file.pem"


def without_place(value: object) -> str | None:
    """A test's name that is the same in every process."""
    return re.sub(r"/\S*/", "", value) if isinstance(value, str) else None


def failure(*arguments: str, **variables: str) -> tuple[int, str]:
    """Exit status, and the only line that was written."""
    done = run_fastws(*arguments, **variables)
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    return done.returncode, lines[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*WTS, "--cert", NO_FILE), f"--cert {NO_FILE}: cannot be read: no such file"),
        (
            (*WTS, "--cert", certs().cert),
            "holds no private key (PEM); name its key's file with --key",
        ),
        ((*WTS, "--cert", certs().key), f"--cert {certs().key}: holds no certificate"),
        (
            (*WTS, "--cert", certs().cert, "--key", certs().ca),
            f"--key {certs().ca}: holds no private key (PEM)",
        ),
        (
            (*WTS, "--cert", certs().cert, "--key", certs().client),
            f"--key {certs().client}: the private key does not belong to the first of",
        ),
        (
            (*WTS, "--cert", certs().cert, "--key", certs().encrypted_key),
            f"--key {certs().encrypted_key}: the private key is encrypted; decrypt it",
        ),
        (
            (*WTS, "--cert", certs().server, "--client-ca", NO_FILE),
            f"--client-ca {NO_FILE}: cannot be read: no such file or directory",
        ),
        ((*STW, "--ca", NO_FILE), f"--ca {NO_FILE}: cannot be read: no such file"),
        ((*STW, "--ca", certs().key), f"--ca {certs().key}: holds no certificate"),
        ((*STW, "--cert", NO_FILE), f"--cert {NO_FILE}: cannot be read"),
        ((*TLS, "--target-cert", NO_FILE), f"--target-cert {NO_FILE}: cannot be read"),
        (
            (*TLS, "--target-cert", certs().cert),
            "name its key's file with --target-key",
        ),
        (
            (*TLS, "--target-cert", certs().cert, "--target-key", NO_FILE),
            f"--target-key {NO_FILE}: cannot be read",
        ),
    ],
    ids=without_place,
)
def test_file_that_does_not_fit(arguments: tuple[str, ...], words: str) -> None:
    status, line = failure(*arguments)
    assert status == 78
    assert words in line


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_unreadable_key(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_text(Path(certs().key).read_text())
    key.chmod(0)
    status, line = failure(*WTS, "--cert", certs().cert, "--key", str(key))
    assert status == 78
    assert f"--key {key}: cannot be read: permission denied" in line


def test_directory_in_place_of_a_key(tmp_path: Path) -> None:
    status, line = failure(*WTS, "--cert", certs().cert, "--key", str(tmp_path))
    assert status == 78
    assert f"--key {tmp_path}: cannot be read: is a directory" in line


def test_expired_certificate_of_our_own_is_a_warning() -> None:
    with wts(9, "--cert", certs().expired) as process:
        line = process.lines[0]
    assert line.endswith(f"{certs().expired}: the certificate has expired")
    assert " WARNING " in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*WTS, "--key", certs().key), "--key: needs --cert"),
        (("stw", "0", "ws://h/", "--insecure"), "--insecure: only means something"),
        ((*STW, "--insecure", "--ca", certs().ca), "--insecure: contradicts --ca"),
        (("wts", "127.0.0.1:80", "127.0.0.1:80"), "LISTEN: is the address to connect"),
    ],
)
def test_contradiction(arguments: tuple[str, ...], words: str) -> None:
    status, line = failure(*arguments)
    assert status == 78
    assert words in line


# Status 1: LISTEN cannot be had


def test_port_in_use() -> None:
    with wts(9) as process:
        where = f"127.0.0.1:{process.port}"
        status, line = failure("wts", where, "127.0.0.1:9")
    assert status == 1
    assert f"{where}: address already in use" in line


def test_foreign_address() -> None:
    status, line = failure("wts", "192.0.2.1:8080", "127.0.0.1:9")
    assert status == 1
    assert "192.0.2.1:8080: cannot assign requested address" in line


def test_unresolvable_listen_name() -> None:
    status, line = failure("wts", "no-such-host.invalid:8080", "127.0.0.1:9")
    assert status == 1
    assert "no-such-host.invalid" in line


@pytest.mark.skipif(os.geteuid() == 0, reason="root may bind every port")
def test_privileged_port() -> None:
    status, line = failure("wts", "127.0.0.1:1", "127.0.0.1:9")
    assert status == 1
    assert "127.0.0.1:1: permission denied" in line


def test_unix_path_without_its_directory() -> None:
    status, line = failure("wts", "unix:/nonexistent/socket", "127.0.0.1:9")
    assert status == 1
    assert "unix:/nonexistent/socket: no such file or directory" in line


def test_unix_path_that_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("precious")
    status, line = failure("wts", f"unix:{path}", "127.0.0.1:9")
    assert status == 1
    assert f"unix:{path}: " in line
    assert path.read_text() == "precious"
    assert stat.S_ISREG(path.stat().st_mode)


def test_unix_path_in_use(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with Fastws("wts", f"unix:{path}", "127.0.0.1:9"):
        status, line = failure("wts", f"unix:{path}", "127.0.0.1:9")
        assert status == 1
        assert f"unix:{path}: address already in use" in line
        assert path.is_socket()


def test_unix_path_left_by_a_crash_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    sock.close()
    with Fastws("wts", f"unix:{path}", "127.0.0.1:9") as process:
        assert process.endpoints == [f"unix:{path}"]


def test_descriptor_that_is_none() -> None:
    status, line = failure("wts", "fd:42", "127.0.0.1:9")
    assert status == 1
    assert "fd:42: bad file descriptor" in line


def test_descriptor_that_is_no_listener() -> None:
    status, line = failure("wts", "fd:0", "127.0.0.1:9")
    assert status == 1
    assert "fd:0: " in line


@pytest.mark.parametrize("form", ["human", "json"])
def test_failure_keeps_the_log_format(form: str) -> None:
    status, line = failure(*WTS, "--cert", NO_FILE, "--log-format", form)
    assert status == 78
    assert line.startswith("{") is (form == "json")


def test_status_2_names_the_argument() -> None:
    done = run_fastws("wts", "127.0.0.1:0", "127.0.0.1:9", "--ping", "soon")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(
        "Error: Invalid value for '--ping': 'soon' is not a duration"
    )


def test_variable_of_a_file_is_named_by_its_path() -> None:
    status, line = failure(*WTS, FASTWS_CERT=NO_FILE)
    assert status == 78
    assert f"{NO_FILE}: cannot be read: no such file or directory" in line


def test_python_optimised_mode_starts() -> None:
    """Nothing depends on assert statements."""
    assert sys.flags.optimize == 0
    with wts(9, PYTHONOPTIMIZE="2") as process:
        assert process.port
