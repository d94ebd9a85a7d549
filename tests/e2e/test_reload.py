"""Files that change while a process runs: read again by itself, or not at all."""

import base64
import shutil
import signal
import ssl
from pathlib import Path

import pytest

from fastws.http.password import hash_password
from tests.support import rawws
from tests.support.certs import certs, plain_client_context
from tests.support.cli import Fastws, stw, wts
from tests.support.rawws import BINARY, Peer
from tests.support.services import Service, ask, connect, is_reset_by

pytestmark = pytest.mark.e2e


def trusting(ca: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(ca)
    return context


def is_trusted(process: Fastws, ca: str) -> bool:
    """Whether a client that trusts ``ca`` gets in."""
    try:
        with trusting(ca).wrap_socket(
            connect(process.port), server_hostname="localhost"
        ) as sock:
            sock.sendall(rawws.request())
            return rawws.Reader(sock).head().status == 101
    except ssl.SSLCertVerificationError:
        return False


def status(process: Fastws, password: str) -> int:
    """What ``joe`` with this password is answered."""
    pair = base64.b64encode(f"joe:{password}".encode()).decode()
    with connect(process.port) as sock:
        sock.sendall(rawws.request(Authorization=f"Basic {pair}"))
        return rawws.Reader(sock).head().status


def test_certificate(service: Service, tmp_path: Path) -> None:
    file = tmp_path / "cert.pem"
    shutil.copy(certs().server, file)
    with wts(service.port, "--cert", str(file)) as process:
        assert is_trusted(process, certs().ca)
        with plain_client_context().wrap_socket(
            connect(process.port), server_hostname="localhost"
        ) as sock:
            sock.sendall(rawws.request())
            running = Peer(sock, rawws.Reader(sock).head())
            file.write_text("half a certif")
            line = process.wait_for("ERROR.*certificates and keys: nothing reloaded")
            assert f"--cert {file}: holds no certificate (PEM)" in line
            assert is_trusted(process, certs().ca)
            shutil.copy(certs().stranger, file)
            process.signal(signal.SIGHUP)
            process.wait_for("INFO.*certificates and keys reloaded")
            assert is_trusted(process, certs().other_ca)
            assert not is_trusted(process, certs().ca)
            running.send(BINARY, b"hello")
            assert running.message(5) == b"hello"
        assert process.count("nothing reloaded") == 1


def test_authorities_of_stw(service: Service, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    shutil.copy(certs().other_ca, file)
    with wts(service.port, "--cert", certs().server) as far:
        url = f"wss://localhost:{far.port}/"
        with stw(url, "--ca", str(file)) as near:
            with connect(near.port) as sock, pytest.raises(ConnectionResetError):
                sock.recv(1)
            shutil.copy(certs().ca, file)
            near.signal(signal.SIGHUP)
            near.wait_for("certificates and keys reloaded")
            with connect(near.port) as sock:
                assert ask(sock, b"hello") == b"hello"


def test_authorities_of_clients(service: Service, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    shutil.copy(certs().other_ca, file)
    options = ("--cert", certs().server, "--client-ca", str(file))
    with wts(service.port, *options) as far:
        url = f"wss://localhost:{far.port}/"
        with stw(url, "--ca", certs().ca, "--cert", certs().client) as near:
            assert is_reset_by(near.port)
            shutil.copy(certs().ca, file)
            far.signal(signal.SIGHUP)
            far.wait_for("certificates and keys reloaded")
            with connect(near.port) as sock:
                assert ask(sock, b"hello") == b"hello"


def test_users(service: Service, tmp_path: Path) -> None:
    file = tmp_path / "users"
    file.write_text(f"joe:{hash_password('old', bytes(16))}\n")
    with wts(service.port, "--auth-basic", str(file)) as process:
        assert (status(process, "old"), status(process, "new")) == (101, 401)
        file.write_text(f"joe:{hash_password('new', bytes(16))}\n")
        process.signal(signal.SIGHUP)
        process.wait_for("users reloaded")
        assert (status(process, "old"), status(process, "new")) == (401, 101)
        file.write_text("joe:in the clear\n")
        process.signal(signal.SIGHUP)
        process.wait_for("users: nothing reloaded")
        assert status(process, "new") == 101
