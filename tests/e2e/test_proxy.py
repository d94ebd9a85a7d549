"""stw through proxies: http, https, SOCKS 5; the variables; what proxies refuse."""

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.support.certs import certs, plain_server_context
from tests.support.cli import Fastws, fails, run_fastws, stw, works, wts
from tests.support.proxies import ConnectProxy, SocksProxy, hang_up, say
from tests.support.servers import black_hole, closing, free_port
from tests.support.services import (
    Handler,
    Service,
    Switch,
    answer_late,
    connect,
    pump_through,
    read_to_end,
)
from tests.support.timing import units

pytestmark = pytest.mark.e2e

EDGE = "edge.example"
USER = "bob:p@ss word"
ENCODED = "bob:p%40ss%20word"


@pytest.fixture(scope="module")
def far(service: Service) -> Iterator[Fastws]:
    with wts(service.port) as process:
        yield process


@pytest.fixture(scope="module")
def secure(service: Service) -> Iterator[Fastws]:
    with wts(service.port, "--cert", certs().server) as process:
        yield process


def refusal(port: int, scheme: str = "http", *options: str) -> str:
    """What stw logs about a proxy on ``port``."""
    url = f"{scheme}://127.0.0.1:{port}"
    with stw(f"ws://{EDGE}/", "--proxy", url, *options) as near:
        line = fails(near)
    name = f"proxy {scheme}://127.0.0.1:{port}: "
    assert name in line
    return line.partition(name)[2]


class Way(NamedTuple):
    """stw in front of a proxy that each test makes behave otherwise."""

    proxy: Switch
    near: Fastws
    name: str

    def refusal(self, handle: Handler) -> str:
        """What stw logs about the proxy when a client is reset."""
        self.proxy.next = handle
        self.near.mark = len(self.near.lines)
        line = fails(self.near)
        assert self.name in line
        return line.partition(self.name)[2]


@contextlib.contextmanager
def way(scheme: str) -> Iterator[Way]:
    with Switch(hang_up) as proxy:
        url = f"{scheme}://127.0.0.1:{proxy.port}"
        with stw(f"ws://{EDGE}/", "--proxy", url, "--log-limit", "0") as near:
            yield Way(proxy, near, f"proxy {url}: ")


@pytest.fixture(scope="module")
def http() -> Iterator[Way]:
    with way("http") as running:
        yield running


@pytest.fixture(scope="module")
def socks() -> Iterator[Way]:
    with way("socks5h") as running:
        yield running


# What works


@pytest.mark.parametrize(
    ("kind", "scheme"),
    [(ConnectProxy, "http"), (SocksProxy, "socks5h")],
)
def test_plain_server(far: Fastws, kind: type[ConnectProxy], scheme: str) -> None:
    with kind(far.port, USER) as proxy:
        url = f"{scheme}://{ENCODED}@127.0.0.1:{proxy.port}"
        with stw(f"ws://{EDGE}/", "--proxy", url) as near:
            start = near.wait_for(" stw on ", start=0)
            assert works(near)
            with connect(near.port) as sock:
                pump_through(sock, 3_000_000, seed=5)
        assert proxy.seen == [f"{EDGE}:80"] * 2
        place = f"{scheme}://127.0.0.1:{proxy.port}"
        assert f"ws://{EDGE}/ through proxy {place}, TLS off" in start
        assert "bob" not in near.text
        assert "word" not in near.text


@pytest.mark.parametrize(
    ("kind", "scheme"), [(ConnectProxy, "http"), (SocksProxy, "socks5h")]
)
def test_tls_runs_inside_the_tunnel(
    secure: Fastws, kind: type[ConnectProxy], scheme: str
) -> None:
    with kind(secure.port) as proxy:
        url = f"{scheme}://127.0.0.1:{proxy.port}"
        server = ("wss://localhost:7443/", "--ca", certs().ca)
        with stw(*server, "--proxy", url) as near:
            with connect(near.port) as sock:
                pump_through(sock, 3_000_000, seed=6)
        assert proxy.seen == ["localhost:7443"]


