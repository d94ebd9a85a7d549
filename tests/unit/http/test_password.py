"""Stored passwords: vectors of the RFCs, and what is no hash."""

import base64
import hashlib

import pytest

from fastws.http.password import SALT_SIZE, PasswordHash, hash_password

# RFC 7914 section 12, as passlib would write it (N = 1024, r = 8, p = 16).
RFC_7914 = (
    "$scrypt$ln=10,r=8,p=16$TmFDbA$"
    "/bq+HJ00cgB4VucZDQHp/nxq18vII3gw53N2Y0s3MWIurzDZLiKjiG/xCSedmDDaxyevuUqD7m2DYMvfoswGQA"
)
# RFC 7914 section 11: PBKDF2-HMAC-SHA-256 of "passwd" with "salt", 1 round, 64 bytes.
RFC_PBKDF2 = bytes.fromhex(
    "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc"
    "49ca9cccf179b645991664b39d77ef317c71b845b1e30bd509112041d3a19783"
)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")


def test_scrypt_vector() -> None:
    stored = PasswordHash.parse(RFC_7914)
    assert stored.verify("password")
    assert not stored.verify("Password")


def test_pbkdf2_vector() -> None:
    for text in (b64(RFC_PBKDF2), b64(RFC_PBKDF2).replace("+", ".")):
        stored = PasswordHash.parse(f"$pbkdf2-sha256$1${b64(b'salt')}${text}")
        assert stored.verify("passwd")
        assert not stored.verify("passwd ")


def test_pbkdf2_with_sha512() -> None:
    digest = hashlib.pbkdf2_hmac("sha512", b"pw", b"salt", 7, 64)
    assert PasswordHash.parse(f"$pbkdf2-sha512$7${b64(b'salt')}${b64(digest)}").verify(
        "pw"
    )


@pytest.mark.parametrize("password", ["secret", "", "ü: \N{SNOWMAN}", "x" * 1000])
def test_what_is_hashed_is_known_again(password: str) -> None:
    text = hash_password(password, bytes(range(SALT_SIZE)))
    assert text.startswith("$scrypt$ln=15,r=8,p=1$AAECAwQFBgcICQoLDA0ODw$")
    stored = PasswordHash.parse(text)
    assert stored.verify(password)
    assert not stored.verify(password + "x")
    assert repr(stored) == "<PasswordHash scrypt (15, 8, 1)>"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "make one with: fastws hash-password"),
        ("secret", "make one with"),
        ("{SHA256}abc", "make one with"),
        ("$6$salt$hash", "make one with"),
        ("$2b$12$abc", "make one with"),
        ("$scrypt$ln=15,r=8$YQ$YQ", "make one with"),
        ("$scrypt$ln=0,r=8,p=1$YQ$YQ", "cost of the scrypt"),
        ("$scrypt$ln=15,r=0,p=1$YQ$YQ", "cost of the scrypt"),
        ("$scrypt$ln=32,r=1,p=1$YQ$YQ", "cost of the scrypt"),
        ("$scrypt$ln=20,r=8,p=1$YQ$YQ", "cost of the scrypt"),
        ("$scrypt$ln=15,r=8,p=1$YQ$Y", "not base64"),
        ("$scrypt$ln=15,r=8,p=1$a b$YQ", "not base64"),
        ("$scrypt$ln=15,r=8,p=1$YQ$=", "an empty part"),
        (f"$scrypt$ln=15,r=8,p=1$YQ${b64(bytes(31))}", "cut short: under 32 bytes"),
        (f"$pbkdf2-sha256$1000$YQ${b64(bytes(1))}", "cut short: under 32 bytes"),
        ("$pbkdf2-sha256$0$YQ$YQ", "rounds of the PBKDF2"),
        ("$pbkdf2-sha256$99999999$YQ$YQ", "rounds of the PBKDF2"),
        ("$pbkdf2-sha256$1000$$YQ", "an empty part"),
        ("$pbkdf2-md5$1000$YQ$YQ", "make one with"),
    ],
)
def test_reject(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        PasswordHash.parse(text)
    assert "secret" not in str(caught.value)


def test_highest_cost_that_is_admitted() -> None:
    text = f"$scrypt$ln=17,r=8,p=1$YQ${b64(bytes(32))}"
    assert PasswordHash.parse(text).cost == (17, 8, 1)


def test_hash_that_was_cut_fits_no_password() -> None:
    """As when a users file is read while another program still writes it."""
    text = hash_password("secret", bytes(SALT_SIZE))
    for size in range(1, 44):
        with pytest.raises(ValueError, match=r"cut short|not base64|make one with"):
            PasswordHash.parse(text[:-size])
