"""Who may use a proxy: users of the command line, and those of a file."""

import hashlib
import hmac
from collections.abc import Sequence

from fastws.http.auth import Users, check_attempts
from fastws.http.limit import Attempts
from fastws.wire.forwarded import network_of


class Accounts:
    """Users and their passwords. One event loop.

    Args:
        pairs: ``user:password``; the first colon divides (RFC 7617 section 2).
        users: a file of hashed passwords, ``None`` without one.
        attempts: counts wrong passwords; ``None``: any number may be tried.
    """

    __slots__ = ("_digests", "attempts", "users")

    def __init__(
        self,
        pairs: Sequence[str],
        users: Users | None,
        attempts: Attempts | None = None,
    ) -> None:
        self._digests = [_digest(pair) for pair in pairs]
        self.users = users
        self.attempts = attempts

    async def admit(self, user: str, password: str, client: str = "") -> bool:
        """Whether they belong together; comparing takes as long for all.

        Who has guessed too often hears no more whether it was right.

        Args:
            user: as sent.
            password: as sent.
            client: its address: what it sends leaves others their turn.

        Raises:
            Refusal: too many passwords wait to be checked: its status is 503; or the
                address has tried too many wrong ones: 429.
        """
        attempts = self.attempts if client else None
        if attempts is None:
            return await self._is_right(user, password, client)
        check_attempts(attempts, client, "passwords")
        is_right = await self._is_right(user, password, client)
        check_attempts(attempts, client, "passwords")  # that were checked meanwhile
        if not is_right:
            attempts.count(client)
        return is_right

    async def _is_right(self, user: str, password: str, client: str) -> bool:
        found = False
        # A colon in the name would shift the border between the two.
        digest = _digest(f"{user}:{password}")
        for known in self._digests:
            found |= hmac.compare_digest(digest, known)
        if found and ":" not in user:
            return True
        if self.users is None:
            return False
        return await self.users.admit(user, password, network_of(client))


def _digest(pair: str) -> bytes:
    return hashlib.sha256(pair.encode("utf-8", "surrogateescape")).digest()
