"""Contexts, and the texts about files that do not fit."""

import asyncio
import logging
import os
import ssl
import sys
from pathlib import Path

import pytest

from fastws.exceptions import ConfigError
from fastws.net.tls import client_context, explain_os, explain_tls, fast_tls
from fastws.net.tls import server_context as make_server_context
from tests.support.certs import certs
from tests.support.servers import LOOPS


def shake_hands(
    client: ssl.SSLContext,
    server: ssl.SSLContext,
    name: str | None = "localhost",
    session: ssl.SSLSession | None = None,
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Run a handshake in memory; raises what the first end to fail raises."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(down, up, server_hostname=name, session=session)
    theirs = server.wrap_bio(up, down, server_side=True)
    for _ in range(5):
        for end in (ours, theirs):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                pass
    return ours, theirs


def failure(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> str:
    with pytest.raises(ssl.SSLError) as caught:
        shake_hands(client, server, name)
    return explain_tls(caught.value, name)


def test_verified_handshake_with_alpn() -> None:
    ours, theirs = shake_hands(
        client_context(ca=certs().ca), make_server_context(certs().server)
    )
    assert ours.version() in ("TLSv1.2", "TLSv1.3")
    assert ours.selected_alpn_protocol() == "http/1.1"
    assert theirs.selected_alpn_protocol() == "http/1.1"


def test_alpn_can_be_left_out() -> None:
    ours, _ = shake_hands(
        client_context(ca=certs().ca, alpn=()), make_server_context(certs().server)
    )
    assert ours.selected_alpn_protocol() is None


def test_sessions_are_resumed_again_and_again() -> None:
    """The one ticket of a connection serves the next, which gets one too."""
    client, server = client_context(ca=certs().ca), make_server_context(certs().server)
    session = None
    reused = []
    for _ in range(3):
        ours, theirs = shake_hands(client, server, session=session)
        theirs.write(b"x")
        assert ours.read(1) == b"x"  # tickets come before it
        session = ours.session
        reused.append(ours.session_reused)
    assert reused == [False, True, True]


@pytest.mark.parametrize("side", ["client", "server"])
def test_nothing_below_tls_1_2(side: str) -> None:
    context = client_context(ca=certs().ca)
    if side == "server":
        context = make_server_context(certs().server)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_client_verifies_by_default() -> None:
    context = client_context()
    assert context.check_hostname
    assert context.verify_mode == ssl.CERT_REQUIRED


def test_insecure_takes_any_certificate() -> None:
    context = client_context(insecure=True)
    shake_hands(context, make_server_context(certs().stranger), "wrong.example")


def test_ca_replaces_the_trusted_ones() -> None:
    server = make_server_context(certs().server)
    assert failure(client_context(ca=certs().other_ca), server, "localhost") == (
        "unknown CA"
    )


def test_ca_may_be_a_directory(tmp_path: Path) -> None:
    context = client_context(ca=str(tmp_path))
    server = make_server_context(certs().server)
    assert failure(context, server, "localhost") == "unknown CA"


def test_wrong_name_in_words() -> None:
    server = make_server_context(certs().elsewhere)
    context = client_context(ca=certs().ca)
    assert failure(context, server, "localhost") == (
        "the certificate is for another name than localhost"
    )


def test_expired_in_words() -> None:
    server = make_server_context(certs().expired)
    context = client_context(ca=certs().ca)
    assert failure(context, server, "localhost") == "the certificate has expired"


def test_expired_server_certificate_is_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, "fastws.net"):
        make_server_context(certs().server)
        make_server_context(certs().expired)
    assert [record.getMessage() for record in caplog.records] == [
        f"{certs().expired}: the certificate has expired"
    ]


def test_key_in_its_own_file() -> None:
    context = make_server_context(certs().cert, certs().key)
    shake_hands(client_context(ca=certs().ca), context)


def test_client_certificate_is_required_and_verified() -> None:
    server = make_server_context(certs().server, client_ca=certs().ca)
    with_cert = client_context(ca=certs().ca, cert=certs().client)
    _, theirs = shake_hands(with_cert, server)
    peer = theirs.getpeercert()
    assert peer is not None
    assert ("email", "client@example.org") in peer["subjectAltName"]
    assert failure(client_context(ca=certs().ca), server, "localhost") == (
        "the client sent no certificate"
    )
    stranger = client_context(ca=certs().ca, cert=certs().stranger)
    assert failure(stranger, server, "localhost") == "unknown CA"


def reason(cert: str, key: str | None = None, ca: str | None = None) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        make_server_context(cert, key, client_ca=ca)
    return caught.value


def test_reject_missing_files(tmp_path: Path) -> None:
    missing = str(tmp_path / "none.pem")
    text = f"{missing}: cannot be read: no such file or directory"
    assert str(reason(missing)) == text
    assert str(reason(certs().cert, missing)) == text
    assert str(reason(certs().server, ca=missing)) == text
    with pytest.raises(ConfigError) as caught:
        client_context(ca=missing)
    assert str(caught.value) == text


@pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() == 0, reason="root reads everything"
)
def test_reject_unreadable_file(tmp_path: Path) -> None:
    path = tmp_path / "secret.pem"
    path.write_bytes(Path(certs().server).read_bytes())
    path.chmod(0)
    assert str(reason(str(path))) == f"{path}: cannot be read: permission denied"


