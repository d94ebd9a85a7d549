"""TLS options of stw and wts: what is verified, what is refused, and in which words."""

import shutil
import signal
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import rawws
from tests.support.certs import certs, plain_client_context, plain_server_context
from tests.support.cli import Fastws, eventually, fails, stw, works, wts
from tests.support.services import Service, connect, echo
from tests.support.timing import UNIT, units

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def secure(service: Service) -> Iterator[Fastws]:
    """wts with TLS, for every name of this machine; it logs all that fails."""
    pair = ("--cert", certs().cert, "--key", certs().key)
    with wts(service.port, *pair, "--log-limit", "0") as process:
        yield process


# stw: the server's certificate


def test_ca_is_trusted(secure: Fastws) -> None:
    with stw(f"wss://localhost:{secure.port}/", "--ca", certs().ca) as near:
        assert works(near)


def test_unknown_ca_is_refused(secure: Fastws) -> None:
    with stw(f"wss://localhost:{secure.port}/") as near:
        line = fails(near)
    assert "unknown CA" in line
    assert f"localhost:{secure.port}: TLS: " in line


def test_insecure_accepts_any(secure: Fastws) -> None:
    with stw(f"wss://localhost:{secure.port}/", "--insecure") as near:
        near.wait_for("WARNING --insecure: ")
        assert works(near)


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        (certs().expired, "the certificate has expired"),
        (certs().elsewhere, "the certificate is for another name than localhost"),
        (certs().stranger, "unknown CA"),
    ],
    ids=["expired", "elsewhere", "stranger"],
)
def test_wrong_certificate_is_refused(service: Service, pair: str, words: str) -> None:
    with wts(service.port, "--cert", pair) as far:
        with stw(f"wss://localhost:{far.port}/", "--ca", certs().ca) as near:
            line = fails(near)
    assert words in line


def test_sni_is_sent_and_verified(service: Service) -> None:
    with wts(service.port, "--cert", certs().elsewhere) as far:
        url = f"wss://localhost:{far.port}/"
        with stw(url, "--ca", certs().ca, "--sni", "elsewhere.example") as near:
            assert works(near)


def test_connect_to_verifies_the_name_of_the_url(service: Service) -> None:
    with wts(service.port, "--cert", certs().elsewhere) as far:
        options = ("--connect-to", f"127.0.0.1:{far.port}", "--ca", certs().ca)
        with stw("wss://elsewhere.example/", *options) as near:
            assert works(near)


def test_wss_to_a_plain_port_says_so(service: Service) -> None:
    with wts(service.port) as far:
        with stw(f"wss://localhost:{far.port}/", "--ca", certs().ca) as near:
            assert "does not speak TLS on this port" in fails(near)


def test_ws_to_a_tls_port_says_so(secure: Fastws) -> None:
    with stw(f"ws://localhost:{secure.port}/") as near:
        line = fails(near)
    assert f"ws://localhost:{secure.port}/: " in line
    assert line.endswith("HTTP head came; if it speaks TLS, write wss://")


# wts: client certificates


def test_client_certificate(service: Service) -> None:
    options = ("--cert", certs().server, "--client-ca", certs().ca)
    with wts(service.port, *options) as far:
        url = f"wss://localhost:{far.port}/"
        with stw(url, "--ca", certs().ca, "--cert", certs().client) as near:
            assert works(near)
        with stw(url, "--ca", certs().ca) as near:
            line = fails(near)
        far.wait_for("TLS handshake failed: the client sent no certificate")
        assert far.count("Traceback") == 0
        with stw(url, "--ca", certs().ca, "--cert", certs().stranger) as near:
            refused = fails(near)
        far.wait_for("TLS handshake failed: .*unknown CA|TLS handshake failed: .*self")
    assert f"localhost:{far.port}" in line
    assert line.endswith("; it may ask for a client certificate (--cert)")
    assert refused.endswith("; it may refuse our certificate (--cert)")


# wts: the target's certificate


@pytest.mark.parametrize(
    ("options", "status"),
    [
        (("--ca", certs().ca), 101),
        ((), 502),
        (("--insecure",), 101),
        (("--ca", certs().ca, "--sni", "elsewhere.example"), 502),
        (("--ca", certs().other_ca), 502),
    ],
    ids=["ca", "nothing", "insecure", "other name", "other ca"],
)
def test_tls_target_is_verified(options: tuple[str, ...], status: int) -> None:
    context = plain_server_context(certs().server)
    with Service(echo, tls=context) as service:
        with wts(f"tls://localhost:{service.port}", *options) as far:
            with connect(far.port) as sock:
                sock.sendall(rawws.request())
                assert rawws.Reader(sock).head().status == status
            if status == 502:
                far.wait_for(f"WARNING.*target localhost:{service.port}: TLS: ")


