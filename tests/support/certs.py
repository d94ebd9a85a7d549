"""Certificates for tests, made once per run in a directory that goes with it.

Every file is PEM. ``server`` is for localhost, 127.0.0.1 and ::1.
"""

import atexit
import datetime
import shutil
import ssl
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Certs:
    """Paths of the files.

    Attributes:
        ca: the CA that issued all but ``stranger``.
        server: certificate and key in one file.
        cert: the same certificate alone.
        key: its key alone.
        encrypted_key: its key with a password.
        expired: certificate and key for the same names, out of date.
        elsewhere: certificate and key for elsewhere.example.
        client: certificate and key of a client.
        other_ca: a CA that issued only ``stranger``.
        stranger: certificate and key for the same names by the other CA.
    """

    ca: str
    server: str
    cert: str
    key: str
    encrypted_key: str
    expired: str
    elsewhere: str
    client: str
    other_ca: str
    stranger: str


@cache
def certs() -> Certs:
    """The files; the first call makes them."""
    place = Path(tempfile.mkdtemp(prefix="fastws-certs-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)

    def put(name: str, *blobs: bytes) -> str:
        path = place / f"{name}.pem"
        path.write_bytes(b"".join(blobs))
        return str(path)

    def pair(leaf: trustme.LeafCert) -> bytes:
        return leaf.private_key_and_cert_chain_pem.bytes()

    ca, other = trustme.CA(), trustme.CA()
    server = ca.issue_cert(*NAMES)
    now = datetime.datetime.now(datetime.UTC)
    expired = ca.issue_cert(
        *NAMES,
        not_before=now - datetime.timedelta(days=20),
        not_after=now - datetime.timedelta(days=10),
    )
    chain = b"".join(blob.bytes() for blob in server.cert_chain_pems)
    key = server.private_key_pem.bytes()
    locked = load_pem_private_key(key, None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    return Certs(
        ca=put("ca", ca.cert_pem.bytes()),
        server=put("server", pair(server)),
        cert=put("cert", chain),
        key=put("key", key),
        encrypted_key=put("encrypted_key", locked),
        expired=put("expired", pair(expired)),
        elsewhere=put("elsewhere", pair(ca.issue_cert("elsewhere.example"))),
        client=put("client", pair(ca.issue_cert("client@example.org"))),
        other_ca=put("other_ca", other.cert_pem.bytes()),
        stranger=put("stranger", pair(other.issue_cert(*NAMES))),
    )


def plain_server_context(path: str) -> ssl.SSLContext:
    """A context with no code of fastws in it, for servers that tests dial."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


def plain_client_context() -> ssl.SSLContext:
    """The same for clients; trusts the CA."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(certs().ca)
    return context
