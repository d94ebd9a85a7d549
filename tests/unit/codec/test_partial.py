"""Messages that are asked for in parts, from the middle of them on."""

from types import ModuleType

import pytest

from tests.support.messages import Line, Rot
from tests.support.peers import BINARY, TEXT


@pytest.mark.parametrize("has_codec", [False, True], ids=["plain", "compressed"])
def test_what_has_come_is_taken_and_the_rest_comes_in_parts(
    backend: ModuleType, has_codec: bool
) -> None:
    line = Line(backend, codec=Rot() if has_codec else None)
    line.end.copies = True
    rsv = 0x40 if has_codec else 0

    def payload(data: bytes) -> bytes:
        return Rot().compress(data, True) if has_codec else data

    assert line.end.take_partial() == (0, b"")
    line.read(line.frame(TEXT, payload(b"gr\xc3"), fin=False, rsv=rsv))
    line.end.assembles = False
    assert line.end.take_partial() == (TEXT, b"gr\xc3")
    assert line.end.take_partial() == (0, b"")
    line.read(line.frame(0, payload(b"\xbcn"), fin=False))
    line.read(line.frame(0, payload(b"!")))
    assert line.log == [(TEXT, b"\xbcn", False), (TEXT, b"!", True)]
    line.end.assembles = True
    line.read(line.frame(BINARY, payload(b"next"), rsv=rsv))
    assert line.log[2:] == [(BINARY, b"next", True)]


@pytest.mark.parametrize("has_codec", [False, True], ids=["plain", "compressed"])
def test_what_has_come_and_is_not_taken_stays_with_the_rest(
    backend: ModuleType, has_codec: bool
) -> None:
    line = Line(backend, codec=Rot() if has_codec else None)
    line.end.copies = True
    rsv = 0x40 if has_codec else 0

    def payload(data: bytes) -> bytes:
        return Rot().compress(data, True) if has_codec else data

    line.read(line.frame(TEXT, payload(b"one "), fin=False, rsv=rsv))
    line.end.assembles = False
    line.read(line.frame(0, payload(b"message")))
    line.read(line.frame(BINARY, payload(b"next"), fin=False, rsv=rsv))
    assert line.log == [(TEXT, b"one message", True), (BINARY, b"next", False)]