def test_reject_directory_as_certificate(tmp_path: Path) -> None:
    assert str(reason(str(tmp_path))) == f"{tmp_path}: cannot be read: is a directory"


def test_reject_key_of_another_certificate() -> None:
    error = reason(certs().cert, certs().stranger)
    assert error.path == certs().stranger
    assert error.reason == (
        f"the private key does not belong to the first of {certs().cert}"
    )


def test_reject_encrypted_key() -> None:
    error = reason(certs().cert, certs().encrypted_key)
    assert error.path == certs().encrypted_key
    assert error.reason.startswith("the private key is encrypted; decrypt it: openssl")


def test_reject_files_without_what_is_needed(tmp_path: Path) -> None:
    assert str(reason(certs().key)) == f"{certs().key}: holds no certificate (PEM)"
    assert str(reason(certs().cert)) == (
        f"{certs().cert}: holds no private key (PEM); name its key's file with --key"
    )
    assert str(reason(certs().cert, certs().ca)) == (
        f"{certs().ca}: holds no private key (PEM)"
    )
    empty = tmp_path / "empty.pem"
    empty.write_bytes(b"")
    with pytest.raises(ConfigError) as caught:
        client_context(ca=str(empty))
    assert str(caught.value) == f"{empty}: holds no certificate (PEM)"


def test_reject_damaged_certificate(tmp_path: Path) -> None:
    text = Path(certs().server).read_text("ascii")
    broken = tmp_path / "broken.pem"
    broken.write_text(
        text.replace(
            "-----BEGIN CERTIFICATE-----\nM", "-----BEGIN CERTIFICATE-----\nX"
        ),
        "ascii",
    )
    error = reason(str(broken))
    assert error.path == str(broken)
    assert error.reason.startswith(f"not usable with {broken}: ")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConnectionResetError(), "closed during the handshake"),
        (ConnectionResetError(104, "Connection reset"), "closed during the handshake"),
        (ConnectionAbortedError("too slow"), "the handshake took too long"),
        (BrokenPipeError(32, "Broken pipe"), "broken pipe"),
    ],
    ids=["eof", "reset", "timeout", "os"],
)
def test_explain_connection_errors(error: OSError, text: str) -> None:
    assert explain_tls(error) == text


def test_explain_os_without_number() -> None:
    assert explain_os(OSError("Some text")) == "some text"
    assert explain_os(OSError("AF_UNIX path too long")) == "AF_UNIX path too long"


@pytest.mark.parametrize("loop_name", list(LOOPS))
def test_fast_tls_never_on_uvloop(loop_name: str) -> None:
    aiofastnet = pytest.importorskip("aiofastnet")
    loop = LOOPS[loop_name]()
    try:
        expected = None if loop_name == "uvloop" else aiofastnet
        assert fast_tls(loop) is expected
    finally:
        loop.close()


def test_fast_tls_keeps_the_exception_handler() -> None:
    pytest.importorskip("aiofastnet")
    seen: list[object] = []
    loop = asyncio.new_event_loop()
    try:
        loop.set_exception_handler(lambda _, context: seen.append(context["exception"]))
        fast_tls(loop)
        fast_tls(loop)
        loop.call_exception_handler(
            {"message": "SSL handshake failed", "exception": ConnectionResetError}
        )
        error = ConnectionResetError()
        loop.call_exception_handler({"message": "other", "exception": error})
        assert seen == [error]
    finally:
        loop.close()
