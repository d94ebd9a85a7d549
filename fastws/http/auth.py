"""Who may ask: bearer tokens, and users with passwords.

Source: RFC 6750 (Bearer), RFC 7617 (Basic), RFC 9110 section 11. Everything is
compared in constant time, and no answer or log line repeats what a client sent.
"""

import asyncio
import base64
import binascii
import hmac
import logging
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from math import ceil
from pathlib import Path
from urllib.parse import parse_qsl

from fastws.exceptions import ConfigError
from fastws.http.answers import RETRY_AFTER, Refusal
from fastws.http.limit import Attempts
from fastws.http.password import PasswordHash
from fastws.wire.forwarded import network_of
from fastws.wire.head import Head

REALM = "fastws"
TOKEN_FIELD = "access_token"  # RFC 6750 section 2.3
# A check takes some 0.1 s of a core: more than these do not wait for their turn.
MAX_WAITING = 64
MAX_WAITING_PER_CLIENT = 16
_REMEMBERED = 1024

_SCHEMES = ("basic", "bearer", "digest", "negotiate", "ntlm")
_BASIC = f'Basic realm="{REALM}", charset="UTF-8"'
_BEARER = f'Bearer realm="{REALM}"'


class Tokens:
    """The bearer tokens that let in."""

    __slots__ = ("_tokens",)

    def __init__(self, tokens: Sequence[str]) -> None:
        self._tokens = [token.encode() for token in tokens]

    def __bool__(self) -> bool:
        return bool(self._tokens)

    def admit(self, token: str) -> bool:
        """Whether ``token`` is one of them; as long for all of the same length."""
        given = token.encode("utf-8", "surrogateescape")
        found = False
        for known in self._tokens:
            found |= hmac.compare_digest(given, known)
        return found