@pytest.mark.parametrize("tls", [False, True], ids=["ws", "wss"])
def test_https_proxy(far: Fastws, secure: Fastws, tls: bool) -> None:
    """The proxy is verified with the system's authorities."""
    context = plain_server_context(certs().server)
    with ConnectProxy((secure if tls else far).port, tls=context) as proxy:
        url = f"https://localhost:{proxy.port}"
        server: tuple[str, ...] = ("ws://localhost:7443/",)
        if tls:
            server = ("wss://localhost:7443/", "--ca", certs().ca)
        options = (*server, "--proxy", url)
        with stw(*options, SSL_CERT_FILE=certs().ca) as near:
            for seed in range(3):
                with connect(near.port) as sock:
                    pump_through(sock, 3_000_000, seed=seed)
        assert proxy.seen == ["localhost:7443"] * 3
        with stw(*options) as near:
            line = fails(near)
        assert f"proxy https://localhost:{proxy.port}: TLS: unknown CA" in line


def test_half_close_passes_a_proxy() -> None:
    with Service(answer_late) as late, wts(late.port) as far:
        with ConnectProxy(far.port) as proxy:
            url = f"http://127.0.0.1:{proxy.port}"
            with stw(f"ws://{EDGE}/", "--proxy", url) as near:
                with connect(near.port) as sock:
                    sock.sendall(b"x" * 100_000)
                    sock.shutdown(1)
                    assert read_to_end(sock).startswith(b"100000 ")


def test_answer_in_pieces(far: Fastws) -> None:
    with ConnectProxy(far.port) as proxy:
        proxy.pieces = True
        proxy.answer = b"HTTP/1.0 204 Fine\r\nVia: 1.1 corp\r\nX-Long: yes\r\n\r\n"
        with stw(f"ws://{EDGE}/", "--proxy", f"127.0.0.1:{proxy.port}") as near:
            assert works(near)


def test_socks5_resolves_here_and_socks5h_there(far: Fastws) -> None:
    with SocksProxy(far.port) as proxy:
        where = f"127.0.0.1:{proxy.port}"
        for scheme in ("socks5", "socks5h"):
            with stw("ws://localhost:7080/", "--proxy", f"{scheme}://{where}") as near:
                assert works(near)
        for host in ("192.0.2.1", "[2001:db8::1]"):
            with stw(f"ws://{host}:7080/", "--proxy", f"socks5://{where}") as near:
                assert works(near)
        here, there, *literals = proxy.seen
        assert here in ("127.0.0.1:7080", "[::1]:7080")
        assert there == "localhost:7080"
        assert literals == ["192.0.2.1:7080", "[2001:db8::1]:7080"]


def test_address_of_version_6_has_brackets(far: Fastws) -> None:
    with ConnectProxy(far.port) as proxy:
        url = f"http://127.0.0.1:{proxy.port}"
        with stw("ws://[2001:db8::1]:7080/", "--proxy", url) as near:
            assert works(near)
        assert proxy.seen == ["[2001:db8::1]:7080"]


def test_proxy_is_asked_for_connect_to(far: Fastws) -> None:
    with ConnectProxy(far.port) as proxy:
        url = f"http://127.0.0.1:{proxy.port}"
        options = ("--connect-to", "192.0.2.7:8443", "--proxy", url)
        with stw(f"ws://{EDGE}/", *options) as near:
            assert works(near)
        assert proxy.seen == ["192.0.2.7:8443"]


def test_proxy_from_a_secret_file(far: Fastws, tmp_path) -> None:  # type: ignore[no-untyped-def]
    with ConnectProxy(far.port, USER) as proxy:
        file = tmp_path / "proxy"
        file.write_text(f"http://{ENCODED}@127.0.0.1:{proxy.port}\n")
        with stw(f"ws://{EDGE}/", FASTWS_PROXY_FILE=str(file)) as near:
            assert works(near)


