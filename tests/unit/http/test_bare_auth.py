"""Tokens as rust-proxy sends them, and how often they may be guessed."""

import asyncio
import logging

import pytest

from fastws.http.answers import Refusal
from fastws.http.auth import BareAuth
from fastws.http.limit import Attempts
from fastws.wire.head import Head

CLIENT = "203.0.113.9"


def check(auth: BareAuth, *fields: str, target: str = "/", client: str = CLIENT) -> str:
    """The reason of the refusal, empty for none."""
    head = Head("GET", target, headers=[("authorization", text) for text in fields])
    try:
        asyncio.run(auth.check(head, target, client))
    except Refusal as refusal:
        return f"{refusal.http_status} {refusal.reason}"
    return ""


@pytest.mark.parametrize(
    ("fields", "target"),
    [
        (("secret",), "/"),
        (("Bearer secret",), "/"),
        (("bearer  secret",), "/"),
        (("other",), "/"),
        ((), "/?access_token=secret"),
        (("",), "/a?access_token=secret"),
    ],
)
def test_a_right_token_lets_in(fields: tuple[str, ...], target: str) -> None:
    assert check(BareAuth(["secret", "other"]), *fields, target=target) == ""


@pytest.mark.parametrize(
    ("fields", "target", "reason"),
    [
        ((), "/", "401 no credentials (--auth-token)"),
        (("",), "/", "401 no credentials (--auth-token)"),
        (("secret2",), "/", "401 wrong token (--auth-token)"),
        (("SECRET",), "/", "401 wrong token (--auth-token)"),
        (("Bearer nope",), "/", "401 wrong token (--auth-token)"),
        (("Bearer",), "/", "401 wrong token (--auth-token)"),
        ((), "/?access_token=nope", "401 wrong token (--auth-token)"),
        (("nope",), "/?access_token=secret", "401 wrong token (--auth-token)"),
        (
            ("Basic c2VjcmV0OnNlY3JldA==",),
            "/",
            "401 basic credentials are not asked for (--auth-token)",
        ),
        (
            ("secret secret",),
            "/",
            "401 other credentials are not asked for (--auth-token)",
        ),
        (("secret", "secret"), "/", "401 no credentials (--auth-token)"),
        (("secret", "nope"), "/", "401 no credentials (--auth-token)"),
    ],
)
def test_everything_else_is_refused(
    fields: tuple[str, ...], target: str, reason: str
) -> None:
    assert check(BareAuth(["secret"]), *fields, target=target) == reason


def test_wrong_tokens_use_up_the_attempts_and_missing_ones_do_not() -> None:
    auth = BareAuth(["secret"], Attempts(2, 60.0, lambda: 0.0))
    for _ in range(5):
        assert check(auth) == "401 no credentials (--auth-token)"
        assert check(auth, "secret") == ""
    assert check(auth, "nope") == "401 wrong token (--auth-token)"
    assert check(auth, "Bearer nope") == "401 wrong token (--auth-token)"
    too_many = "429 2 wrong tokens of this address (--auth-attempts)"
    assert check(auth, "nope") == too_many
    assert check(auth, "secret") == too_many
    assert check(auth, "secret", client="203.0.113.10") == ""
    assert check(auth, "nope", client="") == "401 wrong token (--auth-token)"
    assert check(auth, "secret", client="") == ""  # a unix socket has no address


def test_too_many_attempts_are_told_how_long() -> None:
    auth = BareAuth(["secret"], Attempts(2, 60.0, lambda: 0.0))
    head = Head("GET", "/", headers=[("authorization", "nope")])
    for _ in range(2):
        with pytest.raises(Refusal):
            asyncio.run(auth.check(head, "/", CLIENT))
    with pytest.raises(Refusal) as caught:
        asyncio.run(auth.check(head, "/", CLIENT))
    assert dict(caught.value.headers) == {"Retry-After": "30"}
    assert caught.value.level == logging.INFO
