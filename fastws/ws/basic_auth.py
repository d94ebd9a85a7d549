"""``fastws.basic_auth``: a ``process_request`` that asks for a user and a password.

Source: RFC 7617.
"""

import base64
import hmac
import http
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeAlias

from fastws.ws.heads import Request, Response
from fastws.ws.serve import ServerConnection

Check: TypeAlias = Callable[[str, str], Awaitable[bool] | bool]
"""Whether that password is that user's."""


def basic_auth(
    realm: str = "",
    credentials: tuple[str, str] | Iterable[tuple[str, str]] | None = None,
    check_credentials: Check | None = None,
) -> Callable[[ServerConnection, Request], Awaitable[Response | None]]:
    """Make a ``process_request`` for :func:`fastws.serve`.

    Handlers find the user's name in ``connection.username``. Use it over TLS only.

    Args:
        realm: what clients are told that the password is for; ASCII.
        credentials: user and password, or several such pairs.
        check_credentials: in place of them: called with both, may be a coroutine
            function.

    Raises:
        TypeError: ``credentials`` is none of these.
        ValueError: not exactly one of both ways was given, or ``realm`` cannot be
            sent.
    """
    if (credentials is None) is (check_credentials is None):
        raise ValueError("give either credentials or check_credentials")
    if not (realm.isascii() and realm.isprintable()):
        raise ValueError("realm must be printable ASCII")
    check = _checker(credentials) if check_credentials is None else check_credentials
    quoted = realm.replace("\\", "\\\\").replace('"', '\\"')
    challenge = f'Basic realm="{quoted}", charset="UTF-8"'

    async def process_request(
        connection: ServerConnection, request: Request
    ) -> Response | None:
        pair = _pair_of(request.headers.get_all("authorization"))
        text = "Missing credentials\n"
        if pair is not None:
            text = "Invalid credentials\n"
            is_right = check(*pair)
            if isinstance(is_right, Awaitable):
                is_right = await is_right
            if is_right:
                connection.username = pair[0]
                return None
        response = connection.respond(http.HTTPStatus.UNAUTHORIZED, text)
        response.headers["WWW-Authenticate"] = challenge
        return response

    return process_request


def _pair_of(values: list[str]) -> tuple[str, str] | None:
    """User and password of the only Authorization field."""
    if len(values) != 1:
        return None
    scheme, _, token = values[0].partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        text = base64.b64decode(token.strip(), validate=True).decode()
    except ValueError:  # no base64, or no UTF-8
        return None
    user, colon, password = text.partition(":")
    return (user, password) if colon else None


def _checker(credentials: Any) -> Check:
    """Compares in constant time."""
    pairs = [credentials] if _is_pair(credentials) else list(credentials)
    if not all(_is_pair(pair) for pair in pairs):
        raise TypeError("credentials must be (user, password), or several such pairs")
    known = {user: password.encode() for user, password in pairs}

    def check(user: str, password: str) -> bool:
        return hmac.compare_digest(known.get(user, b""), password.encode()) and (
            user in known
        )

    return check


def _is_pair(value: Any) -> bool:
    return (
        isinstance(value, tuple | list)
        and len(value) == 2
        and all(isinstance(part, str) for part in value)
    )
