"""Who may use a proxy: users of the command line, and those of a file."""

import hashlib
import hmac
import logging
from collections.abc import Sequence

from fastws.http.answers import Refusal
from fastws.http.auth import REALM, Users, decode_basic
from fastws.wire.head import Head


class Accounts:
    """Users and their passwords. One event loop.

    Args:
        pairs: ``user:password``; the first colon divides (RFC 7617 section 2).
        users: a file of hashed passwords, ``None`` without one.
    """

    __slots__ = ("_digests", "users")

    def __init__(self, pairs: Sequence[str], users: Users | None) -> None:
        self._digests = [_digest(pair) for pair in pairs]
        self.users = users

    async def admit(self, user: str, password: str) -> bool:
        """Whether they belong together; comparing takes as long for all.

        Raises:
            Refusal: too many passwords wait to be checked; its status is 503.
        """
        found = False
        # A colon in the name would shift the border between the two.
        digest = _digest(f"{user}:{password}")
        for known in self._digests:
            found |= hmac.compare_digest(digest, known)
        if found and ":" not in user:
            return True
        return self.users is not None and await self.users.admit(user, password)


def _digest(pair: str) -> bytes:
    return hashlib.sha256(pair.encode("utf-8", "surrogateescape")).digest()


async def check_login(accounts: Accounts, head: Head) -> None:
    """Let a request pass that says who asks, in ``Proxy-Authorization``.

    Source: RFC 9110 section 11.7, RFC 7617.

    Raises:
        Refusal: with 407, or 503 when too many passwords wait to be checked.
    """
    values = head.get_all("proxy-authorization")
    if not values:
        raise _refuse("no credentials (--user, --users)", logging.INFO)
    scheme, _, credentials = values[0].partition(" ")
    if len(values) > 1 or scheme.lower() != "basic":
        raise _refuse("credentials that are not asked for (--user, --users)")
    user, colon, password = decode_basic(credentials.strip(" ")).partition(":")
    if not colon:
        raise _refuse("malformed Basic credentials (--user, --users)")
    if not await accounts.admit(user, password):
        raise _refuse("wrong user or password (--user, --users)")


def _refuse(reason: str, level: int | None = None) -> Refusal:
    headers = (("Proxy-Authenticate", f'Basic realm="{REALM}", charset="UTF-8"'),)
    return Refusal(reason, http_status=407, headers=headers, level=level)
