"""Options of stw and of wts against each other: what one asks, the other one brings."""

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastws.http.password import hash_password
from tests.support import rawws
from tests.support.certs import certs, plain_server_context
from tests.support.cli import Fastws, fails, run_fastws, stw, works, wts
from tests.support.services import Service, connect, echo
from tests.support.timing import LONG

pytestmark = pytest.mark.e2e


# The request


@pytest.fixture(scope="module")
def strict(
    service: Service, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fastws]:
    """wts that asks for everything that it can."""
    users = tmp_path_factory.mktemp("users") / "users"
    users.write_text(f"anna:{hash_password('s3cret:', bytes(16))}\n")
    asks = ("--allow-host", "edge.example", "--path", "/ssh")
    asks += ("--allow-origin", "https://page.example", "--subprotocol", "v2.ssh")
    asks += ("--auth-basic", str(users), "--auth-token", "t0ken")
    with wts(service.port, *asks) as process:
        yield process


RIGHT = {
    "--host": "edge.example",
    "--origin": "https://page.example",
    "--basic": "anna:s3cret:",
    "--subprotocol": "v2.ssh",
}


def bring(strict: Fastws, path: str = "ssh", **other: str | None) -> list[str]:
    """Arguments of an stw that brings the right things, but for ``other``."""
    changed = {f"--{name}": value for name, value in other.items()}
    given = {k: v for k, v in {**RIGHT, **changed}.items() if v is not None}
    return [f"{strict.url}{path}", *(word for pair in given.items() for word in pair)]


def test_everything_that_is_asked_for(strict: Fastws) -> None:
    with stw(*bring(strict)) as near:
        assert works(near)


def test_token_in_place_of_a_password(strict: Fastws) -> None:
    with stw(*bring(strict, basic=None, bearer="t0ken")) as near:
        assert works(near)


@pytest.mark.parametrize(
    ("other", "status", "named"),
    [
        ({"path": "ssh/"}, 404, "--path"),
        ({"host": "other.example"}, 400, "--allow-host"),
        ({"origin": "https://other.example"}, 403, "--allow-origin"),
        ({"basic": "anna:wrong"}, 401, "wrong password"),
        ({"basic": None, "bearer": "t0ke"}, 401, "wrong token"),
        ({"basic": None}, 401, "no credentials"),
    ],
    ids=["path", "host", "origin", "basic", "bearer", "nobody"],
)
def test_one_thing_is_wrong(
    strict: Fastws, other: dict[str, str | None], status: int, named: str
) -> None:
    strict.mark = len(strict.lines)
    with stw(*bring(strict, **other)) as near:  # type: ignore[arg-type]
        assert f"the server answered HTTP {status} " in fails(near)
    line = strict.wait_for(" wts ")
    assert named in line


def test_subprotocol_that_is_not_chosen_is_no_refusal(strict: Fastws) -> None:
    """RFC 6455 section 4.2.2: the server goes on without one."""
    with stw(*bring(strict, subprotocol="v9.ssh")) as near:
        assert works(near)


# Keys that stand in files of their own


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The client's certificate and its key apart."""
    text = Path(certs().client).read_text("ascii")
    key, end, cert = text.partition("-----END RSA PRIVATE KEY-----\n")
    if not end:
        key, end, cert = text.partition("-----END EC PRIVATE KEY-----\n")
    assert end
    place = tmp_path_factory.mktemp("split")
    for name, part in (("cert", cert), ("key", key + end)):
        (place / name).write_text(part, "ascii")
    return str(place / "cert"), str(place / "key")


def test_key_of_stw(service: Service, split: tuple[str, str]) -> None:
    cert, key = split
    asks = ("--cert", certs().server, "--client-ca", certs().ca)
    with wts(service.port, *asks) as far:
        url = f"wss://localhost:{far.port}/"
        options = ("--ca", certs().ca, "--cert", cert)
        with stw(url, *options, "--key", key) as near:
            assert works(near)
        for wrong in ((), ("--key", certs().key)):
            done = run_fastws("stw", "127.0.0.1:0", url, *options, *wrong)
            assert done.returncode == 78
            assert "private key" in done.stderr


def test_target_key(split: tuple[str, str]) -> None:
    cert, key = split
    context = plain_server_context(certs().server)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(certs().ca)
    with Service(echo, tls=context) as service:
        target = f"tls://localhost:{service.port}"
        options = ("--ca", certs().ca, "--target-cert", cert)
        with wts(target, *options, "--target-key", key) as far, stw(far.url) as near:
            assert works(near)
        for wrong in ((), ("--target-key", certs().key)):
            done = run_fastws("wts", "127.0.0.1:0", target, *options, *wrong)
            assert done.returncode == 78
            assert "private key" in done.stderr


def test_sni_of_a_target(service: Service) -> None:
    """The name that is sent and verified; test_tls has the one that fits neither."""
    names: list[str | None] = []
    context = plain_server_context(certs().elsewhere)
    context.sni_callback = lambda sock, name, ctx: names.append(name)
    with Service(echo, tls=context) as target:
        where = f"tls://localhost:{target.port}"
        options = ("--ca", certs().ca, "--sni", "elsewhere.example")
        with wts(where, *options) as far, stw(far.url) as near:
            assert works(near)
    assert names == ["elsewhere.example"]


# --log-level


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("debug", {"DEBUG", "INFO", "WARNING"}),
        ("info", {"INFO", "WARNING"}),
        ("warning", {"WARNING"}),
        ("error", set()),
    ],
)
def test_log_level_shows_itself_and_what_is_worse(level: str, shown: set[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fd, port = listener.fileno(), listener.getsockname()[1]
        arguments = ("wts", f"fd:{fd}", "127.0.0.1:1", "--log-level", level)
        process = Fastws(*arguments, fds=(fd,))
        try:
            answer, _ = rawws.exchange(port, rawws.request())
            assert answer.status == 502
            with connect(port) as sock:
                sock.sendall(b"GET / HT")  # and leaves: worth a line to nobody else
                sock.shutdown(socket.SHUT_WR)
                assert sock.recv(1) == b""
            process.signal(15)
            assert process.wait(LONG) == 0
        finally:
            process.kill()
    assert {line.split()[2] for line in process.lines} == shown
