"""Who comes in to wts: credentials, believed addresses, connections per address."""

import base64
import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import rawws
from tests.support.cli import Fastws, clean_environment, eventually, run_fastws, wts
from tests.support.rawws import BINARY, upgraded
from tests.support.servers import free_port
from tests.support.services import Service, connect, echo
from tests.support.timing import LONG

pytestmark = pytest.mark.e2e

TOKEN, OTHER = "correct-horse-battery", "staple.42~x"


def hashed(password: str, *user: str) -> str:
    """What ``fastws hash-password`` prints."""
    done = subprocess.run(
        [sys.executable, "-m", "fastws", "hash-password", *user],
        env=clean_environment(),
        input=password + "\n",
        capture_output=True,
        encoding="utf-8",
        timeout=LONG,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.strip()


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("users") / "users"
    lines = ["# who may come", "", hashed("s3cret: ü", "anna"), hashed("other", "bob")]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def ask_for(process: Fastws, path: str = "/", **fields: str | None) -> rawws.Answer:
    """What wts answers to an upgrade."""
    with connect(process.port) as sock:
        sock.sendall(rawws.request(path, **fields))
        return rawws.Reader(sock).head()


def status(process: Fastws, path: str = "/", **fields: str | None) -> int:
    return ask_for(process, path, **fields).status


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def bearer(token: str) -> str:
    return f"Bearer {token}"


# --auth-token


@pytest.fixture(scope="module")
def guarded(service: Service) -> Iterator[Fastws]:
    with wts(service.port, "--auth-token", TOKEN, "--auth-token", OTHER) as process:
        yield process


@pytest.fixture(scope="module")
def closed() -> Iterator[tuple[Fastws, Service]]:
    """The same for those who do not get in, and a target that nobody dials."""
    with Service(echo) as target:
        with wts(target.port, "--auth-token", TOKEN) as process:
            yield process, target


@pytest.mark.parametrize("token", [TOKEN, OTHER])
def test_token_lets_in(guarded: Fastws, token: str) -> None:
    assert status(guarded, Authorization=bearer(token)) == 101
    assert status(guarded, Authorization=f"bearer  {token}") == 101
    assert status(guarded, f"/x?a=1&access_token={token}") == 101


def test_whoever_has_none_is_told_what_is_asked_for(
    closed: tuple[Fastws, Service],
) -> None:
    process, target = closed
    answer = ask_for(process)
    assert answer.status == 401
    assert answer.fields["www-authenticate"] == 'Bearer realm="fastws"'
    process.wait_for(r"INFO +wts 127\.0\.0\.1:\d+: no credentials \(--auth-token\)")
    assert target.accepted == 0


@pytest.mark.parametrize(
    "sent",
    [TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "", "x" * 5000, f"{TOKEN} {OTHER}"],
    ids=["short", "long", "upper", "empty", "huge", "two"],
)
def test_wrong_tokens_are_refused(closed: tuple[Fastws, Service], sent: str) -> None:
    process, target = closed
    process.mark = len(process.lines)
    assert status(process, Authorization=bearer(sent)) == 401
    process.wait_for("WARNING wts .*wrong token")
    assert status(process, f"/?access_token={sent[:80].replace(' ', '%20')}") == 401
    assert target.accepted == 0


def test_ambiguous_credentials_are_none(guarded: Fastws) -> None:
    twice = f"/?access_token={TOKEN}&access_token={TOKEN}"
    assert status(guarded, twice) == 401
    two = rawws.request(Authorization=bearer(TOKEN), authorization=bearer("x"))
    with connect(guarded.port) as sock:
        sock.sendall(two)
        assert rawws.Reader(sock).head().status == 401
    assert status(guarded, Authorization=basic("user", TOKEN)) == 401
    guarded.wait_for("basic credentials are not asked for")
    # A wrong header is not made up for by a right query.
    right = f"/?access_token={TOKEN}"
    assert status(guarded, right, Authorization=bearer("x")) == 401


def test_health_checks_need_no_token(guarded: Fastws) -> None:
    plain = {"Upgrade": None, "Connection": None}
    assert status(guarded, "/healthz", **plain) == 200
    assert status(guarded, "/readyz", **plain) == 200


def test_tokens_are_in_no_log_line(service: Service) -> None:
    options = ("--auth-token", TOKEN, "--path", "/p", "--log-level", "debug")
    with wts(service.port, *options) as process:
        assert status(process, f"/p?access_token={TOKEN}") == 101
        assert status(process, f"/q?access_token={TOKEN}") == 404
        assert status(process, f"/p#?access_token={TOKEN}") == 400
        assert status(process, "/p?access_token=wrong-but-private") == 401
        process.wait_for("wrong token")
        process.wait_for("nothing at /q")
        process.wait_for("fragment")
        assert TOKEN not in process.text
        assert "wrong-but-private" not in process.text


def test_tokens_from_a_file(service: Service, tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"{TOKEN}\n\n{OTHER}\n")
    with wts(service.port, FASTWS_AUTH_TOKEN_FILE=str(file)) as process:
        assert status(process, Authorization=bearer(OTHER)) == 101
        assert status(process) == 401


def test_stw_brings_the_token(service: Service) -> None:
    with wts(service.port, "--auth-token", TOKEN) as far:
        with Fastws("stw", "127.0.0.1:0", far.url, "--bearer", TOKEN) as near:
            with connect(near.port) as sock:
                sock.sendall(b"hello")
                assert sock.recv(5) == b"hello"


def test_refusals_are_counted(service: Service) -> None:
    with wts(service.port, "--auth-token", TOKEN) as process:
        for token in ("a", "b", "c"):
            assert status(process, Authorization=bearer(token)) == 401
        assert status(process, Authorization=bearer(TOKEN)) == 101
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
        assert ": 1 connections, 3 refused (3 unauthorized), in=" in process.lines[-1]


# --auth-basic


def test_passwords(users: Path) -> None:
    options = ("--auth-basic", str(users))
    with Service(echo) as target, wts(target.port, *options) as process:
        answer = ask_for(process)
        assert answer.status == 401
        challenge = 'Basic realm="fastws", charset="UTF-8"'
        assert answer.fields["www-authenticate"] == challenge
        for user, password in (("anna", "other"), ("anna", ""), ("carl", "other")):
            assert status(process, Authorization=basic(user, password)) == 401
        process.wait_for("WARNING .*wrong password for 'anna'")
        process.wait_for("WARNING .*unknown user")
        assert "carl" not in process.text
        assert status(process, Authorization="Basic !!!") == 401
        assert status(process, Authorization=bearer(TOKEN)) == 401
        process.wait_for("malformed Basic")
        assert target.accepted == 0
        for user, password in (("anna", "s3cret: ü"), ("bob", "other")) * 2:
            assert status(process, Authorization=basic(user, password)) == 101
        assert status(process, Authorization=basic("anna", "other")) == 401
        assert "s3cret" not in process.text


def test_token_or_password(service: Service, users: Path) -> None:
    options = ("--auth-basic", str(users), "--auth-token", TOKEN)
    with wts(service.port, *options) as process:
        assert status(process, Authorization=basic("bob", "other")) == 101
        assert status(process, Authorization=bearer(TOKEN)) == 101
        with connect(process.port) as sock:
            sock.sendall(rawws.request())
            text = b""
            while b"\r\n\r\n" not in text:
                text += sock.recv(4096)
        assert text.count(b"WWW-Authenticate: ") == 2


def test_users_file_is_read_again(service: Service, tmp_path: Path) -> None:
    file = tmp_path / "users"
    file.write_text(f"old:{hashed('x')}\n")
    with wts(service.port, "--auth-basic", str(file)) as process:
        with upgraded(process.port, Authorization=basic("old", "x")) as peer:
            file.write_text(f"new:{hashed('y')}\n")
            process.signal(signal.SIGHUP)
            process.wait_for("INFO .*users.* reloaded|INFO .*reloaded.*users")
            assert status(process, Authorization=basic("old", "x")) == 401
            assert status(process, Authorization=basic("new", "y")) == 101
            process.mark = len(process.lines)
            file.write_text("new\n")
            process.signal(signal.SIGHUP)
            process.wait_for(r"ERROR .*users: line 1: is not USER:HASH")
            assert status(process, Authorization=basic("new", "y")) == 101
            peer.send(BINARY, b"still here")
            assert peer.message(10) == b"still here"


def test_broken_users_file(tmp_path: Path) -> None:
    file = tmp_path / "users"
    file.write_text("# x\n\nanna:private\n")
    done = run_fastws("wts", "0", "127.0.0.1:9", "--auth-basic", str(file))
    assert done.returncode == 78
    reason = "line 3: no $scrypt$ or $pbkdf2-sha256$ hash; make one with: fastws"
    assert f"--auth-basic {file}: {reason}" in done.stderr
    assert "private" not in done.stderr


def test_missing_users_file() -> None:
    done = run_fastws("wts", "0", "127.0.0.1:9", "--auth-basic", "/none")
    assert done.returncode == 78
    assert "--auth-basic /none: cannot be read: No such file" in done.stderr


def test_hash_password_refuses_what_is_no_user() -> None:
    for user in ("a:b", "#a", " a", "a ", ""):
        done = run_fastws("hash-password", user)
        assert done.returncode == 2
        assert f"{user!r} cannot be a user name: no colon in it" in done.stderr
    done = run_fastws("hash-password")
    assert done.returncode == 2
    assert "no password came on standard input" in done.stderr


# --trust and --client-ip-header


def refused_as(process: Fastws, **fields: str | None) -> str:
    """The client's address in the line about a refused upgrade."""
    process.mark = len(process.lines)
    assert status(process, "/elsewhere", **fields) == 404
    line = process.wait_for("nothing at /elsewhere")
    return line.partition(" wts ")[2].partition(": nothing")[0]


@pytest.mark.parametrize(
    ("fields", "client"),
    [
        ({"X_Forwarded_For": "6.6.6.6, 203.0.113.9"}, "203.0.113.9"),
        ({"X_Forwarded_For": "203.0.113.9, 10.1.2.3"}, "203.0.113.9"),
        ({"X_Forwarded_For": "203.0.113.9:4711"}, "203.0.113.9:4711"),
        ({"Forwarded": 'for="[2a00::5]:80";host=a.example'}, "[2a00::5]:80"),
        ({"CF_Connecting_IP": "2a00::5"}, "2a00::5"),
    ],
)
def test_trusted_front_ends_are_believed(
    trusting: Fastws, fields: dict[str, str], client: str
) -> None:
    assert refused_as(trusting, **fields) == client


@pytest.fixture(scope="module")
def trusting(service: Service) -> Iterator[Fastws]:
    options = ("--trust", "127.0.0.0/8", "--trust", "10.0.0.0/8", "--path", "/p")
    with wts(service.port, *options) as process:
        yield process


def test_the_line_of_a_connection_names_the_believed_client(
    trusting: Fastws,
) -> None:
    with upgraded(trusting.port, "/p", X_Forwarded_For="203.0.113.9") as peer:
        peer.send(BINARY, b"x")
        assert peer.message(1) == b"x"
    trusting.wait_for(r"INFO +wts 203\.0\.113\.9 id=[0-9a-f]{16} in=1 out=1 ")


@pytest.mark.parametrize("name", ["X_Forwarded_For", "CF_Connecting_IP", "Real_IP"])
def test_forged_fields_of_untrusted_peers_are_ignored(
    service: Service, name: str
) -> None:
    options = ("--trust", "10.0.0.0/8", "--client-ip-header", name.replace("_", "-"))
    with wts(service.port, *options, "--path", "/p") as process:
        assert refused_as(process, **{name: "6.6.6.6"}).startswith("127.0.0.1:")


def test_client_ip_header(service: Service) -> None:
    options = ("--trust", "127.0.0.1", "--client-ip-header", "Ali-CDN-Real-IP")
    with wts(service.port, *options, "--path", "/p") as process:
        forged = {"X_Forwarded_For": "6.6.6.6", "CF_Connecting_IP": "6.6.6.7"}
        assert refused_as(process, **forged).startswith("127.0.0.1:")
        assert refused_as(process, **forged, Ali_CDN_Real_IP="203.0.113.9") == (
            "203.0.113.9"
        )


def test_forwarded_host_counts_for_the_origin(trusting: Fastws) -> None:
    page = {"Origin": "https://site.example", "X_Forwarded_For": "203.0.113.9"}
    assert status(trusting, "/p", Host="internal", **page) == 403
    for more in (
        {"X_Forwarded_Host": "site.example"},
        {"X_Forwarded_Host": "site.example, internal"},
    ):
        assert status(trusting, "/p", Host="internal", **page, **more) == 101
    forwarded = {"X_Forwarded_For": None, "Forwarded": "for=1.2.3.4;host=site.example"}
    assert status(trusting, "/p", Host="internal", **(page | forwarded)) == 101


@pytest.mark.parametrize(
    ("options", "code", "reason"),
    [
        (("--trust", "10.0.0.1/8"), 2, "cuts its address; write 10.0.0.0/8"),
        (("--client-ip-header", "X-Y"), 78, "--client-ip-header: needs --trust"),
        (("--auth-token", "two words"), 2, "one word of printable ASCII"),
    ],
)
def test_values_that_mean_nothing(
    options: tuple[str, ...], code: int, reason: str
) -> None:
    done = run_fastws("wts", "0", "127.0.0.1:9", *options)
    assert done.returncode == code
    assert reason in done.stderr
    assert "two words" not in done.stderr


def test_trusting_everybody_is_warned_of(service: Service) -> None:
    with wts(service.port, "--trust", "0.0.0.0/0") as process:
        assert process.count("WARNING --trust 0.0.0.0/0: every client") == 1


# --max-per-ip


def test_max_per_ip_counts_the_believed_address(service: Service) -> None:
    options = ("--trust", "127.0.0.1", "--max-per-ip", "2")
    with wts(service.port, *options) as process, contextlib.ExitStack() as open_ones:

        def enter(client: str) -> rawws.Peer:
            return open_ones.enter_context(
                upgraded(process.port, X_Forwarded_For=client)
            )

        first = enter("203.0.113.9")
        enter("203.0.113.9")
        answer = ask_for(process, X_Forwarded_For="203.0.113.9")
        assert answer.status == 503
        assert answer.fields["retry-after"] == "5"
        process.wait_for(r"WARNING wts 203\.0\.113\.9: 2 conn.*\(--max-per-ip\)")
        enter("203.0.113.10")
        # One /64 is one address.
        enter("2a00::1")
        enter("2a00::2")
        assert status(process, X_Forwarded_For="2a00::3") == 503
        enter("2a00:0:0:1::1")
        # Room comes with the end of a connection.
        first.sock.close()
        eventually(lambda: status(process, X_Forwarded_For="203.0.113.9") == 101)


def test_max_per_ip_room_comes_back_whatever_went_wrong() -> None:
    with wts(free_port(), "--max-per-ip", "1") as process:
        for _ in range(3):
            assert status(process) == 502


def test_max_per_ip_comes_before_passwords_and_wrong_ones_take_no_room(
    service: Service,
) -> None:
    options = ("--max-per-ip", "1", "--auth-token", TOKEN)
    with wts(service.port, *options) as process:
        with connect(process.port) as refused:
            refused.sendall(rawws.request(Authorization=bearer("x")))
            assert rawws.Reader(refused).head().status == 401
            # Not closed yet, and no connection any more.
            with upgraded(process.port, Authorization=bearer(TOKEN)):
                assert status(process, Authorization=bearer("x")) == 503


def test_any_number_per_ip_without_it(service: Service) -> None:
    with wts(service.port) as process, contextlib.ExitStack() as open_ones:
        for _ in range(5):
            open_ones.enter_context(upgraded(process.port))
