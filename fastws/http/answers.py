"""Answers other than 101: refusals, and the two health checks."""

import logging

from fastws.exceptions import RemoteProtocolError
from fastws.wire.http1 import build_response

RETRY_AFTER = (("Retry-After", "5"),)


class Refusal(RemoteProtocolError):
    """An answer that is no fault of the peer's grammar; its reason stays in the log.

    Attributes:
        level: of the log line, ``None`` for the usual one of the status.
    """

    def __init__(
        self,
        reason: str,
        *,
        http_status: int | None,
        headers: tuple[tuple[str, str], ...] = (),
        level: int | None = None,
    ) -> None:
        super().__init__(reason, http_status=http_status, headers=headers)
        self.level = level


def build_health(ready: bool, is_head: bool) -> bytes:
    """The answer to a health check."""
    status, body = (200, b"ok\n") if ready else (503, b"not ready\n")
    headers = [("Content-Type", "text/plain"), ("Cache-Control", "no-store")]
    if not ready:
        headers += RETRY_AFTER
    answer = build_response(status, headers, body)
    return answer.removesuffix(body) if is_head else answer


def build_refusal(error: RemoteProtocolError, is_head: bool = False) -> bytes:
    """The answer to a request that is refused; details stay in the log."""
    status = error.http_status or 400
    public = "" if isinstance(error, Refusal) else error.reason
    headers = [("Content-Type", "text/plain"), *error.headers]
    body = f"{status} {public}".strip().encode() + b"\n"
    answer = build_response(status, headers, body)
    return answer.removesuffix(body) if is_head else answer


def level_of(error: RemoteProtocolError) -> int:
    """Clients that vanish are no news, scanners are little; refusals are."""
    if isinstance(error, Refusal) and error.level is not None:
        return error.level
    if error.http_status is None:
        return logging.DEBUG
    plain = error.http_status in (404, 405, 408, 426)
    return logging.INFO if plain else logging.WARNING
