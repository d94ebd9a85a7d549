"""TLS contexts, and TLS failures in words.

TLS 1.2 or later (RFC 8996), ALPN ``http/1.1`` (RFC 7301), names and chains verified
unless ``insecure`` is asked for. A context is never changed after it was made: to
reload certificates make a new one.
"""

import asyncio
import errno
import logging
import os
import ssl
from collections.abc import Sequence
from functools import cache
from types import ModuleType
from typing import Any
from weakref import WeakSet

from fastws.exceptions import ConfigError
from fastws.net.sockopt import is_uvloop

logger = logging.getLogger("fastws.net")

ALPN = ("http/1.1",)

_quiet_loops: WeakSet[asyncio.AbstractEventLoop] = WeakSet()

# X509_V_ERR_* of OpenSSL's x509_vfy.h.
_VERIFY_TEXTS = {
    9: "the certificate is not valid yet",
    10: "the certificate has expired",
    18: "the certificate is self-signed (name it with --ca)",
    19: "unknown CA: the chain ends in a self-signed certificate",
    20: "unknown CA",
    21: "unknown CA: the server sent no chain",
    23: "the certificate was revoked",
    26: "the certificate is not meant for this purpose",
    62: "the certificate is for another name",
    64: "the certificate is for another address",
}
_CODE_EXPIRED = 10
_CODE_NOT_YET = 9
_NAME_CODES = (62, 64)

# Reasons of OpenSSL's sslerr.h, as ssl.SSLError.reason spells them.
_REASON_TEXTS = {
    "WRONG_VERSION_NUMBER": "the peer does not speak TLS on this port",
    "PACKET_LENGTH_TOO_LONG": "the peer does not speak TLS on this port",
    "RECORD_LAYER_FAILURE": "the peer does not speak TLS on this port",
    "HTTP_REQUEST": "the peer speaks plain HTTP",
    "HTTPS_PROXY_REQUEST": "the peer speaks plain HTTP",
    "UNSUPPORTED_PROTOCOL": "the peer offers no TLS version from 1.2 on",
    "TLSV1_ALERT_PROTOCOL_VERSION": "no TLS version in common",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "the peer refused the handshake",
    "TLSV1_UNRECOGNIZED_NAME": "the peer does not serve this name",
    "NO_SHARED_CIPHER": "no cipher in common",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the client sent no certificate",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the peer asks for a client certificate",
    "TLSV1_ALERT_UNKNOWN_CA": "the peer does not know the CA of our certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the peer refused our certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the peer refused our certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the peer says our certificate has expired",
    "UNEXPECTED_EOF_WHILE_READING": "closed during the handshake",
}


def explain_tls(exc: OSError, server_hostname: str | None = None) -> str:
    """Say in a few words why a TLS handshake failed.

    Args:
        exc: what the event loop raised.
        server_hostname: the name that was asked for, to be named if it was wrong.
    """
    if isinstance(exc, ssl.SSLCertVerificationError):
        code = exc.verify_code
        text = _VERIFY_TEXTS.get(code) or exc.verify_message
        if code in _NAME_CODES and server_hostname:
            text += f" than {server_hostname}"
        return text
    if isinstance(exc, ssl.SSLError):
        reason = exc.reason or ""
        return _REASON_TEXTS.get(reason) or reason.replace("_", " ").lower() or str(exc)
    if isinstance(exc, ConnectionAbortedError) and exc.errno is None:
        return "the handshake took too long"
    if isinstance(exc, ConnectionError) and exc.errno in (None, errno.ECONNRESET):
        return "closed during the handshake"
    return explain_os(exc)


def may_pass_tls(exc: BaseException | None) -> bool:
    """Whether a handshake that failed so can succeed a moment later.

    What one end says of the other's certificate, versions or words stays true.
    """
    if isinstance(exc, ssl.SSLCertVerificationError):
        return False
    is_end = isinstance(exc, ssl.SSLEOFError)
    return is_end or not (isinstance(exc, ssl.SSLError) and exc.reason in _REASON_TEXTS)


def explain_os(exc: OSError) -> str:
    """The system's words for an error, without numbers, starting in lower case."""
    return lower_first(
        os.strerror(exc.errno) if exc.errno else str(exc.strerror or exc)
    )


def lower_first(text: str) -> str:
    """For the middle of a sentence: "host unreachable", but still "TTL expired"."""
    is_word = text[1:2].islower() or text[1:2] == " "
    return text[:1].lower() + text[1:] if is_word else text


def fast_tls(loop: asyncio.AbstractEventLoop) -> ModuleType | None:
    """aiofastnet, if TLS on this loop should go through it.

    On the stock loop its TLS is faster and tells a cut from an end. On uvloop it is
    never used: it does not report a reset that arrives together with data there.
    """
    if is_uvloop(loop):
        return None
    module = _aiofastnet()
    if module is not None and loop not in _quiet_loops:
        _quiet_loops.add(loop)
        _silence_handshakes(loop)
    return module


