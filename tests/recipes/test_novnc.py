"""noVNC's client library reaches a raw RFB server through wts."""

import struct
from pathlib import Path
from typing import Any

import pytest

from tests.support import node
from tests.support.cli import wts
from tests.support.services import Service, read_exactly

pytestmark = pytest.mark.e2e

NAME = b"a desk \xe2\x80\x93 far away"
PIXELS = struct.pack(">BBBBHHHBBBxxx", 32, 24, 0, 1, 255, 255, 255, 16, 8, 0)


def rfb(sock: Any) -> None:
    """The server's side of RFC 6143 sections 7.1 to 7.3, without a password."""
    sock.sendall(b"RFB 003.008\n")
    assert read_exactly(sock, 12) == b"RFB 003.008\n"
    sock.sendall(b"\x01\x01")
    assert read_exactly(sock, 1) == b"\x01"
    sock.sendall(bytes(4))
    assert read_exactly(sock, 1) == b"\x01"
    sock.sendall(struct.pack(">HH16sI", 1024, 768, PIXELS, len(NAME)) + NAME)
    assert sock.recv(1) == b""


def test_novnc_reads_the_name_of_the_desktop() -> None:
    script = Path(__file__).with_name("novnc_client.js")
    package = str(node.PLACE / "@novnc" / "novnc")
    with Service(rfb) as service, wts(service.port) as far:
        said = node.run(script, package, far.url)
        assert said.encode("latin-1") == b"1024x768 " + NAME + b"\n"
        far.wait_for("wts .* closed$")