def test_wts_dials_its_target_itself(service: Service) -> None:
    with ConnectProxy(free_port()) as proxy:
        url = f"http://127.0.0.1:{proxy.port}"
        with wts("localhost:9", HTTP_PROXY=url, HTTPS_PROXY=url) as process:
            with connect(process.port) as sock:
                sock.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
                assert sock.recv(12) == b"HTTP/1.1 426"
        assert not proxy.seen


# Variables


@pytest.mark.parametrize(
    ("url", "variables", "used"),
    [
        (f"ws://{EDGE}/", {"HTTP_PROXY": "http://{}"}, True),
        (f"wss://{EDGE}/", {"HTTPS_PROXY": "http://{}"}, True),
        (f"ws://{EDGE}/", {"HTTP_PROXY": "{}", "no_proxy": "a.b,.example"}, False),
        (f"ws://{EDGE}/", {"HTTP_PROXY": "{}", "FASTWS_PROXY": "none"}, False),
        (f"ws://{EDGE}/", {"FASTWS_PROXY": "{}", "NO_PROXY": "*"}, True),
        ("ws://127.0.0.1:7080/", {"HTTP_PROXY": "{}"}, False),
    ],
)
def test_variables(url: str, variables: dict[str, str], used: bool) -> None:
    given = {name: text.format("127.0.0.1:9") for name, text in variables.items()}
    with stw(url, **given) as near:
        assert ("through proxy http://127.0.0.1:9" in near.lines[0]) is used


@pytest.mark.parametrize("off", ["", "none"])
def test_option_wins(far: Fastws, off: str) -> None:
    with ConnectProxy(far.port) as proxy:
        url = f"http://127.0.0.1:{proxy.port}"
        with stw(f"ws://{EDGE}/", "--proxy", url, HTTP_PROXY="http://h:1") as near:
            assert works(near)
        options = ("--connect-to", f"127.0.0.1:{far.port}", "--proxy", off)
        with stw(f"ws://{EDGE}/", *options, FASTWS_PROXY=url) as near:
            assert works(near)
        assert len(proxy.seen) == 1


# What goes wrong with a proxy


def test_wrong_or_missing_password(far: Fastws) -> None:
    with ConnectProxy(far.port, USER) as proxy:
        where = f"127.0.0.1:{proxy.port}"
        assert refusal(proxy.port) == (
            "refuses us: 407 Proxy Authentication Required;"
            f" write --proxy http://USER:PASSWORD@{where}"
        )
        url = f"http://bob:hunter2@{where}"
        with stw(f"ws://{EDGE}/", "--proxy", url, "--retry", "5") as near:
            line = fails(near)
        reason = "refuses user 'bob': 407 Proxy Authentication Required"
        assert line.endswith(f"proxy http://{where}: {reason}")
        assert "hunter2" not in near.text
        assert len(proxy.seen) == 2  # a password is not tried again


def test_wrong_or_missing_password_for_socks(far: Fastws) -> None:
    with SocksProxy(far.port, USER) as proxy:
        where = f"127.0.0.1:{proxy.port}"
        assert refusal(proxy.port, "socks5h") == (
            "refuses us (no acceptable authentication methods were offered);"
            f" write --proxy socks5h://USER:PASSWORD@{where}"
        )
        url = f"socks5h://bob:hunter2@{where}"
        with stw(f"ws://{EDGE}/", "--proxy", url) as near:
            line = fails(near)
        assert "refuses user 'bob' (username and password authentication" in line
        assert "hunter2" not in near.text


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", f"forbids to connect to {EDGE}:80: 403 F"),
        (b"HTTP/1.1 401 Unauthorized\r\n\r\n", "refuses us: 401 Unauthorized; write -"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", f"does not connect to {EDGE}:80: 502 B"),
        (
            b"HTTP/1.1 407 No\r\nProxy-Authenticate: NTLM\r\n\r\n",
            "refuses us: 407 No; it wants NTLM, only Basic is known here: run a local",
        ),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "no HTTP proxy: not an HTTP/1 response: b'SSH-2"),
        (b"\x00" * 100_000, "no HTTP proxy: not an HTTP/1 response"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 9000, "no HTTP proxy: HTTP head over"),
    ],
)
def test_bad_answers(http: Way, answer: bytes, words: str) -> None:
    assert http.refusal(say(answer)).startswith(words)


