"""How ``fastws rust-proxy`` is started and entered: features R3 to R5, R26, R27."""

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from tests.support.asking import NO_LOGIN, reply, request
from tests.support.certs import NAMES, certs
from tests.support.cli import Fastws, run_fastws
from tests.support.rust_proxy import (
    CLOSE,
    opened,
    plain_server,
    proxy_server,
    status_of,
)
from tests.support.services import (
    Service,
    ask,
    connect,
    read_exactly,
    read_to_end,
)

pytestmark = [pytest.mark.e2e, pytest.mark.interop]


@pytest.fixture(scope="module")
def server() -> Iterator[Fastws]:
    with proxy_server() as process:
        yield process


# -- the way in --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("token", "status"),
    [
        ("tok", 101),
        ("Bearer tok", 101),  # the real one refuses it; fastws clients send it
        (None, 401),
        ("", 401),
        ("tok2", 401),
        ("to", 401),
        ("Bearer wrong", 401),
        ("Basic dG9rOnRvaw==", 401),
        ("tok tok", 401),
    ],
)
def test_r3_token(server: Fastws, token: str | None, status: int) -> None:
    server.mark = len(server.lines)
    assert status_of(server.port, token) == status
    if status != 101:
        server.wait_for("proxy-server 127.0.0.1:.* \\(--auth-token\\)")


def test_r3_two_fields_are_refused(server: Fastws) -> None:
    with opened(server.port, token="tok\r\nAuthorization: tok") as client:
        assert client.answer.status == 401


def test_rule_13_3_1_wrong_tokens_are_limited_by_address() -> None:
    with plain_server("--auth-attempts", "3") as server:
        found = [status_of(server.port, "x", plain=True) for _ in range(5)]
        assert found == [401, 401, 401, 429, 429]
        with opened(server.port, plain=True) as client:
            assert client.answer.status == 429  # the right one, too
            assert 0 < int(client.answer.fields["retry-after"]) <= 60
        server.wait_for(r"INFO .*: 3 wrong tokens of this address \(--auth-attempts\)")
    with plain_server("--auth-attempts", "0") as server:
        found = [status_of(server.port, "x", plain=True) for _ in range(25)]
        assert found == [401] * 25
        assert status_of(server.port, "tok", plain=True) == 101


@pytest.mark.parametrize("path", ["/", "/some/path", "/a?b=c"])
def test_r4_any_path(server: Fastws, service: Service, path: str) -> None:
    with opened(server.port, path) as client:
        assert client.ask(service.port, b"hello") == b"hello"


def test_r4_the_only_path() -> None:
    with proxy_server("--path", "/some/path") as server:
        assert status_of(server.port, "tok", "/some/path") == 101
        assert status_of(server.port, "tok", "/") == 404


def keys(place: Path) -> dict[str, tuple[Path, Path]]:
    """Chain and key in files of their own, for each kind of key."""
    made = {}
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(place / "ca.pem"))
    pkcs8, old = PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL
    for name, kind, form in (
        ("rsa-pkcs1", trustme.KeyType.RSA, old),
        ("rsa-pkcs8", trustme.KeyType.RSA, pkcs8),
        ("ec-pkcs8", trustme.KeyType.ECDSA, pkcs8),
        ("ec-sec1", trustme.KeyType.ECDSA, old),
    ):
        leaf = authority.issue_cert(*NAMES, key_type=kind)
        key = load_pem_private_key(leaf.private_key_pem.bytes(), None)
        chain = place / f"{name}.chain.pem"
        chain.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        file = place / f"{name}.key.pem"
        file.write_bytes(key.private_bytes(Encoding.PEM, form, NoEncryption()))
        made[name] = chain, file
    return made


HEADS = {
    "rsa-pkcs1": b"-----BEGIN RSA PRIVATE KEY-----",
    "rsa-pkcs8": b"-----BEGIN PRIVATE KEY-----",
    "ec-pkcs8": b"-----BEGIN PRIVATE KEY-----",
    "ec-sec1": b"-----BEGIN EC PRIVATE KEY-----",
}


@pytest.mark.parametrize("name", HEADS)
def test_r5_each_kind_of_key(service: Service, tmp_path: Path, name: str) -> None:
    chain, key = keys(tmp_path)[name]
    assert key.read_bytes().startswith(HEADS[name])
    options = ("rust-proxy", "-l", "127.0.0.1:0", "-t", "tok", "-f", str(chain))
    allow = ("--allow", "127.0.0.1")
    with Fastws(*options, "-k", str(key), *allow) as server:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
            context.minimum_version = context.maximum_version = version
            with opened(server.port, tls=context) as client:
                assert client.sock.version() == version.name.replace("_", ".")
                assert client.sock.selected_alpn_protocol() is None
                assert client.ask(service.port, b"hello") == b"hello"


# -- the command -------------------------------------------------------------------


