"""What a resolver of names would say."""

import socket
from typing import Any


def answer(*addresses: str) -> list[tuple[Any, ...]]:
    """What ``socket.getaddrinfo(name, None)`` returns for these addresses."""
    infos: list[tuple[Any, ...]] = []
    for address in addresses:
        if ":" in address:
            sockaddr: tuple[Any, ...] = (address, 0, 0, 0)
            infos.append((socket.AF_INET6, socket.SOCK_STREAM, 6, "", sockaddr))
        else:
            infos.append((socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)))
    return infos