def _silence_handshakes(loop: asyncio.AbstractEventLoop) -> None:
    """Keep tracebacks for peers that left during a handshake out of the log.

    aiofastnet 1.2 hands the loop's exception handler the class
    ``ConnectionResetError`` then, which that prints as if it were a bug of ours.
    """
    previous = loop.get_exception_handler()

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if context.get("exception") is ConnectionResetError:
            return  # whoever waits for the handshake gets it and logs one line
        if previous is not None:
            previous(loop, context)
        else:
            loop.default_exception_handler(context)

    loop.set_exception_handler(handle)


@cache
def _aiofastnet() -> ModuleType | None:
    try:
        import aiofastnet  # noqa: PLC0415 - optional
    except ImportError:
        return None
    module: ModuleType = aiofastnet
    return module


def client_context(
    *,
    ca: str | None = None,
    cert: str | None = None,
    key: str | None = None,
    insecure: bool = False,
    alpn: Sequence[str] = ALPN,
) -> ssl.SSLContext:
    """The context for dialling.

    Args:
        ca: file or directory (OpenSSL hash names) of the only CAs to trust; the
            system's own without it.
        cert: our certificate, PEM, the chain after it.
        key: its private key; in the same file without it.
        insecure: check neither chain nor name. The caller warns.
        alpn: protocols to offer, best first; empty for none.

    Raises:
        ConfigError: a file cannot be used; names the file.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif ca is not None:
        _load_ca(context, ca)
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if cert is not None:
        _load_pair(context, cert, key)
    return context


def server_context(
    cert: str,
    key: str | None = None,
    *,
    client_ca: str | None = None,
    alpn: Sequence[str] = ALPN,
) -> ssl.SSLContext:
    """The context for listening. An expired certificate is only warned of.

    Args:
        cert: our certificate, PEM, the chain after it.
        key: its private key; in the same file without it.
        client_ca: file or directory of the CAs one of which must have issued the
            client's certificate; without it clients need none.
        alpn: protocols to choose from.

    Raises:
        ConfigError: a file cannot be used; names the file.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.num_tickets = 1  # each resumed connection gets the next (RFC 8446 4.6.1)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    _load_pair(context, cert, key)
    problem = _date_problem(context, cert)
    if problem:
        logger.warning("%s: %s", cert, problem)
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        _load_ca(context, client_ca)
    return context


def _read(path: str) -> bytes:
    """The file's bytes, or a ConfigError that says why not."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as exc:
        raise ConfigError(path, f"cannot be read: {explain_os(exc)}") from exc


def _load_ca(context: ssl.SSLContext, path: str) -> None:
    """Trust the CAs of a PEM file or of a directory."""
    try:
        if os.path.isdir(path):
            context.load_verify_locations(capath=path)
            return
        if b"-----BEGIN CERTIFICATE-----" not in _read(path):
            raise ConfigError(path, "holds no certificate (PEM)")
        context.load_verify_locations(cafile=path)
    except OSError as exc:
        raise ConfigError(path, f"not usable as CA: {explain_tls(exc)}") from exc


def _load_pair(context: ssl.SSLContext, cert: str, key: str | None) -> None:
    """Load certificate and key; every way to be wrong has its own text."""
    key_file = key if key is not None else cert
    if b"-----BEGIN CERTIFICATE-----" not in _read(cert):
        raise ConfigError(cert, "holds no certificate (PEM)")
    if b"PRIVATE KEY-----" not in _read(key_file):
        hint = "" if key is not None else "; name its key's file with --key"
        raise ConfigError(key_file, f"holds no private key (PEM){hint}")
    is_encrypted = False

    def refuse() -> str:
        # Without this, OpenSSL would ask for the password on the terminal.
        nonlocal is_encrypted
        is_encrypted = True
        return ""

    try:
        context.load_cert_chain(cert, key_file, password=refuse)
    except (OSError, ValueError) as exc:
        if is_encrypted:
            raise ConfigError(
                key_file,
                "the private key is encrypted; decrypt it: "
                f"openssl pkey -in {key_file} -out plain.pem",
            ) from exc
        if isinstance(exc, ssl.SSLError) and exc.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(
                key_file, f"the private key does not belong to the first of {cert}"
            ) from exc
        text = explain_tls(exc) if isinstance(exc, OSError) else str(exc)
        raise ConfigError(cert, f"not usable with {key_file}: {text}") from exc


def _date_problem(context: ssl.SSLContext, cert: str) -> str | None:
    """Whether the certificate just loaded is valid today, in words if not.

    ``ssl`` shows no certificate of ours, so a client in memory is made to verify it.
    """
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        client.load_verify_locations(cafile=cert)
    except OSError:
        return None
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server),
        context.wrap_bio(to_server, to_client, server_side=True),
    )
    for _ in range(4):  # flights of a handshake, at most
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as exc:
                if exc.verify_code in (_CODE_EXPIRED, _CODE_NOT_YET):
                    return _VERIFY_TEXTS[exc.verify_code]
                return None
            except ssl.SSLError:
                return None
    return None
