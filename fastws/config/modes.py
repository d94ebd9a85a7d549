"""Which schema each command fills, and what of it a command does not offer. Pure."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec

from fastws.config.forward import ForwardProxy
from fastws.config.proxy_server import ProxyServer
from fastws.config.schema import ModeSpec, TcpToWs, WsToTcp

MODES: dict[
    str, type[TcpToWs] | type[WsToTcp] | type[ForwardProxy] | type[ProxyServer]
] = {
    "stw": TcpToWs,
    "wts": WsToTcp,
    "proxy": ForwardProxy,
    "proxy-server": ProxyServer,
}
"""Command name to the schema it fills."""

ARGUMENTS = frozenset({"listen", "upstream", "target", "more_targets"})
"""Attributes of the schemas that are written without a flag."""

PROCESS = frozenset(
    {"also", "workers", "log_level", "log_format", "log_limit", "forward"}
)
"""Options of the whole process, which no schema has."""

_NOT_PROXY = frozenset(
    {
        *("also", "headers", "subprotocol", "fastws", "oneshot"),
        *("max_connection_age",),
    }
)
_NOT_PROXY_SERVER = frozenset(
    {
        *("also", "forward", "headers", "subprotocol", "oneshot"),
        *("max_connection_age",),
    }
)
WITHOUT = {
    "stw": frozenset({"forward"}),
    "wts": frozenset({"forward"}),
    "proxy": _NOT_PROXY,
    "proxy-server": _NOT_PROXY_SERVER,
}
"""What a command does not offer: WebSockets only, or one pair only."""


@cache
def defaults(schema: type[ModeSpec]) -> Mapping[str, Any]:
    """Attribute to default of every optional attribute of ``schema``."""
    return {
        field.name: field.default
        for field in msgspec.structs.fields(schema)
        if not field.required and field.name not in ARGUMENTS
    }
