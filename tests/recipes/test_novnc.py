"""noVNC's client library reaches a raw RFB server through wts.

Runs where Node.js 20.10 or newer is installed and ``NOVNC_HOME`` names a directory in
which ``npm install @novnc/novnc@1.5.0`` was done.
"""

import os
import struct
from pathlib import Path
from typing import Any

import pytest

from tests.recipes.kit import program, run
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


def package() -> Path:
    """Where npm put noVNC; skips the test if nowhere."""
    home = os.environ.get("NOVNC_HOME")
    if not home:
        pytest.skip("NOVNC_HOME does not name where @novnc/novnc is installed")
    place = Path(home) / "node_modules" / "@novnc" / "novnc"
    if not (place / "lib" / "websock.js").exists():
        pytest.fail(f"no @novnc/novnc 1.5 in {home}")
    return place


def test_novnc_reads_the_name_of_the_desktop() -> None:
    node, place = program("node"), package()
    script = str(Path(__file__).with_name("novnc_client.js"))
    with Service(rfb) as service, wts(service.port) as far:
        command = [node, "--experimental-websocket", script, str(place), far.url]
        said = run(*command)
        assert said.decode("utf-8").encode("latin-1") == b"1024x768 " + NAME + b"\n"
        far.wait_for("wts .* closed$")
