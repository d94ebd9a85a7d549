"""The HTTP side of a forward proxy: requests in absolute-form, and CONNECT.

Source: RFC 9110 section 7.6 (fields of one hop, loops), RFC 9112 section 3.2.2. The
loops of :mod:`fastws.http` move the messages; here stands where they go and what is
changed on the way. A connection of a client has at most one to an origin, which is
kept while requests go there and replaced when they go elsewhere.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from fastws.exceptions import DialError, LocalProtocolError, RemoteProtocolError
from fastws.http.answers import Refusal, build_health, build_refusal, level_of
from fastws.http.auth import REALM, credentials_of, decode_basic
from fastws.http.channel import Body, Channel
from fastws.http.client import IDEMPOTENT, ClientConnection
from fastws.http.rewrite import asked_upgrade, end_to_end
from fastws.http.server import KEEP_ALIVE, Request, ServerConnection, ServerOptions
from fastws.net.stream import ByteStream
from fastws.net.sweep import sweep_of
from fastws.proxy.exchange import Exchange
from fastws.proxy.outgoing import Outgoing, status_of
from fastws.proxy.target import Target, parse_absolute, parse_authority
from fastws.proxy.visit import ProxyOptions, Visit
from fastws.wire.body import Extent, Framing
from fastws.wire.head import Head, build_request