def test_target_certificate() -> None:
    context = plain_server_context(certs().server)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(certs().ca)
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # where a refusal comes in time

    with Service(echo, tls=context) as service:
        target = f"tls://localhost:{service.port}"
        with wts(target, "--ca", certs().ca, "--target-cert", certs().client) as far:
            with stw(far.url) as near:
                assert works(near)
        with wts(target, "--ca", certs().ca) as far, stw(far.url) as near:
            assert "HTTP 502" in fails(near)
            far.wait_for("WARNING.*TLS: ")


# What wts does with peers that break TLS


def test_plain_http_on_a_tls_port(secure: Fastws) -> None:
    start = len(secure.lines)
    with connect(secure.port) as sock:
        sock.sendall(rawws.request())
        sock.settimeout(50 * UNIT)
        while sock.recv(4096):
            pass
    secure.wait_for("TLS handshake failed: the peer speaks plain HTTP", start=start)


def test_tls_on_a_plain_port(service: Service) -> None:
    with wts(service.port) as far:
        with connect(far.port) as plain:
            context = plain_client_context()
            with pytest.raises(ssl.SSLError):
                context.wrap_socket(plain, server_hostname="localhost")
        far.wait_for("WARNING.*TLS on a plain port")


def test_silent_tls_client_is_dropped(service: Service) -> None:
    options = ("--cert", certs().server, "--handshake-timeout", units(25))
    with wts(service.port, *options) as far:
        with connect(far.port) as silent:
            with stw(f"wss://localhost:{far.port}/", "--ca", certs().ca) as near:
                assert works(near)
            assert silent.recv(1) == b""
        far.wait_for("TLS handshake failed: the handshake took too long")


def test_answers_that_are_no_101_end_at_once_over_tls(secure: Fastws) -> None:
    context = plain_client_context()
    plain = connect(secure.port)
    with context.wrap_socket(plain, server_hostname="localhost") as sock:
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        reader = rawws.Reader(sock)
        answer = reader.head()
        assert answer.status == 200
        assert reader.body(answer) == b"ok\n"
        sock.settimeout(20 * UNIT)
        assert reader.at_end()


# SIGHUP


def test_sighup_serves_the_new_certificate(service: Service, tmp_path: Path) -> None:
    path = tmp_path / "site.pem"
    shutil.copy(certs().stranger, path)
    with wts(service.port, "--cert", str(path)) as far:
        url = f"wss://localhost:{far.port}/"
        with stw(url, "--ca", certs().ca) as near:
            assert "unknown CA" in fails(near)
            shutil.copy(certs().server, path)
            far.signal(signal.SIGHUP)
            far.wait_for("certificates and keys reloaded")
            assert works(near)
            path.write_text("nonsense")
            far.signal(signal.SIGHUP)
            line = far.wait_for("nothing reloaded")
            assert f"--cert {path}: holds no certificate (PEM)" in line
            assert works(near), "the old one stays"


# What the listener shows


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_alpn_and_versions(secure: Fastws) -> None:
    context = plain_client_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    with context.wrap_socket(connect(secure.port), server_hostname="localhost") as sock:
        assert sock.selected_alpn_protocol() == "http/1.1"
        assert sock.version() in ("TLSv1.2", "TLSv1.3")
    old = plain_client_context()
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    start = len(secure.lines)
    plain = connect(secure.port)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        old.wrap_socket(plain, server_hostname="localhost")
    plain.close()
    secure.wait_for("TLS handshake failed", start=start)


def test_many_clients_leave_during_the_handshake(secure: Fastws) -> None:
    """Nobody else notices, and nothing but one line each is logged."""
    before = secure.count("TLS handshake failed")
    socks = [connect(secure.port) for _ in range(20)]
    for number, sock in enumerate(socks):
        sock.sendall(b"\x16\x03\x01\x02\x00\x01"[: 1 + number % 6])
        sock.close()
    eventually(lambda: secure.count("TLS handshake failed") == before + 20)
    with stw(f"wss://localhost:{secure.port}/", "--ca", certs().ca) as near:
        assert works(near)
