"""A dial that fails while the loop makes the transport leaves other files alone."""

import asyncio
import os
import socket
from typing import Any

import pytest

from fastws.net import dial as module
from fastws.net.dial import Dialer, open_stream
from fastws.net.tls import client_context


class Uvloop:
    """Fails as uvloop before 0.23 does: the number is closed, the object has it."""

    __module__ = "uvloop.loop"

    async def create_connection(self, *args: object, **named: Any) -> None:
        os.close(named["sock"].fileno())
        raise asyncio.CancelledError

    create_unix_connection = create_connection


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_failed_transport_closes_no_descriptor_of_others(
    tls: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop: Any = Uvloop()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: loop)
    monkeypatch.setattr(module, "fast_tls", lambda loop: None)
    sock, peer = socket.socketpair()
    number = sock.fileno()
    dialer = Dialer(("127.0.0.1", 9))
    call: Any = open_stream(loop, sock)
    if tls:
        call.close()
        call = dialer.start_tls(sock, client_context(insecure=True))
    with pytest.raises(asyncio.CancelledError):
        call.send(None)
    os.dup2(peer.fileno(), number)  # somebody else opens a file
    sock.close()
    assert os.fstat(number)
    os.close(number)
    peer.close()
