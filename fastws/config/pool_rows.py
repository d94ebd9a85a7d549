"""Rows of the table of options that only ``proxy --via ws://…`` has. Pure."""

from collections.abc import Sequence

from fastws.config import fields as f
from fastws.config.kinds import SIZE, TIME, Kind, Row, choice, parse_count

_POOL = "Pool of WebSockets (--via ws:// or wss://)"
_COUNT = Kind("COUNT", parse_count)
_ANY = Kind("COUNT", parse_count, str)


POOL_ROWS: Sequence[Row] = (
    Row(
        flag="--via-protocol",
        kind=choice("fastws|rust-proxy", "fastws", "rust-proxy"),
        group=_POOL,
        help="what the server has to prove to be, or is",
    ),
    Row(
        flag="--via-token",
        kind=Kind("TOKEN", f.parse_bearer),
        group=_POOL,
        help="what it asks for: one of its --auth-token",
        secret=True,
    ),
    Row(flag="--pool-keep", kind=_ANY, group=_POOL, help="idle WebSockets to keep"),
    Row(flag="--pool-size", kind=_COUNT, group=_POOL, help="WebSockets in all"),
    Row(
        flag="--pool-warm",
        kind=_ANY,
        group=_POOL,
        help="idle WebSockets to open ahead of need",
    ),
    Row(flag="--pool-opening", kind=_COUNT, group=_POOL, help="handshakes at once"),
    Row(
        flag="--pool-age",
        kind=TIME,
        group=_POOL,
        help="carry no further stream when so old, 0 for no limit",
        off=True,
    ),
    Row(
        flag="--pool-probe",
        kind=TIME,
        group=_POOL,
        help="time between probes of idle ones with rust-proxy, 0 for none",
        off=True,
    ),
    Row(
        flag="--retry-delay",
        kind=TIME,
        group=_POOL,
        help="pause after a failed handshake, then three times as long each",
    ),
    Row(
        flag="--retry-pooled",
        kind=_ANY,
        group=_POOL,
        help="dead WebSockets to try for a stream before a fresh one, 0 for none",
        off=True,
    ),
    Row(
        flag="--retry-mode",
        kind=choice("replay|connect-only", "replay", "connect-only"),
        group=_POOL,
        help="after a WebSocket to rust-proxy died without an answer, send again what"
        " the client had said, so that a target may get it twice; connect-only: not"
        " if it had said anything",
    ),
    Row(
        flag="--retry-data",
        kind=SIZE,
        group=_POOL,
        help="bytes of a client to keep for that",
    ),
)
