"""Which fields a message keeps when it is passed on.

Source: RFC 9110 sections 7.6.1 (Connection), 6.5.1 (trailers), 7.6.2 (Max-Forwards)
and 7.6.3 (Via).
"""

from fastws.typing import HeaderList
from fastws.wire.head import Head

# What is said to the next hop only. The framing of the body is one of them: each hop
# chooses its own, and writes these fields anew.
_HOP_BY_HOP = frozenset(
    {
        *("connection", "keep-alive", "proxy-connection", "te", "upgrade"),
        *("transfer-encoding", "content-length", "http2-settings"),
        *("proxy-authorization", "proxy-authentication-info", "proxy-authenticate"),
    }
)
# RFC 9110 section 6.5.1: framing, routing, authentication and content handling are
# decided before a trailer comes, so there it could only deceive.
_NOT_IN_TRAILERS = _HOP_BY_HOP | {
    *("host", "trailer", "content-encoding", "content-type", "content-range"),
    *("authorization", "www-authenticate", "set-cookie"),
    *("cookie", "expect", "max-forwards", "via", "cache-control", "location"),
}


def end_to_end(head: Head, drop: frozenset[str] = frozenset()) -> list[tuple[str, str]]:
    """The fields of a message that are for the recipient, in order.

    Those that Connection names go too. ``TE``, ``Upgrade``, and the framing of the
    body are left for the caller to write.

    Args:
        head: not changed.
        drop: names in lower case that go as well.
    """
    named = {token.lower() for token in head.get_tokens("connection")}
    # A peer may name any field here; Host and the like are not its to take away.
    gone = _HOP_BY_HOP | drop | named if named else _HOP_BY_HOP | drop
    return [field for field in head.headers if field[0].lower() not in gone]


def asked_upgrade(head: Head) -> str | None:
    """The protocols that a message wants to change to, ``None`` for none.

    Source: RFC 9110 section 7.8: without the connection option it does not count,
    and neither does it in HTTP/1.0.
    """
    if head.version != "1.1" or not head.has_token("connection", "upgrade"):
        return None
    return head.get("upgrade") or None


def clean_trailers(trailers: HeaderList) -> list[tuple[str, str]]:
    """The trailer fields that may be passed on."""
    return [field for field in trailers if field[0].lower() not in _NOT_IN_TRAILERS]
