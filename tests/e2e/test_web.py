"""wts --web: files beside the upgrade, and no way out of their directory."""

import email.utils
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import rawws
from tests.support.certs import certs, plain_client_context
from tests.support.cli import Fastws, run_fastws, wts
from tests.support.rawws import Answer, upgraded
from tests.support.services import Service, connect
from tests.support.timing import LONG

pytestmark = pytest.mark.e2e

SCRYPT_X = "Pq6nPP9sSt3hth3FmeUpbHAhFXGQIQuoDRTbeh+Qy8U"
BIG = bytes(range(256)) * 12_000  # over what a socket takes at once


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("web")
    (place / "secret.txt").write_text("secret")
    (place / "site-secret").mkdir()
    (place / "site-secret" / "a.txt").write_text("secret")
    site = place / "site"
    for name in ("app", "empty", ".git", ".well-known"):
        (site / name).mkdir(parents=True)
    (site / "index.html").write_text("<h1>front</h1>")
    (site / "app" / "index.html").write_text("<h1>app</h1>")
    (site / "app" / "main.js").write_text("run()")
    (site / "app" / "lib.wasm").write_bytes(b"\0asm")
    (site / "a b%20ü.txt").write_text("odd name")
    (site / "big.bin").write_bytes(BIG)
    (site / "empty.txt").write_bytes(b"")
    (site / ".git" / "config").write_text("secret")
    (site / ".env").write_text("secret")
    (site / ".well-known" / "x.txt").write_text("known")
    (site / "inside.txt").symlink_to("app/main.js")
    (site / "outside.txt").symlink_to("../secret.txt")
    (site / "outside").symlink_to("..")
    (site / "absolute").symlink_to(place / "secret.txt")
    (site / "loop").symlink_to("loop")
    os.mkfifo(site / "pipe")
    return site


@pytest.fixture(scope="module")
def web(service: Service, root: Path) -> Iterator[Fastws]:
    with wts(service.port, "--web", str(root), "--path", "/ws") as process:
        yield process