@pytest.mark.parametrize(
    ("handle", "words"),
    [
        (say(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "no SOCKS 5 proxy: unexpected "),
        (say(b"\x05\x00\x05\x09\x00\x01"), "no SOCKS 5 proxy: invalid reply code"),
        (say(b"\x05\x00\x05\x00\x00\x03\x02\xff\xff\x00\x01"), "no SOCKS 5 proxy: "),
        (say(b"\x05\x00\x05\x02\x00\x01"), f"forbids to connect to {EDGE}:80: connec"),
        (say(b"\x05\x00\x05\x05\x00\x01"), f"does not connect to {EDGE}:80: connec"),
        (say(b"\x05\x00\x05\x06\x00\x01"), f"does not connect to {EDGE}:80: TTL"),
        (hang_up, f"closed the connection without an answer to CONNECT {EDGE}:80"),
    ],
)
def test_bad_socks_answers(socks: Way, handle: Handler, words: str) -> None:
    assert socks.refusal(handle).startswith(words)


def test_proxy_that_hangs_up(http: Way) -> None:
    line = http.refusal(hang_up)
    assert line == f"closed the connection without an answer to CONNECT {EDGE}:80"


def test_failures_leave_nothing_open(http: Way) -> None:
    http.refusal(hang_up)
    files = http.near.files()
    for _ in range(20):
        http.refusal(say(b"HTTP/1.1 502 Bad Gateway\r\n\r\n"))
    http.near.mark_when_quiet(files)


@pytest.mark.parametrize("scheme", ["http", "socks5h", "https"])
def test_silent_proxy(scheme: str) -> None:
    with Service(read_to_end) as proxy:
        line = refusal(proxy.port, scheme, "--connect-timeout", units(10))
    what = f"no answer to CONNECT {EDGE}:80"
    if scheme == "https":
        what = "TLS: handshake not finished"
    assert line.startswith(f"{what} within ")
    assert line.endswith("(--connect-timeout)")


def test_proxy_that_cannot_be_reached() -> None:
    assert refusal(free_port()) == "connection refused"
    port, socks = black_hole()
    with closing(*socks):
        line = refusal(port, "http", "--connect-timeout", units(3))
    assert line.startswith("not connected within ")


def test_https_proxy_that_speaks_no_tls() -> None:
    with Service(say(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as proxy:
        line = refusal(proxy.port, "https")
    assert line == "TLS: the peer does not speak TLS on this port"


def test_bytes_before_tls_are_refused(secure: Fastws) -> None:
    with ConnectProxy(secure.port) as proxy:
        proxy.answer += b"welcome"
        url = f"http://127.0.0.1:{proxy.port}"
        with stw(f"wss://{EDGE}/", "--proxy", url) as near:
            line = fails(near)
    assert line.endswith("spoke before the TLS handshake: b'welcome'")


# The value


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://h:1", "ftp:// is no kind of proxy known here"),
        ("http://bob:hunter2", "the proxy has no valid HOST:PORT"),
    ],
)
def test_bad_value(url: str, words: str) -> None:
    done = run_fastws("stw", "0", f"ws://{EDGE}/", "--proxy", url)
    assert done.returncode == 2
    assert f"Invalid value for '--proxy': {words}" in done.stderr
    assert "hunter2" not in done.stderr


def test_bad_variable() -> None:
    done = run_fastws("stw", "127.0.0.1:0", f"wss://{EDGE}/", HTTPS_PROXY="ftp://h")
    assert done.returncode == 78
    (line,) = done.stderr.splitlines()
    assert "HTTPS_PROXY: ftp:// is no kind of proxy known here; write http" in line


def test_own_listener_as_proxy_is_refused() -> None:
    done = run_fastws(
        "stw", "127.0.0.1:7080", f"ws://{EDGE}/", "--proxy", "http://127.0.0.1:7080"
    )
    assert done.returncode == 78
    assert "an endless loop" in done.stderr