def test_r26_options_of_the_server(service: Service) -> None:
    names = ("--mode", "server", "--listen_addr", "127.0.0.1:0")
    token = ("--authorization", "tok")
    pair = ("--fullchain", certs().cert, "--private_key", certs().key)
    with Fastws("rust-proxy", *names, *token, *pair, "--allow", "127.0.0.1") as server:
        assert "proxy-server on 127.0.0.1:" in server.text
        with opened(server.port) as client:
            assert client.ask(service.port, b"hello") == b"hello"


def test_r26_short_options_and_a_private_target_is_denied(service: Service) -> None:
    pair = ("-f", certs().cert, "-k", certs().key)
    with Fastws(
        "rust-proxy", "-m", "server", "-l", "127.0.0.1:0", "-t", "tok", *pair
    ) as server:
        with opened(server.port) as client:
            client.dial("127.0.0.1", service.port)
            assert client.packet() == CLOSE
        server.wait_for("WARNING .*: 127.0.0.1 is loopback, and no --allow names it")


def test_r26_variables_of_the_container(service: Service) -> None:
    """AUTHORIZATION among them, which the image itself gets wrong."""
    variables = {"MODE": "server", "LISTEN": "127.0.0.1:0", "AUTHORIZATION": "tok"}
    variables |= {"FULLCHAIN": certs().cert, "PRIVATE_KEY": certs().key}
    with Fastws("rust-proxy", "--allow", "127.0.0.1", **variables) as server:
        assert status_of(server.port, "wrong") == 401
        with opened(server.port) as client:
            assert client.ask(service.port, b"hello") == b"hello"


def test_r26_files_that_variables_name(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("first\n")
    (tmp_path / "listen").write_text("127.0.0.1:0\n")
    variables = {
        "AUTHORIZATION_FILE": str(tmp_path / "token"),
        "LISTEN_FILE": str(tmp_path / "listen"),
        "FULLCHAIN_FILE": certs().cert,
        "PRIVATE_KEY_FILE": certs().key,
    }
    with Fastws("rust-proxy", **variables) as server:
        assert tokens(server, "first", "next") == [101, 401]
        new = tmp_path / "new"
        new.write_text("next\n")
        new.replace(tmp_path / "token")  # seen by itself
        server.wait_for("INFO .*the value of --auth-token reloaded")
        assert tokens(server, "first", "next") == [401, 101]


def tokens(server: Fastws, *words: str) -> list[int]:
    return [status_of(server.port, word) for word in words]


def test_r26_both_ends(service: Service) -> None:
    pair = ("-f", certs().cert, "-k", certs().key, "--allow", "127.0.0.1")
    listen = ("-l", "127.0.0.1:0", "-t", "tok")
    with Fastws("rust-proxy", *listen, *pair) as server:
        where = f"localhost:{server.port}/some/path"
        mode = ("-m", "client", "-p", where, "--ca", certs().ca)
        with Fastws("rust-proxy", *listen, *mode) as client:
            for _ in range(3):
                with connect(client.port) as sock:
                    sock.sendall(NO_LOGIN + request("127.0.0.1", service.port))
                    read_exactly(sock, 2)
                    assert reply(sock)[0] == 0
                    assert ask(sock, b"hello") == b"hello"
                    sock.shutdown(socket.SHUT_WR)
                    assert read_to_end(sock) == b""
        server.wait_for("WebSocket ended after 3 streams")


GOOD = ("-l", "127.0.0.1:0", "-t", "tok")


@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        (("-t", ""), ("--authorization", "is empty")),
        (("-t", " "), ("--authorization", "is empty")),
        ((*GOOD, "-f", "/no/chain"), ("--fullchain", "/no/chain", "cannot be read")),
        (
            (*GOOD, "-f", "CERT", "-k", "/no/key"),
            ("--private_key", "/no/key", "cannot be read"),
        ),
        ((*GOOD, "-f", "KEY", "-k", "KEY"), ("holds no certificate (PEM)",)),
        ((*GOOD, "-f", "CERT", "-k", "CERT"), ("holds no private key (PEM)",)),
        ((*GOOD, "-f", "CERT", "-k", "LOCKED"), ("the private key is encrypted",)),
        ((*GOOD, "-f", "CERT", "-k", "OTHER"), ("does not belong to",)),
        (("-m", "client", "-l", "127.0.0.1:0"), ("--proxy_addr", "is missing")),
    ],
)
def test_r27_start_up_checks(
    arguments: tuple[str, ...], texts: tuple[str, ...]
) -> None:
    made = certs()
    paths = {"CERT": made.cert, "KEY": made.key, "LOCKED": made.encrypted_key}
    paths["OTHER"] = made.stranger
    ended = run_fastws("rust-proxy", *(paths.get(word, word) for word in arguments))
    assert ended.returncode == 78, ended.stderr
    lines = ended.stderr.splitlines()
    assert len(lines) == 1
    for text in texts:
        assert text in lines[0]
