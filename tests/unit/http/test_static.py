"""Names of files: what a path means, and which type it has."""

import asyncio
from pathlib import Path

import pytest

from fastws.exceptions import ConfigError, RemoteProtocolError
from fastws.http.static import (
    Answer,
    Site,
    format_date,
    matches,
    parse_path,
    send,
    type_of,
)
from fastws.net.arrived import ArrivedHold
from fastws.wire.head import Head


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/", []),
        ("/a/b.txt", ["a", "b.txt"]),
        ("/a/", ["a"]),
        ("/a%20b", ["a b"]),
        ("/%c3%bc", ["ü"]),
        ("/a%2520", ["a%20"]),
        ("/...a", None),
        ("/.well-known/x", [".well-known", "x"]),
        ("", None),
        ("a", None),
        ("http://x/a", None),
        ("//a", None),
        ("/a//b", None),
        ("/a//", None),
        ("/./a", None),
        ("/../a", None),
        ("/a/..", None),
        ("/%2e%2e", None),
        ("/a%2fb", None),
        ("/a%5cb", None),
        ("/a%00", None),
        ("/.git", None),
    ],
)
def test_path(path: str, names: list[str] | None) -> None:
    assert parse_path(path) == names


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.html", "text/html; charset=utf-8"),
        ("a.JS", "text/javascript; charset=utf-8"),
        ("a.mjs", "text/javascript; charset=utf-8"),
        ("a.json", "application/json; charset=utf-8"),
        ("a.svg", "image/svg+xml; charset=utf-8"),
        ("a.png", "image/png"),
        ("a.woff2", "font/woff2"),
        ("a.tar.gz", "application/gzip"),
        ("a.unknown", "application/octet-stream"),
        ("a", "application/octet-stream"),
    ],
)
def test_type(name: str, kind: str) -> None:
    assert type_of(name) == kind


@pytest.mark.parametrize(
    ("value", "same"),
    [
        (None, False),
        ('"1-2"', True),
        ('W/"1-2"', True),
        ('"0", "1-2"', True),
        (" * ", True),
        ('"1-3"', False),
        ("1-2", False),
        ('"*"', False),
        ('"x1-2"', False),
    ],
)
def test_if_none_match(value: str | None, same: bool) -> None:
    fields = [] if value is None else [("If-None-Match", value)]
    assert matches(Head("GET", "/", headers=fields), '"1-2"') is same


def test_link_that_leads_out_later_is_not_followed(tmp_path: Path) -> None:
    """What is opened is the name that was checked, not the link."""
    (tmp_path / "site").mkdir()
    (tmp_path / "secret").write_text("secret")
    link = tmp_path / "site" / "a.txt"
    link.symlink_to("../secret")
    site = Site(str(tmp_path / "site"))
    with pytest.raises(OSError, match="symbolic link"):
        site._open(Head("GET", "/a.txt"), str(link))
    assert site.answer(Head("GET", "/a.txt")) is None


def test_method_counts_only_for_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    site = Site(str(tmp_path))
    assert site.answer(Head("POST", "/b.txt")) is None
    with pytest.raises(RemoteProtocolError) as caught:
        site.answer(Head("POST", "/a.txt"))
    assert caught.value.http_status == 405


def test_reject_a_directory_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be served: No such file"):
        Site(str(tmp_path / "none"))


def test_client_that_is_gone_gets_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    answer = Site(str(tmp_path)).answer(Head("GET", "/a.txt"))
    assert answer is not None
    assert isinstance(answer, Answer)
    assert answer.file is not None

    async def main() -> None:
        hold = ArrivedHold()
        hold.connection_lost(None)
        await send(hold, answer, 1.0)

    asyncio.run(main())
    assert answer.file.closed


class DeafClient(asyncio.Transport):
    """Takes what the kernel takes, and nothing after that."""

    def __init__(self) -> None:
        super().__init__({"socket": None, "sslcontext": None})
        self.written = b""

    def is_closing(self) -> bool:
        return False

    def set_write_buffer_limits(
        self, high: int | None = None, low: int | None = None
    ) -> None:
        assert high == 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def abort(self) -> None:
        pass


def test_client_that_takes_nothing_costs_one_small_block(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(bytes(1_000_000))
    answer = Site(str(tmp_path)).answer(Head("GET", "/a.bin"))
    assert answer is not None
    assert answer.file is not None
    file = answer.file
    client = DeafClient()
    read: list[int] = []

    class Hold(ArrivedHold):
        async def drain(self, timeout: float) -> bool:
            read.append(file.tell())
            return len(read) == 1  # the head goes, the first block stays

    async def main() -> None:
        hold = Hold()
        hold.transport = client
        await send(hold, answer, 1.0)

    asyncio.run(main())
    assert read == [0, 65536]
    assert len(client.written) == len(answer.head) + 65536


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (784111777.0, "Sun, 06 Nov 1994 08:49:37 GMT"),  # the RFC's own example
        (0.9, "Thu, 01 Jan 1970 00:00:00 GMT"),
        (1735689599.5, "Tue, 31 Dec 2024 23:59:59 GMT"),
    ],
)
def test_format_date(seconds: float, text: str) -> None:
    assert format_date(seconds) == text
