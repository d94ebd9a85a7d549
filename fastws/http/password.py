"""Passwords as they are stored: hashed with scrypt or PBKDF2, in passlib's text form.

Source: RFC 7914 (scrypt), RFC 8018 (PBKDF2), the PHC string format. ``hashlib`` does
the work; only the text around it is read here.
"""

import base64
import binascii
import hashlib
import hmac
import re
from typing import Literal

import msgspec

# RFC 7914 section 2: N = 2^15, r = 8, p = 1 need 32 MiB and some 80 ms.
LOG_N, R, P = 15, 8, 1
SALT_SIZE = 16
_MAX_MEMORY = 256 * 1024 * 1024
_MAX_ROUNDS = 10_000_000
_MIN_DIGEST = 32  # bytes; of SHA-256, the shortest

# Compiled when first used: most starts read no password.
_SCRYPT = r"\$scrypt\$ln=(\d{1,2}),r=(\d{1,3}),p=(\d{1,3})\$([^$]+)\$([^$]+)"
_PBKDF2 = r"\$pbkdf2-(sha256|sha512)\$(\d{1,9})\$([^$]*)\$([^$]+)"


class PasswordHash(msgspec.Struct, frozen=True):
    """One stored password. Safe for any number of threads.

    Attributes:
        scheme: ``scrypt``, or the digest of PBKDF2.
        cost: of scrypt ``(log2 N, r, p)``, of PBKDF2 ``(rounds, 0, 0)``.
        salt: as stored.
        digest: to compare with.
    """

    scheme: Literal["scrypt", "sha256", "sha512"]
    cost: tuple[int, int, int]
    salt: bytes
    digest: bytes

    @classmethod
    def parse(cls, text: str) -> "PasswordHash":
        """Read ``$scrypt$ln=15,r=8,p=1$SALT$HASH`` or ``$pbkdf2-sha256$ROUNDS$…``.

        Raises:
            ValueError: another form, a cost out of reason, or a hash that is cut
                short; the text never repeats what was read.
        """
        found = re.fullmatch(_SCRYPT, text)
        if found is not None:
            log_n, r, p = int(found[1]), int(found[2]), int(found[3])
            if not (1 <= log_n < 32 and r and p) or memory(log_n, r, p) > _MAX_MEMORY:
                raise ValueError("the cost of the scrypt hash is out of reason")
            return cls("scrypt", (log_n, r, p), _decode(found[4]), _digest(found[5]))
        found = re.fullmatch(_PBKDF2, text)
        if found is not None:
            scheme: Literal["sha256", "sha512"]
            scheme = "sha256" if found[1] == "sha256" else "sha512"
            rounds = int(found[2])
            if not 1 <= rounds <= _MAX_ROUNDS:
                raise ValueError("the rounds of the PBKDF2 hash are out of reason")
            return cls(scheme, (rounds, 0, 0), _decode(found[3]), _digest(found[4]))
        raise ValueError(
            "no $scrypt$ or $pbkdf2-sha256$ hash; make one with: fastws hash-password"
        )

    def verify(self, password: str) -> bool:
        """Whether ``password`` is the one; takes as long either way, some 0.1 s."""
        found = self._derive(password.encode("utf-8", "surrogateescape"))
        return hmac.compare_digest(found, self.digest)

    def _derive(self, password: bytes) -> bytes:
        size = len(self.digest)
        if self.scheme != "scrypt":
            rounds = self.cost[0]
            return hashlib.pbkdf2_hmac(self.scheme, password, self.salt, rounds, size)
        return _derive_scrypt(password, self.salt, self.cost, size)

    def __repr__(self) -> str:
        return f"<PasswordHash {self.scheme} {self.cost}>"


def memory(log_n: int, r: int, p: int) -> int:
    """Bytes that scrypt needs (RFC 7914 section 2)."""
    return 128 * r * ((1 << log_n) + p)


def hash_password(password: str, salt: bytes) -> str:
    """Hash a password for a users file.

    Args:
        password: text of any length.
        salt: ``SALT_SIZE`` fresh random bytes.
    """
    data = password.encode("utf-8", "surrogateescape")
    digest = _derive_scrypt(data, salt, (LOG_N, R, P), 32)
    return f"$scrypt$ln={LOG_N},r={R},p={P}${_encode(salt)}${_encode(digest)}"


def _derive_scrypt(
    password: bytes, salt: bytes, cost: tuple[int, int, int], size: int
) -> bytes:
    log_n, r, p = cost
    spare = 1 << 20  # OpenSSL counts a little more than the RFC
    return hashlib.scrypt(
        password,
        salt=salt,
        n=1 << log_n,
        r=r,
        p=p,
        maxmem=memory(log_n, r, p) + spare,
        dklen=size,
    )


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii").rstrip("=")


def _digest(text: str) -> bytes:
    """What to compare with: never a shorter one, which more passwords would fit."""
    data = _decode(text)
    if len(data) < _MIN_DIGEST:
        raise ValueError(f"the hash is cut short: under {_MIN_DIGEST} bytes")
    return data


def _decode(text: str) -> bytes:
    """Base64 without padding; passlib writes ``.`` for ``+``."""
    text = text.rstrip("=").replace(".", "+")
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("the hash holds something that is not base64") from None
    if not data:
        raise ValueError("the hash has an empty part")
    return data