class Users:
    """A users file: lines ``user:hash``, blank ones and ``#`` comments.

    For one event loop. Passwords are checked in one thread of its own; what was right
    once is remembered as a keyed digest, so that a browser's next request costs
    nothing.

    Args:
        path: of the file, read by :meth:`load`.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._users: dict[str, PasswordHash] = {}
        self._nobody: PasswordHash | None = None
        self._known: dict[bytes, None] = {}
        self._key = os.urandom(32)
        self._waiting: Counter[str] = Counter()
        self._thread: ThreadPoolExecutor | None = None

    def load(self) -> None:
        """Read the file.

        Raises:
            ConfigError: it cannot be read or a line is broken; nothing was changed.
        """
        self.use(self.read())

    def read(self) -> dict[str, PasswordHash]:
        """What the file holds, for :meth:`use`; any thread may call it.

        Raises:
            ConfigError: it cannot be read or a line is broken.
        """
        try:
            text = Path(self.path).read_text("utf-8")
        except UnicodeDecodeError:
            raise ConfigError(self.path, "is not UTF-8") from None
        except OSError as error:
            reason = f"cannot be read: {error.strerror}"
            raise ConfigError(self.path, reason) from error
        return parse_users(text, self.path)

    def use(self, users: dict[str, PasswordHash]) -> dict[str, PasswordHash]:
        """Let these in, at least one, and no others from now on; returns the old."""
        old, self._users = self._users, users
        self._nobody = next(iter(users.values()))
        self._known.clear()
        return old

    def __contains__(self, user: str) -> bool:
        return user in self._users

    async def admit(self, user: str, password: str, client: str = "") -> bool:
        """Whether the password is the user's; an unknown one takes as long.

        Args:
            user: as sent.
            password: as sent.
            client: whose it is: one client's passwords leave room for others'.

        Raises:
            Refusal: too many passwords wait to be checked.
        """
        stored = self._users.get(user, self._nobody)
        if stored is None:
            return False
        parts = (user.encode(), password.encode("utf-8", "surrogateescape"))
        text = b"\0".join((*parts, stored.digest))
        mark = hmac.digest(self._key, text, "sha256")
        if mark in self._known:
            return True
        self._check_room(client)
        right = await self._verify(stored, password, client)
        if not right or user not in self._users:
            return False
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        if self._users.get(user) is stored:
            self._known[mark] = None
        return True

    def _check_room(self, client: str) -> None:
        waiting = self._waiting
        reason = ""
        if waiting.total() >= MAX_WAITING:
            reason = f"{MAX_WAITING} passwords wait to be checked"
        elif client and waiting[client] >= MAX_WAITING_PER_CLIENT:
            most = MAX_WAITING_PER_CLIENT
            reason = f"{most} passwords of this address wait to be checked"
        if reason:
            raise Refusal(reason, http_status=503, headers=RETRY_AFTER)

    async def _verify(self, stored: PasswordHash, password: str, client: str) -> bool:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "fastws-password")
        waiting = self._waiting
        waiting[client] += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, stored.verify, password)
        finally:
            waiting[client] -= 1
            if not waiting[client]:
                del waiting[client]


class Auth:
    """Lets requests in that bring a token or a password.

    Args:
        tokens: for ``Authorization: Bearer`` and ``?access_token=``; may be empty.
        users: for ``Authorization: Basic``.
    """

    def __init__(self, tokens: Sequence[str], users: Users | None) -> None:
        self.users = users
        self._tokens = Tokens(tokens)
        self._challenge = []
        if users is not None:
            self._challenge.append(("WWW-Authenticate", _BASIC))
        if self._tokens:
            self._challenge.append(("WWW-Authenticate", _BEARER))

    @property
    def guards_files(self) -> bool:
        """Whether files need a password too: a page cannot add a token to its parts."""
        return self.users is not None

    async def check(self, head: Head, target: str, client: str = "") -> None:
        """Let a request pass.

        Args:
            head: the request.
            target: its path and query.
            client: address that it comes from, empty where there is none.

        Raises:
            Refusal: with 401, or 503 when too many passwords wait to be checked.
        """
        scheme, credentials = credentials_of(head)
        if not scheme:
            token = token_of(target)
            scheme, credentials = ("bearer", token) if token else ("", "")
        if scheme == "bearer" and self._tokens:
            if self._tokens.admit(credentials):
                return
            raise self._refuse("wrong token (--auth-token)")
        if scheme == "basic" and self.users is not None:
            await self._check_password(credentials, self.users, client)
            return
        what = "no credentials"
        if scheme:
            # What is no scheme of ours may be a token without one.
            named = scheme if scheme in _SCHEMES else "other"
            what = f"{named} credentials are not asked for"
        options = " or ".join(
            name
            for name, asked in (
                ("--auth-token", bool(self._tokens)),
                ("--auth-basic", self.users is not None),
            )
            if asked
        )
        raise self._refuse(f"{what} ({options})", logging.INFO)

    async def _check_password(
        self, credentials: str, users: Users, client: str
    ) -> None:
        user, colon, password = decode_basic(credentials).partition(":")
        if not colon:
            raise self._refuse("malformed Basic credentials (--auth-basic)")
        if not await users.admit(user, password, network_of(client)):
            # What is no name of ours may be a password in the wrong field.
            who = f"wrong password for {user!r}" if user in users else "unknown user"
            raise self._refuse(f"{who} (--auth-basic)")

    def _refuse(self, reason: str, level: int | None = None) -> Refusal:
        headers = tuple(self._challenge)
        return Refusal(reason, http_status=401, headers=headers, level=level)


class BareAuth(Auth):
    """The same with tokens only, which may also stand in the field on their own.

    That is how rust-proxy sends them: ``authorization: TOKEN``.

    Args:
        tokens: at least one.
        attempts: counts wrong ones; ``None``: any number may be tried.
    """

    def __init__(self, tokens: Sequence[str], attempts: Attempts | None = None) -> None:
        super().__init__(tokens, None)
        self._attempts = attempts

    async def check(self, head: Head, target: str, client: str = "") -> None:
        """See :class:`Auth`; 429 when the address has tried too many wrong ones.

        Right ones are refused then, too: else there would be no limit to guessing.
        """
        attempts = self._attempts if client else None
        if attempts is not None:
            check_attempts(attempts, client, "tokens")
        token = self._token_of(head, target)
        if not token:
            await super().check(head, target, client)  # says what is wrong
        elif not self._tokens.admit(token):
            if attempts is not None:
                attempts.count(client)
            raise self._refuse("wrong token (--auth-token)")

    @staticmethod
    def _token_of(head: Head, target: str) -> str:
        values = head.get_all("authorization")
        if not values or values == [""]:
            return token_of(target)
        scheme, credentials = credentials_of(head)
        if not credentials:
            return values[0] if len(values) == 1 else ""
        return credentials if scheme == "bearer" else ""


def check_attempts(attempts: Attempts, client: str, what: str) -> None:
    """Let a client guess that has not guessed too often.

    Args:
        attempts: counts its wrong guesses.
        client: its address.
        what: it guesses, for the log: ``tokens``.

    Raises:
        Refusal: with 429, and how long that holds.
    """
    seconds = attempts.wait(client)
    if seconds:
        raise Refusal(
            f"{attempts.limit} wrong {what} of this address (--auth-attempts)",
            http_status=429,
            headers=(("Retry-After", str(ceil(seconds))),),
            level=logging.INFO,
        )


def parse_users(text: str, path: str) -> dict[str, PasswordHash]:
    """Read the lines of a users file.

    Args:
        text: its contents.
        path: its name, for errors.

    Raises:
        ConfigError: names the first broken line; never its contents.
    """
    users: dict[str, PasswordHash] = {}
    for number, raw in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        user, colon, stored = line.partition(":")
        if not colon or not user:
            raise ConfigError(path, f"line {number}: is not USER:HASH")
        if user in users:
            raise ConfigError(path, f"line {number}: a user is named twice")
        try:
            users[user] = PasswordHash.parse(stored)
        except ValueError as error:
            raise ConfigError(path, f"line {number}: {error}") from None
    if not users:
        raise ConfigError(path, "names no user; write lines USER:HASH")
    return users


def credentials_of(head: Head, name: str = "authorization") -> tuple[str, str]:
    """Scheme in lower case and credentials of the field ``name``, or empty."""
    values = head.get_all(name)
    if len(values) != 1:
        return "", ""
    scheme, _, credentials = values[0].partition(" ")
    return scheme.lower(), credentials.strip(" ")


def token_of(target: str) -> str:
    """The ``access_token`` of a query, or empty (RFC 6750 section 2.3: once)."""
    query = target.partition("?")[2]
    if TOKEN_FIELD not in query:
        return ""
    values = [value for name, value in parse_qsl(query) if name == TOKEN_FIELD]
    return values[0] if len(values) == 1 else ""


def decode_basic(credentials: str) -> str:
    """``user:password``, or empty when malformed."""
    try:
        return base64.b64decode(credentials, validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        return ""
