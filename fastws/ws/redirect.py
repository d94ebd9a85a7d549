"""Where a client goes when a server sends it elsewhere. Pure.

Source: RFC 6455 section 4.1: a client may follow redirects (RFC 9110 section 15.4).
"""

from collections.abc import Sequence
from urllib.parse import urljoin

from fastws.config.endpoint import WsUrl
from fastws.exceptions import InvalidStatus, InvalidURI, SecurityError
from fastws.wire.head import Head

MAX_REDIRECTS = 10

_STATUSES = (300, 301, 302, 303, 307, 308)
_CREDENTIALS = ("authorization", "cookie", "proxy-authorization")


def redirect_of(answer: InvalidStatus, url: WsUrl) -> WsUrl | None:
    """Where an answer other than 101 leads; ``None`` for an answer that ends here.

    Args:
        answer: to a request for ``url``; the cause of what is raised.
        url: asked for.

    Raises:
        InvalidURI: it leads to what is no WebSocket.
        SecurityError: it leads from wss to ws.
    """
    if answer.status not in _STATUSES:
        return None
    location = Head(headers=list(answer.fields)).get("location")
    if location is None:
        return None
    scheme = "wss" if url.secure else "ws"
    text = location
    try:
        text = urljoin(f"{scheme}://{url.host_header}{url.target}", location)
        target = WsUrl.parse(text)
    except ValueError as error:
        raise InvalidURI(text, f"the server redirects: {error}") from answer
    if url.secure and not target.secure:
        text = f"the server redirects to {target.display}, without TLS"
        raise SecurityError(text) from answer
    return target


def is_same_origin(one: WsUrl, other: WsUrl) -> bool:
    """Scheme, host and port agree (RFC 6454 section 4)."""
    places = [(url.secure, url.host.lower(), url.port) for url in (one, other)]
    return places[0] == places[1]


def without_credentials(headers: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The fields that another origin may see."""
    return [pair for pair in headers if pair[0].lower() not in _CREDENTIALS]