def get(
    process: Fastws, path: str, *fields: str, method: str = "GET"
) -> tuple[Answer, bytes]:
    """An answer and everything behind its head, up to the end of the connection."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *fields, "", ""]
    with connect(process.port) as sock:
        sock.sendall("\r\n".join(lines).encode())
        return read_all(sock)


def read_all(sock: socket.socket) -> tuple[Answer, bytes]:
    reader = rawws.Reader(sock)
    answer = reader.head()
    body = bytearray(reader.rest())
    while chunk := sock.recv(1 << 16):
        body += chunk
    return answer, bytes(body)


@pytest.mark.parametrize(
    ("path", "kind", "body"),
    [
        ("/", "text/html; charset=utf-8", b"<h1>front</h1>"),
        ("/index.html", "text/html; charset=utf-8", b"<h1>front</h1>"),
        ("/app/", "text/html; charset=utf-8", b"<h1>app</h1>"),
        ("/app/main.js?v=1", "text/javascript; charset=utf-8", b"run()"),
        ("/app/lib.wasm", "application/wasm", b"\0asm"),
        ("/app/%6dain.js", "text/javascript; charset=utf-8", b"run()"),
        ("/a%20b%2520%C3%BC.txt", "text/plain; charset=utf-8", b"odd name"),
        ("/inside.txt", "text/javascript; charset=utf-8", b"run()"),
        ("/empty.txt", "text/plain; charset=utf-8", b""),
        ("/.well-known/x.txt", "text/plain; charset=utf-8", b"known"),
        ("/big.bin", "application/octet-stream", BIG),
    ],
)
def test_files(web: Fastws, path: str, kind: str, body: bytes) -> None:
    answer, got = get(web, path)
    assert answer.status == 200
    assert got == body
    assert answer.fields["content-type"] == kind
    assert answer.fields["content-length"] == str(len(body))
    assert answer.fields["x-content-type-options"] == "nosniff"
    assert email.utils.parsedate(answer.fields["last-modified"])
    head, got = get(web, path, method="HEAD")
    assert got == b""
    assert head.fields == answer.fields


@pytest.mark.parametrize(
    "path",
    [
        "/none.txt",
        "/empty/",
        "/index.html/",
        "/app/main.js/x",
        "/../secret.txt",
        "/app/../../secret.txt",
        "/app/../index.html",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/..%5csecret.txt",
        "/%252e%252e/secret.txt",
        "/../site-secret/a.txt",
        "/./index.html",
        "//index.html",
        "/app//main.js",
        "//etc/passwd",
        "/etc/passwd",
        "/index.html%00.txt",
        "/%00",
        "/outside.txt",
        "/outside/secret.txt",
        "/outside/",
        "/absolute",
        "/loop",
        "/pipe",
        "/.env",
        "/.git/config",
        "/%2egit/config",
        "/%ff%fe",
        "/" + "a" * 5000,
        "/" + "a/" * 3000,
    ],
)
def test_nothing_else_is_found(web: Fastws, path: str) -> None:
    answer, body = get(web, path)
    assert answer.status == 404
    assert body == b"404\n"


def test_directory_without_its_slash(web: Fastws) -> None:
    answer, _ = get(web, "/app?x=1")
    assert (answer.status, answer.fields["location"]) == (308, "/app/?x=1")


def test_etag(web: Fastws, root: Path) -> None:
    file = root / "changing.txt"
    file.write_text("one")
    answer, _ = get(web, "/changing.txt")
    tag = answer.fields["etag"]
    assert tag[0] == tag[-1] == '"'
    for wanted in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        unchanged, body = get(web, "/changing.txt", f"If-None-Match: {wanted}")
        assert (unchanged.status, body) == (304, b"")
        assert unchanged.fields["etag"] == tag
    assert get(web, "/changing.txt", 'If-None-Match: "x"')[0].status == 200
    file.write_text("three")
    changed, body = get(web, "/changing.txt", f"If-None-Match: {tag}")
    assert (changed.status, body) == (200, b"three")
    assert changed.fields["etag"] != tag


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_other_methods(web: Fastws, method: str) -> None:
    answer, _ = get(web, "/index.html", method=method)
    assert (answer.status, answer.fields["allow"]) == (405, "GET, HEAD")


def test_upgrades_and_health_checks_come_first(web: Fastws, root: Path) -> None:
    (root / "healthz").write_text("no")
    assert get(web, "/healthz")[1] == b"ok\n"
    assert get(web, "/ws")[0].status == 426
    with upgraded(web.port, "/ws") as peer:
        peer.send(rawws.BINARY, b"hello")
        assert peer.message(5) == b"hello"


def test_missing_file_where_every_path_upgrades(service: Service, root: Path) -> None:
    """Not 426: a browser would take a missing script for a refusal."""
    with wts(service.port, "--web", str(root), "--allow-host", "127.0.0.1") as process:
        assert get(process, "/none.js")[0].status == 404
        with upgraded(process.port, "/index.html"):
            pass
        with connect(process.port) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: other\r\n\r\n")
            assert rawws.Reader(sock).head().status == 400


def test_files_need_the_password_too(service: Service, root: Path) -> None:
    users = root.parent / "users"
    # "x", RFC 7914's function at its least.
    users.write_text("u:$scrypt$ln=1,r=1,p=1$c2FsdA$" + SCRYPT_X + "\n")
    options = ("--web", str(root), "--auth-basic", str(users))
    with wts(service.port, *options) as process:
        answer, body = get(process, "/")
        assert (answer.status, body) == (401, b"401\n")
        assert answer.fields["www-authenticate"].startswith("Basic ")
        assert get(process, "/", "Authorization: Basic dTp4")[0].status == 200


def test_files_are_open_where_only_tokens_let_in(service: Service, root: Path) -> None:
    with wts(service.port, "--web", str(root), "--auth-token", "t") as process:
        assert get(process, "/")[0].status == 200


def test_over_tls(service: Service, root: Path) -> None:
    with wts(service.port, "--web", str(root), "--cert", certs().server) as process:
        context = plain_client_context()
        with context.wrap_socket(
            connect(process.port), server_hostname="localhost"
        ) as sock:
            sock.settimeout(LONG)
            sock.sendall(b"GET /big.bin HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer, body = read_all(sock)
        assert answer.status == 200
        assert body == BIG


def test_downloads_do_not_disturb(web: Fastws) -> None:
    """A client that reads nothing holds up nobody, and can go on later."""
    with connect(web.port) as stalled:
        stalled.sendall(b"GET /big.bin HTTP/1.1\r\nHost: x\r\n\r\n")
        assert get(web, "/")[0].status == 200
        assert read_all(stalled)[1] == BIG


def test_directory_that_is_none(root: Path) -> None:
    for name in ("none", "index.html"):
        done = run_fastws("wts", "0", "127.0.0.1:9", "--web", str(root / name))
        assert done.returncode == 78
        assert f"--web {root / name}: cannot be served: N" in done.stderr
